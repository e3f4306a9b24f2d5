"""Copies frames of videos that keep their source's packets, with all that decoding them needs."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dgrec.errors import VideoError
from dgrec.files import NewFile, output_error
from dgrec.footage import VideoFrames
from dgrec.format import digest
from dgrec.replay.clip.packets import VideoTarget
from dgrec.replay.clip.recorded_videos import RecordedVideo
from dgrec.replay.clip.rows import ClipRows
from dgrec.units import counted
from dgrec.video import MICROSECOND, copy_of, import_av, is_random_access_point, nal_length_size

_STEP_US = 40_000


@dataclass(frozen=True)
class KeptClip:
    """The pictures that were copied.

    Attributes:
        places: The place in the clip of each picture, in the order in which they are shown; None
            for those that only help to decode others.
        times_us: When each is shown, in microseconds after the first.
        notes: What the user should know, a line each.
    """

    places: list[int | None]
    times_us: list[int]
    notes: list[str]


@dataclass(frozen=True)
class _Range:
    """Packets of a file that follow each other, and the numbers of the rows' frames in it."""

    path: Path
    start: int
    end: int
    places: dict[int, int]


def copy_kept(video: RecordedVideo, rows: ClipRows, target: VideoTarget) -> KeptClip | None:
    """Copy the clip's frames without decoding them; None if that cannot be done exactly.

    Raises:
        OutputError: It cannot be written.
    """
    av = import_av()
    found = [(place, *frame) for place, frame in enumerate(video.frames) if frame is not None]
    parts = [video.footage.part_with(rows.from_frames[place]) for place, _, _ in found]
    if not all(part.kept and not part.note for part in parts):
        return None  # it is another file
    try:
        files = {path: KeptFile(path) for path in dict.fromkeys(path for _, path, _ in found)}
    except (OSError, av.FFmpegError, VideoError):
        return None
    if len({file.facts for file in files.values()}) > 1:
        return None
    # If a video ended early, so does the clip's. After a torn end, numbers mean nothing.
    there = [
        (frame, part.changed)
        for frame, part in zip(found, parts, strict=True)
        if frame[2] < len(files[frame[1]].pts) and (part.frames is None or frame[2] < part.frames)
    ]
    found = [frame for frame, _ in there]
    if not found:
        return KeptClip([], [], [])
    ranges = _ranges(found, files, rows.starts)
    times = _times(ranges, files)
    try:
        _write(target, ranges, times)
    except (OSError, av.FFmpegError) as error:
        raise output_error(target.path, error) from None
    # If a recording goes on, or was cut off, no digest says that the file is the recorded one.
    doubtful = {
        place: rows.facts["pixel_digest"][place].as_py()
        for (place, _, _), is_doubtful in there
        if is_doubtful
    }
    described = _described(target.path, ranges, files, times, doubtful)
    if described is None:
        target.session.drop(target.path)
    return described


class KeptFile:
    """The packets of a video, in the order of decoding."""

    def __init__(self, path: Path) -> None:
        last_dts_us = 0
        with import_av().open(str(path.absolute())) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: has no video")
            stream = container.streams.video[0]
            context = stream.codec_context
            extradata = bytes(context.extradata or b"")
            #: Must be equal for packets of two files to be copied into one.
            self.facts = (context.name, context.width, context.height, extradata)
            length = nal_length_size(context.name, extradata)
            pts: list[int] = []
            #: The packets at which decoding can begin.
            self.starts: list[int] = []
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                if not pts or (
                    packet.is_keyframe
                    and is_random_access_point(context.name, bytes(packet), length)
                ):
                    self.starts.append(len(pts))
                pts.append(round((packet.pts or 0) * stream.time_base * 1_000_000))
                last_dts_us = round((packet.dts or 0) * stream.time_base * 1_000_000)
        self.pts = np.asarray(pts, np.int64)
        #: The packet of each frame, by its number.
        self.packets = np.argsort(self.pts, kind="stable")
        #: How many frames keep their number, whatever is written to the file from now on.
        self.certain = int((self.pts < last_dts_us).sum())

    def range_of(self, first: int, last: int) -> tuple[int, int]:
        """Return the first packet and the last one that frames ``first`` to ``last`` need."""
        shown = self.pts[self.packets[first]]
        fitting = [start for start in self.starts if self.pts[start] <= shown]
        return fitting[-1] if fitting else 0, int(self.packets[: last + 1].max())


def _ranges(
    found: Sequence[tuple[int, Path, int]], files: dict[Path, KeptFile], starts: Sequence[int]
) -> list[_Range]:
    """Return the packets that the clip needs; ``starts`` are the places where its spans begin."""
    runs: list[list[tuple[int, Path, int]]] = []
    begins = set(starts)
    for frame in found:
        if not runs or frame[1] != runs[-1][-1][1] or frame[0] in begins:
            runs.append([])
        runs[-1].append(frame)
    ranges: list[_Range] = []
    for run in runs:
        path = run[0][1]
        start, end = files[path].range_of(run[0][2], run[-1][2])
        places = {number: place for place, _, number in run}
        before = ranges[-1] if ranges else None
        if before is not None and before.path == path and start <= before.end + 1:
            start, end = before.start, max(end, before.end)
            places = {**before.places, **places}
            ranges.pop()
        ranges.append(_Range(path, start, end, places))
    return ranges


def _times(ranges: Sequence[_Range], files: dict[Path, KeptFile]) -> list[np.ndarray[Any, Any]]:
    """Return when the packets of each range are shown, in microseconds.

    Pictures before the first frame of a range are shown for a microsecond each; then all have the
    distances that they were recorded with, and the next range follows.
    """
    times = []
    following = 0
    for each in ranges:
        pts = files[each.path].pts[each.start : each.end + 1]
        first = files[each.path].pts[files[each.path].packets[min(each.places)]]
        order = np.argsort(np.argsort(pts, kind="stable"), kind="stable")
        before = int((pts < first).sum())
        shown = np.where(pts < first, order, pts - first + before) + following
        times.append(shown)
        in_order = np.sort(shown)
        last = int(in_order[-1] - in_order[-2]) if len(in_order) > 1 else _STEP_US
        following = int(in_order[-1]) + max(1, min(last, 1_000_000))
    return times


def _write(
    target: VideoTarget, ranges: Sequence[_Range], times: Sequence[np.ndarray[Any, Any]]
) -> None:
    av = import_av()
    every = np.concatenate(times)
    in_order = np.sort(every)
    # How many pictures are stored, at most, before one that is shown earlier.
    depth = int((np.arange(len(every)) - np.searchsorted(in_order, every)).max())
    options = {
        "movflags": "+faststart",
        "video_track_timescale": "1000000",
        "use_editlist": "0",
    }
    count = 0
    with (
        NewFile(target.path, replace=target.overwrite, owner=target.session) as new,
        av.open(new.name, "w", format="mp4", options=options) as output,
    ):
        copied: Any = None
        for each, shown in zip(ranges, times, strict=True):
            with av.open(str(each.path.absolute())) as source:
                stream = source.streams.video[0]
                if copied is None:
                    copied = output.add_stream_from_template(stream)
                    copied.time_base = MICROSECOND
                packets = (packet for packet in source.demux(stream) if packet.size)
                wanted = itertools.islice(packets, each.start, each.end + 1)
                for packet, shown_us in zip(wanted, shown.tolist(), strict=False):
                    pts = shown_us + depth
                    dts = count if count < depth else int(in_order[count - depth]) + depth
                    output.mux(copy_of(packet, copied, pts, dts, MICROSECOND))
                    count += 1


def _described(
    path: Path,
    ranges: Sequence[_Range],
    files: dict[Path, KeptFile],
    times: Sequence[np.ndarray[Any, Any]],
    doubtful: Mapping[int, int | None],
) -> KeptClip | None:
    """Compare the clip's frames with the recorded ones; return the pictures it has.

    ``doubtful`` has the digests of the frames that were inferred, by place: None if one differs.
    """
    in_order = np.sort(np.concatenate(times))
    places: list[int | None] = [None] * len(in_order)
    other = 0
    with contextlib.closing(VideoFrames(path, kept=True)) as clip:
        for each, shown in zip(ranges, times, strict=True):
            packets = files[each.path].packets
            with contextlib.closing(VideoFrames(each.path, kept=True)) as recorded:
                for number, place in sorted(each.places.items()):
                    time_us = shown[packets[number] - each.start]
                    at = int(np.searchsorted(in_order, time_us))
                    image, again = recorded.read(number), clip.read(at)
                    if place in doubtful and (image is None or digest(image) != doubtful[place]):
                        return None
                    if image is not None and again is not None and np.array_equal(image, again):
                        places[at] = place
                    else:
                        other += 1
    notes = []
    if other:
        frames = counted(other, "frame")
        notes.append(f"{frames} of damaged pictures cannot be cut out exactly: left out")
    return KeptClip(places, in_order.tolist(), notes)
