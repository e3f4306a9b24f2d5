"""Checks that a window can be opened, and prepares for one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys

__all__ = ["has_display", "prepare_windows"]

_PROBE = "import cv2; cv2.namedWindow('dgrec', cv2.WINDOW_NORMAL); cv2.destroyAllWindows()"
#: A display that does not answer is given up after this. A busy machine needs half of it.
_PROBE_S = 60


def has_display() -> bool:
    """Return whether a window can be opened here.

    ``DISPLAY`` may name a display that is gone (an old SSH session's). The window library then
    ends the whole process, so another process tries it first.
    """
    if sys.platform != "linux":
        return True
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        return False
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def prepare_windows() -> None:
    """Make OpenCV's windows get every event; call it before the first window is opened.

    OpenCV's wheels bring the libX11-xcb of an older libX11 than the system's, which differ in where
    they keep whether Qt or Xlib reads the events. So Xlib takes some that Qt waits for. On a busy
    machine these include the one that says that the window is on the screen: it stays black.
    If it is loaded before, the library that belongs to the system's libX11 is used instead.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # not installed
            ctypes.CDLL("libX11-xcb.so.1", ctypes.RTLD_GLOBAL)
