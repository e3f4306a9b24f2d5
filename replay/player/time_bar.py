"""The bar below a player's picture: the time line with its marks, the position, the help."""

from __future__ import annotations

from typing import Any

import numpy as np

from dgrec.replay.player.marks import Mark, Marks
from dgrec.replay.player.played_frames import PlayedFrames
from dgrec.replay.player.playhead import Playhead
from dgrec.video import Image

#: Keys and what they do, as the help shows them.
HELP = (
    ("space", "play, pause"),
    (". ,", "one frame on, back"),
    ("right left", "10 s on, back (or ] [)"),
    ("n p", "next, previous mark"),
    ("+ -", "faster, slower"),
    ("home end", "first, last frame"),
    ("l h", "labels, HUD"),
    ("s", "save this frame as PNG"),
    ("?", "this help"),
    ("q esc", "quit"),
)
# Blue, green, red.
_BACK, _TRACK, _PLAYED = (28, 28, 28), (70, 70, 70), (150, 130, 90)
_TEXT, _DIM, _HEAD = (235, 235, 235), (160, 160, 160), (255, 255, 255)
_MARKS = (
    (Mark.LABEL, (200, 170, 60)),
    (Mark.SLOW, (60, 190, 255)),
    (Mark.DROP, (70, 70, 255)),
    (Mark.EVENT, (90, 220, 90)),
)
_LEGEND = (
    (Mark.DROP, "drop"),
    (Mark.SLOW, "slow (over p99)"),
    (Mark.LABEL, "label appears"),
    (Mark.EVENT, "mark of the program"),
)


class TimeBar:
    """Draws the bar of a player below pictures of one size.

    Args:
        width: Of the pictures, in pixels.
    """

    def __init__(self, frames: PlayedFrames, width: int, height: int) -> None:
        self._frames = frames
        self.width = width
        self.picture_height = height
        # Windows shrink large pictures, so text has to grow with them.
        self._scale = max(1.0, width / 1200, height / 800)
        unit = self._scale
        self._margin = round(10 * unit)
        self._track = round(8 * unit), round(22 * unit)  # top and bottom, from the bar's top
        #: Of the bar alone, in pixels.
        self.height = round(48 * unit)
        #: The bar without a position, and the marks on it.
        self._empty: tuple[Image, Marks] | None = None

    @property
    def span(self) -> tuple[int, int]:
        """The first column of the time line, and the column after its last."""
        return self._margin, max(self._margin + 1, self.width - self._margin)

    def fraction_at(self, x: int, y: int) -> float | None:
        """Return the place on the time line, 0 to 1, at a pixel of the screen; None beside it."""
        top = y - self.picture_height
        if not 0 <= top < self._track[1] + self._margin // 2:
            return None
        first, end = self.span
        return min(max((x - first) / max(1, end - 1 - first), 0.0), 1.0)

    def column_of(self, time_us: float) -> int:
        """Return the column of a time since the first frame."""
        first, end = self.span
        length = max(1, int(self._frames.times_us[-1]))
        return first + round(time_us / length * (end - 1 - first))

    def draw(self, picture: Image, head: Playhead, message: str = "") -> Image:
        """Return ``picture`` with the bar below, and the help on it if that is shown."""
        height = self.picture_height
        screen = np.empty((height + self.height, self.width, 3), np.uint8)
        screen[:height] = picture
        bar = screen[height:]
        if self._empty is None or self._empty[1] is not head.marks:
            self._empty = self._draw_empty(head.marks), head.marks
        bar[:] = self._empty[0]
        self._draw_position(bar, head)
        self._draw_text(bar, head, message)
        if head.shows_help:
            self._draw_help(screen[:height])
        return screen

    def _draw_empty(self, marks: Marks) -> Image:
        bar = np.empty((self.height, self.width, 3), np.uint8)
        bar[:] = _BACK
        first, end = self.span
        top, bottom = self._track
        bar[top:bottom, first:end] = _TRACK
        times_us = self._frames.times_us
        length = max(1, int(times_us[-1]))
        thick = max(2, round(2 * self._scale))
        # More serious marks are taller, and on top.
        for share, (kind, color) in zip((0.35, 0.65, 1.0, 1.0), _MARKS, strict=True):
            rows = slice(bottom - round((bottom - top) * share), bottom)
            times = times_us[marks.kinds & np.uint8(kind) > 0]
            columns = first + np.round(times / length * (end - 1 - first)).astype(np.int64)
            for column in np.unique(columns):
                bar[rows, column : min(column + thick, end)] = color
        return bar

    def _draw_position(self, bar: Image, head: Playhead) -> None:
        first, end = self.span
        top, bottom = self._track
        at = self.column_of(float(self._frames.times_us[head.frame]))
        played = bar[top:bottom, first:at]
        played[(played == _TRACK).all(axis=2)] = _PLAYED
        half = max(1, round(self._scale))
        over = round(4 * self._scale)
        bar[top - over : bottom + over, max(at - half, first) : min(at + half, end)] = _HEAD

    def _draw_text(self, bar: Image, head: Playhead, message: str) -> None:
        frames, marks, frame = self._frames, head.marks, head.frame
        base = self.height - round(9 * self._scale)
        left = self._margin
        self._draw_state(bar, left, base, playing=head.is_playing)
        left += round(20 * self._scale)
        elapsed, total = (_clock(int(frames.times_us[at])) for at in (frame, -1))
        left += self._write(bar, f"{elapsed} / {total}", left, base, _TEXT)
        place = f"frame {int(frames.positions[frame]):,}"
        if head.speed != 1:
            place += f"   x{head.speed:g}"
        left += self._write(bar, place, left, base, _DIM)
        text = message or marks.describe(frame)
        if text:
            color = _TEXT
            for kind, tone in () if message else _MARKS:
                if marks.kinds[frame] & np.uint8(kind):
                    color = tone
            self._write(bar, text, left, base, color)
        elif self._width_of("? help") + left < self.width - self._margin:
            right = self.width - self._margin - self._width_of("? help")
            self._write(bar, "? help", right, base, _DIM)

    def _draw_state(self, bar: Image, left: int, base: int, *, playing: bool) -> None:
        import cv2

        size = round(11 * self._scale)
        top = base - size
        if playing:
            corners = [(left, top), (left, base), (left + size, (top + base) // 2)]
            cv2.fillConvexPoly(bar, np.array(corners), _TEXT, cv2.LINE_AA)
        else:
            third = max(1, size // 3)
            bar[top:base, left : left + third] = _TEXT
            bar[top:base, left + 2 * third : left + 3 * third] = _TEXT

    def _draw_help(self, picture: Image) -> None:
        """Draw a panel that lists the keys, as large as fits."""
        import cv2

        line = 22.0 * self._scale
        lines = len(HELP) + len(_LEGEND) + 1
        shrink = min(
            1.0,
            picture.shape[0] / (line * (lines + 1)),
            picture.shape[1] / (330 * self._scale),
        )
        unit = self._scale * shrink
        step = 22 * unit
        width, height = round(320 * unit), round((lines + 0.8) * step)
        left = max(0, (picture.shape[1] - width) // 2)
        top = max(0, (picture.shape[0] - height) // 2)
        panel = picture[top : top + height, left : left + width]
        panel[:] = panel // 6 + np.array(_BACK, np.uint8)
        y = top + step
        for key, does in HELP:
            self._write(picture, key, left + round(14 * unit), round(y), _HEAD, shrink)
            self._write(picture, does, left + round(120 * unit), round(y), _TEXT, shrink)
            y += step
        y += step / 2
        colors = dict(_MARKS)
        for kind, means in _LEGEND:
            at = left + round(14 * unit)
            box = (at, round(y - 10 * unit)), (at + round(20 * unit), round(y))
            cv2.rectangle(picture, *box, colors[kind], cv2.FILLED)
            self._write(picture, means, left + round(120 * unit), round(y), _TEXT, shrink)
            y += step

    def _write(
        self, image: Image, text: str, x: int, y: int, color: Any, shrink: float = 1.0
    ) -> int:
        """Write a text and return its width with a gap."""
        import cv2

        size, weight = self._font(shrink)
        plain = text.encode("ascii", "replace").decode()  # OpenCV's fonts have no more
        cv2.putText(
            image, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, color, weight, cv2.LINE_AA
        )
        return self._width_of(plain, shrink) + round(14 * self._scale)

    def _font(self, shrink: float) -> tuple[float, int]:
        """Return the size and the thickness of text."""
        return 0.45 * self._scale * shrink, max(1, round(self._scale * shrink))

    def _width_of(self, text: str, shrink: float = 1.0) -> int:
        import cv2

        size, weight = self._font(shrink)
        return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, weight)[0][0])


def _clock(time_us: int) -> str:
    """Return a time as ``1:02:03.4`` or ``2:03.4``."""
    tenths = time_us // 100_000
    seconds, tenth = divmod(tenths, 10)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minute:02}:{second:02}.{tenth}"
    return f"{minute}:{second:02}.{tenth}"
