"""Makes a fragment of an MP4 from packets that FFmpeg's muxer still holds back."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from dgrec.video import import_av

_OPTIONS = {
    # "discont": the fragment begins at the time of its first packet, not at 0.
    "movflags": "+frag_custom+empty_moov+default_base_moof+frag_discont",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",
    "video_track_timescale": "1000000",
}


def fragment_of(stream: Any, packets: Sequence[Any], *, is_first: bool) -> bytes:
    """Return packets as one fragment of the file that ``stream`` is being written to.

    Args:
        stream: The output stream that the packets come from.
        packets: In order, beginning with the first that is in no fragment of the file.
        is_first: Whether the file has no fragment yet, and therefore no index (`moov`) either.
    """
    av = import_av()
    made = io.BytesIO()
    with av.open(made, "w", format="mp4", options=_OPTIONS) as container:
        copied = container.add_stream_from_template(stream)
        copied.time_base = stream.time_base
        for packet in packets:
            copy = av.Packet(bytes(packet))
            copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
            copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
            copy.stream = copied
            container.mux(copy)
    wanted = (b"moov", b"moof", b"mdat") if is_first else (b"moof", b"mdat")
    return b"".join(box for kind, box in _boxes(made.getvalue()) if kind in wanted)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at : at + length]
        at += length
