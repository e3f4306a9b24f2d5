"""Checks that a window can be opened."""

from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["has_display"]

_PROBE = "import cv2; cv2.namedWindow('dgrec', cv2.WINDOW_NORMAL); cv2.destroyAllWindows()"


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
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0
