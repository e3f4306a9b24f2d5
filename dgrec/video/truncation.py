"""Finds out whether a file was cut off, if its container announces neither frames nor duration."""

from __future__ import annotations

import os
from pathlib import Path

#: MPEG-TS: the size of a packet, and its first byte.
_TS_PACKET = 188
_TS_SYNC = 0x47
#: Variants: with four bytes of time before each packet (Blu-ray, cameras), or 16 of error
#: correction after it.
_TS_TIMED = 192
_TS_STEPS = (_TS_PACKET, _TS_TIMED, 204)
#: How many packets in a row show where they begin.
_TS_SURE = 5
_TAIL_BYTES = 1 << 16
_GIF_END = b";"
_OGG_PAGE = b"OggS"
#: First boxes of MP4 segments, and the longest header of a box.
_MP4_BEGINNINGS = frozenset((b"ftyp", b"styp", b"sidx", b"moof"))
_MP4_HEAD = 16
#: Flag of the last page of a stream.
_OGG_LAST = 4


def is_cut_off(path: Path, container: str) -> bool:
    """Return whether the end of a file shows that it was cut off.

    Args:
        container: FFmpeg's name for its format. Most formats do not show it: False.
    """
    look = {"mpegts": _ts_is_cut, "gif": _gif_is_cut, "ogg": _ogg_is_cut}.get(container)
    if look is None:
        return False
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            return look(file.read())
    except OSError:
        return False


def _ts_is_cut(tail: bytes) -> bool:
    """Return whether the last packet is incomplete.

    Packets are searched from the end: a recording may begin in the middle of one.
    """
    for last in range(len(tail) - 1, max(-1, len(tail) - 1 - max(_TS_STEPS)), -1):
        for step in _TS_STEPS:
            begins = [last - step * count for count in range(_TS_SURE)]
            if begins[-1] >= 0 and all(tail[at] == _TS_SYNC for at in begins):
                rest = len(tail) - last
                return rest < _TS_PACKET or (step == _TS_TIMED and _TS_PACKET < rest < step)
    return False


def _gif_is_cut(tail: bytes) -> bool:
    return not tail.rstrip(b"\0\r\n ").endswith(_GIF_END)


def _ogg_is_cut(tail: bytes) -> bool:
    at = tail.rfind(_OGG_PAGE)
    if at < 0:
        return False
    page = tail[at:]
    sizes = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(sizes) < page[26] or len(page) < 27 + page[26] + sum(sizes):
        return True
    return not page[5] & _OGG_LAST


class EndWatch:
    """Finds out from the bytes of a segment (MPEG-TS or fragmented MP4) whether it was cut off."""

    def __init__(self) -> None:
        self._at = 0
        self._is_begun = False
        self._is_ts = False
        self._is_mp4 = False
        #: MP4: where the next box begins, and what was read of its header.
        self._first_box = self._next_box = 0
        self._head = b""

    def see(self, data: bytes) -> None:
        """Process the next bytes."""
        if not self._is_begun and data:
            self._is_begun = True
            # A segment may be a range of a file.
            self._is_ts = data[-self._at % _TS_PACKET :][:1] == bytes([_TS_SYNC])
            self._is_mp4 = not self._is_ts  # until the first box says otherwise
            self._first_box = self._next_box = self._at
        if self._is_mp4:
            self._follow_boxes(data)
        self._at += len(data)

    def go_to(self, position: int) -> None:
        """Note a seek: the next bytes are those at ``position``."""
        self._at = position
        self._is_mp4 = self._is_mp4 and position == self._next_box and not self._head

    @property
    def is_cut_off(self) -> bool:
        """Return whether the segment was cut off, once all of it was processed."""
        if self._is_ts:
            return self._at % _TS_PACKET != 0
        return self._is_mp4 and (bool(self._head) or self._at < self._next_box)

    def _follow_boxes(self, data: bytes) -> None:
        end = self._at + len(data)
        while self._next_box < end:
            start = self._next_box + len(self._head) - self._at
            self._head += data[start : start + _MP4_HEAD - len(self._head)]
            if len(self._head) < _MP4_HEAD:
                return
            if self._next_box == self._first_box and self._head[4:8] not in _MP4_BEGINNINGS:
                self._is_mp4 = False
                return
            size = int.from_bytes(self._head[:4], "big")
            if size == 1:
                size = int.from_bytes(self._head[8:], "big")
            self._head = b""
            if size < _MP4_HEAD // 2:  # 0: up to the end of the file; else invalid
                self._is_mp4 = False
                return
            self._next_box += size
