"""The last seconds of a recording in memory, and which of them belong to alerts.

Nothing here knows of threads or files: `dgrec.recorder.ring_writer` does.
"""

from __future__ import annotations

import itertools
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from dgrec.format import Event, Row
from dgrec.recorder.video import Group, VideoState
from dgrec.video import KeptPacket

#: The most that the ring holds: rows with their results, and packets.
_RING_BYTES = 256 << 20
#: Bytes that the objects of a row, and of a packet, take besides what they hold.
_ROW_BYTES = 1200
_PACKET_BYTES = 500
#: The most that the column `skipped_before` holds.
_MOST_SKIPPED = 2**31 - 1
_FOREVER_US = sys.maxsize
#: Values nested deeper than this are not looked into.
_DEEPEST = 12

_NUMBERS = frozenset((float, int, bool, type(None)))

Fate = Literal["keep", "leave"]


@dataclass(slots=True, eq=False)
class RingEntry:
    """A row that waits, and the packets that came with its picture, which is in ``own``."""

    row: Row
    packets: list[KeptPacket] = field(default_factory=list)
    own: KeptPacket | None = None
    #: The packet that a file begins with whose first row this is. Where a decoder puts pictures in
    #: order, it came with an earlier row.
    first: KeptPacket | None = None
    #: Why it has no picture, if that is known.
    state: VideoState | None = None
    #: Whether its picture is with the encoder.
    is_encoding: bool = False
    #: Whether the row has left without waiting for the encoder.
    is_gone: bool = False
    #: Its number among all that came in, and its bytes.
    number: int = 0
    size: int = 0

    @property
    def completed_us(self) -> int:
        return self.row.completed_ns // 1000


@dataclass(slots=True, eq=False)
class _Span:
    """A time that is kept: that of an alert, or of several that overlap."""

    from_us: int
    until_us: int
    #: The alerts that are still on.
    on: set[str]
    #: The alerts' events that are not yet in the session.
    events: list[Event]
    #: The number of the first row that is kept, once that is known.
    start: int | None = None

    @property
    def end_us(self) -> int:
        return _FOREVER_US if self.on else self.until_us


class _Losses(NamedTuple):
    """Frames without a row before the next one that is kept."""

    skipped: int = 0
    camera: int = 0
    queue: int = 0
    writer: int = 0

    def after(self, row: Row, *, skipped: int = 0, dropped: int = 0) -> _Losses:
        """Return these losses with those before a row, and the row itself."""
        return _Losses(
            min(self.skipped + row.skipped_before + skipped, _MOST_SKIPPED),
            self.camera + row.dropped_camera,
            self.queue + row.dropped_queue,
            self.writer + row.dropped_writer + dropped,
        )

    def of(self, row: Row) -> Row:
        return row._replace(
            skipped_before=min(self.skipped + row.skipped_before, _MOST_SKIPPED),
            dropped_camera=self.camera + row.dropped_camera,
            dropped_queue=self.queue + row.dropped_queue,
            dropped_writer=self.writer + row.dropped_writer,
        )


class Ring:
    """Rows and packets of the last seconds, of which those around alerts are kept.

    A row is kept if its result came out from ``before_s`` before an alert fired to ``after_s``
    after it was over; so are the rows before these, from the last key frame on. A row stays here
    until its fate is known: until the rules have been applied to it, and no later alert can reach
    back to it. So what is kept does not depend on which thread is faster.

    Args:
        has_video: Whether a file has to begin at a key frame.
        limit: The most bytes that it holds. What does not fit leaves early, the oldest first.
    """

    def __init__(
        self, before_s: float, after_s: float, *, has_video: bool, limit: int = _RING_BYTES
    ) -> None:
        self.before_us, self.after_us = round(before_s * 1e6), round(after_s * 1e6)
        self.limit = limit
        self.size = 0
        #: Bytes of packets that have left, and are held for the next file; they count, too.
        self.group_bytes = 0
        self._has_video = has_video
        #: How many rows were left out, and how many were lost for want of room.
        self.left_out = 0
        self.dropped = 0
        #: The shortest time before an alert that there was room for; None: all that was asked for.
        self.shortened_s: float | None = None
        #: The end of the last moment, if it is known.
        self.until_us = 0
        self._entries: deque[RingEntry] = deque()
        self._encoding: deque[RingEntry] = deque()
        #: Number and time of the rows that a file can begin with.
        self._starts: deque[tuple[int, int]] = deque()
        self._group = Group()
        self._added = self._taken = self._judged = 0
        self._judged_us = 0
        self._spans: deque[_Span] = deque()
        self._losses = _Losses()
        #: When the last row came that left for want of room.
        self._lost_us = 0
        #: Packets of rows that were lost: what follows needs them.
        self._carried: list[KeptPacket] = []

    def __len__(self) -> int:
        return len(self._entries)

    # --- what comes in ---

    def add(self, entry: RingEntry) -> None:
        """Add the newest row."""
        entry.size = memory_of(entry.row) + _size_of_packets(entry.packets)
        entry.number = self._added
        self._entries.append(entry)
        self.size += entry.size
        self._added += 1
        if entry.is_encoding:
            self._encoding.append(entry)
        else:
            self._look_for_start(entry)

    def encoded(self, packet: KeptPacket | None) -> None:
        """Take the packet of the oldest picture that is being encoded; None: it has none."""
        entry = self._encoding.popleft()
        entry.is_encoding = False
        if packet is None:
            entry.state = "encoder_failed"
        else:
            packet.captured_ns = entry.row.captured_ns
            entry.packets, entry.own = [packet], packet
            more = _size_of_packets(entry.packets)
            entry.size += more
            self.size += more
            if entry.is_gone:
                self._carried.append(packet)
        self._look_for_start(entry)

    def left_unencoded(self, state: VideoState) -> None:
        """Note that the encoder did not take the newest row's picture, and why."""
        entry = self._encoding.pop()
        entry.is_encoding, entry.state = False, state
        self._look_for_start(entry)

    def judge(self, count: int) -> None:
        """Note that the rules were applied to the first ``count`` rows that came in."""
        count = min(count, self._added)
        if count > max(self._judged, self._taken):
            self._judged_us = self._entries[count - self._taken - 1].completed_us
        self._judged = max(self._judged, count)

    def fire(self, alert: str, at_us: int, event: Event) -> None:
        """Begin to keep what is around an alert, or prolong what is kept already."""
        from_us = at_us - self.before_us
        last = self._spans[-1] if self._spans else None
        if last is None or from_us > last.end_us:
            last = _Span(from_us, at_us + self.after_us, set(), [])
            self._spans.append(last)
        last.from_us = min(last.from_us, from_us)
        last.on.add(alert)
        last.events.append(event)

    def end(self, alert: str, at_us: int, event: Event) -> None:
        """Keep ``after_s`` more of an alert that is over."""
        for span in self._spans:
            if alert in span.on:
                span.on.remove(alert)
                span.until_us = max(span.until_us, at_us + self.after_us)
                span.events.append(event)
                self.until_us = max(self.until_us, span.until_us)

    # --- what goes out ---

    @property
    def is_on(self) -> bool:
        """Return whether an alert is on."""
        return any(span.on for span in self._spans)

    @property
    def may_go_on(self) -> bool:
        """Return whether a row that is here belongs to the last moment, or may prolong it."""
        if self._entries and self._entries[0].completed_us <= self.until_us:
            return True
        at = max(0, self._judged - self._taken)
        prolongs_us = self.until_us + self.before_us
        return at < len(self._entries) and self._entries[at].completed_us <= prolongs_us

    @property
    def is_full(self) -> bool:
        return self.size + self.group_bytes > self.limit and len(self._entries) > 1

    @property
    def end_ns(self) -> int:
        """The end of the last moment: for ever while an alert is on."""
        return (_FOREVER_US if self.is_on else self.until_us) * 1000

    def take_events(self) -> list[Event]:
        """Return the events of alerts whose rows are next."""
        if self.fate() == "leave" or not self._spans:
            return []
        span = self._spans[0]
        if self._entries and span.start is None and not self._is_past(span):
            return []
        events, span.events = span.events, []
        return events

    def fate(self) -> Fate | None:
        """Return what becomes of the oldest row; None while that is not known."""
        if not self._entries:
            return None
        oldest = self._entries[0]
        is_judged = self._judged > self._taken
        while self._spans and self._is_past(self._spans[0]):
            if self._spans[0].events:
                return None  # they come first
            self._spans.popleft()
        if oldest.is_encoding:
            return None
        if not self._spans:
            return "leave" if self._is_old() or (self.is_full and is_judged) else None
        span = self._spans[0]
        if span.start is None:
            if self._encoding and self._encoding[0].completed_us <= span.from_us:
                return None  # a file may be able to begin with it
            span.start = self._start_of(span)
        if self._taken < span.start:
            return "leave"
        return "keep" if is_judged else None

    def take(self, fate: Fate) -> RingEntry:
        """Take the oldest row out, with what was lost before it."""
        if fate == "leave":
            self.left_out += 1
            if not self._spans and not self._is_old():
                self._lost_us = self._entries[0].completed_us
        entry = self._remove()
        if entry.own is not None and self._carried:
            self.size -= _size_of_packets(self._carried)
            entry.packets, self._carried = [*self._carried, *entry.packets], []
        if fate == "leave":
            self._losses = self._losses.after(entry.row, skipped=1)
        else:
            entry.row, self._losses = self._losses.of(entry.row), _Losses()
        return entry

    def drop(self) -> None:
        """Lose the oldest row, since what is to be recorded is not written fast enough.

        If that makes too little room, the pictures up to the next key frame are lost, too.
        """
        entry = self._remove()
        entry.is_gone = True
        self._losses = self._losses.after(entry.row, dropped=1)
        self.dropped += 1
        self._carried += entry.packets
        self.size += _size_of_packets(entry.packets)
        if self.is_full:
            self._lose_pictures()

    def finish(self) -> None:
        """Note that nothing more comes: rows that belong to no alert leave."""
        self._judged, self._judged_us = self._added, _FOREVER_US

    # --- inside ---

    def _remove(self) -> RingEntry:
        entry = self._entries.popleft()
        self.size -= entry.size
        while self._starts and self._starts[0][0] <= self._taken:
            self._starts.popleft()
        self._taken += 1
        return entry

    def _lose_pictures(self) -> None:
        """Lose the oldest packets, up to a row that a file can begin with."""
        lost, self._carried = self._carried, []
        for entry in self._entries:
            if self._starts and self._starts[0][0] == entry.number:
                at = len(lost)
                if entry.first is not None:
                    came = [*lost, *entry.packets]
                    at = min(at, came.index(entry.first)) if entry.first in came else 0
                if at or entry.own is None:
                    lost, self._carried = lost[:at], lost[at:]
                    break
                self._starts.popleft()
            if entry.packets or entry.own is not None:
                lost += entry.packets
                entry.size -= _size_of_packets(entry.packets)
                entry.packets, entry.own, entry.state = [], None, entry.state or "no_key_frame"
        self.size -= _size_of_packets(lost)

    def _look_for_start(self, entry: RingEntry) -> None:
        """Note whether a file can begin with a row; without a video, any can."""
        begins = not self._has_video or entry.state == "encoder_failed"
        if entry.own is not None:
            begins = self._group.add(entry.packets, entry.own)
            entry.first = next(iter(self._group.start_of(entry.own)), None) if begins else None
        if begins and not entry.is_gone:
            self._starts.append((entry.number, entry.completed_us))
            if len(self._starts) > 1 and self._starts[-2][0] > entry.number:
                self._starts = deque(sorted(self._starts))  # it spent longer in the encoder

    def _is_past(self, span: _Span) -> bool:
        """Return whether nothing that is still here belongs to a span."""
        return self._judged > self._taken and self._entries[0].completed_us > span.end_us

    def _is_old(self) -> bool:
        """Return whether a later row can be the first one for any alert that may come."""
        if self._judged_us == _FOREVER_US:
            return True
        horizon_us = self._judged_us - self.before_us
        for number, time_us in itertools.islice(self._starts, 2):
            if number > self._taken:
                return time_us <= horizon_us and self._is_first_from(number, horizon_us)
        return False

    def _start_of(self, span: _Span) -> int:
        """Return the number of the first row that is kept for a span."""
        first: int | None = None
        for number, time_us in self._starts:
            # All rows with that very stamp are kept.
            if time_us < span.from_us or (
                time_us == span.from_us and self._is_first_from(number, time_us)
            ):
                first = number
            else:
                break
        if first is not None:
            return first
        if span.from_us <= self._lost_us:
            had_us = span.from_us + self.before_us - self._entries[0].completed_us
            had_s = max(0.0, had_us / 1e6)
            self.shortened_s = min(had_s, self.shortened_s or had_s)
        return self._taken

    def _is_first_from(self, number: int, from_us: int) -> bool:
        """Return whether all rows before row ``number`` came before ``from_us``."""
        at = number - self._taken
        return at <= 0 or self._entries[at - 1].completed_us < from_us


def _size_of_packets(packets: list[KeptPacket]) -> int:
    return sum(packet.size + _PACKET_BYTES for packet in packets)


def memory_of(row: Row) -> int:
    """Return roughly how many bytes of memory a row takes with what it holds."""
    held = (row.results, row.timing, row.attributes, row.info, row.pixel_sample)
    return _ROW_BYTES + sum(_memory(value, 0) for value in held)


def _memory(value: Any, depth: int) -> int:
    kind = type(value)
    if kind in _NUMBERS:
        return 32
    if kind is list and _NUMBERS.issuperset(map(type, value)):
        return 56 + 40 * len(value)
    # For an array that is a view, `getsizeof` leaves out the memory that it shows.
    size = max(int(getattr(value, "nbytes", 0)), sys.getsizeof(value, 200))
    if depth > _DEEPEST:
        return size
    if isinstance(value, dict):
        return size + sum(_memory(item, depth + 1) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return size + sum(_memory(item, depth + 1) for item in value)
    return size
