"""The time line of a session, its rows and its pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa

from dgrec.errors import QueryError
from dgrec.footage import FIRST_STEP_US, LATEST_MEDIA_S, column_values, media_us

if TYPE_CHECKING:
    from dgrec.replay.query import SqlReader
    from dgrec.session import Session

#: A wider time line gets fewer, wider pixels.
_MOST_PIXELS = 4096
#: Stamps that DuckDB and Python have: from year 1 to 9999, in microseconds since 1970.
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
_NEVER_US = 2**63 - 1

_Array = np.ndarray[Any, Any]
_P = ParamSpec("_P")
_T = TypeVar("_T")


def once(
    make: Callable[Concatenate[Session, SqlReader, _P], _T],
) -> Callable[Concatenate[Session, SqlReader, _P], _T]:
    """Keep what a function found out about a session for as long as the session is open.

    A recording that has grown is opened as another session.
    """
    kept: WeakKeyDictionary[Session, dict[Any, _T]] = WeakKeyDictionary()

    @functools.wraps(make)
    def found(
        session: Session, reader: SqlReader, /, *arguments: _P.args, **options: _P.kwargs
    ) -> _T:
        known = kept.setdefault(session, {})
        key = (arguments, tuple(sorted(options.items())))
        if key not in known:
            known[key] = make(session, reader, *arguments, **options)
        return known[key]

    return found


@dataclass(frozen=True, eq=False)
class TimeLine:
    """The time line of a session: seconds since its first row.

    They are counted by the stamps of captures; where the first row has none, by the times in the
    source; or else by the rows, each one `FIRST_STEP_US` after the other.

    Args:
        column: What they are counted by: ``captured_at``, ``media_time_s`` or ``frame``.
        stamp_sql: The stamp of a row in microseconds, as an expression over ``frames``.
        began_s: For times in the source, that of the first row.
        origin_us: The stamp of the first row; None: there are no rows.
        least_us: The earliest stamp: they may run backwards.
        most_us: The latest stamp; for captures, that of the last result.
        first_frame: Number of the first row.
        frames: Numbers of all rows, ascending; None if none is missing between the first and the
            last.
    """

    column: str
    stamp_sql: str
    began_s: float
    origin_us: int | None
    least_us: int
    most_us: int
    first_frame: int
    count: int
    frames: _Array | None

    @property
    def is_of_captures(self) -> bool:
        """Return whether a time of day can be placed on it."""
        return self.column == "captured_at"

    def positions(self, frames: _Array) -> _Array:
        """Return the positions of frames, from 0; for a number that is missing, the next one's."""
        if self.frames is None:
            found = frames - self.first_frame
        else:
            found = np.searchsorted(self.frames, frames)
        return np.asarray(np.clip(found, 0, max(0, self.count - 1)))

    def stamps(self, column: pa.Array) -> _Array:
        """Return stamps of rows from their `column`; unknown ones are beyond all others."""
        values, is_there = column_values(column)
        if self.column == "media_time_s":
            is_there = is_there & (np.abs(values) <= LATEST_MEDIA_S)  # false for NaN, too
            values = np.round((np.where(is_there, values, 0) - self.began_s) * 1e6)
        elif self.column == "frame":
            values = (values - self.first_frame) * FIRST_STEP_US
        return np.where(is_there, values.astype(np.int64), _NEVER_US)


@once
def time_line(session: Session, reader: SqlReader) -> TimeLine:
    first = reader.rows(
        "SELECT frame, epoch_us(captured_at) AS us, media_time_s FROM frames LIMIT 1"
    )
    if not first:
        return TimeLine("frame", "0", 0.0, None, 0, 0, 0, 0, None)
    began_s, also = first[0]["media_time_s"], "NULL"
    if first[0]["us"] is not None:
        column, stamp, also = "captured_at", "epoch_us(captured_at)", "epoch_us(max(completed_at))"
    elif began_s is not None and media_us(began_s) is not None:
        # A file may hold times that no source has, and that are not a number of microseconds.
        column, stamp = (
            "media_time_s",
            (
                f"CASE WHEN abs(media_time_s) <= {LATEST_MEDIA_S!r} "
                f"THEN round((media_time_s - {began_s!r}) * 1e6)::BIGINT END"
            ),
        )
    else:
        column, stamp = "frame", f"(frame - {first[0]['frame']}) * {FIRST_STEP_US}"
    (found,) = reader.rows(
        f"SELECT min({stamp}) AS least, greatest(max({stamp}), {also}) AS most, "
        "min(frame) AS first, max(frame) AS last, count(*) AS n FROM frames"
    )
    if found["first"] is None:  # no row has a number
        return TimeLine("frame", "0", 0.0, None, 0, 0, 0, 0, None)
    count, origin = found["n"], first[0]["us"] or 0
    frames = None
    if found["last"] - found["first"] + 1 != count:
        frames = np.concatenate([b.column(0).to_numpy() for b in session.batches(["frame"])])
    least, most = found["least"], found["most"]
    return TimeLine(
        column, stamp, began_s or 0.0, origin, least, most, found["first"], count, frames
    )


@dataclass(frozen=True)
class Pixels:
    """A stretch of the time line, cut into columns of pixels of one width.

    The last pixel includes the end of the stretch.
    """

    times: TimeLine
    start_us: int
    end_us: int
    width: int

    @property
    def step_us(self) -> float:
        return (self.end_us - self.start_us) / self.width

    @property
    def sql(self) -> str:
        """The pixel of a row, as an expression over the view ``frames``."""
        passed = f"({self.times.stamp_sql} - {self.start_us})::DOUBLE / {self.step_us!r}"
        return f"least(floor({passed}), {self.width - 1})::INTEGER"

    @property
    def where(self) -> str:
        """The condition on rows in the stretch, as SQL over the view ``frames``."""
        if not self.times.is_of_captures:
            return f"{self.times.stamp_sql} BETWEEN {self.start_us} AND {self.end_us}"
        # Compares the column itself, of which row groups have bounds.
        stamps = (f"make_timestamptz({us})" for us in (self.start_us, self.end_us))
        return "captured_at BETWEEN {} AND {}".format(*stamps)

    def are_within(self, stamps_us: _Array) -> _Array:
        return np.asarray((stamps_us >= self.start_us) & (stamps_us <= self.end_us))

    def of(self, stamps_us: _Array) -> _Array:
        """Return the pixels of stamps that are within the stretch."""
        passed = np.floor((stamps_us - self.start_us).astype(np.float64) / self.step_us)
        return np.minimum(passed, self.width - 1).astype(np.int64)

    def seconds(self, stamp_us: float) -> float:
        return (stamp_us - (self.times.origin_us or 0)) / 1e6

    def edges(self) -> dict[str, float]:
        """Return the stretch as answers have it, in seconds."""
        return {
            "from": self.seconds(self.start_us),
            "to": self.seconds(self.end_us),
            "step": self.step_us / 1e6,
        }


def pixels(times: TimeLine, start: float | None, end: float | None, width: int) -> Pixels | None:
    """Return a stretch in pixels, by default the whole session; None where there are no rows.

    Raises:
        QueryError: It is not a stretch.
    """
    if width < 1:
        raise QueryError(f"width={width}: expected a number of pixels, at least 1")
    if times.origin_us is None:
        return None
    width = min(width, _MOST_PIXELS)
    start_us = times.least_us if start is None else times.origin_us + _microseconds(start)
    end_us = times.most_us if end is None else times.origin_us + _microseconds(end)
    if start is not None and end is not None and end_us < start_us:
        raise QueryError(f"from={start:g} is after to={end:g}")
    start_us = min(max(start_us, _FIRST_US), _LAST_US - width)
    # Stamps are whole microseconds: a narrower pixel would always be empty.
    return Pixels(times, start_us, max(min(end_us, _LAST_US), start_us + width), width)


def _microseconds(seconds: float) -> int:
    if not np.isfinite(seconds):
        raise QueryError(f"{seconds} is not a time; expected seconds since the first frame")
    return round(min(max(seconds, -1e12), 1e12) * 1e6)
