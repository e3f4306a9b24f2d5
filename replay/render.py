"""A session's frames with their results drawn, each at its own time."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dgrec.errors import OutputError, VideoError
from dgrec.result import RecordedResult
from dgrec.session import Session
from dgrec.video import Image, VideoWriter, check_output
from replay.pixels import Pixels

__all__ = [
    "Canvas",
    "Frame",
    "OverlayPainter",
    "Timeline",
    "canvas_for",
    "frames",
    "write_replay",
]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
#: MP4 keeps the time between two frames in 32 bits, and here in microseconds.
_LONGEST_STEP_US = 3_600_000_000
_FIRST_STEP_US = 40_000


@dataclass(frozen=True, slots=True)
class Frame:
    """One recorded frame, with its pixels and its time."""

    result: RecordedResult
    image: Image
    #: Microseconds since the first frame.
    pts_us: int


class Timeline:
    """Turns the recorded times of rows into microseconds since the first one.

    The source's own time line is what a video should follow; a source that has none (a camera, as
    a rule) is followed by when its frames were captured.
    """

    def __init__(self) -> None:
        self._pts: int | None = None
        self._media: int | None = None
        self._captured = 0
        #: Microseconds between the last two frames.
        self.step_us = _FIRST_STEP_US

    def pts_us(self, row: Mapping[str, Any]) -> int:
        """Return the time of the next row; it is always later than that of the last."""
        media_s = row["media_time_s"]
        media = round(media_s * 1e6) if media_s is not None and math.isfinite(media_s) else None
        captured = (row["captured_at"] - _EPOCH) // _MICROSECOND
        if self._pts is None:
            self._pts = 0
        else:
            step = captured - self._captured
            if media is not None and self._media is not None:
                # A file that is read in a loop begins again: the next round follows in step.
                step = media - self._media if media > self._media else self.step_us
            self.step_us = min(max(step, 1), _LONGEST_STEP_US)
            self._pts += self.step_us
        self._media, self._captured = media, captured
        return self._pts


def frames(
    session: Session, pixels: Pixels, start: int = 0, end: int | None = None
) -> Iterator[Frame]:
    """Yield the frames ``start`` to before ``end`` that have pixels, in bounded memory."""
    timeline = Timeline()
    for result in _results(session, start, end):
        image = pixels.frame(result.row)
        if image is not None:
            yield Frame(result, image, timeline.pts_us(result.row))


def _results(session: Session, start: int, end: int | None) -> Iterator[RecordedResult]:
    metadata = session.metadata
    position = 0
    for batch in session.batches():
        first, last = start - position, batch.num_rows
        position += batch.num_rows
        if end is not None:
            last = min(last, end - (position - batch.num_rows))
        for at in range(max(first, 0), last, 64):
            for row in batch.slice(at, min(64, last - at)).to_pylist():
                yield RecordedResult(row, metadata)
        if end is not None and position >= end:
            return


class OverlayPainter:
    """Draws results as PySDK does, with the recorded settings.

    Args:
        settings: Overlay settings that replace the recorded ones (`dgrec.result`).
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self._settings = dict(settings or {})
        self._labels: dict[Any, Any] | None = None
        self._failed = 0
        self._failure = ""

    def draw(self, result: RecordedResult, image: Image) -> Image:
        """Return ``image`` with the results drawn; a classification's labels enlarge it.

        Results that PySDK cannot draw (a box of NaN) leave the picture as it is: `notes` tells.

        Raises:
            VideoError: The installed PySDK does not know the recorded result type.
        """
        try:
            if self._labels is None:
                self._labels = result.label_dictionary
            return result.overlay(image, self._settings, self._labels)
        except VideoError:
            raise
        except Exception as error:  # whatever PySDK and OpenCV raise on values they never expected
            if not self._failed:
                text = (str(error).strip().splitlines() or [type(error).__name__])[0]
                self._failure = f"frame {result.frame}: {text}"
            self._failed += 1
            return image

    def notes(self) -> list[str]:
        """Return what the user should know after the last frame, a line each."""
        if not self._failed:
            return []
        frames_ = "1 frame" if self._failed == 1 else f"{self._failed:,} frames"
        return [f"the results of {frames_} cannot be drawn ({self._failure})"]


class Canvas:
    """One picture size for all frames, even in both directions, as H.264 with 4:2:0 wants it.

    Smaller pictures go into the upper left corner; larger ones are scaled down to fit.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = width + width % 2
        self.height = height + height % 2

    def fit(self, image: Image) -> Image:
        height, width = image.shape[:2]
        if (width, height) == (self.width, self.height):
            return image
        if width > self.width or height > self.height:
            import cv2

            scale = min(self.width / width, self.height / height)
            width, height = max(1, int(width * scale)), max(1, int(height * scale))
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        canvas = np.zeros((self.height, self.width, 3), np.uint8)
        canvas[:height, :width] = image
        return canvas


def canvas_for(
    session: Session, painter: OverlayPainter, start: int = 0, end: int | None = None
) -> Canvas:
    """Return a canvas that the session's drawn frames fit.

    Pictures are as large as the frames, except where PySDK writes the labels below: there the
    frame with the most labels says how much room they take.
    """
    first = next(_results(session, start, end), None)
    if first is None:
        raise VideoError(f"{session.path}: no frames to draw")
    width, height = first.size
    if _writes_labels_below(session):
        busiest = _busiest(session, start, end)
        for result in _results(session, busiest, busiest + 1):
            blank = np.zeros((result.size[1], result.size[0], 3), np.uint8)
            drawn = painter.draw(result, blank)
            width, height = max(width, drawn.shape[1]), max(height, drawn.shape[0])
    return Canvas(width, height)


def _writes_labels_below(session: Session) -> bool:
    from degirum.exceptions import DegirumException
    from degirum.postprocessor import class_from_type_string

    try:
        result_class = class_from_type_string(session.metadata.get("model", {}).get("result_type"))
    except DegirumException:
        return False  # drawing says so, in better words
    return hasattr(result_class, "overlay_show_labels_below")


def _busiest(session: Session, start: int, end: int | None) -> int:
    """Return the number of the frame with the most entries in its results."""
    best, most, position = start, -1, 0
    for batch in session.batches(["detections"]):
        for offset, count in enumerate(batch.column("detections").value_lengths().to_pylist()):
            frame = position + offset
            if start <= frame and (end is None or frame < end) and count > most:
                best, most = frame, count
        position += batch.num_rows
    return best


def write_replay(
    session: Session,
    pixels: Pixels,
    output: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    start: int = 0,
    end: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda frame: None,
) -> tuple[int, float, list[str]]:
    """Write the session's frames with their results drawn as an MP4.

    Args:
        session: The session.
        pixels: Its pixels.
        output: The video to write.
        settings: Overlay settings that replace the recorded ones.
        start: The first frame.
        end: The frame to stop before.
        overwrite: Whether ``output`` may be replaced.
        progress: Called with each frame's number in the session once it is written.

    Returns:
        Frames written, the video's length in seconds, and notes for the user, a line each.

    Raises:
        OutputError: The video cannot be written.
        VideoError: There is nothing to draw, or no way to draw or encode it.
    """
    check_output(output, overwrite=overwrite)
    if output.exists() and any(output.samefile(file) for file in pixels.footage.files):
        raise OutputError(f"{output}: is the video that the pixels are read from")
    painter = OverlayPainter(settings)
    canvas = canvas_for(session, painter, start, end)
    waiting: Frame | None = None
    step = _FIRST_STEP_US
    with VideoWriter(output, canvas.width, canvas.height, overwrite=overwrite) as writer:

        def write(frame: Frame, duration_us: int) -> None:
            picture = canvas.fit(painter.draw(frame.result, frame.image))
            writer.write(picture, frame.pts_us, duration_us)
            progress(frame.result.frame)

        # A frame lasts until the next one, which therefore has to be known before it is written.
        for frame in frames(session, pixels, start, end):
            if waiting is not None:
                step = frame.pts_us - waiting.pts_us
                write(waiting, step)
            waiting = frame
        if waiting is None:
            raise VideoError("; ".join(pixels.notes()) or f"{session.path}: no frames to draw")
        write(waiting, step)
    seconds = (waiting.pts_us + step) / 1e6
    return writer.frames, seconds, [*pixels.notes(), *painter.notes()]
