"""Finds a session's pixels: the file that it was recorded from, or a video beside it."""

from __future__ import annotations

import bisect
import contextlib
import datetime as dt
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec import sample
from dgrec.errors import VideoError
from dgrec.footage.recorded_files import (
    base_name,
    difference_of,
    may_open,
    recorded_files,
    recorded_video,
    source_paths,
    why_not_there,
)
from dgrec.footage.video_frames import VideoFrames
from dgrec.format import video_entries
from dgrec.timeline import shown_us
from dgrec.units import and_more
from dgrec.video import named_files

if TYPE_CHECKING:
    from dgrec.session import Session

#: Rows whose times show whether a changed video belongs to the session.
_SAMPLES = 16


@dataclass(frozen=True)
class Footage:
    """The video with a session's pixels."""

    #: The video; None: there is none, and frames are drawn on a blank canvas.
    path: Path | None
    #: The column with the number of each row's frame in the video.
    column: Literal["source_frame", "video_frame"] = "source_frame"
    #: Whether the recording repeated the file, with frame numbers that went on.
    loops: bool = False
    #: For a repeated file: how many frames a round had, and its rate, as far as it says.
    round_frames: int | None = field(default=None, compare=False)
    fps: float | None = field(default=None, compare=False)
    #: A note for the user about the choice, in one line; "" for none.
    note: str = ""
    #: Why there is no video, in a few words.
    lacking: str = field(default="", compare=False)
    #: Whether the file may differ from the recorded one. Each frame's time is then checked against
    #: its row.
    changed: bool = False
    #: Whether the video has its source's packets as they were (`KeptFrames`).
    kept: bool = False
    #: Number and capture time of the first row in it, where that of frame 0 is not known.
    first_row: tuple[int, dt.datetime] | None = field(default=None, compare=False)
    #: Returns the numbers of some rows in it, and the digests of what was inferred.
    digests: Callable[[], list[tuple[int, int]]] = field(default=list, compare=False)
    #: When frame 0 of a recorded video was captured, if known.
    started_at: dt.datetime | None = field(default=None, compare=False)
    #: For a changed recorded video: the frames from which on it is shifted against the stamps,
    #: since these stepped back, and by how many microseconds.
    shifts: tuple[tuple[int, float], ...] = field(default=(), compare=False)
    #: Times of some of its rows in seconds, if it has changed (see `Pixels`).
    times_s: tuple[float, ...] = field(default=(), compare=False)
    #: The files that ``path`` names, if it is a playlist.
    named: tuple[Path, ...] = field(default=(), compare=False)
    #: How many frames were recorded into it, if known.
    frames: int | None = field(default=None, compare=False)
    #: Whether its frames have the overlay in them.
    annotated: bool = False
    #: For a recording in parts: each part's first frame and footage. ``path`` is one of theirs.
    parts: tuple[tuple[int, Footage], ...] = ()

    def part_with(self, frame: int) -> Footage:
        """Return the footage of the part that a frame is in."""
        if not self.parts:
            return self
        at = bisect.bisect_right(self.parts, frame, key=lambda part: part[0]) - 1
        return self.parts[max(at, 0)][1]

    def shift_us(self, number: int) -> float:
        """Return the shift of a frame's time in a recorded video against its stamp."""
        at = bisect.bisect_right(self.shifts, number, key=lambda shift: shift[0]) - 1
        return self.shifts[at][1] if at >= 0 else 0

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that pixels may be read from."""
        if self.parts:
            return tuple(file for _, part in self.parts for file in part.files)
        return () if self.path is None else (self.path, *self.named)


#: Kinds of sources that leave no file behind.
_NOT_FILES = {
    "camera": "camera",
    "url": "stream",
    "program": "program",
    "import": "file without pictures",
}


def find_footage(
    session: Session,
    video: Path | None = None,
    *,
    annotated: bool = False,
    largest: int | None = None,
) -> Footage:
    """Find the video that the session was recorded from, or one recorded beside it.

    The source is used only if its size and digest are still the recorded ones: results drawn on
    other pixels would look right and be wrong. A recorded video is used even if it was damaged
    since: its frames carry the times of their rows, which `Pixels` checks.

    Args:
        video: The user's choice, used as it is, with a note if it differs from what was recorded.
        annotated: Whether ``video`` may have the overlay in it.
        largest: The most bytes of a recorded video whose digest is compared; None: any number.

    Raises:
        VideoError: ``video`` does not exist, cannot be what was recorded, or has the overlay in it.
    """
    source = session.metadata.get("source", {})
    if video is not None:
        found = _given(session, video, source)
        if found.annotated and not annotated:
            raise VideoError(
                f"{video}: has the overlay in it already, as it was drawn live; "
                "the pixels without it are needed"
            )
        return found
    folder = session.place.parent
    footage, reason = _from_source(source, folder)
    if footage is not None:
        return footage
    beside, lacking = find_recorded(session, largest=largest)
    if beside is not None and beside.path is not None:
        notes = [beside.note, lacking]
        if source.get("kind") not in _NOT_FILES:  # their video is always beside the session
            notes.insert(0, f"{reason}: using {beside.path.name}")
        return replace(beside, note="; ".join(note for note in notes if note))
    drawn = filter(
        None, (recorded_video(folder, v) for v in video_entries(session.metadata, "annotated"))
    )
    hint = "--video PATH says where the pixels are"
    if (path := next(drawn, None)) is not None:
        hint = f"--video {path} shows what was drawn live"
    lacking = lacking or reason
    note = f"{lacking}: drawing on a blank canvas ({hint})"
    return Footage(None, note=note, lacking=lacking)


def _from_source(source: Mapping[str, Any], folder: Path) -> tuple[Footage | None, str]:
    """Return the source file as footage, or None and the reason why it is not used."""
    changed = outside = uncovered = ""
    for path in source_paths(source, folder):
        # The sample is our own file; the others are named by the metadata.
        if path != sample.CLIP and not may_open(path, folder, source):
            if path.is_file():
                place = "is not below the session's folder, and no recorded digest matches it"
                outside = outside or f"{path.name} {place}"
            continue
        check = _check_source(path, source)
        if check.uncovered:
            uncovered = uncovered or f"{path.name} only names other files ({check.uncovered})"
        elif not check.difference:
            return replace(_source_footage(path, source, check), note=check.doubt), ""
        else:
            why = f" ({check.difference})" if check.named else ""
            changed = changed or f"{path.name} is no longer the file that was recorded{why}"
    missing = f"{source.get('file') or 'the source'} is not where it was"
    if source.get("kind") in _NOT_FILES:
        missing = f"the source was a {_NOT_FILES[source['kind']]}"
    return None, uncovered or changed or outside or missing


def find_recorded(
    session: Session, kind: str = "raw", *, largest: int | None = None
) -> tuple[Footage | None, str]:
    """Return the video of a kind (``raw``, ``annotated``) that was recorded beside the session.

    Also returns which of its files are missing, in a few words; "" if none.

    Args:
        largest: The most bytes of a file whose digest is compared; None: any number. A larger file
            is used as if it had changed: only where the times of its pictures are those of rows.
    """
    folder = session.place.parent
    if not session.parts:
        found = _recorded(session.metadata, folder, session.batches, kind, largest)
        if found is None and (recorded := video_entries(session.metadata, kind)):
            name = base_name(recorded[0].get("file"))
            return None, f"{name}, recorded beside it, {why_not_there(folder, recorded[0])}"
        return found, ""
    parts = []
    missing: dict[int, str] = {}
    for part in session.parts:
        batches = functools.partial(session.batches_of, part)
        found = _recorded(part.metadata, folder, batches, kind, largest)
        if found is None and (recorded := video_entries(part.metadata, kind)):
            missing[part.number] = why_not_there(folder, recorded[0])
        parts.append((part.first_frame, found or Footage(None, "video_frame")))
    lacking = ""
    if len(missing) == 1:
        lacking = "".join(f"the video of part {number} {why}" for number, why in missing.items())
    elif missing:
        are_gone = set(missing.values()) == {"is gone"}
        why = "are gone" if are_gone else "are gone, or cannot be read"
        lacking = f"the videos of {len(missing):,} parts {why}"
    notes = [footage.note for _, footage in parts if footage.note]
    path = next((footage.path for _, footage in parts if footage.path is not None), None)
    if path is None:
        return None, lacking
    note = and_more(notes) if notes else ""
    return Footage(path, "video_frame", note=note, parts=tuple(parts)), lacking


def _recorded(
    metadata: Mapping[str, Any],
    folder: Path,
    batches: Callable[..., Iterator[Any]],
    kind: str,
    largest: int | None,
) -> Footage | None:
    """Return the video beside a session or part; ``batches`` yields its rows."""
    for item in video_entries(metadata, kind):
        path = recorded_video(folder, item)
        if path is None:
            continue
        size = item.get("size")
        if isinstance(size, int) and largest is not None and size > largest:
            item = item.copy()
            item.pop("sha256", None)
        difference = difference_of(path, item)
        note = f"{path.name} is not as it was recorded ({difference})" if difference else ""
        return _recorded_footage(path, item, note, batches)
    return None


def _recorded_footage(
    path: Path, item: Mapping[str, Any], note: str, batches: Callable[..., Iterator[Any]]
) -> Footage:
    # A recorder that was killed left no digest.
    changed = bool(note) or not item.get("sha256")
    is_kept = item.get("packets") == "kept"
    started_at = _time(item.get("started_at"))
    captured = _captured(batches) if changed else []
    if started_at is None and captured and captured[0][0] == 0:
        started_at = captured[0][1]
    first_row = captured[0] if captured and started_at is None else None
    times_s = [(at - started_at).total_seconds() for _, at in captured] if started_at else []
    return Footage(
        path,
        "video_frame",
        note=note,
        changed=changed,
        started_at=started_at,
        times_s=tuple(time_s for time_s in times_s if time_s > 0),
        frames=item.get("frames"),
        annotated=item.get("kind") == "annotated",
        kept=is_kept,
        shifts=_shifts(batches) if changed and not is_kept else (),
        first_row=first_row,
        digests=functools.partial(_digests, batches),
    )


def _shifts(batches: Callable[..., Iterator[Any]]) -> tuple[tuple[int, float], ...]:
    """Return the frames from which on a recorded video is shifted, with shifts in microseconds."""
    numbers, captured = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for batch in batches(columns=["video_frame", "captured_at"]):
        is_there = pc.and_(*(column.is_valid() for column in batch.columns))
        for name, values in (("video_frame", numbers), ("captured_at", captured)):
            column = batch.column(name).filter(is_there).cast(pa.int64())
            values.append(column.to_numpy(zero_copy_only=False))
    stamps = np.concatenate(captured)
    shifts = shown_us(stamps) - stamps
    begun = np.flatnonzero(np.diff(shifts, prepend=0))
    return tuple(zip(np.concatenate(numbers)[begun].tolist(), shifts[begun].tolist(), strict=True))


def _captured(batches: Callable[..., Iterator[Any]]) -> list[tuple[int, dt.datetime]]:
    """Return (video frame, capture time) of the first rows that are in the video."""
    found: list[tuple[int, dt.datetime]] = []
    for batch in batches(columns=["video_frame", "captured_at"]):
        numbers = batch.column("video_frame").to_pylist()
        stamps = batch.column("captured_at")
        there = [
            (number, row)
            for row, number in enumerate(numbers)
            if number is not None and stamps[row].is_valid
        ]
        found += [(number, stamps[row].as_py()) for number, row in there[:_SAMPLES]]
        if len(found) > _SAMPLES:
            break
    return found


def _digests(batches: Callable[..., Iterator[Any]]) -> list[tuple[int, int]]:
    """Return (video frame, digest of its pixels) of the first rows that have both."""
    found: list[tuple[int, int]] = []
    for batch in batches(columns=["video_frame", "pixel_digest"]):
        pairs = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        found += [pair for pair in pairs if None not in pair][:_SAMPLES]
        if len(found) > _SAMPLES:
            break
    return found


def _given(session: Session, video: Path, source: Mapping[str, Any]) -> Footage:
    if not video.exists():
        raise VideoError(f"{video}: no such file")
    if not video.is_file():
        raise VideoError(f"{video}: not a video file")
    known = _recorded_as(session, video)
    if known is None:
        # A stream has no frame 0 that a file could begin with; an address that gave a file has.
        is_that_file = bool(source.get("sha256")) and not difference_of(video, source)
        if source.get("kind") in ("camera", "url") and not is_that_file:
            raise VideoError(
                f"{video}: was not recorded with {session.path.name}: the frames of a camera or "
                "stream can only be matched in a video that was"
            )
        check = _check_source(video, source)
        note = check.doubt
        if check.difference:
            note = f"{video.name} is not the file that was recorded: {check.difference}"
        changed = bool(check.difference) or not source.get("sha256")
        if changed:
            _check_shape(session, video, source)
        return replace(_source_footage(video, source, check), note=note, changed=changed)
    number, item, difference = known
    note = f"{video.name} is not the video that was recorded: {difference}" if difference else ""
    if not session.parts:
        return _recorded_footage(video, item, note, session.batches)
    batches = functools.partial(session.batches_of, session.parts[number])
    found = _recorded_footage(video, item, note, batches)
    others = [(part.first_frame, Footage(None, "video_frame")) for part in session.parts]
    others[number] = (others[number][0], found)
    return replace(found, parts=tuple(others))


def _source_footage(path: Path, source: Mapping[str, Any], check: _SourceCheck) -> Footage:
    if not source.get("loop"):
        return Footage(path, named=check.named)
    return Footage(
        path,
        loops=True,
        round_frames=source.get("frames"),
        fps=source.get("fps"),
        named=check.named,
    )


def _recorded_as(session: Session, video: Path) -> tuple[int, Mapping[str, Any], str] | None:
    """Return which of the session's recorded videos a file is, by its digest or else its name.

    The result is the index of its part (0 if there are none), its metadata entry, and how the file
    differs from that. A recorder that was killed left no digests: any file may be its video, and
    the times of its frames decide.
    """
    members = [part.metadata for part in session.parts] or [session.metadata]
    recorded = [
        (number, item, difference_of(video, item))
        for number, metadata in enumerate(members)
        for kind in ("raw", "annotated")
        for item in video_entries(metadata, kind)
    ]

    def doubt(known: tuple[int, Mapping[str, Any], str]) -> int:
        _, item, difference = known
        if item.get("sha256") and not difference:
            return 0
        if video.name == base_name(item.get("file")):
            return 1
        return 3 if difference else 2

    best = min(recorded, key=doubt, default=None)
    return None if best is None or doubt(best) == 3 else best


def _check_shape(session: Session, video: Path, source: Mapping[str, Any]) -> None:
    """Refuse a video whose size shows that it is not the footage, nor a scaled copy of it.

    Raises:
        VideoError: It is other footage, or not a video.
    """
    if not len(session):
        return
    row = session.row(0)
    with contextlib.closing(VideoFrames(video, changed=True)) as frames_of:
        image, length = frames_of.read(0), frames_of.length
    if image is None or not row["width"] or not row["height"]:
        return
    (height, width), recorded = image.shape[:2], (int(row["width"]), int(row["height"]))
    if (width, height) == recorded:
        return
    frames = source.get("frames")
    why = ""
    # Encoders make sides even.
    if abs(width - height * recorded[0] / recorded[1]) > 2:
        why = "of another shape"
    elif frames is not None and not source.get("loop") and length != frames:
        count = "an unknown number of" if length is None else f"{length:,}"
        why = f"with {count} frames instead of {frames:,}"
    if why:
        raise VideoError(
            f"{video}: is not the footage that was recorded, nor a scaled copy: {width}x{height} "
            f"instead of {recorded[0]}x{recorded[1]}, {why}"
        )


def files_of(session: Session) -> list[Path]:
    """Return the files that no output may replace: the recording, and its footage."""
    files = recorded_files([session])
    with contextlib.suppress(VideoError):
        files += find_footage(session).files
    return files


@dataclass(frozen=True)
class _SourceCheck:
    """The result of comparing a file to the recorded source."""

    #: How it differs; "" if it does not.
    difference: str = ""
    #: Why that cannot be known, as a note; "" if it can.
    doubt: str = ""
    named: tuple[Path, ...] = ()
    #: Why it may lead to any other file; "" if it only names files below its own folder.
    uncovered: str = ""


def _check_source(path: Path, source: Mapping[str, Any]) -> _SourceCheck:
    """Compare a file, and the files that it names, to what the metadata says of the source."""
    if difference := difference_of(path, source):
        return _SourceCheck(difference)
    recorded = source.get("named_files", {})
    try:
        named = named_files(path)
    except OSError as error:
        return _SourceCheck(f"it cannot be read ({error.strerror})")
    if named is None:
        return _SourceCheck()
    if recorded.get("sha256"):
        return _SourceCheck(named.difference(recorded), named=named.paths)
    reason = recorded.get("problem")
    why = f" ({reason})" if reason else ""
    doubt = (
        f"{path.name} only names other files, and it is not known whether they are still the "
        f"recorded ones{why}"
    )
    return _SourceCheck(doubt=doubt, named=named.paths, uncovered=named.problem)


def _time(text: str | None) -> dt.datetime | None:
    try:
        time = dt.datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return time if time is None or time.tzinfo is not None else None
