"""The thread that writes rows to the journal, beside the inference loop.

A slow disk must not slow down `predict_stream`. Rows wait in a bounded queue. When it is full,
``block`` waits (for footage), and ``drop-oldest`` drops and counts the oldest row (for a live
source, which does not wait).
"""

from __future__ import annotations

import bisect
import contextlib
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from dgrec.errors import DgrecError
from dgrec.format import MOST_WITHOUT_ROW, Delivery, Event, Metadata, Row, Signal
from dgrec.recorder.options import QueuePolicy
from dgrec.recorder.segments import PlacedRow, Segment
from dgrec.recorder.writing.parts import PartedJournal
from dgrec.recorder.writing.placement import event_us

#: Rows are written after this time or size, whichever comes first. The promise is one second: half
#: of it is left for a busy machine.
FLUSH_SECONDS = 0.5
_FLUSH_BYTES = 1 << 20
_MOST_SIGNALS = 1_000_000
#: How often to look at parts that have ended, while nothing is written.
_LOOK_SECONDS = 0.5
#: On a disk that hangs, later deliveries are forgotten: their messages are sent again, if asked
#: for.
_MOST_DELIVERIES = 1_000_000
#: Longer than a result may be held before it is a row (`dgrec.recorder.held_result`).
_LONGEST_ON_ITS_WAY_NS = 400_000_000


class RowWriter:
    """Writes rows to ``journal`` in its own thread.

    Args:
        min_free: Bytes that are to stay free on the disk: see `is_disk_low`.
        reserve: Returns how many bytes others will write before the recording has ended.
        alarm: Called in the writer's thread with the reason why recording has to end. (While a
            source is silent, `put` is not called, which would raise the error.)

    Raises (from `put` and `close`):
        OutputError: The journal could not be written; nothing more will be.
    """

    def __init__(
        self,
        journal: PartedJournal,
        *,
        policy: QueuePolicy = "block",
        capacity: int = 1024,
        min_free: int | None = None,
        reserve: Callable[[], int] = lambda: 0,
        alarm: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.journal = journal
        #: Set at a flush when recording has to end, so that the session can be sealed with
        #: ``min_free`` left. Rows that are put after that are still written.
        self.is_disk_low = False
        self._min_free = min_free
        self._reserve = reserve
        self.alarm = alarm
        self.dropped = 0
        #: Only where moments of alerts are kept: see `RingWriter`.
        self.left_out = 0
        self.moment_count: int | None = None
        self.notes: list[str] = []
        self._policy = policy
        self._capacity = capacity
        self._per_frame = journal.durability == "frame"
        self._rows: deque[PlacedRow] = deque()
        self._events: list[Event] = []
        #: Appended to without the lock.
        self._signals: deque[Signal] = deque()
        self.lost_signals = 0
        #: Appended to without the lock.
        self._deliveries: deque[Delivery] = deque()
        self._changed = threading.Condition()
        self._closing = False
        #: The segment that begins before it has rows.
        self._cut_to: Segment | None = None
        self._error: DgrecError | None = None
        #: Segment of the row that was taken last.
        self._last_segment: Segment | None = None
        self._waiting_bytes = 0
        self._idle = False
        self._thread = threading.Thread(target=self._run, name="dgrec-writer", daemon=True)
        self._thread.start()

    @property
    def error(self) -> DgrecError | None:
        """The error that stopped the writer, if any."""
        return self._error

    def put(self, row: Row, segment: Segment) -> None:
        """Hand over a row; wait only if the queue is full and the policy is ``block``."""
        with self._changed:
            while len(self._rows) >= self._capacity and self._error is None:
                if self._policy == "drop-oldest":
                    row = self._drop_oldest(row)
                    break
                self._changed.wait(0.1)
            if self._error is not None:
                raise self._error
            self._rows.append(PlacedRow(row, segment))
            self._waiting_bytes += _estimate(row)
            # Waking the thread for every row would take more time than writing it.
            if self._idle or self._waiting_bytes >= _FLUSH_BYTES or self._is_half_full():
                self._changed.notify_all()

    def note(self, event: Event) -> None:
        """Keep an event (a camera that was lost, say) with the rows of its time."""
        with self._changed:
            self._events.append(event)
            if self._idle:  # after most events, no rows come for a long time
                self._changed.notify_all()

    def log(self, signal: Signal) -> None:
        """Keep a value that was logged; on a disk that hangs, no more than `_MOST_SIGNALS`."""
        if self._error is not None:
            raise self._error
        if len(self._signals) >= _MOST_SIGNALS:
            self.lost_signals += 1
            return
        self._signals.append(signal)
        if self._idle:
            with self._changed:
                self._changed.notify_all()

    def deliver(self, delivery: Delivery) -> None:
        """Keep what a target has taken. Any thread may call this; `write_deliveries` writes what
        comes after the end.
        """
        if len(self._deliveries) < _MOST_DELIVERIES:
            self._deliveries.append(delivery)
            if self._idle:
                with self._changed:
                    self._changed.notify_all()

    def write_deliveries(self) -> None:
        """Write what targets have taken since; after `close`, in one thread."""
        if deliveries := self._take_deliveries():
            self.journal.write([], deliveries=deliveries)

    def close(self) -> None:
        """Write the waiting rows, and stop the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def cut(self, segment: Segment) -> None:
        """Write the waiting rows and begin a segment, whose rows come later; wait for that.

        Only for the thread that calls `put`.
        """
        with self._changed:
            self._cut_to = segment
            self._changed.notify_all()
            while self._cut_to is not None and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error

    def end(self, closing: Metadata) -> None:
        """Write the journal's end, after `close`."""
        self.write_deliveries()
        self.journal.end(closing)

    def _drop_oldest(self, newest: Row) -> Row:
        """Drop a waiting row, and count it in the next one. Return the newest row.

        (The next one may be the newest.)
        """
        index = self._to_drop()
        dropped, segment = self._rows[index]
        del self._rows[index]
        self.dropped += 1
        segment.rows -= 1
        if index == len(self._rows):
            return _with_losses(newest, dropped)
        following = self._rows[index]
        self._rows[index] = following._replace(row=_with_losses(following.row, dropped))
        return newest

    def _to_drop(self) -> int:
        """Return which row to drop: the oldest that is not the first of its segment.

        A part without rows would not be begun, and its video would belong to no session.
        """
        before = self._last_segment
        for index, placed in enumerate(self._rows):
            if placed.segment is before:
                return index
            before = placed.segment
        return 0

    def _run(self) -> None:
        try:
            while True:
                rows, events, signals, last = self._next_batch()
                # After the rows: nearly always, the deliveries of this batch are among them.
                deliveries = self._take_deliveries()
                if rows or events or signals or deliveries:
                    rows, signals = _placed(rows, signals)
                    self.journal.write(rows, events, signals, deliveries)
                    self._look_at_disk()
                elif self.journal.has_ending_parts:
                    self.journal.end_due_parts()
                if self._cut_to is not None and not self._has_waiting:
                    self._cut(self._cut_to)
                if last:
                    return
        except DgrecError as error:
            failure = error
        except Exception as error:  # a defect must not hang the recording
            failure = DgrecError(f"{self.journal.path}: the writer failed: {error!r}")
        with self._changed:
            self._error = failure
            self._changed.notify_all()
        self.alarm("failed")

    def _cut(self, segment: Segment) -> None:
        self.journal.cut(segment)
        with self._changed:
            self._cut_to = None
            self._last_segment = segment
            self._changed.notify_all()

    def _look_at_disk(self) -> None:
        if self._min_free is None or self.is_disk_low:
            return
        # Sealing needs room beside the journal; for masks, which are compressed, as much again.
        needed = self._min_free + self.journal.unsealed_bytes + self._reserve()
        with contextlib.suppress(OSError):  # if the disk is gone, the next write fails
            self.is_disk_low = shutil.disk_usage(self.journal.path.parent).free < needed
        if self.is_disk_low:
            self.alarm("disk_full")

    @property
    def _has_waiting(self) -> bool:
        """Return whether something waits that belongs to the rows so far."""
        return bool(self._rows or self._events or self._signals)

    @property
    def _hurries(self) -> bool:
        return self._closing or self._cut_to is not None

    def _is_half_full(self) -> bool:
        return len(self._rows) * 2 >= self._capacity

    def _take_events(self) -> list[Event]:
        """Return the events to be written now; those from the time of waiting rows wait, too."""
        events, self._events = self._events, []
        if not self._rows:
            return events
        until_us = self._rows[0].row.completed_ns // 1000
        taken: list[Event] = []
        for event in events:
            (taken if (event_us(event) or 0) < until_us else self._events).append(event)
        return taken

    def _take_signals(self, rows: list[PlacedRow]) -> list[Signal]:
        """Return the values to be written with these rows.

        A value that is newer than all of them waits for the next flush: the row that it belongs to
        waits, too, or may be on its way.
        """
        if not self._signals:
            return []
        until = 2**63
        if self._rows:
            until = self._rows[0].row.completed_ns
        elif rows and not self._hurries:
            oldest_ns = self.journal.now_ns() - _LONGEST_ON_ITS_WAY_NS
            until = max(rows[-1].row.completed_ns, oldest_ns)
        taken: list[Signal] = []
        newer: list[Signal] = []
        for _ in range(len(self._signals)):  # several threads log: they are not quite in order
            if not rows and len(taken) == MOST_WITHOUT_ROW:
                break
            signal = self._signals.popleft()
            (taken if signal.at_ns < until else newer).append(signal)
        self._signals.extendleft(reversed(newer))
        return taken

    def _take_deliveries(self) -> list[Delivery]:
        return [self._deliveries.popleft() for _ in range(len(self._deliveries))]

    def _next_batch(self) -> tuple[list[PlacedRow], list[Event], list[Signal], bool]:
        """Wait until a flush is due; return what it writes, and whether it is the last."""
        with self._changed:
            self._idle = True
            while not (self._rows or self._events or self._signals or self._deliveries):
                if self._hurries:
                    break
                ending = self.journal.has_ending_parts
                if not self._changed.wait(_LOOK_SECONDS if ending else None) and ending:
                    break
            self._idle = False
            due = time.monotonic() + (0 if self._per_frame else FLUSH_SECONDS)
            while not self._hurries and self._waiting_bytes < _FLUSH_BYTES:
                left = due - time.monotonic()
                if left <= 0 or self._is_half_full():
                    break
                self._changed.wait(left)
            rows = list(self._rows) if not self._per_frame else [*self._rows][:1]
            for placed in rows:
                self._rows.popleft()
                self._last_segment = placed.segment
            self._waiting_bytes = sum(_estimate(placed.row) for placed in self._rows)
            events = self._take_events()
            signals = self._take_signals(rows)
            self._changed.notify_all()  # the queue has room again
            return rows, events, signals, self._closing and not (self._rows or self._signals)


def _placed(rows: list[PlacedRow], signals: list[Signal]) -> tuple[list[PlacedRow], list[Signal]]:
    """Return the rows of a batch with the logged values, and these alone if there are no rows.

    A value goes to the last row whose result had come out by then; to the first one, if that was
    in an earlier batch.
    """
    if not rows or not signals:
        return rows, signals
    completed = [placed.row.completed_ns for placed in rows]
    of_rows: dict[int, list[Signal]] = {}
    for signal in signals:
        at = max(0, bisect.bisect_right(completed, signal.at_ns) - 1)
        of_rows.setdefault(at, []).append(signal)
    placed = list(rows)
    for at, found in of_rows.items():
        row, segment = rows[at]
        placed[at] = PlacedRow(row._replace(signals=found), segment)
    return placed, []


def _with_losses(row: Row, dropped: Row) -> Row:
    """Return ``row`` with the loss of the row before it, and the losses that row had counted."""
    return row._replace(
        skipped_before=row.skipped_before + dropped.skipped_before,
        dropped_camera=row.dropped_camera + dropped.dropped_camera,
        dropped_queue=row.dropped_queue + dropped.dropped_queue,
        dropped_writer=row.dropped_writer + dropped.dropped_writer + 1,
    )


def _estimate(row: Row) -> int:
    """Return roughly how many bytes a row takes in the journal."""
    size = 400
    if isinstance(row.results, list):
        size += 160 * len(row.results)
        for item in row.results:
            if isinstance(item, dict):
                size += _pixels(item)
    return size


def _pixels(item: dict[Any, Any]) -> int:
    """Return how many pixels a detection has: as PySDK gives them, or as an array of its own."""
    size = 0
    for found in (item, item.get("mask")):
        data = found.get("data") if isinstance(found, dict) else found
        if isinstance(data, np.ndarray):
            size += int(data.size)
    return size
