"""Clips whose every frame says its number, in blocks that survive H.264."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

# isort: off
import cv2  # noqa: F401 - before PyAV, or windows hang (dgrec.video)
import av

# isort: on
import numpy as np

from dgrec.format import Metadata, Row
from tests.factory import make_row, new_metadata

BITS = 12
BLOCK = 24
WIDTH, HEIGHT = BITS * BLOCK, 6 * BLOCK
#: Where the overlay writes the row's number, in the same way.
OVERLAY_TOP = 4 * BLOCK


def numbered_image(number: int, width: int = WIDTH, height: int = HEIGHT) -> Any:
    """Return a BGR picture: the bits of ``number``, below them the same bits inverted."""
    image = np.zeros((height, width, 3), np.uint8)
    for bit in range(BITS):
        row = 0 if number >> bit & 1 else BLOCK
        image[row : row + BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255
    return image


def number_in(image: Any) -> int:
    """Return the number that the pixels of a clip's frame say."""
    number = _bits(image, 0)
    assert _bits(image, BLOCK) == number ^ (2**BITS - 1), "two frames are mixed in one picture"
    return number


def number_drawn(image: Any) -> int:
    """Return the number that the overlay of `numbered_row` says."""
    return _bits(image, OVERLAY_TOP)


def _bits(image: Any, top: int) -> int:
    number = 0
    for bit in range(BITS):
        block = image[top + 6 : top + BLOCK - 6, bit * BLOCK + 6 : (bit + 1) * BLOCK - 6]
        number |= int(block.mean() > 100) << bit
    return number


def numbered_results(number: int) -> list[dict[str, Any]]:
    """Return boxes that, drawn with lines as thick as they are wide, say ``number``."""
    boxes = []
    for bit in range(BITS):
        if number >> bit & 1:
            left, top = bit * BLOCK + 8.0, OVERLAY_TOP + 8.0
            box = [left, top, left + BLOCK - 16, top + BLOCK - 16]
            boxes.append({"bbox": box, "category_id": 0, "label": "bit", "score": 0.5})
    return boxes


def numbered_row(frame: int, source_frame: int, **overrides: Any) -> Row:
    fields: dict[str, Any] = {"source_frame": source_frame, "width": WIDTH, "height": HEIGHT}
    return make_row(frame, numbered_results(frame), **{**fields, **overrides})


def numbered_metadata(source: dict[str, Any], **overrides: Any) -> Metadata:
    metadata = new_metadata(source=source, **overrides)
    metadata["model"]["result_type"] = "Detection"
    metadata["overlay"] = {
        "color": [255, 255, 255],
        "line_width": 9,
        "show_labels": False,
        "show_probabilities": False,
        "alpha": "auto",
        "blur": None,
        "font_scale": 1.0,
    }
    return metadata


def write_clip(
    path: Path,
    frames: int,
    pts_ms: Sequence[int] | None = None,
    *,
    first: int = 0,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    b_frames: int = 3,
    group: int = 50,
) -> Path:
    """Write an H.264 clip; ``pts_ms`` gives it a variable rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = {"preset": "ultrafast", "crf": "23", "bf": str(b_frames)}
        stream.codec_context.gop_size = group
        for index in range(frames):
            image = numbered_image(first + index, *size)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.time_base = Fraction(1, 1000)
            frame.pts = pts_ms[index] if pts_ms is not None else index * 40
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def file_source(path: Path, session_folder: Path | None = None, **overrides: Any) -> dict[str, Any]:
    """Return what the recorder writes of a file into a session's metadata."""
    source: dict[str, Any] = {
        "given": path.name,
        "kind": "file",
        "path": str(path.absolute()),
        "file": path.name,
        "size": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "width": WIDTH,
        "height": HEIGHT,
        "fps": 25.0,
        "loop": False,
        **overrides,
    }
    if session_folder is not None:
        source["relative"] = Path(os.path.relpath(path, session_folder)).as_posix()
    return source
