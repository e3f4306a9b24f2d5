"""Whether a session is whole, and whether what it says of itself is true."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dgrec.errors import DgrecError, VideoError
from dgrec.journal import is_being_written
from dgrec.session import Session, open_session
from replay.events import damage_events, source_events
from replay.footage.video import Clip

__all__ = ["Findings", "check", "verify"]

_CHECKED = (
    "frame",
    "source_frame",
    "captured_at",
    "completed_at",
    "dropped_before",
    "dropped_camera",
    "dropped_queue",
    "dropped_writer",
    "video_frame",
    "detections",
)


@dataclass(frozen=True)
class Findings:
    """What checking a session has found, a line each."""

    #: What is wrong with the session.
    problems: list[str]
    #: What was wrong with its source: the session is whole, the footage was not.
    notes: list[str]


def verify(path: Path) -> list[str]:
    """Return one line for each thing that is wrong with the session at ``path``; none if whole.

    Reads all of it: checksums of the file, of each page or batch, and the rows themselves.
    """
    return check(path).problems


def check(path: Path) -> Findings:
    """Return what is wrong with the session at ``path``, and what was with its source."""
    try:
        with open_session(path) as session:
            return Findings(list(_problems(session)), list(_source_notes(session)))
    except DgrecError as error:
        return Findings([_without_path(str(error), path)], [])


def _source_notes(session: Session) -> Iterator[str]:
    lost = sum(event["lost"] for event in damage_events(source_events(session)))
    if lost:
        frames = "1 frame" if lost == 1 else f"{lost:,} frames"
        yield f"{frames} of its source could not be decoded"
    if session.metadata.get("end_reason") == "incomplete":
        yield f"its source was incomplete: {session.metadata.get('end_detail')}"


def _problems(session: Session) -> Iterator[str]:
    if session.sealed:
        if not session.has_checksums:
            yield "has no checksums of its own: rewritten by another tool"
        if not session.parts:
            yield from session.damage
    starts = [part.first_frame for part in session.parts] if session.parts else []
    rows = _RowCheck(session.first_frame, starts)
    for batch in session.batches():
        # Decoding every column is what checks its pages.
        rows.add(batch.select([name for name in _CHECKED if name in batch.schema.names]))
    if session.parts:
        yield from session.damage
        for part in session.parts:
            if not part.ended and not is_being_written(part.path):
                yield f"part {part.number}: its recorder was cut off (dgrec recover {part.path})"
    elif not session.sealed:
        yield from session.journal.damage
        if session.journal.closing is None and not is_being_written(session.path):
            yield "its recorder was cut off (dgrec recover seals what is there)"
    # Where rows are known to be lost, a jump in the numbering is no news.
    yield from (text for kind, text in rows.problems if kind != "frame" or not session.damage)
    yield from _totals(session, rows)
    yield from _videos(session, rows)


class _RowCheck:
    """Goes through the rows in order and keeps the first problem of each kind."""

    def __init__(self, first_frame: int = 0, part_starts: Sequence[int] = ()) -> None:
        self._first_frame = first_frame
        self.frames = 0
        self.detections = 0
        #: The last video frame that a row of each part names; -1 where none does.
        self.last_video_frames = [-1] * max(1, len(part_starts))
        self._part_starts = part_starts or (first_frame,)
        self._last: dict[str, int] = {}
        self._found: dict[str, str] = {}

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Each kind of problem, and the first of it in words."""
        return list(self._found.items())

    def add(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        frame = _integers(batch, "frame")
        start = self._first_frame + self.frames
        expected = np.arange(start, start + len(frame))
        wrong = np.flatnonzero(frame != expected)
        if len(wrong):
            row = int(wrong[0])
            self._note("frame", f"row {self.frames + row} has the frame number {frame[row]}")
        self._increasing("source_frame", _integers(batch, "source_frame"), frame, strictly=True)
        self._increasing("captured_at", _integers(batch, "captured_at"), frame, strictly=False)
        late = np.flatnonzero(_integers(batch, "completed_at") < _integers(batch, "captured_at"))
        if len(late):
            self._note("completed", f"frame {frame[late[0]]} was completed before it was captured")
        parts = [
            _integers(batch, f"dropped_{place}")
            for place in ("camera", "queue", "writer")
            if f"dropped_{place}" in batch.schema.names
        ]
        if parts:
            unequal = np.flatnonzero(_integers(batch, "dropped_before") != sum(parts))
            if len(unequal):
                self._note("dropped", f"frame {frame[unequal[0]]}: the drops do not add up")
        if "video_frame" in batch.schema.names:
            self._follow_video(batch.column("video_frame"), frame)
        self.frames += batch.num_rows
        self.detections += len(batch.column("detections").flatten())

    def _follow_video(self, column: pa.Array, frame: np.ndarray) -> None:
        # Rows of frames in the video name them in their order. A number may be missing: its row
        # was lost in front of the disk. Each part has a video of its own.
        there = column.is_valid().to_numpy(zero_copy_only=False)
        numbers = column.drop_null().to_numpy(zero_copy_only=False)
        part_of = np.searchsorted(self._part_starts, frame[there], side="right") - 1
        for part in np.unique(part_of):
            of_part = numbers[part_of == part]
            last = self.last_video_frames[max(0, part)]
            wrong = np.flatnonzero(np.diff(of_part, prepend=last) <= 0)
            if len(wrong):
                at = int(wrong[0])
                before = of_part[at - 1] if at else last
                self._note("video", f"a row says video frame {of_part[at]} after {before}")
            self.last_video_frames[max(0, part)] = int(of_part[-1])

    def _increasing(
        self, name: str, values: np.ndarray, frame: np.ndarray, *, strictly: bool
    ) -> None:
        previous = np.concatenate([[self._last.get(name, np.iinfo(np.int64).min)], values[:-1]])
        wrong = np.flatnonzero(values <= previous if strictly else values < previous)
        if len(wrong):
            self._note(name, f"frame {frame[wrong[0]]}: {name} steps back")
        self._last[name] = int(values[-1])

    def _note(self, kind: str, text: str) -> None:
        self._found.setdefault(kind, text)


def _integers(batch: pa.RecordBatch, name: str) -> np.ndarray:
    column = batch.column(name)
    values: np.ndarray = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return values


def _totals(session: Session, rows: _RowCheck) -> Iterator[str]:
    totals = session.metadata.get("totals", {})
    for name, counted in (("frames", rows.frames), ("detections", rows.detections)):
        said = totals.get(name)
        if said is not None and said != counted:
            yield f"its metadata says {said} {name}, but there are {counted}"


def _videos(session: Session, rows: _RowCheck) -> Iterator[str]:
    of_parts = [part.metadata for part in session.parts] if session.parts else [session.metadata]
    for metadata, last in zip(of_parts, rows.last_video_frames, strict=True):
        for video in metadata.get("video", []):
            yield from _video_problems(session.path.parent, video, last)


def _video_problems(folder: Path, video: dict[str, Any], last: int) -> Iterator[str]:
    """Yield what is wrong with one video; ``last`` is the last of its frames that a row names."""
    name = video["file"]
    path = folder / name
    if not path.is_file():
        yield f"its video {name} is gone"
        return
    if "sha256" in video and _sha256(path) != video["sha256"]:
        yield f"its video {name} is not the one that was recorded"
        return
    if "frames" not in video and "size" not in video:
        return  # it is being recorded, or was when the recorder was cut off
    count = _frames_in(path)
    if count != video.get("frames", count):
        yield f"its video {name} has {count} frames instead of {video['frames']}"
    elif last >= count and "problem" not in video:
        yield f"its video {name} has {count} frames, but a row says video frame {last}"


def _frames_in(path: Path) -> int:
    """Return how many frames of a video can be decoded; 0 if it is none."""
    try:
        clip = Clip(path)
    except VideoError:
        return 0
    try:
        clip.count_frames()  # what its index promises is not what is being asked
        clip.read(sys.maxsize)  # past any end: now the length is known
        return clip.length or 0
    finally:
        clip.close()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without_path(text: str, path: Path) -> str:
    return text.removeprefix(f"{path}: ")
