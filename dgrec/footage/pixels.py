"""The pixels of a session's frames: which belong to which row."""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgrec.errors import VideoError
from dgrec.footage.footage import Footage
from dgrec.footage.video_frames import VideoFrames
from dgrec.format import digest, pixel_aspect
from dgrec.units import counted
from dgrec.video import Image

if TYPE_CHECKING:
    from dgrec.session import RecordedResult, Session

#: How far a frame's time may be from its row's: containers round to milliseconds.
_TOLERANCE_S = 0.002
#: A recorded video carries the times of its rows to the microsecond.
_RECORDED_TOLERANCE_S = 1.5e-6

#: More than 8K. Damaged rows may claim any size, and a blank canvas takes memory for all of it.
_MOST_PIXELS = 40_000_000

#: Why frames are not in a recorded video (`video_state`), in words.
_STATES = {
    "encoder_busy": "the encoder was busy",
    "encoder_failed": "the encoder had failed",
    "part_not_begun": "their part had not begun",
    "no_key_frame": "no key frame had come",
    "damaged": "the source's pictures were damaged",
}


def pixel_aspect_of(session: Session) -> Fraction:
    """Return width / height of a pixel of the source as it is shown; 1 where nothing is known."""
    return pixel_aspect(session.metadata)


def tolerance_s(footage: Footage, tick_s: float) -> float:
    """Return how far a picture's time may be from its row's.

    Args:
        tick_s: The video's unit of time.
    """
    is_recorded = footage.column == "video_frame"
    return _RECORDED_TOLERANCE_S + tick_s / 2 if is_recorded else _TOLERANCE_S


def row_time_s(
    footage: Footage, started_at: dt.datetime | None, row: Mapping[str, Any]
) -> float | None:
    """Return the time of a row in its video in seconds, if it has one.

    Args:
        started_at: The time of capture of frame 0 of a recorded video.
    """
    if footage.column == "source_frame":
        media_s = row.get("media_time_s")
        return media_s if media_s is not None and math.isfinite(media_s) else None
    captured = row.get("captured_at")
    if captured is None or started_at is None:
        return None
    shift_s = footage.shift_us(row[footage.column]) / 1e6 if footage.shifts else 0.0
    return float((captured - started_at).total_seconds()) + shift_s


def is_in_round(
    footage: Footage,
    number: int,
    time_s: float | None,
    length: int,
    at_s: Callable[[int], float | None],
    tolerance_s: float,
) -> bool:
    """Return whether a row of a later round of a repeated file has the picture of that number.

    Numbers and times of rows count on. The times tell whether the recorder could decode all
    pictures before, but the last ones: a round would be shorter otherwise.

    Args:
        number: The row's number, beyond the file's last picture.
        time_s: The row's time, if it has one.
        length: The number of pictures in the file.
        at_s: Returns the time of one of them.
    """
    if footage.changed and footage.round_frames != length:
        return False  # at a constant rate, the times fit any length
    if time_s is None:
        return True
    rounds, number = divmod(number, length)
    first_s, last_s, shown_s = at_s(0), at_s(length - 1), at_s(number)
    if first_s is None or last_s is None or shown_s is None:
        return False
    # As `FileSource` does: the last picture is shown for one period.
    period_s = 1 / footage.fps if footage.fps and footage.fps > 0 else 0.0
    expected_s = shown_s + rounds * (last_s - first_s + period_s)
    return abs(time_s - expected_s) <= tolerance_s * (rounds + 1)


def is_other_video(footage: Footage, find: Callable[[float], int | None]) -> bool:
    """Return whether no row's time is in a changed video.

    Args:
        find: Returns the number of the picture at a time, if there is one.
    """
    return (
        bool(footage.times_s)
        and find(0.0) is not None
        and all(find(time_s) is None for time_s in footage.times_s)
    )


class _RowVideo:
    """One video, and the frame in it that belongs to a row.

    Raises:
        VideoError: It is not a video.
    """

    def __init__(self, footage: Footage, path: Path) -> None:
        self.footage = footage
        self.name = path.name
        self.frames = VideoFrames(path, changed=footage.changed, kept=footage.kept)
        self._started_at = footage.started_at
        if footage.kept and self._started_at is None and footage.first_row is not None:
            # A recorder that is at work, or was killed, has not written when frame 0 was captured.
            number, captured_at = footage.first_row
            before_s = self.frames.time_of(number)
            if before_s is not None:
                self._started_at = captured_at - dt.timedelta(seconds=before_s)
        self._other: bool | None = None
        self._checked_length: int | None = None
        self._tolerance_s = tolerance_s(footage, self.frames.tick_s)

    def image(self, row: Mapping[str, Any]) -> Image | str:
        """Return a row's pixels, or why there are none: a key of `Pixels.notes`."""
        footage, frames = self.footage, self.frames
        index = row[footage.column]
        if index is None:
            return "left_out"
        if footage.frames is not None and index >= footage.frames:
            return "ends"
        if self._is_other():
            return "unrelated"
        image = self._read(int(index))
        recorded = row.get("pixel_digest")
        if image is not None and footage.kept and recorded not in (None, digest(image)):
            # The recorder's decoder made something else of a damaged picture.
            if self._is_exact:
                return "damaged"
            image = self._read(int(index))
        time_s = row_time_s(footage, self._started_at, row)
        if footage.loops and frames.has_index and self._is_past(int(index)):
            length = frames.length or 1
            if is_in_round(footage, int(index), time_s, length, frames.time_of, self._tolerance_s):
                return "damaged" if image is None else image
            if footage.changed:
                return "other"
        elif image is not None and (time_s is None or self._is_at(time_s)):
            return image
        if not footage.changed:
            if image is not None and footage.column == "video_frame":
                return image  # the number decides: the clock may have been set meanwhile
            if image is not None and frames.has_index:
                # The file is unchanged, so the decoder left out frames during the recording too:
                # counting as the recorder did finds the right one.
                frames.count_frames()
                image = self._read(int(index))
        elif time_s is not None and (image is not None or self._is_past(int(index))):
            found = frames.find(time_s, self._tolerance_s)
            if found is None:
                return "ends" if image is None else "other"
            image = frames.read(found)
            if image is not None and not self._is_at(time_s):
                return "other"
        if image is None:
            return "ends" if self._is_past(int(index)) else "damaged"
        return image

    @functools.cached_property
    def _is_exact(self) -> bool:
        """Return whether pictures are decoded here exactly as they were inferred.

        Other versions of FFmpeg, or other processors, may convert colors a little differently.
        """
        return any(
            digest(image) == recorded
            for number, recorded in self.footage.digests()
            if (image := self.frames.read(number)) is not None
        )

    def _is_past(self, index: int) -> bool:
        return self.frames.length is not None and index >= self.frames.length

    def _is_other(self) -> bool:
        """Return whether no row's time is in a changed video."""
        if self._other is None:
            self._other = is_other_video(
                self.footage, lambda time_s: self.frames.find(time_s, self._tolerance_s)
            )
        return self._other

    def _is_at(self, time_s: float) -> bool:
        at = self.frames.time_s
        return at is None or abs(at - time_s) <= self._tolerance_s

    def _read(self, index: int) -> Image | None:
        frames = self.frames
        image = frames.read(index) if frames.length is None or index < frames.length else None
        if image is None and self.footage.loops and self._is_past(index):
            # Reading past the end has shown the length, and so which frame of the loop this is.
            # An index is right about it if its last frame is there; else frames are counted.
            while self._checked_length != frames.length:
                self._checked_length = frames.length
                if frames.length:
                    frames.read(frames.length - 1)
            if frames.length is None:
                frames.read(index)
            image = frames.read(index % (frames.length or 1))
        return image


class Pixels:
    """Reads the pixels of rows, in any order.

    Without footage every frame is black, in its recorded size. A row whose own frame cannot be read
    gets no pixels, never those of another frame.

    Raises:
        VideoError: The footage is not a video.
    """

    def __init__(self, footage: Footage) -> None:
        self.footage = footage
        #: Size of the video's frames, if they were resized to the recorded size.
        self.resized_from: tuple[int, int] | None = None
        #: For each reason and file: the frames without pixels, and their `video_state`.
        self._missing: dict[tuple[str, str], dict[int, str]] = {}
        self._lengths: dict[str, int] = {}
        #: Why the last row without pixels has none, as `_RowVideo.image` says it; and the video.
        self.missed = self._missed_in = ""
        self._video: _RowVideo | None = None
        if not footage.parts and footage.path is not None:
            self._video = _RowVideo(footage, footage.path)

    @property
    def missing(self) -> int:
        """The number of rows that were read and have no pixels."""
        return sum(map(len, self._missing.values()))

    def frame(self, row: Mapping[str, Any]) -> Image | None:
        """Return a row's pixels in its recorded size; None if there are none.

        Fastest in the order of the rows. The array belongs to the caller.
        """
        width, height = row["width"] or 0, row["height"] or 0
        if width < 1 or height < 1 or width * height > _MOST_PIXELS:
            self._miss("no_size", "", row)
            return None
        if self.footage.path is None:
            return np.zeros((height, width, 3), np.uint8)
        image = self.stored(row)
        if image is not None and self.footage.annotated:
            # Its shape stays: there may be labels below the picture.
            scale = min(width / image.shape[1], height / image.shape[0])
            width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
        if image is not None and image.shape[:2] != (height, width):
            import cv2

            self.resized_from = (image.shape[1], image.shape[0])
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        return image

    def results(self, session: Session) -> Iterator[RecordedResult]:
        """Yield a session's frames with their pixels, as `predict_stream` did.

        Frames without pixels (see `notes`) have neither ``image`` nor ``image_overlay``.
        """
        labels: dict[Any, Any] | None = None
        for result in session:
            if labels is None:
                labels = result.label_dictionary
            image = self.frame(result.row)
            yield result if image is None else result.with_image(image, labels)

    def stored(self, row: Mapping[str, Any]) -> Image | None:
        """Return a row's pixels in the video's own size; there must be a video."""
        name, image = self._look(row)
        if isinstance(image, str):
            self._miss(image, name, row)
            return None
        return image

    def _miss(self, reason: str, name: str, row: Mapping[str, Any]) -> None:
        self.missed, self._missed_in = reason, name
        number = row.get("frame", row[self.footage.column])
        self._missing.setdefault((reason, name), {})[number] = str(row.get("video_state") or "")

    def _look(self, row: Mapping[str, Any]) -> tuple[str, Image | str]:
        """Return the name of a row's video, and its pixels or why there are none."""
        if self.footage.parts:
            part = self.footage.part_with(row["frame"])
            if part.path is None:
                return "", "left_out" if row[part.column] is None else "gone"
            if self._video is None or self._video.footage is not part:
                self.close()
                try:
                    self._video = _RowVideo(part, part.path)
                except VideoError:
                    return part.path.name, "no_video"
        video = self._video
        if video is None:
            raise VideoError(
                f"{self.footage.path}: the pictures are closed; ask session.pixels() for them again"
            )
        image = video.image(row)
        if isinstance(image, str):
            length = video.footage.frames
            known = video.frames.length
            if known is not None:
                length = known if length is None else min(known, length)
            if length is not None:
                self._lengths[video.name] = length
        return video.name, image

    def why_missed(self) -> str:
        """Return why the last row without pixels has none, in words; there must be one."""
        key = self.missed, self._missed_in
        return self._why(*key, self._missing[key])

    def _why(self, reason: str, name: str, frames: Mapping[int, str]) -> str:
        first = f"from frame {min(frames):,} on" if len(frames) > 1 else f"frame {min(frames):,}"
        return {
            "ends": f"{name} ends after {self._lengths.get(name, 0):,} frames",
            "damaged": f"{name} is damaged ({first})",
            "other": f"{name} has no frame at the time of some rows ({first}): "
            "it was cut or changed, or does not belong to this session",
            "unrelated": f"{name} is another video: no frame has the time of a row",
            "gone": "the video of their part cannot be read",
            "no_video": f"{name} is not a video that can be read",
            "no_size": "some frames have no recorded size, or an impossible one",
            "left_out": f"not every frame is in {name or 'a video'}",
        }[reason]

    def notes(self) -> list[str]:
        """Return notes for the user after the last frame, a line each."""
        notes = []
        for (reason, name), frames in self._missing.items():
            count = len(frames)
            why = self._why(reason, name, frames)
            states = Counter(state for state in frames.values() if state)
            causes = ", ".join(f"{_STATES.get(s, s)}: {n:,}" for s, n in states.most_common())
            because = f" ({causes})" if reason == "left_out" and causes else ""
            without = counted(
                count, "recorded frame", "has no pixels and is", "have no pixels and are"
            )
            notes.append(f"{why}: {without} left out{because}")
        if self.resized_from is not None and self.footage.path is not None:
            width, height = self.resized_from
            name = self.footage.path.name
            notes.append(f"{name} is {width}x{height}: resized to the recorded frame size")
        return notes

    def close(self) -> None:
        if self._video is not None:
            self._video.frames.close()
            self._video = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
