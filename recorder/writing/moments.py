"""The times around alerts, which decide what parts of a recording are kept (``--keep-only``)."""

from __future__ import annotations

import bisect
import threading
from fractions import Fraction


class Moments:
    """The moments of a recording: from ``before_s`` before each alert to ``after_s`` after its end.

    All times are those of results, in microseconds since 1970. Any thread may call this.

    Example:

        >>> moments = Moments(before_s=10, after_s=10)
        >>> moments.fired("crowd", 60_000_000)
        >>> moments.ended("crowd", 61_000_000)
        >>> moments.overlap(45_000_000, 55_000_000), moments.overlap(72_000_000, 80_000_000)
        (True, None)
        >>> moments.reached(90_000_001)
        >>> moments.overlap(72_000_000, 80_000_000)
        False
    """

    def __init__(self, before_s: float, after_s: float) -> None:
        self._before_us, self._after_us = round(before_s * 1e6), round(after_s * 1e6)
        #: The moments that are over, disjoint, in order.
        self._starts: list[int] = []
        self._ends: list[int] = []
        #: When the moments began whose alerts are not over.
        self._open: dict[str, int] = {}
        self._reached_us = -1
        self._is_finished = self._has_lost_track = False
        self._lock = threading.Lock()

    def fired(self, name: str, at_us: int) -> None:
        with self._lock:
            self._open[name] = at_us - self._before_us

    def ended(self, name: str, at_us: int) -> None:
        with self._lock:
            start, end = self._open.pop(name), at_us + self._after_us
            while self._ends and self._ends[-1] >= start:
                start = min(start, self._starts.pop())
                end = max(end, self._ends.pop())
            self._starts.append(start)
            self._ends.append(end)

    def reached(self, at_us: int) -> None:
        """Note that all alerts until then are known."""
        with self._lock:
            if not self._has_lost_track:
                self._reached_us = max(self._reached_us, at_us)

    def lose_track(self) -> None:
        """Note that not all alerts after the time that was reached will be known."""
        with self._lock:
            self._has_lost_track = True

    def finish(self) -> None:
        """Note that no more alerts will come; those that are not over hold to the end."""
        with self._lock:
            self._is_finished = not self._has_lost_track

    def overlap(self, start_us: int, end_us: int) -> bool | None:
        """Return whether a moment overlaps a time; None: that of a later alert may."""
        with self._lock:
            if any(start <= end_us for start in self._open.values()):
                return True
            at = bisect.bisect_left(self._ends, start_us)  # the first that ends in it, or later
            if at < len(self._starts) and self._starts[at] <= end_us:
                return True
            if self._is_finished or self._reached_us - self._before_us > end_us:
                return False
            return None


class Sample:
    """Chooses a share of parts, evenly: of 1%, the 50th, the 150th, and so on.

    Example:

        >>> sample = Sample(0.25)
        >>> [sample.takes() for _ in range(8)]
        [False, True, False, False, False, True, False, False]
    """

    def __init__(self, share: float) -> None:
        self._share = Fraction(str(share))
        self._asked = 0

    def takes(self) -> bool:
        """Return whether the next part is chosen."""
        before = self._chosen()
        self._asked += 1
        return self._chosen() > before

    def _chosen(self) -> int:
        return int(self._asked * self._share + Fraction(1, 2))
