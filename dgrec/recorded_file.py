"""One file of a recording, for reading: sealed, or a journal as it is."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from dgrec.checksums import verify_checksums
from dgrec.errors import NotASessionError, SessionError
from dgrec.journal import Journal, is_being_written
from dgrec.metadata import Metadata
from dgrec.schema import JOURNAL_SUFFIX
from dgrec.sealed import SealedFile
from dgrec.totals import LOSSES, TOTALLED, RowTotals

__all__ = ["RecordedFile"]

_ARROW_STREAM = b"\xff\xff\xff\xff"
_ROWS_AT_ONCE = 256


class RecordedFile:
    """The rows and the metadata in one file.

    Of a journal that is being written, those rows that were there when it was opened.

    Args:
        check: Compare a sealed file with its checksums first; once for a file is enough.

    Raises:
        FileNotFoundError: There is no such file.
        SessionError: It cannot be read, is no session, damaged, or of a newer format.
    """

    def __init__(self, path: Path, *, check: bool = True) -> None:
        self.path = path
        #: Whether a sealed file vouches for its own bytes.
        self.has_checksums = False
        self._sealed: SealedFile | None = None
        # What the last `row` came from: the next one is likely near it.
        self._values: tuple[int, list[dict[str, Any]]] | None = None
        self._table: tuple[int, pa.Table | pa.RecordBatch] | None = None
        try:
            with path.open("rb") as file:
                head = file.read(4)
        except FileNotFoundError:
            raise
        except IsADirectoryError:
            raise NotASessionError(
                f"{path}: cannot be read: it is a folder; name one session in it"
            ) from None
        except OSError as error:
            raise NotASessionError(f"{path}: cannot be read: {error.strerror}") from None
        #: None of a sealed file.
        self.journal: Journal | None = None
        if head == _ARROW_STREAM or path.suffix == JOURNAL_SUFFIX:
            self.journal = Journal.open(path)
            # One pass tells how it ends, what of it cannot be read, and what it adds up to.
            self._totals: RowTotals | None = RowTotals()
            for batch in self.journal.batches():
                self._totals.add(batch)
            self._rows: int = self._totals.frames
        else:
            if check:
                self.has_checksums = verify_checksums(path)
            self._sealed = SealedFile(path)
            self._rows = self._sealed.num_rows
            self._totals = None

    @property
    def sealed(self) -> bool:
        return self._sealed is not None

    @property
    def metadata(self) -> Metadata:
        if self.journal is not None:
            return {**self.journal.metadata, **(self.journal.closing or {})}
        return self._file.metadata

    @property
    def totals(self) -> dict[str, int | None]:
        """What the rows add up to: frames, detections, and what was skipped and dropped.

        None stands for what the file does not tell.
        """
        if self._totals is None:
            said = self._file.metadata.get("totals", {})
            names = ("frames", "detections", *LOSSES, "dropped_at_start")
            known = {name: said.get(name) for name in names}
            if not known["dropped"] or "clip" in self._file.metadata:
                known["dropped_at_start"] = known["dropped"] and 0
            if self.has_checksums and all(type(value) is int for value in known.values()):
                return known
            # Another tool rewrote the file, or an older dgrec recovered it.
            self._totals = RowTotals()
            there = [name for name in TOTALLED if name in self.schema.names]
            for batch in self._file.batches(there):
                self._totals.add(batch)
        losses = self._totals.losses
        if losses["dropped_at_start"] and "clip" in self.metadata:
            losses["dropped_at_start"] = 0  # its first frame is not the recording's
        return {
            "frames": self._totals.frames,
            "detections": self._totals.detections,
            **losses,
        }

    @property
    def ended_at(self) -> str | None:
        """When the recording ended; None while it goes on.

        Where its recorder did not say so, when the last result came.
        """
        if self.metadata.get("ended_at"):
            return str(self.metadata["ended_at"])
        if self.journal is not None and is_being_written(self.path):
            return None
        self.totals  # noqa: B018 - goes through the rows, if that was not done yet
        return None if self._totals is None else self._totals.ended_at

    @property
    def damage(self) -> list[str]:
        if self.journal is not None:
            return list(self.journal.damage)
        return list(self._file.metadata.get("damage", []))

    @property
    def schema(self) -> pa.Schema:
        return self.journal.schema if self.journal is not None else self._file.schema

    def __len__(self) -> int:
        return self._rows

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows as Arrow record batches, in order."""
        if self.journal is not None:
            yield from self._journal_batches(self.journal, columns)
        else:
            yield from self._file.batches(columns)

    def row(self, position: int) -> dict[str, Any]:
        """Return the columns of one frame, by its position from 0."""
        if self._values is None or not 0 <= position - self._values[0] < len(self._values[1]):
            start, table = self._table_with(position)
            # Turning rows into Python values is what takes the time: only some at once.
            offset = (position - start) // _ROWS_AT_ONCE * _ROWS_AT_ONCE
            self._values = start + offset, table.slice(offset, _ROWS_AT_ONCE).to_pylist()
        start, rows = self._values
        return rows[position - start]

    def close(self) -> None:
        if self._sealed is not None:
            self._sealed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _file(self) -> SealedFile:
        assert self._sealed is not None
        return self._sealed

    def _journal_batches(
        self, journal: Journal, columns: list[str] | None
    ) -> Iterator[pa.RecordBatch]:
        left = self._rows
        try:
            for batch in journal.batches():
                there = batch.slice(0, left)
                yield there if columns is None else there.select(columns)
                left -= there.num_rows
                if left <= 0:
                    return
        except FileNotFoundError:
            sealed = self.path.with_suffix(".parquet")
            now = f"it was sealed; name {sealed.name}" if sealed.exists() else "it was taken away"
            raise SessionError(f"{self.path}: is not there any more: {now}") from None

    def _table_with(self, position: int) -> tuple[int, pa.Table | pa.RecordBatch]:
        """Return the row group or batch that holds a row, and the number of its first row."""
        if self._table is not None and 0 <= position - self._table[0] < self._table[1].num_rows:
            return self._table
        if self.journal is not None:
            found = self.journal.batch_at(position)
            if found is None:
                raise IndexError(f"frame {position}: the journal has become shorter")
            self._table = found
        else:
            starts = self._file.group_starts()
            group = bisect.bisect_right(starts, position) - 1
            self._table = starts[group], self._file.row_group(group)
        return self._table
