"""The pixels of a session's frames: which belong to which row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgrec.errors import VideoError
from dgrec.footage.finding import Footage
from dgrec.footage.video import VideoFrames
from dgrec.format import pixel_aspect
from dgrec.units import counted
from dgrec.video import Image

if TYPE_CHECKING:
    from dgrec.session import RecordedResult, Session

__all__ = ["Pixels", "pixel_aspect_of"]

#: How far the time of a source's frame may be from its row's: containers round to milliseconds.
_TOLERANCE_S = 0.002
#: A recorded video carries the times of its rows to the microsecond.
_RECORDED_TOLERANCE_S = 1.5e-6

#: More than 8K. Rows may claim any size, and a canvas takes memory for all of it.
_MOST_PIXELS = 40_000_000

#: Why frames are not in a recorded video (`video_state`), in words.
_STATES = {
    "encoder_busy": "the encoder was busy",
    "encoder_failed": "the encoder had failed",
    "part_not_begun": "their part had not begun",
}


def pixel_aspect_of(session: Session) -> Fraction:
    """Return width / height of a pixel of the source as it is shown; 1 where nothing is known."""
    return pixel_aspect(session.metadata)


class _Film:
    """One video, and which of its frames shows what a row is about.

    Raises:
        VideoError: It is no video.
    """

    def __init__(self, footage: Footage, path: Path) -> None:
        self.footage = footage
        self.name = path.name
        self.clip = VideoFrames(path, changed=footage.changed)
        self._other: bool | None = None
        self._tolerance_s = _TOLERANCE_S
        if footage.column == "video_frame":
            self._tolerance_s = _RECORDED_TOLERANCE_S + self.clip.tick_s / 2

    def image(self, row: Mapping[str, Any]) -> Image | str:
        """Return a row's pixels, or why there are none: a key of `Pixels.notes`."""
        footage, clip = self.footage, self.clip
        index = row[footage.column]
        if index is None:
            return "left_out"
        if footage.frames is not None and index >= footage.frames:
            return "ends"
        if self._is_other():
            return "stranger"
        image = self._read(int(index))
        time_s = self._time_s(row)
        if image is not None and (time_s is None or self._is_at(time_s)):
            return image
        if not footage.changed:
            if image is not None and footage.column == "video_frame":
                return image  # frames are numbered in it, and a clock may have been set
            if image is not None and clip.has_index:
                # The very file that was recorded: then the decoder left frames out while it was,
                # too, and counting as the recorder did finds the row's own.
                clip.count_frames()
                image = self._read(int(index))
        elif time_s is not None and (image is not None or self._is_past(int(index))):
            found = clip.find(time_s, self._tolerance_s)
            if found is None:
                return "ends" if image is None else "other"
            image = clip.read(found)
            if image is not None and not self._is_at(time_s):
                return "other"
        if image is None:
            return "ends" if self._is_past(int(index)) else "damaged"
        return image

    def _is_past(self, index: int) -> bool:
        return self.clip.length is not None and index >= self.clip.length

    def _is_other(self) -> bool:
        """Return whether a changed video has none of the times that the rows have."""
        if self._other is None:
            times_s = self.footage.times_s
            clip = self.clip
            self._other = (
                bool(times_s)
                and clip.find(0.0, self._tolerance_s) is not None
                and all(clip.find(time_s, self._tolerance_s) is None for time_s in times_s)
            )
        return self._other

    def _time_s(self, row: Mapping[str, Any]) -> float | None:
        """Return where in the video the row says that it is, in seconds."""
        if self.footage.column == "source_frame":
            media_s = row.get("media_time_s")
            return media_s if media_s is not None and math.isfinite(media_s) else None
        captured = row.get("captured_at")
        if captured is None or self.footage.started_at is None:
            return None
        return float((captured - self.footage.started_at).total_seconds())

    def _is_at(self, time_s: float) -> bool:
        at = self.clip.time_s
        return at is None or abs(at - time_s) <= self._tolerance_s

    def _read(self, index: int) -> Image | None:
        clip, loops = self.clip, self.footage.loops
        image = clip.read(index % clip.length if loops and clip.length else index)
        if image is None and loops and clip.length and index >= clip.length:
            # Only now is it known where the file ends, and with it which round this is.
            image = clip.read(index % clip.length)
        return image


class Pixels:
    """The pixels of one row after the other, in any order.

    Without footage every frame is black, of the size that was recorded. A row whose own frame
    cannot be had gets none: never that of another.

    Raises:
        VideoError: The footage is no video.
    """

    def __init__(self, footage: Footage) -> None:
        self.footage = footage
        #: Size of the video's frames, when it is not the recorded one and they are resized.
        self.resized_from: tuple[int, int] | None = None
        #: Of each reason and file: the frames that have no pixels, and the `video_state` of each.
        self._missing: dict[tuple[str, str], dict[int, str]] = {}
        self._lengths: dict[str, int] = {}
        self._film: _Film | None = None
        if not footage.parts and footage.path is not None:
            self._film = _Film(footage, footage.path)

    @property
    def missing(self) -> int:
        """How many rows were asked for that have no pixels."""
        return sum(map(len, self._missing.values()))

    def frame(self, row: Mapping[str, Any]) -> Image | None:
        """Return the pixels that the row's results were found in; None if there are none.

        Rows are cheapest in their own order. The array is the caller's.
        """
        width, height = row["width"] or 0, row["height"] or 0
        if width < 1 or height < 1 or width * height > _MOST_PIXELS:
            self._miss("no_size", "", row)
            return None
        if self.footage.path is None:
            return np.zeros((height, width, 3), np.uint8)
        image = self.stored(row)
        if image is not None and self.footage.annotated:
            # It keeps its shape: labels may stand below the picture.
            scale = min(width / image.shape[1], height / image.shape[0])
            width, height = (max(1, round(side * scale)) for side in image.shape[1::-1])
        if image is not None and image.shape[:2] != (height, width):
            import cv2

            self.resized_from = (image.shape[1], image.shape[0])
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        return image

    def results(self, session: Session) -> Iterator[RecordedResult]:
        """Yield a session's frames with their pixels, as `predict_stream` yielded them.

        ``image`` and ``image_overlay`` are there, but for frames that have no pixels (`notes`).
        """
        labels: dict[Any, Any] | None = None
        for result in session:
            if labels is None:
                labels = result.label_dictionary
            image = self.frame(result.row)
            yield result if image is None else result.with_image(image, labels)

    def stored(self, row: Mapping[str, Any]) -> Image | None:
        """Return `frame` in the size that it has in the video, which there must be."""
        name, image = self._look(row)
        if isinstance(image, str):
            self._miss(image, name, row)
            return None
        return image

    def _miss(self, reason: str, name: str, row: Mapping[str, Any]) -> None:
        number = row.get("frame", row[self.footage.column])
        self._missing.setdefault((reason, name), {})[number] = str(row.get("video_state") or "")

    def _look(self, row: Mapping[str, Any]) -> tuple[str, Image | str]:
        """Return the name of the file that a row's pixels are in, and them or why not."""
        if self.footage.parts:
            part = self.footage.part_with(row["frame"])
            if part.path is None:
                return "", "left_out" if row[part.column] is None else "gone"
            if self._film is None or self._film.footage is not part:
                self.close()
                try:
                    self._film = _Film(part, part.path)
                except VideoError:
                    return part.path.name, "no_video"
        film = self._film
        assert film is not None
        image = film.image(row)
        if isinstance(image, str):
            length = film.footage.frames
            known = film.clip.length
            if known is not None:
                length = known if length is None else min(known, length)
            if length is not None:
                self._lengths[film.name] = length
        return film.name, image

    def notes(self) -> list[str]:
        """Return what the user should know after the last frame, a line each."""
        notes = []
        for (reason, name), frames in self._missing.items():
            count = len(frames)
            first = f"from frame {min(frames):,} on" if count > 1 else f"frame {min(frames):,}"
            why = {
                "ends": f"{name} ends after {self._lengths.get(name, 0):,} frames",
                "damaged": f"{name} is damaged ({first})",
                "other": f"{name} has no frame at the time of some rows ({first}): "
                "it was cut or changed, or does not belong to this session",
                "stranger": f"{name} is a video of something else: "
                "its frames have other times than the rows",
                "gone": "the video of their part is gone",
                "no_video": f"{name} is not a video that can be read",
                "no_size": "no size was recorded of some frames, or none that a picture has",
                "left_out": f"not every frame is in {name or 'a video'}",
            }[reason]
            states = Counter(state for state in frames.values() if state)
            told = ", ".join(f"{_STATES.get(s, s)}: {n:,}" for s, n in states.most_common())
            because = f" ({told})" if reason == "left_out" and told else ""
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
        if self._film is not None:
            self._film.clip.close()
            self._film = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
