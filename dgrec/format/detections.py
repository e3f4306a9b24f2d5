"""Detections as columns: the nested column ``detections`` of a record batch.

Each column is gathered and its types are checked without a loop in Python
(`dgrec.format.packing`, ``set(map(type, column))``). Only values that do not fit their typed column
are looked at one by one, and go into the JSON column ``extra``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dgrec.format import json_values
from dgrec.format.arrays import (
    NullColumns,
    compact,
    is_utf8,
    nested_array,
    number_array,
    repeated_text,
)
from dgrec.format.masks import MaskMode, is_packable, pack_array
from dgrec.format.packing import pack_boxes, pack_floats, pack_int32
from dgrec.format.schema import DETECTION, LANDMARK, MASK, SCHEMA

_ABSENT: Any = object()
_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
#: The fields of ``bbox``, in its order.
CORNERS = ("x_min", "y_min", "x_max", "y_max")
_LANDMARK_KEYS = frozenset({"label", "category_id", "score", "landmark", "connect"})
_TYPED_KEYS = frozenset(
    {"label", "category_id", "score", "bbox", "angle", "track_id", "landmarks", "mask", "data"}
)
_FIELD_NAMES = [field.name for field in DETECTION]
_NULLS = NullColumns(DETECTION)
_DETECTION_LIST = SCHEMA.field("detections").type
_LANDMARK_LIST = pa.list_(LANDMARK)


#: Per detection, the keys that the typed columns cannot give back, and their values.
_Extras = defaultdict[int, dict[str, Any]]


class _Detections:
    """All detections of a batch, one after the other, and access to them by key."""

    def __init__(self, detections: list[Any]) -> None:
        self.detections = detections
        #: Kept entirely as JSON: anything but a dictionary with plain names.
        self.whole: dict[int, Any] = {}
        if set(map(type, detections)) - {dict}:
            # Other kinds of dictionary (OrderedDict) are kept as plain ones.
            detections[:] = [
                dict.copy(each) if isinstance(each, dict) else each for each in detections
            ]
            self._set_aside(lambda value: type(value) is not dict)
        #: The different orders of keys, hardly ever more than one or two.
        self.orders = _orders(detections)
        if not all(map(_is_plain_name, chain.from_iterable(self.orders))):
            self._set_aside(lambda value: not all(map(_is_plain_name, value)))
            self.orders = _orders(detections)
        self.names: set[str] = set(chain.from_iterable(self.orders))
        self._flat: list[Any] | None = None
        if len(self.orders) == 1:
            self._order = next(iter(self.orders))
            self._flat = list(chain.from_iterable(map(dict.values, detections)))

    def __len__(self) -> int:
        return len(self.detections)

    def _set_aside(self, is_odd: Callable[[Any], bool]) -> None:
        for index, value in enumerate(self.detections):
            if index not in self.whole and is_odd(value):
                self.whole[index], self.detections[index] = value, {}

    def gather(self, key: str) -> list[Any]:
        """Return the value of ``key`` in each detection, or `_ABSENT`."""
        if self._flat is None or key not in self.names:
            return [detection.get(key, _ABSENT) for detection in self.detections]
        return self._flat[self._order.index(key) :: len(self._order)]


def _orders(detections: list[dict[Any, Any]]) -> set[tuple[Any, ...]]:
    """Return the different orders of keys."""
    if not detections:
        return set()
    first = list(detections[0])
    # One comparison where all are alike. It cannot be deceived: names do not repeat within a
    # dictionary.
    if list(chain.from_iterable(detections)) == first * len(detections):
        return {tuple(first)}
    return set(map(tuple, detections))


def _is_plain_name(name: Any) -> bool:
    # "$" marks dgrec's own keys in the JSON column.
    return type(name) is str and not name.startswith("$")


def is_kept_whole(detection: Any) -> bool:
    """Return whether SQL sees nothing of a detection: it is kept entirely as JSON."""
    return not isinstance(detection, dict) or not all(map(_is_plain_name, detection))


def detections_column(
    results: Sequence[list[Any]], masks: MaskMode, losses: json_values.Losses | None = None
) -> pa.Array:
    """Return the detections of frames as a column of `SCHEMA`: a list of structs for each frame.

    Args:
        losses: Gets what cannot be kept.
    """
    offsets = np.array([0, *accumulate(map(len, results))], np.int32)
    found = _Detections(list(chain.from_iterable(results)))
    names, size, gather = found.names, len(found), found.gather
    extras: _Extras = defaultdict(dict)
    columns: dict[str, pa.Array] = {}
    for key, scalar in _SCALARS.items():
        if key in names:
            columns[key] = _scalar_column(gather(key), key, scalar, extras)
    if "bbox" in names:
        columns.update(_bbox_columns(gather("bbox"), extras))
    landmark_keys: dict[int, tuple[str, ...]] = {}
    if "landmarks" in names:
        columns["landmarks"] = _landmarks_column(gather("landmarks"), extras, landmark_keys)
    if names & {"mask", "data"}:
        columns["mask"] = _mask_column(gather("mask"), gather("data"), masks, extras)
    for key in names - _TYPED_KEYS:
        for index, value in enumerate(gather(key)):
            if value is not _ABSENT:
                extras[index][key] = value
    _note_label_hashes(found, extras)
    columns["keys"] = _keys_column(found, landmark_keys)
    if extras or found.whole:
        columns["extra"] = _extra_column(size, extras, found.whole, losses)
    fields = [columns[name] if name in columns else _NULLS.get(name, size) for name in _FIELD_NAMES]
    structs = nested_array(DETECTION, size, fields)
    return nested_array(_DETECTION_LIST, len(results), [structs], offsets)


class _Scalar(NamedTuple):
    """The values that a field of a detection can hold."""

    type: pa.DataType
    accepted: type
    fits: Callable[[Any], bool]
    pack: Callable[[list[Any]], np.ndarray[Any, Any] | None] = lambda _: None


_SCALARS = {
    "label": _Scalar(pa.string(), str, lambda v: v.isascii() or is_utf8(v)),
    "category_id": _Scalar(pa.int32(), int, _INT32.__contains__, pack_int32),
    "score": _Scalar(pa.float64(), float, lambda v: True, pack_floats),
    "angle": _Scalar(pa.float64(), float, lambda v: True, pack_floats),
    "track_id": _Scalar(pa.int64(), int, _INT64.__contains__),
}


def _scalar_column(values: list[Any], key: str, scalar: _Scalar, extras: _Extras) -> pa.Array:
    pa_type, accepted, fits, pack = scalar
    packed = pack(values)
    if packed is not None:
        return number_array(packed, pa_type)
    if set(map(type, values)) == {accepted}:
        try:
            return pa.array(values, pa_type)
        except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
            pass  # a value is out of range or has lone surrogates
    for index, value in enumerate(values):
        if value is _ABSENT:
            values[index] = None
        elif type(value) is not accepted or not fits(value):
            extras[index][key] = value
            values[index] = _nearest(value, accepted, fits)
    return pa.array(values, pa_type)


def _nearest(value: Any, accepted: type, fits: Callable[[Any], bool]) -> Any:
    """Return what SQL sees of a value that is in ``extra``, or None."""
    if value is None or (accepted is str and not isinstance(value, str)):
        return None
    try:
        converted = accepted(value)
    except Exception:  # the value may be of any class, with conversions of its own
        return None
    return converted if fits(converted) else None


def _bbox_columns(values: list[Any], extras: _Extras) -> dict[str, pa.Array]:
    corners = pack_boxes(values)
    if corners is not None:
        return {name: number_array(corners[i], pa.float64()) for i, name in enumerate(CORNERS)}
    boxes: list[Sequence[float | None]] = []
    for index, value in enumerate(values):
        if type(value) is list and len(value) == 4 and set(map(type, value)) == {float}:
            boxes.append(value)
            continue
        if value is not _ABSENT:
            extras[index]["bbox"] = value
        boxes.append(_nearest_box(value))
    columns = enumerate(CORNERS)
    return {name: pa.array([box[i] for box in boxes], pa.float64()) for i, name in columns}


def _nearest_box(value: Any) -> Sequence[float | None]:
    """Return what SQL sees of a box that is in ``extra``."""
    try:
        numbers = [float(item) for item in value]
    except Exception:  # the value may be anything
        numbers = []
    return numbers if len(numbers) == 4 else (None,) * 4


def _landmarks_column(
    values: list[Any], extras: _Extras, landmark_keys: dict[int, tuple[str, ...]]
) -> pa.Array:
    """Return the column; add the order of keys of each detection's points to ``landmark_keys``."""
    plain: list[list[dict[str, Any]] | None] = []
    for index, value in enumerate(values):
        if value is _ABSENT:
            plain.append(None)
        elif _is_plain_landmarks(value):
            plain.append(value)
            landmark_keys[index] = tuple(value[0]) if value else ()
        else:
            plain.append(None)
            extras[index]["landmarks"] = value
    flat: list[dict[str, Any]] = [point for points in plain if points for point in points]

    def child(key: str, pa_type: pa.DataType) -> pa.Array:
        return pa.array([point.get(key) for point in flat], pa_type)

    struct = pa.StructArray.from_arrays(
        [child(f.name, f.type) for f in LANDMARK], fields=list(LANDMARK)
    )
    offsets = np.array([0, *accumulate(len(points or ()) for points in plain)], np.int32)
    missing = pa.array([points is None for points in plain], pa.bool_())
    return pa.ListArray.from_arrays(offsets, struct, type=_LANDMARK_LIST, mask=missing)


_LANDMARK_CHECKS: dict[str, Callable[[Any], bool]] = {
    "label": lambda v: type(v) is str and is_utf8(v),
    "category_id": lambda v: type(v) is int and v in _INT32,
    "score": lambda v: type(v) is float,
    "landmark": lambda v: type(v) is list and set(map(type, v)) <= {float},
    "connect": lambda v: (
        type(v) is list and set(map(type, v)) <= {int} and all(i in _INT32 for i in v)
    ),
}


def _is_plain_landmarks(value: Any) -> bool:
    if type(value) is not list or set(map(type, value)) - {dict}:
        return False
    orders = set(map(tuple, value))
    if len(orders) > 1 or not _LANDMARK_KEYS.issuperset(chain.from_iterable(orders)):
        return False
    return all(_LANDMARK_CHECKS[key](item) for point in value for key, item in point.items())


def _mask_column(masks: list[Any], maps: list[Any], mode: MaskMode, extras: _Extras) -> pa.Array:
    """Return the column that instance masks (``mask``) and class maps (``data``) share."""
    column: list[dict[str, Any] | None] = []
    for index, (mask, class_map) in enumerate(zip(masks, maps, strict=True)):
        packed = None
        if mask is not _ABSENT:
            if _is_plain_mask(mask):
                packed = {**pack_array(mask["data"], mode), **_mask_origin(mask)}
            else:
                extras[index]["mask"] = mask
        if class_map is not _ABSENT:
            if packed is None and is_packable(class_map):
                packed = pack_array(class_map, "exact")
            else:
                extras[index]["data"] = class_map
        column.append(packed)
    return pa.array(column, MASK)


def _mask_origin(mask: dict[str, Any]) -> dict[str, int]:
    return {"x_min": mask["x_min"], "y_min": mask["y_min"]}


def _is_plain_mask(value: Any) -> bool:
    return (
        type(value) is dict
        and tuple(value) == ("x_min", "y_min", "data")
        and type(value["x_min"]) is int
        and type(value["y_min"]) is int
        and value["x_min"] in _INT32
        and value["y_min"] in _INT32
        and is_packable(value["data"])
    )


def _note_label_hashes(found: _Detections, extras: _Extras) -> None:
    """Keep ``hash(label)`` of a label without an id: PySDK derives the overlay colour from it.

    Python salts the hash of strings in each process, so it cannot be computed again.
    """
    if any("label" in order and "category_id" not in order for order in found.orders):
        for index, detection in enumerate(found.detections):
            if "category_id" not in detection and isinstance(detection.get("label"), str):
                extras[index]["$hash"] = hash(detection["label"])


def _keys_column(found: _Detections, landmark_keys: dict[int, tuple[str, ...]]) -> pa.Array:
    """Return each detection's keys in order, as JSON; null for one that is kept as a whole."""
    if len(found.orders) == 1 and not landmark_keys and not found.whole:
        (order,) = found.orders
        return repeated_text(_keys_text(order, None), len(found))
    column = [
        None if index in found.whole else _keys_text(tuple(detection), landmark_keys.get(index))
        for index, detection in enumerate(found.detections)
    ]
    return pa.array(column, pa.string())


@lru_cache(maxsize=64)
def _keys_text(order: tuple[str, ...], points: tuple[str, ...] | None) -> str:
    return compact(
        [
            ["landmarks", *points] if key == "landmarks" and points is not None else key
            for key in order
        ]
    )


def _extra_column(
    size: int, extras: _Extras, whole: dict[int, Any], losses: json_values.Losses | None
) -> pa.Array:
    texts: list[str | None] = [None] * size
    for index, values in extras.items():
        texts[index] = compact(
            {key: json_values.encode(v, key, losses) for key, v in values.items()}
        )
    for index, value in whole.items():
        texts[index] = compact({"$value": json_values.encode(value, "results", losses)})
    return pa.array(texts, pa.string())
