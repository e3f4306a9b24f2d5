"""A point in a session: a frame, a time since the first frame, or a time in UTC."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from dgrec.errors import ConfigError
from dgrec.footage.timeline import column_values, session_times
from dgrec.format import utc_ns
from dgrec.units import parse_time

if TYPE_CHECKING:
    from dgrec.session import Session

#: A gap of more rows is jumped over by row group; shorter ones are read.
_WORTH_A_JUMP = 2048

#: Python makes no integers of thousands of digits.
_NUMBER = re.compile(r"\d{1,4000}\Z", re.ASCII)
_FRACTION = re.compile(r"[\d.]+\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """A point in a session as a user wrote it; `resolve` finds its frame."""

    text: str
    kind: Literal["frame", "time", "utc"]
    #: For a frame its place in the session, from 0; for a time microseconds since the first frame
    #: on the session's time line; for UTC microseconds since 1970.
    value: int


def parse_position(text: str) -> Position:
    """Parse a position.

    A plain number is a frame (``300``); ``12.5s``, ``1m30s``, ``1h``, ``1:30`` and ``00:01:30.5``
    are times since the first frame; an ISO 8601 date and time is UTC unless it says another zone
    (``2026-01-02T03:04:05Z``).

    Raises:
        ConfigError: It is not a position.
    """
    stripped = text.strip()
    if _NUMBER.match(stripped):
        return Position(stripped, "frame", int(stripped))
    with contextlib.suppress(ConfigError):
        if not _FRACTION.match(stripped):  # 12.5 is not a frame, and lacks a unit
            return Position(stripped, "time", round(parse_time(stripped) * 1_000_000))
    try:
        stamp = dt.datetime.fromisoformat(stripped)
    except ValueError:
        raise ConfigError(
            f"{text!r} is not a valid position; expected a frame (300), a time since the first "
            "frame (12.5s, 1m30s, 00:01:30) or a time in UTC (2026-01-02T03:04:05Z)"
        ) from None
    if stamp.tzinfo is None:
        stamp = stamp.replace(tzinfo=dt.UTC)
    return Position(stripped, "utc", utc_ns(stamp) // 1000)


def resolve(session: Session, position: Position) -> int:
    """Return the place of the first frame at or after ``position``, counted from 0.

    The number of frames if all are before it. Times are on the session's time line (`Timeline`);
    UTC is the time of capture.
    """
    if position.kind == "frame":
        return min(position.value, len(session))
    place = 0
    if position.kind == "time":
        wanted = min(position.value, np.iinfo(np.int64).max)
        for times in session_times(session):
            found = int(np.searchsorted(times, wanted))
            place += found
            if found < len(times):
                break
        return place
    place = session.first_at_least("captured_at", position.value)
    for batch in session.batches(["captured_at"], place):
        stamps, is_there = column_values(batch.column(0))
        later = np.flatnonzero(is_there & (stamps >= position.value))
        if len(later):
            return place + int(later[0])
        place += len(stamps)
    return place


def chosen_batches(
    session: Session, positions: np.ndarray[Any, Any], columns: list[str] | None = None
) -> Iterator[tuple[np.ndarray[Any, Any], pa.RecordBatch]]:
    """Yield (positions, rows) of chosen rows, reading only the row groups that hold them.

    Args:
        positions: The positions of the rows, ascending.
        columns: As for `Session.batches`.
    """
    jumps = np.flatnonzero(np.diff(positions) > _WORTH_A_JUMP) + 1
    for near in np.split(positions, jumps) if len(positions) else ():
        first = int(near[0])
        for batch in session.batches(columns, first, int(near[-1]) + 1):
            end = first + batch.num_rows
            here = near[slice(*np.searchsorted(near, (first, end)))]
            if len(here):
                # A copy: slices would keep all rows around them in memory.
                yield here, batch if len(here) == len(batch) else batch.take(pa.array(here - first))
            first = end
