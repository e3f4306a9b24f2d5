"""Writes rows as they are computed, in every format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dgrec.errors import OutputError, QueryError, first_line
from dgrec.replay.output.destination import Destination
from dgrec.replay.output.tables import markdown_line, markdown_table, plain_table
from dgrec.replay.output.values import (
    cell_text,
    is_numeric,
    json_text,
    person_text,
    rows_of,
    values_of,
)
from dgrec.terminal import shortened
from dgrec.units import counted

#: Rows of a table that share their column widths.
_PAGE_ROWS = 1000
_ROW_GROUP_ROWS = 122_880
_ROW_GROUP_BYTES = 64 << 20
_PIECE_BYTES = 16 << 20
#: Longer cells of a table are shortened in the middle.
_LONGEST_CELL = 20_000


@dataclass
class QueryResult:
    """The columns of a result, and its rows, which can be read once."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


def write_rows(
    result: QueryResult,
    form: str,
    destination: Destination,
    limit: int | None = None,
) -> int:
    """Write at most ``limit`` rows and return how many were left out.

    Only a batch is in memory at a time; for a table, 1,000 rows, which share their column widths.

    Raises:
        QueryError: A value cannot be written in this format.
        OutputError: The destination of Parquet is a terminal.
    """
    schema, head = result.schema, _Head(_in_pieces(result.batches), limit)
    try:
        if form == "parquet":
            _write_parquet(schema, head, destination)
        else:
            for text in _WRITERS[form](schema, head, destination):
                destination.write(text)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        problem = f"a value cannot be written as {form}: {first_line(error)}; cast it"
        raise QueryError(problem) from None
    left_out = head.count_rest()
    if left_out and form == "table":
        destination.write(
            f"… {counted(left_out, 'more row')} (--limit 0 shows all; "
            "--format csv, json, jsonl and parquet write all)\n"
        )
    return left_out


def _in_pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in small batches: as Python values they take much more memory."""
    for batch in batches:
        rows = max(1, batch.num_rows * _PIECE_BYTES // max(1, batch.nbytes))
        if rows >= batch.num_rows:
            yield batch
            continue
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


class _Head:
    """Yields the first rows of ``batches``, and counts the rest."""

    def __init__(self, batches: Iterable[pa.RecordBatch], limit: int | None) -> None:
        self._batches = iter(batches)
        self._limit = limit
        self._rest = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        left = self._limit
        for batch in self._batches:
            if left is None:
                yield batch
                continue
            if batch.num_rows:
                yield batch.slice(0, min(left, batch.num_rows))
            if batch.num_rows >= left:
                self._rest = batch.num_rows - left
                return
            left -= batch.num_rows

    def count_rest(self) -> int:
        return self._rest + sum(int(batch.num_rows) for batch in self._batches)


def _json_array(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], _: Destination
) -> Iterator[str]:
    separator = "[\n"
    for line in _objects(schema, batches):
        yield separator + line
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def _json_lines(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], _: Destination
) -> Iterator[str]:
    for line in _objects(schema, batches):
        yield line + "\n"


def _objects(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    names = schema.names
    for row in rows_of(batches):
        yield json_text(dict(zip(names, row, strict=True)))


def _csv(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], destination: Destination
) -> Iterator[str]:
    yield csv_line(schema.names, destination)
    for batch in batches:
        for cells in zip(*map(_csv_cells, batch.columns), strict=True):
            yield _csv_join(cells, destination)


def csv_line(row: Sequence[Any], destination: Destination) -> str:
    """Return values as one line of CSV, its end included."""
    return _csv_join([_csv_cell(value) for value in row], destination)


def _csv_join(cells: Sequence[str], destination: Destination) -> str:
    # Most readers skip an empty line.
    text = ",".join(cells) or '""'
    # On a terminal, the lines of a cell could be mistaken for rows.
    return (text.replace("\n", "\\n") if destination.is_terminal else text) + "\n"


def _csv_cells(column: pa.Array) -> list[str]:
    """Return a column's values as CSV. Numbers and stamps need no quotes."""
    if column.null_count == len(column):
        return [""] * len(column)
    values = values_of(column)
    if is_numeric(column.type) or pa.types.is_timestamp(column.type):
        return ["" if value is None else str(value) for value in values]
    return [_csv_cell(value) for value in values]


_CSV_SPECIAL = re.compile(r'[",\r\n]|^\s|\s$')


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    text = cell_text(value)
    if not text or _CSV_SPECIAL.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def _markdown(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], _: Destination
) -> Iterator[str]:
    numeric = [is_numeric(field.type) for field in schema]
    yield markdown_table(schema.names, [], numeric)
    for row in rows_of(batches):
        yield markdown_line([person_text(value) for value in row])


def _tables(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], destination: Destination
) -> Iterator[str]:
    numeric = [is_numeric(field.type) for field in schema]
    page: list[list[str]] = []
    first = 0
    for row in rows_of(batches):
        page.append([shortened(person_text(value), _LONGEST_CELL) for value in row])
        if len(page) == _PAGE_ROWS:
            yield plain_table(schema.names, page, numeric, destination, first)
            first += len(page)
            page = []
    if page or not first:
        yield plain_table(schema.names, page, numeric, destination, first)
    if not page and not first:
        yield "(no rows)\n"


_WRITERS = {
    "json": _json_array,
    "jsonl": _json_lines,
    "csv": _csv,
    "markdown": _markdown,
    "table": _tables,
}


def _write_parquet(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], destination: Destination
) -> None:
    import pyarrow.parquet as pq

    if destination.is_terminal:
        raise OutputError("Parquet is not for a terminal; give --output FILE, or a pipe")
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(pa.PythonFile(destination.file, "w"), schema, compression="zstd") as w:

        def write_group() -> None:
            w.write_table(pa.Table.from_batches(waiting, schema), row_group_size=_ROW_GROUP_ROWS)
            waiting.clear()

        for batch in batches:
            waiting.append(batch)
            group = pa.Table.from_batches(waiting, schema)
            if group.num_rows >= _ROW_GROUP_ROWS or group.nbytes >= _ROW_GROUP_BYTES:
                write_group()
        if waiting:
            write_group()
