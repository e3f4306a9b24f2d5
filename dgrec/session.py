"""A recorded session, for reading."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import pyarrow as pa

from dgrec.card import session_card
from dgrec.checksums import verify_checksums
from dgrec.errors import DgrecError, NotASessionError, SessionError
from dgrec.journal import Journal
from dgrec.metadata import Metadata
from dgrec.parts import Part, PartSet, first_frame
from dgrec.result import RecordedResult
from dgrec.schema import JOURNAL_SUFFIX
from dgrec.sealed import SealedFile

if TYPE_CHECKING:
    import duckdb

__all__ = ["Session", "open_session"]

_ROWS_AT_ONCE = 256


class Session:
    """One recording: a sealed file (``.parquet``), a journal (``.arrows``), or a set of parts.

    A recording in parts is named without a number: ``NAME.parquet`` or ``NAME``, where no file has
    that name but NAME-0001.parquet and so on are there. A part named itself is opened alone.

    Rows are read when they are asked for. `frames` and `detections` load everything; `batches`,
    iteration and `sql` go through a file of any length in bounded memory.

    Args:
        check: Compare a sealed file with its checksums first; once for a file is enough.

    Raises:
        SessionError: The file is missing, no session, damaged, or of a newer format.
    """

    def __init__(self, path: str | Path, *, check: bool = True) -> None:
        self.path = Path(path)
        self._set: PartSet | None = None
        self._sealed: SealedFile | None = None
        #: Whether a sealed file vouches for its own bytes (of a set: whether all do).
        self.has_checksums = False
        self._journal: Journal | None = None
        # What the last `result` came from: the next one is likely near it.
        self._rows: tuple[int, list[dict[str, Any]]] | None = None
        self._table: tuple[int, pa.Table | pa.RecordBatch] | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._closed = False
        try:
            with self.path.open("rb") as file:
                head = file.read(4)
        except FileNotFoundError:
            if not _may_name_a_set(self.path):
                raise NotASessionError(f"{path}: cannot be read: No such file") from None
            self._set = PartSet(self.path)
            self.has_checksums = all(part.has_checksums for part in self._set.parts)
            return
        except IsADirectoryError:
            raise NotASessionError(
                f"{path}: cannot be read: it is a folder; name one session in it"
            ) from None
        except OSError as error:
            raise NotASessionError(f"{path}: cannot be read: {error.strerror}") from None
        if head == b"\xff\xff\xff\xff" or self.path.suffix == ".arrows":
            self._journal = Journal.open(self.path)
            # One pass tells how it ends and what of it cannot be read.
            self._journal_rows = sum(batch.num_rows for batch in self._journal.batches())
        else:
            if check:
                self.has_checksums = verify_checksums(self.path)
            self._sealed = SealedFile(self.path)

    # --- what it is ---

    @property
    def sealed(self) -> bool:
        """Whether this is a finished file rather than a journal (of a set: whether all are)."""
        if self._set is not None:
            return all(part.sealed for part in self._set.parts)
        return self._sealed is not None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of a set, in order; none of a session that is one file."""
        return self._set.parts if self._set is not None else ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that this session consists of, and that are still there."""
        if not self.parts:
            return (self.path,)
        return tuple(file for part in self.parts if (file := part.file).exists())

    @property
    def first_frame(self) -> int:
        """Number of the first frame: 0, unless parts came before it."""
        return self.parts[0].first_frame if self.parts else first_frame(self.metadata)

    @property
    def journal(self) -> Journal:
        if self._journal is None:
            form = "a recording in parts" if self._set is not None else "a sealed session"
            raise DgrecError(f"{self.path}: is {form}, not a journal")
        return self._journal

    @property
    def metadata(self) -> Metadata:
        """Everything known about the recording (docs/format.md lists the keys)."""
        if self._set is not None:
            return self._set.metadata
        if self._sealed is not None:
            return self._sealed.metadata
        return {**self.journal.metadata, **(self.journal.closing or {})}

    @property
    def id(self) -> str:
        return str(self.metadata.get("session_id", ""))

    @property
    def damage(self) -> list[str]:
        """One line for each thing that could not be read; empty for a whole session."""
        if self._set is not None:
            return list(self._set.damage)
        if self._sealed is not None:
            return list(self._sealed.metadata.get("damage", []))
        return list(self.journal.damage)

    @property
    def schema(self) -> pa.Schema:
        if self._set is not None:
            return self._set.schema
        return self._sealed.schema if self._sealed is not None else self.journal.schema

    def __len__(self) -> int:
        if self._set is not None:
            return self._set.rows
        return self._sealed.num_rows if self._sealed is not None else self._journal_rows

    def __repr__(self) -> str:
        return f"<dgrec session {str(self.path)!r}: {len(self)} frames>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows (IPython's protocol)."""
        return session_card(self)

    # --- rows ---

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows as Arrow record batches, in order.

        Of a journal that is being written, those that were there when the session was opened: all
        looks at a session show the same rows.
        """
        if self._set is not None:
            yield from self._set.batches(columns)
        elif self._sealed is not None:
            yield from self._sealed.batches(columns)
        else:
            yield from self._journal_batches(columns)

    def _journal_batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        left = self._journal_rows
        try:
            for batch in self.journal.batches():
                there = batch.slice(0, left)
                yield there if columns is None else there.select(columns)
                left -= there.num_rows
                if left <= 0:
                    return
        except FileNotFoundError:
            sealed = self.path.with_suffix(".parquet")
            now = f"it was sealed; name {sealed.name}" if sealed.exists() else "it was taken away"
            raise SessionError(f"{self.path}: is not there any more: {now}") from None

    def batches_of(self, part: Part, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows of one of `parts`."""
        if self._set is not None:
            yield from self._set.batches_of(part, columns)

    @property
    def frames(self) -> pa.Table:
        """All rows but for their detections, as an Arrow table in memory."""
        names = [name for name in self.schema.names if name != "detections"]
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.Table.from_batches(list(self.batches(names)), schema=schema)

    @property
    def detections(self) -> pa.Table:
        """One row per detection: ``frame``, and the fields of the detection."""
        tables = [_flat_detections(batch) for batch in self.batches(["frame", "detections"])]
        return pa.concat_tables(tables) if tables else _flat_detections(self.schema.empty_table())

    def __iter__(self) -> Iterator[RecordedResult]:
        metadata = self.metadata
        for batch in self.batches():
            for start in range(0, batch.num_rows, 256):
                for row in batch.slice(start, 256).to_pylist():
                    yield RecordedResult(row, metadata)

    def result(self, index: int) -> RecordedResult:
        """Return frame ``index`` (negative: from the end).

        The index counts the frames that are here, from 0. In a later part alone, or in a set
        whose oldest parts are gone, the frame's own number (`RecordedResult.frame`) is larger.

        Raises:
            IndexError: There is no such frame.
        """
        size = len(self)
        position = index + size if index < 0 else index
        if not 0 <= position < size:
            raise IndexError(f"frame {index} of a session of {size} frames")
        return RecordedResult(self.row(position), self.metadata)

    def row(self, position: int) -> dict[str, Any]:
        """Return the columns of one frame, by its position from 0."""
        if self._set is not None:
            return self._set.row(position)
        if self._rows is None or not 0 <= position - self._rows[0] < len(self._rows[1]):
            start, table = self._table_with(position)
            # Turning rows into Python values is what takes the time: only some at once.
            offset = (position - start) // _ROWS_AT_ONCE * _ROWS_AT_ONCE
            self._rows = start + offset, table.slice(offset, _ROWS_AT_ONCE).to_pylist()
        start, rows = self._rows
        return rows[position - start]

    def _table_with(self, position: int) -> tuple[int, pa.Table | pa.RecordBatch]:
        """Return the row group or batch that holds a row, and the number of its first row."""
        if self._table is not None and 0 <= position - self._table[0] < self._table[1].num_rows:
            return self._table
        if self._sealed is not None:
            starts = self._sealed.group_starts()
            group = bisect.bisect_right(starts, position) - 1
            self._table = starts[group], self._sealed.row_group(group)
            return self._table
        found = self.journal.batch_at(position)
        if found is None:
            raise IndexError(f"frame {position}: the journal has become shorter")
        self._table = found
        return found

    # --- SQL ---

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Run SQL over the views ``frames``, ``detections`` and ``sessions``.

        Returns a DuckDB relation: ``.fetchall()``, ``.df()``, ``.pl()``, ``.to_arrow_table()``.

        Raises:
            QueryError: DuckDB refuses the query.
            SessionError: The session is closed.
        """
        import duckdb

        from dgrec import sql

        if self._closed:
            raise SessionError(f"{self.path}: the session is closed")
        if self._connection is None:
            self._connection = sql.connect([self])
        try:
            return self._connection.sql(query)
        except duckdb.Error as error:
            raise sql.query_error(error) from None

    # --- end ---

    def close(self) -> None:
        self._closed = True
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._sealed is not None:
            self._sealed.close()
        if self._set is not None:
            self._set.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _flat_detections(rows: pa.RecordBatch | pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    if isinstance(rows, pa.Table):
        rows = rows.combine_chunks().to_batches() or [
            pa.RecordBatch.from_pylist([], schema=rows.schema)
        ]
        rows = rows[0]
    column = cast(pa.ListArray, rows.column("detections"))
    values = column.flatten()
    parents = pc.list_parent_indices(column)
    frame = rows.column("frame").take(parents)
    fields = [f.name for f in values.type]
    return pa.table(
        [frame, *(pc.struct_field(values, name) for name in fields)], names=["frame", *fields]
    )


def _may_name_a_set(path: Path) -> bool:
    return path.suffix != JOURNAL_SUFFIX and bool(path.name)


def open_session(path: str | Path) -> Session:
    """Open a recorded session: a sealed file, a journal as it is, or all parts of a recording.

    Raises:
        SessionError: The file is missing, no session, damaged, or of a newer format.
    """
    return Session(path)
