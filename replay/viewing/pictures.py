"""Pictures of rows as JPEG, decoded here: for videos that a browser cannot play."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import numpy as np

from dgrec.replay.viewing.opened import OpenedSession
from dgrec.replay.viewing.parameters import Parameters, RequestError
from dgrec.replay.viewing.workers import Task

__all__ = ["jpeg", "picture", "thumbnail"]

#: What `Pixels` needs of a row.
_COLUMNS: Final = (
    "frame",
    "source_frame",
    "media_time_s",
    "captured_at",
    "video_frame",
    "video_state",
    "pixel_digest",
    "width",
    "height",
)
_WIDEST: Final = 3840
_THUMBNAIL: Final = 320
_QUALITY: Final = 85


def picture(opened: OpenedSession, parameters: Parameters, task: Task) -> bytes:
    """Answer ``/api/picture``: the picture of a row, without its overlay."""
    position = parameters.position(opened.count)
    width = parameters.whole("w", _WIDEST, least=16, most=_WIDEST)
    row = opened.row(position, [*_COLUMNS])
    with opened.pixels() as pixels:
        task.check()
        if pixels.footage.path is None:
            raise RequestError(pixels.footage.lacking or "there are no pictures", 404)
        image = pixels.frame(row)
        if image is None:
            raise RequestError(pixels.why_missed(), 404)
    task.check()
    return jpeg(image, width)


def thumbnail(opened: OpenedSession, parameters: Parameters, task: Task) -> bytes:
    """Answer ``/api/thumb``: a small picture of one frame, with its overlay."""

    def draw() -> bytes:
        overlay = import_module("dgrec.replay.viewing.overlay")
        with opened.rows:
            found: bytes = overlay.thumbnail(opened.session, _THUMBNAIL)
        return found

    return opened.kept("thumbnail", draw)


def jpeg(image: np.ndarray[Any, Any], width: int) -> bytes:
    """Return a picture (BGR) as JPEG, no wider than asked for."""
    import cv2

    if image.shape[1] > width:
        height = max(1, round(image.shape[0] * width / image.shape[1]))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    is_done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not is_done:
        raise RequestError("the picture cannot be written as JPEG", 404)
    return bytes(data)
