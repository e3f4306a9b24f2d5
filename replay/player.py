"""A session in a window, at the pace at which it was recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from dgrec.errors import VideoError
from dgrec.video import Image
from replay.painting import Painter
from replay.render import Canvas, Frame

__all__ = ["Player", "Window", "play_session"]

_QUIT_KEYS = (ord("q"), ord("Q"), ord("x"), 27)
#: Largest part of a screen that a window takes at first; it can be resized.
_LARGEST = (1600, 900)
#: Frames this late are not drawn, so that a slow overlay does not turn into slow motion...
_LATE_S = 0.2
#: ... but one picture in this time is.
_LONGEST_GAP_S = 0.5


class Window:
    """An OpenCV window that knows when it was closed.

    Raises:
        VideoError: No window can be opened.
    """

    def __init__(self, title: str, width: int, height: int) -> None:
        # The Qt of OpenCV's wheels asks for fonts that they do not hold, once for each.
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
        import cv2

        self._cv2 = cv2
        self._title = title
        scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            cv2.resizeWindow(title, max(1, int(width * scale)), max(1, int(height * scale)))
        except cv2.error as error:
            raise VideoError(
                f"no window can be opened ({_line(error)}); --output FILE.mp4 writes a video"
            ) from None

    def show(self, image: Image) -> None:
        self._cv2.imshow(self._title, image)

    def wait(self, seconds: float) -> int | None:
        """Wait, handling the window's events; return a key that was pressed, or None."""
        key = self._cv2.waitKey(max(1, round(seconds * 1000)))
        return None if key < 0 else int(key) & 0xFF

    @property
    def closed(self) -> bool:
        """Whether the user has closed the window. `show` would open it again."""
        try:
            return bool(self._cv2.getWindowProperty(self._title, self._cv2.WND_PROP_VISIBLE) < 1)
        except self._cv2.error:
            return True

    def close(self) -> None:
        if not self.closed:
            self._cv2.destroyWindow(self._title)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@dataclass
class Player:
    """Shows frames in a window: space pauses, q or Esc or closing the window ends it."""

    window: Window
    painter: Painter
    canvas: Canvas
    shown: int = 0
    #: Frames that were not drawn because drawing could not keep pace.
    passed_over: int = 0

    def play(self, frames: Iterable[Frame]) -> None:
        """Show ``frames``, each for as long as it lasted, until they or the user end it."""
        started: float | None = None
        last_shown = 0.0
        for frame in frames:
            now = time.monotonic()
            if started is None:
                started = now
            due = started + frame.pts_us / 1e6
            if now - due > _LATE_S and now - last_shown < _LONGEST_GAP_S:
                self.passed_over += 1
                continue
            picture = self.canvas.fit(self.painter.draw(frame.result, frame.image))
            # What the window shows now stays until this frame is due.
            paused = self._wait_until(due)
            if paused is None:
                return
            started += paused
            self.window.show(picture)
            last_shown = time.monotonic()
            self.shown += 1
        self._wait_until(time.monotonic() + 0.04)  # the last one, for as long as one frame lasts

    def _wait_until(self, due: float) -> float | None:
        """Wait until ``due``; return the seconds spent in pauses, or None if it is over."""
        paused_at: float | None = None
        paused = 0.0
        while True:
            if self.shown and self.window.closed:
                return None
            now = time.monotonic()
            left = 0.03 if paused_at is not None else due + paused - now
            key = self.window.wait(min(max(left, 0.0), 0.03))
            if key in _QUIT_KEYS:
                return None
            if key == ord(" "):
                if paused_at is None:
                    paused_at = time.monotonic()
                else:
                    paused += time.monotonic() - paused_at
                    paused_at = None
            if paused_at is None and time.monotonic() >= due + paused:
                return paused

    def notes(self) -> list[str]:
        """Return what the user should know at the end, a line each."""
        if not self.passed_over:
            return []
        total = self.shown + self.passed_over
        return [
            f"{self.passed_over:,} of {total:,} frames were passed over to keep pace "
            "(--output draws every one)"
        ]


def play_session(frames: Iterable[Frame], painter: Painter, canvas: Canvas, title: str) -> Player:
    """Play ``frames`` in a new window and return the `Player`, when it is over."""
    with Window(title, canvas.width, canvas.height) as window:
        player = Player(window, painter, canvas)
        player.play(frames)
    return player
