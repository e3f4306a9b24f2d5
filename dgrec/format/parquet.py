"""Sealed sessions: Parquet files, which are written once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dgrec.errors import (
    DamagedSessionError,
    ForeignFileError,
    SessionError,
    StorageError,
    first_line,
)
from dgrec.files import NewFile, placed, write_error
from dgrec.format import metadata as metadata_module
from dgrec.format.casting import cast_batches, cast_schema, with_columns
from dgrec.format.checksums import Checksums, append_checksums
from dgrec.format.journal import Journal
from dgrec.format.leaves import leaves_of
from dgrec.format.metadata import Metadata, known_end
from dgrec.format.nested import MOST_IN_GROUP, NestedValues
from dgrec.format.parquet_input import ParquetInput
from dgrec.format.schema import METADATA_KEY, SCHEMA, parquet_bounds, parquet_encodings
from dgrec.format.totals import RowTotals, add_rows
from dgrec.format.untrusted import check_file

# A jump to a frame reads a row group: nine minutes at 30 frames a second.
_ROW_GROUP_FRAMES = 16_384
# Masks and key points make rows large, and a row group has to fit in memory.
_ROW_GROUP_BYTES = 32 << 20
_MANY_BATCHES = 64

#: Smaller files are checked as a whole when they are opened.
_LITTLE_BYTES = 256 << 10


def seal(
    journal: Journal, path: Path, *, replace: bool = False, overrides: Metadata | None = None
) -> Metadata:
    """Write everything readable in ``journal`` to the sealed file ``path``; return its metadata.

    ``overrides`` replaces metadata of the journal, such as the digests of its videos. The journal
    stays: removing it is up to the caller.

    Raises:
        OutputError: ``path`` exists and ``replace`` is false.
        StorageError: It cannot be written, or the journal cannot be read. Both stay as before.
    """

    def closing(totals: RowTotals) -> Metadata:
        metadata = journal.known_metadata
        if journal.closing is None:
            # What the recorder would have written at the end.
            ended_at = known_end(totals.ended_at, metadata)
            metadata |= {"end_reason": "recovered", "ended_at": ended_at}
        metadata |= overrides or {}
        if journal.damage:
            metadata["damage"] = list(journal.damage)
        return metadata

    return write_sealed(path, journal.schema, journal.batches(), closing, replace=replace)


def write_sealed(
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    closing: Callable[[RowTotals], Metadata],
    *,
    replace: bool = False,
    new: NewFile | None = None,
) -> Metadata:
    """Write ``batches`` to ``path`` and return its metadata.

    The file gets its name only when it is whole and on disk.

    Args:
        closing: Called with the totals of the rows after the last batch. Returns the metadata, in
            which they then replace the totals.
        new: The file to write, if others (its videos) belong to it.
    """
    metadata: Metadata = {}

    def read_back(temporary: Path) -> None:
        # Before it replaces anything, and before the journal is removed.
        try:
            checksums = Checksums.read(temporary)
            if checksums is not None:
                checksums.check()
            sealed = SealedFile(temporary, checksums=checksums)
        except SessionError as error:
            reason = str(error).removeprefix(f"{temporary}: ")
            raise StorageError(f"{path}: what was written cannot be read back: {reason}") from None
        sealed.close()
        metadata.update(sealed.metadata)

    try:
        new = new or NewFile(path, replace=replace)
        try:
            _write_parquet(new.file, schema, batches, closing)
            append_checksums(new.file)
            new.finish(read_back, sync=True)
        finally:
            new.discard()
    except OSError as error:
        raise write_error(path, error) from None
    return metadata


def _write_parquet(
    file: object,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    closing: Callable[[RowTotals], Metadata],
) -> None:
    dictionary, encodings = parquet_encodings(schema)
    totals = RowTotals()
    with pq.ParquetWriter(
        file,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=dictionary,
        column_encoding=encodings,
        data_page_version="1.0",
        write_page_index=True,
        write_page_checksum=True,
        write_statistics=parquet_bounds(schema),
        sorting_columns=[pq.SortingColumn(schema.get_field_index("frame"))],
    ) as writer:

        def write(group: list[pa.RecordBatch]) -> None:
            table = _one_table(group)
            group.clear()  # frees what was copied into the table
            writer.write_table(table, row_group_size=_ROW_GROUP_FRAMES)
            totals.add(table)

        # A thread encodes a row group while the next one is read, which nearly halves the time.
        with ThreadPoolExecutor(1, thread_name_prefix="dgrec-seal") as encoder:
            written: Future[None] | None = None
            for group in _row_groups(batches):
                if written is not None:
                    written.result()
                try:
                    written = encoder.submit(write, group)
                except RuntimeError:  # the program is ending and starts no more threads
                    write(group)
                    written = None
            if written is not None:
                written.result()
        metadata = dict(closing(totals))
        metadata["is_finite"] = totals.is_finite
        counted, rows = metadata.get("totals", {}), totals.to_dict(metadata)
        metadata["totals"] = add_rows(counted, rows, damaged="damage" in metadata)
        writer.add_key_value_metadata({METADATA_KEY.decode(): metadata_module.dumps(metadata)})


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Gather small journal batches into row groups, cut at exactly `_ROW_GROUP_FRAMES`."""
    waiting: list[pa.RecordBatch] = []
    frames = 0
    size = 0.0
    for batch in batches:
        bytes_per_frame = batch.get_total_buffer_size() / max(1, batch.num_rows)
        rest: pa.RecordBatch | None = batch if batch.num_rows else None
        while rest is not None:
            part, rest = _split(rest, _ROW_GROUP_FRAMES - frames)
            waiting.append(part)
            frames += part.num_rows
            size += bytes_per_frame * part.num_rows
            if frames == _ROW_GROUP_FRAMES or size >= _ROW_GROUP_BYTES:
                yield waiting
                waiting, frames, size = [], 0, 0.0
    if waiting:
        yield waiting


def _split(batch: pa.RecordBatch, rows: int) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
    if batch.num_rows <= rows:
        return batch, None
    return batch.slice(0, rows), batch.slice(rows)


def _one_table(batches: list[pa.RecordBatch]) -> pa.Table:
    # Parquet's writer takes twice as long for hundreds of small chunks. (A clip may have them.)
    if len(batches) > _MANY_BATCHES:
        batches = [pa.concat_batches(batches)]
    return pa.Table.from_batches(batches)


class SealedFile:
    """A sealed session on disk, its known columns with the types of `SCHEMA`.

    Opening it reads and checks the footer (and all of a small file). Row groups are compared with
    the checksums before they are read.

    Args:
        path: Its name in messages.
        place: Its absolute path, if the program may have changed its folder since it was named.
        checksums: Those of the file, if they were read before.
        check: Whether anything is compared with checksums.

    Raises:
        ForeignFileError: The file is Parquet, but not a session.
        DamagedSessionError: Its footer cannot be read.
        FormatVersionError: It was written by a newer dgrec.
        OSError: There is no such file.
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
        # Arrow reads a file for one thread only: two at once crash, or get each other's rows.
        self._lock = threading.RLock()
        self._place = place or placed(path)
        check_file(path, self._place)
        if checksums is None and check:
            checksums = Checksums.read(path, self._place)
            if checksums is not None and checksums.end <= _LITTLE_BYTES:
                checksums.check()
        #: None if the file has none: another tool has rewritten it.
        self.checksums = checksums
        try:
            self._file = ParquetInput(self._place)
        except _UNREADABLE as error:
            raise DamagedSessionError(f"{path}: damaged: {first_line(error)}") from None
        try:
            #: The columns as they are in the file.
            self.stored_schema = self._file.schema
            self._nested = NestedValues(self._file)
            self._check_footer()
            stored = self._file.metadata.metadata or {}
        except _UNREADABLE as error:
            self._file.close()
            raise DamagedSessionError(f"{path}: damaged: {first_line(error)}") from None
        try:
            text = stored.get(METADATA_KEY)
            if text is None:
                raise ForeignFileError(
                    f"{path}: a Parquet file, but not a dgrec session (it has no dgrec metadata)"
                )
            self.metadata: Metadata
            #: Keys of the metadata whose values are not what they should be.
            self.odd_metadata: list[str]
            self.metadata, self.odd_metadata = metadata_module.parse(text, str(path))
            self.schema: pa.Schema = cast_schema(self.stored_schema, path)
        except SessionError:
            self.close()
            raise

    @cached_property
    def _leaves(self) -> list[str]:
        return [column.path for column in self._file.columns]

    @property
    def _groups(self) -> list[pq.RowGroupMetaData]:
        footer = self._file.metadata
        return [footer.row_group(index) for index in range(footer.num_row_groups)]

    def _check_footer(self) -> None:
        counts = [group.num_rows for group in self._groups]
        columns = {group.num_columns for group in self._groups} - {self._file.metadata.num_columns}
        if min(counts, default=0) < 0 or sum(counts) != self.num_rows or columns:
            raise ValueError("its footer contradicts itself")
        for index in range(len(counts)):
            values = self._nested.longest(index)
            if values > MOST_IN_GROUP:
                raise ValueError(f"{values:,} values in one list column of a row group")

    @cached_property
    def has_few_values(self) -> bool:
        """Return whether its lists are no longer than those in a file that dgrec wrote."""
        return self._nested.are_few()

    @property
    def num_rows(self) -> int:
        return int(self._file.metadata.num_rows)

    def group_starts(self) -> list[int]:
        """Return the number of the first row of each row group, then the number of rows."""
        return [0, *accumulate(group.num_rows for group in self._groups)]

    def check(self, columns: Collection[str] | None = None) -> None:
        """Compare columns of all row groups with the checksums; everything by default.

        Raises:
            DamagedSessionError: They differ.
        """
        if self.checksums is None:
            return
        if columns is None:
            self.checksums.check()
            return
        groups = self._groups
        data_end = max((end for _, end in self._places(None, groups[-1:])), default=0)
        indexes = data_end, self.checksums.end
        self.checksums.check([*self._places(columns, groups), indexes])

    def _places(
        self, columns: Collection[str] | None, groups: Iterable[pq.RowGroupMetaData]
    ) -> Iterator[tuple[int, int]]:
        """Yield offset and end of the columns of row groups in the file."""
        leaves = [
            index
            for index, leaf in enumerate(self._leaves)
            if columns is None or leaf in columns or leaf.partition(".")[0] in columns
        ]
        for group in groups:
            for chunk in map(group.column, leaves):
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                start = min(start, chunk.data_page_offset)
                yield start, start + chunk.total_compressed_size

    def first_at_least(self, name: str, value: int) -> int:
        """Return the first row of the first row group that may hold ``value`` or more.

        The number of rows if the statistics of all row groups exclude it.

        Args:
            name: A column of integers, or of stamps (in microseconds since 1970).
            value: The least value that is wanted.
        """
        index = self.stored_schema.get_field_index(name)
        if index < 0 or self.stored_schema.field(index).type != SCHEMA.field(name).type:
            return 0  # casting another type may give larger values
        start = 0
        leaf = self._leaves.index(name)
        for group in self._groups:
            statistics = group.column(leaf).statistics
            if statistics is None or not statistics.has_min_max or statistics.max_raw >= value:
                break
            start += group.num_rows
        return start

    def bounds(self, name: str) -> tuple[int, int] | None:
        """Return the smallest and the largest value of a column, by the footer.

        None where the footer does not tell, or a row has no value.

        Args:
            name: A column of integers, or of stamps (in microseconds since 1970).
        """
        index = self.stored_schema.get_field_index(name)
        if index < 0 or self.stored_schema.field(index).type != SCHEMA.field(name).type:
            return None
        leaf = self._leaves.index(name)
        found = [group.column(leaf).statistics for group in self._groups if group.num_rows]
        if not found or not all(
            each is not None and each.has_min_max and each.has_null_count and not each.null_count
            for each in found
        ):
            return None
        return min(each.min_raw for each in found), max(each.max_raw for each in found)

    def batches(
        self, columns: list[str] | None = None, *, first_group: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, at most a few thousand at a time.

        Args:
            columns: Their names; those of `SCHEMA` that the file lacks are null. A part of a nested
                column can be named as in Parquet; its other parts may then be null or absent, and
                its texts dictionaries. None: those of `schema`.
            first_group: Row group to begin with.
        """
        for index in range(first_group, self._file.metadata.num_row_groups):
            yield from self._group(index, columns)

    def _group(self, index: int, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        there = columns
        if columns is not None:
            there = [name for name in map(self._stored_name, columns) if name is not None]
            if not there:  # without a column, Arrow reads no rows
                there = ["frame"]
            columns = list(dict.fromkeys(name.partition(".")[0] for name in columns))
        group = self._file.metadata.row_group(index)
        left = group.num_rows
        if self.checksums is not None:
            self.checksums.check(self._places(there, [group]))
        try:
            with self._lock:
                found = self._file.rows.iter_batches(
                    batch_size=self._nested.rows_at_once(
                        index, self.schema.names if there is None else there
                    ),
                    row_groups=[index],
                    columns=there,
                )
            while (stored := self._next(found)) is not None:
                for batch in cast_batches(stored, self._narrowed(stored.schema, there), self.path):
                    left -= batch.num_rows
                    yield batch if columns is None else with_columns(batch, columns)
        except _UNREADABLE as error:
            raise self._failure(error) from None
        if left:
            raise DamagedSessionError(f"{self.path}: damaged: rows are missing")

    def _next(self, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
        with self._lock:
            return next(batches, None)

    def _narrowed(self, stored: pa.Schema, names: list[str] | None) -> pa.Schema:
        """Return the schema that rows are cast to.

        Detections and timings stay as read if only parts were. Filling in the other parts and
        decoding texts would take several times as long as reading.
        """
        schema = self.schema
        for column in ("detections", "timing"):
            is_part = any(name.startswith(f"{column}.") for name in names or ())
            if is_part and self._has_known_type(column):
                at = schema.get_field_index(column)
                schema = schema.set(at, schema.field(at).with_type(stored.field(column).type))
        return schema

    def _has_known_type(self, column: str) -> bool:
        """Return whether a column of `SCHEMA` has its type in the file."""
        return bool(self.stored_schema.field(column).type.equals(SCHEMA.field(column).type))

    def _stored_name(self, name: str) -> str | None:
        """Return the name under which Arrow reads a column or a leaf; None if there is none."""
        column = name.partition(".")[0]
        if column not in self.schema.names:
            return None
        # Another tool may have other names for the items of a list, or have left out this leaf.
        # Half a map cannot be cast to another type.
        if name not in self._leaves or (column == "timing" and not self._has_known_type(column)):
            return column
        return name

    def column_bytes(self) -> list[tuple[str, pa.DataType, int]]:
        """Return name, type and compressed size of every leaf of the stored columns."""
        leaves = [*leaves_of(self.stored_schema)]
        taken = [0] * len(leaves)
        for group in self._groups:
            # Parquet stores leaves in the order of the schema.
            for index in range(min(len(leaves), group.num_columns)):
                taken[index] += group.column(index).total_compressed_size
        return [(leaf.name, leaf.type, size) for leaf, size in zip(leaves, taken, strict=True)]

    def _failure(self, error: BaseException) -> SessionError:
        if self._file.closed:
            return SessionError(f"{self.path}: the session is closed")
        return DamagedSessionError(f"{self.path}: damaged: {first_line(error)}")

    def close(self) -> None:
        with self._lock:
            self._file.close()


#: Arrow's errors on a damaged or hostile file.
_UNREADABLE = (pa.ArrowException, OSError, ValueError, ArithmeticError, LookupError, MemoryError)
