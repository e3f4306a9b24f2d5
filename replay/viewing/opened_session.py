"""One session that is open: its rows, its SQL, its pictures."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
import pyarrow as pa

from dgrec.footage import FIRST_STEP_US, LATEST_MEDIA_S, Pixels, column_values, media_us
from dgrec.replay.query import SqlReader
from dgrec.replay.viewing.labels import SessionLabels, read_labels
from dgrec.replay.viewing.videos import Videos, shown_footage
from dgrec.replay.viewing.workers import Task, held
from dgrec.session import Session, open_found, rows_of
from dgrec.sql import views

_T = TypeVar("_T")
_Array = np.ndarray[Any, Any]
_NONE: Final = np.zeros(0, np.int64)
#: DuckDB's memory for the page's own questions, and for a user's statement.
_MEMORY: Final = "1GB"
STATEMENT_MEMORY: Final = "512MB"
#: A user's statement is stopped after this many seconds.
STATEMENT_S: Final = 30.0
#: One of the page's own.
_OWN_S: Final = 60.0
#: After work that took this many seconds, its memory is returned to the system.
_LONG_S: Final = 0.2
#: Answers that are kept, such as the series of a stretch.
_MOST_KEPT: Final = 64

#: What the seconds of a session are counted by.
Clock = Literal["captured_at", "media_time_s", "position"]


class OpenedSession:
    """A session as it was when it was opened; safe to use from several threads.

    Args:
        name: Its name on this server.
        version: Another text once its files have changed.
    """

    def __init__(self, name: str, path: Path, version: str) -> None:
        self.name, self.path, self.version = name, path, version
        self.session = open_found(path)
        #: Closes what was opened for other threads.
        self._closing = contextlib.ExitStack()
        self.count = len(self.session)
        self._queried: Session | None = None
        self._asked: Session | None = None
        self._scanned: Session | None = None
        self._labels: SessionLabels | None = None
        #: Held while rows are read: a session keeps what was read last.
        self.rows = threading.RLock()
        self._own, self._users = threading.Lock(), threading.Lock()
        self._scans = threading.RLock()
        self._reader: SqlReader | None = None
        self._user_reader: SqlReader | None = None
        self._kept: OrderedDict[object, Any] = OrderedDict()
        self._keeping = threading.Lock()
        self._pixels: Pixels | None = None
        self._checked = ""
        self.pictures = threading.Lock()
        self._runs: tuple[_Array, _Array, _Array] | None = None
        self.videos = Videos(self.session, self.rows)
        self.clock, self.began = self._clock()

    # --- time ---

    def _clock(self) -> tuple[Clock, float]:
        """Return what the seconds are counted by, and its value at the first row."""
        if self.count:
            first = next(self.session.batches(["captured_at", "media_time_s"], 0, 1))
            stamps, is_there = column_values(first.column(0))
            if is_there[0]:
                return "captured_at", float(stamps[0])
            media, is_there = column_values(first.column(1))
            if is_there[0] and media_us(float(media[0])) is not None:
                return "media_time_s", float(media[0])
        return "position", 0.0

    def seconds(self, rows: pa.RecordBatch | pa.Table, start: int) -> np.ndarray[Any, Any]:
        """Return the seconds of rows since the first row of all; NaN where they are not known.

        Args:
            rows: With the column `clock`.
            start: Position of the first of them.
        """
        if self.clock == "position":
            return (start + np.arange(rows.num_rows)) * (FIRST_STEP_US / 1e6)
        values, is_there = column_values(rows.column(self.clock))
        if self.clock == "media_time_s":
            is_there = is_there & (np.abs(values) <= LATEST_MEDIA_S)
        scale = 1e6 if self.clock == "captured_at" else 1.0
        return np.where(is_there, (values.astype(np.float64) - self.began) / scale, np.nan)

    # --- positions ---

    def positions_of(self, frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the positions of the rows with these numbers; -1 where there is none."""
        if len(frames) == 1 and self._runs is None:
            position = int(frames[0]) - self.session.first_frame
            is_there = 0 <= position < self.count
            if is_there and self.row(position, ["frame"])["frame"] == frames[0]:
                return np.array([position])
        firsts, starts, lengths = self._frame_runs()
        if not len(firsts):
            return np.full(len(frames), -1, np.int64)
        run = np.maximum(np.searchsorted(firsts, frames, side="right") - 1, 0)
        offset = frames - firsts[run]
        return np.where((offset >= 0) & (offset < lengths[run]), starts[run] + offset, -1)

    def _frame_runs(self) -> tuple[_Array, _Array, _Array]:
        """Return the stretches of consecutive frames: first frame, position, length.

        They are in the order of the frames.
        """
        with self.rows:
            if self._runs is None:
                firsts, starts = [_NONE], [_NONE]
                position = 0
                last: int | None = None
                for batch in self.session.batches(["frame"]):
                    frames, _ = column_values(batch.column(0))
                    follows = np.zeros(len(frames), bool)
                    follows[0] = last is not None and int(frames[0]) == last + 1
                    follows[1:] = frames[1:] == frames[:-1] + 1
                    begins = np.flatnonzero(~follows)
                    firsts.append(frames[begins])
                    starts.append(begins + position)
                    position += len(frames)
                    last = int(frames[-1])
                first, start = np.concatenate(firsts), np.concatenate(starts)
                length = np.diff(start, append=position)
                order = np.argsort(first, kind="stable")
                self._runs = first[order], start[order], length[order]
        return self._runs

    def is_known_by(self, known: str) -> bool:
        """Return whether positions mean here what they mean to a page.

        They do not once older parts were removed, or where another recording has the name by now.

        Args:
            known: "ID,POSITION,FRAME": of this session, and of a row of it (position -1: of none).
        """
        before, _, frame = known.rpartition(",")
        of, _, position = before.rpartition(",")
        if of != self.session.id:
            return False
        if position == "-1":
            return True
        if self._checked != known:
            if not (position.isdecimal() and int(position) < self.count):
                return False
            if str(self.row(int(position), ["frame"])["frame"]) != frame:
                return False
            self._checked = known  # pages ask for much of the same session
        return True

    # --- SQL ---

    def own(self, work: Callable[[Session, SqlReader], _T], task: Task) -> _T:
        """Do work that reads by SQL, with statements of our own."""
        with held(self._own, task):
            if self._queried is None:
                self._queried = self._for_another_thread()
            if self._reader is None or self._reader.is_stuck:
                self._reader = SqlReader([self._queried], _MEMORY, timeout=_OWN_S)
            reader, began_s = self._reader, time.monotonic()
            try:
                with task.interrupted_by(reader.interrupt):
                    return work(self._queried, reader)
            finally:
                if time.monotonic() - began_s > _LONG_S:
                    views.return_memory()

    def statement(self, work: Callable[[Session, SqlReader], _T], task: Task) -> _T:
        """Do work that runs a user's SQL."""
        with held(self._users, task):
            if self._asked is None:
                self._asked = self._for_another_thread()
            if self._user_reader is None or self._user_reader.is_stuck:
                self._user_reader = SqlReader([self._asked], STATEMENT_MEMORY, timeout=STATEMENT_S)
            reader = self._user_reader
            with task.interrupted_by(reader.interrupt):
                return work(self._asked, reader)

    def scan(self, work: Callable[[Session], _T], task: Task) -> _T:
        """Do work that reads columns of many rows, while other threads ask DuckDB."""
        with held(self._scans, task):
            if self._scanned is None:
                self._scanned = self._for_another_thread()
            return work(self._scanned)

    def labels(self, task: Task) -> SessionLabels:
        """Return the labels of all detections; they are read once."""
        if self._labels is None:
            self._labels = self.scan(lambda of: self._labels or read_labels(of, task.check), task)
        return self._labels

    def _for_another_thread(self) -> Session:
        return self._closing.enter_context(self.session.for_another_thread())

    def kept(self, key: object, make: Callable[[], _T]) -> _T:
        """Return what was made for a key before, or make it now."""
        with self._keeping:
            if key in self._kept:
                self._kept.move_to_end(key)
                found: _T = self._kept[key]
                return found
        made = make()
        with self._keeping:
            self._kept[key] = made
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return made

    # --- rows and pictures ---

    def row(self, position: int, columns: list[str] | None = None) -> dict[str, Any]:
        """Return a row as `Session.row` does, which keeps those around it in memory."""
        with self.rows:
            return rows_of(next(self.session.batches(columns, position, position + 1)))[0]

    @contextlib.contextmanager
    def pixels(self) -> Iterator[Pixels]:
        """Give the pictures of rows, to one thread at a time.

        Raises:
            VideoError: The footage is not a video.
        """
        with self.pictures:
            if self._pixels is None:
                with self.rows:
                    footage = shown_footage(self.session)
                self._pixels = Pixels(footage)
            yield self._pixels

    def close(self) -> None:
        for reader in (self._reader, self._user_reader):
            if reader is not None:
                reader.close()
        if self._pixels is not None:
            self._pixels.close()
        self.videos.close()
        self._closing.close()
        self.session.close()
