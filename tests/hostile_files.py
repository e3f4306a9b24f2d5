"""Files that somebody made to break a reader, or that another tool wrote in its own way.

`write_cases` writes them into a folder, the same ones every time: for ``tests/test_hostile.py``,
which reads some, and ``python -m bench.hostile``, which reads all. Names begin with their kind:

====  =====================================================
``m``  the metadata: wrong types, sizes, depth, texts
``c``  columns: missing, null, of other types, twice
``v``  values: out of range, NaN, stamps of the year 200000
``d``  detections: keys, extra, boxes, masks
``x``  the JSON columns ``attributes`` and ``restore``
``p``  the Parquet file around them
``j``  journals
``t``  ``dgrec.toml``
``n``  names
``r``  names of other files, in the metadata and in playlists
====  =====================================================
"""

from __future__ import annotations

import base64
import functools
import json
import os
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dgrec import sample
from dgrec.format import SCHEMA, JournalWriter, json_values
from dgrec.format.checksums import append_checksums
from dgrec.format.messages import CRC_ZEROS, END_OF_STREAM, set_checksums
from dgrec.format.schema import METADATA_KEY
from tests.factory import CLOSING, make_detection, make_rows, new_metadata, write_session

__all__ = ["ESCAPES", "JSON_COLUMNS", "KINDS", "OUTSIDE", "Base", "edited", "fuzzed", "write_cases"]

KINDS = "mcvdxpjtnr"
#: The folder of what no session may lead to, below the one that cases are written into.
OUTSIDE = "outside"

#: Control characters, each of a kind that a terminal acts upon.
ESCAPES = "\x1b]0;owned\x07 \x1b[5mblink\x1b[2J \x9b5m \u202edlrow\u202c \u2066x\u2069 \r\n\b\x00"
JSON_COLUMNS = ("attributes", "restore")
_FRAMES = 12
_WIDTH, _HEIGHT = 128, 96


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


#: JSON texts that may stand where something else is expected.
_ODD_JSON = {
    "null": "null",
    "true": "true",
    "minus": "-5",
    "huge": "1" + "0" * 30,
    "longest": "9" * 5000,
    "infinite": "1e400",
    "nan": "NaN",
    "fraction": "0.5",
    "text": '"x"',
    "empty": '""',
    "list": "[]",
    "lists": "[[[1]], null, 5, {}]",
    "object": "{}",
    "objects": '{"a": {"b": [null, {"c": 1}]}, "": 7, "1": "x"}',
    "deep": _nested(200),
    "deepest": _nested(100_000),
    "surrogate": '"\\ud800 \\udcff"',
    "escapes": json.dumps(ESCAPES),
    "megabyte": '"' + "x" * 1_000_000 + '"',
    "members": "[" + ",".join(["{}"] * 100_000) + "]",
}


@dataclass
class Base:
    """A small whole session, to be changed: its rows and its metadata."""

    table: pa.Table
    metadata: dict[str, Any]
    folder: Path
    sealed: bytes = field(repr=False, default=b"")


def _make_base(folder: Path) -> Base:
    mask = {"x_min": 3, "y_min": 4, "data": (np.arange(200.0) % 7).reshape(10, 20)}
    point = {"category_id": 0, "label": "eye", "landmark": [30.5, 40.5], "connect": [0]}
    rows = make_rows(_FRAMES, width=_WIDTH, height=_HEIGHT)
    rows = [
        row._replace(
            results=[
                make_detection(row.source_frame, track_id=3, in_zone=(True, None)),
                make_detection(1, landmarks=[point], mask=mask),
            ],
            attributes={"trails": {1: [(1, 2), (3.5, 4.0)]}, "scene_cut": False},
            info={"stamp": 1},
        )
        for row in rows
    ]
    metadata = new_metadata(
        source={
            "given": "clip.mp4",
            "kind": "file",
            "name": "clip",
            "file": "clip.mp4",
            "path": "/nowhere/clip.mp4",
            "relative": "clip.mp4",
            "size": 1000,
            "sha256": "00" * 32,
            "width": _WIDTH,
            "height": _HEIGHT,
            "fps": 29.97,
            "frames": _FRAMES,
            "loop": False,
        },
        overlay={"color": [255, 255, 0], "line_width": 3, "alpha": 0.5, "font_scale": 1.0},
        options={"output": "x", "masks": "exact"},
        events=[{"kind": "gap", "from": "2026-01-02T03:04:06Z", "seconds": 1.0, "back": True}],
        video=[
            {
                "file": "base.mp4",
                "kind": "raw",
                "codec": "h264",
                "width": 128,
                "height": 96,
                "frames": 3,
                "size": 100,
                "sha256": "11" * 32,
                "started_at": "2026-01-02T03:04:05.678901Z",
            }
        ],
        damage=["a batch is lost"],
        clip={"session_id": "s", "ranges": [{"first_frame": 0, "frames": 4, "from_frame": 9}]},
        end_detail="because",
    )
    path = write_session(folder / "base.parquet", rows, metadata)
    file = pq.ParquetFile(path)
    base = Base(
        file.read(),
        json.loads(file.metadata.metadata[METADATA_KEY]),
        folder,
        path.read_bytes(),
    )
    path.unlink()
    return base


def edited(
    path: Path,
    table: pa.Table,
    metadata: str | bytes,
    *,
    checksums: bool = False,
    **options: Any,
) -> Path:
    """Write a session as another tool would: ``table``, and ``metadata`` as it is."""
    with path.open("w+b") as file:
        with pq.ParquetWriter(file, table.schema, **options) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({METADATA_KEY.decode(): metadata})
        if checksums:
            append_checksums(file)
    return path


def write_cases(folder: Path, kinds: str = KINDS) -> Iterator[Path]:
    """Write hostile files of some kinds into ``folder`` and yield their paths."""
    base = _make_base(folder)
    for kind in kinds:
        yield from _WRITERS[kind](base)


# --- metadata ----------------------------------------------------------------------------------


def _paths_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of everything in a JSON value."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _paths_in(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _paths_in(item, (*path, index))


_MARK = "@@mark@@"


def _with(metadata: dict[str, Any], place: tuple[Any, ...], text: str) -> str:
    """Return metadata as JSON in which ``text`` stands at a place."""
    copy = json.loads(json.dumps(metadata))
    at = copy
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = _MARK
    return json.dumps(copy).replace(f'"{_MARK}"', text)


def _metadata_cases(base: Base) -> Iterator[Path]:
    def case(name: str, text: str | bytes) -> Path:
        return edited(base.folder / f"m_{name}.parquet", base.table, text, checksums=True)

    places = [place for place in _paths_in(base.metadata) if place[0] != "format"]
    tops = [place for place in places if len(place) == 1]
    # Everything wrong at once, at the first level and below it.
    for name, text in _ODD_JSON.items():
        everywhere = {place[0]: _MARK for place in tops if place != ("session_id",)}
        whole = json.dumps({**base.metadata, **everywhere}).replace(f'"{_MARK}"', text)
        yield case(f"all_{name}", whole)
        below = json.loads(json.dumps(base.metadata))
        for place in tops:
            if isinstance(below[place[0]], dict):
                below[place[0]] = dict.fromkeys(below[place[0]], _MARK)
            elif isinstance(below[place[0]], list):
                below[place[0]] = [_MARK] * 3
        below["format"] = base.metadata["format"]
        if len(text) < 10_000:  # a megabyte fifty times is the next case
            yield case(f"below_{name}", json.dumps(below).replace(f'"{_MARK}"', text))
    # One thing wrong, the others as they were.
    chance = random.Random(1)
    for number, place in enumerate(places):
        name = chance.choice(sorted(_ODD_JSON))
        label = "_".join(map(str, place))
        yield case(f"one_{number}_{label}_{name}", _with(base.metadata, place, _ODD_JSON[name]))
    for place in tops:
        yield case(f"big_{place[0]}", _with(base.metadata, place, _ODD_JSON["megabyte"]))
    texts: dict[str, str | bytes] = {
        "empty": b"",
        "no_json": b"{",
        "not_utf8": b'{"format":{"name":"dgrec","version":1},"name":"\xff\xfe"}',
        "list": b"[]",
        "format_only": b'{"format":{"name":"dgrec","version":1}}',
        "format_true": b'{"format":{"name":"dgrec","version":true}}',
        "format_old": b'{"format":{"name":"dgrec","version":-7}}',
        "format_huge": b'{"format":{"name":"dgrec","version":' + b"9" * 5000 + b"}}",
        "twice": b'{"format":{"name":"dgrec","version":1},"source":{},"source":[],"source":3}',
        "zeros": b"\0" * 100,
        "bom": b"\xef\xbb\xbf" + json.dumps(base.metadata).encode(),
    }
    for name, text in texts.items():
        yield case(name, text)
    clip: dict[str, Any] = {"ranges": [{"first_frame": 0, "frames": 9, "from_frame": 0}]}
    for _ in range(300):
        clip = {"ranges": clip["ranges"], "clip": clip}
    yield case("clip_of_clips", json.dumps({**base.metadata, "clip": clip}))
    ranges = [{"first_frame": i, "frames": 10**9, "from_frame": -i} for i in range(3000)]
    nested = {"ranges": ranges, "clip": {"ranges": ranges, "clip": {"ranges": ranges}}}
    yield case("clip_ranges", json.dumps({**base.metadata, "clip": nested}))
    part = {"number": 10**30, "set_id": "s", "first_frame": 2**62}
    yield case("part", json.dumps({**base.metadata, "part": part}))
    names = {f"{ESCAPES}{key}": ESCAPES for key in range(20)}
    labels = {"labels": {ESCAPES: ESCAPES, "0": ESCAPES, "x": 1}, "name": ESCAPES}
    ansi = {
        **base.metadata,
        **names,
        "name": ESCAPES,
        "end_detail": ESCAPES,
        "end_reason": ESCAPES,
        "source": {**base.metadata["source"], **names, "given": ESCAPES, "kind": ESCAPES},
        "model": {**base.metadata["model"], **labels},
        "damage": [ESCAPES],
        "host": names,
        "events": [{"kind": "gap", "seconds": 1.0, "from": ESCAPES, "reason": ESCAPES}],
        "video": [{"file": ESCAPES, "kind": ESCAPES, "codec": ESCAPES, "problem": ESCAPES}],
    }
    yield case("ansi", json.dumps(ansi))
    for name, place in {
        "up": "../../canary.mp4",
        "absolute": str(base.folder / "canary.mp4"),
    }.items():
        source = {"kind": "file", "file": "canary.mp4", "path": place, "relative": place}
        video = [{"file": place, "kind": kind} for kind in ("raw", "annotated")]
        text = json.dumps({**base.metadata, "source": source, "video": video})
        yield case(f"path_{name}", text)
    for name, setting in {
        "fonts": {"font_scale": 1e9, "line_width": 10**9},
        "small": {"font_scale": -1, "line_width": -1, "alpha": -3},
        "colors": {"color": [[10**30, -1, "x"], []], "blur": {"x": 1}},
        "many": {"color": [[1, 2, 3]] * 100_000, "blur": ["x"] * 100_000},
        "fill": {"fill_color": [1], "color": [1, 2], "show_labels": "maybe"},
    }.items():
        yield case(f"overlay_{name}", json.dumps({**base.metadata, "overlay": setting}))
    for name in ("Base", "Segmentation", "Classification", "Hand", "x" * 10_000, "../../x", ""):
        model = {**base.metadata["model"], "result_type": name}
        yield case(f"result_{name[:9].strip('./')}", json.dumps({**base.metadata, "model": model}))


# --- columns -----------------------------------------------------------------------------------


def _typed(table: pa.Table, name: str, type_: pa.DataType) -> pa.Table:
    index = table.schema.get_field_index(name)
    return table.set_column(index, pa.field(name, type_), table[name].cast(type_, safe=False))


def _replaced(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), pa.field(name, values.type), values)


def _detections(base: Base, change: Callable[[dict[str, Any]], Any]) -> pa.Table:
    """Return the rows with each detection's struct changed."""
    rows = [[change(dict(item)) for item in row] for row in base.table["detections"].to_pylist()]
    return _replaced(base.table, "detections", pa.array(rows))


def _column_cases(base: Base) -> Iterator[Path]:
    metadata = json.dumps(base.metadata)
    table = base.table

    def case(name: str, changed: pa.Table, **options: Any) -> Path:
        return edited(base.folder / f"c_{name}.parquet", changed, metadata, **options)

    for column in table.schema:
        nullable = pa.schema([pa.field(f.name, f.type) for f in table.schema])
        yield case(f"no_{column.name}", table.drop_columns([column.name]))
        nulls = pa.nulls(len(table), column.type)
        yield case(f"null_{column.name}", _replaced(table.cast(nullable), column.name, nulls))
        untyped = _replaced(table.cast(nullable), column.name, pa.nulls(len(table)))
        yield case(f"untyped_{column.name}", untyped)
        half = [value if i % 2 else None for i, value in enumerate(table[column.name].to_pylist())]
        yield case(
            f"some_{column.name}", _replaced(table, column.name, pa.array(half, column.type))
        )
    wide = table
    for column in table.schema:
        other: pa.DataType | None = None
        if pa.types.is_int32(column.type):
            other = pa.int64()
        elif pa.types.is_int64(column.type):
            other = pa.int32()
        elif pa.types.is_float64(column.type):
            other = pa.float32()
        elif pa.types.is_string(column.type):
            other = pa.large_string()
        if other is not None:
            wide = _typed(wide, column.name, other)
    yield case("widths", wide)
    yield case("small_frame", _typed(table, "frame", pa.uint8()))
    yield case("float_frame", _typed(table, "frame", pa.float64()))
    yield case("decimal_latency", _typed(table, "latency_ms", pa.decimal128(20, 6)))
    yield case("half_latency", _typed(table, "latency_ms", pa.float16()))
    yield case("int_latency", _typed(table, "latency_ms", pa.int64()))
    for name in JSON_COLUMNS:
        text = pa.dictionary(pa.int32(), pa.string())
        yield case(f"dictionary_{name}", _replaced(table, name, table[name].dictionary_encode()))
        yield case(f"view_{name}", _typed(table, name, pa.string_view()))
        yield case(f"binary_{name}", _typed(table, name, pa.binary()))
        assert text
    for unit in ("s", "ms", "us", "ns"):
        for zone in (None, "UTC", "Europe/Berlin", "+05:30"):
            type_ = pa.timestamp(unit, zone)
            stamps = _typed(_typed(table, "captured_at", type_), "completed_at", type_)
            label = "naive" if zone is None else "".join(filter(str.isalnum, zone))
            yield case(f"stamp_{unit}_{label}", stamps)
    yield case("stamp_date", _typed(table, "captured_at", pa.date32()))
    texts = pa.array([str(value) for value in table["captured_at"].to_pylist()])
    yield case("stamp_text", _replaced(table, "captured_at", texts))
    yield case("stamp_int", _typed(table, "captured_at", pa.int64()))
    yield case("text_frame", _typed(table, "frame", pa.string()))
    yield case("text_width", _typed(table, "width", pa.string()))
    yield case("bool_width", _replaced(table, "width", pa.array([True] * len(table))))
    pairs = pa.list_(pa.struct([("key", pa.string()), ("value", pa.float64())]))
    timing = [[{"key": k, "value": v} for k, v in row] for row in table["timing"].to_pylist()]
    yield case("timing_pairs", _replaced(table, "timing", pa.array(timing, pairs)))
    yield case("timing_numbers", _replaced(table, "timing", pa.array([[1.0]] * len(table))))
    yield case("timing_texts", _replaced(table, "timing", pa.array([["a"]] * len(table))))
    twice = [[("a", 1.0), ("a", 2.0), ("", None)]] * len(table)
    yield case("timing_twice", _replaced(table, "timing", pa.array(twice, table["timing"].type)))
    nested = table["detections"]
    large = pa.large_list(nested.type.value_type)
    yield case("large_list", _replaced(table, "detections", nested.cast(large)))
    yield case("list_of_lists", _replaced(table, "detections", pa.array([[[1]]] * len(table))))
    yield case("list_of_ints", _replaced(table, "detections", pa.array([[1]] * len(table))))
    yield case("ints", _replaced(table, "detections", pa.array([1] * len(table))))
    yield case(
        "empty_lists", _replaced(table, "detections", pa.array([[]] * len(table), nested.type))
    )
    holes = [[None, *row] if i % 2 else None for i, row in enumerate(nested.to_pylist())]
    yield case("null_structs", _replaced(table, "detections", pa.array(holes, nested.type)))
    for field_ in nested.type.value_type:
        fewer = _detections(
            base, lambda d, name=field_.name: {k: v for k, v in d.items() if k != name}
        )
        yield case(f"struct_no_{field_.name}", fewer)
        gone = _detections(base, lambda d, name=field_.name: {**d, name: None})
        yield case(f"struct_null_{field_.name}", gone)
    yield case("struct_more", _detections(base, lambda d: {"zone": 1, **d, "x": {"y": [1]}}))
    yield case("struct_other", _detections(base, lambda d: {"a": 1}))
    order = _detections(base, lambda d: dict(reversed(d.items())))
    yield case("struct_order", order)
    texts_ = _detections(base, lambda d: {**d, "score": str(d["score"]), "category_id": 1.5})
    yield case("struct_types", texts_)
    yield case("struct_mask_text", _detections(base, lambda d: {**d, "mask": "x"}))
    yield case("struct_landmarks", _detections(base, lambda d: {**d, "landmarks": [1, 2]}))
    more = table.append_column("zone", pa.array([{"a": [1, None]}] * len(table)))
    more = more.append_column(ESCAPES, pa.array([ESCAPES] * len(table)))
    yield case("more", more.append_column("session_id", pa.array(["mine"] * len(table))))
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    yield case("deep", table.append_column("deep", pa.array([deep] * len(table))))
    names = [*table.schema.names, "frame", "detections"]
    arrays = [*table.columns, table["frame"], table["source_frame"]]
    yield case("twice", pa.Table.from_arrays(arrays, names=names))
    upper = table.rename_columns([name.upper() for name in table.schema.names])
    yield case("upper", upper)
    yield case("both_cases", table.append_column("FRAME", table["frame"]))
    many = table
    for index in range(2000):
        many = many.append_column(f"column_{index}", table["width"])
    yield case("many", many)
    yield case("order", table.select(list(reversed(table.schema.names))))
    yield case("no_rows", table.slice(0, 0))
    yield case("one_row", table.slice(3, 1))
    yield case("only_two", table.select(["frame", "detections"]))
    yield case("snappy", table, compression="snappy", data_page_version="2.0")
    yield case("small_pages", table, data_page_size=1, write_page_index=True)


# --- values ------------------------------------------------------------------------------------

_FLOATS = (float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 5e-324, -0.0, 1e18)


def _value_cases(base: Base) -> Iterator[Path]:
    metadata = json.dumps(base.metadata)

    def case(name: str, changed: pa.Table) -> Path:
        return edited(base.folder / f"v_{name}.parquet", changed, metadata, checksums=True)

    chance = random.Random(2)
    everything = base.table
    for column in base.table.schema:
        if pa.types.is_floating(column.type):
            values: list[Any] = [_FLOATS[i % len(_FLOATS)] for i in range(_FRAMES)]
        elif pa.types.is_integer(column.type):
            bits = column.type.bit_width
            ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, -1, 0, 1)
            values = [ends[i % len(ends)] for i in range(_FRAMES)]
        elif pa.types.is_timestamp(column.type):
            ends = (-(2**63) + 1, 2**63 - 1, 0, -1, 2**62, 253_402_300_800_000_000)
            values = [ends[i % len(ends)] for i in range(_FRAMES)]
        elif pa.types.is_string(column.type):
            values = [
                chance.choice([ESCAPES, "", "null", "[]", "x" * 10_000, "5"]) for _ in range(12)
            ]
        else:
            continue
        array = pa.array(values, pa.int64()) if pa.types.is_timestamp(column.type) else values
        changed = (
            pa.array(array, pa.int64()).cast(column.type)
            if array is not values
            else pa.array(values, column.type)
        )
        everything = _replaced(everything, column.name, changed)
        yield case(column.name, _replaced(base.table, column.name, changed))
        if not pa.types.is_string(column.type):
            same = (
                pa.array([values[1]] * _FRAMES, pa.int64()).cast(column.type)
                if (pa.types.is_timestamp(column.type))
                else pa.array([values[1]] * _FRAMES, column.type)
            )
            yield case(f"same_{column.name}", _replaced(base.table, column.name, same))
    yield case("all", everything)
    backwards = base.table.take(pa.array(list(reversed(range(_FRAMES)))))
    yield case("backwards", backwards)
    yield case("thrice", pa.concat_tables([base.table] * 3))
    for name, size in {
        "nothing": 0,
        "negative": -1,
        "enormous": 2**31 - 1,
        "large": 40_000,
    }.items():
        sizes = pa.array([size] * _FRAMES, pa.int32())
        changed_size = _replaced(_replaced(base.table, "width", sizes), "height", sizes)
        yield case(f"size_{name}", changed_size)
    frames = pa.array([2**62 + i for i in range(_FRAMES)], pa.int64())
    yield case("frame_large", _replaced(base.table, "frame", frames))
    one = pa.array([1_767_323_045_000_000] * _FRAMES, pa.int64()).cast(
        SCHEMA.field("captured_at").type
    )
    moment = _replaced(_replaced(base.table, "captured_at", one), "completed_at", one)
    yield case("one_moment", moment)
    years = pa.array([i * 10**16 for i in range(_FRAMES)], pa.int64()).cast(one.type)
    yield case(
        "years_apart", _replaced(_replaced(base.table, "captured_at", years), "completed_at", years)
    )


# --- detections --------------------------------------------------------------------------------


@functools.cache
def _bomb(size: int) -> bytes:
    """Return ``size`` zero bytes, deflated."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


def _masks() -> dict[str, dict[str, Any]]:
    good = {"x_min": 0, "y_min": 0, "width": 4, "height": 4, "encoding": "array:<f4"}
    zeros = zlib.compress(bytes(64))
    bomb = _bomb(1 << 29)
    return {
        "large": {**good, "width": 40_000, "height": 40_000, "data": zlib.compress(bytes(10))},
        "large_bitmap": {
            **good,
            "width": 40_000,
            "height": 40_000,
            "encoding": "bitmap:<f4",
            "data": bomb,
        },
        "large_palette": {
            **good,
            "width": 40_000,
            "height": 40_000,
            "encoding": "palette:<f8",
            "data": bomb,
        },
        "bomb": {**good, "data": bomb},
        "wide": {**good, "width": 2**31 - 1, "height": 1, "data": bomb},
        "negative": {**good, "width": -4, "height": -4, "data": zeros},
        "minus": {**good, "width": -1, "data": zeros},
        "nothing": {**good, "width": 0, "height": 0, "data": zlib.compress(b"")},
        "object": {**good, "encoding": "array:|O", "data": zlib.compress(bytes(128))},
        "void": {**good, "encoding": "array:|V4", "data": zeros},
        "struct": {**good, "encoding": "array:f4,O", "data": zeros},
        "datetime": {**good, "encoding": "array:<M8[s]", "data": zlib.compress(bytes(128))},
        "text": {**good, "encoding": "array:<U1", "data": zeros},
        "no_type": {**good, "encoding": "array:", "data": zeros},
        "long_type": {**good, "encoding": "array:" + "f" * 100_000, "data": zeros},
        "kind": {**good, "encoding": "zip:<f4", "data": zeros},
        "short": {**good, "data": zlib.compress(bytes(5))},
        "torn": {**good, "data": zeros[:5]},
        "garbage": {**good, "data": b"garbage"},
        "empty": {**good, "data": b""},
        "null_data": {**good, "data": None},
        "null_encoding": {**good, "encoding": None, "data": zeros},
        "null_size": {**good, "width": None, "data": zeros},
        "null_place": {**good, "x_min": None, "y_min": None, "data": zeros},
        "far": {**good, "x_min": 2**31 - 1, "y_min": -(2**31), "data": zeros},
        "outside": {**good, "x_min": 126, "y_min": 94, "data": zeros},
        "palette_index": {
            **good,
            "encoding": "palette:<f4",
            "data": zlib.compress(struct.pack("<Hf", 1, 0.5) + b"\xff" * 16),
        },
        "palette_size": {
            **good,
            "encoding": "palette:<f4",
            "data": zlib.compress(b"\xff\xff" + bytes(16)),
        },
    }


def _detection_cases(base: Base) -> Iterator[Path]:
    metadata = json.dumps(base.metadata)
    type_ = base.table["detections"].type

    def case(name: str, change: Callable[[dict[str, Any]], Any]) -> Path:
        rows = [
            [change(dict(item)) for item in row] for row in base.table["detections"].to_pylist()
        ]
        changed = _replaced(base.table, "detections", pa.array(rows, type_))
        return edited(base.folder / f"d_{name}.parquet", changed, metadata, checksums=True)

    keys = {
        **_ODD_JSON,
        "garbage": "{[",
        "unknown": '["nothing", "bbox"]',
        "unhashable": '[["landmarks", [1]], {}]',
        "mask": '["mask", "data"]',
        "points": '[["landmarks", "nothing"]]',
        "plain_points": '["landmarks"]',
        "nested": '[[[["bbox"]]]]',
        "none": "[null, 1]",
        "private": '["__class__", "__dict__", "$value"]',
    }
    for name, text in keys.items():
        yield case(f"keys_{name}", lambda d, t=text: {**d, "keys": t})
        yield case(f"extra_{name}", lambda d, t=text: {**d, "extra": t})
    for name, text in _json_values().items():
        extra = f'{{"in_zone":{text},"bbox":{text},"label":{text},"mask":{text}}}'
        yield case(f"value_{name}", lambda d, t=extra: {**d, "extra": t})
        yield case(
            f"whole_{name}", lambda d, t=text: {**d, "extra": f'{{"$value":{t}}}', "keys": None}
        )
    for name, text in {"text": '"x"', "huge": "1" + "0" * 50, "list": "[]", "null": "null"}.items():
        with_hash = f'{{"$hash":{text}}}'
        order = '["bbox","label","score"]'
        yield case(f"hash_{name}", lambda d, t=with_hash, k=order: {**d, "extra": t, "keys": k})
    for name, mask in _masks().items():
        yield case(f"mask_{name}", lambda d, m=mask: {**d, "mask": m, "keys": '["bbox","mask"]'})
        if name in ("large", "bomb", "object", "short", "negative", "null_size"):
            yield case(f"map_{name}", lambda d, m=mask: {**d, "mask": m, "keys": '["data"]'})
    for number in (*_FLOATS, 1e9, 40_000.0):
        box = dict.fromkeys(("x_min", "y_min", "x_max", "y_max"), number)
        yield case(
            f"box_{number}", lambda d, b=box: {**d, **b, "score": b["x_min"], "angle": b["x_min"]}
        )
    wide = {"x_min": -1e7, "y_min": -1e7, "x_max": 1e7, "y_max": 1e7}
    yield case("box_wide", lambda d: {**d, **wide})
    yield case("ids", lambda d: {**d, "category_id": -(2**31), "track_id": 2**63 - 1})
    yield case("label_escapes", lambda d: {**d, "label": ESCAPES})
    yield case("label_long", lambda d: {**d, "label": "x" * 200_000})
    yield case("labels_html", lambda d: {**d, "label": "</script><script>alert(1)</script>"})
    point = {"label": ESCAPES, "category_id": 7, "score": 1e308, "landmark": [], "connect": [9, -1]}
    yield case(
        "points_odd",
        lambda d: {**d, "landmarks": [point, None], "keys": '[["landmarks","landmark","connect"]]'},
    )
    far = {**point, "landmark": [1e300, float("nan"), -1e300], "connect": [0] * 1000}
    yield case(
        "points_far",
        lambda d: {
            **d,
            "landmarks": [far] * 3,
            "keys": '["bbox",["landmarks","landmark","connect","category_id"]]',
        },
    )
    order_pairs = iter(range(10**9))
    yield case("keys_all_different", lambda d: {**d, "keys": f'["bbox","x{next(order_pairs)}"]'})
    crowd = [base.table["detections"].to_pylist()[0][0]] * 20_000
    rows = pa.array([crowd, *[[]] * (_FRAMES - 1)], type_)
    changed = _replaced(base.table, "detections", rows)
    yield edited(base.folder / "d_crowd.parquet", changed, metadata)


# --- JSON columns ------------------------------------------------------------------------------


def _json_values() -> dict[str, str]:
    """Return what `dgrec.format.json_values` is asked to rebuild, by name, as JSON."""

    def pack(data: bytes) -> str:
        return base64.b64encode(data).decode()

    pointer = pack(struct.pack("<Q", 0x4141414141414141))
    bomb = pack(_bomb(1 << 29))
    nothing = pack(zlib.compress(b""))
    eight = pack(zlib.compress(bytes(8)))
    values: dict[str, Any] = {
        "scalar_object": {"$scalar": ["|O", pointer]},
        "scalar_object_big": {"$scalar": [">O", pointer]},
        "scalar_fields": {"$scalar": ["O,O", pointer * 2]},
        "scalar_nested": {"$scalar": ["(1,)O", pointer]},
        "scalar_list": {"$scalar": [[["a", "O"]], pointer]},
        "scalar_void": {"$scalar": ["|V8", pointer]},
        "scalar_text": {"$scalar": ["<U1000000000", pointer]},
        "scalar_short": {"$scalar": ["<f8", ""]},
        "scalar_none": {"$scalar": None},
        "scalar_one": {"$scalar": ["<f8"]},
        "scalar_point": {"$scalar": ["<U1", pack(b"\xff\xff\xff\xff")]},
        "array_object": {"$ndarray": ["|O", [1], pack(zlib.compress(bytes(8)))]},
        "array_object_none": {"$ndarray": ["|O", [0], nothing]},
        "array_zero_text": {"$ndarray": ["<U0", [1_000_000_000], nothing]},
        "array_zero_bytes": {"$ndarray": ["|S0", [10**9, 10**9], nothing]},
        "array_large": {"$ndarray": ["<f8", [40_000, 40_000], bomb]},
        "array_empty_large": {"$ndarray": ["<f8", [2**40, 0, 2**40], nothing]},
        "array_bomb": {"$ndarray": ["<f8", [1], bomb]},
        "array_deep": {"$ndarray": ["<f8", [1] * 64, eight]},
        "array_deeper": {"$ndarray": ["<f8", [1] * 10_000, eight]},
        "array_negative": {"$ndarray": ["<f8", [-1], eight]},
        "array_shape": {"$ndarray": ["<f8", [0.5, "x"], eight]},
        "array_shape_true": {"$ndarray": ["<f8", [True], eight]},
        "array_overflow": {"$ndarray": ["<f8", [2**62, 2**62], eight]},
        "array_short": {"$ndarray": ["<f8", [2], eight]},
        "array_garbage": {"$ndarray": ["<f8", [1], "!!!"]},
        "array_text": {"$ndarray": ["<U2", [1], eight]},
        "array_subarray": {"$ndarray": ["(1000,1000,1000)f8", [1], bomb]},
        "array_points": {"$ndarray": ["<U1", [2], pack(zlib.compress(b"\xff" * 8))]},
        "array_unit": {"$ndarray": ["<M8[x]", [1], eight]},
        "array_days": {"$ndarray": ["<M8[Y]", [1], pack(zlib.compress(b"\x7f" * 8))]},
        "int_long": {"$int": "0x" + "f" * 1_000_000},
        "int_text": {"$int": "x"},
        "int_number": {"$int": 5},
        "float_text": {"$float": "x"},
        "float_list": {"$float": []},
        "dict_unhashable": {"$dict": [[[1], 2]]},
        "dict_pairs": {"$dict": [[1]]},
        "dict_number": {"$dict": 5},
        "set_unhashable": {"$set": [[1], {}]},
        "set_number": {"$frozenset": 5},
        "deque_negative": {"$deque": [[1], -1]},
        "deque_text": {"$deque": [[1], "x"]},
        "deque_huge": {"$deque": [[1], 10**30]},
        "deque_none": {"$deque": []},
        "bytes_garbage": {"$bytes": "not base64 \u00e9"},
        "bytes_number": {"$bytes": 7},
        "complex_text": {"$complex": ["a", "b"]},
        "complex_one": {"$complex": [1]},
        "complex_list": {"$complex": [[], {}]},
        "datetime_text": {"$datetime": "yesterday"},
        "datetime_number": {"$datetime": 5},
        "object_one": {"$object": ["x"]},
        "object_number": {"$object": [5, {"to_dict": 1, "__class__": 2, "_state": 3}]},
        "object_text": {"$object": "xy"},
        "repr_none": {"$repr": None},
        "repr_number": {"$repr": [1, 2]},
        "unknown": {"$eval": "1"},
        "many": {"$tuple": [{"$tuple": []}] * 50_000},
        "arrays": {"$tuple": [{"$ndarray": ["<f8", [2_000_000], pack(_bomb(16 << 20))]}] * 60},
        "surrogate": "\ud800",
        "escapes": ESCAPES,
    }
    texts = {name: json.dumps(value) for name, value in values.items()}
    deep = "1"
    for _ in range(150):
        deep = f'{{"$tuple":[{deep}]}}'
    texts["deep"] = deep
    texts["deepest"] = '{"$tuple":[' * 50_000 + "]}" * 50_000
    for name in ("huge", "longest", "infinite", "nan"):
        texts[name] = _ODD_JSON[name]
    return texts


def _rebuilt_values() -> dict[str, Any]:
    """Return values of the kinds that stand for objects, as `json_values` writes them, by name."""

    def deflated(data: bytes) -> str:
        return base64.b64encode(zlib.compress(data)).decode()

    def array(dtype: Any, shape: list[int], data: bytes) -> dict[str, Any]:
        return {"$ndarray": [dtype, shape, deflated(data)]}

    def structure(**changed: Any) -> dict[str, Any]:
        fields = {"names": ["a"], "formats": ["<f8"], "offsets": [0]}
        return {**fields, "itemsize": 8, "aligned": False, **changed}

    one, nine = array("<f8", [2], bytes(16)), array("<f8", [], bytes(8))
    doubles = {"<M8": array("<M8[0s]", [1], bytes(8)), "<m8": array("<m8[000s]", [1], bytes(8))}
    same_hash = [{"$int": hex(number * (2**61 - 1))} for number in range(200_000)]
    objects = [{"$tuple": [{"$object": ["a", number]}]} for number in range(50_000)]
    long = {"$int": "0x" + "f" * 1_000_000}
    return {
        "decimal_large": {"$decimal": "1e999999999"},
        "decimal_small": {"$decimal": "1e-999999999"},
        "decimal_signal": {"$decimal": "sNaN"},
        "decimal_signal_key": {"$dict": [[{"$decimal": "sNaN"}, 1]]},
        "decimal_long": {"$decimal": "9" * 3_000_000},
        "decimal_none": {"$decimal": None},
        "set_same_hash": {"$set": same_hash},
        "set_same_objects": {"$frozenset": objects},
        "dict_same_hash": {"$dict": [[key, 1] for key in same_hash]},
        "enum_names": {"$enum": ["__class__", "__class__", {"$object": ["x", {}]}, True, "x"]},
        "enum_long": {"$enum": ["a.B", "X", long, True, "x"]},
        "enum_escapes": {"$enum": [ESCAPES, ESCAPES, ESCAPES, True, ESCAPES]},
        "enum_list": {"$set": [{"$enum": ["a.B", None, [1], False, "x"]}]},
        "enum_short": {"$enum": ["a.B"]},
        "names_taken": {"$namedtuple": ["a.B", ["__class__", "_fields", "count"], [1, 2, 3]]},
        "names_same": {"$namedtuple": ["a.B", ["a"] * 3, [1, 2, 3]]},
        "names_escapes": {"$namedtuple": [ESCAPES, [ESCAPES], [ESCAPES]]},
        "names_fewer": {"$namedtuple": ["a.B", ["a"], [1, 2]]},
        "date_early": {"$date": "0000-00-00"},
        "date_late": {"$date": "99999-01-01"},
        "datetime_early": {"$datetime": ["0001-01-01T00:00:00+14:00", "Europe/Berlin"]},
        "datetime_zone": {"$datetime": ["2020-01-01T00:00:00+00:00", "../../../etc/passwd"]},
        "datetime_folder": {"$datetime": ["2020-01-01T00:00:00+00:00", "Europe"]},
        "time_late": {"$time": "25:00"},
        "duration_long": {"$timedelta": [10**30, 0, 0]},
        "duration_last": {"$timedelta": [999_999_999, 86_399, 999_999]},
        "uuid_long": {"$uuid": "{" * 100_000},
        "path_zero": {"$path": ["posix", "\0" * 10]},
        "path_kind": {"$path": ["__class__", "x"]},
        "objects_large": {"$objects": [[2**70, 0], []]},
        "objects_deep": {"$objects": [[1] * 100, [1]]},
        "objects_none": {"$objects": [[0, 10**18], []]},
        "objects_arrays": {"$objects": [[2], [one, 1]]},
        "masked_numbers": {"$masked": [1, 2, 3]},
        "masked_fill": {"$masked": [one, None, one]},
        "masked_shape": {"$masked": [one, array("|b1", [3], bytes(3)), nine]},
        "masked_objects": {
            "$masked": [{"$objects": [[2], [1, 2]]}, None, {"$objects": [[], [one]]}]
        },
        "masked_nothing": {"$masked": None},
        **{f"stamps_{name[1:]}": value for name, value in doubles.items()},
        "fields_none": array(structure(names=[], formats=[], offsets=[], itemsize=0), [10**9], b""),
        "fields_long": array(structure(itemsize=2**31 - 1), [1000], bytes(8)),
        "fields_nested": array(structure(formats=[["<f8", [2**20, 2**20]]]), [1], bytes(8)),
        "fields_unnamed": array(structure(names=[""]), [1], bytes(8)),
        "fields_objects": array(structure(formats=["|O"]), [1], bytes(8)),
        "fields_deep": array(_deep_structure(30), [1], bytes(8)),
        "result_numbers": {"$result": ["a.B", {"results": 5, "timing": 6, "info": 7}]},
        "result_list": {"$result": ["a.B", []]},
        "result_none": {"$result": ["a.B", {}]},
        "same_none": {"$same": 0},
        "meta_beyond": {"$meta": [[1], [["a", [5]]]]},
        "meta_many": {"$meta": [[1], [["a", [0] * 1_000_000]]]},
        "meta_numbers": {"$meta": [5, 6]},
    }


def _deep_structure(depth: int) -> Any:
    spec: Any = "<f8"
    for _ in range(depth):
        spec = {
            "names": ["a"],
            "formats": [spec],
            "offsets": [0],
            "itemsize": 8,
            "aligned": False,
        }
    return spec


def _odd_results() -> dict[str, dict[str, Any]]:
    """Return detections whose members are of the kinds that stand for objects, by name."""
    large, long = {"$decimal": "1e999999999"}, {"$int": "0x" + "f" * 1_000_000}
    enum = {"$enum": ["a.B", "X", long, True, "x"]}
    plain = {"bbox": [1.0, 2.0, 30.0, 40.0], "category_id": 0, "label": "a", "score": 0.5}
    odd = {"decimal": large, "int": long, "enum": enum, "masked": {"$masked": None}}
    changed: dict[str, dict[str, Any]] = {}
    for name, value in odd.items():
        changed |= {f"{key}_{name}": {key: value} for key in ("score", "category_id", "track_id")}
        changed[f"bbox_{name}"] = {"bbox": [value] * 4}
        changed[f"box_{name}"] = {"bbox": {"$namedtuple": ["a.B", list("abcd"), [1, 2, 3, value]]}}
        changed[f"angle_{name}"] = {"angle": value}
        changed[f"label_{name}"] = {"label": value}
    return {name: {**plain, **change} for name, change in changed.items()}


def _json_cases(base: Base) -> Iterator[Path]:
    metadata = json.dumps(base.metadata)

    def case(name: str, column: str, text: str) -> Path:
        values = pa.array([text] * _FRAMES, pa.string())
        changed = _replaced(base.table, column, values)
        return edited(base.folder / f"x_{name}.parquet", changed, metadata, checksums=True)

    long = {"numbers": "[1" + ",1" * 9_000_000 + "]", "lists": "[[]" + ",[]" * 1_000_000 + "]"}
    for name, text in {**_json_values(), **long}.items():
        yield case(name, "attributes", f'{{"zone_counts":{text}}}')
    for name, value in _rebuilt_values().items():
        yield case(f"rebuilt_{name}", "attributes", json.dumps({"zone_counts": value}))
    for name, detection in _odd_results().items():
        # A text inside of JSON, as `restore` has what the columns cannot hold.
        yield case(f"odd_{name}", "restore", json.dumps({"results": json.dumps([detection])}))
    for name in ("null", "list", "text", "deepest", "members", "infinite", "empty"):
        yield case(f"attributes_{name}", "attributes", _ODD_JSON[name])
        yield case(f"restore_{name}", "restore", _ODD_JSON[name])
    yield case("attributes_garbage", "attributes", "{[")
    yield case("restore_garbage", "restore", "{[")
    taken = ("results", "_inference_results", "__class__", "__dict__", "image_overlay", "timing")
    names = dict.fromkeys((*taken, "info", "", "a b", "frame", "row", "_restored", "image"), 1)
    yield case("attributes_names", "attributes", json.dumps(names))
    notes: dict[str, Any] = {
        "results_text": {"results": json_values.dumps("x")},
        "results_null": {"results": "null"},
        "results_number": {"results": 5},
        "results_list": {"results": json.dumps([1, None, [], {"bbox": "x"}, {"mask": 1}])},
        "results_boxes": {"results": json.dumps([{"bbox": [1, 2, 3]}, {"bbox": []}, {"label": 1}])},
        "results_data": {"results": json.dumps([{"data": 1}])},
        "results_object": {"results": json.dumps({"a": 1})},
        "timing_text": {"timing": json_values.dumps("x")},
        "timing_null": {"timing": None},
        "timing_int_unknown": {"timing_int": ["nothing"]},
        "timing_int_number": {"timing_int": 5},
        "timing_int_nested": {"timing_int": [[], {}]},
        "info_number": {"info": 5},
        "info_garbage": {"info": "{["},
        "conversion_number": {"conversion": 5},
        "conversion_short": {"conversion": [1]},
        "conversion_texts": {"conversion": ["a", "b", "c", "d"]},
        "conversion_huge": {"conversion": [1e308] * 4},
        "conversion_zero": {"conversion": [0, 0, 0, 0]},
    }
    for name, note in notes.items():
        yield case(f"note_{name}", "restore", json.dumps(note))
    for name, text in {
        "scalar": "scalar_object",
        "array": "array_large",
        "zero": "array_zero_text",
    }.items():
        yield case(f"note_{name}", "restore", json.dumps({"info": _json_values()[text]}))
        yield case(f"note_results_{name}", "restore", json.dumps({"results": _json_values()[text]}))
    class_maps = {
        **base.metadata,
        "model": {**base.metadata["model"], "result_type": "Segmentation"},
    }
    for name, shape in {"empty": (0, 0), "flat": (7,), "deep": (1, 2, 3, 4), "text": None}.items():
        data = "x" if shape is None else np.zeros(shape, np.int64)
        note = {"results": json_values.dumps([{"data": data}]), "conversion": [1, 1, 2, 2]}
        changed = _replaced(base.table, "restore", pa.array([json.dumps(note)] * _FRAMES))
        path = base.folder / f"x_class_map_{name}.parquet"
        yield edited(path, changed, json.dumps(class_maps), checksums=True)


# --- Parquet -----------------------------------------------------------------------------------


def mutations(data: bytes, count: int, seed: int, *, start: int = 0) -> Iterator[bytes]:
    """Yield copies of ``data`` with a few bytes changed, from ``start`` on."""
    chance = random.Random(seed)
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(chance.choice([1, 1, 2, 5])):
            at = chance.randrange(start, len(changed))
            kind = chance.randrange(4)
            if kind == 0:
                changed[at] ^= 1 << chance.randrange(8)
            elif kind == 1:
                changed[at] = chance.choice([0, 0xFF, 0x7F, 0x80])
            elif kind == 2:
                changed[at] = chance.randrange(256)
            else:
                end = min(len(changed), at + chance.randrange(1, 9))
                changed[at:end] = bytes([chance.choice([0, 0xFF])]) * (end - at)
        yield bytes(changed)


def _parquet_cases(base: Base) -> Iterator[Path]:
    metadata = json.dumps(base.metadata)

    def case(name: str, data: bytes) -> Path:
        path = base.folder / f"p_{name}.parquet"
        path.write_bytes(data)
        return path

    plain_path = edited(base.folder / "p_plain.parquet", base.table, metadata)
    plain = plain_path.read_bytes()
    (footer,) = struct.unpack("<I", plain[-8:-4])
    yield plain_path
    yield case("empty", b"")
    yield case("magic", b"PAR1")
    yield case("magics", b"PAR1PAR1")
    yield case("twelve", b"PAR1" + bytes(4) + b"PAR1")
    yield case("encrypted", plain[:-4] + b"PARE")
    yield case("encrypted_both", b"PARE" + plain[4:-4] + b"PARE")
    yield case("half", plain[: len(plain) // 2])
    yield case("no_footer", plain[:-8])
    yield case("footer_zero", plain[:-8] + struct.pack("<I", 0) + b"PAR1")
    yield case("footer_long", plain[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1")
    yield case("footer_all", plain[:-8] + struct.pack("<I", len(plain) - 12) + b"PAR1")
    yield case("footer_ones", plain[: -8 - footer] + b"\xff" * footer + plain[-8:])
    yield case("text", b"hello" * 1000)
    yield case("zeros", bytes(100_000))
    yield case("arrow", b"\xff\xff\xff\xff" + bytes(1000))
    for number, data in enumerate(mutations(plain, 40, 3, start=len(plain) - footer - 8)):
        yield case(f"footer_{number}", data)
    for number, data in enumerate(mutations(plain[: -footer - 8], 30, 4, start=4)):
        yield case(f"page_{number}", data + plain[-footer - 8 :])
    # Rows that are small in the file and enormous in memory.
    text = "x" * 50_000_000
    repeated = pa.array([text] * _FRAMES, pa.string())
    bomb = _replaced(base.table, "attributes", repeated)
    yield edited(base.folder / "p_text_bomb.parquet", bomb, metadata, compression="zstd")
    boxes = _replaced(
        base.table, "detections", _many_nulls(base.table["detections"].type, _FRAMES, 20_000_000)
    )
    yield edited(base.folder / "p_list_bomb.parquet", boxes, metadata, compression="zstd")
    for name, column, lists in _long_rows(base):
        changed = _replaced(base.table, column, lists)
        path = base.folder / f"p_long_row_{name}.parquet"
        yield edited(path, changed, metadata, compression="zstd")
    yield case("lying_footer", _with_fewer_values(base.folder / "p_long_row_nulls.parquet"))
    yield from _damaged_columns(base)
    crowd = base.table.take(pa.array([0] * 300_000))
    yield edited(
        base.folder / "p_long.parquet",
        crowd.drop_columns(["detections"]).append_column(
            "detections", pa.array([[]] * 300_000, base.table["detections"].type)
        ),
        metadata,
        compression="zstd",
    )
    unknown = base.table.append_column("bomb", repeated)
    yield edited(base.folder / "p_unknown_bomb.parquet", unknown, metadata, compression="zstd")
    (base.folder / "p_folder.parquet").mkdir()
    yield base.folder / "p_folder.parquet"
    for name, kind in {"fifo": os.mkfifo}.items():
        path = base.folder / f"p_{name}.parquet"
        kind(path)
        yield path
    for name, target in {
        "device": "/dev/zero",
        "null_device": "/dev/null",
        "random": "/dev/urandom",
        "loop": "p_loop.parquet",
        "dangling": "nowhere.parquet",
    }.items():
        path = base.folder / f"p_{name}.parquet"
        path.symlink_to(target)
        yield path


def _many_nulls(type_: pa.DataType, rows: int, count: int) -> pa.Array:
    """Return a column with ``count`` null detections in its first row."""
    return _in_first_row(rows, pa.nulls(count, type_.value_type), type_)


def _in_first_row(rows: int, values: pa.Array, type_: pa.DataType) -> pa.Array:
    offsets = pa.array([0, *[len(values)] * rows], pa.int32())
    return pa.ListArray.from_arrays(offsets, values, type=type_)


def _long_rows(base: Base) -> Iterator[tuple[str, str, pa.Array]]:
    """Yield columns in which one row has nearly all there is: its name and its column."""
    type_ = base.table["detections"].type
    yield "few", "detections", _many_nulls(type_, _FRAMES, 100_000)
    yield "nulls", "detections", _many_nulls(type_, _FRAMES, 15_000_000)
    first = base.table["detections"].combine_chunks().flatten().slice(0, 1)
    same = first.take(pa.array([0] * 300_000))
    yield "same", "detections", _in_first_row(_FRAMES, same, type_)
    points_type = type_.value_type.field("landmarks").type
    points = _in_first_row(1, pa.nulls(3_000_000, points_type.value_type), points_type)
    children = [
        points if field.name == "landmarks" else first.field(field.name)
        for field in type_.value_type
    ]
    pointed = pa.StructArray.from_arrays(children, fields=list(type_.value_type))
    yield "points", "detections", _in_first_row(_FRAMES, pointed, type_)
    keys = pa.array(["a"]).take(pa.array([0] * 3_000_000))
    offsets = pa.array([0, *[len(keys)] * _FRAMES], pa.int32())
    items = pa.nulls(len(keys), pa.float64())
    timing_type = base.table["timing"].type
    timing = pa.MapArray.from_arrays(offsets, keys, items, type=timing_type)
    yield "timing", "timing", timing


def _with_fewer_values(path: Path) -> bytes:
    """Return a file with a long first row, whose footer says that the columns are short."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    counts = {group.column(index).num_values for index in range(group.num_columns)}
    data = path.read_bytes()
    (length,) = struct.unpack("<I", data[-8:-4])
    footer = data[-8 - length : -8]
    for count in counts - {_FRAMES}:
        long = _varint(2 * count)
        # The same number of bytes: groups of seven bits that are zero may follow.
        short = bytes([*(byte | 128 for byte in _varint(2 * 30)), *[128] * len(long)])
        footer = footer.replace(long, short[: len(long) - 1] + b"\0")
    return data[: -8 - length] + footer + data[-8:]


def _varint(number: int) -> bytes:
    """Return a number as Thrift writes it: seven bits in a byte, the lowest first."""
    found = [number & 127]
    while number := number >> 7:
        found[-1] |= 128
        found.append(number & 127)
    return bytes(found)


def _damaged_columns(base: Base) -> Iterator[Path]:
    """Yield files with one page that cannot be read, and checksums that hold."""
    plain = edited(
        base.folder / "damaged.parquet",
        base.table,
        json.dumps({**base.metadata, "damage": []}),
        compression="none",
        use_dictionary=False,
    )
    data, group = plain.read_bytes(), pq.ParquetFile(plain).metadata.row_group(0)
    plain.unlink()
    for index in range(0, group.num_columns, 3):
        column = group.column(index)
        changed = bytearray(data)
        at = column.data_page_offset
        changed[at : at + 6] = b"\xff" * 6
        path = base.folder / f"p_damaged_{column.path_in_schema.replace('.', '_')}.parquet"
        with path.open("w+b") as file:
            file.write(changed)
            append_checksums(file)
        yield path


# --- journals ----------------------------------------------------------------------------------


class _Journal(JournalWriter):
    """A writer whose notes and batches can be anything."""

    def append(self, note: dict[str, Any], batch: pa.RecordBatch | None = None) -> None:
        from dgrec.format.encode import build_batch

        self._put(self._encode(build_batch([], 0) if batch is None else batch, note))
        self._sequence += 1


def _journal_cases(base: Base) -> Iterator[Path]:
    rows = make_rows(_FRAMES, width=_WIDTH, height=_HEIGHT)

    def case(
        name: str, change: Callable[[_Journal], None] | None = None, metadata: Any = None
    ) -> Path:
        path = base.folder / f"j_{name}.arrows"
        writer = _Journal(path, base.metadata if metadata is None else metadata, durability="never")
        try:
            writer.write(rows)
            if change is not None:
                change(writer)
            else:
                writer.end(CLOSING)
        finally:
            writer.close()
        return path

    whole = case("whole")
    data = whole.read_bytes()
    yield whole
    odd = [None, True, -1, 2**70, "x", [], {}, [[1]], 0.5, float("nan"), ESCAPES, {"a": {"b": []}}]
    for key in ("seq", "id", "first", "rows", "start", "events", "end"):
        for index, value in enumerate(odd):
            if (index + len(key)) % 3 == 0 or key in ("events", "end", "first"):
                yield case(f"note_{key}_{index}", lambda w, k=key, v=value: w.append({k: v}))
    for name, text in _ODD_JSON.items():
        if name in ("deepest", "longest", "megabyte", "surrogate", "huge", "infinite"):
            ending = {
                "ended_at": _MARK,
                "totals": {"frames": _MARK},
                "video": _MARK,
                "model": _MARK,
            }

            def change(writer: _Journal, text: str = text, ending: Any = ending) -> None:
                _append_text(writer, ending, text)

            yield case(f"end_{name}", change)
    part = {"number": "x", "set_id": [1], "first_frame": 0.5}
    yield case("part", None, {**base.metadata, "part": part})
    for position in (0, 8, len(data) // 3, len(data) // 2, len(data) - 40):
        path = base.folder / f"j_erased_{position}.arrows"
        path.write_bytes(data[:position] + b"\xff" * 200_000 + data[position:])
        yield path
    for name, content in {
        "empty": b"",
        "four": b"\xff\xff\xff\xff",
        "ones": b"\xff" * 300_000,
        "half": data[: len(data) // 2],
        "head": data[:1000],
        "garbage": random.Random(5).randbytes(100_000),
        "lengths": b"\xff\xff\xff\xff\xff\xff\xff\x7f" * 10_000,
        "twice": data + data,
        "end": END_OF_STREAM * 1000,
    }.items():
        path = base.folder / f"j_{name}.arrows"
        path.write_bytes(content)
        yield path
    yield from _forged_journals(base, data)
    yield from _foreign_journals(base)


def _append_text(writer: _Journal, ending: dict[str, Any], text: str) -> None:
    """Append a batch whose note holds ``text`` as it is."""
    from dgrec.format import metadata as metadata_module

    plain = metadata_module.dumps
    metadata_module.dumps = lambda value: plain(value).replace(f'"{_MARK}"', text)  # type: ignore
    try:
        writer.append({"end": ending})
    finally:
        metadata_module.dumps = plain


def _messages_of(data: bytes) -> list[tuple[int, int, int]]:
    """Return (start, end of header, end) of each message of a journal."""
    found = []
    at = 0
    while data[at : at + 8] != END_OF_STREAM and at < len(data):
        (header,) = struct.unpack_from("<i", data, at + 4)
        message = pa.ipc.read_message(pa.py_buffer(data[at:]))
        body = 0 if message.body is None else message.body.size
        found.append((at, at + 8 + header, at + 8 + header + body))
        at += 8 + header + body
    return found


def _forged_journals(base: Base, data: bytes) -> Iterator[Path]:
    """Yield journals with changed bytes and a checksum that holds."""
    chance = random.Random(6)
    messages = _messages_of(data)
    for number in range(80):
        start, header_end, end = chance.choice(messages[:3] if number % 4 == 0 else messages[2:3])
        message = bytearray(data[start:end])
        in_header = number % 2 == 0
        low, high = (
            (8, header_end - start)
            if in_header or end == header_end
            else (
                header_end - start,
                end - start,
            )
        )
        for _ in range(chance.choice([1, 2, 6])):
            at = chance.randrange(low, high)
            size = chance.choice([1, 1, 4, 8])
            message[at : at + size] = chance.choice(
                [bytes([chance.randrange(256)]) * size, b"\xff" * size, bytes(size), b"\x7f" * size]
            )[: max(0, high - at)]
        mark = message.find(b"\x1fcrc32:")
        if mark < 0 or mark + len(CRC_ZEROS) > len(message):
            continue
        message[mark : mark + len(CRC_ZEROS)] = CRC_ZEROS
        at = mark + len(CRC_ZEROS) - 8
        message[at : at + 8] = b"%08x" % zlib.crc32(message)
        path = base.folder / f"j_forged_{number}.arrows"
        path.write_bytes(data[:start] + bytes(message) + data[end:])
        yield path


def _foreign_journals(base: Base) -> Iterator[Path]:
    """Yield journals with valid checksums that were written with other schemas and options."""
    import io

    from dgrec.format import metadata as metadata_module
    from dgrec.format.journal_writer import stream_id

    def write(name: str, table: pa.Table, **options: Any) -> Path:
        buffer = io.BytesIO()
        schema = table.schema.with_metadata(
            {METADATA_KEY: metadata_module.dumps(base.metadata), "dgrec.crc32": CRC_ZEROS}
        )
        table = table.cast(schema) if table.schema.equals(schema) else table
        with pa.ipc.new_stream(buffer, schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
            for batch in table.combine_chunks().to_batches():
                note = {"seq": 0, "id": stream_id(base.metadata), "first": 0, "rows": len(batch)}
                custom = {"dgrec.batch": json.dumps(note, separators=(",", ":"))}
                stream.write_batch(batch, custom_metadata={**custom, "dgrec.crc32": CRC_ZEROS})
        data = bytearray(buffer.getvalue())
        if data.endswith(END_OF_STREAM):
            del data[-8:]
        set_checksums(data)
        path = base.folder / f"j_{name}.arrows"
        path.write_bytes(data + END_OF_STREAM)
        return path

    yield write("zstd", base.table, compression="zstd")
    yield write("few", base.table.select(["frame", "detections"]))
    yield write("no_detections", base.table.drop_columns(["detections"]))
    yield write("text_frame", _typed(base.table, "frame", pa.string()))
    yield write("narrow", _typed(base.table, "frame", pa.int32()))
    yield write("views", _typed(base.table, "restore", pa.string_view()))
    union = pa.UnionArray.from_sparse(
        pa.array([0] * _FRAMES, pa.int8()), [pa.array(range(_FRAMES))]
    )
    yield write("union", base.table.append_column("union", union))
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([_FRAMES], pa.int32()), pa.array([1.5]))
    yield write("runs", base.table.append_column("runs", runs))


# --- dgrec.toml, names -------------------------------------------------------------------------


def _toml_cases(base: Base) -> Iterator[Path]:
    texts = {
        "deep": "x = " + _nested(5000),
        "tables": "[" + ".".join(["a"] * 20_000) + "]",
        "nul": 'sources = {"cam0" = "a\\u0000b"}',
        "nul_byte": "x = \0",
        "name": f'[sources]\n{"x" * 1_000_000} = "a.mp4"',
        "number": "[sources]\ncam99999999999999999999 = 99999999999999999999999999",
        "types": "sources = [1, 2]",
        "values": "[sources]\na = 5\nb = []\nc = {}\nd = true\ne = 1979-05-27",
        "escapes": f"[sources]\na = {json.dumps(ESCAPES)}",
        "huge": "x = " + "9" * 5000,
    }
    for name, text in texts.items():
        folder = base.folder / f"t_{name}.toml"
        folder.mkdir()
        (folder / "dgrec.toml").write_text(text, encoding="utf-8")
        yield folder


def _name_cases(base: Base) -> Iterator[Path]:
    for number, name in enumerate(
        (
            "n_\udcff\udcfe.parquet",
            "n_[a]*?.parquet",
            "n_'quote\".parquet",
            "n_;DROP.parquet",
            "n_%d.parquet",
            "n_new\nline\x1b[5m.parquet",
            "n_\u202egnp.parquet",
            "n_" + "x" * 240 + ".parquet",
            "n_ .parquet",
            "n_\udcff-0001.parquet",
            "n_label=car.parquet",
        )
    ):
        path = base.folder / name
        path.write_bytes(base.sealed)
        assert number >= 0
        yield path
    rows = make_rows(_FRAMES, width=_WIDTH, height=_HEIGHT)
    journal = base.folder / "n_\udcff.arrows"
    writer = JournalWriter(journal, base.metadata, durability="never")
    writer.write(rows)
    writer.close()
    yield journal


# --- references --------------------------------------------------------------------------------


def _reference_cases(base: Base) -> Iterator[Path]:
    """Yield sessions in folders of their own that name files in `OUTSIDE`, or lead to them."""
    outside = base.folder / OUTSIDE
    outside.mkdir()
    for name in ("canary.mp4", "0.mp4", "canary.ts"):
        shutil.copy(sample.CLIP, outside / name)

    def case(name: str, given: str, beside: dict[str, str | Path], **changed: Any) -> Path:
        folder = base.folder / f"r_{name}"
        folder.mkdir()
        for file, content in beside.items():
            if isinstance(content, Path):
                (folder / file).symlink_to(content)
            else:
                (folder / file).write_text(content)
        source = {"kind": "file", "given": given, "file": given, "path": given, "relative": given}
        video = [{"file": given, "kind": kind} for kind in ("raw", "annotated")]
        metadata = {**base.metadata, "source": source, "video": video, **changed}
        return edited(
            folder / f"{folder.name}.parquet", base.table, json.dumps(metadata), checksums=True
        )

    canary = str(outside / "canary.mp4")
    for name, given in {
        "up": "../outside/canary.mp4",
        "far_up": "./../r_up/../../" + str(outside).lstrip("/") + "/canary.mp4",
        "absolute": canary,
        "file_url": f"file://{canary}",
        "file": f"file:{canary}",
        "http": "http://127.0.0.1:9/canary.mp4",
        "rtsp": "rtsp://127.0.0.1:9/canary",
        "tcp": "tcp://127.0.0.1:9",
        "concat": f"concat:{canary}|{canary}",
        "subfile": f"subfile,,start,0,end,100,,:{canary}",
        "crypto": f"crypto:{canary}",
        "pattern": "../outside/%d.mp4",
        "glob": "../outside/*.mp4",
        "percent": "%2e%2e/outside/canary.mp4",
        "windows": "..\\outside\\canary.mp4",
        "home": "~/canary.mp4",
        "environment": "/proc/self/environ",
        "users": "/etc/passwd",
        "device": "/dev/zero",
        "standard_input": "-",
        "descriptor": "/dev/fd/0",
        "pipe": "pipe:0",
        "nul": f"{canary}\0.mp4",
        "camera": "0",
    }.items():
        yield case(name, given, {})
    links: dict[str, dict[str, str | Path]] = {
        "link": {"clip.mp4": outside / "canary.mp4"},
        "link_up": {"clip.mp4": Path("../outside/canary.mp4")},
        "concat_up": {"clip.mp4": "ffconcat version 1.0\nfile '../outside/canary.mp4'\n"},
        "concat_absolute": {"clip.mp4": f"ffconcat version 1.0\nfile '{canary}'\n"},
        "playlist_up": {"clip.mp4": _playlist("../outside/canary.ts")},
        "playlist_absolute": {"clip.mp4": _playlist(str(outside / "canary.ts"))},
        "playlist_url": {"clip.mp4": _playlist(f"file://{outside}/canary.ts")},
        "playlist_http": {"clip.mp4": _playlist("http://127.0.0.1:9/canary.ts")},
        "playlist_of_playlists": {
            "clip.mp4": _playlist("more.m3u8"),
            "more.m3u8": _playlist("../outside/canary.ts"),
        },
        "playlist_link": {"clip.mp4": _playlist("x.ts"), "x.ts": outside / "canary.ts"},
        "sdp": {"clip.mp4": "v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"},
    }
    for name, beside in links.items():
        yield case(name, "clip.mp4", beside)
        suffixes = [Path(file).suffix for file in beside]
        if name.startswith(("link", "concat")):
            yield case(
                f"{name}_named",
                f"r_{name}_named.mp4",
                {
                    f"r_{name}_named{suffix}": content
                    for suffix, content in zip(suffixes, beside.values(), strict=True)
                },
            )
    yield case("folder", "inside/canary.mp4", {"inside": outside})
    model = {
        "name": canary,
        "zoo_url": str(outside),
        "labels_path": canary,
        "url": f"file:{canary}",
    }
    yield case("model", "", {}, model={**base.metadata["model"], **model})
    part = {"number": 1, "set_id": "s", "first_frame": 0}
    yield case("part", "", {}, part=part, parts=[{"file": canary}, {"file": "../outside/0.mp4"}])


def _playlist(*files: str) -> str:
    entries = "".join(f"#EXTINF:1,\n{file}\n" for file in files)
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{entries}#EXT-X-ENDLIST\n"


_WRITERS: dict[str, Callable[[Base], Iterator[Path]]] = {
    "m": _metadata_cases,
    "c": _column_cases,
    "v": _value_cases,
    "d": _detection_cases,
    "x": _json_cases,
    "p": _parquet_cases,
    "j": _journal_cases,
    "t": _toml_cases,
    "n": _name_cases,
    "r": _reference_cases,
}


# --- chance ------------------------------------------------------------------------------------


def fuzzed(folder: Path, count: int, seed: int) -> list[Path]:
    """Write ``count`` copies of sessions with bytes changed at random."""
    base = _make_base(folder)
    chance = random.Random(seed)
    metadata = json.dumps(base.metadata)
    plain = edited(folder / "fuzz.parquet", base.table, metadata).read_bytes()
    (footer,) = struct.unpack("<I", plain[-8:-4])
    body = len(plain) - footer - 8
    paths = []
    for number in range(count):
        path = folder / f"f_{number}.parquet"
        kind = number % 3
        if kind == 0:  # the footer
            data = next(mutations(plain, 1, chance.randrange(2**32), start=body))
        elif kind == 1:  # pages
            data = next(mutations(plain[:body], 1, chance.randrange(2**32), start=4)) + plain[body:]
        else:  # JSON
            name = chance.choice([*JSON_COLUMNS, "metadata", "keys", "extra"])
            _write_changed_json(path, base, name, chance)
            paths.append(path)
            continue
        path.write_bytes(data)
        paths.append(path)
    return paths


def _write_changed_json(path: Path, base: Base, name: str, chance: random.Random) -> None:
    def change(text: str | None) -> str | None:
        if not text:
            return text
        data = next(mutations(text.encode(), 1, chance.randrange(2**32)))
        return data.decode("utf-8", "replace")

    table, metadata = base.table, json.dumps(base.metadata)
    if name == "metadata":
        metadata = change(metadata) or ""
    elif name in JSON_COLUMNS:
        texts = pa.array(list(map(change, table[name].to_pylist())), pa.string())
        table = _replaced(table, name, texts)
    else:
        rows = [
            [{**item, name: change(item[name])} for item in row]
            for row in table["detections"].to_pylist()
        ]
        table = _replaced(table, "detections", pa.array(rows, table["detections"].type))
    edited(path, table, metadata)
