"""The packets of a session's video, and which of them show its frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from dgrec.errors import VideoError
from dgrec.video import import_av

if TYPE_CHECKING:
    from dgrec.replay.exports.exported import Exported

_Array = np.ndarray[Any, Any]
#: Filters that make packets readable without the container's header.
_FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
#: How far a packet's time may be from its row's: containers round to milliseconds.
_TOLERANCE_S = 0.002


class UnsuitableVideoError(VideoError):
    """A video whose packets cannot be exported; the message says why."""


class VideoPackets:
    """The packets of a video, one for each frame, in the order in which they are shown.

    Raises:
        UnsuitableVideoError: Frames are stored out of order, or packets do not belong to the rows.
    """

    def __init__(self, exported: Exported) -> None:
        self.path = unchanged_video(exported)
        self.column = exported.footage.column
        av = import_av()
        try:
            self.codec, self.times_s, self.keys = _index(av, self.path)
        except (OSError, av.FFmpegError) as error:
            raise UnsuitableVideoError(f"{self.path.name} cannot be read ({error})") from None
        if self.codec not in ("h264", "hevc", "vp9", "av1"):
            raise UnsuitableVideoError(f"{self.path.name} is {self.codec}")
        if (np.diff(self.times_s) <= 0).any():
            raise UnsuitableVideoError(f"{self.path.name} has B-frames")
        check_rows(exported, self.times_s)

    def start_of(self, index: int) -> int:
        """Return the packet at which decoding begins for a frame: the key frame before it."""
        return int(np.flatnonzero(self.keys[: index + 1])[-1])

    def __iter__(self) -> Iterator[bytes]:
        """Yield the data of all packets, which can be decoded without the file's header."""
        av = import_av()
        with av.open(str(self.path.absolute())) as container:
            stream = container.streams.video[0]
            packets = (packet for packet in container.demux(stream) if packet.size)
            name = _FILTERS.get(self.codec)
            if name is None:
                yield from map(bytes, packets)
                return
            filters = av.bitstream.BitStreamFilterContext(name, in_stream=stream)
            for packet in packets:
                yield b"".join(map(bytes, filters.filter(packet)))


def _index(av: Any, path: Path) -> tuple[str, _Array, _Array]:
    """Return a video's codec, the times of its packets in seconds, and which are key frames."""
    with av.open(str(path.absolute())) as container:
        if not container.streams.video:
            raise UnsuitableVideoError(f"{path.name} has no video")
        stream = container.streams.video[0]
        found = [
            (packet.pts, bool(packet.is_keyframe))
            for packet in container.demux(stream)
            if packet.size
        ]
        base = float(stream.time_base)
        codec = str(stream.codec_context.name)
    if not found or not found[0][1] or any(pts is None for pts, _ in found):
        raise UnsuitableVideoError(f"{path.name} has packets without times")
    pts = np.array([pts for pts, _ in found], np.int64)
    names = {"libdav1d": "av1", "libvpx-vp9": "vp9"}
    return names.get(codec, codec), (pts - pts[0]) * base, np.array([key for _, key in found])


def unchanged_video(exported: Exported) -> Path:
    """Return the session's video, if it is as it was recorded.

    Raises:
        UnsuitableVideoError: There is none, or it was changed.
    """
    footage = exported.footage
    if footage.path is None:
        raise UnsuitableVideoError(footage.lacking)
    if len(footage.parts) > 1:
        raise UnsuitableVideoError("each part of the recording has a video of its own")
    if footage.changed or footage.loops or footage.named:
        raise UnsuitableVideoError(f"{footage.path.name} is not one file as it was recorded")
    _check_size(exported, footage.path)
    return footage.path


def _check_size(exported: Exported, path: Path) -> None:
    """Check that boxes, which are in pixels of the frames, are in pixels of the video, too.

    Raises:
        UnsuitableVideoError: The video was scaled, or is turned when it is shown.
    """
    av = import_av()
    try:
        with av.open(str(path.absolute())) as container:
            picture = next(container.decode(video=0), None)
    except (OSError, IndexError, av.FFmpegError) as error:
        raise UnsuitableVideoError(f"{path.name} cannot be read ({error})") from None
    if picture is None:
        raise UnsuitableVideoError(f"{path.name} has no pictures")
    if picture.rotation:
        raise UnsuitableVideoError(f"{path.name} is turned when it is shown")
    width, height = picture.width, picture.height
    for batch in exported.columns(["width", "height"]):
        for column, side in zip(batch.columns, (width, height), strict=True):
            if pc.any(pc.not_equal(column, side)).as_py():
                frames = "x".join(str(each[0]) for each in batch.columns)
                raise UnsuitableVideoError(
                    f"{path.name} is {width}x{height} instead of the frames' {frames}"
                )


def check_rows(exported: Exported, times_s: _Array) -> None:
    """Check that each row's number is that of a frame in the video, and its time, if it is known.

    Where pictures could not be decoded, numbers of pictures are not those of packets.

    Args:
        times_s: The times of the video's frames, counted from the first one.

    Raises:
        UnsuitableVideoError: A row is not in the video, or at another time.
    """
    footage = exported.footage
    name = "the video" if footage.path is None else footage.path.name
    for batch in exported.columns([footage.column, "media_time_s"]):
        index, media = (column.to_numpy(zero_copy_only=False) for column in batch.columns)
        there = ~np.isnan(index.astype(np.float64))
        numbers = index[there].astype(np.int64)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(times_s):
            raise UnsuitableVideoError(f"{name} is shorter than the recording")
        if footage.column == "source_frame":
            apart = np.abs(times_s[numbers] - media[there].astype(np.float64))
            if (apart > _TOLERANCE_S).any():
                raise UnsuitableVideoError(f"{name} has frames at other times")
