"""The index of a video file: key frames and presentation times, without decoding."""

from __future__ import annotations

import bisect
import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

#: Codecs whose packets are one picture each, and whose key frames can be trusted.
_CODECS = frozenset(
    "h264 hevc av1 libdav1d vp8 libvpx vp9 libvpx-vp9 mpeg4 mjpeg prores ffv1".split()
)
#: Containers whose packets carry presentation times. AVI has none; MPEG-TS and raw streams have no
#: table of key frames to seek by.
_WITH_TABLE = "mp4"
_CONTAINERS = (_WITH_TABLE, "matroska")
_GROUPS_KEPT = 64


class UntrustedIndexError(Exception):
    """The file's index is missing or contradicts itself."""


@dataclass(frozen=True)
class Group:
    """The packets from one key frame to before the next: the same frames, in presentation order.

    Pictures shown before their key frame (open GOPs) belong to its group.
    """

    #: Number of its first frame, in the file and in presentation.
    first: int
    #: Presentation times in the stream's time base, sorted.
    pts: np.ndarray[Any, Any]
    key_pts: int


def packets_from(
    container: Any, stream: Any, wanted: int, times: Iterable[int], *, by: Literal["dts", "pts"]
) -> Iterator[Any]:
    """Yield the packets from a key packet on.

    Args:
        wanted: The time of the key packet, of the kind ``by``.
        times: Times to seek to, until it is found.

    Raises:
        UntrustedIndexError: It is not there.
    """
    for time in times:
        container.seek(time, stream=stream, backward=True)
        is_there = False
        for packet in container.demux(stream):
            if not is_there:
                at = getattr(packet, by)
                if at is None or (at > wanted and packet.is_keyframe):
                    break
                is_there = at == wanted
            if is_there:
                yield packet
        if is_there:
            return
    raise UntrustedIndexError("a key frame is not where the table says")


class FrameIndex:
    """The frames of a video file by number: which key frame each needs, and its exact time.

    An MP4 has a table of key frames, in memory once the file is open; only the packets around a
    wanted frame are read for their times. Other files (fragmented MP4, Matroska) are read once,
    without decoding.

    Args:
        container: An open PyAV container, for this index alone.
        any_start: Whether to count pictures before the first key frame, which lack their reference,
            as in a video of kept packets.

    Raises:
        UntrustedIndexError: Frames have to be counted instead.
    """

    def __init__(self, container: Any, *, any_start: bool = False) -> None:
        self._container = container
        videos = container.streams.video
        if len(videos) != 1:
            raise UntrustedIndexError("more than one video stream")
        self._stream = videos[0]
        names = container.format.name.split(",")
        if not any(name in names for name in _CONTAINERS):
            raise UntrustedIndexError(f"a container without an index: {container.format.name}")
        if self._stream.codec_context.name not in _CODECS:
            raise UntrustedIndexError(f"codec {self._stream.codec_context.name}")
        #: Number of frames.
        self.count = 0
        self._keys: list[int] = []  # position of each key frame in the file
        self._key_times: list[int] = []  # its DTS; its PTS if the file had to be read
        #: Where to seek for each key frame, if the file had to be read.
        self._seek_times: list[int] = []
        self._end_time = 0
        #: Presentation times in the order of the file, if the file had to be read.
        self._pts: np.ndarray[Any, Any] | None = None
        self._groups: OrderedDict[int, Group] = OrderedDict()
        #: The group that the demuxer has come to, and its packets.
        self._ahead: tuple[int, Iterator[Any]] | None = None
        if not (_WITH_TABLE in names and self._read_table()):
            self._read_packets()
        if not self._keys or self._keys[0] != 0:
            raise UntrustedIndexError("does not begin with a key frame")
        if not any_start and self.group(0).key_pts != int(self.group(0).pts[0]):
            raise UntrustedIndexError("begins with pictures that lack their reference")

    def _read_table(self) -> bool:
        """Read the sample table; return False if it is not whole, as in a fragmented file."""
        stream = self._stream
        entries = stream.index_entries
        if not stream.frames or len(entries) != stream.frames:
            return False
        dts = np.zeros(len(entries), np.int64)
        for position, entry in enumerate(entries):
            if entry.is_discard:
                raise UntrustedIndexError("an edit list cuts frames away")
            dts[position] = entry.timestamp
            if entry.is_keyframe:
                self._keys.append(position)
        if len(dts) > 1 and int(np.diff(dts).min()) <= 0:
            raise UntrustedIndexError("times that do not increase")
        self._key_times = dts[self._keys].tolist()
        self._end_time = int(dts[-1])
        self.count = len(dts)
        return True

    def _read_packets(self) -> None:
        pts: list[int] = []
        for packet in self._container.demux(self._stream):
            if packet.dts is None and packet.size == 0:
                continue  # the end
            if packet.pts is None or packet.is_discard:
                raise UntrustedIndexError("packets without a time, or cut away")
            if packet.is_keyframe:
                self._keys.append(len(pts))
                self._key_times.append(packet.pts)
                # FFmpeg seeks a fragmented MP4 by decoding time.
                is_mp4 = _WITH_TABLE in self._container.format.name.split(",")
                has_dts = is_mp4 and packet.dts is not None
                self._seek_times.append(packet.dts if has_dts else packet.pts)
            pts.append(packet.pts)
        self._pts = np.asarray(pts, np.int64)
        if len(np.unique(self._pts)) != len(pts):
            raise UntrustedIndexError("two frames of one time")
        self.count = len(pts)

    @property
    def groups(self) -> int:
        return len(self._keys)

    def group_of(self, frame: int) -> int:
        """Return the number of the group that holds a frame."""
        return bisect.bisect_right(self._keys, frame) - 1

    def packets(self, container: Any, group: int) -> Iterator[Any]:
        """Yield the packets of another container of the file, from the key packet of a group on.

        The last one has no data and flushes the decoder.

        Raises:
            UntrustedIndexError: The key packet is not where the index says.
        """
        stream = container.streams.video[0]
        wanted = self._key_times[group]
        # FFmpeg seeks an MP4 by presentation time, which the table lacks. Any time before the next
        # key frame's DTS will do, and landing on an earlier key frame does no harm.
        if self._pts is not None:
            times = [self._seek_times[group]]
        else:
            is_last = group + 1 == self.groups
            following = self._end_time if is_last else self._key_times[group + 1] - 1
            times = [max(following, wanted), wanted]
        yield from packets_from(
            container, stream, wanted, times, by="dts" if self._pts is None else "pts"
        )

    def first(self, group: int) -> int:
        """Return the number of a group's first frame."""
        return self._keys[group]

    def size(self, group: int) -> int:
        """Return how many frames a group has."""
        end = self._keys[group + 1] if group + 1 < len(self._keys) else self.count
        return end - self._keys[group]

    def pts(self, frame: int) -> int:
        """Return the presentation time of a frame, in the stream's time base.

        Raises:
            UntrustedIndexError: The packets around it do not agree with the table.
        """
        group = self.group(self.group_of(frame))
        return int(group.pts[frame - group.first])

    def frame_at(self, pts: int, tolerance: int = 0) -> int | None:
        """Return the number of the frame nearest to a presentation time, if it is near enough."""
        later = bisect.bisect_right(
            range(1, self.groups), pts + tolerance, key=lambda at: int(self.group(at).pts[0])
        )
        nearest = None
        for group in map(self.group, range(max(later - 1, 0), later + 1)):
            at = int(np.abs(group.pts - pts).argmin())
            distance = abs(int(group.pts[at]) - pts)
            if distance <= tolerance and (nearest is None or distance < nearest[0]):
                nearest = distance, group.first + at
        return None if nearest is None else nearest[1]

    def group(self, number: int) -> Group:
        """Return a group with the times of its frames.

        Raises:
            UntrustedIndexError: Its packets do not agree with the table, or are not there.
        """
        group = self._groups.get(number)
        if group is None:
            group = self._groups[number] = self._read_group(number)
            if len(self._groups) > _GROUPS_KEPT:
                self._groups.popitem(last=False)
        else:
            self._groups.move_to_end(number)
        return group

    def _read_group(self, number: int) -> Group:
        first, size = self._keys[number], self.size(number)
        if self._pts is not None:
            pts = self._pts[first : first + size]
        else:
            pts = self._read_times(number, size)
        in_order = np.sort(pts)
        if size > 1 and int(np.diff(in_order).min()) <= 0:
            raise UntrustedIndexError("two frames of one time")
        return Group(first, in_order, int(pts[0]))

    def _read_times(self, number: int, size: int) -> np.ndarray[Any, Any]:
        """Return the presentation times of a group's packets, in the order of the file."""
        if self._ahead is None or self._ahead[0] != number:
            self._ahead = number, self.packets(self._container, number)
        packets = self._ahead[1]
        self._ahead = None
        pts = []
        for packet in itertools.islice(packets, size):
            if packet.pts is None:
                break
            pts.append(packet.pts)
        if len(pts) < size:
            raise UntrustedIndexError("ends before its table does")
        self._ahead = number + 1, packets
        return np.asarray(pts, np.int64)
