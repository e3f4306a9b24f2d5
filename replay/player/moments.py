"""What there is to see in a session: the time of each frame, and which of them stand out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.format import cuts_of
from dgrec.replay.footage import Timeline
from dgrec.session import Session

__all__ = ["Kind", "Moments", "find_moments"]

#: A label that was not seen for so long has appeared; detections come and go for single frames.
_ABSENT_US = 1_000_000
_COLUMNS = ("frame", "media_time_s", "captured_at", "dropped_before", "latency_ms")
#: Of the detections only this leaf is read from a sealed file: masks would be most of it.
_LABEL_LEAF = "detections.list.element.label"
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
            parts.append(f"{count:,} {'frame' if count == 1 else 'frames'} dropped before")
        if kinds & Kind.SLOW:
            parts.append(f"latency {self.latency_ms[frame]:.1f} ms, p99 is {self.p99_ms:.1f}")
        if kinds & Kind.LABEL:
            parts.append(f"{', '.join(self.appearing[frame])} appears")
        return "; ".join(parts)


def find_moments(
    session: Session, start: int = 0, end: int | None = None, wanted: Iterable[int] | None = None
) -> Moments:
    """Go through a session's columns once and return what stands out.

    Args:
        session: The session.
        start: Position of the first frame.
        end: Position to stop before.
        wanted: The numbers (column ``frame``) of the frames to keep, if not all.
    """
    stop = len(session) if end is None else min(end, len(session))
    keep = None if wanted is None else np.fromiter(wanted, np.int64)
    arrays: dict[str, list[np.ndarray[Any, Any]]] = {name: [] for name in _COLUMNS}
    seen = _Labels()
    kept: list[np.ndarray[Any, Any]] = []
    first = 0  # position of the batch
    count = 0  # frames before it that are kept
    timeline = Timeline(cuts_of(session.metadata))
    for batch in _batches(session):
        begin, last = max(start - first, 0), min(stop - first, batch.num_rows)
        if begin < last:
            part = batch.slice(begin, last - begin)
            if keep is not None:
                # The pace is that of the frames that are shown: those between take no time.
                chosen = np.flatnonzero(np.isin(_numbers(part, "frame"), keep))
                part = part.take(pa.array(chosen))
                kept.append(chosen + first + begin)
            else:
                kept.append(np.arange(first + begin, first + last))
            columns = {name: _numbers(part, name) for name in _COLUMNS}
            columns["captured_at"] = timeline.times_us(
                columns["frame"], columns["media_time_s"], columns["captured_at"]
            )
            for name, values in columns.items():
                arrays[name].append(values)
            seen.look(part, columns["captured_at"], count)
            count += part.num_rows
        first += batch.num_rows
        if first >= stop:
            break
    joined = {
        name: np.concatenate(parts) if parts else np.empty(0) for name, parts in arrays.items()
    }
    latency = joined["latency_ms"]
    p99 = float(np.percentile(latency, 99)) if len(latency) else None
    kinds = np.zeros(count, np.uint8)
    dropped = joined["dropped_before"]
    kinds[dropped > 0] |= np.uint8(Kind.DROP)
    if p99 is not None:
        kinds[latency > p99] |= np.uint8(Kind.SLOW)
    kinds[list(seen.appearing)] |= np.uint8(Kind.LABEL)
    return Moments(
        positions=np.concatenate(kept) if kept else np.empty(0, np.int64),
        times_us=joined["captured_at"],
        kinds=kinds,
        dropped={int(at): int(dropped[at]) for at in np.flatnonzero(dropped > 0)},
        appearing={at: tuple(labels) for at, labels in seen.appearing.items()},
        latency_ms=latency,
        p99_ms=p99,
    )


def _batches(session: Session) -> Iterator[pa.RecordBatch]:
    """Yield the columns that count; the small batches of a journal, many at once."""
    if session.sealed:
        yield from session.batches([*_COLUMNS, _LABEL_LEAF])
        return
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in session.batches([*_COLUMNS, "detections"]):
        waiting.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= _ROWS_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield pa.concat_batches(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.concat_batches(waiting)


def _numbers(batch: pa.RecordBatch, name: str) -> np.ndarray[Any, Any]:
    column = batch.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: np.ndarray[Any, Any] = column.to_numpy(zero_copy_only=False)
    return values


class _Labels:
    """Notices labels that were not there for a while."""

    def __init__(self) -> None:
        self.appearing: dict[int, list[str]] = {}
        self._last_us: dict[str, int] = {}

    def look(self, batch: pa.RecordBatch, times_us: np.ndarray[Any, Any], first_frame: int) -> None:
        column = batch.column("detections")
        labels = pc.struct_field(column.flatten(), "label").dictionary_encode()
        codes = labels.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        frames = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
        names: Sequence[str | None] = labels.dictionary.to_pylist()
        for code, label in enumerate(names):
            if label is None:
                continue
            frames_with = np.unique(frames[codes == code])
            times = times_us[frames_with]
            last = self._last_us.get(label)
            gaps = np.diff(times, prepend=times[0] - _ABSENT_US - 1 if last is None else last)
            for frame in frames_with[gaps > _ABSENT_US]:
                self.appearing.setdefault(first_frame + int(frame), []).append(label)
            self._last_us[label] = int(times[-1])
