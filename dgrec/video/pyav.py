"""PyAV, imported in the right order."""

from __future__ import annotations

from enum import Enum
from typing import Any

__all__ = ["import_av"]


def import_av() -> Any:
    """Import PyAV, after OpenCV.

    Where the wheels of both bring their own libxcb (Linux), OpenCV's first window hangs the
    process if PyAV's came first: PyAV-Org/PyAV#1050, opencv/opencv#29195.
    """
    import cv2  # noqa: F401, I001
    import av
    import av.sidedata.sidedata

    _take_any_side_data(av.sidedata.sidedata.Type)
    return av


def _take_any_side_data(known: type[Enum]) -> None:
    """Let PyAV hand out side data of kinds that it has no name for.

    It otherwise raises an error for all that a picture carries beside its pixels, as soon as there
    is one kind that is newer than its list: the EXIF of photographs, which many cameras send.
    """

    def unnamed(cls: type[Enum], value: object) -> Enum:
        member = object.__new__(cls)
        member._name_, member._value_ = f"UNNAMED_{value}", value
        return member

    known._missing_ = classmethod(unnamed)  # type: ignore[assignment]
