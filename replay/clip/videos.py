"""The videos of a clip: copied if possible, encoded again otherwise."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dgrec.errors import VideoError
from dgrec.footage import Pixels, VideoFrames, find_footage
from dgrec.format import utc_ns, utc_text
from dgrec.replay.clip.kept_packets import KeptClip, copy_kept
from dgrec.replay.clip.packets import VideoTarget, copy_packets
from dgrec.replay.clip.recorded_videos import ClipReport, RecordedVideo
from dgrec.replay.clip.rows import ClipRows
from dgrec.replay.rendering import Canvas
from dgrec.session import Session
from dgrec.video import Image, VideoWriter, check_output


def cut(
    video: RecordedVideo,
    rows: ClipRows,
    target: VideoTarget,
    report: ClipReport,
) -> dict[str, Any] | None:
    """Write the clip's part of a recorded video; return its metadata entry."""
    kept = copy_kept(video, rows, target) if video.entry.get("packets") == "kept" else None
    places: list[int | None] | None
    if kept is not None:
        places = kept.places
        report.notes += kept.notes
    else:
        places = copy_packets(video, rows, target) if "packets" not in video.entry else None
    copied = places is not None
    if places is None:
        try:
            places = _encode_again(video, rows, target, report)
        except VideoError as error:
            report.notes.append(f"{error}: the clip has no {video.kind} video")
            return None
    if all(place is None for place in places):
        if places:
            target.session.drop(target.path)
        report.notes.append(f"none of the frames is in the {video.kind} video")
        return None
    if report.videos and any(
        place is not None and rows.video_frames[place] != number
        for number, place in enumerate(places)
    ):
        # ``video_frame`` numbers the frames of both videos, as in the raw one.
        target.session.drop(target.path)
        report.notes.append(f"the {video.kind} video has other frames than the raw one: left out")
        return None
    rows.number_video(places)
    report.videos.append((target.path, copied))
    known = video.entry if copied else {}
    entry = _entry(target.path, video.kind, places, rows, known)
    if kept is not None:
        entry |= {"packets": "kept", "started_at": _start(rows, kept)}
    return entry


def _start(rows: ClipRows, kept: KeptClip) -> str | None:
    """Return when the first picture of a video of kept packets would have been captured."""
    first = next(at for at, place in enumerate(kept.places) if place is not None)
    stamp = rows.facts["captured_at"][kept.places[first]].as_py()
    if stamp is None:
        return None
    return utc_text(utc_ns(stamp - dt.timedelta(microseconds=kept.times_us[first])))


def from_source(
    session: Session,
    rows: ClipRows,
    target: VideoTarget,
    report: ClipReport,
) -> dict[str, Any]:
    """Encode the clip's part of the source file beside the clip."""
    check_output(target.path, overwrite=target.overwrite)
    footage = find_footage(session)
    if footage.path is None:
        raise VideoError(
            f"{session.path}: there is no video to put beside the clip: "
            f"{footage.note.partition(': drawing on')[0]}"
        )
    with Pixels(footage) as pixels:
        times = rows.durations(range(rows.count), of_source=True)
        places = _write_frames(rows, times, pixels.frame, target)
        report.notes += pixels.notes()
    if not places:
        raise VideoError(f"{footage.path}: has none of the clip's frames")
    rows.number_video(places)
    report.videos.append((target.path, False))
    return _entry(target.path, "raw", places, rows, {})


def _encode_again(
    video: RecordedVideo,
    rows: ClipRows,
    target: VideoTarget,
    report: ClipReport,
) -> list[int | None]:
    """Decode and encode the clip's frames; return their places, as `_write_frames` does.

    `Pixels` compares each with its row: in the clip, wrong frames of a replaced video could not be
    recognised.
    """
    inside = [place for place, frame in enumerate(video.frames) if frame is not None]
    with Pixels(video.footage) as pixels:
        times = rows.durations(inside)
        is_annotated = video.kind == "annotated"
        places = _write_frames(rows, times, pixels.stored, target, keeps_shape=is_annotated)
        report.notes += pixels.notes()
        return places


def _write_frames(
    rows: ClipRows,
    times: Iterable[tuple[int, int, int]],
    pixels_of: Callable[[dict[str, Any]], Image | None],
    target: VideoTarget,
    *,
    keeps_shape: bool = False,
) -> list[int | None]:
    """Encode the frames that have pixels; return the place in the clip of each picture.

    A repeat in a long gap has None. ``times`` come from `ClipRows.durations`. A picture of another
    size than the first one is stretched to that, or ``keeps_shape`` (as in a recorded video).
    """
    facts = rows.facts.to_pylist()
    places: list[int | None] = []
    with contextlib.ExitStack() as stack:
        writer: VideoWriter | None = None
        canvas = Canvas(0, 0)
        zero_us = 0  # of the first frame with pixels, which is shown at 0
        for place, pts_us, duration_us in times:
            image = pixels_of(facts[place])
            if image is None:
                continue
            if writer is None:
                canvas = Canvas(image.shape[1], image.shape[0])
                writer = VideoWriter(
                    target.path,
                    canvas.width,
                    canvas.height,
                    overwrite=target.overwrite,
                    owner=target.session,
                )
                stack.enter_context(writer)
                zero_us = pts_us
            image = canvas.fit(image) if keeps_shape else canvas.stretch(image)
            number = writer.write(image, pts_us - zero_us, duration_us)
            places += [None] * (number - len(places))
            places.append(place)
    return places


def _entry(
    path: Path,
    kind: str,
    places: list[int | None],
    rows: ClipRows,
    old: Mapping[str, Any],
) -> dict[str, Any]:
    first = next((number, place) for number, place in enumerate(places) if place is not None)
    with contextlib.closing(VideoFrames(path, kept="packets" in old)) as video:
        image = video.read(first[0])
    assert image is not None  # it was written just now, with at least one frame
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "file": path.name,
        "kind": kind,
        "codec": old.get("codec", "h264"),
        "width": image.shape[1],
        "height": image.shape[0],
        "frames": len(places),
        "started_at": rows.captured_at(first[1]),
        "size": path.stat().st_size,
        "sha256": digest,
    }
