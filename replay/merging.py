"""Joins recordings that came one after the other into one session."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.errors import ConfigError, SessionError, StorageError
from dgrec.files import NewFolder, output_errors, resolved
from dgrec.footage import base_name, count_pictures, find_footage
from dgrec.format import (
    NULLABLE_SCHEMA,
    SCHEMA,
    Metadata,
    is_being_written,
    utc_ns,
    utc_text,
    uuid7,
    with_columns,
    write_sealed,
)
from dgrec.paths import part_path, session_stem
from dgrec.replay.clip import (
    ClipReport,
    Span,
    check_clip_output,
    cut_positions,
    moved_source,
    write_clip,
)
from dgrec.session import Session

#: These have to be the same: the first model's labels do not fit the results of another one.
_SAME_MODEL: Final = ("name", "result_type", "labels", "checksum")


@dataclasses.dataclass
class _Recording:
    """One of the sessions, and where its rows are in the merged one."""

    session: Session
    #: When its first and last frame were captured, in microseconds since 1970, if known.
    first_us: int | None
    last_us: int | None
    #: Their numbers in the source, if known.
    first_source: int | None
    last_source: int | None
    last_time_s: float | None
    first_time_s: float | None
    #: What is added to its frames' numbers and times.
    frames: int = 0
    source_frames: int = 0
    time_s: float = 0.0
    #: Whether the file was read more than once.
    loops: bool = False


def merge(paths: Sequence[Path], output: Path, *, overwrite: bool = False) -> ClipReport:
    """Write recordings of one camera or file, made one after the other, as one session.

    Their rows are put in the order of time, and frames are numbered on. Recorded videos are joined
    as those of a clip are.

    Args:
        paths: At least two sessions, in any order.

    Raises:
        ConfigError: The sessions overlap in time, or are of different models or sources.
        OutputError: The output exists, or cannot be written.
        SessionError: A session cannot be read, or has no frames.
    """
    if len(paths) < 2:
        raise ConfigError("merging takes two sessions or more")
    with ExitStack() as stack:
        sessions = [stack.enter_context(Session(path)) for path in paths]
        for session in sessions:
            check_clip_output(session, output, overwrite=overwrite)
        _check_alike(sessions)
        recordings = _in_order([_read(session) for session in sessions])
        # It takes the size of the sessions without their videos, which are only linked.
        folder = _folder_beside(output)
        stack.callback(folder.discard)
        _write_parts(recordings, folder.temporary / output.name, output)
        merged = stack.enter_context(Session(folder.temporary / output.name))
        report = write_clip(
            merged,
            _spans(recordings),
            output,
            overwrite=overwrite,
            description={"merged": [_described(each) for each in recordings]},
        )
    report.spans = len(recordings)
    if others := {name for each in sessions for name in each.schema.names} - {*SCHEMA.names}:
        report.notes.append(f"left out columns of other tools: {', '.join(sorted(others))}")
    return report


def _spans(recordings: Sequence[_Recording]) -> list[Span]:
    """Return all rows as spans of a clip: they jump where the recordings themselves do."""
    last = recordings[-1]
    cuts = [each.frames + cut for each in recordings for cut in cut_positions(each.session)]
    limits = [0, *cuts, last.frames + len(last.session)]
    return list(itertools.starmap(Span, itertools.pairwise(limits)))


def _folder_beside(output: Path) -> NewFolder:
    with output_errors(output):
        return NewFolder(output.with_suffix(".parts"))


def _check_alike(sessions: Sequence[Session]) -> None:
    seen: dict[str, Path] = {}
    first = sessions[0]
    for session in sessions:
        key = session.id or str(resolved(session.path))
        if key in seen:
            raise ConfigError(f"{session.path}: is the same recording as {seen[key]}")
        seen[key] = session.path
        before, now = (each.metadata.get("model", {}) for each in (first, session))
        for name in _SAME_MODEL:
            if before.get(name) != now.get(name):
                raise ConfigError(
                    f"{session.path}: was recorded with another model than {first.path} "
                    f"({name.replace('_', ' ')} differs); only recordings of one model are merged"
                )
        if _source(first.metadata) != _source(session.metadata):
            raise ConfigError(
                f"{session.path}: is of another source than {first.path}; sessions of several "
                "cameras stay apart: name them together in query, stats or replay"
            )


def _source(metadata: Mapping[str, Any]) -> object:
    """Return what identifies a source: the file's contents, or the camera."""
    source = metadata.get("source", {})
    if source.get("kind") == "import":  # the name of a file says nothing about its footage
        return "import"
    if source.get("kind") == "program" and source.get("given") == _first_name(metadata):
        return "program"  # nor does that of a session
    return source.get("sha256") or source.get("given")


def _first_name(metadata: Mapping[str, Any]) -> object:
    """Return the name that a session was recorded with; the first one's, if it was merged."""
    name, clip = metadata.get("name"), metadata.get("clip")
    while isinstance(clip, Mapping):
        merged = clip.get("merged")
        first = merged[0] if isinstance(merged, list) and merged else clip
        if not isinstance(first, Mapping):
            return None
        name, clip = first.get("name"), first.get("clip")
    return name


def _read(session: Session) -> _Recording:
    if not len(session):
        raise SessionError(f"{session.path}: has no frames")
    if session.damage:
        raise SessionError(f"{session.path}: is damaged: {session.damage[0]}")
    files = [part.path for part in session.parts] or [session.path]
    if not session.sealed and any(map(is_being_written, files)):
        raise ConfigError(f"{session.path}: is being recorded; merge it when it has ended")
    found = _Recording(session, None, None, None, None, None, None)
    for batch in session.batches(["captured_at", "source_frame", "media_time_s"]):
        stamps, sources, times = (column.drop_null() for column in batch.columns)
        if len(stamps):
            last = utc_ns(stamps[-1].as_py()) // 1000
            if found.first_us is None:
                found.first_us = utc_ns(stamps[0].as_py()) // 1000
            found.last_us = last
        if len(sources):
            if found.first_source is None:
                found.first_source = sources[0].as_py()
            found.last_source = sources[-1].as_py()
        if len(times):
            if found.first_time_s is None:
                found.first_time_s = times[0].as_py()
            found.last_time_s = times[-1].as_py()
    return found


def _in_order(recordings: list[_Recording]) -> list[_Recording]:
    """Return recordings in the order of time, with what is added to their numbers."""
    by_time = all(each.first_us is not None for each in recordings)
    if not by_time and any(each.first_source is None for each in recordings):
        raise ConfigError("a session has neither times of capture nor numbers of frames")
    key = "us" if by_time else "source"
    ordered = sorted(recordings, key=lambda each: getattr(each, f"first_{key}"))
    count = functools.cache(lambda: _count_of([each.session for each in ordered]))
    for before, now in itertools.pairwise(ordered):
        if getattr(now, f"first_{key}") <= getattr(before, f"last_{key}"):
            what = "at the same time as" if by_time else "of frames that are also in"
            raise ConfigError(
                f"{now.session.path}: was recorded {what} {before.session.path}; only recordings "
                "that follow one another are merged"
            )
        now.frames = before.frames + len(before.session)
        _continue(before, now, count)
    if any(each.source_frames for each in ordered) and _is_footage(ordered[0].session):
        for each in ordered:
            each.loops = True
    return ordered


def _continue(before: _Recording, now: _Recording, count: Callable[[], int | None]) -> None:
    """Make the source's numbers and times continue, unless they do so already.

    Args:
        count: Returns how many pictures the source has, if it is footage.
    """
    if None not in (before.last_source, now.first_source):
        last = (before.last_source or 0) + before.source_frames
        if (now.first_source or 0) <= last:
            now.source_frames = last + 1 - (now.first_source or 0)
            if _is_footage(now.session):
                now.source_frames = _whole_rounds(last, now.session, count())
    if before.last_time_s is None or now.first_time_s is None:
        return
    last_s = before.last_time_s + before.time_s
    if now.first_time_s <= last_s:
        passed_s = 0.0
        if before.last_us is not None and now.first_us is not None:
            passed_s = (now.first_us - before.last_us) / 1e6
        now.time_s = last_s + passed_s - now.first_time_s


def _is_footage(session: Session) -> bool:
    """Return whether the numbers of its frames name pictures of a file."""
    return "sha256" in session.metadata.get("source", {})


def _count_of(sessions: Sequence[Session]) -> int | None:
    """Return how many pictures their footage has; None if neither metadata nor footage says so."""
    announced: int | None = sessions[0].metadata["source"].get("frames")
    if announced and not any(each.totals["dropped_camera"] for each in sessions):
        return announced
    # Pictures that cannot be decoded have no numbers, but the container counts them.
    footage = find_footage(sessions[0])
    if footage.path is None or footage.column != "source_frame":
        return announced
    return count_pictures(footage.path) or announced


def _whole_rounds(last: int, session: Session, count: int | None) -> int:
    """Return the number at which footage that was read again begins, after frame ``last``."""
    if not count:
        raise ConfigError(
            f"{session.path}: its source was read again, and does not say how many frames it has"
        )
    return -(-(last + 1) // count) * count


def _described(recording: _Recording) -> dict[str, Any]:
    metadata = recording.session.metadata
    described = {
        "session_id": metadata.get("session_id"),
        "name": metadata.get("name"),
        "first_frame": recording.frames,
        "frames": len(recording.session),
    }
    if "clip" in metadata:  # it names what was merged before
        described["clip"] = metadata["clip"]
    return described


# --- as a recording in parts ---------------------------------------------------------------------


def _write_parts(recordings: Sequence[_Recording], path: Path, output: Path) -> None:
    """Write the recordings as the parts of one, which is read as a whole.

    Args:
        path: The name of the whole, in a temporary folder.
        output: The path that errors name.
    """
    set_id = str(uuid7())
    numbers = itertools.count(1)
    for at, recording in enumerate(recordings):
        before = recordings[at - 1] if at else None
        for metadata, batches, start in _pieces(recording.session):
            number = next(numbers)
            first = recording.frames + start
            part = part_path(path, number)
            gap = [] if before is None else _gap(before, recording)
            with output_errors(output):  # an error of linking names the recorded video
                about = _metadata(recording, metadata, part, gap)
            about["part"] = {"number": number, "set_id": set_id, "first_frame": first}
            before = None
            try:
                write_sealed(
                    part,
                    NULLABLE_SCHEMA,
                    _moved(batches, recording, first),
                    lambda totals, about=about: {**about, "ended_at": totals.ended_at},  # type: ignore[misc]
                )
            except StorageError as error:
                problem = str(error).removeprefix(f"{part}: ")
                raise StorageError(f"{output}: {problem}", is_full=error.is_full) from None


def _pieces(session: Session) -> Iterator[tuple[Metadata, Iterator[pa.RecordBatch], int]]:
    """Yield the metadata, the rows and the first position of each file of a session."""
    if not session.parts:
        yield session.metadata, session.batches(), 0
        return
    start = 0
    for part in session.parts:
        yield part.metadata, session.batches_of(part), start
        start += part.rows


def _moved(
    batches: Iterator[pa.RecordBatch], recording: _Recording, first: int
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        rows = with_columns(batch, SCHEMA.names)
        moved = {
            "frame": pa.array(np.arange(first, first + rows.num_rows)),
            "source_frame": pc.add(rows.column("source_frame"), recording.source_frames),
            "media_time_s": pc.add(rows.column("media_time_s"), recording.time_s),
        }
        first += rows.num_rows
        arrays = [moved.get(name, rows.column(name)) for name in SCHEMA.names]
        yield pa.RecordBatch.from_arrays(arrays, schema=NULLABLE_SCHEMA)


def _metadata(
    recording: _Recording, metadata: Metadata, path: Path, gap: list[dict[str, Any]]
) -> Metadata:
    """Return the metadata of a part, with its videos linked beside it."""
    old = recording.session.path
    left_out = ("part", "clip", "group", "is_finite", "totals", "machine", "targets")
    about = {key: value for key, value in metadata.items() if key not in left_out}
    about["session_id"] = str(uuid7())
    if "source" in about:
        about["source"] = moved_source(about["source"], old, path)
        if recording.loops:
            about["source"]["loop"] = True
    events = [
        {**event, "source_frame": event["source_frame"] + recording.source_frames}
        if isinstance(event.get("source_frame"), int)
        else event
        for event in about.get("events", [])
    ]
    if events or gap:
        about["events"] = [*gap, *events]
    videos = []
    for video in about.get("video", []):
        name = base_name(video.get("file"))
        there = old.absolute().parent / name
        if not name or not there.is_file():
            continue  # it is gone, and said to be so
        suffix = ".annotated.mp4" if video.get("kind") == "annotated" else ".mp4"
        link = path.with_name(f"{session_stem(path)}{suffix}")
        link.symlink_to(resolved(there))
        videos.append({**video, "file": link.name})
    if videos:
        about["video"] = videos
    return about


def _gap(before: _Recording, now: _Recording) -> list[dict[str, Any]]:
    """Return the event between two recordings; without times if their frames have no stamps."""
    gap: dict[str, Any] = {"kind": "gap"}
    ended = before.session.ended_at
    if before.last_us is not None and now.first_us is not None:
        ended = ended or utc_text(before.last_us * 1000)
        gap |= {
            "from": utc_text(before.last_us * 1000),
            "to": utc_text(now.first_us * 1000),
            "seconds": round((now.first_us - before.last_us) / 1e6, 3),
        }
    return [
        gap
        | {
            "source_frame": (now.first_source or 0) + now.source_frames,
            "back": True,
            "attempts": 0,
            "reason": f"another recording: {now.session.metadata.get('name')}",
            "ended": ended,
        }
    ]
