"""Time lines that only go forwards, from stamps of which some may be invalid."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["SteadyTime", "VideoTimes", "shown_us"]

#: This many stamps in a row that do not continue from an earlier one are a new beginning.
_NEW_BEGINNING = 3
#: A recorded video waits for a stamp that is up to this much behind; one further behind is from a
#: clock that was set back.
_MOST_BEHIND_US = 1_000_000
#: A stamp that is this much later (30 days) is from a clock that was set, as from 1970 to today.
_MOST_AHEAD_US = 30 * 86_400_000_000
#: How long a frame lasts until two stamps show it, and at most.
_FIRST_STEP_US, _LONGEST_STEP_US = 40_000, 1_000_000


class SteadyTime:
    """Follows a source's stamps, except those that repeat, go backwards or are missing.

    A frame with such an odd stamp is shown one step after the previous one. The next frame with a
    good stamp is shown at that stamp, so that an odd stamp shifts only its own frame.

    Times are whole numbers of any unit.

    Args:
        step: How long a frame lasts until two stamps show it.
        longest_step: A longer step is a gap, and does not show how long a frame lasts.

    Attributes:
        now: Time of the last frame: its stamp, if all before it were good.
        step: Time between the last two frames with good stamps.
    """

    def __init__(self, step: int, longest_step: int) -> None:
        self._longest_step = longest_step
        self.step = step
        self.now: int | None = None
        self._good: int | None = None  # the last stamp that went forwards
        self._offset = 0
        self._odd = 0  # frames since then

    def at(self, stamp: int | None) -> int:
        """Return the time of the next frame; it is always later than that of the last."""
        if self.now is None:
            self._good = stamp
            self.now = 0 if stamp is None else stamp
            return self.now
        following = self.now + max(self.step, 1)
        if stamp is None:
            self._odd += 1
            self.now = following
        elif self._good is None or self._begins_anew(stamp):
            self._good, self._odd = stamp, 0
            self._offset = following - stamp
            self.now = following
        elif stamp <= self._good:
            self._odd += 1
            self.now = following
        else:
            if not self._odd and stamp - self._good <= self._longest_step:
                self.step = stamp - self._good
            self.now = max(stamp + self._offset, self.now + 1)
            self._good, self._odd = stamp, 0
        return self.now

    def at_all(self, stamps: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the times of the first stamps, up to one that may be odd and needs `at`."""
        none = stamps[:0]
        if self._good is None or self._odd or not len(stamps):
            return none
        steps = np.diff(stamps, prepend=self._good)
        if steps[0] <= 0 or self.now is None or stamps[0] + self._offset <= self.now:
            return none
        odd = np.flatnonzero(steps <= 0)
        if len(odd):
            stamps, steps = stamps[: odd[0]], steps[: odd[0]]
        times: np.ndarray[Any, Any] = stamps + self._offset
        usual = steps[steps <= self._longest_step]
        if len(usual):
            self.step = int(usual[-1])
        self._good, self.now = int(stamps[-1]), int(times[-1])
        return times

    def _begins_anew(self, stamp: int) -> bool:
        """Return whether the source counts anew, after several odd stamps."""
        assert self._good is not None
        assert self.now is not None
        is_behind = stamp <= self._good or stamp + self._offset <= self.now
        return is_behind and self._odd + 1 >= _NEW_BEGINNING


class VideoTimes:
    """Times at which frames of a recorded video are shown, in microseconds since the first one.

    They are the times of capture. Equal stamps, and those that are a little behind, are moved
    apart by a microsecond. Where a program's clock was set back, the video goes on one step after
    the last frame, and all that follow are shifted as much: otherwise an hour of frames would be
    shown in a moment, and the file would not grow until the old time is reached again. The same
    is done where a clock was set forward by years, which would fill the disk with the last picture.

    Attributes:
        now: Time of the last frame; -1 before the first.
        shift: By how much times are shifted against the stamps.
    """

    def __init__(self) -> None:
        self.now = -1
        self.shift = 0
        self._first: int | None = None
        self._step = _FIRST_STEP_US

    def at(self, captured_us: int) -> int:
        """Return the time of the next frame; it is always later than that of the last."""
        if self._first is None:
            self._first = captured_us
        time = captured_us - self._first + self.shift
        step = time - self.now
        if step <= -_MOST_BEHIND_US or (self.now >= 0 and step > _MOST_AHEAD_US):
            self.shift += self._step - step
        elif self.now >= 0 and 0 < step <= _LONGEST_STEP_US:
            self._step = step
        self.now = max(captured_us - self._first + self.shift, self.now + 1)
        return self.now


def shown_us(captured_us: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the time at which each frame of a video is shown, on the clock of the first one.

    That is ``captured_us`` where it rises; see `VideoTimes` for where it does not.
    """
    shown = captured_us.astype(np.float64)  # from a file, which may hold anything
    steps = np.diff(shown)
    if len(shown) and not ((steps > 0) & (steps <= _MOST_AHEAD_US)).all():
        times, first = VideoTimes(), int(captured_us[0])
        shown[:] = [first + times.at(int(stamp)) for stamp in captured_us.tolist()]
    return shown
