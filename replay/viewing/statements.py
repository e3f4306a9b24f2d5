"""SQL that a user typed on the page, and the questions of the SQL library."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from dgrec.errors import QueryError
from dgrec.replay.limits import MEMORY, only_bounded
from dgrec.replay.output import QueryResult, cell_text, is_numeric, rows_of
from dgrec.replay.query import SqlReader, without_options
from dgrec.replay.viewing.time_line import time_line
from dgrec.session import Session
from dgrec.sql import library
from dgrec.terminal import shortened
from dgrec.units import parse_size

#: The most rows that a page gets, and the number if it does not ask for any.
MOST_ROWS, _ROWS = 20_000, 1_000
#: The most characters of a cell, and of all cells: one column may hold masks.
_LONGEST_CELL, _LONGEST_ANSWER = 4_000, 8_000_000
#: Rows of a batch that are turned into Python values at a time.
_ROWS_AT_ONCE = 256
#: JavaScript has no larger whole numbers.
_LARGEST_INTEGER = 2**53 - 1


def answer(reader: SqlReader, text: str, limit: int | None = None) -> dict[str, Any]:
    """Run one untrusted statement, as ``dgrec query`` does.

    Another thread can end it: `SqlReader.interrupt`.

    Returns ``columns`` (``name``, ``type``, ``numeric``), ``rows``, ``truncated``, ``elapsed_ms``
    and ``frame_column``, the number of the column that names frames, or null; or ``error``. Numbers
    are numbers, unless JavaScript cannot hold them; other values are text as in a table.
    """
    began = time.monotonic()
    limit = _ROWS if limit is None else min(max(limit, 0), MOST_ROWS)
    try:
        with only_bounded(int(parse_size(MEMORY))):
            result = reader.answer(text)
            rows, truncated = _rows(result, limit)
    except (QueryError, MemoryError) as error:
        return {"error": without_options(str(error)) or "out of memory"}
    except (pa.ArrowException, ValueError, OverflowError) as error:
        return {"error": f"a value cannot be shown: {str(error).splitlines()[0]}; cast it"}
    schema = result.schema
    return {
        "columns": [
            {"name": field.name, "type": str(field.type)[:200], "numeric": is_numeric(field.type)}
            for field in schema
        ],
        "rows": rows,
        "truncated": truncated,
        "elapsed_ms": round((time.monotonic() - began) * 1e3, 1),
        "frame_column": _frame_column(schema),
    }


def _rows(result: QueryResult, limit: int) -> tuple[list[list[Any]], bool]:
    """Return the first rows, and whether there are more."""
    rows: list[list[Any]] = []
    size = 0
    for row in rows_of(_pieces(result.batches)):
        if len(rows) == limit or size > _LONGEST_ANSWER:
            return rows, True
        cells = [_cell(value) for value in row]
        size += sum(len(cell) if isinstance(cell, str) else 8 for cell in cells)
        rows.append(cells)
    return rows, False


def _pieces(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
            yield batch.slice(start, _ROWS_AT_ONCE)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has neither
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST_INTEGER else str(value)
    return shortened(cell_text(value), _LONGEST_CELL)


def _frame_column(schema: pa.Schema) -> int | None:
    for at, field in enumerate(schema):
        if field.name.lower() == "frame" and pa.types.is_integer(field.type):
            return at
    return None


def with_places(session: Session, reader: SqlReader, found: dict[str, Any]) -> dict[str, Any]:
    """Add the places of frames in a session to an answer whose rows name frames.

    ``places`` has for each row the position and the seconds (null: unknown) of its frame, or null
    where the session has no such frame.
    """
    column = found.get("frame_column")
    if column is None:
        return found
    frames = [row[column] for row in found["rows"]]
    wanted = sorted({frame for frame in frames if isinstance(frame, int)})
    places: dict[int, tuple[int, float | None]] = {}
    if wanted:
        line = time_line(session, reader)
        query = (
            f"SELECT frame, {line.stamp_sql} AS us FROM frames "
            f"WHERE frame BETWEEN {wanted[0]} AND {wanted[-1]} "
            f"AND frame IN ({', '.join(map(str, wanted))})"
        )
        there = pa.Table.from_batches((result := reader.stream(query)).batches, result.schema)
        numbers, stamps = there.column(0).to_numpy(), there.column(1).to_pylist()
        for frame, i, us in zip(
            numbers.tolist(), line.positions(numbers).tolist(), stamps, strict=True
        ):
            places[frame] = i, None if us is None else (us - (line.origin_us or 0)) / 1e6
    return {**found, "places": [places.get(frame) for frame in frames]}


def questions() -> list[dict[str, str]]:
    """Return the questions of the library: ``name``, ``text``, ``sql``, ``definition``."""
    return [
        {
            "name": entry.name.replace("_", " "),
            "text": entry.description,
            "sql": f"SELECT * EXCLUDE (session_id)\nFROM {entry.call}",
            "definition": entry.sql,
        }
        for entry in library.entries()
        if entry.kind != "macro" and not entry.name.startswith("_")
    ]
