"""Copies frames of recorded videos into another without decoding them."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgrec.errors import VideoError
from dgrec.files import NewFile, output_error
from dgrec.replay.clip.recorded_videos import RecordedVideo
from dgrec.replay.clip.rows import ClipRows
from dgrec.video import MICROSECOND, import_av, repeats

_TIME_TOLERANCE_US = 2


@dataclass(frozen=True)
class VideoTarget:
    """The file of a clip's video."""

    path: Path
    overwrite: bool
    #: The clip's session, which the video belongs to.
    session: NewFile


@dataclass(frozen=True, slots=True)
class _ClipFrame:
    """A frame of the clip: its place there, and its number in a recorded video."""

    place: int
    path: Path
    number: int


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture of the clip's video, and its number in a recorded one.

    A repeat in a long gap belongs to no row of the clip: its place is None.
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
    """Copy the clip's frames without decoding them; return the place of each picture, in order.

    The place of a picture that is repeated in a long gap is None. Returns None, with nothing
    written, if a copy would differ: a span does not begin with a key frame, frames are stored out
    of order, or files were encoded differently.

    Raises:
        OutputError: It cannot be written.
    """
    av = import_av()
    frames = [
        _ClipFrame(place, *found) for place, found in enumerate(video.frames) if found is not None
    ]
    parts = [video.footage.part_with(rows.from_frames[frame.place]) for frame in frames]
    if any(part.note for part in parts):
        return None  # it was changed: each frame has to be compared with its row
    try:
        files = {name: Packets(name) for name in dict.fromkeys(frame.path for frame in frames)}
    except (OSError, av.FFmpegError, VideoError):
        return None  # decoding may still read some of it
    if not all(file.in_order for file in files.values()):
        return None
    if len({file.facts for file in files.values()}) > 1:
        return None
    # If a video ended early, so does the clip's.
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


def _pictures(frames: Sequence[_ClipFrame], rows: ClipRows) -> list[_Picture] | None:
    """Return the pictures of the clip's video, including repeats in long gaps.

    None if a gap needs repeats that the recorded video does not have.
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
    frames: Sequence[_ClipFrame],
    files: Mapping[Path, Packets],
    video: RecordedVideo,
    rows: ClipRows,
) -> bool:
    """Return whether the frames have the times of their rows, in videos without a known digest."""
    stamps = rows.facts["captured_at"].to_pylist()
    for frame in frames:
        part = video.footage.part_with(rows.from_frames[frame.place])
        if part.changed and part.started_at is not None:
            offset_us = (stamps[frame.place] - part.started_at) / dt.timedelta(microseconds=1)
            offset_us += part.shift_us(frame.number)
            if abs(files[frame.path].times_us[frame.number] - offset_us) > _TIME_TOLERANCE_US:
                return False
    return True


def _first_of_runs(frames: Sequence[_ClipFrame]) -> Iterator[_ClipFrame]:
    """Yield the frames that do not directly follow the one before in the recorded video."""
    before: _ClipFrame | None = None
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
        av.open(new.name, "w", format="mp4", options=options) as output,
    ):
        copied: Any = None
        for name, wanted in chosen.items():
            with av.open(str(name.absolute())) as source:
                stream = source.streams.video[0]
                if copied is None:
                    # As it is: otherwise PyAV looks for an encoder that has the decoder's name, and
                    # for AV1's (libdav1d) there is none.
                    copied = output.add_stream_from_template(stream, opaque=True)
                    copied.time_base = MICROSECOND
                packets = (packet for packet in source.demux(stream) if packet.size)
                last = max(wanted)
                for number, packet in enumerate(itertools.islice(packets, last + 1)):
                    if number in wanted:
                        packet.stream, packet.time_base = copied, MICROSECOND
                        packet.pts = wanted[number].pts_us
                        packet.duration = wanted[number].duration_us
                        packet.dts = packet.pts
                        output.mux(packet)


class Packets:
    """The packets of a video, one for each frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with import_av().open(str(path.absolute())) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: has no video")
            stream = container.streams.video[0]
            context = stream.codec_context
            #: Must be equal for packets of two files to be copied into one.
            self.facts = (context.name, context.width, context.height, context.extradata)
            #: Whether each is a key frame.
            self.keys: list[bool] = []
            #: When each is shown.
            self.times_us: list[int] = []
            #: Whether frames are stored in the order of presentation.
            self.in_order = True
            tick_us = stream.time_base * 1_000_000
            # Fractions are slow, and the videos of recordings have whole microseconds.
            tick_us = int(tick_us) if tick_us.denominator == 1 else tick_us
            for packet in container.demux(stream):
                if packet.size:
                    self.keys.append(bool(packet.is_keyframe))
                    self.times_us.append(round((packet.pts or 0) * tick_us))
                    self.in_order = self.in_order and packet.pts == packet.dts
