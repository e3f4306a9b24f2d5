"""The time of a frame, for analyzers that ask what time it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["RecordedTime", "recorded_time"]


class RecordedTime:
    """The time that analyzers are given, in nanoseconds since 1970; None: that of the clock."""

    ns: int | None = None


@contextmanager
def recorded_time() -> Iterator[RecordedTime]:
    """Replace ``time.time`` and ``time.time_ns`` for this thread.

    ZoneCounter and EventDetector measure seconds with them: how long an object was in a zone, and
    for how long a condition has held.
    """
    now = RecordedTime()
    thread = threading.get_ident()
    real, real_ns = time.time, time.time_ns

    def current_ns() -> int:
        if now.ns is None or threading.get_ident() != thread:
            return real_ns()
        return now.ns

    def current() -> float:
        if now.ns is None or threading.get_ident() != thread:
            return real()
        return now.ns / 1e9

    time.time, time.time_ns = current, current_ns
    try:
        yield now
    finally:
        time.time, time.time_ns = real, real_ns
