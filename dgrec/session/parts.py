"""Recordings in parts: NAME-0001.parquet, NAME-0002.parquet, ... read as one session.

The name of such a set is NAME.parquet (or NAME), which is no file. Each part is a session of its
own; what ties them together is ``part.set_id`` in their metadata, so that a file which merely has
such a name is never taken for a part.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from dgrec.errors import DgrecError, NotASessionError
from dgrec.format import (
    LOSSES,
    TOTALLED,
    Checksums,
    Journal,
    Metadata,
    SealedFile,
    StartLosses,
    is_being_written,
    loses_at_start,
)
from dgrec.paths import (
    JOURNAL_SUFFIX,
    SESSION_SUFFIX,
    journal_path,
    numbered_files,
    part_number,
    part_path,
    sealed_path,
    session_stem,
)
from dgrec.session.file import RecordedFile

__all__ = [
    "Part",
    "PartSet",
    "first_frame",
    "is_in_set",
    "part_of",
    "parts_in_set",
    "parts_of",
]

#: Parts may be sealed or removed by the recorder while they are being opened.
_ATTEMPTS = 5


def parts_of(output: Path) -> list[Path]:
    """Return the files that are parts of any recording with this name, sealed or not."""
    return [path for _, path in numbered_files(output) if _membership(path)[0] is not None]


def part_of(file: Path) -> tuple[Path, str | None] | None:
    """Return (name of the recording, id of the set) of a part, and None of any other file.

    The id is None of what has a part's name, and is too damaged to tell.
    """
    part = part_number(file)
    if part is None:
        return None
    set_id, broken = _membership(file)
    if set_id is None and not broken:
        return None
    return file.with_name(f"{part[0]}{SESSION_SUFFIX}"), set_id


def is_in_set(path: Path, set_id: str) -> bool:
    """Return whether a file is a part of that set, as far as it can tell."""
    found, broken = _membership(path)
    return broken or found == set_id


def first_frame(metadata: Metadata) -> int:
    """Return the number of the first frame of a session: not 0 in a later part."""
    return metadata.get("part", {}).get("first_frame") or 0


def _metadata(path: Path) -> Metadata:
    """Return what a file says at its head or end, without reading its rows."""
    if path.suffix == JOURNAL_SUFFIX:
        return Journal.open(path).metadata
    sealed = SealedFile(path, check=False)
    sealed.close()
    return sealed.metadata


def _membership(path: Path) -> tuple[str | None, bool]:
    """Return which set a file belongs to, if any, and whether it is too damaged to tell."""
    try:
        part = _metadata(path).get("part")
    except OSError:
        return None, False  # it is gone
    except DgrecError:
        return None, True
    return (None if part is None else str(part.get("set_id"))), False


@dataclass(frozen=True)
class Part:
    """One part as it was when the set was opened."""

    number: int
    path: Path
    rows: int
    first_frame: int
    sealed: bool
    has_checksums: bool
    schema: pa.Schema
    metadata: Metadata
    #: What its rows add up to (`RecordedFile.totals`), and when it ended.
    totals: dict[str, int | None]
    ended_at: str | None
    damage: tuple[str, ...]
    #: Whether the recorder wrote its end; false for the part it is writing, or was killed in.
    ended: bool
    #: `RecordedFile.is_plain`
    is_plain: bool
    checksums: Checksums | None = field(compare=False, repr=False)

    @property
    def is_finite(self) -> bool:
        """As `Session.is_finite`."""
        return self.has_checksums and self.sealed and self.metadata.get("is_finite") is True

    @property
    def file(self) -> Path:
        """Where the part is now: it may have been sealed since."""
        if self.sealed or self.path.exists():
            return self.path
        return sealed_path(self.path)


class PartSet:
    """All parts of one recording that are there, in order.

    A part that cannot be read is left out and stands in `damage`. Files are opened when their rows
    are asked for, one at a time: a week of ten-minute parts is more than a process may hold open.

    Raises:
        NotASessionError: There is no such file, and no part of it either.
        SessionError: None of the parts can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self._open: tuple[Part, RecordedFile] | None = None
        for attempt in range(_ATTEMPTS):
            self.damage = []
            errors: list[DgrecError] = []
            chosen, set_id = parts_in_set(path)
            self.parts = tuple(self._read(chosen, errors))
            # A part that went away meanwhile was sealed, or removed: the names tell which.
            if attempt == _ATTEMPTS - 1 or all(file.exists() for _, file in chosen):
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

    # --- opening ---

    def _read(self, chosen: list[tuple[int, Path]], errors: list[DgrecError]) -> Iterator[Part]:
        schema = None
        for number, path in chosen:
            try:
                with RecordedFile(path) as file:
                    part = Part(
                        number=number,
                        path=path,
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
                # The recorder has just made it, and nothing of it is written yet.
                if path.exists() and not (path.suffix != SESSION_SUFFIX and is_being_written(path)):
                    text = str(error).removeprefix(f"{path}: ")
                    self.damage.append(f"part {number} ({path.name}) cannot be read: {text}")
                continue
            if schema is not None and not part.schema.equals(schema):
                self.damage.append(f"part {number} ({path.name}) has other columns: left out")
                continue
            schema = part.schema
            self.damage += [f"part {number}: {line}" for line in part.damage]
            yield part

    def _note_gaps(self) -> None:
        """Tell of parts missing between two others; those before the first were let go."""
        told = {line.split(" ")[1] for line in self.damage}
        for earlier, later in zip(self.parts, self.parts[1:], strict=False):
            missing = range(earlier.number + 1, later.number)
            if any(str(number) not in told for number in missing):
                names = (
                    f"part {missing[0]} is"
                    if len(missing) == 1
                    else (f"parts {missing[0]} to {missing[-1]} are")
                )
                end = earlier.first_frame + earlier.rows
                if later.first_frame > end:  # else nothing was in it that could be read
                    self.damage.append(
                        f"{names} missing: frames {end} to {later.first_frame - 1} are lost"
                    )

    def _merged(self) -> Metadata:
        """Return the metadata of the whole: how it began, how it ended, and what is there of it."""
        first, last = self.parts[0].metadata, self.parts[-1].metadata
        merged = {key: value for key, value in first.items() if key not in _OF_ONE_PART}
        merged["session_id"] = self.set_id
        merged["name"] = session_stem(self.path)
        for key in ("ended_at", "end_reason", "end_detail", "notes"):
            if key in last:
                merged[key] = last[key]
        totals = _totals([part.metadata.get("totals") for part in self.parts])
        if totals:
            merged["totals"] = {**totals, **self._at_start}
        machine = _machine([part.metadata.get("machine") for part in self.parts])
        if machine:
            merged["machine"] = machine
        for key in ("events", "video"):
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

    # --- what it is ---

    @property
    def schema(self) -> pa.Schema:
        return self.parts[0].schema

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
        """What the rows of all parts add up to (`RecordedFile.totals`)."""
        counts = {name: [part.totals[name] for part in self.parts] for name in self.parts[0].totals}
        added = {
            name: None if None in values else sum(value for value in values if value is not None)
            for name, values in counts.items()
        }
        for name, at_start in self._at_start.items():
            kept = name.removesuffix("_at_start")
            if (later := added[kept]) is not None and (counted := added[name]) is not None:
                added |= {name: at_start, kept: later + counted - at_start}
        return added

    def _lost_at_start(self) -> dict[str, int]:
        """Return what was lost while the model started, where a later part may have some of it.

        A part by itself does not know: the model had started before it, or so it seems.
        """
        later = (part.totals["dropped"] for part in self.parts[1:])
        if not (loses_at_start(self.parts[0].metadata) and any(later)):
            return {}
        losses = StartLosses()
        there = [name for name in TOTALLED if name in self.schema.names]
        with contextlib.suppress(DgrecError):  # a part that has been removed since
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
        """Yield the rows in order (`RecordedFile.batches`)."""
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
        """Yield the rows of one part that were there when the set was opened."""
        # The recorder may have gone on writing: all looks at a session show the same rows.
        end = part.rows if end is None else min(end, part.rows)
        with self._reopened(part) as file:
            yield from file.batches(columns, start, end)

    @property
    def unchecked_bytes(self) -> int:
        """How much of the sealed parts has not been compared with their checksums yet."""
        return sum(part.checksums.unchecked_bytes for part in self.parts if part.checksums)

    def check(self, columns: Collection[str] | None = None) -> None:
        """Compare columns of the sealed parts with their checksums (`RecordedFile.check`)."""
        for part in self.parts:
            if part.checksums is not None and part.checksums.unchecked_bytes:
                with self._reopened(part) as file:
                    file.check(columns)

    def first_at_least(self, name: str, value: int) -> int:
        """Return a position before which a column is less than ``value``; see `RecordedFile`."""
        position = 0
        for part in self.parts:
            with self._reopened(part) as file:
                found = file.first_at_least(name, value)
            position += min(found, part.rows)
            if found < part.rows:
                break
        return position

    def column_bytes(self) -> list[tuple[str, pa.DataType, int]]:
        """Return name, type and compressed size of every leaf of the columns of sealed parts."""
        sizes: dict[str, tuple[str, pa.DataType, int]] = {}
        for part in self.parts:
            with self._reopened(part) as file:
                for name, type_, size in file.column_bytes():
                    before = sizes[name][2] if name in sizes else 0
                    sizes[name] = (name, type_, before + size)
        return list(sizes.values())

    def row(self, position: int) -> dict[str, Any]:
        """Return one row by its position in the set (`Session.result`)."""
        for part in self.parts:
            if position < part.rows:
                if self._open is None or self._open[0] is not part:
                    self.close()
                    self._open = part, self._reopened(part)
                return self._open[1].row(position)
            position -= part.rows
        raise IndexError(position)

    def _reopened(self, part: Part) -> RecordedFile:
        """Open a part again, under its new name if it has been sealed since."""
        try:
            return RecordedFile(part.file, checksums=part.checksums)
        except FileNotFoundError:
            raise NotASessionError(f"{part.file}: cannot be read: No such file") from None

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


#: What one part says of itself, and the whole does not.
_OF_ONE_PART = tuple(
    "part ended_at end_reason end_detail notes totals machine events video damage is_finite".split()
)


def parts_in_set(path: Path) -> tuple[list[tuple[int, Path]], str | None]:
    """Return (number, path) of the parts of one set, each number once, and the set's id.

    Two sets have one name for as long as the first part of a recording that overwrites an older one
    is not sealed. Until then the old one counts.
    """
    files = [(number, file, *_membership(file)) for number, file in numbered_files(path)]
    ids = [(id_, file.suffix == SESSION_SUFFIX) for _, file, id_, _ in files if id_ is not None]
    set_id = next((id_ for id_, sealed in ids if sealed), ids[0][0] if ids else None)
    chosen: dict[int, Path] = {}
    for number, file, id_, _ in files:
        if id_ is not None and id_ == set_id:
            chosen.setdefault(number, file)
    for number, file, _, broken in files:
        if broken:  # opening it will say what is wrong with it
            chosen.setdefault(number, file)
    return sorted(chosen.items()), set_id


def _totals(parts: list[Any]) -> dict[str, Any]:
    """Add up what every part tells; nothing while one of them is still being recorded."""
    if None in parts:
        return {}
    added = {
        key: sum(totals[key] for totals in parts)
        for key in parts[0]
        if all(isinstance(totals.get(key), int) for totals in parts)  # the drift adds up to nothing
    }
    # What is true at the end of the whole, or came after its last row.
    for key in ("clock_drift_ms", *(f"{name}_after" for name in LOSSES)):
        added.pop(key, None)
        if key in parts[-1]:
            added[key] = parts[-1][key]
    return added


def _machine(parts: list[Any]) -> dict[str, Any]:
    """Add up what the parts cost the machine; nothing while one of them is still being recorded."""
    if not all(isinstance(machine, dict) for machine in parts):
        return {}
    merged = dict(parts[-1])
    for key in ("seconds", "process_cpu_s", "children_cpu_s"):
        values = [_number(machine.get(key)) for machine in parts]
        merged[key] = None if None in values else round(sum(filter(None, values)), 3)
    spans = [
        (seconds, busy)
        for machine in parts
        if (seconds := _number(machine.get("seconds")))
        and (busy := _number(machine.get("system_busy"))) is not None
    ]
    seconds_in_all = sum(seconds for seconds, _ in spans)
    merged["system_busy"] = (
        round(sum(seconds * busy for seconds, busy in spans) / seconds_in_all, 3)
        if seconds_in_all
        else None
    )
    return merged


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None
