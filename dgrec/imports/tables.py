"""A detection in each row: supervision's CSVSink and JSONSink, and tables with such columns."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from dgrec.imports import values
from dgrec.imports.frames import Facts, Frames, ImportedFrame, Input
from dgrec.imports.gathering import Gathering
from dgrec.imports.text import InvalidError, JsonReader, lines_of

__all__ = ["BOX", "read_csv", "read_json"]

BOX: Final = ("x_min", "y_min", "x_max", "y_max")
#: Names of the column with the number of the frame; the first that is there counts.
_FRAME: Final = "source_frame frame frame_number frame_index frame_id frame_idx".split()
_NAMES: Final = {
    "label": ("label", "class_name"),
    "category_id": ("category_id", "class_id"),
    "score": ("score", "confidence"),
    "track_id": ("track_id", "tracker_id"),
}
_COLUMNS: Final = frozenset([*BOX, *_FRAME, *(name for names in _NAMES.values() for name in names)])


def read_csv(given: Input, facts: Facts) -> Frames:
    """Yield the frames of a CSV file with a header."""
    rows = csv.reader(lines_of(given.file), strict=True)
    try:
        names = next(rows, None)
    except csv.Error as error:
        raise InvalidError("line 1", str(error)) from None
    if names is None:
        raise InvalidError("line 1", "there is no header")
    if (missing := [name for name in BOX if name not in names]) or len(names) != len({*names}):
        what = f"has no column {missing[0]}" if missing else "a name stands twice"
        raise InvalidError("line 1", f"{what}; expected {','.join(BOX)} and a frame's number")
    yield from _frames(_csv_rows(rows, names), given, facts)


def _csv_rows(rows: Any, names: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        for row in rows:
            where = f"line {rows.line_num:,}"
            if not row:
                continue
            if len(row) != len(names):
                raise InvalidError(where, f"has {len(row)} values for {len(names)} columns")
            yield where, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise InvalidError(f"line {rows.line_num:,}", str(error)) from None


def read_json(given: Input, facts: Facts) -> Frames:
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
            gathering.add(detection, frame=frame)
        for number, _, found in gathering.frames():
            yield ImportedFrame(number, [item for _, item in found])


def _detection(
    row: Mapping[str, Any], where: str, given: Input, facts: Facts
) -> tuple[int, dict[str, Any]]:
    wanted = given.options.frame_column
    column = wanted or next((name for name in _FRAME if name in row), None)
    if column is None or column not in row:
        lacking = f"has no {wanted!r}" if wanted else "nothing says which frame it is"
        raise InvalidError(
            where,
            f"{lacking}: write it with the detections (supervision: "
            "custom_data={'frame_number': number}), or name its column with --frame-column",
        )
    frame = values.count(_value(row[column]), column, where)
    box = values.corners([_value(row.get(name)) for name in BOX], "box", where)
    known: dict[str, Any] = {}
    for key, names in _NAMES.items():
        found = next((row[name] for name in names if row.get(name) not in (None, "")), None)
        if found is not None:
            known[key] = found
    if "label" in known:
        known["label"] = values.label(known["label"], "label", where)
    if "score" in known:
        known["score"] = values.score(_value(known["score"]), "score", where)
    for key, most in (("category_id", 2**31 - 1), ("track_id", values.LARGEST_FRAME)):
        if key in known:
            known[key] = values.count(_value(known[key]), key, where, most)
    category = known.get("category_id")
    if category is not None and "label" not in known and category in given.options.labels:
        known["label"] = given.options.labels[category]
    if category is not None and "label" in known and len(facts.labels) < 100_000:
        facts.labels.setdefault(category, known["label"])
    more = {
        key: _value(value)
        for key, value in row.items()
        if key not in _COLUMNS and key != column and value not in (None, "")
    }
    return frame, values.detection(
        box,
        **known,
        **{
            key: value
            for key, value in values.plain_extras(more, where).items()
            if key not in known and key != "box"
        },
    )


def _value(text: Any) -> Any:
    """Return the number or list that a cell holds; other texts as they are."""
    if not isinstance(text, str) or len(text) > 100_000:
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        is_whole = number.is_integer() and text.lstrip("+-").isdecimal()
        return int(number) if is_whole and abs(number) <= values.LARGEST_FRAME else number
    if text.startswith("[") and text.endswith("]"):  # supervision writes arrays so
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text
