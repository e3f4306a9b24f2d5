"""Puts values that only the JSON column ``extra`` holds exactly back in their typed columns."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.format import DETECTION, Allowance, DecodeError, parse_json
from dgrec.replay.exports.losses import Losses

#: Fields whose nearest values the typed columns have.
_TYPED = frozenset({"bbox", "label", "category_id", "score", "angle", "track_id", "$hash"})
#: For fields whose columns have no nearest value: the column, and the loss that is counted.
_OF_OTHER_KIND = {
    "label": ("label", "labels that are not text"),
    "category_id": ("category_id", "category ids that are not 32-bit numbers"),
    "score": ("score", "scores that are not numbers"),
    "angle": ("angle", "angles that are not numbers"),
    "track_id": ("track_id", "track ids that are not whole numbers"),
    "bbox": ("x_min", "boxes that are not four numbers"),
}
_NO_POINT: dict[str, Any] = {
    "label": None,
    "category_id": None,
    "score": None,
    "landmark": [],
    "connect": None,
}
_INT32 = range(-(2**31), 2**31)


def with_odd_values(
    found: pa.StructArray,
    row_of: Sequence[int],
    *,
    keeps_extra: bool,
    held: Collection[str],
    losses: Losses,
) -> pa.StructArray:
    """Return detections with all key points in ``landmarks``, and the rest in ``extra``.

    PySDK's key points at the edge of a picture are whole numbers, which the typed columns do not
    have. ``extra`` keeps what has no column: what analyzers and programs added.

    Args:
        found: The detections.
        row_of: The row of each.
        keeps_extra: Whether ``extra`` is exported; otherwise it only says where there is some.
        held: The parts of a detection that the format holds.
        losses: Counts the values that are not of the kind of their column.

    Raises:
        DecodeError: ``extra`` is not JSON, or holds too much.
    """
    extra, landmarks = (pc.struct_field(found, name) for name in ("extra", "landmarks"))
    if extra.null_count == len(extra) and not landmarks.flatten().null_count:
        return found
    has_points = landmarks.is_valid().to_pylist()
    points: list[Any] = [
        each and [_NO_POINT if point is None else point for point in each]
        for each in landmarks.to_pylist()
    ]
    rest: list[str | None] = [None] * len(extra)
    held = {*held, "category_id"} if "label" in held else held
    counted = {name for name in _OF_OTHER_KIND if name in held}
    row, allowance = -1, Allowance()
    for index, text in enumerate(extra.to_pylist()):
        if text is None:
            continue
        if row_of[index] != row:
            row, allowance = row_of[index], Allowance()
        values = parse_json(text, allowance)
        if not isinstance(values, dict):
            raise DecodeError("'extra' is not a JSON object")
        for name in counted & values.keys():
            column, what = _OF_OTHER_KIND[name]
            if values[name] is not None and not pc.struct_field(found, column)[index].is_valid:
                losses.add(f"left out {what}")
        if not has_points[index]:
            plain = _plain_points(values.get("landmarks"))
            if plain is not None:
                points[index] = plain
                del values["landmarks"]
        kept = {name: value for name, value in values.items() if name not in _TYPED}
        if kept:
            rest[index] = json.dumps(kept) if keeps_extra else ""
    return replaced(
        found,
        {
            "landmarks": pa.array(points, DETECTION.field("landmarks").type),
            "extra": pa.array(rest, pa.string()),
        },
    )


def finite(found: pa.StructArray, held: Collection[str], losses: Losses) -> pa.StructArray:
    """Return detections whose scores, angles and key points are finite; the others are counted.

    JSON has no others, and readers take them for damage.

    Args:
        held: The parts of a detection that the format holds.
    """
    columns: dict[str, pa.Array] = {}
    for name in ("score", "angle"):
        column = pc.struct_field(found, name)
        is_odd = pc.invert(pc.fill_null(pc.is_finite(column), True))
        if count := pc.sum(is_odd).as_py():
            columns[name] = pc.if_else(is_odd, pa.scalar(None, column.type), column)
            losses.add(f"left out {name}s that are not finite", count if name in held else 0)
    landmarks = pc.struct_field(found, "landmarks")
    places = pc.struct_field(landmarks.flatten(), "landmark").flatten()
    scores = pc.struct_field(landmarks.flatten(), "score")
    if not all(pc.all(pc.is_finite(each)).as_py() is not False for each in (places, scores)):
        count = 0
        points = landmarks.to_pylist()
        for point in (point for each in points for point in each or ()):
            if not np.isfinite(point["landmark"] or ()).all():
                point["landmark"] = []
                count += 1
            if point["score"] is not None and not math.isfinite(point["score"]):
                point["score"] = None
        columns["landmarks"] = pa.array(points, DETECTION.field("landmarks").type)
        if "landmarks" in held:
            losses.add("left out places of key points that are not finite", count, "point")
    return replaced(found, columns) if columns else found


def replaced(found: pa.StructArray, columns: dict[str, pa.Array]) -> pa.StructArray:
    """Return detections with some of their fields replaced."""
    names = [field.name for field in found.type]
    arrays = [columns[name] if name in columns else pc.struct_field(found, name) for name in names]
    return pa.StructArray.from_arrays(arrays, names)


def _plain_points(value: Any) -> list[dict[str, Any]] | None:
    """Return key points as the column has them; None if they are something else."""
    if not isinstance(value, list):
        return None
    points = []
    for point in value:
        if not isinstance(point, dict):
            return None
        place = point.get("landmark")
        if not isinstance(place, list):
            return None
        # NaN and the infinities are objects in JSON.
        place = [math.nan if isinstance(n, dict) and "$float" in n else n for n in place]
        if not all(_is_number(number) for number in place):
            return None
        label, score, connect = point.get("label"), point.get("score"), point.get("connect")
        category = point.get("category_id")
        points.append(
            {
                "label": label if isinstance(label, str) else None,
                "category_id": category if _is_int32(category) else None,
                "score": None if score is None or not _is_number(score) else float(score),
                "landmark": [float(number) for number in place],
                "connect": connect
                if isinstance(connect, list) and all(map(_is_int32, connect))
                else None,
            }
        )
    return points


def _is_int32(value: Any) -> bool:
    return type(value) is int and value in _INT32


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)
