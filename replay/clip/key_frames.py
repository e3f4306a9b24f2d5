"""The frames of recorded videos at which a clip can begin without being encoded again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgrec.errors import VideoError
from dgrec.footage import recorded_video
from dgrec.format import video_entries
from dgrec.replay.clip.kept_packets import KeptFile
from dgrec.replay.clip.packets import Packets
from dgrec.session import Session
from dgrec.video import import_av


@dataclass(frozen=True)
class _Video:
    """A recorded video, and the rows of its part, by position."""

    path: Path
    is_kept: bool
    #: Whether the recorder has not ended it yet, by the session's metadata.
    is_open: bool
    start: int
    end: int


def from_key_frame(session: Session, start: int) -> int:
    """Return the last row at or before ``start`` at which every video of its part can be cut.

    ``start`` itself if there is none.
    """
    videos = [video for video in _videos(session) if video.start <= start < video.end]
    if not videos:
        return start
    keys = set.intersection(*map(_keys, videos))
    rows = _video_frames(session, videos[0].start, start + 1)
    return next((row for row, number in reversed(rows) if number in keys), start)


def has_pictures(session: Session, start: int, end: int) -> bool:
    """Return whether all pictures of rows are on the disk while a recording goes on.

    They are encoded and written in another thread than the rows.
    """
    for video in _videos(session):
        if video.is_open and start < video.end and video.start < end:
            rows = _video_frames(session, max(start, video.start), min(end, video.end))
            if rows and rows[-1][1] >= _length(video):
                return False
    return True


def _videos(session: Session) -> Iterator[_Video]:
    folder, start = session.place.parent, 0
    members = [(part.metadata, part.rows) for part in session.parts]
    for metadata, rows in members or [(session.metadata, len(session))]:
        for entry in video_entries(metadata):
            if (path := recorded_video(folder, entry)) is not None:
                is_kept = entry.get("packets") == "kept"
                is_open = entry.get("frames") is None
                yield _Video(path, is_kept, is_open, start, start + rows)
        start += rows


def _video_frames(session: Session, start: int, end: int) -> list[tuple[int, int]]:
    """Return the positions of the rows that are in the video, and their numbers there."""
    if "video_frame" not in session.schema.names:
        return []
    found, place = [], start
    for batch in session.batches(["video_frame"], start, end):
        numbers = batch.column(0).to_pylist()
        found += [(row, n) for row, n in enumerate(numbers, place) if n is not None]
        place += batch.num_rows
    return found


def _keys(video: _Video) -> set[int]:
    try:
        if video.is_kept:
            file = KeptFile(video.path)
            numbers = np.argsort(file.packets, kind="stable")  # of each packet
            return {int(numbers[start]) for start in file.starts}
        return {number for number, is_key in enumerate(Packets(video.path).keys) if is_key}
    except (OSError, VideoError, import_av().FFmpegError):
        return set()


def _length(video: _Video) -> int:
    """Return how many pictures of a file that is still growing have their final numbers."""
    try:
        return KeptFile(video.path).certain if video.is_kept else len(Packets(video.path).keys)
    except (OSError, VideoError, import_av().FFmpegError):
        return 0
