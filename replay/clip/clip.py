"""Writes a clip: spans of a session as a new session."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dgrec.errors import OutputError, VideoError
from dgrec.files import NewFile, check_new_file, check_session_name, output_errors, resolved
from dgrec.footage import files_of, own_videos, refuse_recorded
from dgrec.format import Metadata, RowTotals, uuid7, video_entries, write_sealed
from dgrec.paths import VIDEO_SUFFIXES, video_path
from dgrec.replay.clip.packets import VideoTarget
from dgrec.replay.clip.recorded_videos import ClipReport, recorded_videos
from dgrec.replay.clip.rows import ClipRows
from dgrec.replay.clip.spans import Span
from dgrec.replay.clip.videos import cut, from_source
from dgrec.session import Session, begins_run, parts_of

#: Metadata of a whole recording or of one of its parts, which is not true of a clip.
_NOT_OF_A_CLIP = frozenset(
    "analyzed part parts damage video end_detail totals machine is_finite signals targets".split()
)


def write_clip(
    session: Session,
    spans: Sequence[Span],
    output: Path,
    *,
    with_video: bool = False,
    overwrite: bool = False,
    description: Mapping[str, Any] | None = None,
    members: Sequence[str] = (),
) -> ClipReport:
    """Write some of a session's frames, and their part of its videos, as a new session.

    Rows stay as they are except ``frame``, which counts from 0, and ``video_frame``, which counts
    in the clip's own video. Recorded videos are copied bit by bit if every span begins with one of
    their key frames, and encoded again otherwise. Pixels in a source file stay there.

    Args:
        session: The session, in any form.
        spans: Ascending and disjoint.
        output: The clip, which ends in ``.parquet``.
        with_video: Whether pixels from a source file are written beside the clip.
        overwrite: Whether existing files may be replaced.
        description: How the spans were chosen, for the metadata.
        members: The names of all clips cut together, if their sessions were recorded together.

    Raises:
        OutputError: A file exists, or cannot be written.
        VideoError: There are no pixels to put beside the clip, or they cannot be encoded.
    """
    if not spans:
        raise VideoError(f"{session.path}: no frames are selected")
    check_clip_output(session, output, with_video=with_video, overwrite=overwrite)
    # Read now: the rows that name them are about to go.
    old_videos = own_videos(output) if overwrite else []
    rows = ClipRows(session, spans)
    report = ClipReport(rows.count, len(spans))
    videos: list[dict[str, Any]] = []
    with output_errors(output):
        new = NewFile(output, replace=overwrite)
    # The videos belong to the session: after a kill, neither is in the way of the next attempt.
    with new:
        for video in recorded_videos(session, rows, report):
            path = video_path(output, video.kind)
            if entry := cut(video, rows, VideoTarget(path, overwrite, new), report):
                videos.append(entry)
        if with_video and not any(video["kind"] == "raw" for video in videos):
            target = VideoTarget(video_path(output, "raw"), overwrite, new)
            videos.append(from_source(session, rows, target, report))
        metadata = _metadata(session, rows, output, videos, dict(description or {}))
        if group := metadata.pop("group", None):
            group = {key: value for key, value in group.items() if key != "members"}
            metadata["group"] = {**group, "members": list(members)} if members else group
        write_sealed(
            output,
            session.schema,
            rows.batches(has_video=bool(videos)),
            lambda rows: {**metadata, "ended_at": rows.ended_at, "totals": _totals(rows, metadata)},
            replace=overwrite,
            new=new,
        )
    written = [path for path, _ in report.videos]
    if unwanted := [path for path in old_videos if path not in written]:
        report.notes += _removed(unwanted, files_of(session))
    return report


def _removed(videos: Sequence[Path], recorded: Sequence[Path]) -> list[str]:
    """Remove videos that the replaced session had and the new one has not; return notes.

    They would be in the way of the next one.
    """
    notes = []
    for path in videos:
        try:
            refuse_recorded(path, recorded)
            path.unlink(missing_ok=True)
        except OutputError:
            continue  # the session was recorded from it, and the clip shows it
        except OSError as error:
            notes.append(f"{path}: cannot be removed: {error.strerror}")
    return notes


#: The kinds of events that have a time and no frame.
_OF_A_TIME = ("mark", "alert", "alert_end", "server_lost")


def check_clip_output(
    session: Session, output: Path, *, with_video: bool = False, overwrite: bool = False
) -> None:
    """Raise `OutputError` if a clip cannot be written to ``output``, before any work is done."""
    check_session_name(output)
    kinds = [kind for kind in VIDEO_SUFFIXES if video_entries(session.metadata, kind)]
    if with_video and "raw" not in kinds:
        kinds.append("raw")
    recorded = files_of(session)
    replaced = own_videos(output)
    for path in (output, *(video_path(output, kind) for kind in kinds)):
        refuse_recorded(path, recorded)
        if path != output and os.path.lexists(path) and path not in replaced:
            # It may be footage, or the video of a session that was renamed.
            raise OutputError(
                f"{path}: exists already, and the video would go there; choose another name"
            )
        check_new_file(path, overwrite=overwrite)
    if not output.exists() and parts_of(output):
        raise OutputError(f"{output}: a recording in parts has this name; choose another")


def _metadata(
    session: Session,
    rows: ClipRows,
    output: Path,
    videos: list[dict[str, Any]],
    description: dict[str, Any],
) -> Metadata:
    """Return the clip's metadata; most of it is that of the recording."""
    old = session.metadata
    metadata = {key: value for key, value in old.items() if key not in _NOT_OF_A_CLIP}
    ends = [*rows.starts[1:], rows.count]
    clip: dict[str, Any] = {
        "session_id": old.get("session_id"),
        "name": old.get("name"),
        "ranges": rows.ranges,
        **description,
    }
    if "clip" in old:
        clip["clip"] = old["clip"]
    if session.damage:
        clip["damage"] = list(session.damage)
    metadata |= {
        "session_id": str(uuid7()),
        "name": output.stem,
        "started_at": rows.captured_at(0),
        "end_reason": "clip",
        "clip": clip,
    }
    if videos:
        metadata["video"] = videos
    if "signals" in old and rows.has_last:
        metadata["signals"] = old["signals"]
    if "source" in old:
        metadata["source"] = moved_source(old["source"], session.place, output)
    if "events" in old:
        numbers = rows.facts["source_frame"].to_pylist()
        spans = [
            [number for number in numbers[start:end] if number is not None]
            for start, end in zip(rows.starts, ends, strict=True)
        ]
        ranges = [(span[0], span[-1]) for span in spans if span]
        times = rows.times_logged()
        metadata["events"] = [event for event in old["events"] if _is_within(event, ranges, times)]
    return metadata


def _totals(rows: RowTotals, metadata: Metadata) -> dict[str, Any]:
    losses = rows.losses(metadata)
    lost = losses["skipped"], losses["dropped"]
    return {} if None in lost else {"source_frames": rows.frames + sum(filter(None, lost))}


def moved_source(source: Mapping[str, Any], session: Path, output: Path) -> dict[str, Any]:
    """Return the entry of the source, with its path relative to a new session."""
    moved = dict(source)
    if source.get("relative"):
        path = session.absolute().parent / source["relative"]
        with contextlib.suppress(ValueError):  # another drive
            relative = os.path.relpath(resolved(path), resolved(output.absolute().parent))
            moved["relative"] = Path(relative).as_posix()
    return moved


def _is_within(
    event: Any,
    ranges: Sequence[tuple[int, int]],
    times: Sequence[tuple[dt.datetime | None, dt.datetime | None]],
) -> bool:
    number = event.get("source_frame")
    if number is not None:
        if ranges and begins_run(event):
            # Also one between two moments: the later one is of another run.
            return bool(ranges[0][0] <= number <= ranges[-1][1])
        return any(first <= number <= last for first, last in ranges)
    if event.get("kind") not in _OF_A_TIME:
        return True
    with contextlib.suppress(ValueError, TypeError):
        at = dt.datetime.fromisoformat(str(event.get("at") or event.get("from")))
        return any(
            (start is None or start <= at) and (end is None or at < end) for start, end in times
        )
    return True
