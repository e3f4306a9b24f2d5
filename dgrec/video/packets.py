"""The packets of a source, kept as they are, so that a recording need not encode its pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

from dgrec.errors import VideoError
from dgrec.video.access_points import is_random_access_point, nal_length_size
from dgrec.video.pyav import import_av

__all__ = ["KEPT_CODECS", "KeptPacket", "PacketFormat", "copy_of", "kept_packet", "packet_format"]

#: What FFmpeg's names of the codecs that can be kept are called in metadata.
KEPT_CODECS = {"h264": "h264", "hevc": "h265", "mjpeg": "mjpeg"}
#: Those whose packets need parameters that stand before the first of them.
_WITH_PARAMETERS = ("h264", "hevc")
#: The limit of H.264 and HEVC.
_MOST_REORDERED = 16


@dataclass(frozen=True, eq=False)
class PacketFormat:
    """What an output needs to know of the packets of one connection.

    Attributes:
        codec: FFmpeg's name.
        extradata: The codec's parameters.
        size: Width and height of the pictures.
        reordered: How many pictures are stored, at most, before one that is shown earlier.
    """

    codec: str
    extradata: bytes
    size: tuple[int, int]
    reordered: int
    #: A file with the stream's parameters: the source may be closed when they are needed.
    _template: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """The codec's name in metadata."""
        return KEPT_CODECS[self.codec]

    @property
    def has_start_codes(self) -> bool:
        """Whether parameters may stand in front of any packet, as they do in network streams."""
        return self.codec in _WITH_PARAMETERS and self.extradata[:1] == b"\0"

    def add_stream(self, container: Any) -> Any:
        """Add a stream for such packets to a container that is being written."""
        with import_av().open(io.BytesIO(self._template), format="nut") as template:
            return container.add_stream_from_template(template.streams.video[0])


@dataclass(slots=True, eq=False)
class KeptPacket:
    """A packet of a source, as the decoder got it, and what became of it.

    Attributes:
        packet: PyAV's packet.
        number: Its number among the packets of its connection.
        order: Its presentation time, in the stream's own time base; None if it has none.
        is_exact: Whether a decoder that begins with it gives all pictures exactly that are shown
            from it on, wherever in a file it stands.
        starts: The same at the beginning of a file, where it may be the first of its connection.
        place: The number of its picture among those of the connection, in the order in which they
            are shown; None while no picture has come out of it.
        captured_ns: When that picture was captured.
        is_damaged: Whether it is incomplete, or a part of its picture was made up.
    """

    format: PacketFormat
    packet: Any
    number: int
    order: int | None
    starts: bool
    is_exact: bool
    place: int | None = None
    captured_ns: int = 0
    is_damaged: bool = False

    @property
    def size(self) -> int:
        return int(self.packet.size)


def packet_format(stream: Any, first: Any, ahead: int) -> PacketFormat:
    """Return the format of a stream's packets.

    Args:
        first: One of its packets.
        ahead: How many packets the decoder needed after that of the first picture.

    Raises:
        VideoError: Such packets cannot be kept.
    """
    av = import_av()
    context = stream.codec_context
    codec, extradata = context.name, bytes(context.extradata or b"")
    if codec not in KEPT_CODECS or (codec in _WITH_PARAMETERS and not extradata):
        raise VideoError(f"packets of {codec} are not kept")
    made = io.BytesIO()
    try:
        with av.open(made, "w", format="nut") as container:
            copied = container.add_stream_from_template(stream)
            copied.time_base = stream.time_base
            container.mux(copy_of(first, copied, 0, 0, stream.time_base))
        size = int(context.width), int(context.height)
        # One more than the decoder waits for, which it may find out to be too few.
        reordered = min(ahead + 1, _MOST_REORDERED) if context.has_b_frames else 0
        known = PacketFormat(codec, extradata, size, reordered, made.getvalue())
        with av.open(io.BytesIO(), "w", format="mp4") as trial:
            added = known.add_stream(trial)
            trial.mux(copy_of(first, added, 0, 0, stream.time_base))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"packets of {codec} cannot be kept: {error}") from None
    return known


def copy_of(
    packet: Any, stream: Any, pts: int, dts: int, time_base: Any, before: bytes = b""
) -> Any:
    """Return a packet with the same data for another stream.

    Args:
        before: Bytes in front of the data.
    """
    copy = import_av().Packet(before + bytes(packet))
    copy.pts, copy.dts, copy.time_base = pts, dts, time_base
    copy.is_keyframe = packet.is_keyframe
    copy.stream = stream
    return copy


def kept_packet(known: PacketFormat, packet: Any, number: int) -> KeptPacket:
    """Return a packet that is about to be decoded as one that may be kept."""
    is_exact = False
    if packet.is_keyframe:
        length = nal_length_size(known.codec, known.extradata)
        is_exact = is_random_access_point(known.codec, bytes(packet), length)
    # Nothing was decoded before the first one, here as when it is read back.
    starts = is_exact or (packet.is_keyframe and number == 0)
    is_damaged = bool(packet.is_corrupt)
    return KeptPacket(known, packet, number, packet.pts, starts, is_exact, is_damaged=is_damaged)
