"""An OpenCV window, and the keys that it knows."""

from __future__ import annotations

import os
from typing import Any, Self

from dgrec.errors import VideoError, first_line
from dgrec.replay.player.playhead import Action
from dgrec.screen import prepare_windows
from dgrec.video import Image

#: Largest part of a screen that a window takes at first; it can be resized.
_LARGEST = (1600, 900)

_KEYS: dict[int, Action] = {
    **dict.fromkeys((ord("q"), ord("Q"), ord("x"), 27), "quit"),
    ord(" "): "pause",
    **dict.fromkeys((ord("."), ord(">")), "step"),
    **dict.fromkeys((ord(","), ord("<")), "step_back"),
    ord("]"): "jump",
    ord("["): "jump_back",
    **dict.fromkeys((ord("+"), ord("=")), "faster"),
    **dict.fromkeys((ord("-"), ord("_")), "slower"),
    **dict.fromkeys((ord("n"), ord("N")), "next_mark"),
    **dict.fromkeys((ord("p"), ord("P")), "previous_mark"),
    **dict.fromkeys((ord("l"), ord("L")), "labels"),
    **dict.fromkeys((ord("h"), ord("H")), "hud"),
    **dict.fromkeys((ord("s"), ord("S")), "save"),
    **dict.fromkeys((ord("?"), ord("/")), "help"),
}
#: Codes of keys without a character: of X11 (Qt and GTK windows), Windows, macOS.
_NAMED_KEYS: dict[int, Action] = {
    **dict.fromkeys((0xFF1B, 0x1B), "quit"),  # Esc
    **dict.fromkeys((0xFF53, 0x270000, 63235), "jump"),  # right
    **dict.fromkeys((0xFF51, 0x250000, 63234), "jump_back"),  # left
    **dict.fromkeys((0xFF50, 0x240000, 63273), "home"),
    **dict.fromkeys((0xFF57, 0x230000, 63275), "end"),
    # Of the number pad.
    0xFF98: "jump",
    0xFF96: "jump_back",
    0xFFAB: "faster",
    0xFFAD: "slower",
}


def action_of(key: int) -> Action | None:
    """Return the action of a key code of OpenCV's windows, if it has one."""
    # GTK puts modifiers such as Num Lock above 16 bits; Windows has its named keys there.
    for code in (key, key & 0xFFFF):
        if action := _NAMED_KEYS.get(code) or _KEYS.get(code):
            return action
    return None


class Window:
    """An OpenCV window that knows when it was closed.

    Raises:
        VideoError: No window can be opened.
    """

    def __init__(self, title: str, width: int, height: int) -> None:
        # The Qt of OpenCV's wheels warns about each font that they lack.
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
        prepare_windows()
        import cv2

        self._cv2 = cv2
        self._title = title
        self._clicks: list[tuple[int, int]] = []
        self._is_held = False
        scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            cv2.resizeWindow(title, max(1, int(width * scale)), max(1, int(height * scale)))
            cv2.setMouseCallback(title, self._on_mouse)
        except cv2.error as error:
            raise VideoError(
                f"no window can be opened ({first_line(error)}); --output FILE.mp4 writes a video"
            ) from None

    def show(self, image: Image) -> None:
        self._cv2.imshow(self._title, image)

    def wait(self, seconds: float) -> int | None:
        """Wait, handling the window's events; return a key that was pressed, or None."""
        key = self._cv2.waitKeyEx(max(1, round(seconds * 1000)))
        return None if key < 0 else int(key)

    def clicks(self) -> list[tuple[int, int]]:
        """Return where (x, y) the mouse was pressed or dragged since the last call."""
        taken, self._clicks = self._clicks, []
        return taken

    def _on_mouse(self, event: int, x: int, y: int, flags: int, _: Any) -> None:
        cv2 = self._cv2
        if event == cv2.EVENT_LBUTTONDOWN:
            self._is_held = True
        elif event == cv2.EVENT_LBUTTONUP or not flags & cv2.EVENT_FLAG_LBUTTON:
            self._is_held = False
        if self._is_held and event in (cv2.EVENT_LBUTTONDOWN, cv2.EVENT_MOUSEMOVE):
            self._clicks.append((x, y))

    @property
    def closed(self) -> bool:
        """Return whether the user has closed the window; `show` would open it again."""
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
