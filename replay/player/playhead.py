"""The frame that a player shows, and where it goes next: at its pace, or as its user asks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dgrec.replay.player.marks import Marks
from dgrec.replay.player.played_frames import PlayedFrames

Action = Literal[
    "quit",
    "pause",
    "step",
    "step_back",
    "jump",
    "jump_back",
    "faster",
    "slower",
    "next_mark",
    "previous_mark",
    "labels",
    "hud",
    "help",
    "save",
    "home",
    "end",
]

SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_JUMP_US = 10_000_000
#: If playing is later than this, it skips frames rather than turn into slow motion.
_LATE_S = 0.2


@dataclass(frozen=True)
class Look:
    """The parts of the picture that a key switches on and off."""

    labels: bool = True
    hud: bool = False


class Playhead:
    """Goes through frames at their pace, or to where its user sends it.

    ``now`` is in seconds of any steady clock.

    Args:
        frames: The frames, at least one.
        speed: Times the recorded pace.
        loop: Begin again after the last frame.
        look: What is drawn at first.
    """

    def __init__(
        self,
        frames: PlayedFrames,
        *,
        speed: float = 1.0,
        loop: bool = False,
        look: Look | None = None,
    ) -> None:
        self.frames = frames
        #: Which of them stand out; none until they were searched for.
        self.marks = Marks(np.zeros(len(frames), np.uint8))
        self.frame = 0
        self.speed = speed
        self.loop = loop
        self.look = look or Look()
        self.shows_help = False
        self.is_playing = True
        self.is_over = False
        #: Frames that were not shown because drawing could not keep pace.
        self.passed_over = 0
        # Whether keys were pressed: then the player stays open at the end.
        self._is_used = False
        self._anchor: tuple[float, float] | None = None  # clock, and microseconds in the session

    def due(self, now: float) -> float:
        """Return the seconds until `advance` has something to do, at least 0."""
        if not self.is_playing or self.is_over:
            return float("inf")
        time, place = self._anchored(now)
        return max(0.0, time + (self._end_of(self.frame) - place) / 1e6 / self.speed - now)

    def advance(self, now: float) -> bool:
        """Go on to the frame that is due; return whether it is a new one."""
        if self.due(now) > 0:
            return False
        last = len(self.frames) - 1
        if self.frame >= last:
            if self.loop:
                self._move(0)
                return True
            self.is_playing, self.is_over = False, not self._is_used
            return False
        time, place = self._anchored(now)
        following = self.frame + 1
        late_s = now - time - (self.frames.times_us[following] - place) / 1e6 / self.speed
        if late_s > _LATE_S:
            now_us = place + (now - time) * 1e6 * self.speed
            reached = max(self.frames.at(now_us), following)
            if self.speed <= 1:  # when played faster, frames are skipped on purpose
                self.passed_over += reached - following
            following = reached
        self.frame = following
        return True

    def _end_of(self, frame: int) -> float:
        times = self.frames.times_us
        if frame + 1 < len(times):
            return float(times[frame + 1])
        # The last one stays for as long as the one before it.
        step = times[frame] - times[frame - 1] if frame else 40_000
        return float(times[frame] + min(step, 1_000_000))

    def _anchored(self, now: float) -> tuple[float, float]:
        if self._anchor is None:
            self._anchor = now, float(self.frames.times_us[self.frame])
        return self._anchor

    def act(self, action: Action) -> bool:
        """Do what a key asks for; return whether the picture has to be drawn again."""
        self._is_used = True
        frames, last = self.frames, len(self.frames) - 1
        match action:
            case "quit":
                self.is_over = True
            case "pause":
                self.is_playing = not self.is_playing
                if self.is_playing and self.frame == last:
                    self._move(0)
                self._anchor = None
            case "step":
                self._pause_at(min(self.frame + 1, last))
            case "step_back":
                self._pause_at(max(self.frame - 1, 0))
            case "jump" | "jump_back":
                by = _JUMP_US if action == "jump" else -_JUMP_US
                self._move(frames.at(frames.times_us[self.frame] + by))
            case "faster" | "slower":
                self._change_speed(up=action == "faster")
            case "next_mark":
                self._pause_at(self.marks.after(self.frame))
            case "previous_mark":
                self._pause_at(self.marks.before(self.frame))
            case "labels":
                self.look = replace(self.look, labels=not self.look.labels)
            case "hud":
                self.look = replace(self.look, hud=not self.look.hud)
            case "help":
                self.shows_help = not self.shows_help
            case "home":
                self._move(0)
            case "end":
                self._pause_at(last)
            case "save":
                return False
        return True

    def seek(self, fraction: float) -> None:
        """Go to a place on the time line: 0 is its beginning, 1 its end."""
        self._is_used = True
        self._move(self.frames.at(fraction * self.frames.times_us[-1]))

    def _pause_at(self, frame: int | None) -> None:
        self.is_playing = False
        if frame is not None:
            self._move(frame)

    def _move(self, frame: int) -> None:
        self.frame = frame
        self._anchor = None

    def _change_speed(self, *, up: bool) -> None:
        others = [s for s in SPEEDS if (s > self.speed if up else s < self.speed)]
        if others:
            self.speed = others[0] if up else others[-1]
            self._anchor = None
