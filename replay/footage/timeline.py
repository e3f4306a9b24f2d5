"""When each frame of a session is shown: the time line that its video follows."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["FIRST_STEP_US", "LONGEST_STEP_US", "LONGEST_USUAL_STEP_US", "Timeline"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
#: A year, which a gap of damaged stamps is cut down to: sums of them have to stay within 64 bits.
LONGEST_STEP_US = 365 * 86_400_000_000
#: A longer step is a gap, and says nothing about how long a frame lasts.
LONGEST_USUAL_STEP_US = 60_000_000
#: How long a frame lasts that has no neighbour to tell, in microseconds.
FIRST_STEP_US = 40_000


class Timeline:
    """Turns the recorded times of rows into microseconds since the first one.

    The source's own time line is what a video should follow; a source that has none (a camera, as
    a rule) is followed by when its frames were captured.

    Args:
        cuts: Numbers of frames that follow the one before at once, whatever their
            stamps say: with them a part begins that was cut out elsewhere.
    """

    def __init__(self, cuts: Collection[int] = ()) -> None:
        self._cuts = frozenset(cuts)
        self._pts: int | None = None
        self._media: int | None = None
        self._captured = 0
        #: How long the last frame lasts if nothing else tells: as long as the one before it did
        #: that no gap followed, in microseconds.
        self.step_us = FIRST_STEP_US

    def pts_us(self, row: Mapping[str, Any]) -> int:
        """Return the time of the next row; it is always later than that of the last."""
        media_s = row["media_time_s"]
        media = round(media_s * 1e6) if media_s is not None and math.isfinite(media_s) else None
        captured = (row["captured_at"] - _EPOCH) // _MICROSECOND
        if self._pts is None:
            self._pts = 0
        else:
            step = captured - self._captured
            is_cut = bool(self._cuts) and row["frame"] in self._cuts
            if media is not None and self._media is not None:
                # A file that is read in a loop begins again: the next round follows in step.
                step = media - self._media if media > self._media else self.step_us
            if is_cut:
                step = self.step_us
            step = min(max(step, 1), LONGEST_STEP_US)
            if step <= LONGEST_USUAL_STEP_US:
                self.step_us = step
            self._pts += step
        self._media, self._captured = media, captured
        return self._pts
