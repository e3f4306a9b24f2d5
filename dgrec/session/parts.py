"""Recordings in parts: NAME-0001.parquet, NAME-0002.parquet, ... read as one session.

The name of such a set is NAME.parquet (or NAME), which is not a file. Each part is a session of its
own. They belong together by ``part.set_id`` in their metadata: another file with such a name is
never taken for a part.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from dgrec.errors import DgrecError, NotASessionError, SessionError
from dgrec.format import (
    LATER_COLUMNS,
    TOTALLED,
    Checksums,
    Metadata,
    StartLosses,
    is_being_written,
    loses_at_start,
    merged_targets,
)
from dgrec.paths import (
    SESSION_SUFFIX,
    journal_path,
    numbered_files,
    part_path,
    sealed_path,
    session_stem,
)
from dgrec.session.added_metadata import added_machine, added_totals
from dgrec.session.file import RecordedFile
from dgrec.session.membership import first_frame, parts_in_set

#: The recorder may seal or remove parts while they are being opened.
_ATTEMPTS = 5


@dataclass(frozen=True)
class Part:
    """One part, as it was when the set was opened; see `RecordedFile`."""

    number: int
    #: Its name in messages.
    path: Path
    #: Its absolute path: the program may change its folder.
    place: Path
    rows: int
    first_frame: int
    sealed: bool
    has_checksums: bool
    schema: pa.Schema
    metadata: Metadata
    totals: dict[str, int | None]
    ended_at: str | None
    damage: tuple[str, ...]
    #: Whether the recorder wrote its end: not while it is being written, or if it was killed.
    ended: bool
    is_plain: bool
    checksums: Checksums | None = field(compare=False, repr=False)

    @property
    def is_finite(self) -> bool:
        """See `Session.is_finite`."""
        return self.has_checksums and self.sealed and self.metadata.get("is_finite") is True

    @property
    def was_sealed(self) -> bool:
        """Return whether it was a journal, and has been sealed meanwhile."""
        return not self.sealed and not self.place.exists() and sealed_path(self.place).exists()

    @property
    def file(self) -> Path:
        """The part's current absolute path: it may have been sealed meanwhile."""
        if self.sealed or self.place.exists():
            return self.place
        return sealed_path(self.place)


class PartSet:
    """All existing parts of one recording, in order; the interface is that of `RecordedFile`.

    A part that cannot be read is left out and listed in `damage`. One file is open at a time: a
    week of ten-minute parts is more than a process may hold open.

    Raises:
        NotASessionError: There is no such file, and no part of it either.
        SessionError: None of the parts can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self._open: tuple[Part, RecordedFile] | None = None
        self._row_lock = threading.RLock()  # threads share the open part
        for attempt in range(_ATTEMPTS):
            self.damage = []
            errors: list[DgrecError] = []
            listed = numbered_files(path)
            chosen, set_id = parts_in_set(path)
            self.parts = tuple(self._read(chosen, errors))
            # A part that disappeared meanwhile was sealed or removed: look again.
            if attempt == _ATTEMPTS - 1 or _are_still(listed, path):
                break
        if not self.parts:
            if errors:
                raise errors[0]
            journal = journal_path(path)
            if journal.exists():
                raise NotASessionError(f"{path}: is not sealed; name its journal, {journal.name}")
            raise NotASessionError(
                f"{path}: cannot be read: No such file, and no parts of it "
                f"({part_path(path, 1).name}, ...) either"
            )
        self.set_id = str(set_id)
        self._note_gaps()
        self._at_start = self._lost_at_start()
        self.metadata = self._merged()

    def only(self, parts: Sequence[Part]) -> PartSet:
        """Return a set of some of the parts that follow each other."""
        other = copy.copy(self)
        other._open, other._row_lock = None, threading.RLock()
        other.parts = tuple(parts)
        other.metadata = other._merged()
        # An event about a frame, such as an alert, may be recorded in a later part.
        if events := self.metadata.get("events"):
            other.metadata["events"] = events
        return other

    # --- opening ---

    def _read(self, chosen: list[tuple[int, Path]], errors: list[DgrecError]) -> Iterator[Part]:
        schema = None
        for number, path in chosen:
            try:
                with RecordedFile(path) as file:
                    part = Part(
                        number=number,
                        path=path,
                        place=file.place,
                        rows=len(file),
                        first_frame=first_frame(file.metadata),
                        sealed=file.sealed,
                        has_checksums=not file.sealed or file.has_checksums,
                        schema=file.schema,
                        metadata=file.metadata,
                        totals=file.totals,
                        ended_at=file.ended_at,
                        damage=tuple(file.damage),
                        ended=file.journal is None or file.journal.closing is not None,
                        is_plain=file.is_plain,
                        checksums=file.checksums,
                    )
            except (DgrecError, OSError) as error:
                if not isinstance(error, DgrecError):
                    error = NotASessionError(f"{path}: cannot be read: {error.strerror}")
                errors.append(error)
                # Unless it is a journal that the recorder has just made and not written to yet.
                if path.exists() and not (path.suffix != SESSION_SUFFIX and is_being_written(path)):
                    text = str(error).removeprefix(f"{path}: ")
                    self.damage.append(f"part {number} ({path.name}) cannot be read: {text}")
                continue
            if schema is not None and not _earlier(part.schema).equals(_earlier(schema)):
                self.damage.append(f"part {number} ({path.name}) has other columns: left out")
                continue
            schema = part.schema
            self.damage += [f"part {number}: {line}" for line in part.damage]
            yield part

    def _note_gaps(self) -> None:
        """Report parts that are missing between others, unless they were to be removed.

        Parts before the first were to be removed, or are not missed.
        """
        reported = {line.split(" ")[1] for line in self.damage}
        for earlier, later in itertools.pairwise(self.parts):
            first, last = earlier.number + 1, later.number - 1
            end = earlier.first_frame + earlier.rows
            is_reported = all(str(number) in reported for number in range(first, last + 1))
            if is_reported or later.first_frame <= end:  # else no frame was in it
                continue
            if later.metadata.get("options", {}).get("keep_only"):
                continue
            names = f"part {first} is" if first == last else f"parts {first} to {last} are"
            lost = f"frames {end} to {later.first_frame - 1} are lost"
            self.damage.append(f"{names} missing: {lost}")

    def _merged(self) -> Metadata:
        """Return the metadata of the whole recording: its beginning, its end, and its parts."""
        first, last = self.parts[0].metadata, self.parts[-1].metadata
        merged = {key: value for key, value in first.items() if key not in _OF_ONE_PART}
        merged["session_id"] = self.set_id
        merged["name"] = session_stem(self.path)
        for key in ("ended_at", "end_reason", "end_detail", "notes"):
            if key in last:
                merged[key] = last[key]
        totals = added_totals([part.metadata.get("totals") for part in self.parts])
        if totals:
            merged["totals"] = {**totals, **self._at_start}
        machine = added_machine([part.metadata.get("machine") for part in self.parts])
        if machine:
            merged["machine"] = machine
        if targets := merged_targets([part.metadata for part in self.parts]):
            merged["targets"] = targets
        for key in ("events", "signals", "video"):
            joined = [item for part in self.parts for item in part.metadata.get(key, [])]
            if joined:
                merged[key] = joined
        merged["parts"] = [
            {
                "number": part.number,
                "file": part.path.name,
                "first_frame": part.first_frame,
                "frames": part.rows,
            }
            for part in self.parts
        ]
        if self.damage:
            merged["damage"] = list(self.damage)
        return merged

    @property
    def schema(self) -> pa.Schema:
        """The columns of all parts: parts from an earlier version of dgrec lack some."""
        return max((part.schema for part in self.parts), key=len)

    @property
    def sealed(self) -> bool:
        return all(part.sealed for part in self.parts)

    @property
    def has_checksums(self) -> bool:
        return all(part.has_checksums for part in self.parts)

    def __len__(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def totals(self) -> dict[str, int | None]:
        """The sums over all parts."""
        counts = {name: [part.totals[name] for part in self.parts] for name in self.parts[0].totals}
        added = {
            name: None if None in values else sum(value for value in values if value is not None)
            for name, values in counts.items()
        }
        for name, at_start in self._at_start.items():
            kept = name.removesuffix("_at_start")
            later, of_parts = added[kept], added[name]
            if later is not None and of_parts is not None:
                added |= {name: at_start, kept: later + of_parts - at_start}
        return added

    def _lost_at_start(self) -> dict[str, int]:
        """Return what was lost while the model started, if a later part may have some of it.

        A later part counts it among its other losses, as if the model had started before.
        """
        later = (part.totals["dropped"] for part in self.parts[1:])
        if not (loses_at_start(self.parts[0].metadata) and any(later)):
            return {}
        losses = StartLosses()
        there = [name for name in TOTALLED if name in self.schema.names]
        with contextlib.suppress(DgrecError):  # a part that was removed meanwhile
            for batch in self.batches(there):
                losses.add(batch)
                if losses.is_over:
                    break
        return losses.counts()

    @property
    def ended_at(self) -> str | None:
        return self.parts[-1].ended_at

    # --- rows ---

    def batches(
        self, columns: list[str] | None = None, start: int = 0, end: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        end = len(self) if end is None else end
        for part in self.parts:
            if start < part.rows and end > 0:
                yield from self.batches_of(part, columns, max(start, 0), end)
            start, end = start - part.rows, end - part.rows

    def batches_of(
        self,
        part: Part,
        columns: list[str] | None = None,
        start: int = 0,
        end: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows that one part had when the set was opened."""
        end = part.rows if end is None else min(end, part.rows)
        if columns is None and len(part.schema) < len(self.schema):
            columns = self.schema.names
        while True:
            try:
                with self._reopened(part) as file:
                    for batch in file.batches(columns, start, end):
                        yield batch
                        start += batch.num_rows
                return
            except (DgrecError, FileNotFoundError):
                if not part.was_sealed:
                    raise
                # It has just been sealed: go on in the sealed file.
                place = part.file
                part = replace(part, path=part.path.with_name(place.name), place=place, sealed=True)

    @property
    def unchecked_bytes(self) -> int:
        return sum(part.checksums.unchecked_bytes for part in self.parts if part.checksums)

    def check(self, columns: Collection[str] | None = None) -> None:
        for part in self.parts:
            if part.checksums is not None and part.checksums.unchecked_bytes:
                with self._reopened(part) as file:
                    file.check(columns)

    def first_at_least(self, name: str, value: int) -> int:
        position = 0
        for part in self.parts:
            found = 0
            if part.sealed:
                with self._reopened(part) as file:
                    found = file.first_at_least(name, value)
            position += min(found, part.rows)
            if found < part.rows:
                break
        return position

    def stamp_bounds(self) -> list[tuple[int, int]] | None:
        found = []
        for part in self.parts:
            if part.rows:
                with self._reopened(part) as file:
                    found.append(file.stamp_bounds())
        known = [bounds for bounds in found if bounds is not None]
        if len(known) < len(found):
            return None
        return [
            (min(low for low, _ in each), max(high for _, high in each))
            for each in zip(*known, strict=True)
        ]

    def column_bytes(self) -> list[tuple[str, pa.DataType, int]]:
        sizes: dict[str, tuple[str, pa.DataType, int]] = {}
        for part in self.parts:
            with self._reopened(part) as file:
                for name, type_, size in file.column_bytes():
                    before = sizes[name][2] if name in sizes else 0
                    sizes[name] = (name, type_, before + size)
        return list(sizes.values())

    def row(self, position: int) -> dict[str, Any]:
        for part in self.parts:
            if position < part.rows:
                try:
                    return self._row_of(part, position)
                except (DgrecError, FileNotFoundError):
                    if not part.was_sealed:
                        raise
                    self.close()
                    return self._row_of(part, position)
            position -= part.rows
        raise IndexError(position)

    def _row_of(self, part: Part, position: int) -> dict[str, Any]:
        with self._row_lock:
            if self._open is None or self._open[0] is not part:
                self.close()
                self._open = part, self._reopened(part)
            return self._open[1].row(position)

    def _reopened(self, part: Part) -> RecordedFile:
        """Open a part again, under its new name if it was sealed meanwhile."""
        place = part.file
        path = part.path.with_name(place.name)
        try:
            return RecordedFile(path, place=place, checksums=part.checksums)
        except FileNotFoundError:
            raise SessionError(
                f"{path}: no longer exists: it was removed since the recording was opened; "
                "what is left can be read if you try again"
            ) from None

    def close(self) -> None:
        with self._row_lock:
            if self._open is not None:
                self._open[1].close()
                self._open = None


def _are_still(listed: list[tuple[int, Path]], path: Path) -> bool:
    """Return whether these are still all files with such names, apart from newer parts."""
    newest = max((number for number, _ in listed), default=0)
    numbers = {number for number, _ in numbered_files(path) if number <= newest}
    return numbers == {number for number, _ in listed} and all(file.exists() for _, file in listed)


def _earlier(schema: pa.Schema) -> pa.Schema:
    """Return a schema without the columns that earlier versions of dgrec did not write."""
    return pa.schema([field for field in schema if field.name not in LATER_COLUMNS])


#: The metadata that are about one part, and are merged differently or not at all.
_OF_ONE_PART = tuple(
    "part ended_at end_reason end_detail notes totals machine events signals video damage "
    "is_finite targets".split()
)
