"""Pictures of rows as JPEG, decoded here: for videos that a browser cannot play."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import numpy as np

from dgrec.replay.viewing.opened_session import OpenedSession
from dgrec.replay.viewing.parameters import Parameters, RequestError
from dgrec.replay.viewing.workers import Task

#: The columns that `Pixels` needs of a row.
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
#: How many rows back a picture is searched for, and the steps of that search.
_MOST_BEFORE: Final = 300
_STEP: Final = 5


def picture(opened: OpenedSession, parameters: Parameters, task: Task) -> tuple[bytes, int]:
    """Answer ``/api/picture``: the picture of a row without its overlay, and the row's position.

    With ``before``, the newest picture that is found up to so many rows earlier.
    """
    position = parameters.position(opened.count)
    width = parameters.whole("w", _WIDEST, least=16, most=_WIDEST)
    before = parameters.whole("before", 0, least=0, most=_MOST_BEFORE)
    with opened.pixels() as pixels:
        image, found = None, position
        # What a camera showed last is written with its next key frame.
        for step in range(0, before + 1, _STEP):
            task.check()
            found = max(position - step, 0)
            row = opened.row(found, [*_COLUMNS])
            if pixels.footage.path is None:
                raise RequestError(pixels.footage.lacking or "there are no pictures", 404)
            image = pixels.frame(row)
            if image is not None or not found:
                break
        if image is None:
            raise RequestError(pixels.why_missed(), 404)
    task.check()
    return jpeg(image, width), found


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
