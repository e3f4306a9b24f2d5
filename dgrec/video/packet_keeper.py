"""Packets kept beside the pictures that a reader decodes from them."""

from __future__ import annotations

from typing import Any

from dgrec.errors import VideoError
from dgrec.video.packets import (
    MOST_IN_DECODER,
    KeptPacket,
    PacketFormat,
    PacketOrder,
    kept_packet,
    packet_format,
)
from dgrec.video.picture import AS_STORED, turn_of


class PacketKeeper:
    """Follows the packets of one connection through the decoder.

    Until its first picture is taken, it holds all packets: the reader may still be asked to keep
    them (`begin`).
    """

    def __init__(self) -> None:
        self._format: PacketFormat | None = None
        #: The packets so far; None once it is clear whether they are kept.
        self._unasked: list[Any] | None = []
        #: Those since the picture that was taken last.
        self._kept: list[KeptPacket] = []
        self._inside: dict[int, KeptPacket] = {}  # those whose picture has not come out
        self._order = PacketOrder()
        self._was_corrupt = False

    def begin(self, stream: Any, first: Any) -> PacketFormat | None:
        """Keep packets from here on, and those so far; return their format.

        None if they cannot be kept: those of other codecs, or of interlaced or turned pictures.

        Args:
            first: The first picture, which has not been taken yet.
        """
        packets, self._unasked = self._unasked or [], None
        if not packets or first.interlaced_frame or turn_of(first) != AS_STORED:
            return None
        number = first.opaque[0] if first.opaque else 0
        try:
            self._format = packet_format(stream, packets[number], len(packets) - 1 - number)
        except VideoError:
            return None
        for number, packet in enumerate(packets):
            self._keep(self._format, packet, number)
        return self._format

    def stop_waiting(self) -> None:
        """Hold no more packets, unless `begin` was called."""
        self._unasked = None

    def note(self, packet: Any, number: int) -> None:
        """Note a packet that goes into the decoder; ``number`` is its number in its connection."""
        if self._format is None and self._unasked is None:
            return
        # A new object: PyAV confuses equal small numbers.
        packet.opaque = [number]
        if self._format is not None:
            self._keep(self._format, packet, number)
        elif self._unasked is not None:
            self._unasked.append(packet)

    def failed(self) -> None:
        """Note that the decoder raised an error for the last packet."""
        if self._kept:
            self._kept[-1].is_damaged = True
            self._spoil(self._kept[-1])

    def take(self, frame: Any, place: int) -> tuple[tuple[KeptPacket, ...], KeptPacket | None]:
        """Return the packets since the last picture, and the packet of a picture that is taken.

        Args:
            place: The picture's number among those of the connection.
        """
        if self._format is None:
            return (), None
        packets, self._kept = tuple(self._kept), []
        packet = self._packet_of(frame)
        if packet is not None:
            packet.is_damaged = packet.is_damaged or bool(frame.is_corrupt)
            packet.place = place
            if packet.is_damaged:
                self._spoil(packet)
        return packets, packet

    def leave(self, frame: Any) -> None:
        """Do not keep the packet of a picture that is left out."""
        packet = self._packet_of(frame)
        self._kept = [kept for kept in self._kept if kept is not packet]

    def _packet_of(self, frame: Any) -> KeptPacket | None:
        return self._inside.pop(frame.opaque[0], None) if frame.opaque else None

    def _keep(self, format_: PacketFormat, packet: Any, number: int) -> None:
        kept = kept_packet(format_, packet, number, self._order.of(packet))
        # Data that a container notices as missing may be from the beginning of the next packet.
        if self._was_corrupt and not format_.conceals_from_pictures:
            kept.is_damaged = True
        self._was_corrupt = bool(packet.is_corrupt)
        self._kept.append(kept)
        self._inside[number] = kept
        if len(self._inside) > MOST_IN_DECODER:
            del self._inside[next(iter(self._inside))]

    def _spoil(self, damaged: KeptPacket) -> None:
        """Mark the key frames that are stored before a damaged picture, and shown after it."""
        for packet in self._inside.values():
            if packet.starts and packet.number < damaged.number and packet.is_shown_after(damaged):
                packet.is_spoiled = True
