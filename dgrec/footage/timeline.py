"""The time line of a session: the times at which its frames are shown."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dgrec.format import cuts_of
from dgrec.timeline import SteadyTime

if TYPE_CHECKING:
    from dgrec.session import Session

_Array = np.ndarray[Any, Any]

#: A year: longer steps between damaged stamps are shortened, so that sums fit 64 bits.
LONGEST_STEP_US = 365 * 86_400_000_000
#: A longer step is a gap, and says nothing about how long a frame lasts.
LONGEST_USUAL_STEP_US = 60_000_000
#: How long a frame without neighbours lasts, in microseconds.
FIRST_STEP_US = 40_000
#: Rows that are computed at once, and one by one after an odd stamp.
_ROWS_AT_ONCE, _ROWS_ONE_BY_ONE = 4096, 64
#: No source has a later stamp: 30,000 years, in seconds.
LATEST_MEDIA_S = 1e12


def media_us(media_s: float) -> int | None:
    """Return a source's stamp in microseconds; None for an impossible one (NaN, 1e300)."""
    return round(media_s * 1e6) if abs(media_s) <= LATEST_MEDIA_S else None


class Timeline:
    """Turns the recorded times of rows into microseconds since the first one.

    They follow the source's own stamps, or the times of capture if it has none, like most cameras.
    An odd stamp shifts its own frame only.

    Args:
        cuts: Numbers of frames that directly follow the one before, whatever their stamps say:
            a clip jumps there (`dgrec.format.cuts_of`).
    """

    #: The columns that it needs.
    COLUMNS = ("frame", "media_time_s", "captured_at")

    def __init__(self, cuts: Collection[int] = ()) -> None:
        self._cuts = np.array(sorted(cuts), np.int64)
        self._pts: int | None = None
        self._media = SteadyTime(FIRST_STEP_US, LONGEST_USUAL_STEP_US)
        self._captured = 0
        #: How long the last frame lasts: the last step that was not a gap, in microseconds.
        self.step_us = FIRST_STEP_US

    def times_us(self, rows: pa.RecordBatch | pa.Table) -> _Array:
        """Return the times of the next rows (int64); each is later than the one before it.

        Args:
            rows: Rows with `COLUMNS`. Stamps may be null.
        """
        media_s, has_media = column_values(rows.column("media_time_s"))
        captured, is_captured = column_values(rows.column("captured_at"))
        # NaN is not below the limit.
        has_media &= np.abs(media_s) <= LATEST_MEDIA_S
        media = np.round(np.where(has_media, media_s, 0) * 1e6).astype(np.int64)
        is_cut = np.zeros(rows.num_rows, bool)
        if len(self._cuts):
            is_cut = np.isin(column_values(rows.column("frame"))[0], self._cuts)
        is_plain = is_captured & ~is_cut
        times = np.empty(rows.num_rows, np.int64)
        at = 0
        while at < len(times):
            block = slice(at, at + _ROWS_AT_ONCE)
            plain = _leading(is_plain[block])
            found = self._stretch(media[block][:plain], captured[block][:plain], has_media[block])
            if len(found):
                times[at : at + len(found)] = found
                at += len(found)
                continue
            for row in range(at, min(at + _ROWS_ONE_BY_ONE, len(times))):
                stamp = int(media[row]) if has_media[row] else None
                taken = int(captured[row]) if is_captured[row] else self._captured + self.step_us
                times[row] = self._next(stamp, taken, bool(is_cut[row]))
            at = row + 1
        return times

    def _stretch(self, media: _Array, captured: _Array, has_media: _Array) -> _Array:
        """Return the times of as many of the next rows as follow one source of time evenly."""
        if self._pts is None:
            return captured[:0]
        if self._media.now is None:
            before, line = self._captured, captured[: _leading(~has_media)]
        else:
            before, line = self._media.now, self._media.at_all(media[: _leading(has_media)])
        if not len(line):
            return line
        steps = np.clip(np.diff(line, prepend=before), 1, LONGEST_STEP_US)
        usual = steps[steps <= LONGEST_USUAL_STEP_US]
        if len(usual):
            self.step_us = int(usual[-1])
        times: _Array = self._pts + np.cumsum(steps)
        self._pts, self._captured = int(times[-1]), int(captured[len(line) - 1])
        return times

    def _next(self, media: int | None, captured: int, is_cut: bool) -> int:
        is_cut = is_cut and self._pts is not None
        if is_cut:
            self._media = SteadyTime(self._media.step, LONGEST_USUAL_STEP_US)
        before = self._media.now
        # Until the source's first stamp, only the times of capture are known.
        now = None if before is None and media is None else self._media.at(media)
        if self._pts is None:
            self._pts = 0
        else:
            step = captured - self._captured
            if is_cut:
                step = self.step_us
            elif now is not None and before is not None:
                step = now - before
            step = min(max(step, 1), LONGEST_STEP_US)
            if step <= LONGEST_USUAL_STEP_US:
                self.step_us = step
            self._pts += step
        self._captured = captured
        return self._pts


def column_values(column: pa.Array | pa.ChunkedArray) -> tuple[_Array, _Array]:
    """Return a column as numbers (stamps in microseconds, null as 0), and where it is not null."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    is_there = np.ones(len(column), bool)
    if column.null_count:
        is_there = column.is_valid().to_numpy(zero_copy_only=False)
        column = column.fill_null(0)
    if isinstance(column, pa.ChunkedArray):
        return column.to_numpy(), is_there
    return column.to_numpy(zero_copy_only=False), is_there


def _leading(flags: _Array) -> int:
    """Return how many are true before the first that is not."""
    first = int(np.argmin(flags)) if len(flags) else 0
    return first if len(flags) and not flags[first] else len(flags)


def session_times(session: Session, start: int = 0, end: int | None = None) -> Iterator[_Array]:
    """Yield the times of a session's rows in blocks, in microseconds since the first of them."""
    cuts = cuts_of(session.metadata)
    timeline = Timeline(cuts)
    columns = [name for name in Timeline.COLUMNS if cuts or name != "frame"]
    for rows in session.batches(columns, start, end):
        yield timeline.times_us(rows)
