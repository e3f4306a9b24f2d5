"""Records the moments of alerts, each a part of its own, from what the ring holds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from dgrec.clock import Clock
from dgrec.errors import ConfigError, DgrecError
from dgrec.format import Delivery, Event, Row, Signal, utc_ns
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.outputs import OutputQueue
from dgrec.recorder.ring import Ring, RingEntry
from dgrec.recorder.segments import Names, Segment
from dgrec.recorder.sources import Frame
from dgrec.recorder.video import EncodedPackets, VideoOptions, VideoRecorder
from dgrec.recorder.writing import RowWriter
from dgrec.units import size_text

#: A result is recorded within this time: a row that comes later cannot have come out before.
_ON_ITS_WAY_US = 1_000_000
#: The most logged values that wait for a row.
_MOST_SIGNALS = 100_000
#: Lost ones are counted for times of this length.
_LOST_TOGETHER_NS = 1_000_000
#: The most kept times that are remembered, since a target may take something of them later.
_MOST_KEPT = 1000


class RingWriter:
    """Stands between a recording and its `RowWriter`: hands over what belongs to alerts.

    Rows, events and values come from the recording's threads and are handed over in a thread of
    this class. What the disk is too slow for stays in the ring; when that is full, the recording
    waits (``block``), or loses the oldest row.

    Args:
        video: Writes packets; without kinds of video, nothing.
        encodes: How the source's pictures are encoded, if it has no packets that can be kept.
        judges: The outputs that put alerts into the session.

    Raises (from `put` and `close`):
        DgrecError: What was handed over could not be written; nothing more will be.
    """

    def __init__(
        self,
        writer: RowWriter,
        video: VideoRecorder,
        encodes: VideoOptions | None,
        options: RecordingOptions,
        judges: Sequence[OutputQueue],
        clock: Clock,
    ) -> None:
        self._has_video = bool(video.options.kinds)
        self.ring = Ring(*options.around_s, has_video=self._has_video)
        #: How many moments have begun.
        self.moment_count: int | None = 0
        self._writer = writer
        self._cutter = writer.journal.cutter
        self._video = video
        self._judges = list(judges)
        self._clock = clock
        self._policy = options.policy or "block"
        self._encoder: VideoRecorder | None = None
        self._packets = EncodedPackets(encodes or video.options, self._encoded)
        self._pictures = Segment(0, self._packets, begun=True)
        if encodes is not None:
            self._encoder = VideoRecorder(encodes, Names(writer.journal.path))
        self._events: list[Event] = []
        self._signals: deque[Signal] = deque()
        #: Those that there was no room for: until when, and how many.
        self._lost_signals: deque[tuple[int, int]] = deque()
        #: What targets have taken of the rows in the ring, by their source frames.
        self._deliveries: dict[int, list[Delivery]] = {}
        #: The first and the last source frame of each time that was kept.
        self._kept: deque[tuple[int, int]] = deque(maxlen=_MOST_KEPT)
        self._changed = threading.Condition()
        #: Whether the current part has rows.
        self._has_rows = False
        #: Whether something is being written, which may take its time.
        self._is_busy = False
        self._is_closing = self._is_finished = False
        self._error: DgrecError | None = None
        for queue in self._judges:
            queue.on_taken = self._wake
        self._thread = threading.Thread(target=self._run, name="dgrec-ring", daemon=True)
        self._thread.start()

    # --- for the recording ---

    def put(self, row: Row, frame: Frame) -> None:
        """Take a row with the packets of its frame, or its pixels if they are encoded."""
        entry = RingEntry(row)
        if self._has_video and self._encoder is None:
            entry.packets, entry.own = list(frame.packets), frame.packet
        entry.is_encoding = self._encoder is not None
        with self._changed:
            if self._error is not None:
                raise self._error
            self.ring.add(entry)
            self._deliveries[row.source_frame] = []
        if self._encoder is not None:
            place = self._encoder.add(self._pictures, frame.image, None, row.captured_ns)
            if place.state is not None:
                with self._changed:
                    self.ring.left_unencoded(place.state)
        with self._changed:
            self._changed.notify_all()
            while self.ring.is_full and self._error is None:
                if self._policy != "block" and (self._is_busy or self.ring.fate() != "leave"):
                    self.ring.drop()
                else:
                    self._changed.wait(0.1)

    def note(self, event: Event) -> None:
        """Keep an event. An alert begins a moment, or prolongs it."""
        with self._changed:
            if event["kind"] == "alert":
                self.ring.fire(str(event["text"]), _stamp_us(event), event)
            elif event["kind"] == "alert_end":
                self.ring.end(str(event["text"]), _stamp_us(event), event)
            else:
                self._events.append(event)
            self._changed.notify_all()

    def log(self, signal: Signal) -> None:
        """Keep a value that was logged, if its time is kept."""
        if self._error is not None:
            raise self._error
        with self._changed:
            if len(self._signals) >= _MOST_SIGNALS:
                self._lose(self._signals.popleft())
            self._signals.append(signal)

    def deliver(self, delivery: Delivery) -> None:
        """Keep what a target has taken of a row, if the row is kept."""
        number = delivery.source_frame
        with self._changed:
            if not delivery.is_end:
                if (waiting := self._deliveries.get(number)) is not None:
                    waiting.append(delivery)
                    return
                if not any(first <= number <= last for first, last in self._kept):
                    return
        self._writer.deliver(delivery)

    def close(self) -> None:
        """Hand over the rest, and close the writer. The outputs that judge have ended by now."""
        if self._encoder is not None:
            self._encoder.close()
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()
        self._writer.close()
        if self._error is not None:
            raise self._error

    @property
    def left_out(self) -> int:
        """The number of rows that belong to no alert."""
        return self.ring.left_out

    @property
    def dropped(self) -> int:
        """The number of rows that were lost because the disk was too slow."""
        return self.ring.dropped + self._writer.dropped

    @property
    def notes(self) -> list[str]:
        """Notes for the user, a line each."""
        lines = [f"The video: {note}." for note in self._packets.notes]
        if self.ring.shortened_s is not None:
            lines.append(
                f"The memory for what comes before an alert ({size_text(self.ring.limit)}) held "
                f"{self.ring.shortened_s:.1f} s of the {self.ring.before_us / 1e6:g} s once."
            )
        if self._packets.failure is not None:
            lines.append(f"The video ended early: {self._packets.failure}.")
        return lines

    # --- in other threads ---

    def _encoded(self, packet: Any) -> None:
        with self._changed:
            self.ring.encoded(packet)
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while (task := self._next()) is not None:
                task()
            if self._has_rows:
                self._log(self._take_signals(self.ring.end_ns, keeps=True))
            return
        except DgrecError as error:
            failure = error
        except Exception as error:  # a defect must not hang the recording
            failure = DgrecError(f"{self._writer.journal.path}: the ring failed: {error!r}")
        with self._changed:
            self._error = failure
            self._changed.notify_all()
        self._writer.alarm("failed")

    def _next(self) -> Callable[[], None] | None:
        """Wait for something to be done, and return it; None at the end."""
        with self._changed:
            self._is_busy = False
            self.ring.group_bytes = self._video.group_bytes
            while True:
                self.ring.judge(min(queue.taken for queue in self._judges))
                task = self._due()
                if task is not None:
                    self._changed.notify_all()  # there may be room again
                    return task
                if self._is_finished:
                    return None
                if self._is_closing:
                    self.ring.finish()
                    self._is_finished = True
                    continue
                self._changed.wait(self._silence_s())

    def _due(self) -> Callable[[], None] | None:
        events, self._events = self._events, []
        events += self.ring.take_events()
        if events:
            return partial(self._note, events)
        fate = self.ring.fate()
        if fate is not None:
            entry = self.ring.take(fate)
            self._is_busy = self._has_rows or fate == "keep"
            completed_ns = entry.row.completed_ns
            if fate == "leave":
                self._take_signals(completed_ns)
                return partial(self._leave, entry)
            if not self._has_rows:  # a moment needs no older values
                self._take_signals(completed_ns - self.ring.before_us * 1000)
            return partial(self._keep, entry, self._take_signals(completed_ns, keeps=True))
        silence_s = self._silence_s()
        return self._cut if silence_s is not None and silence_s <= 0 else None

    def _silence_s(self) -> float | None:
        """Return after how many seconds a moment is over although no row shows it."""
        if not self._has_rows or self.ring.is_on or self._is_closing:
            return None
        over_us = self.ring.until_us + self.ring.before_us + _ON_ITS_WAY_US
        left_s = max(0.0, over_us - self._clock.now_ns() / 1000) / 1e6
        # On a busy machine the rules may not have been applied to the last rows yet.
        return left_s if left_s or not self.ring.may_go_on else None

    def _lose(self, signal: Signal) -> None:
        """Count a value as lost, which matters if its time turns out to be kept."""
        until_ns, count = signal.at_ns, 1
        if self._lost_signals:
            last_ns, before = self._lost_signals[-1]
            if until_ns // _LOST_TOGETHER_NS <= last_ns // _LOST_TOGETHER_NS:
                self._lost_signals.pop()
                until_ns, count = max(last_ns, until_ns), before + 1
        self._lost_signals.append((until_ns, count))

    def _take_signals(self, until_ns: int, *, keeps: bool = False) -> list[Signal]:
        """Take the values until a time; ``keeps`` says whether they are to be recorded."""
        while self._lost_signals and self._lost_signals[0][0] <= until_ns:
            _, count = self._lost_signals.popleft()
            if keeps:
                self._writer.lost_signals += count
        taken = []
        while self._signals and self._signals[0].at_ns <= until_ns:
            taken.append(self._signals.popleft())
        return taken

    # --- in the thread, without the lock ---

    def _note(self, events: list[Event]) -> None:
        for event in events:
            self._writer.note(event)

    def _keep(self, entry: RingEntry, signals: list[Signal]) -> None:
        self._log(signals)
        row = entry.row
        segment = self._cutter.segment_of(row.completed_ns)
        if self._has_video:
            place = self._video.keep(segment, entry.packets, entry.own, entry.state)
            row = row._replace(video_frame=place.frame, video_state=place.state)
        self._writer.put(row, segment)
        for delivery in self._take_deliveries(row.source_frame, is_kept=True):
            self._writer.deliver(delivery)
        if not self._has_rows:
            self.moment_count = (self.moment_count or 0) + 1
            self._has_rows = True

    def _take_deliveries(self, number: int, *, is_kept: bool = False) -> list[Delivery]:
        """Return the deliveries of a row that leaves the ring; forget those of rows before it."""
        with self._changed:
            if is_kept:
                first = self._kept.pop()[0] if self._has_rows and self._kept else number
                self._kept.append((first, number))
            found = self._deliveries.pop(number, [])
            while self._deliveries and (oldest := next(iter(self._deliveries))) < number:
                del self._deliveries[oldest]
            return found

    def _log(self, signals: list[Signal]) -> None:
        for signal in signals:
            self._writer.log(signal)

    def _leave(self, entry: RingEntry) -> None:
        self._take_deliveries(entry.row.source_frame)
        if self._has_rows and not self._is_finished:
            self._cut()
        self._video.pass_over(entry.packets, entry.own)

    def _cut(self) -> None:
        """End the part of a moment, which is sealed now, and begin that of the next one."""
        segment = self._cutter.cut()
        self._video.change(segment)
        self._writer.cut(segment)
        self._has_rows = False


def judges_of(outputs: Sequence[OutputQueue]) -> list[OutputQueue]:
    """Return the outputs that put alerts into the session.

    Raises:
        ConfigError: There is none.
    """
    judges = [queue for queue in outputs if queue.output.adds_events]
    if not judges:
        raise ConfigError("--only-on-alert: without --alert nothing would be recorded")
    return judges


def _stamp_us(event: Event) -> int:
    return utc_ns(datetime.fromisoformat(event["at"])) // 1000
