"""When each frame of a session is shown: the time line that its video follows."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["FIRST_STEP_US", "Timeline"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
#: MP4 keeps the time between two frames in 32 bits, and here in microseconds.
_LONGEST_STEP_US = 3_600_000_000
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
        self._captured: int | None = None
        #: Microseconds between the last two frames.
        self.step_us = FIRST_STEP_US

    def pts_us(self, row: Mapping[str, Any]) -> int:
        """Return the time of the next row; it is always later than that of the last."""
        media_s, stamp = row["media_time_s"], row["captured_at"]
        media = round(media_s * 1e6) if media_s is not None and math.isfinite(media_s) else None
        captured = None if stamp is None else (stamp - _EPOCH) // _MICROSECOND
        if self._pts is None:
            self._pts = 0
        else:
            step = self.step_us
            if captured is not None and self._captured is not None:
                step = captured - self._captured
            is_cut = bool(self._cuts) and row["frame"] in self._cuts
            if media is not None and self._media is not None:
                # A file that is read in a loop begins again: the next round follows in step.
                step = media - self._media if media > self._media else self.step_us
            if is_cut:
                step = self.step_us
            self.step_us = min(max(step, 1), _LONGEST_STEP_US)
            self._pts += self.step_us
        self._media, self._captured = media, captured
        return self._pts
