"""UTC that never steps back."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock"]


#: Two clocks are read within this time, or else in the best of this many attempts: on a busy
#: machine a process may wait for a long time in between.
_CLOSE_NS, _READINGS = 20_000, 10


class Clock:
    """Stamps in UTC nanoseconds, from a monotonic clock that is set to UTC once.

    If the system clock is set while recording (by NTP, a person, or the end of daylight saving time
    on a misconfigured device), frames would otherwise be reordered and latencies negative. How far
    the system clock has moved since the start is `drift_ns`, which goes into the metadata.

    Args:
        after_ns: Stamps are not before this, whatever the system clock says: they continue earlier
            ones.
    """

    def __init__(
        self,
        monotonic_ns: Callable[[], int] = time.perf_counter_ns,
        utc_ns: Callable[[], int] = time.time_ns,
        *,
        after_ns: int = 0,
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._utc_ns = utc_ns
        ahead_ns = self._ahead_ns()
        self._offset_ns = max(ahead_ns, after_ns - monotonic_ns())

    def now_ns(self) -> int:
        """Return nanoseconds since 1970 (UTC), never less than the last call returned."""
        return self._monotonic_ns() + self._offset_ns

    def drift_ns(self) -> int:
        """Return how far the system clock is ahead of this one now, in nanoseconds."""
        return self._ahead_ns() - self._offset_ns

    def _ahead_ns(self) -> int:
        """Return how far the system clock is ahead of the monotonic one."""
        best: tuple[int, int] | None = None
        for _ in range(_READINGS):
            before = self._monotonic_ns()
            utc = self._utc_ns()
            took = self._monotonic_ns() - before
            if best is None or took < best[0]:
                best = took, utc - before - took // 2
            if took < _CLOSE_NS:
                break
        assert best is not None
        return best[1]
