"""Results to rows: what `predict_stream` yielded, as Arrow record batches.

Nothing is lost on the way: `dgrec.restore` turns a row back into results, timing and attributes
that are equal to the originals in keys, their order, values and types.

Rows are converted many at a time and column by column. Each column is gathered in one C-level
pass and checked in another (`dgrec.packing`, ``set(map(type, column))``); only values that do not
fit their typed column take the slow path into the JSON column ``extra``. That is what keeps
recording at a few microseconds a frame without giving up a single odd value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa

from dgrec import exact
from dgrec.masks import MaskMode, is_packable, pack_array
from dgrec.packing import pack_boxes, pack_floats, pack_int32
from dgrec.schema import DETECTION, LANDMARK, MASK, SCHEMA, STAGE_KEYS

__all__ = ["BBOX", "Row", "build_batch"]

_ABSENT: Any = object()
_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
#: Fields that `bbox` becomes, in its order.
BBOX = ("x_min", "y_min", "x_max", "y_max")
_LANDMARK_KEYS = frozenset({"label", "category_id", "score", "landmark", "connect"})
_TYPED_KEYS = frozenset(
    {"label", "category_id", "score", "bbox", "angle", "track_id", "landmarks", "mask", "data"}
)
_TYPES = [(column.name, column.type) for column in SCHEMA]
_DETECTION_FIELDS = list(DETECTION)
_DETECTION_LIST = SCHEMA.field("detections").type
_UTC = SCHEMA.field("captured_at").type
_LANDMARK_LIST = pa.list_(LANDMARK)
#: Integers up to here have a double of their own.
_EXACT_IN_DOUBLE = 2**53


@dataclass(slots=True)
class Row:
    """One inferred frame on its way into a session.

    Times are nanoseconds of the session's clock: UTC that only ever runs forward
    (`dgrec.clock.Clock`). ``results``, ``timing``, ``attributes`` and ``info`` are the objects
    that PySDK yielded, untouched; the pixels are not held.
    """

    source_frame: int
    media_time_s: float | None
    captured_ns: int
    completed_ns: int
    read_ns: int
    recorder_ns: int
    width: int
    height: int
    results: Any
    timing: Mapping[str, Any]
    #: What analyzers added, or that as `exact.dumps` writes it.
    attributes: Mapping[str, Any] | str | None = None
    info: Any = ""
    #: Model-to-image conversion, sampled as PySDK's semantic overlay does; else None.
    conversion: tuple[float, float, float, float] | None = None
    skipped_before: int = 0
    dropped_camera: int = 0
    dropped_queue: int = 0
    dropped_writer: int = 0
    video_frame: int | None = None
    video_state: str | None = None
    #: Which piece of the recording it goes to, for the recorder's threads to agree; not recorded.
    segment: Any = None


_COPIED_NAMES = (
    "source_frame",
    "media_time_s",
    "skipped_before",
    "width",
    "height",
    "video_frame",
    "video_state",
    "dropped_camera",
    "dropped_queue",
    "dropped_writer",
)
_OBJECT_NAMES = ("results", "timing", "attributes", "info", "conversion")
_NANOSECOND_NAMES = ("captured_ns", "completed_ns", "read_ns", "recorder_ns")
_NAMES = (*_COPIED_NAMES, *_OBJECT_NAMES, *_NANOSECOND_NAMES)
_FIELDS = attrgetter(*_NAMES)


def build_batch(rows: Sequence[Row], first_frame: int, masks: MaskMode = "exact") -> pa.RecordBatch:
    """Return ``rows`` as one record batch of `SCHEMA`, numbered from ``first_frame``."""
    if not rows:
        return pa.RecordBatch.from_pylist([], schema=SCHEMA)
    fields = dict(zip(_NAMES, zip(*map(_FIELDS, rows), strict=True), strict=True))
    results, restores = _results_column(rows, fields)
    captured, completed, read, recorder = (
        np.array(fields[name], np.int64) for name in _NANOSECOND_NAMES
    )
    durations = _milliseconds(np.stack([read, completed - captured, recorder]))
    dropped = [fields[name] for name in ("dropped_camera", "dropped_queue", "dropped_writer")]
    stages, timing, timing_notes = _timing_columns(fields["timing"])
    for index, note in timing_notes.items():
        restores[index] = {**(restores[index] or {}), **note}
    columns = {
        **{name: fields[name] for name in _COPIED_NAMES},
        **stages,
        "frame": _numbers(np.arange(first_frame, first_frame + len(rows)), pa.int64()),
        "captured_at": _numbers(captured // 1000, _UTC),
        "completed_at": _numbers(completed // 1000, _UTC),
        "read_ms": _numbers(durations[0], pa.float64()),
        "latency_ms": _numbers(durations[1], pa.float64()),
        "recorder_ms": _numbers(durations[2], pa.float64()),
        "timing": timing,
        "dropped_before": _numbers(np.array(dropped, np.int32).sum(0, np.int32), pa.int32()),
        "detections": _detections_column(results, masks),
        "attributes": [_attributes_text(item) if item else None for item in fields["attributes"]],
        "restore": [_compact(note) if note else None for note in restores],
    }
    return pa.record_batch(
        [
            column if isinstance(column, pa.Array) else _column(name, column, type_)
            for name, column, type_ in ((name, columns[name], type_) for name, type_ in _TYPES)
        ],
        schema=SCHEMA,
    )


def _column(name: str, values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    # Sizes, drop counts and the columns for the odd case hardly ever change within a batch.
    first = values[0]
    # What is kept in memory for the next batch must be small.
    is_small = type(first) in (int, type(None)) or (type(first) is str and len(first) < 100)
    if is_small and len(values) > 1 and len(set(values)) == 1:
        return _constant(name, first, len(values))
    return pa.array(values, type_)


@lru_cache(maxsize=128)
def _constant(name: str, value: Any, size: int) -> pa.Array:
    return pa.array([value] * size, SCHEMA.field(name).type)


def _numbers(values: np.ndarray[Any, Any], type_: pa.DataType) -> pa.Array:
    """Return numbers as a column: the same bytes, without the search for nulls or a cast."""
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(type_, len(values), [None, buffer])


def _milliseconds(nanoseconds: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return durations in milliseconds, rounded to 1/4096 ms.

    A quarter of a microsecond is finer than a clock reading in Python; rounding to a power of two
    (rather than to decimals) leaves most bytes of the double zero, so that the three durations
    that dgrec measures itself cost 3 bytes each in the sealed file instead of 8.
    """
    return np.asarray(np.rint(np.asarray(nanoseconds, np.float64) * (4096 / 1e6)) / 4096)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _attributes_text(attributes: Mapping[str, Any] | str) -> str:
    return attributes if isinstance(attributes, str) else exact.dumps(dict(attributes))


def _results_column(
    rows: Sequence[Row], fields: Mapping[str, Sequence[Any]]
) -> tuple[Sequence[list[Any]], list[dict[str, Any] | None]]:
    """Return (each frame's detections, what only the JSON column can hold of it or None)."""
    results: Sequence[Any] = fields["results"]
    infos = fields["info"]
    is_plain = (
        set(map(type, results)) == {list}
        and set(map(type, infos)) == {str}
        and not any(infos)
        and set(fields["conversion"]) == {None}
    )
    if is_plain:  # one look at all of them is much quicker than one at each
        return results, [None] * len(rows)
    lists = [item if type(item) is list else [] for item in results]
    return lists, list(map(_frame_restore, rows))


def _frame_restore(row: Row) -> dict[str, Any] | None:
    """Return what only the JSON column can hold of a frame, or None if there is nothing."""
    note: dict[str, Any] = {}
    if type(row.results) is not list:
        note["results"] = exact.dumps(row.results)
    if type(row.info) is not str or row.info:
        note["info"] = exact.dumps(row.info)
    if row.conversion is not None:
        note["conversion"] = list(row.conversion)
    return note or None


def _timing_columns(
    timings: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], pa.Array, dict[int, dict[str, Any]]]:
    """Return (stage columns, the map column, notes on values that are no floats)."""
    uniform = _uniform_timing(timings)
    if uniform is not None:
        return uniform
    stages: dict[str, list[float | None]] = {name: [] for name in STAGE_KEYS}
    notes: dict[int, dict[str, Any]] = {}
    keys: list[str] = []
    values: list[float] = []
    offsets = [0]
    for index, timing in enumerate(timings):
        numbers = {k: v for k, v in timing.items() if _is_number(k, v)}
        for name, names in STAGE_KEYS.items():
            stages[name].append(next((float(numbers[k]) for k in names if k in numbers), None))
        if len(numbers) < len(timing) or type(timing) is not dict:
            # JSON has all of it; the map column what SQL can use.
            notes[index] = {"timing": exact.dumps(dict(timing))}
        elif integers := [key for key, value in numbers.items() if type(value) is int]:
            notes[index] = {"timing_int": integers}
        keys += numbers
        values += map(float, numbers.values())
        offsets.append(len(keys))
    return stages, _map_array(offsets, keys, np.array(values, np.float64)), notes


def _uniform_timing(
    timings: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], pa.Array, dict[int, dict[str, Any]]] | None:
    """Return what `_timing_columns` does if all are alike, as they are in practice, else None."""
    if set(map(type, timings)) != {dict}:
        return None
    orders = set(map(tuple, timings))
    if len(orders) > 1:
        return None
    keys: tuple[Any, ...] = orders.pop()
    values = list(chain.from_iterable(timing.values() for timing in timings))
    if set(map(type, keys)) - {str} or set(map(type, values)) - {float, int}:
        return None
    if not all(map(_is_utf8, keys)):
        return None
    columns = {key: values[index :: len(keys)] for index, key in enumerate(keys)}
    integers = []
    for key, column in columns.items():
        kinds = set(map(type, column))
        if kinds == {int} and max(map(abs, column)) <= _EXACT_IN_DOUBLE:
            integers.append(key)
        elif kinds != {float}:
            return None
    numbers = np.array(values, np.float64)
    size = len(timings)
    stages = {}
    for name, names in STAGE_KEYS.items():
        found = next((key for key in names if key in columns), None)
        stages[name] = (
            pa.nulls(size, pa.float64())
            if found is None
            else _numbers(numbers[keys.index(found) :: len(keys)], pa.float64())
        )
    offsets = np.arange(0, size * len(keys) + 1, len(keys)) if keys else np.zeros(size + 1)
    notes = {index: {"timing_int": integers} for index in range(size)} if integers else {}
    return stages, _map_array(offsets, keys * size, numbers), notes


def _map_array(
    offsets: Any, keys: Sequence[str], values: np.ndarray[Any, np.dtype[np.float64]]
) -> pa.Array:
    return pa.MapArray.from_arrays(
        _numbers(np.asarray(offsets, np.int32), pa.int32()),
        pa.array(keys, pa.string()),
        _numbers(values, pa.float64()),
    )


def _is_number(key: Any, value: Any) -> bool:
    """Return whether the map column gives this item back (but for the type of an integer)."""
    return (
        type(key) is str
        and (type(value) is float or (type(value) is int and abs(value) <= _EXACT_IN_DOUBLE))
        and _is_utf8(key)
    )


class _Extras:
    """Collects, per detection, the keys that the typed columns cannot give back."""

    def __init__(self) -> None:
        self.by_index: dict[int, dict[str, Any]] = {}

    def add(self, index: int, key: str, value: Any) -> None:
        self.by_index.setdefault(index, {})[key] = value


class _Detections:
    """All detections of a batch, one after the other, and access to them by key."""

    def __init__(self, detections: list[Any]) -> None:
        self.detections = detections
        #: What is no dictionary with plain names, and is therefore kept as JSON altogether.
        self.whole: dict[int, Any] = {}
        if set(map(type, detections)) - {dict}:
            self._set_aside(lambda value: type(value) is not dict)
        #: The different key orders: hardly ever more than one or two.
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
        """Return the value of ``key`` in each detection, `_ABSENT` where there is none."""
        if self._flat is None:
            return [detection.get(key, _ABSENT) for detection in self.detections]
        return self._flat[self._order.index(key) :: len(self._order)]


def _orders(detections: list[dict[Any, Any]]) -> set[tuple[Any, ...]]:
    """Return the different key orders: one comparison of all keys where they are all alike."""
    if not detections:
        return set()
    first = list(detections[0])
    # Names do not repeat within a dictionary, so none can hold more than all of them: if all
    # names in a row are those of the first over and over, each has the same in the same order.
    if list(chain.from_iterable(detections)) == first * len(detections):
        return {tuple(first)}
    return set(map(tuple, detections))


def _is_plain_name(name: Any) -> bool:
    # "$" is what marks dgrec's own keys in the JSON column.
    return type(name) is str and not name.startswith("$")


def _detections_column(results: Sequence[list[Any]], masks: MaskMode) -> pa.Array:
    offsets = np.zeros(len(results) + 1, np.int32)
    np.cumsum(list(map(len, results)), out=offsets[1:])
    found = _Detections(list(chain.from_iterable(results)))
    names, size, gather = found.names, len(found), found.gather
    extras = _Extras()
    columns: dict[str, pa.Array] = {}
    for key, pa_type, accepted, fits in _SCALARS:
        columns[key] = (
            _scalar_column(gather(key), key, pa_type, accepted, fits, extras)
            if key in names
            else pa.nulls(size, pa_type)
        )
    columns.update(
        _bbox_columns(gather("bbox"), extras)
        if "bbox" in names
        else {name: pa.nulls(size, pa.float64()) for name in BBOX}
    )
    landmark_keys: dict[int, tuple[str, ...]] = {}
    columns["landmarks"] = (
        _landmarks_column(gather("landmarks"), extras, landmark_keys)
        if "landmarks" in names
        else pa.nulls(size, _LANDMARK_LIST)
    )
    columns["mask"] = (
        _mask_column(
            gather("mask") if "mask" in names else [_ABSENT] * size,
            gather("data") if "data" in names else [_ABSENT] * size,
            masks,
            extras,
        )
        if names & {"mask", "data"}
        else pa.nulls(size, MASK)
    )
    for key in names - _TYPED_KEYS:
        for index, value in enumerate(gather(key)):
            if value is not _ABSENT:
                extras.add(index, key, value)
    _note_label_hashes(found, extras)
    columns["keys"] = _keys_column(found, landmark_keys)
    columns["extra"] = _extra_column(size, extras, found.whole)
    struct = pa.StructArray.from_arrays(
        [columns[f.name] for f in _DETECTION_FIELDS], fields=_DETECTION_FIELDS
    )
    return pa.ListArray.from_arrays(_numbers(offsets, pa.int32()), struct, type=_DETECTION_LIST)


_SCALARS: tuple[tuple[str, pa.DataType, type, Callable[[Any], bool]], ...] = (
    ("label", pa.string(), str, lambda v: v.isascii() or _is_utf8(v)),
    ("category_id", pa.int32(), int, _INT32.__contains__),
    ("score", pa.float64(), float, lambda v: True),
    ("angle", pa.float64(), float, lambda v: True),
    ("track_id", pa.int64(), int, _INT64.__contains__),
)

_PACKERS: dict[pa.DataType, Callable[[list[Any]], np.ndarray[Any, Any] | None]] = {
    pa.float64(): pack_floats,
    pa.int32(): pack_int32,
}


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scalar_column(
    values: list[Any],
    key: str,
    pa_type: pa.DataType,
    accepted: type,
    fits: Callable[[Any], bool],
    extras: _Extras,
) -> pa.Array:
    packed = _PACKERS[pa_type](values) if pa_type in _PACKERS else None
    if packed is not None:
        return _numbers(packed, pa_type)
    if set(map(type, values)) == {accepted}:
        try:
            return pa.array(values, pa_type)
        except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
            pass  # out of range, or not encodable: sort out which below
    for index, value in enumerate(values):
        if value is _ABSENT:
            values[index] = None
        elif type(value) is not accepted or not fits(value):
            extras.add(index, key, value)
            values[index] = _nearest(value, accepted, fits)
    return pa.array(values, pa_type)


def _nearest(value: Any, accepted: type, fits: Callable[[Any], bool]) -> Any:
    """Return what SQL should see of a value whose exact form is in ``extra``, or None."""
    if value is None or (accepted is str and not isinstance(value, str)):
        return None
    try:
        converted = accepted(value)
    except Exception:  # the value may be anything, with conversions of its own
        return None
    return converted if fits(converted) else None


def _bbox_columns(values: list[Any], extras: _Extras) -> dict[str, pa.Array]:
    corners = pack_boxes(values)
    if corners is not None:
        return {name: _numbers(corners[i], pa.float64()) for i, name in enumerate(BBOX)}
    boxes: list[Sequence[float | None]] = []
    for index, value in enumerate(values):
        if type(value) is list and len(value) == 4 and set(map(type, value)) == {float}:
            boxes.append(value)
            continue
        if value is not _ABSENT:
            extras.add(index, "bbox", value)
        boxes.append(_nearest_box(value))
    return {name: pa.array([box[i] for box in boxes], pa.float64()) for i, name in enumerate(BBOX)}


def _nearest_box(value: Any) -> Sequence[float | None]:
    """Return what SQL should see of a box whose exact form is in ``extra``."""
    try:
        numbers = [float(item) for item in value]
    except Exception:  # the value may be anything
        numbers = []
    return numbers if len(numbers) == 4 else (None,) * 4


def _landmarks_column(
    values: list[Any], extras: _Extras, landmark_keys: dict[int, tuple[str, ...]]
) -> pa.Array:
    """Fill ``landmark_keys`` with the key order of each detection's landmarks."""
    plain: list[list[dict[str, Any]] | None] = []
    for index, value in enumerate(values):
        if value is _ABSENT:
            plain.append(None)
        elif _is_plain_landmarks(value):
            plain.append(value)
            landmark_keys[index] = tuple(value[0]) if value else ()
        else:
            plain.append(None)
            extras.add(index, "landmarks", value)
    flat: list[dict[str, Any]] = [point for points in plain if points for point in points]

    def child(key: str, pa_type: pa.DataType) -> pa.Array:
        return pa.array([point.get(key) for point in flat], pa_type)

    struct = pa.StructArray.from_arrays(
        [child(f.name, f.type) for f in LANDMARK], fields=list(LANDMARK)
    )
    offsets = np.zeros(len(plain) + 1, np.int32)
    np.cumsum([len(points or ()) for points in plain], out=offsets[1:])
    missing = pa.array([points is None for points in plain], pa.bool_())
    return pa.ListArray.from_arrays(offsets, struct, type=_LANDMARK_LIST, mask=missing)


_LANDMARK_CHECKS: dict[str, Callable[[Any], bool]] = {
    "label": lambda v: type(v) is str and _is_utf8(v),
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
    """Instance masks (key ``mask``) and semantic class maps (key ``data``) share one column."""
    column: list[dict[str, Any] | None] = []
    for index, (mask, class_map) in enumerate(zip(masks, maps, strict=True)):
        packed = None
        if mask is not _ABSENT:
            if _is_plain_mask(mask):
                packed = {**pack_array(mask["data"], mode), **_mask_origin(mask)}
            else:
                extras.add(index, "mask", mask)
        if class_map is not _ABSENT:
            if packed is None and is_packable(class_map):
                packed = pack_array(class_map, "exact")
            else:
                extras.add(index, "data", class_map)
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
    """Keep ``hash(label)`` where PySDK takes the overlay colour from it: a label without an id.

    Python salts the hash of strings per process, so the colour could not be repeated otherwise.
    """
    if any("label" in order and "category_id" not in order for order in found.orders):
        for index, detection in enumerate(found.detections):
            if "category_id" not in detection and isinstance(detection.get("label"), str):
                extras.add(index, "$hash", hash(detection["label"]))


def _keys_column(found: _Detections, landmark_keys: dict[int, tuple[str, ...]]) -> pa.Array:
    """Return each detection's keys in their order as JSON; null for what is kept as a whole."""
    if len(found.orders) == 1 and not landmark_keys and not found.whole:
        (order,) = found.orders
        return pa.repeat(pa.scalar(_keys_text(order, None), pa.string()), len(found))
    texts: dict[Any, str] = {}
    column: list[str | None] = []
    for index, detection in enumerate(found.detections):
        if index in found.whole:
            column.append(None)
            continue
        shape = (tuple(detection), landmark_keys.get(index))
        text = texts.get(shape)
        if text is None:
            text = texts[shape] = _keys_text(*shape)
        column.append(text)
    return pa.array(column, pa.string())


def _keys_text(order: tuple[str, ...], points: tuple[str, ...] | None) -> str:
    return _compact(
        [
            ["landmarks", *points] if key == "landmarks" and points is not None else key
            for key in order
        ]
    )


def _extra_column(size: int, extras: _Extras, whole: dict[int, Any]) -> pa.Array:
    if not extras.by_index and not whole:
        return pa.nulls(size, pa.string())
    texts: list[str | None] = [None] * size
    for index, values in extras.by_index.items():
        texts[index] = _compact({key: json.loads(exact.dumps(v)) for key, v in values.items()})
    for index, value in whole.items():
        texts[index] = _compact({"$value": json.loads(exact.dumps(value))})
    return pa.array(texts, pa.string())
