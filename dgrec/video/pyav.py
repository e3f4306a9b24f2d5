"""PyAV, imported in the right order."""

from __future__ import annotations

from enum import Enum
from typing import Any


def import_av() -> Any:
    """Import PyAV, after OpenCV.

    On Linux both wheels bring their own libxcb, and OpenCV's first window hangs if PyAV's was
    loaded first: PyAV-Org/PyAV#1050, opencv/opencv#29195.
    """
    import cv2  # noqa: F401, I001
    import av
    import av.sidedata.sidedata

    _take_any_side_data(av.sidedata.sidedata.Type)
    return av


def _take_any_side_data(known: type[Enum]) -> None:
    """Let PyAV return side data of kinds that it does not know.

    Otherwise one unknown kind, such as the EXIF data that many cameras send, makes all of a
    picture's side data unreadable.
    """

    def unnamed(cls: type[Enum], value: object) -> Enum:
        member = object.__new__(cls)
        member._name_, member._value_ = f"UNNAMED_{value}", value
        return member

    known._missing_ = classmethod(unnamed)  # type: ignore[assignment]
