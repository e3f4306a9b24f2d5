"""Results to rows: what `predict_stream` yielded, as Arrow record batches.

Nothing is lost: `dgrec.format.decode` turns a row back into results, timing and attributes that are
equal to the originals in keys, their order, values and types.

Rows are converted many at a time and column by column. Only values that do not fit their typed
column are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dgrec.format import json_values
from dgrec.format.arrays import NullColumns, compact, is_utf8, nested_array, number_array
from dgrec.format.detections import detections_column
from dgrec.format.digest import signatures
from dgrec.format.masks import MaskMode
from dgrec.format.schema import SCHEMA, STAGE_KEYS
from dgrec.format.signals import Signal, signals_column
from dgrec.format.totals import DROPPED

_TYPES = {column.name: column.type for column in SCHEMA}
_ROW = pa.struct(list(SCHEMA))
_NULLS = NullColumns(SCHEMA)
_TIMING: pa.DataType = _TYPES["timing"]
_TIMING_ITEM = _TIMING.field(0).type
#: Integers up to here are exact as a double.
_EXACT_IN_DOUBLE = 2**53


class Row(NamedTuple):
    """An inferred frame on its way into a session; never changed.

    (A frozen dataclass takes three times as long to make.)

    Times are nanoseconds of the session's clock, UTC that never runs backwards
    (`dgrec.clock.Clock`). ``results``, ``timing``, ``attributes`` and ``info`` are the objects
    that PySDK yielded.
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
    #: Added by analyzers, or the text that `json_values.dumps` made of it.
    attributes: Mapping[str, Any] | str | None = None
    info: Any = ""
    #: Model-to-image conversion, sampled where PySDK's semantic overlay does.
    conversion: tuple[float, float, float, float] | None = None
    skipped_before: int = 0
    dropped_camera: int = 0
    dropped_queue: int = 0
    dropped_writer: int = 0
    video_frame: int | None = None
    video_state: str | None = None
    #: If not, ``captured_ns`` is the time of completion, and there is no latency.
    is_capture_known: bool = True
    #: ``model`` and ``overlay`` of a result of another kind than the session's.
    described: Mapping[str, Any] | None = None
    #: Those logged before the row was written that are in no earlier row.
    signals: Sequence[Signal] = ()
    #: The digest of the pixels that were inferred.
    pixel_digest: int | None = None
    #: The `Fingerprint.sample` from which their signature is made.
    pixel_sample: np.ndarray[Any, Any] | None = None


_COPIED_NAMES = (
    "source_frame",
    "media_time_s",
    "skipped_before",
    "width",
    "height",
    "video_frame",
    "video_state",
    "pixel_digest",
    *DROPPED,
)
_NANOSECOND_NAMES = ("captured_ns", "completed_ns", "read_ns", "recorder_ns")


def build_batch(
    rows: Sequence[Row],
    first_frame: int,
    masks: MaskMode = "exact",
    losses: json_values.Losses | None = None,
) -> pa.RecordBatch:
    """Return ``rows`` as one record batch of `SCHEMA`, numbered from ``first_frame``.

    Args:
        losses: Gets what cannot be kept.
    """
    if not rows:
        return pa.RecordBatch.from_pylist([], schema=SCHEMA)
    fields = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
    results, restores = _results_column(rows, fields, losses)
    times = np.array([fields[name] for name in _NANOSECOND_NAMES], np.int64)
    captured_us, completed_us = times[:2] // 1000
    times[1] -= times[0]
    latency_ms, read_ms, recorder_ms = _milliseconds(times[1:])
    if False in (known := fields["is_capture_known"]):
        latency_ms[~np.array(known)] = np.nan
    numbers = {
        "frame": np.arange(first_frame, first_frame + len(rows)),
        "captured_at": captured_us,
        "completed_at": completed_us,
        "read_ms": read_ms,
        "recorder_ms": recorder_ms,
    }
    dropped = zip(*(fields[name] for name in DROPPED), strict=True)
    stages, timing, timing_notes = _timing_columns(fields["timing"], losses)
    for index, note in timing_notes.items():
        restores[index] = {**(restores[index] or {}), **note}
    values = {name: fields[name] for name in _COPIED_NAMES}
    values["dropped_before"] = tuple(map(sum, dropped))
    columns = {
        **{name: number_array(column, _TYPES[name]) for name, column in numbers.items()},
        **{name: _column(name, column) for name, column in values.items()},
        "attributes": _texts(
            "attributes", fields["attributes"], lambda each: _attributes_text(each, losses)
        ),
        "restore": _texts("restore", restores, compact),
        **stages,
        "latency_ms": _durations(latency_ms),
        # Known later (`dgrec.format.deliveries`).
        "published_ms": _NULLS.get("published_ms", len(rows)),
        "timing": timing,
        "detections": detections_column(results, masks, losses),
        "pixel_signature": (
            pa.array(signatures(fields["pixel_sample"]), pa.binary())
            if any(sample is not None for sample in fields["pixel_sample"])
            else _NULLS.get("pixel_signature", len(rows))
        ),
        "signals": (
            signals_column(fields["signals"])
            if any(fields["signals"])
            else _NULLS.get("signals", len(rows))
        ),
    }
    struct = nested_array(_ROW, len(rows), [columns[name] for name in _TYPES])
    return pa.RecordBatch.from_struct_array(struct)


def _texts(name: str, values: Sequence[Any], text_of: Callable[[Any], str]) -> pa.Array:
    if not any(values):
        return _NULLS.get(name, len(values))
    return pa.array([text_of(value) if value else None for value in values], pa.string())


def _column(name: str, values: Sequence[Any]) -> pa.Array:
    # Sizes and drop counts hardly ever change within a batch.
    first = values[0]
    # Kept for the next batch, so it must be small.
    is_small = type(first) in (int, type(None)) or (type(first) is str and len(first) < 100)
    if is_small and len(values) > 1 and values.count(first) == len(values):
        return _constant(name, first, len(values))
    return pa.array(values, _TYPES[name])


@lru_cache(maxsize=128)
def _constant(name: str, value: Any, size: int) -> pa.Array:
    return pa.array([value] * size, _TYPES[name])


def _milliseconds(
    nanoseconds: np.ndarray[Any, np.dtype[np.int64]],
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return durations in milliseconds, rounded to 1/4096 ms.

    That is finer than a clock reading in Python, and leaves most bytes of the double zero: the
    durations that dgrec measures take 3 bytes each in the sealed file instead of 8.
    """
    milliseconds: np.ndarray[Any, np.dtype[np.float64]] = np.rint(nanoseconds * (4096 / 1e6)) / 4096
    return milliseconds


def milliseconds(nanoseconds: int) -> float:
    """Return a duration in milliseconds, as rows hold it."""
    return float(_milliseconds(np.array(nanoseconds, np.int64)))


def stage_values(timing: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the durations of a frame's stages in milliseconds, as the columns hold them."""
    return {
        name: next((float(timing[key]) for key in keys if _holds_number(timing, key)), None)
        for name, keys in STAGE_KEYS.items()
    }


def _holds_number(timing: Mapping[str, Any], key: str) -> bool:
    return key in timing and _is_number(key, timing[key])


def _attributes_text(attributes: Mapping[str, Any] | str, losses: json_values.Losses | None) -> str:
    if isinstance(attributes, str):
        return attributes
    return json_values.dumps(dict(attributes), "result", losses)


def _results_column(
    rows: Sequence[Row],
    fields: Mapping[str, Sequence[Any]],
    losses: json_values.Losses | None,
) -> tuple[Sequence[list[Any]], list[dict[str, Any] | None]]:
    """Return (each frame's detections, what goes into its column ``restore`` or None)."""
    results: Sequence[Any] = fields["results"]
    infos = fields["info"]
    is_plain = (
        set(map(type, results)) == {list}
        and set(map(type, infos)) == {str}
        and not any(infos)
        and set(fields["conversion"]) == {None}
        and fields["described"].count(None) == len(rows)
    )
    if is_plain:  # checked for all at once, which is much faster
        return results, [None] * len(rows)
    lists = [list.copy(item) if isinstance(item, list) else [] for item in results]
    return lists, [_frame_restore(row, losses) for row in rows]


def _frame_restore(row: Row, losses: json_values.Losses | None) -> dict[str, Any] | None:
    """Return what goes into the column ``restore`` of a frame, or None."""
    note: dict[str, Any] = {}
    if not isinstance(row.results, list):
        note["results"] = json_values.dumps(row.results, "results", losses)
    if type(row.info) is not str or row.info:
        note["info"] = json_values.dumps(row.info, "info", losses)
    if row.conversion is not None:
        note["conversion"] = list(row.conversion)
    if row.described is not None:
        note |= row.described
    return note or None


def _timing_columns(
    timings: Sequence[Mapping[str, Any]], losses: json_values.Losses | None
) -> tuple[dict[str, Any], pa.Array, dict[int, dict[str, Any]]]:
    """Return (columns of the stages, the map, what goes into ``restore`` by row)."""
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
        for name, value in stage_values(timing).items():
            stages[name].append(value)
        if len(numbers) < len(timing) or type(timing) is not dict:
            # All of it is kept as JSON; the map gets what SQL can use.
            notes[index] = {"timing": json_values.dumps(dict(timing), "timing", losses)}
        elif integers := [key for key, value in numbers.items() if type(value) is int]:
            notes[index] = {"timing_int": integers}
        keys += numbers
        values += map(float, numbers.values())
        offsets.append(len(keys))
    columns = {name: _durations(np.array(column, np.float64)) for name, column in stages.items()}
    names = pa.array(keys, pa.string())
    return columns, _map_array(np.array(offsets, np.int32), names, np.array(values)), notes


def _durations(values: np.ndarray[Any, np.dtype[np.float64]]) -> pa.Array:
    """Return the column of a stage, in which NaN becomes null. ``timing`` keeps NaN."""
    if np.isnan(values).any():
        return pa.array(values, pa.float64(), from_pandas=True)
    return number_array(values, pa.float64())


def _uniform_timing(
    timings: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, Any], pa.Array, dict[int, dict[str, Any]]] | None:
    """Return what `_timing_columns` does if all rows have the same keys (usual); else None."""
    if set(map(type, timings)) != {dict}:
        return None
    keys, size = tuple(timings[0]), len(timings)
    if list(chain.from_iterable(timings)) != list(keys) * size:
        return None
    values = list(chain.from_iterable(timing.values() for timing in timings))
    kinds = list(map(type, values))
    if set(map(type, keys)) - {str} or set(kinds) - {float, int} or not _are_utf8(keys):
        return None
    integers = []
    for index, key in enumerate(keys if int in kinds else ()):
        of_key = set(kinds[index :: len(keys)])
        if of_key == {int} and max(map(abs, values[index :: len(keys)])) <= _EXACT_IN_DOUBLE:
            integers.append(key)
        elif of_key != {float}:
            return None
    numbers = np.array(values, np.float64)
    stages, names, offsets = _timing_layout(keys, size)
    columns = {
        name: _durations(numbers[column :: len(keys)].copy()) if type(column) is int else column
        for name, column in stages.items()
    }
    notes = {index: {"timing_int": integers} for index in range(size)} if integers else {}
    return columns, _map_array(offsets, names, numbers), notes


@lru_cache(maxsize=64)
def _are_utf8(keys: tuple[str, ...]) -> bool:
    return all(map(is_utf8, keys))


@lru_cache(maxsize=64)
def _timing_layout(
    keys: tuple[str, ...], size: int
) -> tuple[dict[str, int | pa.Array], pa.Array, np.ndarray[Any, np.dtype[np.int32]]]:
    """Return (for each stage the number of its key or a column of nulls, all keys, offsets)."""
    stages: dict[str, int | pa.Array] = {}
    for name, names in STAGE_KEYS.items():
        found = next((keys.index(key) for key in names if key in keys), None)
        stages[name] = _NULLS.get(name, size) if found is None else found
    offsets = np.arange(size + 1, dtype=np.int32) * len(keys)
    return stages, pa.array(keys * size, pa.string()), offsets


def _map_array(
    offsets: np.ndarray[Any, np.dtype[np.int32]],
    keys: pa.Array,
    values: np.ndarray[Any, np.dtype[np.float64]],
) -> pa.Array:
    items = nested_array(_TIMING_ITEM, len(keys), [keys, number_array(values, pa.float64())])
    return nested_array(_TIMING, len(offsets) - 1, [items], offsets)


def _is_number(key: Any, value: Any) -> bool:
    """Return whether the map column can hold an item (but for the type of an integer)."""
    return (
        type(key) is str
        and (type(value) is float or (type(value) is int and abs(value) <= _EXACT_IN_DOUBLE))
        and is_utf8(key)
    )
