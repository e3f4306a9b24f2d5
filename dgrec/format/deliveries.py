"""Deliveries: the frames that each target took while a recording was published.

Rows are never changed. The metadata of a journal's batches say what each target has taken; readers
of a journal, and sealing, fill the column ``published_ms`` and the ``targets`` of the metadata from
that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from dgrec import compute as pc

#: The first and the last number of a range; both belong to it.
Range = tuple[int, int]
_Numbers = np.ndarray[Any, np.dtype[np.int64]]

#: Times are in 1/4096 ms, as the durations of rows.
_TICKS_PER_MS: Final = 4096
#: Instead of a time: no message was due; or one was taken, but its capture time is unknown.
_NOT_DUE, _NO_TIME = -1, -2
#: For the messages at the end of a run, after a frame: they are due; they were taken.
_END_DUE, _END_TAKEN = -3, -4
#: Ranges of a target in the metadata of a session.
_MOST_RANGES: Final = 10_000
_MOST_TARGETS: Final = 100
_MOST_AT_ONCE: Final = 2_000_000
_LARGEST: Final = 2**53


class Delivery(NamedTuple):
    """A frame whose messages a target has taken, or does not get; or the same for a run's end.

    Args:
        target: Its place in the metadata's ``targets``.
        ticks: `delivery_ticks`; negative: the message is not due, or is that of the run's end.
    """

    target: int
    source_frame: int
    ticks: int

    @classmethod
    def not_due(cls, target: int, source_frame: int) -> Delivery:
        return cls(target, source_frame, _NOT_DUE)

    @classmethod
    def end_due(cls, target: int, source_frame: int) -> Delivery:
        return cls(target, source_frame, _END_DUE)

    @classmethod
    def end_taken(cls, target: int, source_frame: int) -> Delivery:
        return cls(target, source_frame, _END_TAKEN)

    @property
    def is_end(self) -> bool:
        return self.ticks in (_END_DUE, _END_TAKEN)

    @property
    def is_taken(self) -> bool:
        """Return whether it says that the target took something."""
        return self.ticks not in (_NOT_DUE, _END_DUE)

    @property
    def published_ms(self) -> float | None:
        return self.ticks / _TICKS_PER_MS if self.ticks >= 0 else None


def delivery_ticks(captured_ns: int | None, taken_ns: int) -> int:
    """Return the time from capture (None: unknown) until a target had taken a message."""
    if captured_ns is None:
        return _NO_TIME
    return max(0, round((taken_ns - captured_ns) * (_TICKS_PER_MS / 1e6)))


# --- in the metadata of a batch ----------------------------------------------------------------


def deliveries_as_note(deliveries: Iterable[Delivery]) -> list[list[Any]]:
    """Return deliveries as a batch's metadata have them: target, source frames, ticks."""
    by_target = sorted(deliveries, key=attrgetter("target"))
    found: list[list[Any]] = []
    for target, group in groupby(by_target, key=attrgetter("target")):
        _, frames, ticks = zip(*group, strict=True)
        found.append([target, list(frames), list(ticks)])
    return found


def deliveries_from_note(value: Any) -> list[tuple[int, _Numbers, _Numbers]]:
    """Return the deliveries in the metadata of a batch.

    Raises:
        ValueError: dgrec did not write them.
    """
    if not isinstance(value, list) or len(value) > _MOST_TARGETS:
        raise ValueError("a batch's deliveries are not a list of targets")
    return [_checked(item) for item in value]


def _checked(item: Any) -> tuple[int, _Numbers, _Numbers]:
    if isinstance(item, list) and list(map(type, item)) == [int, list, list]:
        target, frames, ticks = item
        fits = len(frames) == len(ticks) <= _MOST_AT_ONCE and 0 <= target < _MOST_TARGETS
        if fits and all(type(n) is int and _END_TAKEN <= n <= _LARGEST for n in (*frames, *ticks)):
            return target, np.array(frames, np.int64), np.array(ticks, np.int64)
    raise ValueError("a batch's deliveries do not have the form that dgrec writes")


# --- reading -----------------------------------------------------------------------------------


class Deliveries:
    """The rows of a journal that targets have taken: 16 bytes for each message.

    Args:
        targets: The number of targets.
    """

    def __init__(self, targets: int) -> None:
        self._added: list[list[tuple[_Numbers, _Numbers]]] = [[] for _ in range(targets)]
        self._sorted: list[tuple[_Numbers, _Numbers] | None] = [None] * targets
        #: For each target, the last frames of runs whose end was due, and of those that were taken.
        self.ends: list[tuple[set[int], set[int]]] = [(set(), set()) for _ in range(targets)]

    def add(self, found: Iterable[tuple[int, _Numbers, _Numbers]]) -> None:
        """Add what `deliveries_from_note` returned; unknown targets are left out."""
        for target, frames, ticks in found:
            if target < len(self._added):
                is_end = ticks < _NO_TIME
                due, taken = self.ends[target]
                due.update(frames[is_end].tolist())
                taken.update(frames[ticks == _END_TAKEN].tolist())
                self._added[target].append((frames[~is_end], ticks[~is_end]))
                self._sorted[target] = None

    def filled(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows with ``published_ms``: null where not every target has taken the frame."""
        at = rows.schema.get_field_index("published_ms")
        if at < 0 or not self._added or not rows.num_rows:
            return rows
        slowest = np.zeros(rows.num_rows, np.int64)
        known = np.ones(rows.num_rows, np.bool_)
        for target in range(len(self._added)):
            ticks, _ = self.of_rows(target, rows)
            known &= ticks >= 0
            slowest = np.maximum(slowest, ticks)
        values = pa.array(slowest / _TICKS_PER_MS, pa.float64(), mask=~known)
        return rows.set_column(at, rows.schema.field(at), values)

    def of_rows(
        self, target: int, rows: pa.RecordBatch
    ) -> tuple[_Numbers, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Return each row's ticks, and whether the target is done with it."""
        wanted = _source_frames(rows)
        frames, ticks = self.of(target)
        if not len(frames):
            return np.full(len(wanted), _NO_TIME), np.zeros(len(wanted), np.bool_)
        places = np.minimum(np.searchsorted(frames, wanted), len(frames) - 1)
        is_done = frames[places] == wanted
        return np.where(is_done, ticks[places], _NO_TIME), is_done

    def of(self, target: int) -> tuple[_Numbers, _Numbers]:
        """Return the frames that a target is done with, ascending, and the ticks of each."""
        found = self._sorted[target]
        if found is None:
            added = self._added[target] or [(np.empty(0, np.int64), np.empty(0, np.int64))]
            frames, ticks = (np.concatenate(column) for column in zip(*added, strict=True))
            frames, first = np.unique(frames, return_index=True)
            found = self._sorted[target] = frames, ticks[first]
            self._added[target] = [found]
        return found


def has_all_frames(metadata: Mapping[str, Any]) -> bool:
    """Return whether each frame has a row: then rows are numbered as frames were for targets."""
    only_on_alert = metadata.get("options", {}).get("only_on_alert")
    return not only_on_alert and not metadata.get("totals", {}).get("dropped_writer")


class TargetCounts:
    """Counts the rows that each target took; rows are added in their order.

    Args:
        metadata: The metadata at the start of a recording.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._targets: Sequence[Mapping[str, Any]] = metadata.get("targets", [])
        targets = self._targets
        self._is_numbered = has_all_frames(metadata)
        self._frames = [0] * len(targets)
        self._delivered = [0] * len(targets)
        self._left_out: list[list[Range]] = [[] for _ in targets]
        self._is_open = [False] * len(targets)
        self._first: int | None = None

    def add(self, rows: pa.RecordBatch, deliveries: Deliveries) -> None:
        numbers, places = _source_frames(rows), _integers(rows, "frame")
        if not len(numbers):
            return
        if self._first is None:
            self._first = int(numbers[0])
        for target in range(len(self._targets)):
            ticks, is_done = deliveries.of_rows(target, rows)
            not_due = is_done & (ticks == _NOT_DUE)
            self._frames[target] += int(np.count_nonzero(~not_due))
            self._delivered[target] += int(np.count_nonzero(is_done & ~not_due))
            # Not due because the target takes one in ``every`` frames: does not end a range.
            is_between = not_due & (places % (self._targets[target].get("every") or 1) != 0)
            is_between &= self._is_numbered
            if not is_between.all():
                self._leave_out(target, numbers[~is_between], is_done[~is_between])

    def _leave_out(
        self, target: int, numbers: _Numbers, is_done: np.ndarray[Any, np.dtype[np.bool_]]
    ) -> None:
        """Add the rows that a target did not take, runs of rows as one range."""
        found = self._left_out[target]
        changes = np.flatnonzero(np.diff(is_done)) + 1
        starts = np.concatenate([[0], changes])
        ends = np.concatenate([changes, [len(numbers)]]) - 1
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            is_left_out = not is_done[start]
            if is_left_out:
                first, last = int(numbers[start]), int(numbers[end])
                if self._is_open[target]:
                    first = found.pop()[0]
                found.append((first, last))
            self._is_open[target] = is_left_out
        if len(found) > 2 * _MOST_RANGES:
            self._left_out[target] = _joined(found)

    def described(self, deliveries: Deliveries) -> list[dict[str, Any]]:
        """Return the ``targets`` of the metadata, with what each one took."""
        return [
            {
                **entry,
                "frames": self._frames[target] + len(due),
                "delivered": self._delivered[target] + len(taken),
                "left_out": _as_lists(_joined(self._left_out[target])),
                **({"ends": sorted(due), "ended": sorted(taken)} if due else {}),
                **self._earlier(target, deliveries),
            }
            for target, (entry, (due, taken)) in enumerate(
                zip(self._targets, deliveries.ends, strict=True)
            )
        ]

    def _earlier(self, target: int, deliveries: Deliveries) -> dict[str, Any]:
        """Return what a target took of earlier parts, once they had ended."""
        frames, _ = deliveries.of(target)
        frames = frames[: None if self._first is None else np.searchsorted(frames, self._first)]
        if not len(frames):
            return {}
        cuts = np.flatnonzero(np.diff(frames) > 1)
        firsts = frames[np.concatenate([[0], cuts + 1])]
        lasts = frames[np.concatenate([cuts, [len(frames) - 1]])]
        ranges = list(zip(firsts.tolist(), lasts.tolist(), strict=True))
        return {"later": _as_lists(ranges[-_MOST_RANGES:])}


def _as_lists(ranges: Sequence[Range]) -> list[list[int]]:
    return [[first, last] for first, last in ranges]


def _joined(ranges: list[Range]) -> list[Range]:
    """Return at most `_MOST_RANGES`: those nearest to each other are joined across their gaps."""
    excess = len(ranges) - _MOST_RANGES
    if excess <= 0:
        return ranges
    bounds = np.array(ranges, np.int64)
    gaps = bounds[1:, 0] - bounds[:-1, 1]
    is_kept = np.ones(len(gaps), np.bool_)
    is_kept[np.argsort(gaps, kind="stable")[:excess]] = False
    firsts = bounds[np.concatenate([[True], is_kept]), 0]
    lasts = bounds[np.concatenate([is_kept, [True]]), 1]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


# --- ranges ------------------------------------------------------------------------------------


def without_ranges(ranges: Iterable[Sequence[int]], taken: Iterable[Sequence[int]]) -> list[Range]:
    """Return ranges minus those of ``taken``, ascending."""
    left: list[Range] = []
    others = sorted((first, last) for first, last in taken)
    at = 0
    for first, last in sorted((first, last) for first, last in ranges):
        while at < len(others) and others[at][1] < first:
            at += 1
        for other_first, other_last in itertools.islice(others, at, None):
            if other_first > last:
                break
            if other_first > first:
                left.append((first, other_first - 1))
            first = max(first, other_last + 1)
        if first <= last:
            left.append((first, last))
    return left


def is_within(ranges: Sequence[Range], numbers: _Numbers) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return for each number whether it is in one of some ascending ranges."""
    if not ranges:
        return np.zeros(len(numbers), np.bool_)
    firsts, lasts = np.array(ranges, np.int64).T
    places = np.searchsorted(firsts, numbers, side="right") - 1
    found: np.ndarray[Any, np.dtype[np.bool_]] = (places >= 0) & (numbers <= lasts[places])
    return found


def merged_targets(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the ``targets`` of a recording in parts, given the metadata of each part."""
    names = {entry.get("target"): entry for part in parts for entry in part.get("targets", [])}
    return [_merged(name, entry, parts) for name, entry in names.items()]


def _merged(
    name: str | None, entry: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    entries = [e for part in parts for e in part.get("targets", []) if e.get("target") == name]
    if any("left_out" not in each for each in entries):
        return {key: value for key, value in entry.items() if key not in _COUNTED}
    later = [each for entry in entries for each in entry.get("later", [])]
    # An end may have been due in one part and taken in another one.
    ends, ended = ({n for e in entries for n in e.get(key, [])} for key in ("ends", "ended"))
    frames = sum((e.get("frames") or 0) - len(e.get("ends", [])) for e in entries)
    delivered = sum((e.get("delivered") or 0) - len(e.get("ended", [])) for e in entries)
    at_first = [(first, last) for each in entries for first, last in each["left_out"]]
    # Frames of removed parts are not counted, even if they were taken later.
    left_out = without_ranges(at_first, later)
    return {
        **{key: value for key, value in entry.items() if key not in _COUNTED},
        "frames": frames + len(ends),
        "delivered": delivered + len(ended) + _count(at_first) - _count(left_out),
        "left_out": _as_lists(left_out),
        **({"ends": sorted(ends), "ended": sorted(ended)} if ends else {}),
    }


_COUNTED: Final = frozenset({"frames", "delivered", "left_out", "ends", "ended", "later"})


def _count(ranges: Iterable[Range]) -> int:
    return sum(last - first + 1 for first, last in ranges)


def _source_frames(rows: pa.RecordBatch) -> _Numbers:
    return _integers(rows, "source_frame")


def _integers(rows: pa.RecordBatch, name: str) -> _Numbers:
    numbers = pc.fill_null(rows.column(name), -1)
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.int64)
