"""Clips of the alerts that a recording gave, also while it goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dgrec.alerts import RecordedAlert, clip_path, recorded_alerts
from dgrec.errors import DgrecError, StorageError
from dgrec.footage import videos_beside
from dgrec.format import is_being_written, stamp_us, utc_text
from dgrec.paths import JOURNAL_SUFFIX, journal_path, numbered_files
from dgrec.replay.clip.clip import write_clip
from dgrec.replay.clip.key_frames import from_key_frame, has_pictures
from dgrec.replay.clip.recorded_videos import ClipReport
from dgrec.replay.clip.spans import Span
from dgrec.session import Part, Session
from dgrec.units import size_text

#: Disk space to leave free for the recording in progress.
_RESERVE_BYTES = 64_000_000
#: Seconds of a clip before and after an alert, if the recording does not say.
_USUAL_S = 10.0
_LONGEST_S = 86_400


@dataclass(frozen=True)
class AlertClip:
    """The outcome for an alert: a clip, or the reason why there is none.

    Args:
        path: The clip.
        report: What was written; None if nothing was.
        problem: Why nothing was; "" if the moment is not over yet.
    """

    alert: RecordedAlert
    path: Path
    report: ClipReport | None = None
    problem: DgrecError | str = ""


def cut_alerts(
    path: Path, before_s: float | None = None, after_s: float | None = None
) -> Iterator[AlertClip]:
    """Write a clip of each alert that has none yet, and yield the outcome.

    A clip has all frames from ``before_s`` before the alert to ``after_s`` after its end, and
    begins with the last frame at or before that at which the videos can be cut without a change.
    While a recording goes on, alerts are cut once all of that is on the disk. Times that are None
    are those that the recording was made with.

    Raises:
        SessionError: The recording cannot be read.
    """
    is_live = _is_being_recorded(path)  # before it is opened: it may end meanwhile
    with Session(path) as session:
        before_s = _recorded_s(session, "before") if before_s is None else before_s
        after_s = _recorded_s(session, "after") if after_s is None else after_s
        for alert in recorded_alerts(session.metadata.get("events", [])):
            clip = clip_path(path, alert)
            if clip.exists():
                continue
            start_us = alert.fired_us - round(before_s * 1e6)
            end_us = None if alert.ended_us is None else alert.ended_us + round(after_s * 1e6)
            if is_live and end_us is None:
                yield AlertClip(alert, clip)
                continue
            try:
                yield _cut(session, alert, clip, start_us, end_us, is_live=is_live)
            except DgrecError as error:
                yield AlertClip(alert, clip, problem=error)


def _recorded_s(session: Session, name: str) -> float:
    given = session.metadata.get("options", {}).get(name)
    is_time = isinstance(given, int | float) and 0 <= given <= _LONGEST_S
    return float(given) if is_time else _USUAL_S


def _is_being_recorded(path: Path) -> bool:
    while True:
        parts = [file for _, file in numbered_files(path) if file.suffix == JOURNAL_SUFFIX]
        if any(map(is_being_written, (journal_path(path), *parts))):
            return True
        # A journal that is gone was sealed just now, and another part may have followed. (A
        # dangling link was not sealed.)
        if all(map(os.path.lexists, parts)):
            return False


def _cut(
    session: Session,
    alert: RecordedAlert,
    clip: Path,
    start_us: int,
    end_us: int | None,
    *,
    is_live: bool,
) -> AlertClip:
    if session.parts:
        session = session.only(_parts_within(session.parts, start_us, end_us))
    span = _span(session, start_us, end_us)
    if is_live and span.end == len(session):
        return AlertClip(alert, clip)
    if span.start == span.end:
        return AlertClip(alert, clip, problem="no frame of that time is recorded")
    if is_live and not has_pictures(session, span.start, span.end):
        return AlertClip(alert, clip)
    return AlertClip(alert, clip, _write(session, span, clip, alert))


def _parts_within(parts: Sequence[Part], start_us: int, end_us: int | None) -> list[Part]:
    """Return the parts that cover a time, one more on each side, and a second one before.

    A clip may begin in the part before, even with its first frame. All events before the first
    frame of a session count as that frame's, so the clip's must not be the first one here.
    """
    first, last = len(parts) - 1, 0
    for place, part in enumerate(parts):
        if (stamp_us(part.ended_at) or 2**62) >= start_us:
            first = min(first, place)
        if end_us is None or (stamp_us(part.metadata.get("started_at")) or 0) <= end_us:
            last = place
    return [*parts[max(0, first - 2) : max(first, last) + 2]]


def _span(session: Session, start_us: int, end_us: int | None) -> Span:
    """Return the frames of a time: with results after its start, and captured before its end."""
    coarse = session.first_at_least("completed_at", start_us)
    start, end, place = coarse, len(session), coarse
    for batch in session.batches(["captured_at", "completed_at"], coarse):
        captured, completed = (column.cast(pa.int64()).to_pylist() for column in batch.columns)
        for row, (taken, done) in enumerate(zip(captured, completed, strict=True), place):
            if done is not None and done < start_us:
                start = row + 1
            if end_us is not None and taken is not None and taken > end_us:
                end = row
                break
        else:
            place += batch.num_rows
            continue
        break
    # If no frame came in that time, the clip shows the last ones before it.
    before = max(0, min(start, end) - 1)
    return Span(from_key_frame(session, before), end) if before < end else Span(end, end)


def _write(session: Session, span: Span, path: Path, alert: RecordedAlert) -> ClipReport:
    _check_room(session, span, path)
    ended = {} if alert.ended_us is None else {"ended": utc_text(alert.ended_us * 1000)}
    description = {
        "alert": {
            "name": alert.name,
            "rule": alert.rule,
            "fired": utc_text(alert.fired_us * 1000),
            **ended,
        }
    }
    return write_clip(session, [span], path, description=description)


def _check_room(session: Session, span: Span, path: Path) -> None:
    """Raise `StorageError` if a clip would take space that the recording needs."""
    files = {*session.files, *filter(Path.is_file, videos_beside(session.place, session.metadata))}
    size = sum(file.stat().st_size for file in files)
    needed = size * (span.end - span.start) / max(1, len(session)) + _RESERVE_BYTES
    min_free = session.metadata.get("options", {}).get("min_free")
    needed += min_free if isinstance(min_free, int | float) and 0 < min_free < 10**18 else 0
    free = shutil.disk_usage(path.absolute().parent).free
    if free < needed:
        raise StorageError(
            f"{path}: not written: {size_text(free)} are free, and a clip that leaves the "
            f"recording its room needs {size_text(round(needed))}",
            is_full=True,
        )
