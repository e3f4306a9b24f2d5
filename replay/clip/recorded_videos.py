"""The videos that were recorded with a session, as far as a clip has frames of them."""

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

__all__ = ["ClipReport", "RecordedVideo", "recorded_videos"]


@dataclass
class ClipReport:
    """What was written."""

    frames: int
    spans: int
    #: Videos beside the clip, and whether each is a copy of the recorded one, bit by bit.
    videos: list[tuple[Path, bool]] = field(default_factory=list)
    #: What the user should know, a line each.
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RecordedVideo:
    """A video that was recorded, in as many files as the recording has parts."""

    kind: VideoKind
    footage: Footage
    #: By place in the clip: file and number of the frame in it; None where it has none.
    frames: list[tuple[Path, int] | None]
    entry: VideoEntry


def recorded_videos(
    session: Session, rows: ClipRows, report: ClipReport
) -> Iterator[RecordedVideo]:
    """Yield the raw and the annotated video, where the session has them."""
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
