"""The time of a frame, for analyzers that ask what time it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
#: How many threads are inside of `recorded_time`: the functions are replaced while any is.
_inside = 0
_real = time.time, time.time_ns, time.asctime


class _Now(threading.local):
    ns: int | None = None


_now = _Now()


def _time() -> float:
    return _real[0]() if _now.ns is None else _now.ns / 1e9


def _time_ns() -> int:
    return _real[1]() if _now.ns is None else _now.ns


def _asctime(*at: time.struct_time) -> str:
    return _real[2](*at) if at or _now.ns is None else _real[2](time.localtime(_now.ns / 1e9))


@contextmanager
def recorded_time(ns: int | None) -> Iterator[None]:
    """Have ``time.time``, ``time_ns`` and ``asctime`` give a frame's time in this thread.

    ZoneCounter and EventDetector measure seconds with them: how long an object was in a zone, and
    for how long a condition has held. EventNotifier writes it into messages.

    Args:
        ns: Nanoseconds since 1970; None: the time is not known, and nothing is changed.
    """
    global _inside, _real
    if ns is None:
        yield
        return
    with _lock:
        if not _inside:
            _real = time.time, time.time_ns, time.asctime
            time.time, time.time_ns = _time, _time_ns
            time.asctime = _asctime  # type: ignore[assignment]
        _inside += 1
    before, _now.ns = _now.ns, ns
    try:
        yield
    finally:
        _now.ns = before
        with _lock:
            _inside -= 1
            if not _inside:
                time.time, time.time_ns, time.asctime = _real
