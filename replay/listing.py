"""A line for each recording: when, how long, of what model, how fast, what was lost, its state."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from dgrec import compute as pc
from dgrec.errors import DgrecError, NotASessionError
from dgrec.footage import videos_beside
from dgrec.rates import frame_rate, rate_text
from dgrec.replay.info import state_of
from dgrec.replay.output import Destination, Section, json_text, write_report
from dgrec.session import Session, open_found
from dgrec.units import count_text, size_text

#: The state of another program's file.
NOT_A_SESSION = "not a session"
#: Longer names of models are shortened in the table.
_LONGEST_MODEL = 24
#: The columns of narrow terminals, the fewest first, and all of them.
_COLUMNS = ((0, 1, 2, 7), (0, 1, 2, 4, 5, 7), (0, 1, 2, 4, 5, 6, 7), tuple(range(8)))


@dataclass(frozen=True)
class ListedSession:
    """What `dgrec list` says of a recording; None: unknown, most often since it is damaged."""

    path: str
    #: ``sealed``, ``being recorded``, ``cut off``, ``ended, not sealed``, ``damaged`` (after the
    #: number of its parts if it has several), or ``not a session``.
    state: str
    started_at: str | None = None
    #: From the first frame's capture to the last result.
    duration_s: float | None = None
    frames: int | None = None
    detections: int | None = None
    fps: float | None = None
    dropped: int | None = None
    model: str | None = None
    source: str | None = None
    #: Of its files, and of its videos.
    bytes: int | None = None
    video_bytes: int | None = None
    problem: str | None = None


def list_session(path: Path) -> ListedSession:
    """Return what is known of the session at ``path``, even if it cannot be read."""
    if not path.is_file():
        # Of a recording in parts, the recorder may remove the oldest one meanwhile.
        with contextlib.suppress(DgrecError, OSError), Session(path) as session:
            return listed(session)
    try:
        with open_found(path) as session:
            return listed(session)
    except DgrecError as error:
        size = path.stat().st_size if path.is_file() else None
        state = NOT_A_SESSION if isinstance(error, NotASessionError) else "damaged"
        return ListedSession(str(path), state, bytes=size, problem=str(error))
    except OSError as error:
        problem = f"{path}: cannot be read: {error.strerror}"
        return ListedSession(str(path), "damaged", problem=problem)


def listed(session: Session) -> ListedSession:
    """Return what is known of a session that is open."""
    metadata, totals = session.metadata, session.totals
    duration_s, fps = _times(session)
    state = state_of(session).split(":")[0]
    return ListedSession(
        path=str(session.path),
        state=f"{state}, damaged" if session.damage else state,
        started_at=_text(metadata, "started_at"),
        duration_s=duration_s,
        frames=len(session),
        detections=totals["detections"],
        fps=fps,
        dropped=totals["dropped"],
        model=_text(metadata.get("model"), "name"),
        source=_text(metadata.get("source"), "given"),
        bytes=_size(session.files),
        video_bytes=_size(videos_beside(session.path, metadata)),
        problem="; ".join(session.damage) or None,
    )


def _text(values: Mapping[str, Any] | None, key: str) -> str | None:
    value = (values or {}).get(key)
    return None if value is None else str(value)


def _times(session: Session) -> tuple[float | None, float | None]:
    """Return how long a recording took in seconds, and its frames per second."""
    count = len(session)
    if not count:
        return None, None
    stamps = ["captured_at", "completed_at"]
    if not set(stamps) <= set(session.schema.names):
        return None, None
    first, last = (
        [column[0].value for column in next(session.batches(stamps, at, at + 1)).columns]
        for at in (0, count - 1)
    )
    if None in (*first, *last):
        return None, None
    if _steps_back(session, first, last):
        first, last = _extremes(session, stamps)
    captured_s, completed_s = ((end - start) / 1e6 for start, end in zip(first, last, strict=True))
    return (last[1] - first[0]) / 1e6, frame_rate(count - 1, captured_s, completed_s)


def _steps_back(session: Session, first: Sequence[int], last: Sequence[int]) -> bool:
    """Return whether the last stamps are not the latest, as far as the ends and the footer tell."""
    if last[0] < first[0] or last[1] < first[1]:
        return True
    names = ("captured_at", "completed_at")
    return session.sealed and any(
        session.first_at_least(name, latest + 1) < len(session)
        for name, latest in zip(names, last, strict=True)
    )


def _extremes(session: Session, stamps: list[str]) -> tuple[list[int], list[int]]:
    """Return the earliest and the latest of the stamps, as `dgrec stats` takes them."""
    lowest: list[list[int]] = [[] for _ in stamps]
    highest: list[list[int]] = [[] for _ in stamps]
    for batch in session.batches(stamps):
        for at, column in enumerate(batch.columns):
            bounds = pc.min_max(column.cast(pa.int64())).as_py()
            if bounds["min"] is not None:
                lowest[at].append(bounds["min"])
                highest[at].append(bounds["max"])
    return [min(each) for each in lowest], [max(each) for each in highest]


def _size(files: Sequence[Path]) -> int:
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += os.path.getsize(file)
    return total


# --- writing -----------------------------------------------------------------------------------


def write_listing(listed: Sequence[ListedSession], form: str, destination: Destination) -> None:
    """Write recordings as ``table``, ``markdown`` or ``json``."""
    if form == "json":
        destination.write(json_text([asdict(each) for each in listed], indent=2) + "\n")
        return
    names = ("session", "started", "length", "model", "fps", "drops", "size", "state")
    numeric = (False, False, True, False, True, True, True, False)
    rows = [*map(_row, listed)]
    section = None
    for columns in _COLUMNS:
        section = Section(
            "",
            [names[at] for at in columns],
            [[row[at] for at in columns] for row in rows],
            [numeric[at] for at in columns],
            section,
        )
    assert section is not None
    write_report([section], _notes(listed), form, destination)


def _row(listed: ListedSession) -> tuple[str, ...]:
    model = listed.model or "-"
    if len(model) > _LONGEST_MODEL:
        model = model[: _LONGEST_MODEL - 1] + "…"
    size = (listed.bytes or 0) + (listed.video_bytes or 0)
    return (
        listed.path,
        _local_time(listed.started_at),
        _length(listed.duration_s),
        model,
        rate_text(listed.fps),
        count_text(listed.dropped),
        size_text(size),
        listed.state,
    )


def _local_time(stamp: str | None) -> str:
    """Return a stamp in the time of this machine, to the minute."""
    if stamp is None:
        return "-"
    try:
        return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):  # of another tool
        return "-"


def _length(seconds: float | None) -> str:
    """Return a duration as people write it: 9.3 s, 12:05, 26:40:00."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _notes(listed: Sequence[ListedSession]) -> Iterator[str]:
    for each in listed:
        if each.problem and each.frames is None:
            yield each.problem
