"""The frames of a session that stand out: drops, slow ones, new labels, the program's marks."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dgrec.footage import chosen_batches, column_values
from dgrec.format import LABEL_LEAF, LARGEST_MEASUREMENT, labels_of, rows_with_labels, stamp_us
from dgrec.replay.player.played_frames import PlayedFrames
from dgrec.session import Session
from dgrec.units import counted

#: How long a label has to be absent before it counts as new: detections flicker.
_ABSENT_US = 1_000_000
_COLUMNS = ["dropped_before", "latency_ms", "captured_at", LABEL_LEAF]
#: Characters of a mark's text that are shown.
_LONGEST_TEXT = 60
_ROWS_AT_ONCE = 4096
_BYTES_AT_ONCE = 32 << 20


class Mark(IntFlag):
    """The reason why a frame stands out."""

    DROP = 1
    SLOW = 2
    LABEL = 4
    EVENT = 8


@dataclass(frozen=True)
class Marks:
    """The frames of a player that stand out, by default none."""

    #: `Mark` flags of each frame.
    kinds: np.ndarray[Any, Any]
    #: Source frames lost before each, where there are any.
    dropped: dict[int, int] = field(default_factory=dict)
    #: Labels that appear in a frame, where there are any.
    appearing: dict[int, tuple[str, ...]] = field(default_factory=dict)
    #: The program's marks after a frame and before the session's next one, where there are any.
    marked: dict[int, tuple[str, ...]] = field(default_factory=dict)
    latency_ms: np.ndarray[Any, Any] = field(default_factory=lambda: np.empty(0))
    #: 99% of the frames were at least as fast; None if no frame's latency is known.
    p99_ms: float | None = None

    def after(self, frame: int) -> int | None:
        """Return the next frame that stands out, or None."""
        found = np.flatnonzero(self.kinds[frame + 1 :])
        return frame + 1 + int(found[0]) if len(found) else None

    def before(self, frame: int) -> int | None:
        """Return the previous frame that stands out, or None."""
        found = np.flatnonzero(self.kinds[:frame])
        return int(found[-1]) if len(found) else None

    def describe(self, frame: int) -> str:
        """Return why a frame stands out, in a few words; "" if it does not."""
        kinds = int(self.kinds[frame])
        parts = []
        if kinds & Mark.DROP:
            parts.append(f"{counted(self.dropped[frame], 'frame')} dropped before")
        if kinds & Mark.SLOW:
            parts.append(f"latency {self.latency_ms[frame]:.1f} ms, p99 is {self.p99_ms:.1f}")
        if kinds & Mark.LABEL:
            parts.append(f"{', '.join(self.appearing[frame])} appears")
        if kinds & Mark.EVENT:
            parts.append(f"mark: {', '.join(self.marked[frame])}")
        return "; ".join(parts)


def find_marks(path: Path, frames: PlayedFrames, stop: threading.Event | None = None) -> Marks:
    """Read the columns of a session's frames once and return which stand out.

    The session is opened here, so that its player can go on reading from its own.

    Args:
        frames: The frames that are played.
        stop: Ends the search early, with the marks of fewer frames.
    """
    labels = _Labels()
    dropped, latency = np.empty(len(frames), np.int64), np.empty(len(frames))
    captured_us, is_captured = np.empty(len(frames), np.int64), np.empty(len(frames), bool)
    count = 0
    with Session(path) as session:
        events = [e for e in session.metadata.get("events", []) if e.get("kind") == "mark"]
        chosen = chosen_batches(session, frames.positions, _COLUMNS)
        for batch in _merged(rows for _, rows in chosen):
            if stop is not None and stop.is_set():
                break
            here = slice(count, count + batch.num_rows)
            labels.look(batch, frames.times_us[here], count)
            dropped[here] = batch.column("dropped_before").fill_null(0)
            captured_us[here], is_captured[here] = column_values(batch.column("captured_at"))
            latency[here] = batch.column("latency_ms").to_numpy(zero_copy_only=False)
            count += batch.num_rows
        captured = np.flatnonzero(is_captured[:count])
        marked = _marked(session, events, frames.positions, captured, captured_us[captured])
    dropped, latency = dropped[:count], latency[:count]
    kinds = np.zeros(len(frames), np.uint8)
    kinds[np.flatnonzero(dropped > 0)] |= np.uint8(Mark.DROP)
    is_known = np.abs(latency) <= LARGEST_MEASUREMENT  # False for NaN
    p99 = float(np.percentile(latency[is_known], 99)) if is_known.any() else None
    if p99 is not None:
        kinds[np.flatnonzero(is_known & (latency > p99))] |= np.uint8(Mark.SLOW)
    kinds[list(labels.appearing)] |= np.uint8(Mark.LABEL)
    kinds[list(marked)] |= np.uint8(Mark.EVENT)
    return Marks(
        kinds=kinds,
        dropped={int(at): int(dropped[at]) for at in np.flatnonzero(dropped > 0)},
        appearing={at: tuple(names) for at, names in labels.appearing.items()},
        marked=marked,
        latency_ms=latency,
        p99_ms=p99,
    )


def _marked(
    session: Session,
    events: Iterable[Mapping[str, Any]],
    positions: np.ndarray[Any, Any],
    frames: np.ndarray[Any, Any],
    captured_us: np.ndarray[Any, Any],
) -> dict[int, tuple[str, ...]]:
    """Return the texts of marks by the last frame that was captured before each.

    Marks of frames that are not played are left out.

    Args:
        session: The frames' session.
        events: The marks.
        positions: The positions of the frames that are played.
        frames: Those of them whose time of capture is known.
        captured_us: It.
    """
    found: dict[int, list[tuple[int, str]]] = {}
    for event in events:
        text = str(event.get("text") or "")
        at_us = stamp_us(event.get("at"))
        if at_us is None:
            continue
        index = int(np.searchsorted(captured_us, at_us, side="right")) - 1
        if index >= 0:
            found.setdefault(int(frames[index]), []).append((at_us, text[:_LONGEST_TEXT]))
    following = positions[sorted(found)] + 1
    ends_us: dict[int, int] = {}
    for at, rows in chosen_batches(session, following[following < len(session)], ["captured_at"]):
        stamps, is_there = column_values(rows.column("captured_at"))
        ends_us.update(zip(at[is_there].tolist(), stamps[is_there].tolist(), strict=True))
    marked = {}
    for frame, marks in found.items():
        end_us = ends_us.get(int(positions[frame]) + 1)
        texts = tuple(text for at_us, text in marks if end_us is None or at_us < end_us)
        if texts:
            marked[frame] = texts
    return marked


def _merged(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in fewer batches: those of a journal are small."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        is_enough = rows >= _ROWS_AT_ONCE or size >= _BYTES_AT_ONCE
        if waiting and (is_enough or not batch.schema.equals(waiting[0].schema)):
            yield pa.concat_batches(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
    if waiting:
        yield pa.concat_batches(waiting)


class _Labels:
    """Finds the frames in which a label appears that was absent for a while."""

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
