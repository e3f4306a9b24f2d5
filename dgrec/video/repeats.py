"""Pictures that a live playlist gives again."""

from __future__ import annotations

import zlib
from typing import Any

from dgrec.video.packets import MOST_IN_DECODER

#: How many pictures are remembered: those of the last three segments come again.
_MOST_KNOWN = 8192


class Repeats:
    """Recognizes the pictures of a playlist that goes on, by their stamps and by what was decoded.

    When such a playlist is opened again, FFmpeg begins with its last segments: pictures that the
    earlier reader gave must be left out.
    """

    def __init__(self) -> None:
        self._given: dict[tuple[int, int], None] = {}
        #: The last picture of the earlier reader, up to which they are left out.
        self._until: tuple[int, int] | None = None
        self._checksums: dict[int, int] = {}  # of packets whose picture has not come out

    def follow(self, earlier: Repeats) -> None:
        """Leave out what an earlier reader of the same playlist gave."""
        if earlier._given:
            self._given = earlier._given
            self._until = next(reversed(self._given))

    def note(self, packet: Any) -> None:
        """Note a packet that goes into the decoder."""
        if packet.pts is None:
            return
        self._checksums[packet.pts] = zlib.crc32(packet)
        if len(self._checksums) > MOST_IN_DECODER:
            del self._checksums[next(iter(self._checksums))]

    def has(self, frame: Any) -> bool:
        """Return whether a picture was given before; note that it is given now if not."""
        checksum = None if frame.pts is None else self._checksums.pop(frame.pts, None)
        if checksum is None:
            return False
        mark = frame.pts, checksum
        if self._until is not None and mark in self._given:
            if mark == self._until:  # from here on, an equal picture is a new one
                self._until = None
            return True
        self._until = None
        self._given.pop(mark, None)
        self._given[mark] = None
        if len(self._given) > _MOST_KNOWN:
            del self._given[next(iter(self._given))]
        return False
