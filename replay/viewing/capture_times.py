"""When frames were captured, in seconds since the first one, and at which position each stands."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from dgrec.errors import QueryError

if TYPE_CHECKING:
    from dgrec.replay.query import SqlReader
    from dgrec.session import Session

__all__ = ["MOST_PIXELS", "CaptureTimes", "Pixels", "capture_times", "once", "pixels"]

#: A wider time line gets fewer, wider pixels.
MOST_PIXELS = 4096
#: Stamps that DuckDB and Python have: from year 1 to 9999, in microseconds since 1970.
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999

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
class CaptureTimes:
    """The time line of a session: seconds since the capture of its first row.

    Args:
        origin_us: When that was, in microseconds since 1970; None: no row says when it was
            captured.
        least_us: When the earliest frame was captured: stamps may run backwards.
        most_us: When the latest frame was captured.
        first_frame: Number of the first row.
        frames: Numbers of all rows, ascending; None if none is missing between the first and the
            last.
    """

    origin_us: int | None
    least_us: int
    most_us: int
    first_frame: int
    count: int
    frames: _Array | None

    def positions(self, frames: _Array) -> _Array:
        """Return where frames stand, counted from 0; of a number that is missing, the next."""
        if self.frames is None:
            found = frames - self.first_frame
        else:
            found = np.searchsorted(self.frames, frames)
        return np.clip(found, 0, max(0, self.count - 1))

    def seconds(self, stamps_us: _Array) -> _Array:
        return (stamps_us - (self.origin_us or 0)) / 1e6


@once
def capture_times(session: Session, reader: SqlReader) -> CaptureTimes:
    (found,) = reader.rows(
        "SELECT epoch_us(min(captured_at)) AS least, epoch_us(max(captured_at)) AS most, "
        "min(frame) AS first, max(frame) AS last, count(*) AS n FROM frames"
    )
    least, count = found["least"], found["n"]
    first = reader.rows("SELECT epoch_us(captured_at) AS us FROM frames LIMIT 1")
    origin = first[0]["us"] if first and first[0]["us"] is not None else least
    frames = None
    if count and found["last"] - found["first"] + 1 != count:
        frames = np.concatenate([b.column(0).to_numpy() for b in session.batches(["frame"])])
    return CaptureTimes(origin, least or 0, found["most"] or 0, found["first"] or 0, count, frames)


@dataclass(frozen=True)
class Pixels:
    """A stretch of the time line, cut into columns of pixels of one width.

    Stamps are in microseconds since 1970. The last pixel includes the end of the stretch.
    """

    origin_us: int
    start_us: int
    end_us: int
    width: int

    @property
    def step_us(self) -> float:
        return (self.end_us - self.start_us) / self.width

    @property
    def sql(self) -> str:
        """The pixel of a frame, as an expression over the view ``frames``."""
        passed = f"(epoch_us(captured_at) - {self.start_us})::DOUBLE / {self.step_us!r}"
        return f"least(floor({passed}), {self.width - 1})::INTEGER"

    @property
    def where(self) -> str:
        """Which frames are in the stretch."""
        stamps = (f"make_timestamptz({us})" for us in (self.start_us, self.end_us))
        return "captured_at BETWEEN {} AND {}".format(*stamps)

    def are_within(self, stamps_us: _Array) -> _Array:
        return np.asarray((stamps_us >= self.start_us) & (stamps_us <= self.end_us))

    def of(self, stamps_us: _Array) -> _Array:
        """Return the pixels of stamps that are within the stretch."""
        passed = np.floor((stamps_us - self.start_us).astype(np.float64) / self.step_us)
        return np.minimum(passed, self.width - 1).astype(np.int64)

    def edges(self) -> dict[str, float]:
        """Return the stretch as answers have it, in seconds."""
        start, end = ((us - self.origin_us) / 1e6 for us in (self.start_us, self.end_us))
        return {"from": start, "to": end, "step": self.step_us / 1e6}


def pixels(
    times: CaptureTimes, start: float | None, end: float | None, width: int
) -> Pixels | None:
    """Return a stretch in pixels, by default the whole session; None where no stamp is known.

    Raises:
        QueryError: It is not a stretch.
    """
    if width < 1:
        raise QueryError(f"width={width}: expected a number of pixels, at least 1")
    if times.origin_us is None:
        return None
    width = min(width, MOST_PIXELS)
    start_us = times.least_us if start is None else times.origin_us + _microseconds(start)
    end_us = times.most_us if end is None else times.origin_us + _microseconds(end)
    if start is not None and end is not None and end_us < start_us:
        raise QueryError(f"from={start:g} is after to={end:g}")
    start_us = min(max(start_us, _FIRST_US), _LAST_US - width)
    # Stamps are whole microseconds: a narrower pixel would always be empty.
    return Pixels(times.origin_us, start_us, max(min(end_us, _LAST_US), start_us + width), width)


def _microseconds(seconds: float) -> int:
    if not np.isfinite(seconds):
        raise QueryError(f"{seconds} is not a time; expected seconds since the first frame")
    return round(min(max(seconds, -1e12), 1e12) * 1e6)
