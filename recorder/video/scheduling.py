"""Keeps encoders from taking real-time priority away from inference."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

#: Policy and priority.
_Scheduling = tuple[int, int]


@contextlib.contextmanager
def kept_scheduling() -> Iterator[None]:
    """Restore the scheduling of this process's threads; new ones get the caller's.

    As root, SVT-AV1 puts the thread that opens it, and all that it starts, above every ordinary
    thread (SCHED_FIFO 99). Whatever the opening thread starts later inherits that, including the
    model's threads.
    """
    if sys.platform != "linux":
        yield
        return
    before = _scheduling()
    own = before.get(threading.get_native_id())
    try:
        yield
    finally:
        for thread, now in _scheduling().items():
            earlier = before.get(thread, own)
            if earlier is not None and earlier != now and now[0] in (os.SCHED_FIFO, os.SCHED_RR):
                with contextlib.suppress(OSError):  # it has ended
                    os.sched_setscheduler(thread, earlier[0], os.sched_param(earlier[1]))


def _scheduling() -> dict[int, _Scheduling]:
    """Return the scheduling of each thread of this process."""
    found = {}
    with contextlib.suppress(OSError):  # a system without /proc
        for entry in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):  # it has ended
                thread = int(entry.name)
                priority = os.sched_getparam(thread).sched_priority
                found[thread] = os.sched_getscheduler(thread), priority
    return found
