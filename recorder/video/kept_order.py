"""Numbers and times of a source's packets in the video that keeps them.

A row is made when its picture has come out of the decoder. By then all packets that the picture
needs are there, and the time of each picture that is shown before it is known, whether that was
inferred or not. A packet's number is its place in the order in which pictures are shown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from dgrec.timeline import VideoTimes
from dgrec.video import MOST_REORDERED, KeptPacket, PacketFormat, repeats

#: A packet without a picture, and without a time that would say so, was lost if this many follow.
_LOST_AFTER = 64
#: A group of pictures that takes more memory than this is not kept for the next part.
_MOST_GROUP_BYTES = 64 << 20
#: How long each picture is shown that follows the last captured one.
_STEP_US = 40_000


@dataclass(frozen=True, slots=True)
class TimedPacket:
    """A packet with its times in the video; ``parameters`` stand in front of its data.

    ``is_key`` says whether decoding may begin here; None: if it is a key frame.
    """

    packet: Any
    pts_us: int
    dts_us: int
    is_key: bool | None
    parameters: bytes = b""


KeptState = Literal["no_key_frame", "damaged"]


class KeptPlace(NamedTuple):
    """The number of a picture in the video, or why it has none, and packets to be written."""

    number: int | None
    state: KeptState | None
    packets: list[TimedPacket]


class Group:
    """The packets since the last point at which decoding can begin: a new file starts with them.

    Such a point counts once its picture has come out whole.
    """

    def __init__(self) -> None:
        self._packets: list[KeptPacket] = []
        #: Those of them at which decoding can begin.
        self._points: list[KeptPacket] = []
        #: The point that the last group began with.
        self._begun: KeptPacket | None = None
        #: Bytes of the packets.
        self.size = 0

    def add(self, packets: Sequence[KeptPacket], own: KeptPacket) -> bool:
        """Add the packets that came with a picture, which is in ``own``.

        Returns:
            Whether a new group begins with it: no file that begins with it needs earlier packets.
        """
        begins = False
        for packet in packets:
            if self._packets and not _follows(self._packets[-1], packet):
                self._clear()
            self._packets.append(packet)
            self.size += packet.size
            if packet.starts:
                self._points.append(packet)
        for count, point in reversed(list(enumerate(self._points))):
            if _can_begin(point, own):
                at = self._packets.index(point)
                self.size -= sum(packet.size for packet in self._packets[:at])
                del self._packets[:at]
                del self._points[:count]
                begins = self._begun is not point
                self._begun = point
                break
        if self.size > _MOST_GROUP_BYTES:
            self._clear()
        return begins

    def start_of(self, own: KeptPacket) -> list[KeptPacket]:
        """Return the packets that a file with a picture begins with; none if it cannot begin."""
        packets = self._packets
        return list(packets) if packets and _can_begin(packets[0], own) else []

    def _clear(self) -> None:
        self._packets, self._points, self.size = [], [], 0


def _can_begin(packet: KeptPacket, own: KeptPacket) -> bool:
    """Return whether a file that begins with ``packet`` has the picture in ``own``."""
    return (
        packet.starts
        and not packet.is_damaged
        and not packet.is_spoiled
        and packet.format is own.format
        and packet.place is not None
        and own.place is not None
        and packet.place <= own.place
    )


def _follows(last: KeptPacket, packet: KeptPacket) -> bool:
    """Return whether nothing is missing between two packets of one connection."""
    return packet.format is last.format and packet.number == last.number + 1


class KeptOrder:
    """Numbers the packets of one file, and gives them times."""

    def __init__(self, known: PacketFormat) -> None:
        self._format = known
        #: Decoding times are the presentation times of this many pictures earlier.
        self._depth = known.reordered
        #: How late presentation begins: decoding is in time even if more are reordered later.
        self._delay_us = MOST_REORDERED if known.may_reorder else 0
        self._last_dts_us = -1
        #: When the first picture was captured, in microseconds: time 0, apart from ``_delay_us``.
        self.first_us: int | None = None
        #: A later format of the source that cannot follow in this file.
        self.refused: PacketFormat | None = None
        #: How many packets have a number.
        self.count = 0
        #: Whether the decoder that reads the file back decodes all that the source's had decoded.
        self._is_whole = False
        #: Whether a picture since the last point at which decoding can begin was not whole.
        self._is_damaged = False
        #: The last such point that was shown.
        self._point: KeptPacket | None = None
        self._last_us = -1
        #: For pictures of a program, whose stamps may be anything.
        self._program_times = VideoTimes()
        self._last: KeptPacket | None = None
        #: Packets that are not in the file yet, in the order of decoding.
        self._waiting: deque[KeptPacket] = deque()
        self._times: dict[KeptPacket, int] = {}
        #: How many key frames were stored up to each of them, and in all.
        self._groups: dict[KeptPacket, int] = {}
        self._keys = 0
        #: Presentation times that decoding times are made of.
        self._shown: deque[int] = deque()
        self._released = 0

    @property
    def has_begun(self) -> bool:
        """Return whether the file has packets, or will have."""
        return self._last is not None

    def add(self, packets: Sequence[KeptPacket], own: KeptPacket, group: Group) -> KeptPlace:
        """Add the packets that came with a picture; return its place, and what can be written."""
        last = self._last
        if last is None or not self._continues(last, packets):
            packets = group.start_of(own)
            if not packets or (last is not None and not self._may_rejoin(last, packets[0])):
                return KeptPlace(None, "no_key_frame", [])
            self._is_whole = last is None and packets[0].number == 0
        for packet in packets:
            if self._last is not None and packet.format is not self._last.format:
                self._time_rest()
                self._is_whole = False
            self._waiting.append(packet)
            self._keys += bool(packet.packet.is_keyframe)
            self._groups[packet] = self._keys
            self._last = packet
        number = self._time_until(own)
        state: KeptState | None = "no_key_frame" if number is None else None
        if self._is_damaged and not (self._is_whole and self._format.conceals_from_pictures):
            # What a decoder makes of a missing part depends on all that it decoded before.
            number, state = None, "damaged"
        return KeptPlace(number, state, self._release())

    def finish(self) -> list[TimedPacket]:
        """Return the packets that are left: they belong to pictures that had not come out."""
        self._time_rest(_STEP_US)
        released = self._release()
        self._point = self._last = None  # a recording may have thousands of parts
        return released

    def _continues(self, last: KeptPacket, packets: Sequence[KeptPacket]) -> bool:
        for packet in packets:
            if not _follows(last, packet) and not (
                packet.format is not last.format and packet.number == 0 and self._may_join(packet)
            ):
                return False
            last = packet
        return True

    def _may_rejoin(self, last: KeptPacket, packet: KeptPacket) -> bool:
        is_later = packet.format is not last.format or packet.number > last.number
        return is_later and self._may_join(packet)

    def _may_join(self, packet: KeptPacket) -> bool:
        """Return whether packets of a new connection, or after a loss, can go on in this file."""
        known = packet.format
        is_same = known.codec == self._format.codec and known.extradata == self._format.extradata
        has_parameters = known.has_start_codes and self._format.has_start_codes
        is_same = is_same or (known.codec == self._format.codec and has_parameters)
        if not is_same:
            self.refused = known
        return packet.is_exact and not packet.is_spoiled and is_same

    def _time_until(self, own: KeptPacket) -> int | None:
        """Give times to all pictures up to the one in ``own``; return its number."""
        untimed = self._untimed()
        if own.place is None or own not in untimed:
            return None
        shown = [each for each in untimed if each.place is not None and each.place <= own.place]
        shown.sort(key=lambda packet: packet.place or 0)
        silent = [each for each in untimed if each.place is None]
        silent.sort(key=lambda packet: (self._groups[packet], packet.order or 0))
        for packet in shown:
            while silent and self._is_before(silent[0], packet):
                lost = silent.pop(0)
                self._time(lost)
                # Pictures that lack their reference, shown before a key frame, damage nothing.
                if self._point is None or (lost.order or 0) > (self._point.order or 0):
                    self._is_damaged = True
            self._time(packet, packet.captured_ns // 1000)
            if packet.is_damaged:
                self._is_damaged = True
            elif packet.starts and not packet.is_spoiled:
                self._is_damaged = False
                self._point = packet
        number = self.count - 1
        if len(untimed) - len(shown) > _LOST_AFTER:
            self._time(self._untimed()[0])
        return number

    def _is_before(self, silent: KeptPacket, packet: KeptPacket) -> bool:
        """Return whether a packet would have been shown before another: then it gave no picture."""
        if self._groups[silent] < self._groups[packet]:
            return True
        return None not in (silent.order, packet.order) and packet.is_shown_after(silent)

    def _time_rest(self, step_us: int = 1) -> None:
        """Give times to the packets whose pictures were not inferred, or have not come out."""
        shown = [each for each in self._untimed() if each.place is not None and each.captured_ns]
        for packet in sorted(shown, key=lambda each: each.place or 0):
            self._time(packet, packet.captured_ns // 1000)
        rest = self._untimed()
        for packet in sorted(rest, key=lambda each: (each.order is None, each.order or 0)):
            self._time(packet, (self.first_us or 0) + self._last_us + step_us)

    def _untimed(self) -> list[KeptPacket]:
        return [packet for packet in self._waiting if packet not in self._times]

    def _time(self, packet: KeptPacket, captured_us: int | None = None) -> None:
        """Make a packet the next one to be shown, at a time or right after the last one."""
        if captured_us is not None and self.first_us is None:
            self.first_us = captured_us - self.count
        pts_us = self._last_us + 1
        if captured_us is not None and self.first_us is not None:
            pts_us = max(pts_us, self._since_first(captured_us))
        if self._last_us >= 0 and (between := repeats(self._last_us, pts_us)):
            if packet.is_exact and not packet.is_spoiled:
                at = self._waiting.index(packet)
                for time_us in between:
                    again = replace(packet)
                    self._waiting.insert(at, again)
                    self._groups[again] = self._groups[packet]
                    at += 1
                    self._show(again, time_us)
            else:
                pts_us = between[0]
        self._show(packet, pts_us)

    def _since_first(self, captured_us: int) -> int:
        """Return when a picture is shown. Packets of a camera are stamped by the recorder."""
        assert self.first_us is not None
        if self._format.is_of_source:
            return captured_us - self.first_us
        return self._program_times.at(captured_us)

    def _show(self, packet: KeptPacket, pts_us: int) -> None:
        self._times[packet] = self._last_us = pts_us
        self._shown.append(pts_us)
        self.count += 1

    def _release(self) -> list[TimedPacket]:
        """Return the packets at the front that have times."""
        released = []
        while self._waiting and self._waiting[0] in self._times:
            packet = self._waiting.popleft()
            pts_us = self._times.pop(packet)
            self._groups.pop(packet, None)
            dts_us = self._dts_us(pts_us)
            known = packet.format
            # Decoders use the parameters in front of a picture from that picture on.
            is_other = packet.is_exact and known.extradata != self._format.extradata
            parameters = known.extradata if is_other else b""
            is_key = True if self._released == 1 else False if packet.is_spoiled else None
            pts_us += self._delay_us
            released.append(TimedPacket(packet.packet, pts_us, dts_us, is_key, parameters))
        return released

    def _dts_us(self, pts_us: int) -> int:
        """Return the decoding time of the next packet, which is shown at ``pts_us``.

        Decoding times increase, and none is after the presentation of its packet. So this one must
        leave room for those that follow, which may be more than the format announced.
        """
        dts_us = self._released
        if self._released >= self._depth:
            dts_us = self._shown.popleft() + self._depth
        self._released += 1
        if self._delay_us:
            timed = [(at, self._times.get(each)) for at, each in enumerate(self._waiting, 1)]
            room = [time_us - at for at, time_us in timed if time_us is not None]
            # Those without a time are shown later than all that have one.
            latest_us = min(pts_us, *room, self._last_us + 1 - self._delay_us - len(room))
            dts_us = min(dts_us, latest_us + self._delay_us)
        self._last_dts_us = max(dts_us, self._last_dts_us + 1)
        return self._last_dts_us
