"""A recorded session, for reading."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import pyarrow as pa

from dgrec.checksums import verify_checksums
from dgrec.errors import DgrecError, NotASessionError
from dgrec.journal import Journal
from dgrec.metadata import Metadata
from dgrec.result import RecordedResult
from dgrec.sealed import SealedFile

if TYPE_CHECKING:
    import duckdb

__all__ = ["Session", "open_session"]

_ROWS_AT_ONCE = 256


class Session:
    """One recording: a sealed file (``.parquet``) or a journal (``.arrows``), recording or left.

    Rows are read when they are asked for. `frames` and `detections` load everything; `batches`,
    iteration and `sql` go through a file of any length in bounded memory.

    Raises:
        SessionError: The file is missing, no session, damaged, or of a newer format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._sealed: SealedFile | None = None
        self._journal: Journal | None = None
        # What the last `result` came from: the next one is likely near it.
        self._rows: tuple[int, list[dict[str, Any]]] | None = None
        self._table: tuple[int, pa.Table | pa.RecordBatch] | None = None
        self._cursor: tuple[int, Iterator[pa.RecordBatch]] | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None
        try:
            with self.path.open("rb") as file:
                head = file.read(4)
        except OSError as error:
            raise NotASessionError(f"{path}: cannot be read: {error.strerror}") from None
        if head == b"\xff\xff\xff\xff" or self.path.suffix == ".arrows":
            self._journal = Journal.open(self.path)
            # One pass tells how it ends and what of it cannot be read.
            self._journal_rows = sum(batch.num_rows for batch in self._journal.batches())
        else:
            self.has_checksums = verify_checksums(self.path)
            self._sealed = SealedFile(self.path)

    # --- what it is ---

    @property
    def sealed(self) -> bool:
        """Whether this is a finished file rather than a journal."""
        return self._sealed is not None

    @property
    def journal(self) -> Journal:
        if self._journal is None:
            raise DgrecError(f"{self.path}: is a sealed session, not a journal")
        return self._journal

    @property
    def metadata(self) -> Metadata:
        """Everything known about the recording (docs/format.md lists the keys)."""
        if self._sealed is not None:
            return self._sealed.metadata
        return {**self.journal.metadata, **(self.journal.closing or {})}

    @property
    def id(self) -> str:
        return str(self.metadata.get("session_id", ""))

    @property
    def damage(self) -> list[str]:
        """One line for each part that could not be read; empty for a whole session."""
        if self._sealed is not None:
            return list(self._sealed.metadata.get("damage", []))
        return list(self.journal.damage)

    @property
    def schema(self) -> pa.Schema:
        return self._sealed.schema if self._sealed is not None else self.journal.schema

    def __len__(self) -> int:
        return self._sealed.num_rows if self._sealed is not None else self._journal_rows

    def __repr__(self) -> str:
        return f"<dgrec session {str(self.path)!r}: {len(self)} frames>"

    # --- rows ---

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows as Arrow record batches, in order."""
        if self._sealed is not None:
            yield from self._sealed.batches(columns)
        else:
            for batch in self.journal.batches():
                yield batch if columns is None else batch.select(columns)

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

        Raises:
            IndexError: There is no such frame.
        """
        size = len(self)
        position = index + size if index < 0 else index
        if not 0 <= position < size:
            raise IndexError(f"frame {index} of a session of {size} frames")
        return RecordedResult(self._row(position), self.metadata)

    def _row(self, position: int) -> dict[str, Any]:
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
        if self._cursor is None or position < self._cursor[0]:
            self._cursor = 0, self.journal.batches()
        start, batches = self._cursor
        for batch in batches:
            self._cursor = start + batch.num_rows, batches
            if position < start + batch.num_rows:
                self._table = start, batch
                return self._table
            start += batch.num_rows
        raise IndexError(f"frame {position}: the journal has become shorter")

    # --- SQL ---

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """Run SQL over the views ``frames``, ``detections`` and ``sessions``.

        Returns a DuckDB relation: ``.fetchall()``, ``.df()``, ``.pl()``, ``.to_arrow_table()``.

        Raises:
            QueryError: DuckDB refuses the query.
        """
        import duckdb

        from dgrec import sql

        if self._connection is None:
            self._connection = sql.connect([self])
        try:
            return self._connection.sql(query)
        except duckdb.Error as error:
            raise sql.query_error(error) from None

    # --- end ---

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._sealed is not None:
            self._sealed.close()

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


def open_session(path: str | Path) -> Session:
    """Open a recorded session: a sealed file, or a journal as it is.

    Raises:
        SessionError: The file is missing, no session, damaged, or of a newer format.
    """
    return Session(path)
