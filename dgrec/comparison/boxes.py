"""The boxes of recorded frames as arrays, and how far they overlap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from dgrec import compute as pc
from dgrec.comparison.blocks import Floats, Mask
from dgrec.comparison.samples import UNKNOWN
from dgrec.format import CORNERS
from dgrec.session import Session

#: IoU from which two boxes are the same one, and from which they are related.
SAME_IOU: Final = 0.5
NEAR_IOU: Final = 0.1
_FIELDS: Final = ("label", "score", *CORNERS, "angle")
#: Leaves that show whether there is a mask or key points, without reading these.
_SHAPES: Final = ("mask.width", "landmarks.list.element.category_id")


@dataclass
class FrameBoxes:
    """Detections of one frame: ``boxes`` is (n, 4), the rest (n,); NaN for what is absent."""

    source_frame: int
    position: int
    labels: list[str | None]
    scores: Floats
    boxes: Floats
    #: How many have a box, an angle, and a mask or key points.
    boxed: int
    rotated: int
    shaped: int

    @property
    def is_boxed(self) -> Mask:
        """True for each detection that has a box."""
        lacks_any: Mask = np.any(np.isnan(self.boxes), axis=1)
        return ~lacks_any


def frames_of(session: Session, start: int = 0, stop: int | None = None) -> Iterator[FrameBoxes]:
    """Yield the frames of a session, in order.

    Args:
        start: Position of the first one.
        stop: Position to stop before; None: the end.

    Raises:
        SessionError: Part of a file cannot be read.
    """
    position = start
    for batch in _batches(session, start, stop):
        yield from _of_batch(batch, position)
        position += batch.num_rows


def _batches(session: Session, start: int, stop: int | None) -> Iterator[pa.RecordBatch]:
    """Yield rows with what is compared, if possible without reading masks, which may be large."""
    leaves = (f"detections.list.element.{name}" for name in (*_FIELDS, *_SHAPES))
    yield from session.batches(["source_frame", *leaves], start, stop)


def _of_batch(batch: pa.RecordBatch, position: int) -> Iterator[FrameBoxes]:
    lists = batch.column("detections")
    flat = lists.flatten()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate(([0], np.cumsum(lengths))).tolist()
    labels = pc.struct_field(flat, "label").to_pylist()
    scores, angles, *corners = (
        pc.struct_field(flat, name).to_numpy(zero_copy_only=False).astype(np.float64)
        for name in ("score", "angle", *CORNERS)
    )
    boxes = np.stack(corners, axis=1)
    key_points = pc.fill_null(pc.list_value_length(pc.struct_field(flat, "landmarks")), 0)
    has_shape = pc.or_(pc.is_valid(pc.struct_field(flat, "mask")), pc.greater(key_points, 0))
    counts = [
        _counts(has_it, offsets)
        for has_it in (
            ~np.isnan(boxes).any(axis=1),
            ~np.isnan(angles),
            has_shape.to_numpy(zero_copy_only=False),
        )
    ]
    sources = pc.fill_null(batch.column("source_frame"), UNKNOWN).to_pylist()
    for row, (source_frame, *counted) in enumerate(zip(sources, *counts, strict=True)):
        inside = slice(offsets[row], offsets[row + 1])
        yield FrameBoxes(
            source_frame,
            position + row,
            labels[inside],
            scores[inside],
            boxes[inside],
            *counted,
        )


def _counts(has_it: np.ndarray[Any, Any], offsets: list[int]) -> list[int]:
    """Return how many detections of each frame have something."""
    upto = np.concatenate(([0], np.cumsum(has_it)))
    counts: list[int] = np.diff(upto[offsets]).tolist()
    return counts


def overlaps(a: Floats, b: Floats) -> Floats:
    """Return the IoU of every box of ``a`` (n, 4) with every one of ``b`` (m, 4), as (n, m).

    Both may have the same further dimensions before these, such as frames.
    """
    left_a, top_a, right_a, bottom_a = (a[..., :, None, corner] for corner in range(4))
    left_b, top_b, right_b, bottom_b = (b[..., None, :, corner] for corner in range(4))
    # Boxes may have infinite corners: their IoU is then 0, unless they are the same.
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        inside = _area(
            np.minimum(right_a, right_b) - np.maximum(left_a, left_b),
            np.minimum(bottom_a, bottom_b) - np.maximum(top_a, top_b),
        )
        areas = _area(right_a - left_a, bottom_a - top_a) + _area(
            right_b - left_b, bottom_b - top_b
        )
        overlap = inside / (areas - inside)
    overlap[~np.isfinite(overlap)] = 0.0
    # A box without an area is still the same as itself.
    same = (left_a == left_b) & (top_a == top_b) & (right_a == right_b) & (bottom_a == bottom_b)
    overlap[same] = 1.0
    return overlap


def shares_inside(boxes: Floats, objects: Floats) -> Floats:
    """Return how much of each box (n, 4) is inside of each object (m, 4), as (n, m).

    Not computed from the IoU: its rounding would move shares that are exactly at a threshold.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        first = np.maximum(boxes[:, None, :2], objects[None, :, :2])
        last = np.minimum(boxes[:, None, 2:], objects[None, :, 2:])
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        share: Floats = np.maximum(last - first, 0.0).prod(axis=2) / areas[:, None]
    share[~np.isfinite(share)] = 0.0
    return share


def _area(width: Floats, height: Floats) -> Floats:
    return np.maximum(width, 0.0) * np.maximum(height, 0.0)
