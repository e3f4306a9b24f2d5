"""Where a session's pixels are: the file that it was recorded from, or a video beside it."""

from __future__ import annotations

import bisect
import contextlib
import datetime as dt
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dgrec import sample
from dgrec.errors import VideoError
from dgrec.footage.originals import recorded_files
from dgrec.footage.video import VideoFrames
from dgrec.footage.videos import base_name, difference_of, may_open, recorded_video
from dgrec.format import video_entries
from dgrec.units import and_more
from dgrec.video import named_files

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["Footage", "files_of", "find_footage", "find_recorded"]

#: As many rows tell whether a changed video is of this session at all.
_SAMPLES = 16


@dataclass(frozen=True)
class Footage:
    """Where a session's pixels are."""

    #: The video; None when there is none, and a blank canvas has to do.
    path: Path | None
    #: The column that says which of its frames a row is about.
    column: Literal["source_frame", "video_frame"] = "source_frame"
    #: Whether the recording went through the file again and again, counting on.
    loops: bool = False
    #: What the user should know about the choice, in one line; "" for nothing.
    note: str = ""
    #: Whether it may not be, byte for byte, what the rows were recorded with: every frame's time
    #: then has to be that of its row.
    changed: bool = False
    #: When frame 0 of a recorded video was captured, where that is known.
    started_at: dt.datetime | None = field(default=None, compare=False)
    #: Seconds of some of its frames, by the rows: of a changed one, to see whether it is the same.
    times_s: tuple[float, ...] = field(default=(), compare=False)
    #: The files that the footage names, where it does not hold the pixels itself: a playlist.
    named: tuple[Path, ...] = field(default=(), compare=False)
    #: How many frames were recorded into it, where that is known.
    frames: int | None = field(default=None, compare=False)
    #: Whether its frames have the overlay in them already.
    annotated: bool = False
    #: Of a recording in parts: the number of each part's first frame, and the part's own footage.
    #: ``path`` is then one of them.
    parts: tuple[tuple[int, Footage], ...] = ()

    def part_with(self, frame: int) -> Footage:
        """Return the footage of the part that a frame is in."""
        if not self.parts:
            return self
        at = bisect.bisect_right(self.parts, frame, key=lambda part: part[0]) - 1
        return self.parts[max(at, 0)][1]

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that pixels may be read from."""
        if self.parts:
            return tuple(file for _, part in self.parts for file in part.files)
        return () if self.path is None else (self.path, *self.named)


def find_footage(
    session: Session, video: Path | None = None, *, annotated: bool = False
) -> Footage:
    """Find the video that the session was recorded from, or one recorded beside it.

    The source counts only if its size and digest are still those of the recording; results drawn
    over other pixels would look right and be wrong. A recorded video, whose frames carry the times
    of their rows, is taken even if it was damaged since: `Pixels` holds each frame against its row.

    Args:
        session: The session.
        video: Where the user says the pixels are: taken as it is, with a note if it differs.
        annotated: Whether ``video`` may be one with the overlay in it (`Footage.annotated`).

    Raises:
        VideoError: ``video`` does not exist, cannot be what was recorded, or has the overlay in it.
    """
    metadata = session.metadata
    source = metadata.get("source", {})
    loops = bool(source.get("loop"))
    folder = session.path.absolute().parent
    if video is not None:
        found = _given(session, video, source, loops)
        if found.annotated and not annotated:
            raise VideoError(
                f"{video}: has the overlay in it already, as it was drawn live; "
                "the pixels without it are needed"
            )
        return found
    changed = outside = None
    uncovered = ""
    for path in _candidates(source, folder):
        # The sample is our own file; all others are those that the metadata names.
        if path != sample.CLIP and not may_open(path, folder, source):
            outside = outside or (path if path.is_file() else None)
            continue
        held = _held_against(path, source)
        if held.uncovered:
            uncovered = uncovered or f"{path.name} only names other files ({held.uncovered})"
        elif not held.difference:
            return Footage(path, "source_frame", loops, held.doubt, named=held.named)
        else:
            changed = changed or (path, f" ({held.difference})" if held.named else "")
    if uncovered:
        reason = uncovered
    elif changed is not None:
        reason = f"{changed[0].name} is no longer the file that was recorded{changed[1]}"
    elif outside is not None:
        reason = (
            f"{outside.name} is not below the session's folder, and nothing tells that it is what "
            "was recorded"
        )
    elif source.get("kind") in ("camera", "url"):
        reason = f"the source was a {'camera' if source['kind'] == 'camera' else 'stream'}"
    else:
        reason = f"{source.get('file') or 'the source'} is not where it was"
    beside, lacking = _beside(session, folder)
    if beside is not None and beside.path is not None:
        # For a camera this is how it should be; a file that is gone is worth a word.
        notes = [beside.note, lacking]
        if source.get("kind") not in ("camera", "url"):
            notes.insert(0, f"{reason}: using {beside.path.name}")
        return replace(beside, note="; ".join(note for note in notes if note))
    hint = "--video PATH says where the pixels are"
    for item in video_entries(metadata, "annotated"):
        if (drawn := recorded_video(folder, item)) is not None:
            hint = f"--video {drawn} shows what was drawn live"
            break
    return Footage(None, note=f"{lacking or reason}: drawing on a blank canvas ({hint})")


def find_recorded(session: Session, kind: str = "raw") -> tuple[Footage | None, str]:
    """Return the video of a kind (``raw``, ``annotated``) that was recorded beside the session.

    With it, what of it is not there, in a few words; "" if nothing lacks.
    """
    return _beside(session, session.path.absolute().parent, kind)


def _beside(session: Session, folder: Path, kind: str = "raw") -> tuple[Footage | None, str]:
    """Return the video recorded beside the session, and what of it is not there."""
    if not session.parts:
        found = _recorded(session.metadata, folder, session.batches, kind)
        if found is None and (recorded := video_entries(session.metadata, kind)):
            return None, f"{base_name(recorded[0].get('file'))}, recorded beside it, is gone"
        return found, ""
    parts = []
    missing = []
    for part in session.parts:
        batches = functools.partial(session.batches_of, part)
        found = _recorded(part.metadata, folder, batches, kind)
        if found is None and video_entries(part.metadata, kind):
            missing.append(part.number)
        parts.append((part.first_frame, found or Footage(None, "video_frame")))
    lacking = ""
    if missing:
        lacking = f"the video of part {missing[0]} is gone"
        if len(missing) > 1:
            lacking = f"the videos of {len(missing):,} parts are gone"
    notes = [footage.note for _, footage in parts if footage.note]
    path = next((footage.path for _, footage in parts if footage.path is not None), None)
    if path is None:
        return None, lacking
    note = and_more(notes) if notes else ""
    return Footage(path, "video_frame", note=note, parts=tuple(parts)), lacking


def _recorded(
    metadata: Mapping[str, Any], folder: Path, batches: Callable[[], Iterator[Any]], kind: str
) -> Footage | None:
    """Return the video that stands beside a session or part; ``batches`` yields its rows."""
    for item in video_entries(metadata, kind):
        path = recorded_video(folder, item)
        if path is None:
            continue
        difference = difference_of(path, item)
        note = f"{path.name} is not as it was recorded ({difference})" if difference else ""
        return _recorded_footage(path, item, note, batches)
    return None


def _recorded_footage(
    path: Path, item: Mapping[str, Any], note: str, batches: Callable[[], Iterator[Any]]
) -> Footage:
    frames = item.get("frames")
    # Of a recording that was killed nobody took the digest.
    changed = bool(note) or not item.get("sha256")
    started_at = _time(item.get("started_at"))
    captured = _captured(batches) if changed else []
    if started_at is None and captured and captured[0][0] == 0:
        started_at = captured[0][1]
    times_s = [(at - started_at).total_seconds() for _, at in captured] if started_at else []
    return Footage(
        path,
        "video_frame",
        note=note,
        changed=changed,
        started_at=started_at,
        times_s=tuple(time_s for time_s in times_s if time_s > 0),
        frames=frames,
        annotated=item.get("kind") == "annotated",
    )


def _captured(batches: Callable[[], Iterator[Any]]) -> list[tuple[int, dt.datetime]]:
    """Return (number in the video, when captured) of the first rows that are in the video."""
    found: list[tuple[int, dt.datetime]] = []
    for batch in batches():
        if "video_frame" not in batch.schema.names:
            break
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


def _given(session: Session, video: Path, source: Mapping[str, Any], loops: bool) -> Footage:
    if not video.exists():
        raise VideoError(f"{video}: no such file")
    if not video.is_file():
        raise VideoError(f"{video}: not a video file")
    known = _recorded_as(session, video)
    # An address that gave a file has the digest of it.
    is_that_file = bool(source.get("sha256")) and not difference_of(video, source)
    if known is None and source.get("kind") in ("camera", "url") and not is_that_file:
        # Frames of a stream are counted from when it was opened: nothing else begins there.
        raise VideoError(
            f"{video}: is not a video that was recorded with {session.path.name}: of a camera or a "
            "stream, nothing tells which of its frames a row is about"
        )
    if known is None:
        held = _held_against(video, source)
        note = held.doubt
        if held.difference:
            note = f"{video.name} is not the file that was recorded: {held.difference}"
        unknown = bool(held.difference) or not source.get("sha256")
        if unknown:
            _check_shape(session, video, source)
        return Footage(video, "source_frame", loops, note, changed=unknown, named=held.named)
    number, item, difference = known
    note = f"{video.name} is not the video that was recorded: {difference}" if difference else ""
    if not session.parts:
        return _recorded_footage(video, item, note, session.batches)
    batches = functools.partial(session.batches_of, session.parts[number])
    found = _recorded_footage(video, item, note, batches)
    others = [(part.first_frame, Footage(None, "video_frame")) for part in session.parts]
    others[number] = (others[number][0], found)
    return replace(found, parts=tuple(others))


def _recorded_as(session: Session, video: Path) -> tuple[int, Mapping[str, Any], str] | None:
    """Return which of the videos that were recorded beside the session a file is.

    The number of its part (0 if there are none), what the metadata says of it, and how it differs
    from that. Its digest tells, else its name. Of a recording that was killed nobody took digests:
    any file may be its video then, and has to have the times of its rows.
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
    """Refuse footage of another size than the frames had, unless it may be a scaled copy.

    Raises:
        VideoError: It is plainly something else, or no video.
    """
    if not len(session):
        return
    row = session.row(0)
    clip = VideoFrames(video, changed=True)
    image, length = clip.read(0), clip.length
    clip.close()
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
            f"{video}: is not the footage that was recorded: {width}x{height} instead of "
            f"{recorded[0]}x{recorded[1]}, and no scaled copy of it: {why}"
        )


def files_of(session: Session) -> list[Path]:
    """Return what no output may replace: what was recorded, and what it was recorded from."""
    files = recorded_files([session])
    with contextlib.suppress(VideoError):
        files += find_footage(session).files
    return files


def _candidates(source: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """Yield where the source file may be, the most telling place first."""
    relative, path = source.get("relative"), source.get("path")
    if relative:
        yield folder / relative
    if source.get("kind") == "sample":
        yield sample.CLIP
    if path:
        yield Path(path)


@dataclass(frozen=True)
class _Held:
    """What holding a file against the source that was recorded has shown."""

    #: How it differs; "" if it does not.
    difference: str = ""
    #: Why nobody can tell whether it does, as a note; "" if that is known.
    doubt: str = ""
    named: tuple[Path, ...] = ()
    #: Why it may lead to any other file; "" if it names only such as lie below its own folder.
    uncovered: str = ""


def _held_against(path: Path, source: Mapping[str, Any]) -> _Held:
    """Hold a file against the recorded source, and what it names against what that named."""
    if difference := difference_of(path, source):
        return _Held(difference)
    recorded = source.get("named_files", {})
    try:
        named = named_files(path)
    except OSError as error:
        return _Held(f"it cannot be read ({error.strerror})")
    if named is None:
        return _Held()
    if recorded.get("sha256"):
        return _Held(named.difference(recorded), named=named.paths)
    reason = recorded.get("problem")
    why = f" ({reason})" if reason else ""
    doubt = (
        f"{path.name} only names other files, and it is not known whether they are still those "
        f"that were recorded{why}"
    )
    return _Held(doubt=doubt, named=named.paths, uncovered=named.problem)


def _time(text: str | None) -> dt.datetime | None:
    try:
        time = dt.datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return time if time is None or time.tzinfo is not None else None
