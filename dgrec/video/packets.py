"""The packets of a source, kept as they are, so that a recording need not encode its pictures."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dgrec.errors import VideoError
from dgrec.video.access_points import is_random_access_point, nal_length_size
from dgrec.video.pyav import import_av

#: FFmpeg's names of the codecs that can be kept, and the names in metadata.
_KEPT_CODECS = {"h264": "h264", "hevc": "h265", "mjpeg": "mjpeg"}
#: Codecs whose packets need parameters in front of the first one.
_WITH_PARAMETERS = ("h264", "hevc")
#: The limit of H.264 and HEVC.
MOST_REORDERED = 16
#: No decoder holds back more packets.
MOST_IN_DECODER = 256


@dataclass(frozen=True, eq=False)
class PacketFormat:
    """The facts that an output needs to know about the packets of one connection.

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
    #: Whether the source sent the packets; otherwise the recorder encoded them.
    is_of_source: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The codec's name in metadata."""
        return _KEPT_CODECS[self.codec]

    @property
    def may_reorder(self) -> bool:
        """Return whether pictures may be stored in another order than they are shown in.

        A stream may begin to do that at any time, whatever ``reordered`` says.
        """
        return self.codec in _WITH_PARAMETERS

    @property
    def conceals_from_pictures(self) -> bool:
        """Return whether a decoder that gets the same packets makes the same of damaged ones.

        For H.264, FFmpeg makes missing parts up from other pictures; for other codecs it leaves in
        them what the memory held before.
        """
        return self.codec == "h264"

    @property
    def has_start_codes(self) -> bool:
        """Return whether parameters may stand in front of any packet, as in network streams."""
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
        order: Its presentation time, in the stream's own time base; None if it has none. Where the
            source starts to count anew, it is moved behind all that came before.
        is_exact: Whether a decoder that begins with it exactly gives all pictures that are shown
            from it on, wherever it is in a file.
        starts: The same at the beginning of a file, where the first of its connection will do, too.
        place: The number of its picture among those of the connection, in the order in which they
            are shown; None while no picture has come out of it.
        captured_ns: The time at which that picture was captured.
        is_damaged: Whether it is incomplete, or a part of its picture was made up.
        is_spoiled: Whether a damaged picture is shown before it that is stored after it. It is
            decoded differently where decoding begins here, and what follows may be, too.
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
    is_spoiled: bool = False

    @property
    def size(self) -> int:
        return int(self.packet.size)

    def is_shown_after(self, other: KeptPacket) -> bool:
        """Return whether its picture is shown after another; True if their times do not say."""
        return self.order is None or other.order is None or self.order > other.order


class PacketOrder:
    """Presentation times that never start anew: a source may be joined from several recordings."""

    def __init__(self) -> None:
        self._shift = 0
        self._latest = 0
        #: When the last packet was decoded, and the last key frame shown.
        self._dts: int | None = None
        self._key: int | None = None

    def of(self, packet: Any) -> int | None:
        """Return the time of the next packet; None if it has none."""
        before = self._dts if packet.dts is not None else self._key
        now = packet.dts
        if now is None and packet.is_keyframe:
            now = packet.pts
        if before is not None and now is not None and now < before:
            self._shift = self._latest + _NEW_START - now
        if packet.dts is not None:
            self._dts = packet.dts
        if packet.is_keyframe and packet.pts is not None:
            self._key = packet.pts
        if packet.pts is None:
            return None
        order = int(packet.pts) + self._shift
        self._latest = max(self._latest, order)
        return order


#: How much later than all before a new start is put: more than pictures are reordered by.
_NEW_START = 1 << 33


def packet_format(stream: Any, first: Any, ahead: int) -> PacketFormat:
    """Return the format of a stream's packets.

    Args:
        first: The packet of its first picture.
        ahead: How many packets the decoder needed after that of the first picture.

    Raises:
        VideoError: Such packets cannot be kept.
    """
    av = import_av()
    context = stream.codec_context
    codec = context.name
    if codec not in _KEPT_CODECS:
        raise VideoError(f"packets of {codec} are not kept")
    made = io.BytesIO()
    try:
        with contextlib.ExitStack() as opened:
            described = stream
            if codec in _WITH_PARAMETERS and not context.extradata:
                # FFmpeg joined the stream too long before a key frame to find its parameters.
                alone = av.open(io.BytesIO(bytes(first)), format=codec)
                described = opened.enter_context(alone).streams.video[0]
            extradata = bytes(described.codec_context.extradata or b"")
            if codec in _WITH_PARAMETERS and not extradata:
                raise VideoError(f"packets of {codec} cannot be kept: they lack parameters")
            with av.open(made, "w", format="nut") as container:
                copied = container.add_stream_from_template(described)
                copied.time_base = stream.time_base
                container.mux(copy_of(first, copied, 0, 0, stream.time_base))
        size = int(context.width), int(context.height)
        # One more than the decoder waits for, which may turn out to be too few.
        reordered = min(ahead + 1, MOST_REORDERED) if context.has_b_frames else 0
        known = PacketFormat(codec, extradata, size, reordered, made.getvalue())
        with av.open(io.BytesIO(), "w", format="mp4") as trial:
            added = known.add_stream(trial)
            trial.mux(copy_of(first, added, 0, 0, stream.time_base))
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise VideoError(f"packets of {codec} cannot be kept: {error}") from None
    return known


def copy_of(
    packet: Any,
    stream: Any,
    pts: int,
    dts: int,
    time_base: Any,
    *,
    before: bytes = b"",
    is_key: bool | None = None,
) -> Any:
    """Return a packet with the same data for another stream.

    Args:
        before: Bytes in front of the data.
        is_key: Whether it is marked as a key frame; None: as the packet is.
    """
    copy = import_av().Packet(before + bytes(packet))
    copy.pts, copy.dts, copy.time_base = pts, dts, time_base
    copy.is_keyframe = packet.is_keyframe if is_key is None else is_key
    copy.stream = stream
    return copy


def kept_packet(known: PacketFormat, packet: Any, number: int, order: int | None) -> KeptPacket:
    """Return a packet that is about to be decoded as a `KeptPacket`."""
    is_exact = False
    if packet.is_keyframe:
        length = nal_length_size(known.codec, known.extradata)
        is_exact = is_random_access_point(known.codec, bytes(packet), length)
    # Nothing was decoded before the first one, here as when it is read back.
    starts = is_exact or (packet.is_keyframe and number == 0)
    is_damaged = bool(packet.is_corrupt)
    return KeptPacket(known, packet, number, order, starts, is_exact, is_damaged=is_damaged)
