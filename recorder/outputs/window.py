"""The live overlay window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dgrec.errors import DgrecError, first_line
from dgrec.format import Row
from dgrec.overlay import image_overlay
from dgrec.recorder.outputs.output import Output
from dgrec.screen import has_display, prepare_windows


class OverlayWindow(Output):
    """Shows the newest result's overlay with degirum_tools' Display.

    Pressing ``q`` or ``x`` in the window calls ``stop``.

    Raises:
        DgrecError: There is no display.
    """

    name = "window"
    capacity = 1
    is_waited_for = False
    counts_losses = False
    wants_results = True
    needs_main_thread = True

    def __init__(self, title: str, stop: Callable[[], None]) -> None:
        if not has_display():
            raise DgrecError("--display: there is no display here; record without it")
        prepare_windows()
        from degirum_tools import Display

        self._display: Any = Display(title)
        self._stop = stop

    def frame(self, row: Row, result: Any) -> None:
        try:
            self._display.show(image_overlay(result))
        except KeyboardInterrupt:  # what Display raises for its quit keys
            self._stop()
        except Exception as error:  # cv2.error: the window system went away
            raise DgrecError(f"the window is gone: {first_line(error)}") from None

    def close(self) -> None:
        self._display.__exit__(None, None, None)
