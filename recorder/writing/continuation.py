"""Continuing a recording in parts after earlier runs (``--continue``).

All runs are one recording: the numbers of parts, frames and source frames, and the stamps, go on as
after a gap of the camera. Readers of the parts do not see runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import Any

from dgrec.errors import ConfigError, DgrecError, OutputError
from dgrec.footage import videos_of_its_name
from dgrec.format import (
    LAST_US,
    LATER_COLUMNS,
    RESTARTED,
    SCHEMA,
    Event,
    Journal,
    Metadata,
    Row,
    is_being_written,
    stamp_us,
    utc_ns,
    utc_text,
)
from dgrec.paths import (
    JOURNAL_SUFFIX,
    VIDEO_SUFFIXES,
    is_part_name,
    journal_path,
    numbered_files,
    session_stem,
)
from dgrec.recorder.recovery import Recovery, recover
from dgrec.recorder.writing.sealer import SealedPart
from dgrec.session import (
    RecordedFile,
    first_frame,
    is_in_set,
    journals_of,
    parts_in_set,
    set_of,
)

#: How often to look for the parts of earlier runs while another process seals them.
_ATTEMPTS = 5


@dataclass(frozen=True)
class Earlier:
    """The state that earlier runs left; without arguments, there were none."""

    #: The highest number of a file that is named like a part.
    number: int = 0
    set_id: str | None = None
    #: Metadata and columns of the newest part.
    metadata: Metadata | None = None
    columns: tuple[str, ...] = ()
    #: Frames so far, and frames of the source.
    frames: int = 0
    source_frames: int = 0
    #: The source's own time of the last row that could be read, and when that was captured.
    media_time_s: float | None = None
    media_captured_ns: int = 0
    #: Times of the last row; 0 without one.
    captured_ns: int = 0
    completed_ns: int = 0
    #: Whether pictures could not be decoded.
    has_damage: bool = False
    #: When the newest run ended.
    ended_us: int = 0
    #: The parts, the oldest first. The sealed ones may be removed when they are too old or too
    #: many; a journal stays, and counts for the room that all take.
    parts: tuple[SealedPart, ...] = ()

    def check(self, output: Path, metadata: Metadata) -> None:
        """Raise `ConfigError` if a run with this metadata does not continue the one before."""
        if self.metadata is None:
            return
        needed = [name for name in SCHEMA.names if name not in LATER_COLUMNS]
        if [name for name in self.columns if name not in LATER_COLUMNS] != needed:
            raise ConfigError(
                f"{output}: has parts of another version of dgrec, which --continue does not mix; "
                "choose another name"
            )
        for of, key, word in (("source", "given", "source"), ("model", "name", "model")):
            before, now = (_fact(m, of, key) for m in (self.metadata, metadata))
            if before != now:
                raise ConfigError(
                    f"{output}: has parts of another {word} ({before}, not {now}), which "
                    "--continue does not mix; choose another name"
                )

    def aligned(self, output: Path, frame_count: int | None) -> Earlier:
        """Return this, continued at the first frame of repeated footage.

        Raises:
            ConfigError: The number of its frames is unknown.
        """
        if not self.source_frames:
            return self
        if not frame_count:
            raise ConfigError(
                f"{output}: cannot be continued: its source does not say how many frames it has"
            )
        rounds = -(-self.source_frames // frame_count)
        return replace(self, source_frames=rounds * frame_count)

    def gap(self, row: Row) -> Event | None:
        """Return the event before the first row of the next run."""
        if not self.captured_ns:
            return None
        return {
            "kind": "gap",
            "from": utc_text(self.captured_ns),
            "to": utc_text(row.captured_ns),
            "seconds": round((row.captured_ns - self.captured_ns) / 1e9, 3),
            "source_frame": row.source_frame,
            "back": True,
            "attempts": 0,
            "reason": RESTARTED,
            "ended": utc_text(self.ended_us * 1000),
        }


NOTHING_EARLIER = Earlier()


class Continuation:
    """Continues the numbers and times of a source after those of earlier runs."""

    def __init__(self, earlier: Earlier) -> None:
        self._earlier = earlier
        #: Added to the source's times; known from its first frame on.
        self._offset_s: float | None = None

    def source_frame(self, number: int) -> int:
        return self._earlier.source_frames + number

    def media_time_s(self, time_s: float | None, captured_ns: int) -> float | None:
        if time_s is None:
            return None
        if self._offset_s is None:
            before, self._offset_s = self._earlier.media_time_s, 0.0
            if before is not None:  # as after a gap of a camera: the time that passed
                passed_s = (captured_ns - self._earlier.media_captured_ns) / 1e9
                self._offset_s = before + passed_s - time_s
        return self._offset_s + time_s

    def event(self, event: Event) -> Event:
        if "source_frame" not in event:
            return event
        return {**event, "source_frame": self.source_frame(event["source_frame"])}


def recover_parts(output: Path, report: Callable[[Path, Recovery | DgrecError], None]) -> None:
    """Seal the journals that killed runs left, and report each; those that cannot be sealed stay.

    So do those of another recording: sealed, they could hide the parts that are continued.

    Raises:
        OutputError: Another process is recording under this name.
    """
    journals = journals_of(output)
    for journal in journals:
        _check_free(journal)
    set_id = set_of(output) if journals else None
    for journal in journals:
        if not is_in_set(journal, str(set_id)):
            continue
        try:
            result = recover(journal)
        except DgrecError as error:
            report(journal, error)
        else:
            report(journal, result)


def find_earlier(output: Path) -> Earlier:
    """Return what earlier runs left of a recording in parts.

    Raises:
        OutputError: Another process is recording under this name.
    """
    for _ in range(_ATTEMPTS):
        # Before the parts: a part that another process begins after this look is then in the way
        # of the next part, instead of being numbered past.
        numbers = list(_numbers(output))
        chosen, set_id = parts_in_set(output)
        number = max([*numbers, *(number for number, _ in chosen)], default=0)
        earlier = _left_by(chosen, Earlier(number, set_id))
        for _, path in chosen:
            _check_free(path)  # another process may have begun it meanwhile
        if all(path.exists() for _, path in chosen):
            return earlier
        # Another process has sealed a part, whose frames were not seen.
    raise OutputError(f"{output}: is being recorded now; stop that recording first")


def _left_by(chosen: list[tuple[int, Path]], earlier: Earlier) -> Earlier:
    for _, path in chosen:
        # A part whose footer is damaged cannot be continued, and must not be removed.
        with contextlib.suppress(DgrecError, OSError), RecordedFile(path, check=False) as file:
            earlier = _after(earlier, file)
    # By their footers all but the time of the source is known, and decoding rows takes long. What
    # journals hold is known from their last row only.
    for _, path in reversed(chosen):
        with (
            contextlib.suppress(DgrecError, OSError, IndexError),
            RecordedFile(path, check=False) as file,
        ):
            if len(file):
                return _after_row(earlier, file.row(len(file) - 1))
    return earlier


def _check_free(path: Path) -> None:
    if path.suffix == JOURNAL_SUFFIX and is_being_written(path):
        raise OutputError(f"{path}: is being recorded now; stop that recording first")


def _after(earlier: Earlier, file: RecordedFile) -> Earlier:
    """Return ``earlier`` with one more part, by its footer: its rows may be damaged."""
    first = first_frame(file.metadata)
    completed_ns = _highest_ns(file, "completed_at")
    # Reading a journal has added its rows up.
    totals = file.metadata.get("totals", {}) if file.sealed else file.totals
    ended_at = file.metadata.get("ended_at") if file.sealed else file.ended_at
    return replace(
        earlier,
        metadata=file.metadata,
        columns=tuple(file.schema.names),
        frames=max(earlier.frames, first + len(file), _after_highest(file, "frame")),
        source_frames=max(earlier.source_frames, _after_highest(file, "source_frame")),
        captured_ns=max(earlier.captured_ns, _highest_ns(file, "captured_at")),
        completed_ns=max(earlier.completed_ns, completed_ns),
        has_damage=earlier.has_damage or bool(totals.get("dropped_camera")),
        ended_us=max(earlier.ended_us, stamp_us(ended_at) or completed_ns // 1000),
        parts=(*earlier.parts, _kept(file, first, completed_ns, str(earlier.set_id))),
    )


def _after_row(earlier: Earlier, row: dict[str, Any]) -> Earlier:
    captured_ns = _ns(row["captured_at"])
    if row["media_time_s"] is not None:
        earlier = replace(earlier, media_time_s=row["media_time_s"], media_captured_ns=captured_ns)
    return replace(
        earlier,
        frames=max(earlier.frames, (row["frame"] or 0) + 1),
        source_frames=max(earlier.source_frames, (row["source_frame"] or 0) + 1),
        captured_ns=max(earlier.captured_ns, captured_ns),
        completed_ns=max(earlier.completed_ns, _ns(row["completed_at"])),
    )


def _after_highest(file: RecordedFile, name: str) -> int:
    """Return the number after the highest one of a column; 0 if that is not known."""
    highest = file.highest(name)
    return 0 if highest is None else highest + 1


def _highest_ns(file: RecordedFile, name: str) -> int:
    us = file.highest(name)
    return 0 if us is None or us >= LAST_US else us * 1000


def _kept(file: RecordedFile, first: int, completed_ns: int, set_id: str) -> SealedPart:
    path = file.path
    beside = videos_of_its_name(path, file.metadata)
    journal = journal_path(path)
    if _is_sealed_from(path, file, journal):  # it could not be read completely
        beside.append(journal)
    ended_ns = completed_ns or path.stat().st_mtime_ns
    return SealedPart(path, tuple(beside), ended_ns, first, 0, set_id)


def _is_sealed_from(path: Path, file: RecordedFile, journal: Path) -> bool:
    """Return whether a part was sealed from the journal of its name, which is still there."""
    if journal == path:
        return False
    with contextlib.suppress(DgrecError, OSError):
        return Journal.open(journal).metadata.get("session_id") == file.metadata.get("session_id")
    return False


def _numbers(output: Path) -> Iterator[int]:
    """Yield the numbers of all files that have the name of a part or of its videos."""
    yield from (number for number, _ in numbered_files(output))
    stem = session_stem(output)
    for ending in VIDEO_SUFFIXES.values():
        for path in output.parent.glob(f"{escape(stem)}-[0-9]*{ending}"):
            name = path.name.removesuffix(ending).removesuffix(".new")
            if is_part_name(name) and name.startswith(f"{stem}-"):
                digits = name.removeprefix(f"{stem}-")
                if digits.isdecimal():
                    yield int(digits)


def _fact(metadata: Metadata, of: str, key: str) -> Any:
    facts = metadata.get(of)
    return facts.get(key) if isinstance(facts, dict) else None


def _ns(stamp: datetime | None) -> int:
    if stamp is None:
        return 0
    return utc_ns(stamp)
