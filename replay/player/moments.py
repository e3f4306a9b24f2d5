"""What there is to see in a session: the time of each frame, and which of them stand out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import numpy as np
import pyarrow as pa

from dgrec.footage import Timeline
from dgrec.format import LABEL_LEAF, cuts_of, labels_of, rows_with_labels
from dgrec.session import Session
from dgrec.units import counted

__all__ = ["Kind", "Moments", "find_moments"]

#: A label that was not seen for so long has appeared; detections come and go for single frames.
_ABSENT_US = 1_000_000
_COLUMNS = (*Timeline.COLUMNS, "dropped_before", "latency_ms")
_ROWS_AT_ONCE = 4096
_BYTES_AT_ONCE = 32 << 20


class Kind(IntFlag):
    """Why a frame stands out."""

    DROP = 1
    SLOW = 2
    LABEL = 4


@dataclass(frozen=True)
class Moments:
    """One entry for each frame of a stretch of a session, in order.

    A row takes 25 bytes: a day at 30 frames a second 65 MB.
    """

    #: Position of each frame in the session.
    positions: np.ndarray[Any, Any]
    #: Microseconds since the first of them; always growing.
    times_us: np.ndarray[Any, Any]
    #: `Kind` flags.
    kinds: np.ndarray[Any, Any]
    #: Source frames lost before each, where there are any.
    dropped: dict[int, int]
    #: Labels that appear in a frame, where there are any.
    appearing: dict[int, tuple[str, ...]]
    latency_ms: np.ndarray[Any, Any]
    #: 99% of the frames were at least as fast; None without frames.
    p99_ms: float | None

    def __len__(self) -> int:
        return len(self.positions)

    def at(self, time_us: float) -> int:
        """Return the frame that is shown at a time: the last that has begun, or the first."""
        return max(int(np.searchsorted(self.times_us, time_us, "right")) - 1, 0)

    def after(self, frame: int) -> int | None:
        """Return the next frame that stands out, or None."""
        found = np.flatnonzero(self.kinds[frame + 1 :])
        return frame + 1 + int(found[0]) if len(found) else None

    def before(self, frame: int) -> int | None:
        """Return the frame before that stands out, or None."""
        found = np.flatnonzero(self.kinds[:frame])
        return int(found[-1]) if len(found) else None

    def describe(self, frame: int) -> str:
        """Return why a frame stands out, in a few words; "" if it does not."""
        kinds = int(self.kinds[frame])
        parts = []
        if kinds & Kind.DROP:
            count = self.dropped[frame]
            parts.append(f"{counted(count, 'frame')} dropped before")
        if kinds & Kind.SLOW:
            parts.append(f"latency {self.latency_ms[frame]:.1f} ms, p99 is {self.p99_ms:.1f}")
        if kinds & Kind.LABEL:
            parts.append(f"{', '.join(self.appearing[frame])} appears")
        return "; ".join(parts)


def find_moments(
    session: Session,
    start: int = 0,
    end: int | None = None,
    wanted: Iterable[int] | None = None,
) -> Moments:
    """Go through a session's columns once and return what stands out.

    Args:
        session: The session.
        start: Position of the first frame.
        end: Position to stop before.
        wanted: Positions of the frames to keep; None: all.
    """
    keep = None if wanted is None else np.unique(np.fromiter(wanted, np.int64))
    found: dict[str, list[np.ndarray[Any, Any]]] = {
        name: [] for name in ("position", "time_us", "latency_ms", "dropped_before")
    }
    seen = _Labels()
    count = 0  # frames before the batch that are kept
    timeline = Timeline(cuts_of(session.metadata))
    for first, batch in _batches(session, start, end):
        positions = np.arange(first, first + batch.num_rows)
        if keep is not None:
            # The pace is that of the frames that are shown: those between take no time.
            positions = keep[slice(*np.searchsorted(keep, (first, first + batch.num_rows)))]
            batch = batch.take(pa.array(positions - first))
        times = timeline.times_us(batch)
        seen.look(batch, times, count)
        count += batch.num_rows
        columns = {name: _numbers(batch, name) for name in ("latency_ms", "dropped_before")}
        for name, values in {"position": positions, "time_us": times, **columns}.items():
            found[name].append(values)
    joined = {
        name: np.concatenate(parts) if parts else np.empty(0, np.int64)
        for name, parts in found.items()
    }
    latency, dropped = joined["latency_ms"], joined["dropped_before"]
    p99 = float(np.percentile(latency, 99)) if len(latency) else None
    kinds = np.zeros(count, np.uint8)
    kinds[dropped > 0] |= np.uint8(Kind.DROP)
    if p99 is not None:
        kinds[latency > p99] |= np.uint8(Kind.SLOW)
    kinds[list(seen.appearing)] |= np.uint8(Kind.LABEL)
    return Moments(
        positions=joined["position"],
        times_us=joined["time_us"],
        kinds=kinds,
        dropped={int(at): int(dropped[at]) for at in np.flatnonzero(dropped > 0)},
        appearing={at: tuple(labels) for at, labels in seen.appearing.items()},
        latency_ms=latency,
        p99_ms=p99,
    )


def _batches(session: Session, start: int, end: int | None) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (position of the first row, the columns that count): many small batches at once."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in session.batches([*_COLUMNS, LABEL_LEAF], start, end):
        is_enough = rows >= _ROWS_AT_ONCE or size >= _BYTES_AT_ONCE
        if waiting and (is_enough or not batch.schema.equals(waiting[0].schema)):
            yield start, pa.concat_batches(waiting)
            start += rows
            waiting, rows, size = [], 0, 0
        waiting.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
    if waiting:
        yield start, pa.concat_batches(waiting)


def _numbers(batch: pa.RecordBatch, name: str) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = batch.column(name).to_numpy(zero_copy_only=False)
    return values


class _Labels:
    """Notices labels that were not there for a while."""

    def __init__(self) -> None:
        self.appearing: dict[int, list[str]] = {}
        self._last_us: dict[str, int] = {}

    def look(self, batch: pa.RecordBatch, times_us: np.ndarray[Any, Any], first_frame: int) -> None:
        names, codes, rows = labels_of(batch.column("detections"))
        found = rows_with_labels(codes, rows, len(names), batch.num_rows)
        for label, frames_with in zip(names, found, strict=True):
            if label is None or not len(frames_with):
                continue
            times = times_us[frames_with]
            last = self._last_us.get(label)
            gaps = np.diff(times, prepend=times[0] - _ABSENT_US - 1 if last is None else last)
            for frame in frames_with[gaps > _ABSENT_US]:
                self.appearing.setdefault(first_frame + int(frame), []).append(label)
            self._last_us[label] = int(times[-1])
