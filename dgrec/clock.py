"""UTC that never steps back."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """Stamps in UTC nanoseconds, read from a monotonic clock that is tied to UTC once.

    A clock that is set while recording (NTP, a person, the end of daylight saving time on
    a misconfigured device) would otherwise reorder frames and make latencies negative. What the
    system clock has moved by since the start is `drift_ns`: it belongs in the metadata.

    Args:
        after_ns: Stamps are later than this, whatever the system clock says: they continue others.
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
        self._offset_ns = max(utc_ns(), after_ns) - monotonic_ns()

    def now_ns(self) -> int:
        """Return nanoseconds since 1970 (UTC), never less than the last call returned."""
        return self._monotonic_ns() + self._offset_ns

    def drift_ns(self) -> int:
        """Return how far the system clock is ahead of this one now, in nanoseconds."""
        return self._utc_ns() - self.now_ns()
