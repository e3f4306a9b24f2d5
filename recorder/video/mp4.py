"""A recorded video, read back: its digest, its frames, and a torn end, which is removed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dgrec.errors import VideoError
from dgrec.video import import_av


def digest(path: Path) -> str:
    """Force a video to the disk and return its SHA-256."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def drop_torn_end(path: Path) -> None:
    """Cut an MP4 that lost its writer after its last complete fragment.

    Players differ in what they make of half a picture.

    Raises:
        OSError: The file cannot be read or cut.
    """
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        whole = _whole_boxes(file, size)
        if whole < size:
            os.ftruncate(file.fileno(), whole)


def _whole_boxes(file: BinaryIO, size: int) -> int:
    """Return where the complete boxes of an MP4 end, not counting a `moof` at their end."""
    position = end = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length, kind = struct.unpack_from(">I4s", head)
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
        if length < 8 or position + length > size:
            break
        position += length
        if kind != b"moof":
            end = position
    return end


def frame_stamps(path: Path) -> list[int]:
    """Return the time of each frame that can be decoded, in microseconds from the first.

    Only the packets after the last key frame are decoded: that is where a video that lost its
    writer may be torn.

    Raises:
        VideoError: The file is not a video.
    """
    with _opened(path) as (container, stream):
        stamps: list[int] = []
        last: list[Any] = []
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_corrupt:
                continue
            if packet.pts is None:  # as in a stream without a container: not the recorder's
                continue
            if packet.is_keyframe:
                last = []
            last.append(packet)
            stamps.append(round(packet.pts * packet.time_base * 1_000_000))
        decoded = 0
        with contextlib.suppress(import_av().FFmpegError):
            for packet in [*last, None]:
                decoded += len(stream.decode(packet))
        return sorted(stamps)[: len(stamps) - len(last) + decoded]


def frame_size(path: Path) -> tuple[int, int]:
    """Return width and height of a video. Raises VideoError if it is not one."""
    with _opened(path) as (_, stream):
        return int(stream.width), int(stream.height)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    av = import_av()
    try:
        # An absolute path cannot be taken for a URL.
        with av.open(str(path.absolute())) as container:
            yield container, container.streams.video[0]
    except (av.FFmpegError, IndexError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"{path}: cannot be read as a video: {reason}") from None
