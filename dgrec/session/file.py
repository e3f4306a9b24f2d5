"""Reads one file of a recording: a sealed file, or a journal."""

from __future__ import annotations

import bisect
import contextlib
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, cast

import pyarrow as pa

from dgrec.errors import DamagedSessionError, NotASessionError, SessionError
from dgrec.files import placed
from dgrec.format import (
    AT_START,
    LOSSES,
    SCHEMA,
    TOTALLED,
    Checksums,
    Journal,
    Metadata,
    RowTotals,
    SealedFile,
    is_being_written,
    is_cast,
    is_utf8,
    known_end,
    loses_at_start,
    open_file,
    since_start,
    with_columns,
)
from dgrec.paths import JOURNAL_SUFFIX, sealed_path

_ARROW_STREAM = b"\xff\xff\xff\xff"
#: Rows that become Python values at once: so many, or of about so many bytes.
_ROWS_AT_ONCE = 256
_BYTES_AT_ONCE = 8 << 20
#: Up to this many rows of a journal are looked up one batch at a time.
_FEW_ROWS = 4096
#: How much of decoded batches is kept: about three row groups of dgrec's own files.
_KEPT_BYTES = 96 << 20


class RecordedFile:
    """The rows and the metadata in one file.

    A journal that is being written shows the rows that it had when it was opened; once it is
    sealed, they are read from the sealed file.

    Args:
        path: Its name in messages.
        place: Its absolute path; None: that of ``path`` now. The program may change its folder.
        checksums: Those of a sealed file, if already known.
        check: Whether a sealed file is compared with its checksums, as it is read.

    Raises:
        FileNotFoundError: There is no such file.
        SessionError: It cannot be read, is not a session, is damaged, or of a newer format.
    """

    def __init__(
        self,
        path: Path,
        *,
        place: Path | None = None,
        checksums: Checksums | None = None,
        check: bool = True,
    ) -> None:
        self.path = path
        self.place = place = place or placed(path)
        self._sealed: SealedFile | None = None
        # The rows around the last `row`: the next one is likely near it. Threads share them.
        self._row_lock = threading.RLock()
        self._values: tuple[int, list[dict[str, Any]]] | None = None
        self._near: list[tuple[int, pa.RecordBatch]] = []
        self._ahead: Iterator[pa.RecordBatch] | None = None
        try:
            with open_file(path, place=place) as file:
                head = file.read(4)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise NotASessionError(f"{path}: cannot be read: {error.strerror}") from None
        #: The file that a journal was sealed to since, for `row`.
        self._sealed_since: RecordedFile | None = None
        #: None for a sealed file.
        self.journal: Journal | None = None
        if head == _ARROW_STREAM or path.suffix == JOURNAL_SUFFIX:
            self.journal = Journal.open(path, place=place)
            # One pass finds its end, its damage and its totals.
            self._totals: RowTotals | None = RowTotals()
            for batch in self.journal.batches():
                self._totals.add(batch)
            self._rows: int = self._totals.frames
        else:
            self._sealed = SealedFile(path, place=place, checksums=checksums, check=check)
            self._rows = self._sealed.num_rows
            self._totals = None

    @property
    def sealed(self) -> bool:
        return self._sealed is not None

    @property
    def checksums(self) -> Checksums | None:
        """The checksums of a sealed file, if it has any."""
        return None if self._sealed is None else self._sealed.checksums

    @property
    def has_checksums(self) -> bool:
        """Return whether it is a sealed file with checksums."""
        return self.checksums is not None

    @property
    def unchecked_bytes(self) -> int:
        """The number of bytes of a sealed file not yet compared with its checksums."""
        return 0 if self.checksums is None else self.checksums.unchecked_bytes

    def check(self, columns: Collection[str] | None = None) -> None:
        """Compare columns of a sealed file with its checksums; all of it by default.

        Raises:
            DamagedSessionError: They differ.
        """
        if self._sealed is not None:
            self._sealed.check(columns)

    @property
    def metadata(self) -> Metadata:
        if self.journal is not None:
            return self.journal.known_metadata
        return self._file.metadata

    @property
    def totals(self) -> dict[str, int | None]:
        """The sums over all rows: frames, detections, and what was skipped and dropped.

        ``dropped`` is what was lost after the model had started, ``dropped_at_start`` what was lost
        before. None: unknown.
        """
        if self._totals is None:
            recorded = self._file.metadata.get("totals", {})
            names = ("frames", "detections", *LOSSES, *AT_START)
            known = {name: recorded.get(name) for name in names}
            if not (known["dropped"] and loses_at_start(self._file.metadata)):
                known.update(dict.fromkeys(AT_START, 0))
            if self.has_checksums and None not in known.values():
                shown = since_start(known)
                if min(shown.values()) >= 0:
                    return shown
            # Another tool rewrote the file, an older dgrec recovered it, or the sums are nonsense.
            self._totals = RowTotals()
            there = [name for name in TOTALLED if name in self.schema.names]
            for batch in self._file.batches(there):
                self._totals.add(batch)
        return {
            "frames": self._totals.frames,
            "detections": self._totals.detections,
            **since_start(self._totals.losses(self.metadata)),
        }

    @property
    def ended_at(self) -> str | None:
        """The end of the recording; None while it continues.

        If its recorder did not record that, the time of the last result, or of the last alert.
        """
        if self.metadata.get("ended_at"):
            return str(self.metadata["ended_at"])
        if self.journal is not None and is_being_written(self.place):
            return None
        self.totals  # noqa: B018 - reads the rows, unless that was done before
        return None if self._totals is None else known_end(self._totals.ended_at, self.metadata)

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

    @property
    def is_plain(self) -> bool:
        """Return whether any reader of Parquet can read the columns of `SCHEMA` from it unchanged.

        False if that reader would need gigabytes for a single row.
        """
        if self._sealed is None or not is_utf8(str(self.place)):
            return False
        return is_cast(self._sealed.stored_schema) and self._sealed.has_few_values

    @property
    def odd_metadata(self) -> list[str]:
        """Keys of the metadata whose values are not what they should be."""
        return [] if self._sealed is None else list(self._sealed.odd_metadata)

    def column_bytes(self) -> list[tuple[str, pa.DataType, int]]:
        """Return name, type and compressed size of every leaf of a sealed file's columns."""
        return [] if self._sealed is None else self._sealed.column_bytes()

    def batches(
        self, columns: list[str] | None = None, start: int = 0, end: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows as Arrow record batches, in order.

        Args:
            columns: Their names; known ones that the file lacks are null. A field of a nested
                column can be named as in Parquet. None: those of `schema`.
            start: Position of the first row. Row groups before it are not read.
            end: Position to stop before.
        """
        end = self._rows if end is None else min(end, self._rows)
        if start >= end:
            return
        if self.journal is None:
            starts = self._file.group_starts()
            group = bisect.bisect_right(starts, start) - 1
            found = self._file.batches(columns, first_group=group)
            yield from _between(found, starts[group], start, end)
            return
        try:
            for batch in self._of_journal(self.journal, columns, start, end):
                yield batch
                start += batch.num_rows
        except FileNotFoundError:
            pass
        else:
            return
        with self._now_sealed() as file:
            names = self.schema.names if columns is None else _whole(columns)
            yield from file.batches(names, start, end)

    def first_at_least(self, name: str, value: int) -> int:
        """Return a position before which a column is below ``value`` (`SealedFile`)."""
        return 0 if self._sealed is None else self._sealed.first_at_least(name, value)

    def highest(self, name: str) -> int | None:
        """Return the largest value of a column of a sealed file, by its footer (`SealedFile`).

        None where that does not tell, and for a journal.
        """
        bounds = None if self._sealed is None else self._sealed.bounds(name)
        return None if bounds is None else bounds[1]

    def stamp_bounds(self) -> list[tuple[int, int]] | None:
        """Return the earliest and the latest time of capture, and those of results.

        In microseconds since 1970. None if a row lacks one, or the footer of a sealed file does not
        tell.
        """
        if self._sealed is not None:
            found = [self._sealed.bounds(name) for name in ("captured_at", "completed_at")]
        else:
            _ = self.totals  # reads the rows, unless that was done before
            assert self._totals is not None
            found = [self._totals.captured.known, self._totals.completed.known]
        known = [bounds for bounds in found if bounds is not None]
        return known if len(known) == len(found) else None

    def row(self, position: int) -> dict[str, Any]:
        """Return the columns of `SCHEMA` of the frame at a position from 0."""
        with self._row_lock:
            if self._values is None or not 0 <= position - self._values[0] < len(self._values[1]):
                start, batch = self._batch_with(position)
                at_once = _rows_at_once(batch)
                offset = (position - start) // at_once * at_once
                self._values = start + offset, rows_of(batch.slice(offset, at_once))
            start, rows = self._values
            return rows[position - start]

    def close(self) -> None:
        if self._sealed is not None:
            self._sealed.close()
        with self._row_lock:
            if self._sealed_since is not None:
                self._sealed_since.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _file(self) -> SealedFile:
        assert self._sealed is not None
        return self._sealed

    def _of_journal(
        self, journal: Journal, columns: list[str] | None, start: int, end: int
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows of a journal.

        Raises:
            FileNotFoundError: It was sealed, or removed.
        """
        if start > 0 and end - start <= _FEW_ROWS:
            for batch in self._few_of_journal(journal, columns, start, end):
                yield batch
                start += batch.num_rows
            if start >= end:
                return
        yield from _between(self._journal_batches(journal, columns), 0, start, end)

    def _journal_batches(
        self, journal: Journal, columns: list[str] | None
    ) -> Iterator[pa.RecordBatch]:
        left = self._rows
        columns = None if columns is None else _whole(columns)
        for batch in journal.batches():
            there = batch.slice(0, left)
            yield there if columns is None else with_columns(there, columns)
            left -= there.num_rows
            if left <= 0:
                return

    def _few_of_journal(
        self, journal: Journal, columns: list[str] | None, start: int, end: int
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows without reading those before them; none where the journal has changed."""
        while start < end and (found := journal.batch_at(start)) is not None:
            first, batch = found
            rows = batch.slice(start - first, end - start)
            yield rows if columns is None else with_columns(rows, _whole(columns))
            start += rows.num_rows

    def _now_sealed(self) -> RecordedFile:
        """Open the file that a journal was sealed to since it was opened.

        Raises:
            SessionError: The journal was removed, or the sealed file is not the journal's.
        """
        place = sealed_path(self.place)
        with contextlib.suppress(SessionError, OSError):
            file = RecordedFile(self.path.with_name(place.name), place=place)
            if self._is_sealed_to(file):
                return file
            file.close()
        now = f"it was sealed to {place.name}" if place.exists() else "it was removed"
        raise SessionError(f"{self.path}: no longer exists: {now}")

    def _is_sealed_to(self, file: RecordedFile) -> bool:
        """Return whether a sealed file has these rows."""
        ours, its = (each.metadata.get("session_id") for each in (self, file))
        return ours is not None and ours == its and len(file) >= self._rows

    def _batch_with(self, position: int) -> tuple[int, pa.RecordBatch]:
        """Return a batch that holds a row, and the position of its first row."""
        if self._sealed_since is not None:
            return self._sealed_since._batch_with(position)
        if self.journal is not None:
            try:
                found = self.journal.batch_at(position)
            except FileNotFoundError:
                self._sealed_since = self._now_sealed()
                return self._sealed_since._batch_with(position)
            if found is None:
                raise IndexError(f"frame {position}: the journal was truncated")
            return found
        for start, batch in self._near:
            if start <= position < start + batch.num_rows:
                return start, batch
        starts = self._file.group_starts()
        group = bisect.bisect_right(starts, position) - 1
        last = self._near[-1] if self._near else None
        if last is None or self._ahead is None or not starts[group] <= last[0] <= position:
            self._near = []
            self._ahead = self._file.batches(first_group=group)
            start = starts[group]
        else:
            start = last[0] + last[1].num_rows
        for batch in self._ahead:
            self._keep(start, batch)
            if position < start + batch.num_rows:
                return start, batch
            start += batch.num_rows
        raise IndexError(position)

    def _keep(self, start: int, batch: pa.RecordBatch) -> None:
        """Keep a batch for the next `row`, and drop the oldest beyond the limit."""
        self._near.append((start, batch))
        while len(self._near) > 1 and sum(b.nbytes for _, b in self._near) > _KEPT_BYTES:
            self._near.pop(0)


def _between(
    batches: Iterator[pa.RecordBatch], position: int, start: int, end: int
) -> Iterator[pa.RecordBatch]:
    """Yield the rows from ``start`` to before ``end`` of batches that begin at ``position``."""
    for batch in batches:
        first, last = max(start - position, 0), min(end - position, batch.num_rows)
        if first < last:
            yield batch.slice(first, last - first)
        position += batch.num_rows
        if position >= end:
            return


def _whole(columns: list[str]) -> list[str]:
    """Return the whole columns of which parts are named: a journal's columns are read whole."""
    return list(dict.fromkeys(name.partition(".")[0] for name in columns))


def each_row(batch: pa.RecordBatch, at_once: int = _ROWS_AT_ONCE) -> Iterator[dict[str, Any]]:
    """Yield rows as `rows_of` returns them; up to ``at_once`` at a time become Python values."""
    at_once = min(at_once, _rows_at_once(batch))
    for start in range(0, batch.num_rows, at_once):
        yield from rows_of(batch.slice(start, at_once))


def _rows_at_once(batch: pa.RecordBatch) -> int:
    """Return how many rows become Python values at once: that is slow, and takes memory."""
    average = batch.nbytes // max(1, batch.num_rows)
    fitting: int = _BYTES_AT_ONCE // max(1, average)
    return max(1, min(_ROWS_AT_ONCE, fitting))


def damaged_frame(path: Path, row: Mapping[str, Any], error: Exception) -> DamagedSessionError:
    """Return the error for a row that does not hold what dgrec writes."""
    return DamagedSessionError(f"{path}: damaged: frame {row['frame']}: {error}")


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as Python values: the columns of `SCHEMA`, None where the file lacks one.

    Columns that dgrec does not know are included, if Python has values for them.
    """
    known = with_columns(batch, SCHEMA.names)
    columns = {name: known.column(name).to_pylist() for name in SCHEMA.names}
    for name in batch.schema.names:
        if name not in columns:
            with contextlib.suppress(pa.ArrowException, ValueError, OverflowError, LookupError):
                columns[name] = batch.column(name).to_pylist()
    if "timing" not in batch.schema.names:
        columns["timing"] = [[]] * batch.num_rows
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def flat_detections(rows: pa.RecordBatch) -> pa.Table:
    """Return a row for each detection: ``frame``, and the fields of the detection."""
    import pyarrow.compute as pc

    column = cast(pa.ListArray, rows.column("detections"))
    values = column.flatten()
    parents = pc.list_parent_indices(column)
    frame = rows.column("frame").take(parents)
    fields = [f.name for f in values.type]
    return pa.table(
        [frame, *(pc.struct_field(values, name) for name in fields)], names=["frame", *fields]
    )
