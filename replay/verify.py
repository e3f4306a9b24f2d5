"""Checks whether a session is whole, and whether its metadata is true."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dgrec.errors import DamagedSessionError, DgrecError, ForeignFileError, VideoError
from dgrec.footage import VideoFrames, base_name, difference_of, recorded_video, why_not_there
from dgrec.format import (
    AT_START,
    DROPPED,
    LOSSES,
    RowTotals,
    VideoEntry,
    is_being_written,
    loses_at_start,
    video_entries,
    with_columns,
)
from dgrec.replay.events import damage_events, source_events
from dgrec.session import Session, each_row, open_session
from dgrec.timeline import shown_us
from dgrec.units import counted
from dgrec.video import import_av, open_container

_COUNTS = tuple(LOSSES.values())
_DURATIONS = ("read_ms", "latency_ms", "recorder_ms")
_TIMES = ("captured_at", "completed_at")
_NEVER_NULL = ("frame", "source_frame", *_TIMES, "read_ms", "recorder_ms", *_COUNTS)
#: Times are equal to the microsecond, except that equal stamps were moved by a few.
_SAME_US = 1000
_CHECKED = (*_NEVER_NULL, "latency_ms", "video_frame", "detections")


@dataclass(frozen=True)
class Findings:
    """The results of checking a session, a line each."""

    #: Faults of the session.
    problems: list[str]
    #: Faults of its source, which do not make the session less whole.
    notes: list[str]
    #: Whether it is a session, or may be a damaged one: false for other programs' Parquet.
    is_session: bool = True


def verify(path: Path) -> list[str]:
    """Return the faults of the session at ``path``, a line each; none if it is whole.

    Reads all of it: the checksums of the file and of each page or batch, and the rows.
    """
    return check(path).problems


def check(path: Path) -> Findings:
    """Return the faults of the session at ``path``, and those of its source."""
    try:
        with open_session(path) as session:
            return Findings(list(_problems(session)), list(_source_notes(session)))
    except DgrecError as error:
        problem = _without_path(str(error), path)
        return Findings([problem], [], not isinstance(error, ForeignFileError))


def _source_notes(session: Session) -> Iterator[str]:
    lost = sum(event["lost"] for event in damage_events(source_events(session)))
    if lost:
        frames = counted(lost, "frame")
        yield f"{frames} of its source could not be decoded"
    if session.metadata.get("end_reason") == "incomplete":
        yield f"its source was incomplete: {session.metadata.get('end_detail')}"


def _problems(session: Session) -> Iterator[str]:
    for key in session.odd_metadata:
        yield f"its metadata has an invalid value for {key!r}: left out"
    if session.sealed:
        if not session.has_checksums:
            yield "has no checksums of its own: rewritten by another tool"
        if not session.parts:
            yield from session.damage
    session.check()
    rows = _RowCheck(
        _parts(session),
        of_program=_is_of_program(session),
        is_imported="imported" in session.metadata,
    )
    can_be_restored = True
    for batch in session.batches():
        # Reading all columns checks all pages.
        rows.add(with_columns(batch, _CHECKED))
        if can_be_restored:
            problem = _results(session, batch)
            can_be_restored = problem is None
            yield from filter(None, [problem])
    if session.parts:
        yield from session.damage
        for part in session.parts:
            if not part.ended and _is_left(part.path):
                yield f"part {part.number}: its recorder was cut off (dgrec recover {part.path})"
    elif not session.sealed:
        yield from session.journal.damage
        if session.journal.closing is None and _is_left(session.path):
            yield "its recorder was cut off (dgrec recover seals what is there)"
    # If rows are known to be lost, a jump in the numbers needs no line of its own.
    yield from (text for kind, text in rows.problems if kind != "frame" or not session.damage)
    yield from _totals(session, rows)
    yield from _videos(session, rows)


def _parts(session: Session) -> list[tuple[int, int]]:
    """Return how many rows each part has, and which number its first frame should have."""
    if not session.parts:
        return [(len(session), session.first_frame)]
    found: list[tuple[int, int]] = []
    for before, part in zip((None, *session.parts), session.parts, strict=False):
        follows = before is not None and part.number == before.number + 1
        found.append((part.rows, sum(found[-1]) if follows else part.first_frame))
    return found


def _is_left(journal: Path) -> bool:
    """Return whether a journal is neither being written nor sealed meanwhile."""
    return not is_being_written(journal) and journal.exists()


def _results(session: Session, batch: pa.RecordBatch) -> str | None:
    """Return the problem of the first row whose results cannot be restored."""
    metadata = session.metadata
    for row in each_row(batch):
        try:
            session.restored(row, metadata)
        except DamagedSessionError as error:
            return _without_path(str(error), session.path)
    return None


def _is_of_program(session: Session) -> bool:
    kind: str | None = session.metadata.get("source", {}).get("kind")
    return kind == "program"


class _RowCheck:
    """Checks the rows in order and keeps the first problem of each kind.

    Args:
        parts: How many rows each part has, and the number of its first frame.
        of_program: Whether a program recorded them.
        is_imported: Whether they are from another program's file.
    """

    def __init__(
        self,
        parts: Sequence[tuple[int, int]],
        *,
        of_program: bool = False,
        is_imported: bool = False,
    ) -> None:
        # A program may have several results for one frame: one for each crop.
        self._has_one_result = not (of_program or is_imported)
        # Another program's file does not say when a frame was captured, or what was lost.
        self._never_null = ("frame", "source_frame") if is_imported else _NEVER_NULL
        self._has_latency = not is_imported
        self.frames = 0
        #: Position and number of the first frame of each part.
        self._positions = np.cumsum([0, *(rows for rows, _ in parts[:-1])])
        self._part_starts = np.array([first for _, first in parts])
        #: The video frames of each part's rows.
        self.video_rows = [_VideoRows() for _ in parts]
        self.totals = RowTotals()
        self._last: dict[str, int] = {}
        self._found: dict[str, str] = {}

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Each kind of problem, and the first one of it in words."""
        return list(self._found.items())

    def add(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        self.totals.add(batch)
        self._look_for_gaps(batch)
        frame = _numbers(batch, "frame")
        expected = self._expected(np.arange(len(frame)))
        wrong = np.flatnonzero(np.nan_to_num(frame, nan=-1) != expected)
        if len(wrong):
            row = int(wrong[0])
            number = "NULL" if np.isnan(frame[row]) else int(frame[row])
            self._note("frame", f"row {self.frames + row} has the frame number {number}")
        captured, completed = (_numbers(batch, f"{name}_at") for name in ("captured", "completed"))
        source = _numbers(batch, "source_frame")
        self._increasing("source_frame", source, expected, strictly=self._has_one_result)
        if self._has_one_result:  # a program's own clock may be set back
            self._increasing("captured_at", captured, expected, strictly=False)
        self._increasing("completed_at", completed, expected, strictly=False)
        self._first("completed", completed < captured, "was completed before it was captured")
        if self._has_latency and "latency_ms" in batch.schema.names:
            # A program may add results of unknown capture, which then counts as when they came.
            is_lost = _is_null(batch, ("latency_ms",)) & (captured != completed)
            self._first("latency_ms is null", is_lost, "has no latency_ms")
        is_negative = _any([_numbers(batch, name) < 0 for name in (*_DURATIONS, *_COUNTS)])
        self._first("negative", is_negative, "has a negative count or duration")
        parts = [_numbers(batch, place) for place in DROPPED if place in batch.schema.names]
        if parts:
            unequal = _numbers(batch, "dropped_before") != sum(parts)
            self._first("dropped", unequal & ~_is_null(batch, _COUNTS), "its drops do not add up")
        if "video_frame" in batch.schema.names:
            self._follow_video(batch.column("video_frame"), expected, captured)
        self.frames += batch.num_rows

    def _look_for_gaps(self, batch: pa.RecordBatch) -> None:
        """Note nulls that the recorder never writes: another tool has edited the file."""
        for name in self._never_null:
            if name in batch.schema.names:
                self._first(f"{name} is null", _is_null(batch, (name,)), f"has no {name}")

    def _first(self, kind: str, is_wrong: np.ndarray, text: str) -> None:
        wrong = np.flatnonzero(is_wrong)
        if len(wrong):
            self._note(kind, f"frame {self._expected(wrong[:1])[0]}: {text}")

    def _expected(self, rows: np.ndarray) -> np.ndarray:
        """Return the frame numbers of rows of a batch, by their places in it."""
        positions = self.frames + rows
        # The last part that begins there has them: those before may have no rows.
        part = np.searchsorted(self._positions, positions, side="right") - 1
        numbers: np.ndarray = self._part_starts[part] + positions - self._positions[part]
        return numbers

    def _follow_video(self, column: pa.Array, frame: np.ndarray, captured: np.ndarray) -> None:
        # Video frames are ascending; some may be missing, since their rows were lost before they
        # were written. Each part has a video of its own.
        there = column.is_valid().to_numpy(zero_copy_only=False)
        numbers = column.drop_null().to_numpy(zero_copy_only=False)
        part_of = np.searchsorted(self._part_starts, frame[there], side="right") - 1
        for part in np.unique(part_of):
            of_part = numbers[part_of == part]
            rows = self.video_rows[max(0, part)]
            wrong = np.flatnonzero(np.diff(of_part, prepend=rows.last) <= 0)
            if len(wrong):
                at = int(wrong[0])
                before = of_part[at - 1] if at else rows.last
                self._note("video", f"a row says video frame {of_part[at]} after {before}")
            rows.numbers.append(of_part)
            rows.captured_us.append(captured[there][part_of == part])

    def _increasing(
        self, name: str, values: np.ndarray, frame: np.ndarray, *, strictly: bool
    ) -> None:
        is_known = ~np.isnan(values)
        known = values[is_known]
        if not len(known):
            return
        previous = np.concatenate([[self._last.get(name, -np.inf)], known[:-1]])
        wrong = np.flatnonzero(known <= previous if strictly else known < previous)
        if len(wrong):
            self._note(name, f"frame {frame[is_known][wrong[0]]}: {name} steps back")
        self._last[name] = known[-1]

    def _note(self, kind: str, text: str) -> None:
        self._found.setdefault(kind, text)


class _VideoRows:
    """The video frames of a part's rows, and when they were captured."""

    def __init__(self) -> None:
        self.numbers: list[np.ndarray] = []
        self.captured_us: list[np.ndarray] = []

    @property
    def last(self) -> int:
        """The last video frame of a row; -1 if there is none."""
        return int(self.numbers[-1][-1]) if self.numbers else -1

    def numbers_below(self, count: int) -> np.ndarray:
        numbers = np.concatenate(self.numbers) if self.numbers else np.zeros(0, np.int64)
        return numbers[numbers < count]

    def problem(self, times_us: np.ndarray, *, is_kept: bool) -> str:
        """Return how the video's times differ from those of the rows; "" if they do not."""
        if not self.numbers:
            return ""
        numbers, captured = np.concatenate(self.numbers), np.concatenate(self.captured_us)
        is_known = (numbers >= 0) & (numbers < len(times_us)) & ~np.isnan(captured)
        numbers, captured = numbers[is_known], captured[is_known]
        if not len(numbers):
            return ""
        if not is_kept:
            captured = shown_us(captured)
        expected = captured - captured[0] + times_us[numbers[0]]
        wrong = np.flatnonzero(np.abs(times_us[numbers] - expected) > _SAME_US)
        if not len(wrong):
            return ""
        at = int(wrong[0])
        more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
        return (
            f"shows frame {numbers[at]} at {times_us[numbers[at]] / 1e6:.6f} s instead of "
            f"{expected[at] / 1e6:.6f} s{more}"
        )


def _numbers(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """Return a column as floats, stamps in microseconds; NaN for nulls and a missing column."""
    if name not in batch.schema.names:
        return np.full(batch.num_rows, np.nan)
    column = batch.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    # Counts, and microseconds of this century, are less than 2^53: floats are exact.
    values: np.ndarray = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def _is_null(batch: pa.RecordBatch, names: Sequence[str]) -> np.ndarray:
    there = [name for name in names if name in batch.schema.names]
    return _any([~np.isfinite(_numbers(batch, name)) for name in there])


def _any(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Return where at least one of the masks is true."""
    found: np.ndarray = np.logical_or.reduce(masks)
    return found


#: Totals whose name in a sentence differs.
_TOTALS = {
    "dropped_camera": "dropped by the camera",
    "dropped_queue": "dropped by the queue",
    "dropped_writer": "dropped by the writer",
    "dropped_at_start": "dropped while the model started",
    "dropped_camera_at_start": "dropped by the camera while the model started",
    "dropped_queue_at_start": "dropped by the queue while the model started",
    "dropped_writer_at_start": "dropped by the writer while the model started",
}


def _totals(session: Session, rows: _RowCheck) -> Iterator[str]:
    totals = session.metadata.get("totals", {})
    for name, count in rows.totals.to_dict(session.metadata).items():
        said = totals.get(name)
        if said is None or said == count:
            continue
        if name in AT_START and not loses_at_start(session.metadata):
            continue  # older recorders counted frames of footage as lost there
        # The recorder also counts losses after the last row.
        is_its_own = session.has_checksums or not session.sealed
        if name in LOSSES and is_its_own and isinstance(said, int) and said > count:
            continue
        yield f"its metadata says {said} {_TOTALS.get(name, name)}, but there are {count}"


def _videos(session: Session, rows: _RowCheck) -> Iterator[str]:
    of_parts = [part.metadata for part in session.parts] if session.parts else [session.metadata]
    for metadata, of_part in zip(of_parts, rows.video_rows, strict=True):
        for video in video_entries(metadata):
            yield from _video_problems(session.path.parent, video, of_part, "clip" in metadata)


def _video_problems(
    folder: Path, video: VideoEntry, rows: _VideoRows, is_clip: bool
) -> Iterator[str]:
    """Yield the faults of one video; ``rows`` are those with its frames."""
    name = base_name(video.get("file"))
    path = recorded_video(folder, video)
    if path is None:
        yield f"its video {name} {why_not_there(folder, video)}"
        return
    if video.get("sha256") is not None and difference_of(path, {"sha256": video["sha256"]}):
        yield f"its video {name} is not the one that was recorded"
        return
    if video.get("frames") is None and video.get("size") is None:
        return  # it is being recorded, or its recorder was cut off
    is_kept = video.get("packets") == "kept"
    # After a torn end there are packets that no row may name.
    count = _frames_in(path) if not is_kept else min(_packets_in(path), video.get("frames", 0))
    if video.get("frames") is not None and count != video["frames"]:
        yield f"its video {name} has {count} frames instead of {video['frames']}"
    elif rows.last >= count and "problem" not in video:
        yield f"its video {name} has {count} frames, but a row says video frame {rows.last}"
    elif not is_clip:  # a clip closes gaps
        times_us = _times_us(path)
        times_us = times_us[:count] if is_kept else times_us
        if len(times_us) == count and (problem := rows.problem(times_us, is_kept=is_kept)):
            yield f"its video {name} {problem}"
        elif is_kept and (lacking := _missing_pictures(path, rows.numbers_below(count))):
            yield f"its video {name}: frame {lacking[0]} cannot be decoded"


def _packets_in(path: Path) -> int:
    """Return how many packets a video of kept packets has; 0 if it is not one."""
    try:
        with contextlib.closing(VideoFrames(path, kept=True)) as frames:
            return frames.length or 0
    except VideoError:
        return 0


def _missing_pictures(path: Path, numbers: np.ndarray) -> list[int]:
    """Return which of the frames of a video of kept packets cannot be decoded."""
    with contextlib.closing(VideoFrames(path, kept=True)) as frames:
        return [int(number) for number in numbers if not frames.has(int(number))]


def _frames_in(path: Path) -> int:
    """Return how many frames of a video can be decoded; 0 if it is not a video."""
    try:
        with contextlib.closing(VideoFrames(path)) as frames:
            frames.count_frames()  # by decoding, not by the index
            frames.read(sys.maxsize)  # past any end, which makes the length known
            return frames.length or 0
    except VideoError:
        return 0


def _times_us(path: Path) -> np.ndarray:
    """Return the times of a video's pictures in microseconds, as far as it can be read."""
    times: list[int] = []
    with (
        contextlib.suppress(VideoError, IndexError, OSError, import_av().FFmpegError),
        open_container(path, path.name) as container,
    ):
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None:
                times.append(round(packet.pts * stream.time_base * 1_000_000))
    return np.array(sorted(times), np.float64)


def _without_path(text: str, path: Path) -> str:
    return text.removeprefix(f"{path}: ")
