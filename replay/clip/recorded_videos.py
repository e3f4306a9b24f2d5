"""The recorded videos that a clip has frames of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dgrec.footage import Footage, find_recorded
from dgrec.format import VideoEntry, video_entries
from dgrec.paths import VIDEO_SUFFIXES, VideoKind
from dgrec.replay.clip.rows import ClipRows
from dgrec.session import Session
from dgrec.units import counted


@dataclass
class ClipReport:
    """The contents of a clip, and what the user should know about it."""

    frames: int
    spans: int
    #: Videos beside the clip, and whether each is a copy, bit by bit.
    videos: list[tuple[Path, bool]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RecordedVideo:
    """A recorded video: one file for each part of the recording."""

    kind: VideoKind
    footage: Footage
    #: File and number of each frame of the clip; None if it is not in the video.
    frames: list[tuple[Path, int] | None]
    entry: VideoEntry


def recorded_videos(
    session: Session, rows: ClipRows, report: ClipReport
) -> Iterator[RecordedVideo]:
    """Yield the raw and the annotated video, if the session has them."""
    if "video_frame" not in rows.facts.schema.names:
        return
    numbers = rows.facts["video_frame"].to_pylist()
    for kind in VIDEO_SUFFIXES:
        footage, lacking = find_recorded(session, kind)
        frames: list[tuple[Path, int] | None] = [None] * rows.count
        gone = 0
        for place, (frame, number) in enumerate(zip(rows.from_frames, numbers, strict=True)):
            if number is None:
                continue
            path = None if footage is None else footage.part_with(frame).path
            if path is None:
                gone += 1
            else:
                frames[place] = path, number
        if lacking and gone:
            of_clip = counted(gone, "frame", "of the clip is", "of the clip are")
            report.notes.append(f"{lacking}: {of_clip} not in its {kind} video")
        if footage is not None and any(frame is not None for frame in frames):
            yield RecordedVideo(kind, footage, frames, video_entries(session.metadata, kind)[0])
