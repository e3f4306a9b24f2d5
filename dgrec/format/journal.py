"""Reading a journal (`dgrec.format.journal_writer`), which may be damaged or still growing."""

from __future__ import annotations

import bisect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from dgrec.errors import NotASessionError, first_line
from dgrec.files import is_locked, placed
from dgrec.format import metadata as metadata_module
from dgrec.format.casting import check_required
from dgrec.format.deliveries import Deliveries, TargetCounts, deliveries_from_note
from dgrec.format.journal_writer import stream_id
from dgrec.format.messages import decode, read_message, whole_messages
from dgrec.format.metadata import Metadata
from dgrec.format.schema import LATER_COLUMNS, METADATA_KEY, SCHEMA
from dgrec.format.signals import WaitingSignals, as_metadata, from_note, with_earlier
from dgrec.format.untrusted import open_file

_READ_AHEAD = 1 << 20
#: Batches of half a second are put together up to this size: a day has 172,800.
_TOGETHER_BYTES = 1 << 20
_LARGEST_COUNT = 2**53
#: The errors of decoding a message that contradicts its header.
_UNDECODABLE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError)


def is_being_written(path: Path) -> bool:
    """Return whether a live process is recording into the journal ``path``, or recovering it."""
    return is_locked(path)


@dataclass
class Journal:
    """A journal on disk, read from the start by each call of `batches`.

    After a complete pass, ``closing`` is the closing metadata (None if the recorder was killed),
    and ``damage`` has a line for each thing that could not be read.
    """

    #: Its name in messages.
    path: Path
    #: Its absolute path: the program may change its folder.
    place: Path
    metadata: Metadata = field(default_factory=dict)
    #: Whether this process has locked it and does not write to it: it cannot grow.
    is_ours: bool = False
    schema: pa.Schema = SCHEMA
    closing: Metadata | None = None
    damage: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    lost_frames: int = 0
    #: What was logged after the last row; how many logged values were left out where no rows came.
    late_signals: list[dict[str, Any]] = field(default_factory=list)
    signals_left_out: int = 0
    #: For each batch: the position of its first row, and its offset in the file.
    places: list[tuple[int, int]] = field(default_factory=list)
    #: Signals logged while no frames came, by the position of the row that gets them.
    signals_before: dict[int, pa.StructArray] = field(default_factory=dict)
    #: For each target, what it took of the rows.
    targets: list[dict[str, Any]] = field(default_factory=list)
    #: Found in a separate pass: a target takes a row's message after the row was written.
    _deliveries: Deliveries | None = field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path, *, is_ours: bool = False, place: Path | None = None) -> Journal:
        """Read the head of the journal.

        Args:
            path: Its name in messages.
            place: Its absolute path; None: that of ``path`` now.

        Raises:
            NotASessionError: The file holds nothing that dgrec wrote.
            FormatVersionError: It was written by a newer dgrec.
        """
        journal = cls(path, place or placed(path), is_ours=is_ours)
        with open_file(path, place=journal.place) as file:
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
        # Without the head, batches can still be read: each has its own checksum.
        if next(journal.batches(), None) is None:
            raise NotASessionError(f"{path}: not a dgrec session, or nothing in it is readable")
        return journal

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of all whole batches, with small batches put together.

        What else a pass finds (``closing``, ``damage``, ``events``, ...) is set when it is
        complete, so that passes at the same time do not disturb each other.
        """
        if self._deliveries is None and self.metadata.get("targets"):
            deliveries = Deliveries(len(self.metadata["targets"]))
            for _ in self._read(_Pass(self.metadata, self.schema, collected=deliveries)):
                pass
            self._deliveries = deliveries
        found = _Pass(self.metadata, self.schema, self._deliveries)
        if not self.metadata:
            found.damage.append("the head is damaged: the session's metadata is lost")
        yield from self._read(found)
        self.closing = found.closing
        self.damage = found.damage
        self.events = found.events
        self.lost_frames = found.lost_frames
        self.places = found.places
        self.late_signals = as_metadata(found.signals.joined())
        self.signals_left_out = found.signals.left_out
        self.signals_before = found.signals_before
        self.targets = found.targets()

    def _read(self, found: _Pass) -> Iterator[pa.RecordBatch]:
        opened = open_file(self.path, buffering=0, place=self.place)
        with BufferedReader(opened, _READ_AHEAD) as file:
            # A damaged end of a journal that is being written is an unfinished write.
            yield from found.batches(
                file, is_growing=lambda: not self.is_ours and is_being_written(self.place)
            )

    @property
    def known_metadata(self) -> Metadata:
        """The metadata as far as the last pass of `batches` found it."""
        metadata = {**self.metadata, **(self.closing or {})}
        if self.events:
            metadata["events"] = [*self.metadata.get("events", []), *self.events]
        if self.late_signals:
            metadata["signals"] = self.late_signals
        if self.targets:
            metadata["targets"] = self.targets
        if left_out := self.signals_left_out:
            totals = metadata.get("totals", {})
            left_out += totals.get("signals_left_out") or 0
            metadata["totals"] = {**totals, "signals_left_out": left_out}
        return metadata

    def batch_at(self, row: int) -> tuple[int, pa.RecordBatch] | None:
        """Return the batch that holds ``row``, preceded by the position of its first row.

        None if the last pass of `batches` found no such row, or it is gone.
        """
        at = bisect.bisect_right(self.places, row, key=lambda place: place[0]) - 1
        if at < 0:
            return None
        first, start = self.places[at]
        with open_file(self.path, place=self.place) as file:
            there = os.fstat(file.fileno()).st_size - start
            file.seek(start)
            message = read_message(file, there)
        if message is None:
            return None
        try:
            batch, _ = decode(message, self.schema)
            check_required(batch)
        except _UNDECODABLE:  # the file has changed since
            return None
        if first in self.signals_before and batch.num_rows:
            batch = with_earlier(batch, self.signals_before[first])
        if self._deliveries is not None:
            batch = self._deliveries.filled(batch)
        return (first, batch) if row < first + batch.num_rows else None

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return a new stream each time: a query engine may scan the journal repeatedly."""
        reader = pa.RecordBatchReader.from_batches(self.schema, self.batches())
        return reader.__arrow_c_stream__(requested_schema)


def _read_schema(message: pa.Buffer, path: Path) -> pa.Schema:
    try:
        return pa.ipc.read_schema(message)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise NotASessionError(f"{path}: not a dgrec journal: {first_line(error)}") from None


def _check_schema(schema: pa.Schema, path: Path) -> None:
    """Raise `NotASessionError` for columns that neither this nor a newer dgrec writes."""
    if schema.equals(SCHEMA):
        return
    names = schema.names
    if len(set(names)) != len(names):
        raise NotASessionError(f"{path}: not a dgrec journal (a column is there twice)")
    for wanted in SCHEMA:
        if wanted.name not in names:
            if wanted.name in LATER_COLUMNS:
                continue
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
    """A journal that is still being written: each `read` yields the rows added since the last.

    The file stays open, and can be read to its end after it was sealed and removed.

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
        """The closing metadata; None while recording goes on, or if the recorder was killed."""
        return self._found.closing

    @property
    def damage(self) -> list[str]:
        """A line for each thing that could not be read so far."""
        return list(self._found.damage)

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of batches that no earlier call has yielded."""
        # Half a batch at the end may be whole at the next call.
        yield from self._found.batches(self._file, is_growing=lambda: True)
        self._found.places.clear()
        self._found.signals_before.clear()

    def close(self) -> None:
        self._file.close()


class _Note(NamedTuple):
    """The metadata of a batch."""

    sequence: int
    stream_id: str
    first: int
    rows: int
    start: int
    events: list[Any]
    signals: pa.StructArray | None
    deliveries: list[tuple[int, Any, Any]]
    end: Metadata | None

    @classmethod
    def of(cls, note: dict[str, Any], rows: int) -> _Note:
        """Return the checked metadata of a batch.

        Raises:
            ValueError: dgrec did not write it.
        """
        counts = [note.get("seq"), note.get("first"), note.get("rows"), note.get("start", 0)]
        if not all(type(count) is int and 0 <= count <= _LARGEST_COUNT for count in counts):
            raise ValueError("a batch's metadata lacks its numbers")
        if note["rows"] != rows or type(note.get("id")) is not str:
            raise ValueError("a batch's metadata belongs to another batch")
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
            signals=from_note(note["signals"]) if "signals" in note else None,
            deliveries=deliveries_from_note(note.get("deliveries", [])),
            end=metadata_module.part_of_metadata(end) if isinstance(end, dict) else None,
        )


class _Found(NamedTuple):
    """A batch, and where it is in the file."""

    start: int
    end: int
    batch: pa.RecordBatch
    note: _Note


def _joined(found: list[_Found]) -> pa.RecordBatch:
    # Arrow copies even a single batch.
    return found[0].batch if len(found) == 1 else pa.concat_batches([f.batch for f in found])


class _Pass:
    """One pass over a journal, and what it has found so far.

    Args:
        deliveries: What targets took, as an earlier pass ``collected`` it.
    """

    def __init__(
        self,
        metadata: Metadata,
        schema: pa.Schema,
        deliveries: Deliveries | None = None,
        collected: Deliveries | None = None,
    ) -> None:
        self._deliveries = deliveries
        self._collected = collected
        self._counts = TargetCounts(metadata)
        self.closing: Metadata | None = None
        self.damage: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.lost_frames = 0
        self.places: list[tuple[int, int]] = []
        #: What was logged since the last row.
        self.signals = WaitingSignals()
        self.signals_before: dict[int, pa.StructArray] = {}
        self._has_head = bool(metadata)
        self._schema = schema
        self._position = 0
        self._rows = 0
        self._stream_id = stream_id(metadata) if metadata else None
        self._next_frame: int | None = None
        self._next_sequence = 0

    def batches(
        self, file: BufferedReader[Any], is_growing: Callable[[], bool]
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows from where the last call ended.

        Args:
            file: The journal.
            is_growing: Whether a damaged end may be a write that is not finished.
        """
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
            end = start + message.size
            if start == 0 and self._has_head:  # the schema
                continue
            try:
                batch, note = decode(message, self._schema)
                found = _Found(start, end, batch, _Note.of(note, batch.num_rows))
            except _UNDECODABLE:
                yield from self._taken(waiting)
                self._cannot_decode(start)
                self._position = end
                continue
            taken = batch.get_total_buffer_size()  # larger than a message that is compressed
            # Signals of a time without rows belong to the row after it.
            if size + taken > _TOGETHER_BYTES or found.note.signals is not None:
                yield from self._taken(waiting)
                size = 0
            waiting.append(found)
            size += taken
        yield from self._taken(waiting)

    def _cannot_decode(self, start: int) -> None:
        self.damage.append(f"the message at byte {start:,} cannot be decoded")

    def _taken(self, waiting: list[_Found]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the batches that belong here as one batch; empty the list."""
        if not waiting:
            return
        found = waiting.copy()
        waiting.clear()
        self._position = found[-1].end
        rows = _joined(found)
        taken = found
        try:
            check_required(rows)
        except ValueError:
            taken = [item for item in found if self._is_complete(item)]
        taken = [item for item in taken if self._takes(item)]
        if taken and len(taken) < len(found):
            rows = _joined(taken)
        if taken and rows.num_rows:
            if self.signals and "signals" in rows.schema.names:
                first = self._rows - rows.num_rows
                self.signals_before[first] = self.signals.take()
                rows = with_earlier(rows, self.signals_before[first])
            if self._deliveries is not None:
                self._counts.add(rows, self._deliveries)
                rows = self._deliveries.filled(rows)
            yield rows

    def targets(self) -> list[dict[str, Any]]:
        """Return what each target took of the rows so far."""
        return [] if self._deliveries is None else self._counts.described(self._deliveries)

    def _is_complete(self, found: _Found) -> bool:
        try:
            check_required(found.batch)
        except ValueError:
            self._cannot_decode(found.start)
            return False
        return True

    def _takes(self, found: _Found) -> bool:
        """Take over a batch's metadata; return whether the batch belongs here."""
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
        if note.signals is not None:
            self.signals.add(note.signals)
        if self._collected is not None:
            self._collected.add(note.deliveries)
        if note.end is not None:
            self.closing = note.end
        if note.rows:
            self.places.append((self._rows, start))
            self._rows += note.rows
        return True
