"""When each frame of a session is shown: the time line that its video follows."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Mapping
from typing import Any

from dgrec.timeline import SteadyTime

__all__ = ["FIRST_STEP_US", "Timeline"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
#: MP4 keeps the time between two frames in 32 bits, and here in microseconds.
_LONGEST_STEP_US = 3_600_000_000
#: A longer step is a gap, and does not tell how long a frame lasts.
_GAP_US = 60_000_000
#: How long a frame lasts that has no neighbour to tell, in microseconds.
FIRST_STEP_US = 40_000


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
        self._media = SteadyTime(FIRST_STEP_US, _GAP_US)
        self._captured = 0
        #: Microseconds between the last two frames.
        self.step_us = FIRST_STEP_US

    def pts_us(self, row: Mapping[str, Any]) -> int:
        """Return the time of the next row; it is always later than that of the last."""
        media_s = row["media_time_s"]
        media = round(media_s * 1e6) if media_s is not None and math.isfinite(media_s) else None
        captured = (row["captured_at"] - _EPOCH) // _MICROSECOND
        is_cut = bool(self._cuts) and self._pts is not None and row["frame"] in self._cuts
        if is_cut:
            self._media = SteadyTime(self._media.step, _GAP_US)
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
            self.step_us = min(max(step, 1), _LONGEST_STEP_US)
            self._pts += self.step_us
        self._captured = captured
        return self._pts
