"""The journal: what a session is while it is being recorded.

An Arrow IPC stream that any Arrow reader takes, to which whole record batches are appended with
one write each. A Parquet file that loses its writer has no footer and cannot be read at all; of
a journal, everything that was flushed is there.

Each message has a checksum of its own (`dgrec.format.messages`), which tells torn from whole.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from dgrec.errors import NotASessionError, OutputError, StorageError
from dgrec.files import NewFile, is_locked, output_error, sync_folder, write_error
from dgrec.format import metadata as metadata_module
from dgrec.format.arrays import compact
from dgrec.format.casting import check_required
from dgrec.format.encode import Row, build_batch
from dgrec.format.masks import MaskMode
from dgrec.format.messages import (
    CRC_KEY,
    CRC_ZEROS,
    END_OF_STREAM,
    decode,
    read_message,
    set_checksums,
    whole_messages,
)
from dgrec.format.metadata import Metadata
from dgrec.format.schema import METADATA_KEY, SCHEMA
from dgrec.format.untrusted import open_file

__all__ = ["Durability", "Journal", "JournalTail", "JournalWriter", "is_being_written"]

Durability = Literal["never", "flush", "frame"]

_NOTE_KEY = "dgrec.batch"
_DETECTIONS = SCHEMA.get_field_index("detections")
#: Half a second of rows is a few KB: a day of them is read in half the time this way.
_READ_AHEAD = 1 << 20


# --- writing -----------------------------------------------------------------------------------


class JournalWriter:
    """Appends rows to a new journal.

    Every call of `write` reaches the operating system before it returns: from then on the rows
    survive a crash of this process (and of the machine, once synced to disk: ``durability``).

    Args:
        first_frame: Number of the first row: a later part of a recording goes on counting.

    Raises:
        OutputError: The file exists, or cannot be made.
        StorageError: It cannot be written any more, or is not there any more. After a failed write
            it is cut back to the last whole batch: what was written before stays readable.
    """

    def __init__(
        self,
        path: Path,
        metadata: Metadata,
        *,
        masks: MaskMode = "exact",
        durability: Durability = "flush",
        first_frame: int = 0,
    ) -> None:
        self.path = path
        self.first_frame = first_frame
        self.frames = 0
        self.detections = 0
        self.flushes = 0
        self.bytes_written = 0
        self._masks = masks
        self.durability = durability
        self._sync = durability != "never"
        self._sequence = 0
        # In every batch, so that a reader who has lost the head does not take the frames of earlier
        # parts for lost.
        start = {"start": first_frame} if first_frame else {}
        self._constant = compact({"id": _stream_id(metadata), **start})[1:]
        self._schema = SCHEMA.with_metadata(
            {METADATA_KEY: metadata_module.dumps(metadata), CRC_KEY: CRC_ZEROS}
        )
        self._buffer = io.BytesIO()
        # Arrow writes each of a hundred small buffers by itself: gathered, that is one call.
        self._gather = pa.BufferedOutputStream(pa.PythonFile(self._buffer, mode="w"), 1 << 20)
        self._stream = pa.ipc.new_stream(self._gather, self._schema)
        # An empty batch makes Arrow write the schema now, not with the first rows.
        head = self._encode(build_batch([], 0), {})
        with _making(path), NewFile(path) as new:
            self._file = new.descriptor
            self._put(head)
            self._file = new.release()  # the journal appears with its head, and locked
        self._stat = os.fstat(self._file)
        self._sequence = 1
        try:
            if self._sync:
                sync_folder(path.parent)
        except OSError as error:
            with contextlib.suppress(OutputError):
                self.close()
            with contextlib.suppress(OSError):
                path.unlink()  # it holds nothing
            raise write_error(path, error) from None

    def write(self, rows: Sequence[Row], **note: Any) -> None:
        """Append ``rows`` as one batch. ``note`` goes into the batch's own metadata as JSON."""
        batch = build_batch(rows, self.first_frame + self.frames, self._masks)
        self._put(self._encode(batch, note))
        # All of this before anything can fail: what is in the file must not come again.
        self._sequence += 1
        self.frames += batch.num_rows
        self.detections += len(batch.column(_DETECTIONS).values)
        self.flushes += 1
        self._check_place()

    def end(self, closing: Metadata) -> None:
        """Append what is only known at the end, and the end of the stream."""
        self._put(self._encode(build_batch([], 0), {"end": closing}) + END_OF_STREAM)
        self._sequence += 1
        self._check_place()

    def close(self) -> None:
        """Close the file; without `end` before, it stays a journal that lost its writer."""
        if self._file < 0:
            return
        file, self._file = self._file, -1
        try:
            os.close(file)
        except OSError as error:  # a network file system may say only now that it has failed
            raise write_error(self.path, error) from error

    def _encode(self, batch: pa.RecordBatch, note: dict[str, Any]) -> bytearray:
        """Return the messages that bring ``batch`` to the journal; the first has the schema too."""
        first = self.first_frame + self.frames
        text = f'{{"seq":{self._sequence},"first":{first},"rows":{batch.num_rows},{self._constant}'
        if note:
            text = f"{text[:-1]},{metadata_module.dumps(note)[1:]}"
        self._stream.write_batch(batch, custom_metadata={_NOTE_KEY: text, CRC_KEY: CRC_ZEROS})
        self._gather.flush()
        size = self._buffer.tell()
        # Back to the start before anything can fail: these rows must not come again with the next.
        self._buffer.seek(0)
        # A copy: an error that is kept somewhere keeps what it was about, and a buffer that is
        # still in use somewhere cannot grow for the next rows.
        with self._buffer.getbuffer() as buffer:
            data = bytearray(buffer[:size])
        set_checksums(data)
        return data

    def _put(self, data: bytes | bytearray) -> None:
        """Append ``data``, all of it or nothing."""
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            if self._sync:
                os.fsync(self._file)
        except OSError as error:
            # Half a batch at the end would do no harm, but what follows it would be lost.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.bytes_written)
                os.lseek(self._file, self.bytes_written, os.SEEK_SET)
            raise write_error(self.path, error) from error
        self.bytes_written += len(data)

    def _check_place(self) -> None:
        """Notice that the file was removed or moved: writing to it goes on without an error."""
        with contextlib.suppress(OSError):
            if os.path.samestat(self.path.stat(), self._stat):
                return
        moved = self.moved_to()
        where = f"it is {moved} now" if moved else "removed, moved or unmounted"
        raise StorageError(f"{self.path}: is not there any more: {where}")

    def moved_to(self) -> Path | None:
        """Return where the file is now, if it has another name and the system tells which."""
        with contextlib.suppress(OSError):
            now = Path(f"/proc/self/fd/{self._file}").readlink()
            if os.path.samestat(now.stat(), os.fstat(self._file)):
                return now
        return None


@contextlib.contextmanager
def _making(path: Path) -> Iterator[None]:
    """Say why a journal cannot be made: nothing ever replaces one."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from None
    except OutputError as error:
        if os.path.lexists(path) and not isinstance(error, StorageError):
            raise OutputError(f"{path}: exists already; choose another name") from None
        raise


def _stream_id(metadata: Metadata) -> str:
    """Return what tells the batches of one session from those of another.

    After a crash, a file system may show old blocks of a deleted file in the place of new ones:
    batches of another journal, whole and with valid checksums.
    """
    return str(metadata.get("session_id", ""))[-12:]


def is_being_written(path: Path) -> bool:
    """Return whether a live process is recording into the journal ``path``, or recovering it."""
    return is_locked(path)


# --- reading -----------------------------------------------------------------------------------


@dataclass
class Journal:
    """A journal on disk: read from the start, as often as wanted, one batch in memory at a time.

    After a pass of `batches`, ``closing`` holds what the recorder said at the end
    (None when it was killed) and ``damage`` one line for each thing that could not be read.
    """

    path: Path
    metadata: Metadata = field(default_factory=dict)
    #: Whether it is locked by this very process, which does not write to it: its end is its end.
    is_ours: bool = False
    schema: pa.Schema = SCHEMA
    closing: Metadata | None = None
    damage: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    lost_frames: int = 0
    #: Where each batch is: the position of its first row, and its byte in the file.
    places: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, *, is_ours: bool = False) -> Journal:
        """Read the head of the journal.

        Raises:
            NotASessionError: The file holds nothing that dgrec wrote.
            FormatVersionError: It was written by a newer dgrec.
        """
        journal = cls(path, is_ours=is_ours)
        with open_file(path) as file:
            message = read_message(file, os.fstat(file.fileno()).st_size)
        if message is not None:
            schema = _read_schema(message, path)
            text = (schema.metadata or {}).get(METADATA_KEY)
            if text is None:
                raise NotASessionError(f"{path}: an Arrow stream, but not a dgrec journal")
            journal.metadata = metadata_module.loads(text, str(path))
            _check_schema(schema, path)
            journal.schema = schema.remove_metadata()
            return journal
        # The head is damaged. Batches carry their own checksums and can be read without it.
        if next(journal.batches(), None) is None:
            raise NotASessionError(f"{path}: not a dgrec session, or nothing in it is readable")
        return journal

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the record batches that are whole; note in ``damage`` what is not.

        Small ones come together as larger ones. ``closing``, ``damage``, ``events``,
        ``lost_frames`` and ``places`` change when the pass is complete: one that stops early, or
        another at the same time, leaves them as they were.
        """
        found = _Pass(self.metadata, self.schema)
        if not self.metadata:
            found.damage.append("the head is damaged: the session's metadata is lost")
        with BufferedReader(open_file(self.path, buffering=0), _READ_AHEAD) as file:
            # A damaged end, of a journal that is being written, is half a write.
            yield from found.batches(
                file, is_growing=lambda: not self.is_ours and is_being_written(self.path)
            )
        self.closing = found.closing
        self.damage = found.damage
        self.events = found.events
        self.lost_frames = found.lost_frames
        self.places = found.places

    def batch_at(self, row: int) -> tuple[int, pa.RecordBatch] | None:
        """Return the batch that holds a row, and the position of its first row.

        None if the last pass of `batches` found no such row, or it is not there any more.
        """
        at = bisect.bisect_right(self.places, row, key=lambda place: place[0]) - 1
        if at < 0:
            return None
        first, start = self.places[at]
        with open_file(self.path) as file:
            there = os.fstat(file.fileno()).st_size - start
            file.seek(start)
            message = read_message(file, there)
        if message is None:
            return None
        try:
            batch, _ = decode(message, self.schema)
            check_required(batch)
        except _UNDECODABLE:  # it has changed since
            return None
        return (first, batch) if row < first + batch.num_rows else None

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give a new stream each time, so that a query engine may scan the journal repeatedly."""
        reader = pa.RecordBatchReader.from_batches(self.schema, self.batches())
        return reader.__arrow_c_stream__(requested_schema)


def _read_schema(message: pa.Buffer, path: Path) -> pa.Schema:
    try:
        return pa.ipc.read_schema(message)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise NotASessionError(f"{path}: not a dgrec journal: {reason}") from None


def _check_schema(schema: pa.Schema, path: Path) -> None:
    """Raise `NotASessionError` for columns that no dgrec, newer ones included, would write."""
    if schema.equals(SCHEMA):
        return
    names = schema.names
    if len(set(names)) != len(names):
        raise NotASessionError(f"{path}: not a dgrec journal (a column is there twice)")
    for wanted in SCHEMA:
        if wanted.name not in names:
            raise NotASessionError(f"{path}: not a dgrec journal (no column {wanted.name!r})")
        found = schema.field(wanted.name)
        if not found.type.equals(wanted.type):
            raise NotASessionError(
                f"{path}: not a dgrec journal (column {wanted.name!r} is {found.type}, not "
                f"{wanted.type})"
            )
    for other in schema:
        if not _is_plain(other.type):
            raise NotASessionError(
                f"{path}: not a dgrec journal (column {other.name!r} is {other.type})"
            )


def _is_plain(type_: pa.DataType) -> bool:
    """Return whether a type consists of numbers, texts, stamps, lists, maps and structs."""
    if pa.types.is_struct(type_) or pa.types.is_list(type_) or pa.types.is_map(type_):
        return all(_is_plain(type_.field(index).type) for index in range(type_.num_fields))
    return type_.num_fields == 0 and bool(
        pa.types.is_primitive(type_)
        or pa.types.is_string(type_)
        or pa.types.is_binary(type_)
        or pa.types.is_null(type_)
    )


class JournalTail:
    """A journal that is still being written: each `read` gives only the rows that have come since.

    The file stays open: what was written before it was sealed and removed can still be read.

    Raises:
        NotASessionError: The file holds nothing that dgrec wrote.
        FormatVersionError: It was written by a newer dgrec.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        journal = Journal.open(path)
        self.metadata = journal.metadata
        self._found = _Pass(journal.metadata, journal.schema)
        self._file = BufferedReader(open_file(path, buffering=0), _READ_AHEAD)

    @property
    def closing(self) -> Metadata | None:
        """What the recorder wrote at the end; None while it records, or if it was killed."""
        return self._found.closing

    @property
    def damage(self) -> list[str]:
        """One line for each thing that could not be read so far."""
        return list(self._found.damage)

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches that are whole by now, and that no earlier call has given."""
        # Half a batch at the end may be whole at the next call.
        return self._found.batches(self._file, is_growing=lambda: True)

    def close(self) -> None:
        self._file.close()


#: What a message raises that is not what its header says.
_UNDECODABLE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError)
#: How much of small batches is given as one.
_TOGETHER_BYTES = 1 << 20
#: Numbers of frames and batches stay far below.
_LARGEST_COUNT = 2**53


class _Note(NamedTuple):
    """What a batch's own metadata says of it."""

    sequence: int
    stream_id: str
    first: int
    rows: int
    start: int
    events: list[Any]
    end: Metadata | None

    @classmethod
    def of(cls, note: dict[str, Any], rows: int) -> _Note:
        """Check a note and return it.

        Raises:
            ValueError: It is none of dgrec's.
        """
        counts = [note.get("seq"), note.get("first"), note.get("rows"), note.get("start", 0)]
        if not all(type(count) is int and 0 <= count <= _LARGEST_COUNT for count in counts):
            raise ValueError("a batch's note has no numbers")
        if note["rows"] != rows or type(note.get("id")) is not str:
            raise ValueError("a batch's note is about another batch")
        events: list[Any] = []
        if "events" in note:
            checked = metadata_module.part_of_metadata({"events": note["events"]})
            events = checked.get("events", [])
        end = note.get("end")
        return cls(
            sequence=note["seq"],
            stream_id=note["id"],
            first=note["first"],
            rows=rows,
            start=note.get("start", 0),
            events=events,
            end=metadata_module.part_of_metadata(end) if isinstance(end, dict) else None,
        )


class _Found(NamedTuple):
    """A batch that was read, and where it begins in the file."""

    start: int
    batch: pa.RecordBatch
    note: _Note


def _together(found: list[_Found]) -> pa.RecordBatch | None:
    if len(found) > 1:
        return pa.concat_batches([item.batch for item in found])
    return found[0].batch if found else None


class _Pass:
    """What one reading of a journal has found so far."""

    def __init__(self, metadata: Metadata, schema: pa.Schema) -> None:
        self.closing: Metadata | None = None
        self.damage: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.lost_frames = 0
        self.places: list[tuple[int, int]] = []
        self._has_head = bool(metadata)
        self._schema = schema
        self._position = 0
        self._rows = 0
        self._stream_id = _stream_id(metadata) if metadata else None
        self._next_frame: int | None = None
        self._next_sequence = 0

    def batches(
        self, file: BufferedReader[Any], is_growing: Callable[[], bool]
    ) -> Iterator[pa.RecordBatch]:
        """Yield what follows in the file, from where the last call ended."""
        # A day at 15 rows a batch has 172,800: what is done for each takes the time of reading.
        waiting: list[_Found] = []
        size = 0
        for start, message, skipped in whole_messages(file, self._position):
            if message is None and is_growing():
                break
            if skipped:
                yield from self._taken(waiting)
                self.damage.append(f"{skipped:,} bytes before byte {start:,} are damaged")
            if message is None:
                break
            self._position = start + message.size
            if start == 0 and self._has_head:  # the schema
                continue
            try:
                batch, note = decode(message, self._schema)
                found = _Found(start, batch, _Note.of(note, batch.num_rows))
            except _UNDECODABLE:
                yield from self._taken(waiting)
                self._cannot_decode(start)
                continue
            taken = batch.get_total_buffer_size()  # more than the message, if that is compressed
            if size + taken > _TOGETHER_BYTES:
                yield from self._taken(waiting)
                size = 0
            waiting.append(found)
            size += taken
        yield from self._taken(waiting)

    def _cannot_decode(self, start: int) -> None:
        self.damage.append(f"the message at byte {start:,} cannot be decoded")

    def _taken(self, waiting: list[_Found]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of batches that belong here, as one, and empty the list."""
        found = waiting.copy()
        waiting.clear()
        rows = _together(found)
        if rows is None:
            return
        try:
            check_required(rows)
            are_complete = True
        except ValueError:
            are_complete = False
        if not are_complete:
            found = [item for item in found if self._is_complete(item)]
        taken = [item for item in found if self._takes(item)]
        if not are_complete or len(taken) < len(found):
            rows = _together(taken)
        if rows is not None and rows.num_rows:
            yield rows

    def _is_complete(self, found: _Found) -> bool:
        try:
            check_required(found.batch)
        except ValueError:
            self._cannot_decode(found.start)
            return False
        return True

    def _takes(self, found: _Found) -> bool:
        """Take in a batch's note; return whether the batch belongs here."""
        note, start = found.note, found.start
        if self._stream_id is None:
            self._stream_id = note.stream_id
        if note.stream_id != self._stream_id:
            self.damage.append(f"the batch at byte {start:,} is of another session")
            return False
        if note.sequence < self._next_sequence:
            self.damage.append(f"the batch at byte {start:,} is there twice")
            return False
        if self._next_frame is None:
            self._next_frame = note.start
        missing = note.first - self._next_frame
        if missing > 0:
            self.lost_frames += missing
            self.damage.append(f"frames {self._next_frame} to {note.first - 1} are lost")
        self._next_sequence = note.sequence + 1
        self._next_frame = note.first + note.rows
        self.events += note.events
        if note.end is not None:
            self.closing = note.end
        if note.rows:
            self.places.append((self._rows, start))
            self._rows += note.rows
        return True
