"""Copies frames of a recorded video into another without decoding them."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from dgrec.errors import VideoError
from dgrec.files import NewFile, output_error
from dgrec.replay.clip.recorded_videos import RecordedVideo
from dgrec.replay.clip.rows import ClipRows
from dgrec.video import import_av, repeats

__all__ = ["VideoTarget", "copy_packets"]

_MICROSECOND = Fraction(1, 1_000_000)
_TIME_TOLERANCE_US = 2


@dataclass(frozen=True)
class VideoTarget:
    """Where a video of a clip goes."""

    path: Path
    overwrite: bool
    #: The clip's session, which the video belongs to.
    session: NewFile


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame of the clip: its place in it, and where it stands in the recorded video."""

    place: int
    path: Path
    number: int


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture of the clip's video, and where it stands in the recorded one.

    One that is repeated over a long gap has no place in the clip: no row is about it.
    """

    place: int | None
    path: Path
    number: int
    #: Microseconds since the first one.
    pts_us: int
    duration_us: int


def copy_packets(
    video: RecordedVideo, rows: ClipRows, target: VideoTarget
) -> list[int | None] | None:
    """Copy the clip's frames without decoding them; return the place of each, in order.

    A picture that is repeated over a long gap has no place. Instead of the list None, and nothing
    written, where a copy would not give the very frames: a span does not begin with a key frame,
    frames are stored out of order, or files were encoded differently.

    Raises:
        OutputError: It cannot be written.
    """
    av = import_av()
    frames = [
        _Frame(place, *found) for place, found in enumerate(video.frames) if found is not None
    ]
    parts = [video.footage.part_with(rows.from_frames[frame.place]) for frame in frames]
    if any(part.note for part in parts):
        return None  # it is not as it was recorded: each frame has to be held against its row
    try:
        files = {name: _Packets(name) for name in dict.fromkeys(frame.path for frame in frames)}
    except (OSError, av.FFmpegError, VideoError):
        return None  # decoding may still get at some of it
    if not all(file.in_order for file in files.values()):
        return None
    if len({file.facts for file in files.values()}) > 1:
        return None
    # A video may have ended early: then the clip's ends early, too.
    frames = [frame for frame in frames if frame.number < len(files[frame.path].keys)]
    if not _are_of_their_rows(frames, files, video, rows):
        return None
    if not all(files[first.path].keys[first.number] for first in _first_of_runs(frames)):
        return None
    if not frames:
        return []
    pictures = _pictures(frames, rows)
    if pictures is None:
        return None
    try:
        _write(target, pictures)
    except (OSError, av.FFmpegError) as error:
        raise output_error(target.path, error) from None
    return [picture.place for picture in pictures]


def _pictures(frames: Sequence[_Frame], rows: ClipRows) -> list[_Picture] | None:
    """Return the pictures of the clip's video, those included that fill long gaps.

    None where a gap has to be filled with pictures that the recorded video does not have.
    """
    pictures: list[_Picture] = []
    durations = rows.durations([frame.place for frame in frames])
    for frame, following, (_, pts, step) in zip(
        frames, [*frames[1:], None], durations, strict=True
    ):
        times = [pts, *repeats(pts, pts + step), pts + step]
        if len(times) > 2 and following is not None:
            next_number = frame.number + len(times) - 1
            if (following.path, following.number) != (frame.path, next_number):
                return None
        for more, (time, end) in enumerate(itertools.pairwise(times)):
            place = None if more else frame.place
            pictures.append(_Picture(place, frame.path, frame.number + more, time, end - time))
    return pictures


def _are_of_their_rows(
    frames: Sequence[_Frame], files: Mapping[Path, _Packets], video: RecordedVideo, rows: ClipRows
) -> bool:
    """Return whether nothing speaks against it. Where nobody took a digest, the times tell."""
    stamps = rows.facts["captured_at"].to_pylist()
    for frame in frames:
        part = video.footage.part_with(rows.from_frames[frame.place])
        if part.changed and part.started_at is not None:
            offset_us = (stamps[frame.place] - part.started_at) / dt.timedelta(microseconds=1)
            if abs(files[frame.path].times_us[frame.number] - offset_us) > _TIME_TOLERANCE_US:
                return False
    return True


def _first_of_runs(frames: Sequence[_Frame]) -> Iterator[_Frame]:
    """Yield the frames that do not stand after the one before them in the recorded video."""
    before: _Frame | None = None
    for frame in frames:
        if before is None or (frame.path, frame.number) != (before.path, before.number + 1):
            yield frame
        before = frame


def _write(target: VideoTarget, pictures: Sequence[_Picture]) -> None:
    """Write the packets of pictures to a new MP4."""
    av = import_av()
    options = {"movflags": "+faststart", "video_track_timescale": "1000000"}
    chosen: dict[Path, dict[int, _Picture]] = {}
    for picture in pictures:
        chosen.setdefault(picture.path, {})[picture.number] = picture
    with (
        NewFile(target.path, replace=target.overwrite, owner=target.session) as new,
        contextlib.ExitStack() as stack,
    ):
        output = av.open(new.name, "w", format="mp4", options=options)
        stack.enter_context(output)
        copied: Any = None
        for name, wanted in chosen.items():
            source = stack.enter_context(av.open(os.path.abspath(name)))
            stream = source.streams.video[0]
            if copied is None:
                copied = output.add_stream_from_template(stream)
                copied.time_base = _MICROSECOND
            packets = (packet for packet in source.demux(stream) if packet.size)
            for number, packet in enumerate(packets):
                if number in wanted:
                    packet.stream, packet.time_base = copied, _MICROSECOND
                    packet.pts = wanted[number].pts_us
                    packet.duration = wanted[number].duration_us
                    packet.dts = packet.pts
                    output.mux(packet)


class _Packets:
    """What the packets of a video are like, one for each frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with import_av().open(os.path.abspath(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: has no video")
            stream = container.streams.video[0]
            context = stream.codec_context
            #: What must be equal for packets of two files to go into one.
            self.facts = (context.name, context.width, context.height, context.extradata)
            #: Whether each is a key frame.
            self.keys: list[bool] = []
            #: When each is shown.
            self.times_us: list[int] = []
            #: Whether frames are stored in the order they are shown in.
            self.in_order = True
            for packet in container.demux(stream):
                if packet.size:
                    self.keys.append(bool(packet.is_keyframe))
                    self.times_us.append(round((packet.pts or 0) * stream.time_base * 1_000_000))
                    self.in_order = self.in_order and packet.pts == packet.dts
