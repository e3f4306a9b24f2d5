"""Processor time of the recorder, and how busy the whole machine was meanwhile."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class _Sample:
    """Counters in seconds, of which only differences mean anything."""

    at: float
    process_s: float
    children_s: float
    system_s: float
    system_idle_s: float


class MachineMeter:
    """Measures processor time between calls of `lap`; reading the counters takes a millisecond.

    Args:
        sources: How many sources this process records at once: the figures are of all of them.
    """

    def __init__(self, sources: int = 1) -> None:
        self._sources = sources
        self._before = _sample()

    def lap(self) -> dict[str, Any]:
        """Return the metadata's ``machine`` for the time since the last call."""
        before, now = self._before, _sample()
        self._before = now
        system_s = now.system_s - before.system_s
        idle_s = now.system_idle_s - before.system_idle_s
        return {
            "cores": usable_cores(),
            "seconds": round(now.at - before.at, 3),
            "process_cpu_s": round(now.process_s - before.process_s, 3),
            # Less than before if a worker has ended.
            "children_cpu_s": round(max(0.0, now.children_s - before.children_s), 3),
            # Within a clock tick the counters do not move.
            "system_busy": round(1 - idle_s / system_s, 3) if system_s > 0 else None,
            "sources": self._sources,
        }


def usable_cores() -> float:
    """Return how many processors this process may use; in a container, maybe a fraction."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # "max 100000": no limit
        quota, period = map(int, _CGROUP_LIMIT.read_text().split())
        return round(min(cores, quota / period), 2)
    return cores


def _sample() -> _Sample:
    process = psutil.Process()
    own = process.cpu_times()
    children_s = 0.0
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            times = child.cpu_times()
            children_s += times.user + times.system
    system_s, idle_s = system_times()
    return _Sample(
        at=time.monotonic(),
        process_s=own.user + own.system,
        children_s=children_s,
        system_s=system_s,
        system_idle_s=idle_s,
    )


def system_times() -> tuple[float, float]:
    """Return the processor time of the whole machine, and how much of it was idle, in seconds."""
    system = psutil.cpu_times()
    # On Linux the time of hosts includes that of their guests.
    guests = getattr(system, "guest", 0.0) + getattr(system, "guest_nice", 0.0)
    return sum(system) - guests, system.idle + getattr(system, "iowait", 0.0)
