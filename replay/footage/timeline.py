"""When each frame of a session is shown: the time line that its video follows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from dgrec.timeline import SteadyTime

__all__ = ["FIRST_STEP_US", "LONGEST_STEP_US", "LONGEST_USUAL_STEP_US", "Timeline", "media_us"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
#: A year, which a gap of damaged stamps is cut down to: sums of them have to stay within 64 bits.
LONGEST_STEP_US = 365 * 86_400_000_000
#: A longer step is a gap, and says nothing about how long a frame lasts.
LONGEST_USUAL_STEP_US = 60_000_000
#: How long a frame lasts that has no neighbour to tell, in microseconds.
FIRST_STEP_US = 40_000
#: No stamp of a source is later: 30,000 years, in seconds.
_LATEST_S = 1e12


def media_us(media_s: float) -> int | None:
    """Return a stamp of the source in microseconds; None if no source can have it (NaN, 1e300)."""
    return round(media_s * 1e6) if abs(media_s) <= _LATEST_S else None


class Timeline:
    """Turns the recorded times of rows into microseconds since the first one.

    The source's own time line is what a video should follow; a source that has none (a camera, as
    a rule) is followed by when its frames were captured. An odd stamp shifts its own frame only.

    Args:
        cuts: Numbers of frames that follow the one before at once, whatever their
            stamps say: with them a part begins that was cut out elsewhere.
    """

    def __init__(self, cuts: Collection[int] = ()) -> None:
        self._cuts = frozenset(cuts)
        self._pts: int | None = None
        self._media = SteadyTime(FIRST_STEP_US, LONGEST_USUAL_STEP_US)
        self._captured = 0
        #: How long the last frame lasts if nothing else tells: as long as the one before it did
        #: that no gap followed, in microseconds.
        self.step_us = FIRST_STEP_US

    def pts_us(self, row: Mapping[str, Any]) -> int:
        """Return the time of the next row; it is always later than that of the last."""
        media_s, stamp = row["media_time_s"], row["captured_at"]
        media = None if media_s is None else media_us(media_s)
        captured = self._captured + self.step_us  # another tool may have left it out
        if stamp is not None:
            captured = (stamp - _EPOCH) // _MICROSECOND
        return self._next(media, captured, bool(self._cuts) and row["frame"] in self._cuts)

    def times_us(
        self,
        frames: np.ndarray[Any, Any],
        media_s: np.ndarray[Any, Any],
        captured_us: np.ndarray[Any, Any],
    ) -> np.ndarray[Any, Any]:
        """Return the times of the next rows, as `pts_us` would one by one."""
        if not len(captured_us):
            return np.empty(0, np.int64)
        media = np.asarray(media_s, np.float64)
        is_there = np.abs(media) <= _LATEST_S  # False for NaN
        stamps = np.where(is_there, np.round(np.where(is_there, media, 0) * 1e6), 0).astype(
            np.int64
        )
        is_cut = np.isin(frames, list(self._cuts))

        def one(at: int) -> int:
            stamp = int(stamps[at]) if is_there[at] else None
            return self._next(stamp, int(captured_us[at]), bool(is_cut[at]))

        first = one(0)
        rest = None if is_cut[1:].any() else self._rest(stamps, is_there, captured_us)
        if rest is None:
            rest = np.array([one(at) for at in range(1, len(captured_us))], np.int64)
        return np.concatenate([[first], rest])

    def _rest(
        self,
        stamps: np.ndarray[Any, Any],
        is_there: np.ndarray[Any, Any],
        captured_us: np.ndarray[Any, Any],
    ) -> np.ndarray[Any, Any] | None:
        """Return the times of all rows but the first, which was the last; None if one is odd."""
        assert self._pts is not None
        line = captured_us.astype(np.int64)
        if is_there[1:].any() or self._media.now is not None:
            before = self._media.now
            times = self._media.at_all(stamps[1:]) if is_there[1:].all() else None
            if times is None or before is None:
                return None
            line = np.concatenate([[before], times])
        steps = np.clip(np.diff(line), 1, LONGEST_STEP_US)
        usual = steps[steps <= LONGEST_USUAL_STEP_US]
        if len(usual):
            self.step_us = int(usual[-1])
        pts: np.ndarray[Any, Any] = self._pts + np.cumsum(steps)
        if len(pts):
            self._pts, self._captured = int(pts[-1]), int(captured_us[-1])
        return pts

    def _next(self, media: int | None, captured: int, is_cut: bool) -> int:
        is_cut = is_cut and self._pts is not None
        if is_cut:
            self._media = SteadyTime(self._media.step, LONGEST_USUAL_STEP_US)
        before = self._media.now
        # Before the first stamp of the source there is only when frames were captured.
        now = None if before is None and media is None else self._media.at(media)
        if self._pts is None:
            self._pts = 0
        else:
            step = captured - self._captured
            if is_cut:
                step = self.step_us
            elif now is not None and before is not None:
                step = now - before
            step = min(max(step, 1), LONGEST_STEP_US)
            if step <= LONGEST_USUAL_STEP_US:
                self.step_us = step
            self._pts += step
        self._captured = captured
        return self._pts
