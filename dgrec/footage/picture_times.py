"""Times at which a video shows the picture of each row, without decoding: for players."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dgrec.errors import VideoError
from dgrec.footage.footage import Footage
from dgrec.footage.frame_index import FrameIndex, UntrustedIndexError
from dgrec.footage.pixels import is_in_round, is_other_video, row_time_s, tolerance_s
from dgrec.footage.table_index import TableIndex
from dgrec.footage.video_frames import VideoFrames
from dgrec.video import MOST_REORDERED, import_av, open_container

#: Pictures before that of the first row: a video of kept packets begins with a key frame.
_MOST_BEFORE = 4096


class Shown(NamedTuple):
    """A picture in a video file, by the file's own clock, as players count it.

    That clock is the one of FFmpeg and of browsers: an MP4's edit list has been applied.
    """

    pts_s: float
    #: Until the next picture; None for the last one, if the file does not say.
    duration_s: float | None


class PictureTimes:
    """The times at which one video shows the pictures of rows.

    It answers as `Pixels` does, except for what only decoding would find out: damaged pictures.

    Raises:
        VideoError: The file is not a video, or has no index that can be trusted.
    """

    def __init__(self, footage: Footage, path: Path) -> None:
        self.footage = footage
        self._path = path
        self._av = import_av()
        self._container = open_container(path, str(path))
        try:
            self._index = self._indexed()
            first = self._index.pts(0)
        except (UntrustedIndexError, OSError, ValueError, IndexError, self._av.FFmpegError):
            self._container.close()
            raise VideoError(f"{path}: has no index of its frames") from None
        stream = self._container.streams.video[0]
        self._tick = stream.time_base
        self._zero = first if footage.kept else (stream.start_time or 0)
        self._end = None if stream.duration is None else self._zero + stream.duration
        self._tolerance_s = tolerance_s(footage, float(self._tick))
        self._started_at = footage.started_at
        if footage.kept and self._started_at is None and footage.first_row is not None:
            number, captured_at = footage.first_row
            if number < self.length and (before_s := self._seconds(number)) is not None:
                self._started_at = captured_at - dt.timedelta(seconds=before_s)
        self._is_other: bool | None = None

    def _indexed(self) -> FrameIndex | TableIndex:
        try:
            return TableIndex(self._container, any_start=self.footage.kept)
        except UntrustedIndexError:
            return FrameIndex(self._container, any_start=self.footage.kept)

    @property
    def length(self) -> int:
        """The number of pictures in the video."""
        return self._index.count

    def of(self, row: Mapping[str, Any]) -> Shown | str:
        """Return when a row's picture is shown, or why there is none: a key of `Pixels.notes`."""
        number = row[self.footage.column]
        if number is None:
            return "left_out"
        if self.footage.frames is not None and number >= self.footage.frames:
            return "ends"
        if self._is_other is None:
            self._is_other = is_other_video(self.footage, self._find)
        if self._is_other:
            return "unrelated"
        found = self._number(int(number), row_time_s(self.footage, self._started_at, row))
        if isinstance(found, str):
            return found
        return self._shown(found)

    def _number(self, number: int, time_s: float | None) -> int | str:
        """Return the number of the picture that a row has in the index."""
        if self.footage.loops and number >= self.length:
            is_sure = self._has_last and is_in_round(
                self.footage, number, time_s, self.length, self._seconds, self._tolerance_s
            )
            return number % self.length if is_sure else "other"
        if number < 0:
            return "other"
        if number < self.length:
            at_s = self._seconds(number)
            if time_s is None or at_s is None or abs(at_s - time_s) <= self._tolerance_s:
                return number
            if not self.footage.changed and self.footage.column == "video_frame":
                return number  # the number decides: the clock may have been set meanwhile
        # Pictures that the recorder could not decode may have another number in the index.
        found = None if time_s is None else self._find(time_s)
        if found is None:
            return "ends" if number >= self.length else "other"
        return found

    @functools.cached_property
    def _has_last(self) -> bool:
        """Return whether the last picture of the index can be decoded: rounds are as long."""
        try:
            frames = VideoFrames(self._path, changed=self.footage.changed)
        except VideoError:
            return False
        with contextlib.closing(frames):
            return frames.read(self.length - 1) is not None

    def _find(self, time_s: float) -> int | None:
        tolerance = int(self._tolerance_s / self._tick)
        try:
            return self._index.frame_at(round(time_s / self._tick) + self._zero, tolerance)
        except (UntrustedIndexError, OSError, ValueError, self._av.FFmpegError):
            return None

    def _seconds(self, number: int) -> float | None:
        pts = self._pts(number)
        return None if pts is None else float((pts - self._zero) * self._tick)

    def _pts(self, number: int) -> int | None:
        try:
            return self._index.pts(number)
        except (UntrustedIndexError, OSError, ValueError, self._av.FFmpegError):
            return None

    def _shown(self, number: int) -> Shown | str:
        pts = self._pts(number)
        if pts is None:
            return "damaged"
        end = self._pts(number + 1) if number + 1 < self.length else self._end
        duration = None if end is None or end <= pts else float((end - pts) * self._tick)
        return Shown(float(pts * self._tick), duration)

    def close(self) -> None:
        self._container.close()


class GrowingPictureTimes:
    """The same for a video that is being recorded: its index would be out of date at once.

    The times are those of the rows, which a recorded video carries to the microsecond.

    Raises:
        VideoError: The file cannot be read yet.
    """

    def __init__(self, footage: Footage, path: Path) -> None:
        self.footage = footage
        number, captured_at = footage.first_row or (0, footage.started_at)
        if captured_at is None:
            raise VideoError(f"{path}: no row is in it yet")
        self._captured_at = captured_at
        self._at_s = _time_of_picture(path, number)

    def of(self, row: Mapping[str, Any]) -> Shown | str:
        """Return when a row's picture is shown; how long depends on the next one."""
        if row[self.footage.column] is None:
            return "left_out"
        time_s = row_time_s(self.footage, self._captured_at, row)
        return "damaged" if time_s is None else Shown(round(self._at_s + time_s, 6), None)

    def close(self) -> None:
        """Do nothing: no file is open."""


def _time_of_picture(path: Path, number: int) -> float:
    """Return the time of one of the first pictures of a video; they may be out of order.

    Raises:
        VideoError: It is not there yet.
    """
    if number > _MOST_BEFORE:
        raise VideoError(f"{path}: begins too long before the first row")
    av = import_av()
    with contextlib.closing(open_container(path, str(path))) as container:
        times: list[float] = []
        try:
            for packet in container.demux(container.streams.video[0]):
                if packet.pts is not None:
                    times.append(float(packet.pts * packet.time_base))
                if len(times) > number + MOST_REORDERED:
                    break
        except (OSError, ValueError, IndexError, av.FFmpegError):
            pass
    if len(times) <= number:
        raise VideoError(f"{path}: has no picture yet")
    return sorted(times)[number]
