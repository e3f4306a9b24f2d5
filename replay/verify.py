"""Whether a session is whole, and whether what it says of itself is true."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa

from dgrec.casting import with_columns
from dgrec.errors import DamagedSessionError, DgrecError, VideoError
from dgrec.journal import is_being_written
from dgrec.recorded_file import rows_of
from dgrec.session import Session, open_session
from replay.footage.video import Clip

__all__ = ["verify"]

_ROWS_AT_ONCE = 256
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


_DROPS = ("dropped_before", "dropped_camera", "dropped_queue", "dropped_writer")
_NEVER_NULL = ("source_frame", "captured_at", "completed_at", *_DROPS)


def verify(path: Path) -> list[str]:
    """Return one line for each thing that is wrong with the session at ``path``; none if whole.

    Reads all of it: checksums of the file, of each page or batch, and the rows themselves.
    """
    try:
        with open_session(path) as session:
            return list(_problems(session))
    except DgrecError as error:
        return [_without_path(str(error), path)]


def _problems(session: Session) -> Iterator[str]:
    for key in session.odd_metadata:
        yield f"its metadata has something else than it should under {key!r}: left out"
    if session.sealed:
        if not session.has_checksums:
            yield "has no checksums of its own: rewritten by another tool"
        if not session.parts:
            yield from session.damage
    starts = [part.first_frame for part in session.parts] if session.parts else []
    rows = _RowCheck(session.first_frame, starts)
    for batch in session.batches():
        # Decoding every column is what checks its pages.
        rows.add(with_columns(batch, _CHECKED))
        yield from _results(session, batch)
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


def _results(session: Session, batch: pa.RecordBatch) -> Iterator[str]:
    """Yield what is wrong with the first row whose results cannot be given back."""
    metadata = session.metadata
    for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
        for row in rows_of(batch.slice(start, _ROWS_AT_ONCE)):
            try:
                session.restored(row, metadata)
            except DamagedSessionError as error:
                yield _without_path(str(error), session.path)
                return


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
        for name in _NEVER_NULL:
            if batch.column(name).null_count:
                row = int(np.flatnonzero(batch.column(name).is_null().to_numpy(False))[0])
                self._note(f"no {name}", f"frame {frame[row]} has no {name}")
        known = {
            name: _integers(batch, name)
            for name in _NEVER_NULL
            if not batch.column(name).null_count
        }
        if "source_frame" in known:
            self._increasing("source_frame", known["source_frame"], frame, strictly=True)
        if "captured_at" in known:
            self._increasing("captured_at", known["captured_at"], frame, strictly=False)
        if {"captured_at", "completed_at"} <= set(known):
            late = np.flatnonzero(known["completed_at"] < known["captured_at"])
            if len(late):
                text = f"frame {frame[late[0]]} was completed before it was captured"
                self._note("completed", text)
        if set(_DROPS) <= set(known):
            total, *places = (known[name] for name in _DROPS)
            unequal = np.flatnonzero(total != sum(places))
            if len(unequal):
                self._note("dropped", f"frame {frame[unequal[0]]}: the drops do not add up")
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
    name = PurePath(str(video.get("file"))).name  # beside the session, whatever it says
    path = folder / name
    if not path.is_file():
        yield f"its video {name} is gone"
        return
    if video.get("sha256") is not None and _sha256(path) != video["sha256"]:
        yield f"its video {name} is not the one that was recorded"
        return
    if video.get("frames") is None and video.get("size") is None:
        return  # it is being recorded, or was when the recorder was cut off
    count = _frames_in(path)
    if video.get("frames") is not None and count != video["frames"]:
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
