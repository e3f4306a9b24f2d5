"""Rows to text and files: the one place that writes results, in every format.

=========  ==================================================================================
table      for people: aligned, a row below another where the terminal is too narrow
markdown   for people: a GitHub table
csv        RFC 4180 with a header; nothing for null, ``""`` for an empty text
json       one array of objects
jsonl      one object a line
parquet    Arrow types as they are
=========  ==================================================================================

Stamps are ISO 8601 and end in ``Z``; lists, structs and maps are JSON text outside of JSON; bytes
are Base64; NaN and the infinities, which JSON does not have, are null there. Tables show six
decimals, every other format all digits.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import io
import json
import math
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
from rich.cells import cell_len

from dgrec.errors import OutputError, QueryError
from dgrec.files import output_error
from replay.recorded import refuse_recorded

if TYPE_CHECKING:
    from rich.table import Table

    from replay.query.reader import QueryResult

__all__ = [
    "Destination",
    "Section",
    "cell_text",
    "csv_line",
    "json_text",
    "markdown_table",
    "open_output",
    "write_report",
    "write_rows",
]

#: Rows of a table that share their column widths.
_PAGE_ROWS = 1000
_ROW_GROUP_ROWS = 122_880
_ROW_GROUP_BYTES = 64 << 20


# --- where to ----------------------------------------------------------------------------------


@dataclass
class Destination:
    """Where a result goes."""

    file: BinaryIO
    encoding: str = "utf-8"
    is_terminal: bool = False

    def write(self, text: str) -> None:
        self.file.write(text.encode(self.encoding, "backslashreplace"))


@contextlib.contextmanager
def open_output(
    path: Path | None, *, overwrite: bool = False, keep: Sequence[Path] = ()
) -> Iterator[Destination]:
    """Open ``path`` (None or ``-``: standard output) for one result.

    A file appears under its name only once it is whole. ``keep`` is never overwritten: the files of
    the session that the result is about, and its name.

    Raises:
        OutputError: The file exists and ``overwrite`` is false, or it cannot be written.
    """
    name = "standard output" if _is_stdout(path) else str(path)
    try:
        if path is None or _is_stdout(path):
            with _stdout() as destination:
                yield destination
        elif _is_special(path):
            with path.open("wb") as file:
                yield Destination(file)
        else:
            refuse_recorded(path, keep)
            with _new_file(path, overwrite) as file:
                yield Destination(file)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise output_error(name, error) from None


def _is_stdout(path: Path | None) -> bool:
    return path is None or str(path) == "-"


def _is_special(path: Path) -> bool:
    """Return whether ``path`` is a device or a pipe, which must not be replaced by a file."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextlib.contextmanager
def _stdout() -> Iterator[Destination]:
    stdout = sys.stdout
    stdout.flush()
    terminal = stdout.isatty()
    # What a program reads is UTF-8 wherever it runs; what a person reads is the terminal's.
    encoding = stdout.encoding if terminal else "utf-8"
    yield Destination(stdout.buffer, encoding, terminal)
    stdout.buffer.flush()


@contextlib.contextmanager
def _new_file(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    path = path.resolve()  # a link stays one
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give a file name")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or say --overwrite")
    temporary = path.with_name(f".{path.name}.writing")
    try:
        with temporary.open("wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


# --- rows --------------------------------------------------------------------------------------


def write_rows(
    result: QueryResult,
    form: str,
    destination: Destination,
    limit: int | None = None,
) -> int:
    """Write rows as they come and return how many were left out after the first ``limit``.

    Memory holds a batch at a time; for a table, 1,000 rows, which share their column widths (a
    longer table starts anew after them).

    Raises:
        QueryError: A value cannot be written in this format.
        OutputError: Parquet was to go to a terminal.
    """
    schema, head = result.schema, _Head(result.batches, limit)
    try:
        if form == "parquet":
            _write_parquet(schema, head, destination)
        else:
            for text in _WRITERS[form](schema, head, destination):
                destination.write(text)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise QueryError(f"a value cannot be written as {form}: {lines[0]}; cast it") from None
    left_out = head.count_rest()
    if left_out and form == "table":
        destination.write(
            f"… {left_out:,} more {'row' if left_out == 1 else 'rows'} (--limit 0 shows all; "
            "--format csv, json, jsonl and parquet write all)\n"
        )
    return left_out


class _Head:
    """The first rows of ``batches``, and afterwards how many there were beyond them."""

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
                yield batch.slice(0, left)
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
    for row in _rows(batches):
        yield json_text(dict(zip(names, row, strict=True)))


def _csv(schema: pa.Schema, batches: Iterable[pa.RecordBatch], _: Destination) -> Iterator[str]:
    yield csv_line(schema.names)
    for batch in batches:
        for cells in zip(*map(_csv_cells, batch.columns), strict=True):
            yield _csv_join(cells)


def csv_line(row: Sequence[Any]) -> str:
    """Return values as one line of CSV, its end included."""
    return _csv_join([_csv_cell(value) for value in row])


def _csv_join(cells: Sequence[str]) -> str:
    # To most readers an empty line is no row.
    return (",".join(cells) or '""') + "\n"


def _csv_cells(column: pa.Array) -> list[str]:
    """Return a column's values as CSV; by column, since most of its types need no quotes."""
    if column.null_count == len(column):
        return [""] * len(column)
    values = _values(column)
    if _is_numeric(column.type) or pa.types.is_timestamp(column.type):
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
    numeric = [_is_numeric(field.type) for field in schema]
    yield markdown_table(schema.names, [], numeric)
    for row in _rows(batches):
        yield _markdown_line([_person_text(value) for value in row])


def markdown_table(
    names: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[bool]
) -> str:
    """Return a GitHub table of texts; ``numeric`` columns stand to the right."""
    rule = "|" + "|".join(" ---: " if right else " --- " for right in numeric) + "|\n"
    return _markdown_line(names) + rule + "".join(map(_markdown_line, rows))


def _markdown_line(cells: Sequence[str]) -> str:
    texts = (_in_markdown(cell).replace("|", "\\|").replace("\n", "<br>") for cell in cells)
    return "| " + " | ".join(texts) + " |\n"


def _tables(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], destination: Destination
) -> Iterator[str]:
    numeric = [_is_numeric(field.type) for field in schema]
    page: list[list[str]] = []
    first = 0
    for row in _rows(batches):
        page.append([_person_text(value) for value in row])
        if len(page) == _PAGE_ROWS:
            yield _plain_table(schema.names, page, numeric, destination, first)
            first += len(page)
            page = []
    if page or not first:
        yield _plain_table(schema.names, page, numeric, destination, first)
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
    with pq.ParquetWriter(pa.PythonFile(_Sink(destination.file)), schema, compression="zstd") as w:

        def write_group() -> None:
            w.write_table(pa.Table.from_batches(waiting, schema), row_group_size=_ROW_GROUP_ROWS)
            waiting.clear()

        for batch in batches:
            waiting.append(batch)
            if (
                sum(part.num_rows for part in waiting) >= _ROW_GROUP_ROWS
                or sum(part.nbytes for part in waiting) >= _ROW_GROUP_BYTES
            ):
                write_group()
        if waiting:
            write_group()


class _Sink(io.RawIOBase):
    """A file that knows its position, which a pipe does not, and is not closed by its user."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._file.write(data)
        self._position += size
        return size


# --- values ------------------------------------------------------------------------------------


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Any, ...]]:
    for batch in batches:
        if batch.num_columns:
            yield from zip(*map(_values, batch.columns), strict=True)


def _values(column: pa.Array) -> list[Any]:
    """Return Python values; stamps and maps in the form in which they are written."""
    type_ = column.type
    if pa.types.is_timestamp(type_):
        return _stamps(column)
    values = column.to_pylist()
    if _has_map(type_):
        return [_with_dicts(value, type_) for value in values]
    return list(values)


def _stamps(column: pa.Array) -> list[str | None]:
    unit, zone = column.type.unit, "Z" if column.type.tz else ""
    texts = np.datetime_as_string(column.to_numpy(zero_copy_only=False), unit=unit)
    return [None if text == "NaT" else text + zone for text in texts.tolist()]


def _has_map(type_: pa.DataType) -> bool:
    if pa.types.is_map(type_):
        return True
    return any(_has_map(type_.field(i).type) for i in range(type_.num_fields))


def _with_dicts(value: Any, type_: pa.DataType) -> Any:
    """Return ``value`` with maps as dictionaries: Arrow gives them as lists of pairs."""
    if value is None:
        return None
    if pa.types.is_map(type_):
        return {
            key if isinstance(key, str) else cell_text(key): _with_dicts(item, type_.item_type)
            for key, item in value
        }
    if pa.types.is_struct(type_):
        return {field.name: _with_dicts(value[field.name], field.type) for field in type_}
    if type_.num_fields == 1:
        return [_with_dicts(item, type_.field(0).type) for item in value]
    return value


def json_text(value: Any, indent: int | None = None) -> str:
    """Return ``value`` as JSON; NaN and the infinities become null."""
    encoder = _JSON_LINE if indent is None else _json_encoder(indent)
    try:
        return encoder.encode(value)
    except ValueError:
        return encoder.encode(_finite(value))


def _json_value(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return cell_text(value)


def _json_encoder(indent: int | None) -> json.JSONEncoder:
    return json.JSONEncoder(default=_json_value, allow_nan=False, ensure_ascii=False, indent=indent)


_JSON_LINE = _json_encoder(None)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def cell_text(value: Any) -> str:
    """Return a value as text, with all its digits; None as ``NULL``."""
    if isinstance(value, str):
        return value
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json_text(value)
    return str(value)


def _person_text(value: Any) -> str:
    """Return a value as text with six decimals; a number too small for them keeps its digits."""
    if isinstance(value, float) and (value == 0 or 1e-3 <= abs(value) < 1e15):
        text = f"{value:.6f}".rstrip("0")
        return text + "0" if text.endswith(".") else text
    return cell_text(value)


def _is_numeric(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)
    )


#: Also what makes text run from right to left, and other ends of lines.
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def _shown(text: str) -> str:
    """Return ``text`` without control characters: a label must not steer a terminal."""
    return _CONTROL.sub(lambda match: _escape(ord(match.group())), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


#: What GitHub takes for markup; not an underscore within a word, as in the names of columns.
_MARKUP = re.compile(r"[\[\]`*~]|(?<!\w)_|_(?!\w)|\\(?=[!-/:-@\[-`{-~])")
_ENTITY = re.compile(r"&(?=#?\w+;)")


def _in_markdown(text: str) -> str:
    """Return ``text`` so that GitHub shows it as it is: a label is no tag, link or emphasis."""
    text = _MARKUP.sub(r"\\\g<0>", _shown(text))
    return _ENTITY.sub("&amp;", text).replace("<", "&lt;").replace(">", "&gt;")


# --- tables ------------------------------------------------------------------------------------


def _plain_table(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    destination: Destination,
    first: int,
) -> str:
    """Return a table as wide as it has to be; ``first`` is the number of its first row.

    On a terminal that is too narrow, every row becomes a block of its own: nothing is cut off.
    (rich would squeeze the columns, and takes 1.2 s for 1,000 rows of 25 columns; this, 0.1 s.)
    """
    grid = [[_shown(cell).split("\n") for cell in row] for row in (names, *rows)]
    widths = [
        max(cell_len(line) for cell in column for line in cell)
        for column in zip(*grid, strict=True)
    ]
    if destination.is_terminal and sum(widths) + 2 * len(widths) > _terminal_width():
        return _blocks(grid, first)
    header, *body = (_table_lines(row, widths, numeric) for row in grid)
    rule = "  ".join("─" * width for width in widths)
    return "\n".join([*header, rule, *chain.from_iterable(body)]) + "\n"


def _terminal_width() -> int:
    return shutil.get_terminal_size().columns


def _table_lines(
    row: Sequence[list[str]], widths: Sequence[int], numeric: Sequence[bool]
) -> Iterator[str]:
    for parts in zip_longest(*row, fillvalue=""):
        padded = (
            " " * (width - cell_len(part)) + part
            if right
            else part + " " * (width - cell_len(part))
            for part, width, right in zip(parts, widths, numeric, strict=True)
        )
        yield "  ".join(padded).rstrip()


def _blocks(grid: Sequence[Sequence[list[str]]], first: int) -> str:
    names = [" ".join(name) for name in grid[0]]
    width = max(map(cell_len, names))
    lines = []
    for number, row in enumerate(grid[1:], first + 1):
        lines.append(f"── row {number:,} ──")
        for name, cell in zip(names, row, strict=True):
            indent = "\n" + " " * (width + 2)
            lines.append(name + " " * (width - cell_len(name) + 2) + indent.join(cell))
    return "\n".join(lines) + "\n"


@dataclass
class Section:
    """A small table of a report; without ``names`` its rows are pairs of a key and a value."""

    title: str
    names: Sequence[str]
    rows: Sequence[Sequence[str]]
    #: Which columns hold numbers; all but the first unless given.
    numeric: Sequence[bool] | None = None

    def right(self, column: int) -> bool:
        if self.numeric is None:
            return bool(self.names) and column > 0
        return self.numeric[column]


def write_report(
    sections: Iterable[Section], notes: Iterable[str], form: str, destination: Destination
) -> None:
    """Write the tables of a report, then its notes, as ``table`` or ``markdown``."""
    if form == "markdown":
        for section in sections:
            names = section.names or ("", "")
            right = [section.right(i) for i in range(len(names))]
            table = markdown_table(names, section.rows, right)
            destination.write(f"## {_in_markdown(section.title)}\n\n{table}\n")
        for note in notes:
            destination.write(f"{_in_markdown(note)}\n\n")
        return
    from rich.console import Console

    # A file gets every table as wide as it has to be.
    width = _terminal_width() if destination.is_terminal else 10_000
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=destination.is_terminal,
        highlight=False,
        soft_wrap=not destination.is_terminal,
    )
    with console.capture() as capture:
        for section in sections:
            console.print(_rich_table(section))
            console.print()
        for note in notes:
            console.print(_shown(note), markup=False)
    # rich pads lines to the width of their table.
    text = capture.get()
    destination.write("".join(line.rstrip(" ") + "\n" for line in text.splitlines()))


def _rich_table(section: Section) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(_shown(section.title), "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        show_header=bool(section.names),
        pad_edge=False,
    )
    for index, name in enumerate(section.names or ("", "")):
        right = section.right(index)
        table.add_column(Text(_shown(name)), justify="right" if right else "left", overflow="fold")
    for row in section.rows:
        table.add_row(*(Text(_shown(cell)) for cell in row))
    return table
