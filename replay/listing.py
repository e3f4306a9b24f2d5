"""A line for each recording: start, length, model, rate, losses, size and state."""

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
from dgrec.format import FIRST_US, LAST_US, StampBounds
from dgrec.rates import frame_rate, rate_text
from dgrec.replay.info import state_of
from dgrec.replay.output import Destination, Section, json_text, write_report
from dgrec.session import Session, open_found
from dgrec.units import count_text, size_text

#: The state of another program's file.
NOT_A_SESSION = "not a session"
_STAMPS = ["captured_at", "completed_at"]
#: Longer names of models are shortened in the table.
_LONGEST_MODEL = 24
#: The columns of narrow terminals, the fewest first, and all of them.
_COLUMNS = ((0, 1, 2, 7), (0, 1, 2, 4, 5, 7), (0, 1, 2, 4, 5, 6, 7), tuple(range(8)))


@dataclass(frozen=True)
class ListedSession:
    """A recording as `dgrec list` shows it; None: unknown, mostly because it is damaged."""

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
    #: The size of its files, and of its videos.
    bytes: int | None = None
    video_bytes: int | None = None
    problem: str | None = None


def list_session(path: Path) -> ListedSession:
    """Return what is known of the session at ``path``, even if it cannot be read."""
    if not path.is_file():
        # The recorder may remove the oldest part of a recording meanwhile.
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
    """Return how long a recording took in seconds, and its frames per second, as SQL does.

    Rows may be in another order than their stamps: a program says when its frames were captured.
    """
    if not set(_STAMPS) <= set(session.schema.names):
        return None, None
    count = len(session)
    bounds = session.stamp_bounds() if count else None
    if bounds is None or not all(FIRST_US < low <= high < LAST_US for low, high in bounds):
        return _times_of_rows(session)
    (captured, last_captured), (first, last) = bounds
    captured_s, completed_s = (last_captured - captured) / 1e6, (last - first) / 1e6
    return (last - captured) / 1e6, frame_rate(count - 1, captured_s, completed_s)


def _times_of_rows(session: Session) -> tuple[float | None, float | None]:
    """Return the same by reading all stamps: a row that lacks one is not a step."""
    captures, results = StampBounds(), StampBounds()
    steps, both = -1, (StampBounds(), StampBounds())
    for batch in session.batches(_STAMPS):
        captured, completed = map(_known, batch.columns)
        captures.add(captured)
        results.add(completed)
        has_both = pc.and_(captured.is_valid(), completed.is_valid())
        steps += has_both.true_count
        for bounds, stamps in zip(both, (captured, completed), strict=True):
            bounds.add(stamps.filter(has_both))
    if captures.first_us is None or results.last_us is None:
        return None, None
    duration_s = (results.last_us - captures.first_us) / 1e6
    return duration_s, frame_rate(steps, both[0].seconds, both[1].seconds)


def _known(stamps: pa.Array) -> pa.Array:
    """Return stamps in microseconds since 1970, null where SQL has none."""
    us = stamps.cast(pa.int64())
    return pc.if_else(pc.and_(pc.greater(us, FIRST_US), pc.less(us, LAST_US)), us, None)


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
    except (ValueError, OverflowError, OSError):  # a stamp of another tool
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
