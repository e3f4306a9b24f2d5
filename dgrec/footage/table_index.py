"""The times of an MP4's pictures, read only for the stretches that are asked for."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np

from dgrec.footage.frame_index import UntrustedIndexError, packets_from

_GROUPS_KEPT = 256


class TableIndex:
    """The pictures of an MP4 by number, with their times; its table is not read as a whole.

    It agrees with `FrameIndex`, which needs all key frames: that takes a fifth of a second and more
    for the million pictures of ten hours.

    Args:
        container: An open PyAV container, for this index alone.
        any_start: As for `FrameIndex`.

    Raises:
        UntrustedIndexError: There is no such table, or it contradicts itself.
    """

    def __init__(self, container: Any, *, any_start: bool = False) -> None:
        if "mp4" not in container.format.name.split(",") or len(container.streams.video) != 1:
            raise UntrustedIndexError("not an MP4 with one video")
        self._container = container
        self._stream = container.streams.video[0]
        self._entries = self._stream.index_entries
        self.count = len(self._entries)
        if not self.count or self.count != self._stream.frames:
            raise UntrustedIndexError("its table is not whole")
        #: Times of the pictures from one key frame to before the next, by the number of the first.
        self._groups: OrderedDict[int, np.ndarray[Any, Any]] = OrderedDict()
        #: The group that the demuxer has come to, and its packets.
        self._ahead: tuple[int, Iterator[Any]] | None = None
        first = self._group(0)
        if not any_start and self._first_of_file != int(first[0]):
            raise UntrustedIndexError("begins with pictures that lack their reference")

    def pts(self, frame: int) -> int:
        """Return the presentation time of a frame, in the stream's time base.

        Raises:
            UntrustedIndexError: The packets around it do not agree with the table.
        """
        if not 0 <= frame < self.count:
            raise IndexError(frame)
        first = self._first(frame)
        return int(self._group(first)[frame - first])

    def frame_at(self, pts: int, tolerance: int = 0) -> int | None:
        """Return the number of the frame nearest to a presentation time, if it is near enough."""
        # The table is in the order of decoding, at most a few pictures away.
        near = self._entries.search_timestamp(pts, backward=True, any_frame=True)
        first = self._first(min(max(near, 0), self.count - 1))
        firsts = [first]
        if first > 0:
            firsts.insert(0, self._first(first - 1))
        if (end := self._end(first)) < self.count:
            firsts.append(end)
        nearest = None
        for each in firsts:
            times = self._group(each)
            at = int(np.abs(times - pts).argmin())
            distance = abs(int(times[at]) - pts)
            if distance <= tolerance and (nearest is None or distance < nearest[0]):
                nearest = distance, each + at
        return None if nearest is None else nearest[1]

    def _first(self, frame: int) -> int:
        """Return the number of the key frame that a frame belongs to."""
        found: int = self._entries.search_timestamp(self._entries[frame].timestamp, backward=True)
        if not 0 <= found <= frame:
            raise UntrustedIndexError("no key frame before a picture")
        return found

    def _end(self, first: int) -> int:
        """Return the number of the key frame after one; the number of frames if there is none."""
        after = self._entries[first].timestamp + 1
        found: int = self._entries.search_timestamp(after, backward=False)
        return found if found > first else self.count

    def _group(self, first: int) -> np.ndarray[Any, Any]:
        if first in self._groups:
            self._groups.move_to_end(first)
            return self._groups[first]
        found = self._groups[first] = self._read_group(first, self._end(first))
        if len(self._groups) > _GROUPS_KEPT:
            self._groups.popitem(last=False)
        return found

    def _read_group(self, first: int, end: int) -> np.ndarray[Any, Any]:
        entries = [self._entries[at] for at in range(first, end)]
        if any(entry.is_discard for entry in entries):
            raise UntrustedIndexError("an edit list cuts frames away")
        stamps = [entry.timestamp for entry in entries]
        if any(after <= before for before, after in itertools.pairwise(stamps)):
            raise UntrustedIndexError("times that do not increase")
        if self._ahead is None or self._ahead[0] != first:
            following = self._entries[end].timestamp - 1 if end < self.count else stamps[-1]
            self._ahead = first, self._packets(stamps[0], max(following, stamps[0]))
        packets = self._ahead[1]
        self._ahead = None
        found = [packet.pts for packet in itertools.islice(packets, end - first)]
        if len(found) < end - first or None in found:
            raise UntrustedIndexError("ends before its table does")
        self._ahead = end, packets
        if first == 0:
            self._first_of_file = found[0]
        times = np.sort(np.asarray(found, np.int64))
        if len(times) > 1 and int(np.diff(times).min()) <= 0:
            raise UntrustedIndexError("two frames of one time")
        return times

    def _packets(self, wanted: int, latest: int) -> Iterator[Any]:
        """Yield the packets from a key packet on.

        Args:
            latest: A time at which that is still the last key packet; FFmpeg seeks an MP4 by
                presentation time, which the table lacks.
        """
        return packets_from(self._container, self._stream, wanted, (latest, wanted), by="dts")
