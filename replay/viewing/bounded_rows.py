"""Rows whose detections are few enough to be drawn, whatever a file holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dgrec.format import SCHEMA
from dgrec.session import Session, rows_of

#: The most detections of a frame that are drawn.
_MOST_DETECTIONS = 3000
#: Rows that take more memory are not drawn.
_MOST_ROW_BYTES = 64 << 20
#: Rows that are turned into Python values at once.
_ROWS_AT_ONCE = 32


def bounded_rows(
    session: Session, start: int, stop: int, columns: Sequence[str] = SCHEMA.names
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield rows by their positions, with a note on what is left out of each; "": nothing.

    Detections beyond the limit are cut off before they take memory in Python. In a row that is
    still too large, all columns are empty.
    """
    names = [name for name in columns if name in session.schema.names]
    for batch in session.batches(names, start, stop):
        column = batch.schema.get_field_index("detections")
        for at in range(0, batch.num_rows, _ROWS_AT_ONCE):
            part = batch.slice(at, _ROWS_AT_ONCE)
            counts = pc.list_value_length(part.column(column)).fill_null(0).to_pylist()
            if max(counts) <= _MOST_DETECTIONS and part.nbytes <= _MOST_ROW_BYTES:
                yield from ((row, "") for row in rows_of(part))
                continue
            for index, count in enumerate(counts):
                yield _cut(part.slice(index, 1), column, count)


def _cut(row: pa.RecordBatch, column: int, count: int) -> tuple[dict[str, Any], str]:
    note = ""
    if count > _MOST_DETECTIONS:
        note = f"{_MOST_DETECTIONS:,} of {count:,} detections are drawn"
        found = pc.list_slice(row.column(column), 0, _MOST_DETECTIONS)
        row = row.set_column(column, row.schema.field(column).name, found)
    if row.nbytes > _MOST_ROW_BYTES:
        note = f"not drawn: its row takes {row.nbytes / 1e6:,.0f} MB"
        row = row.slice(0, 0)
        return {**dict.fromkeys(SCHEMA.names), "timing": []}, note
    return rows_of(row)[0], note
