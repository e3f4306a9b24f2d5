"""The live overlay window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dgrec.errors import DgrecError
from dgrec.format import Row
from dgrec.overlay import image_overlay
from dgrec.screen import has_display

__all__ = ["OverlayWindow"]


class OverlayWindow:
    """Shows each result's overlay through degirum_tools' Display.

    Pressing ``q`` or ``x`` in the window calls ``stop``. A window that fails in the middle is given
    up, not the recording: ``failure`` then says why.

    Raises:
        DgrecError: There is no display.
    """

    def __init__(self, title: str, stop: Callable[[], None]) -> None:
        if not has_display():
            raise DgrecError("--display: there is no display here; record without it")
        from degirum_tools import Display

        self.failure: str | None = None
        self._display: Any = Display(title)
        self._stop = stop

    def show(self, row: Row, result: Any) -> None:
        if self._display is None:
            return
        try:
            self._display.show(image_overlay(result))
        except KeyboardInterrupt:  # what Display raises for its quit keys
            self._stop()
        except Exception as error:  # cv2.error: the window system went away
            self.failure = f"the window is gone: {str(error).strip().splitlines()[0]}"
            self.close()

    def close(self) -> None:
        if self._display is not None:
            self._display.__exit__(None, None, None)
            self._display = None
