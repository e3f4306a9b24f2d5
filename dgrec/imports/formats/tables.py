"""A detection in each row: supervision's CSVSink and JSONSink, and tables with such columns."""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final

from dgrec.format import CORNERS
from dgrec.imports import (
    LONGEST_LINE,
    Facts,
    Frames,
    Gathering,
    Head,
    ImportedFrame,
    ImportFormat,
    Input,
    InvalidError,
    JsonReader,
    lines_of,
    values,
)

#: What may separate the columns: spreadsheets write semicolons where commas are in numbers.
_DELIMITERS: Final = ",;\t"
#: Held while the limit of a cell is another one.
_LIMIT: Final = threading.Lock()
_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d+,\d+")
#: Names of the column with the number of the frame; the first that is there counts.
_FRAME: Final = "source_frame frame frame_number frame_index frame_id frame_idx".split()
_NAMES: Final = {
    "label": ("label", "class_name"),
    "category_id": ("category_id", "class_id"),
    "score": ("score", "confidence"),
    "track_id": ("track_id", "tracker_id"),
}
_OF_FRAME: Final = "media_time_s captured_at latency_ms width height".split()
#: All of dgrec's own exports have these columns, and no other tool's table is likely to.
_SIGNS_OF_EXPORTS: Final = frozenset({"frame", "source_frame", "time_s"})
#: What those have in place of a number that is missing, or not finite.
_NO_NUMBERS: Final = (None, "", "nan", "-nan", "inf", "-inf")
_AS_JSON: Final = ("landmarks", "extra")
_SHAPES: Final = (*_AS_JSON, "mask_rle", "angle")
_COLUMNS: Final = frozenset(
    [*CORNERS, *_FRAME, *_OF_FRAME, *_SHAPES, *itertools.chain(*_NAMES.values())]
)
#: With further columns of exports: a session has them anyway, or they are about that export only.
_COLUMNS_OF_EXPORTS: Final = _COLUMNS | {"time_s", "video_frame", "detection", "picture", "split"}


class Csv(ImportFormat):
    name = "csv"
    title = "CSVSink of supervision, or a table with a detection in each row"
    reads_options = frozenset(("labels", "frame_column"))

    def is_it(self, head: Head) -> bool:
        return any({*CORNERS} <= {*head.first_cells_by(each)} for each in _DELIMITERS)

    def read(self, given: Input, facts: Facts) -> Frames:
        """Yield the frames of a CSV file with a header."""
        lines = lines_of(given.file)
        header = next(lines, "")
        try:
            rows = csv.reader(chain([header], lines), delimiter=_delimiter(header), strict=True)
            names = next(rows, None)
        except csv.Error as error:
            if "\r" in header.rstrip("\r\n"):
                raise InvalidError(
                    "line 1", "its lines end in carriage returns alone; save it with line feeds"
                ) from None
            raise InvalidError("line 1", str(error)) from None
        if names is None:
            raise InvalidError("line 1", "there is no header")
        missing = [name for name in CORNERS if name not in names]
        if missing or len(names) != len({*names}):
            what = f"has no column {missing[0]}" if missing else "a column name occurs twice"
            raise InvalidError(
                "line 1",
                f"{what}; expected {','.join(CORNERS)} and a frame's number, with commas, "
                "semicolons or tabs between them",
            )
        yield from _frames(_csv_rows(rows, names), given, facts)


def _delimiter(header: str) -> str:
    """Return the separator of columns: the one that gives the names of all corners of boxes."""
    for delimiter in _DELIMITERS:
        cells = next(csv.reader([header], delimiter=delimiter), [])
        if {*CORNERS} <= {*cells}:
            return delimiter
    return ","


def _csv_rows(rows: Any, names: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        for row in _with_long_cells(rows):
            where = f"line {rows.line_num:,}"
            if not row:
                continue
            if len(row) != len(names):
                raise InvalidError(where, f"has {len(row)} values for {len(names)} columns")
            found = {name: cell or None for name, cell in zip(names, row, strict=True)}
            for name in (*CORNERS, "score", "confidence"):
                text = found.get(name) or ""
                if _DECIMAL_COMMA.fullmatch(text):
                    raise InvalidError(
                        where, f"{name} is {text[:20]}, with a decimal comma; write it with a point"
                    )
            yield where, found
    except csv.Error as error:
        raise InvalidError(f"line {rows.line_num:,}", str(error)) from None


def _with_long_cells(rows: Any) -> Iterator[list[str]]:
    """Yield rows whose cells may be as long as a line: an embedding is longer than Python allows.

    Its limit is one for the whole process, where others may read CSV, too.
    """
    while True:
        with _LIMIT:
            before = csv.field_size_limit(LONGEST_LINE)
            try:
                row = next(rows, None)
            finally:
                csv.field_size_limit(before)
        if row is None:
            return
        yield row


class SupervisionJson(ImportFormat):
    name = "supervision-json"
    title = "JSONSink of supervision, or such an object on each line"
    reads_options = frozenset(("labels", "frame_column"))

    def is_it(self, head: Head) -> bool:
        return head.has_keys("[{", *CORNERS) or head.has_keys("{", *CORNERS)

    def read(self, given: Input, facts: Facts) -> Frames:
        """Yield the frames of a list of objects, or of an object on each line."""
        yield from _frames(_json_rows(JsonReader(given.file)), given, facts)


def _json_rows(reader: JsonReader) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if reader.peek() == "[":
        for _ in reader.rows():
            reader.peek()
            where = reader.where
            yield where, values.objects(reader.value(), where)
        reader.end()
        return
    while reader.peek():
        where = reader.where
        yield where, values.objects(reader.value(), where)


def _frames(rows: Iterable[tuple[str, Mapping[str, Any]]], given: Input, facts: Facts) -> Frames:
    facts.is_sparse = True
    with Gathering() as gathering:
        for where, row in rows:
            frame, detection = _detection(row, where, given, facts)
            added = _added(row, where, facts)
            gathering.add(
                {"found": detection, "added": added, "frame": _facts(row, where)}, frame=frame
            )
        for number, _, found in gathering.frames():
            yield _frame(number, found)


def _frame(number: int, rows: list[tuple[int, dict[str, Any]]]) -> ImportedFrame:
    """Return a frame, with packed masks."""
    size, time_s, captured_us, completed_us = rows[0][1]["frame"]
    detections = []
    for seq, row in rows:
        item, where = row["found"], f"detection {seq}"
        if "mask" in item:
            item["mask"] = values.coco_mask(item["mask"], where)
        for key, value in row["added"].items():
            item[key] = values.EncodedValue(value, f"{where}: {key[:40]!r}")
        detections.append(item)
    return ImportedFrame(
        number,
        detections,
        size=None if size is None else tuple(size),
        media_time_s=time_s,
        captured_us=captured_us,
        completed_us=completed_us,
    )


def _detection(
    row: Mapping[str, Any], where: str, given: Input, facts: Facts
) -> tuple[int, dict[str, Any]]:
    wanted = given.options.frame_column
    # A number that is not known is null, or in CSV and supervision's JSON empty.
    there = (name for name in _FRAME if row.get(name) not in (None, ""))
    column = wanted or next(there, None)
    if column is None or column not in row:
        lacking = f"has no {wanted!r}" if wanted else "nothing says which frame it is"
        raise InvalidError(
            where,
            f"{lacking}: write it with the detections (supervision: "
            "custom_data={'frame_number': number}), or name its column with --frame-column",
        )
    frame = values.count(_value(row[column]), column, where)
    box = _box(row, where, facts)
    known: dict[str, Any] = {}
    for key, names in _NAMES.items():
        # dgrec's own JSON has an empty text where the label is one.
        absent = (None,) if key == "label" and _is_export(row) else (None, "")
        found = next((row[name] for name in names if row.get(name) not in absent), None)
        if found is not None:
            known[key] = found
    if "label" in known:
        known["label"] = values.label(known["label"], "label", where)
    if "score" in known:
        known["score"] = values.number(_value(known["score"]), "score", where)
    for key, bits in (("category_id", 32), ("track_id", 64)):
        if key in known:
            known[key] = values.whole(_value(known[key]), key, where, bits)
    category = known.get("category_id")
    if category is not None and "label" not in known and category in given.options.labels:
        known["label"] = given.options.labels[category]
    if "label" in known:
        facts.name(category, known["label"])
    left_out = _COLUMNS_OF_EXPORTS if _is_export(row) else _COLUMNS
    more = {
        key: _value(value)
        for key, value in row.items()
        if key not in left_out and key != column and value not in (None, "")
    }
    found = values.detection(box, values.plain_extras(more, where), **known)
    return frame, {**found, **_shapes(row, where, facts)}


def _is_export(row: Mapping[str, Any]) -> bool:
    return row.keys() >= _SIGNS_OF_EXPORTS


def _box(row: Mapping[str, Any], where: str, facts: Facts) -> list[float] | None:
    """Return a row's box.

    dgrec's exports have whatever was recorded: no box, as for classes of whole pictures (None), and
    boxes that cannot be in a picture.
    """
    corners = [_value(row.get(name)) for name in CORNERS]
    if _is_export(row) and "detection" in row:  # supervision's JSON lacks it, and needs boxes
        lacking = [corner in _NO_NUMBERS for corner in corners]
        if any(lacking):
            if not all(lacking):
                facts.notes["boxes with a corner that is not a number are left out"] += 1
            return None
        return [values.number(corner, "box", where) for corner in corners]
    return values.corners(corners, "box", where)


def _facts(row: Mapping[str, Any], where: str) -> list[Any]:
    """Return the facts about a frame in each row of dgrec's own exports: size, time, stamps."""
    time_s, latency_ms = (_value(row.get(name)) for name in ("media_time_s", "latency_ms"))
    time_s = None if time_s in (None, "") else values.number(time_s, "media_time_s", where)
    captured_us = completed_us = None
    if row.get("captured_at"):
        captured_us = values.stamp(row["captured_at"], "captured_at", where)
        if latency_ms not in (None, ""):
            latency_ms = values.number(latency_ms, "latency_ms", where)
            # Limited to what can be counted: the stamps of such a latency are refused later.
            completed_us = captured_us + round(max(-1e18, min(latency_ms * 1000, 1e18)))
    return [_size(row, where), time_s, captured_us, completed_us]


def _size(row: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """Return width and height of a row's frame, if it says them."""
    width, height = _value(row.get("width")), _value(row.get("height"))
    if width in (None, "") or height in (None, ""):
        return None
    return values.size(width, height, where)


def _shapes(row: Mapping[str, Any], where: str, facts: Facts) -> dict[str, Any]:
    """Return angle, mask and key points as dgrec's own exports write them."""
    shapes: dict[str, Any] = {}
    if not _is_export(row):
        shapes = values.plain_extras(_extra(row, where), where)
    if (points := _json_of(row, "landmarks", where)) is not None:
        shapes["landmarks"] = values.landmarks(points, where, facts.notes)
    if (angle := _value(row.get("angle"))) not in (None, ""):
        shapes["angle"] = values.number(angle, "angle", where)
    if counts := row.get("mask_rle"):
        size = _size(row, where)
        if size is None:
            raise InvalidError(where, "has a mask, but no width and height of its frame")
        shapes["mask"] = {"size": [size[1], size[0]], "counts": counts}
    return shapes


def _added(row: Mapping[str, Any], where: str, facts: Facts) -> dict[str, Any]:
    """Return what programs added to a detection, as dgrec's own exports encode it."""
    if not _is_export(row):
        return {}
    added = values.encoded_extras(_extra(row, where), where)
    if added.pop("$value", None) is not None:  # it is all of the detection
        facts.notes["results that are not dictionaries of names are left out"] += 1
    return added


def _extra(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    found = _json_of(row, "extra", where)
    return {} if found is None else values.objects(found, where)


def _json_of(row: Mapping[str, Any], key: str, where: str) -> Any:
    """Return the value of a column that holds JSON; None if there is none."""
    value = row.get(key)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value else None
    except (ValueError, RecursionError):
        raise InvalidError(where, f"{key!r} is not JSON") from None


def _value(text: Any) -> Any:
    """Return the number or list that a cell holds; other texts as they are."""
    if not isinstance(text, str) or len(text) > 100_000:
        return text
    try:
        number = values.exact(text)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number
    if text.startswith("[") and text.endswith("]"):  # as supervision writes arrays
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text
