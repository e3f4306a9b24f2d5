"""Two recordings side by side: which frames are paired, and what differs in them.

Frames are paired, and their detections matched, as `dgrec compare` does it: by the number that a
frame has in the footage, where both sessions are known to be of the same one. Pairs of a few rows
are matched when they are asked for; all of them by a thread, which also reaches the verdict.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

import dgrec
from dgrec.comparison import (
    UNKNOWN,
    Comparison,
    FrameBoxes,
    FrameMatches,
    are_of_same_frames,
    frames_of,
    match_frames,
    paired,
)
from dgrec.errors import DgrecError, first_line
from dgrec.footage import column_values
from dgrec.replay.compare import NOT_COMPARED
from dgrec.replay.viewing.parameters import RequestError
from dgrec.replay.viewing.recordings import Recordings, Signature, signature_of
from dgrec.replay.viewing.time_line import TimeLine, time_line
from dgrec.replay.viewing.workers import THREADS, CancelledError, Task, held
from dgrec.session import Session
from dgrec.terminal import detail

#: The page's groups of the kinds in `dgrec.comparison.KINDS`; ``same`` is in none of them.
GROUPS: Final = {
    "label": ("label_flip", "both"),
    "shift": ("box_shift",),
    "only_a": ("only_base", "duplicate_base"),
    "only_b": ("only_new", "duplicate_new"),
}
#: Pairs that are kept open.
_MOST_OPEN: Final = 2
#: Recordings in progress are paired anew after so many seconds, and so many times what it took.
_AGAIN_S: Final = 5.0
_AGAIN_TIMES: Final = 10.0
#: Partners that are further apart are read separately.
_FAR: Final = 256
#: Rows that are matched at once in the search for a difference, and for how many seconds.
_ROWS_AT_ONCE: Final = 128
_SEARCH_S: Final = 2.0
_LARGEST: Final = np.iinfo(np.uint16).max

_Array = np.ndarray[Any, Any]


class Pair:
    """Two sessions as they were when they were paired; safe to use from several threads.

    Args:
        a: Path of the session that is the base, on whose time line the other one is shown.
        b: Path of the other session.
        times: Returns the time line of the base.
    """

    def __init__(self, a: Path, b: Path, times: Callable[[Task], TimeLine]) -> None:
        self.began_s = time.monotonic()
        #: Held while rows are read, and while the time line is.
        self._lock, self._line_lock = threading.RLock(), threading.RLock()
        self._read_times = times
        self._closed = threading.Event()
        self._stack = contextlib.ExitStack()
        try:
            # The time line of a long session takes seconds, in which rows are read from the others.
            self.a, self.b, self._line = (
                self._stack.enter_context(Session(path)) for path in (a, b, a)
            )
            #: Why frames are not paired; "": they are.
            self.reason = "" if are_of_same_frames(self.a, self.b) else NOT_COMPARED
            count = len(self.a)
            self._partners: _Array | None = None
            self._times: tuple[TimeLine, _Array] | None = None
            #: For each row of the base: how many detections differ in each way of `GROUPS`, and
            #: how many could not be compared.
            self.counts = np.zeros((count, len(GROUPS) + 1), np.uint16)
        except BaseException:
            self._stack.close()
            raise
        #: Detections of the rows that have been compared, by `GROUPS`, and those that are the same.
        self.groups = dict.fromkeys(("same", *GROUPS), 0)
        #: Rows of the base that have been compared.
        self.compared = 0
        self.comparison: Comparison | None = None
        #: Why the sessions cannot be compared.
        self.problem = ""
        self.took_s = 0.0
        # Not a daemon: one that is in Arrow's code when Python ends aborts the process.
        threading.Thread(target=self._compare, name=f"{THREADS}-pair", daemon=False).start()

    @property
    def count(self) -> int:
        """The number of rows of the base."""
        return len(self.counts)

    def close(self) -> None:
        self._closed.set()
        with self._lock, self._line_lock:
            self._stack.close()

    # --- partners ---

    def partners(self, task: Task) -> _Array:
        """Return the position in the other session for each row of the base; -1: it has none."""
        with self._held(task):
            if self._partners is None:
                found = np.full(self.count, -1, np.int32)
                if not self.reason:
                    one_side, other_side = _numbered(self.a, task), _numbered(self.b, task)
                    for one, other in paired(one_side, other_side, itemgetter(0)):
                        if one is not None and other is not None:
                            found[one[1]] = other[1]
                self._partners = found
            return self._partners

    def time_line(self, task: Task) -> tuple[TimeLine, _Array]:
        """Return the time line of the base, and where its rows are on it."""
        with self._held(task, self._line_lock):
            if self._times is None:
                times = self._read_times(task)
                batches = self._line.batches([times.column], 0, self.count)
                found = [times.stamps(batch.column(0)) for batch in batches]
                self._times = times, np.concatenate([*found, np.zeros(0, np.int64)])
            return self._times

    def other_columns(
        self, names: list[str], start: int, stop: int, task: Task
    ) -> Iterator[tuple[int, dict[str, _Array]]]:
        """Yield columns of numbers of some rows of the other session; NaN where there is none.

        A few thousand rows at a time, with the position of the first of them.
        """
        with self._held(task):
            for batch in self.b.batches(names, start, stop):
                task.check()
                found = {}
                for name in names:
                    values, is_there = column_values(batch.column(name))
                    found[name] = np.where(is_there, values.astype(np.float64), np.nan)
                yield start, found
                start += batch.num_rows

    @contextlib.contextmanager
    def _held(self, task: Task, lock: Any = None) -> Iterator[None]:
        with held(lock or self._lock, task):
            if self._closed.is_set():
                raise RequestError("the pair is not open any more; ask again", 503)
            yield

    # --- pairs of some rows ---

    def matched(
        self, start: int, stop: int, task: Task
    ) -> Iterator[tuple[FrameBoxes, FrameBoxes, FrameMatches] | None]:
        """Yield the matches of each row of the base; None where it has no partner."""
        partners = self.partners(task)[start:stop].tolist()
        with self._held(task):
            others = self._others([partner for partner in partners if partner >= 0])
            rows = frames_of(self.a, start, stop)
            for partner, one in zip(partners, rows, strict=False):
                task.check()
                if partner < 0:
                    yield None
                else:
                    other = next(others)
                    yield one, other, match_frames(one, other)

    def _others(self, positions: list[int]) -> Iterator[FrameBoxes]:
        """Yield rows of the other session, at ascending positions."""
        ends = np.flatnonzero(np.diff(positions) > _FAR) + 1
        for near in np.split(np.asarray(positions, np.int64), ends):
            if len(near):
                wanted = set(near.tolist())
                for frame in frames_of(self.b, int(near[0]), int(near[-1]) + 1):
                    if frame.position in wanted:
                        yield frame

    def next_difference(self, position: int, direction: int, task: Task) -> tuple[int | None, bool]:
        """Return the next row of the base that has a partner and differs from it.

        Also return whether that is certain: the search for it ends after some seconds.
        """
        known = self.compared
        if direction > 0:
            found = np.flatnonzero(self.counts[position + 1 : known].any(axis=1))
            if len(found):
                return position + 1 + int(found[0]), True
            if known >= self.count or self.reason:
                return None, True
            return self._search(max(position + 1, known), 1, task)
        if position > known and not self.reason:
            at, is_certain = self._search(position - 1, -1, task, least=known)
            if at is not None or not is_certain:
                return at, is_certain
        found = np.flatnonzero(self.counts[: max(min(position, known), 0)].any(axis=1))
        return (int(found[-1]) if len(found) else None), True

    def _search(
        self, position: int, direction: int, task: Task, least: int = 0
    ) -> tuple[int | None, bool]:
        """Match rows from a position on, a few at a time."""
        until_s = time.monotonic() + _SEARCH_S
        while least <= position < self.count:
            if time.monotonic() > until_s:
                return None, False
            if direction > 0:
                start, stop = position, min(position + _ROWS_AT_ONCE, self.count)
            else:
                start, stop = max(position + 1 - _ROWS_AT_ONCE, least), position + 1
            differ = [
                start + at
                for at, pair in enumerate(self.matched(start, stop, task))
                if pair is not None and not pair[2].is_same
            ]
            if differ:
                return differ[0 if direction > 0 else -1], True
            position = stop if direction > 0 else start - 1
        return None, True

    # --- all of them ---

    def _compare(self) -> None:
        """Compare the sessions as `dgrec compare` does, and keep what differs in each row."""
        began_s = time.monotonic()
        try:
            # Sessions of its own: other threads read from those that are open.
            with (
                _Watched(self.a.path, self._closed) as base,
                _Watched(self.b.path, self._closed) as new,
            ):
                self.comparison = dgrec.compare(base, new, on_pair=self._note)
            self.compared = self.count
        except Exception as error:  # sessions are untrusted
            if self._closed.is_set():
                return
            if isinstance(error, DgrecError):
                self.problem = str(error)
            else:
                self.problem = f"they cannot be compared: {first_line(error)}"
                detail("".join(traceback.format_exception(error)))
        finally:
            self.took_s = time.monotonic() - began_s

    def _note(self, one: FrameBoxes, _: FrameBoxes, found: FrameMatches) -> None:
        if self._closed.is_set():
            raise CancelledError
        if one.position >= self.count:  # recorded meanwhile
            return
        kinds = Counter(match.kind for match in found.matches)
        counts = [sum(kinds[kind] for kind in of) for of in GROUPS.values()]
        self.groups["same"] += kinds["same"]
        for group, count in zip(GROUPS, counts, strict=True):
            self.groups[group] += count
        if not found.is_same:
            self.counts[one.position] = np.minimum([*counts, found.not_compared], _LARGEST)
        self.compared = one.position + 1
        if not one.position % 64:
            time.sleep(0.0005)  # requests come first


class _Watched(Session):
    """A session that cannot be read any more once an event is set."""

    def __init__(self, path: Path, closed: threading.Event) -> None:
        super().__init__(path)
        self._is_over = closed

    def batches(
        self, columns: str | list[str] | None = None, start: int = 0, end: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        for batch in super().batches(columns, start, end):
            if self._is_over.is_set():
                raise CancelledError
            yield batch


def _numbered(session: Session, task: Task) -> Iterator[tuple[int, int]]:
    """Yield the number in the footage and the position of each row."""
    position = 0
    for batch in session.batches(["source_frame"]):
        task.check()
        values, is_there = column_values(batch.column(0))
        numbers: Iterable[int] = np.where(is_there, values, UNKNOWN).tolist()
        yield from zip(numbers, range(position, position + len(values)), strict=True)
        position += len(values)


class Pairs:
    """The pairs that are open.

    Args:
        recordings: The recordings, by whose names pairs are asked for.
    """

    def __init__(self, recordings: Recordings) -> None:
        self._recordings = recordings
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[Path, Path], tuple[Pair, Signature]] = OrderedDict()

    def get(self, a: str, b: str) -> Pair:
        """Return two sessions as a pair, by their names.

        Raises:
            RequestError: There is no such session.
            SessionError: One of them cannot be read.
        """
        key = self._recordings.path_of(a), self._recordings.path_of(b)
        with self._lock:
            signature = signature_of(key[0]) + signature_of(key[1])
            known = self._open.get(key)
            if known is None or _is_outdated(*known, signature):
                made = Pair(*key, partial(self._times, a))
                if known is not None:
                    known[0].close()
                known = self._open[key] = made, signature
            self._open.move_to_end(key)
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)[1][0].close()
            return known[0]

    def _times(self, name: str, task: Task) -> TimeLine:
        return self._recordings.read(name, lambda opened: opened.own(time_line, task))

    def close_outdated(self) -> None:
        """Close the pairs that would be made anew: files that are gone take space until then."""
        outdated = []
        with self._lock:
            for key, (pair, before) in [*self._open.items()]:
                if _is_outdated(pair, before, signature_of(key[0]) + signature_of(key[1])):
                    outdated.append(pair)
                    del self._open[key]
        for pair in outdated:
            pair.close()

    def close(self) -> None:
        with self._lock:
            for pair, _ in self._open.values():
                pair.close()
            self._open.clear()


def _is_outdated(pair: Pair, before: Signature, now: Signature) -> bool:
    if now == before:
        return False
    # Once nothing is recorded any more, pages do not ask again.
    has_ended = not any(is_growing for *_, is_growing in now)
    age_s = time.monotonic() - pair.began_s
    return has_ended or age_s > max(_AGAIN_S, _AGAIN_TIMES * pair.took_s)
