"""Sealed sessions: Parquet, written once, atomically."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dgrec import metadata as metadata_module
from dgrec.checksums import append_checksums, verify_checksums
from dgrec.errors import (
    DamagedSessionError,
    NotASessionError,
    SessionError,
    StorageError,
)
from dgrec.files import NewFile, write_error
from dgrec.journal import Journal
from dgrec.metadata import Metadata
from dgrec.schema import METADATA_KEY, SCHEMA, parquet_bounds, parquet_encodings
from dgrec.totals import RowTotals, add_rows

__all__ = ["SealedFile", "seal", "write_sealed"]

# One row group is what a jump to a frame must read: 16,384 frames are nine minutes at 30 fps.
_ROW_GROUP_FRAMES = 16_384
# Masks and key points make rows large; memory while sealing and reading stays bounded.
_ROW_GROUP_BYTES = 32 << 20
_MANY_BATCHES = 64


def seal(
    journal: Journal, path: Path, *, replace: bool = False, known: Metadata | None = None
) -> Metadata:
    """Write everything readable in ``journal`` to the sealed file ``path``; return its metadata.

    ``known`` is metadata that is known better by now than when the journal was written.

    The journal stays where it is: removing it is for the caller, once this has returned.

    Raises:
        OutputError: ``path`` exists and ``replace`` is false.
        StorageError: It cannot be written, or the journal not be read. Both are as they were.
    """

    def closing(totals: RowTotals) -> Metadata:
        end = journal.closing
        if end is None:
            # What the recorder would have written at the end, as far as the rows tell it.
            end = {"end_reason": "recovered", "ended_at": totals.ended_at}
        metadata = {**journal.metadata, **end, **(known or {})}
        if journal.events:
            metadata["events"] = [*journal.metadata.get("events", []), *journal.events]
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

    ``closing`` is called after the last batch, with what the rows add up to, and returns the
    metadata; its ``totals`` are then those of the rows. The file appears under its name only when
    it is whole and on disk.

    Args:
        new: The file to write, where others (its videos) belong to it; made here otherwise.
    """
    metadata: Metadata = {}

    def read_back(temporary: Path) -> None:
        # Before it takes the place of anything, and before the journal goes.
        try:
            verify_checksums(temporary)
            sealed = SealedFile(temporary)
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
            group.clear()  # or its rows would be in memory twice
            writer.write_table(table, row_group_size=_ROW_GROUP_FRAMES)
            totals.add(table)

        # Reading the next row group is mostly Python's work, encoding this one Arrow's: side by
        # side they take little more than half the time.
        with ThreadPoolExecutor(1, thread_name_prefix="dgrec-seal") as encoder:
            written: Future[None] | None = None
            for group in _row_groups(batches):
                if written is not None:
                    written.result()
                written = encoder.submit(write, group)
            if written is not None:
                written.result()
        metadata = dict(closing(totals))
        metadata["is_finite"] = totals.is_finite
        counted, rows = metadata.get("totals", {}), totals.to_dict()
        if "clip" in metadata and "dropped_at_start" in rows:
            rows["dropped_at_start"] = 0  # its first frame is not the recording's
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
    if batch.num_rows <= rows:  # nearly always; a slice takes as long as all the rest here
        return batch, None
    return batch.slice(0, rows), batch.slice(rows)


def _one_table(batches: list[pa.RecordBatch]) -> pa.Table:
    # Hundreds of small chunks take Parquet's writer twice as long as one that was put together.
    if len(batches) > _MANY_BATCHES:
        batches = [pa.concat_batches(batches)]
    return pa.Table.from_batches(batches)


class SealedFile:
    """A sealed session on disk.

    Raises:
        NotASessionError: The file is Parquet, but no session.
        DamagedSessionError: Its footer cannot be read.
        FormatVersionError: It was written by a newer dgrec.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            stored = self._file.metadata.metadata or {}
        except (pa.ArrowException, OSError) as error:
            raise DamagedSessionError(f"{path}: damaged: {_first_line(error)}") from None
        text = stored.get(METADATA_KEY)
        if text is None:
            raise NotASessionError(
                f"{path}: a Parquet file, but not a dgrec session (it has no dgrec metadata)"
            )
        self.metadata: Metadata = metadata_module.loads(text, str(path))
        self.schema: pa.Schema = self._file.schema_arrow.remove_metadata()
        for name in ("frame", "detections"):
            if name not in self.schema.names:
                raise NotASessionError(f"{path}: not a dgrec session (no column {name!r})")
        for column in SCHEMA:
            # Another tool may have written a wider number, or a list of another layout.
            if column.name in self.schema.names:
                found = self.schema.field(column.name).type
                if _kind(found) != _kind(column.type) and not pa.types.is_null(found):
                    raise NotASessionError(
                        f"{path}: not a dgrec session (column {column.name!r} is {found}, not "
                        f"{column.type})"
                    )

    @property
    def parquet(self) -> pq.ParquetFile:
        return self._file

    @property
    def num_rows(self) -> int:
        return int(self._file.metadata.num_rows)

    def group_starts(self) -> list[int]:
        """Return the number of the first row of each row group, then the number of rows."""
        starts = [0]
        for index in range(self._file.metadata.num_row_groups):
            starts.append(starts[-1] + self._file.metadata.row_group(index).num_rows)
        return starts

    def row_group(self, index: int, columns: list[str] | None = None) -> pa.Table:
        try:
            return self._file.read_row_group(index, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise self._failure(error) from None

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, a few thousand at a time."""
        try:
            yield from self._file.iter_batches(batch_size=4096, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise self._failure(error) from None

    def _failure(self, error: BaseException) -> SessionError:
        if self._file.closed:
            return SessionError(f"{self.path}: the session is closed")
        return DamagedSessionError(f"{self.path}: damaged: {_first_line(error)}")

    def close(self) -> None:
        self._file.close()


def _kind(type_: pa.DataType) -> str:
    for kind, belongs in _KINDS.items():
        if belongs(type_):
            return kind
    return str(type_)


_KINDS: dict[str, Callable[[pa.DataType], bool]] = {
    "number": lambda t: pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t),
    "text": lambda t: (
        pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_dictionary(t)
    ),
    "stamp": pa.types.is_timestamp,
    "truth": pa.types.is_boolean,
    # A tool without maps writes their pairs as a list.
    "list": lambda t: pa.types.is_list(t) or pa.types.is_large_list(t) or pa.types.is_map(t),
}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
