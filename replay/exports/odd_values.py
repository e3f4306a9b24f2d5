"""Values that only the JSON column ``extra`` holds exactly, back in the columns of their kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dgrec.format import DETECTION, Allowance, DecodeError, parse_json

#: Fields whose nearest values the typed columns have.
_TYPED = frozenset({"bbox", "label", "category_id", "score", "angle", "track_id", "$hash"})
_NO_POINT: dict[str, Any] = {
    "label": None,
    "category_id": None,
    "score": None,
    "landmark": [],
    "connect": None,
}
_INT32 = range(-(2**31), 2**31)


def with_odd_values(
    found: pa.StructArray, row_of: Sequence[int], *, keeps_extra: bool
) -> pa.StructArray:
    """Return detections with all key points in ``landmarks``, and the rest in ``extra``.

    PySDK's key points at the edge of a picture are whole numbers, which the typed columns do not
    have. ``extra`` keeps what has no column: what analyzers and programs added.

    Args:
        found: The detections.
        row_of: The row of each.
        keeps_extra: Whether ``extra`` is exported; otherwise it only says where there is some.

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
    row, allowance = -1, Allowance()
    for index, text in enumerate(extra.to_pylist()):
        if text is None:
            continue
        if row_of[index] != row:
            row, allowance = row_of[index], Allowance()
        values = parse_json(text, allowance)
        if not isinstance(values, dict):
            raise DecodeError("'extra' is not a JSON object")
        if not has_points[index]:
            plain = _plain_points(values.get("landmarks"))
            if plain is not None:
                points[index] = plain
                del values["landmarks"]
        kept = {name: value for name, value in values.items() if name not in _TYPED}
        if kept:
            rest[index] = json.dumps(kept) if keeps_extra else ""
    return _replaced(
        found,
        {
            "landmarks": pa.array(points, DETECTION.field("landmarks").type),
            "extra": pa.array(rest, pa.string()),
        },
    )


def _replaced(found: pa.StructArray, columns: dict[str, pa.Array]) -> pa.StructArray:
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
        if not isinstance(place, list) or not all(_is_number(number) for number in place):
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
