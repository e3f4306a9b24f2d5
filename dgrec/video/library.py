"""PyAV, imported in the right order."""

from __future__ import annotations

from typing import Any

__all__ = ["import_av"]


def import_av() -> Any:
    """Import PyAV, after OpenCV.

    Where the wheels of both bring their own libxcb (Linux), OpenCV's first window hangs the
    process if PyAV's came first: PyAV-Org/PyAV#1050, opencv/opencv#29195.
    """
    import cv2  # noqa: F401, I001
    import av

    return av
