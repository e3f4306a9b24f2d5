"""Pictures of a source that could not be decoded."""

from __future__ import annotations

from typing import Any

from dgrec.video.packets import MOST_IN_DECODER

#: Codecs whose packets show one picture each (unless it is interlaced): a packet whose picture
#: never comes out was lost, even if the decoder reports no error.
_ONE_PICTURE_A_PACKET = frozenset(("h264", "hevc", "av1", "libdav1d", "vp9", "libvpx-vp9"))


class Losses:
    """Counts the packets that never became a picture.

    For some packets a decoder raises an error; others it drops without one, such as H.264 pictures
    whose reference is missing. Those are found by comparing the stamps of packets and pictures.
    """

    def __init__(self, codec: str) -> None:
        self._matches = codec in _ONE_PICTURE_A_PACKET
        #: Stamps of packets whose picture has not come out. Where stamps begin again, as in joined
        #: files, another dictionary begins.
        self._waiting: list[dict[int, int]] = [{}]
        self._latest: int | None = None  # the latest of these stamps since they began
        self._failed: list[int | None] = []  # stamps of packets that raised errors
        self._lost = 0
        self._has_stamps = False

    def expect(self, packet: Any) -> None:
        """Note a packet that goes into the decoder."""
        if packet.pts is None or not self._matches or packet.is_discard:
            return
        self._has_stamps = True
        if packet.is_keyframe and self._latest is not None and packet.pts < self._latest:
            self._waiting.append({})
            self._latest = None
        waiting = self._waiting[-1]
        waiting[packet.pts] = waiting.get(packet.pts, 0) + 1
        self._latest = packet.pts if self._latest is None else max(self._latest, packet.pts)
        if sum(map(len, self._waiting)) > MOST_IN_DECODER:
            self._give_up()

    def failed(self, packet: Any) -> None:
        """Note that the decoder raised an error for a packet."""
        if not self._matches or packet.pts is None:
            self._failed.append(packet.pts)

    def before(self, frame: Any) -> int:
        """Return how many pictures are missing before one that has come out."""
        pts, count = frame.pts, 0
        if self._matches and self._has_stamps:
            while len(self._waiting) > 1 and pts not in self._waiting[0]:
                if not any(pts in later for later in self._waiting):
                    break
                count += sum(self._waiting.pop(0).values())
            waiting = self._waiting[0]
            if frame.interlaced_frame or pts not in waiting:
                count = 0
                self._give_up()  # two packets may be the two fields of one picture
            else:
                waiting[pts] -= 1
                if not waiting[pts]:
                    del waiting[pts]
        waiting = self._waiting[0]
        gone = [stamp for stamp in waiting if pts is not None and stamp < pts]
        count += sum(waiting.pop(stamp) for stamp in gone)
        later: list[int | None] = [
            s for s in self._failed if s is not None and pts is not None and s > pts
        ]
        count += len(self._failed) - len(later)
        self._failed = later
        self._lost += count
        return count

    def at_end(self, packets: int, pictures: int) -> int:
        """Return how many pictures are missing after the last that came out."""
        left = sum(sum(each.values()) for each in self._waiting) + len(self._failed)
        if self._matches and not self._has_stamps:
            return max(left, packets - pictures - self._lost)
        return left

    def _give_up(self) -> None:
        self._matches = False
        self._waiting = [{}]
