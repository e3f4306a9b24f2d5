"""Draws the frames of a session and writes them, each at its own time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dgrec.errors import OutputError, OverlayError, VideoError
from dgrec.footage import (
    FIRST_STEP_US,
    LONGEST_USUAL_STEP_US,
    Pixels,
    Timeline,
    chosen_batches,
    files_of,
    refuse_recorded,
    session_times,
)
from dgrec.format import LABEL_LEAF, cuts_of, with_columns
from dgrec.replay.drawing import Painter
from dgrec.replay.rendering.pipeline import ahead
from dgrec.replay.rendering.sinks import MP4, Target
from dgrec.session import RecordedResult, Session, begins_run, each_row
from dgrec.units import counted
from dgrec.video import Image

#: WebP has 14 bits for a side, and several pictures are in memory at a time.
_LONGEST_SIDE, _MOST_PIXELS = 16_383, 70_000_000
#: Rows that are converted to Python values at once.
_ROWS_IN_PYTHON = 64


@dataclass(frozen=True, slots=True)
class ReplayFrame:
    """A recorded frame with its pixels and the time at which it is shown."""

    result: RecordedResult
    image: Image
    #: Microseconds since the first frame.
    pts_us: int


def replay_frames(
    session: Session,
    pixels: Pixels,
    start: int = 0,
    end: int | None = None,
    positions: np.ndarray[Any, Any] | None = None,
) -> Iterator[ReplayFrame]:
    """Yield the frames from ``start`` to before ``end`` that have pixels, in bounded memory.

    Args:
        start: Position of the first frame.
        end: Position to stop before.
        positions: Those of the wanted frames, ascending; None: all. The first one after frames that
            are left out follows after the usual step.
    """
    if positions is not None:
        yield from _chosen_frames(session, pixels, positions, start)
        return
    metadata = session.metadata
    timeline, zero_us = Timeline(cuts_of(metadata)), None
    for batch in session.batches(None, start, end):
        times = timeline.times_us(with_columns(batch, Timeline.COLUMNS)).tolist()
        for row, pts_us in zip(each_row(batch, _ROWS_IN_PYTHON), times, strict=True):
            image = pixels.frame(row)
            if image is not None:
                zero_us = pts_us if zero_us is None else zero_us
                yield ReplayFrame(session.restored(row, metadata), image, pts_us - zero_us)


def _chosen_frames(
    session: Session, pixels: Pixels, positions: np.ndarray[Any, Any], start: int
) -> Iterator[ReplayFrame]:
    metadata, usual_us = session.metadata, usual_step_us(session)
    steps = _steps_us(session, positions, start)
    last: int | None = None
    pts_us = 0
    for here, batch in chosen_batches(session, positions):
        for position, row in zip(here.tolist(), each_row(batch, _ROWS_IN_PYTHON), strict=True):
            image = pixels.frame(row)
            if image is None:
                continue
            if last is not None:
                pts_us += steps[position] if last == position - 1 else usual_us
            last = position
            yield ReplayFrame(session.restored(row, metadata), image, pts_us)


def _steps_us(session: Session, positions: np.ndarray[Any, Any], start: int) -> Mapping[int, int]:
    """Return the time since the row before, for wanted rows that follow another wanted one."""
    followers = positions[1:][np.diff(positions) == 1]
    if not len(followers):
        return {}
    times = np.concatenate([*session_times(session, start, int(followers[-1]) + 1)])
    steps = times[followers - start] - times[followers - start - 1]
    return dict(zip(followers.tolist(), steps.tolist(), strict=True))


def usual_step_us(session: Session) -> int:
    """Return the median step between the session's first frames, in microseconds."""
    steps = np.diff(np.concatenate([[], *session_times(session, end=1000)]))
    return int(np.median(steps)) if len(steps) else FIRST_STEP_US


def at_speed(pictures: Iterable[ReplayFrame], speed: float) -> Iterator[ReplayFrame]:
    """Yield the frames with their times divided by ``speed``."""
    last = -1
    for frame in pictures:
        last = max(last + 1, round(frame.pts_us / speed))
        yield replace(frame, pts_us=last)


def _results(session: Session, start: int, end: int | None) -> Iterator[RecordedResult]:
    metadata = session.metadata
    for batch in session.batches(None, start, end):
        for row in each_row(batch, _ROWS_IN_PYTHON):
            yield session.restored(row, metadata)


class OverlayPainter(Painter):
    """Draws results as PySDK does, with the recorded settings.

    Args:
        settings: Overlay settings that replace the recorded ones (`dgrec.session.result`).
        analyzers: The user's own, which draw what they had added.
    """

    def __init__(
        self, settings: Mapping[str, Any] | None = None, analyzers: Sequence[Any] = ()
    ) -> None:
        self._settings = dict(settings or {})
        self._analyzers = tuple(analyzers)
        self._missing: tuple[str, ...] = ()
        self._labels: dict[Any, Any] | None = None
        self._failed = 0
        self._failure = ""

    def draw(self, result: RecordedResult, image: Image) -> Image:
        """Return ``image`` with the results drawn; a classification's labels enlarge it.

        Results that PySDK cannot draw (a box of NaN) are left out and reported in `notes`.

        Raises:
            VideoError: The installed PySDK does not know the recorded result type.
        """
        try:
            if self._labels is None:
                self._labels = result.label_dictionary
                self._missing = result.analyzers_not_drawn(self._analyzers)
            return result.overlay(image, self._settings, self._labels, self._analyzers)
        except OverlayError as error:
            self._failure = self._failure or str(error)
            self._failed += 1
            return image

    def notes(self) -> list[str]:
        notes = []
        if self._missing:
            names = ", ".join(self._missing)
            notes.append(
                f"what {names} drew is not shown: code is never taken from a session; --analyzers "
                "FILE.py:FUNCTION names yours"
            )
        if self._failed:
            frames_ = counted(self._failed, "frame")
            notes.append(f"the results of {frames_} cannot be drawn ({self._failure})")
        return notes


class Canvas:
    """One picture size for all frames, by default rounded up to even, as H.264 needs it.

    Smaller pictures go into the upper left corner; larger ones are scaled down.
    """

    def __init__(self, width: int, height: int, *, even: bool = True) -> None:
        multiple = 2 if even else 1
        self.width = math.ceil(width / multiple) * multiple
        self.height = math.ceil(height / multiple) * multiple

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

    def stretch(self, image: Image) -> Image:
        """Return a picture that fills the canvas: its pixels move as boxes do that are scaled."""
        if image.shape[:2] == (self.height, self.width):
            return image
        import cv2

        size = self.width, self.height
        stretched: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return stretched


def canvas_for(
    session: Session,
    painter: Painter,
    start: int = 0,
    end: int | None = None,
    *,
    even: bool = True,
) -> Canvas:
    """Return a canvas for the session's drawn frames, of which none has to be made smaller.

    If PySDK writes labels below the picture, it has room for those of the frame with the most.
    """
    first = next(_results(session, start, end), None)
    if first is None:
        raise VideoError(f"{session.path}: no frames to draw")
    width, height = first.size
    if width < 1 or height < 1:
        raise VideoError(f"{session.path}: cannot be drawn: its frames have no size")
    width, height = painter.extent(width, height)
    if not _is_drawable(width, height):
        raise OutputError(
            f"{session.path}: cannot be drawn at {width:,}x{height:,} pixels: "
            f"no side may be longer than {_LONGEST_SIDE:,} and no picture larger than "
            f"{_MOST_PIXELS // 1_000_000} megapixels (--size, --scale)"
        )
    if _has_other_sizes(session):
        extents = [painter.extent(*size) for size in _sizes(session, start, end)]
        largest = max(size[0] for size in extents), max(size[1] for size in extents)
        width, height = largest if _is_drawable(*largest) else (width, height)
    if _writes_labels_below(session):
        busiest = _busiest(session, start, end)
        for result in _results(session, busiest, busiest + 1):
            blank = np.zeros((result.size[1], result.size[0], 3), np.uint8)
            drawn = painter.draw(result, blank)
            width, height = max(width, drawn.shape[1]), max(height, drawn.shape[0])
    return Canvas(width, height, even=even)


def _is_drawable(width: int, height: int) -> bool:
    return max(width, height) <= _LONGEST_SIDE and width * height <= _MOST_PIXELS


def _has_other_sizes(session: Session) -> bool:
    """Return whether frames may be of several sizes: images of a program, or another camera."""
    metadata = session.metadata
    # A clip or merge may have frames from before and after a change, without its event.
    if metadata.get("source", {}).get("kind") == "program" or "clip" in metadata:
        return True
    # Nobody compared the first frame of a run with the last one of the run before.
    events = metadata.get("events", [])
    return any(event.get("kind") == "size" or begins_run(event) for event in events)


def _sizes(session: Session, start: int, end: int | None) -> set[tuple[int, int]]:
    """Return the sizes that frames have."""
    found: set[tuple[int, int]] = set()
    for batch in session.batches(["width", "height"], start, end):
        columns = [column.fill_null(0).to_numpy(zero_copy_only=False) for column in batch.columns]
        pairs = np.unique(np.stack(columns, axis=1), axis=0)
        found.update((width, height) for width, height in pairs.tolist() if min(width, height) > 0)
    return found


def _writes_labels_below(session: Session) -> bool:
    from degirum.exceptions import DegirumException
    from degirum.postprocessor import class_from_type_string

    try:
        result_class = class_from_type_string(session.metadata.get("model", {}).get("result_type"))
    except DegirumException:
        return False  # drawing raises a better error
    return hasattr(result_class, "overlay_show_labels_below")


def _busiest(session: Session, start: int, end: int | None) -> int:
    """Return the position of the frame with the most detections."""
    best, most, position = start, -1, start
    for batch in session.batches([LABEL_LEAF], start, end):
        counts = batch.column("detections").value_lengths().to_numpy()
        busiest = int(np.argmax(counts))
        if counts[busiest] > most:
            best, most = position + busiest, int(counts[busiest])
        position += batch.num_rows
    return best


def write_replay(
    session: Session,
    pixels: Pixels,
    output: Path,
    *,
    start: int = 0,
    end: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda frame: None,
    painter: Painter | None = None,
    pictures: Iterable[ReplayFrame] | None = None,
    target: Target | None = None,
) -> tuple[int, float, list[str]]:
    """Write the session's frames with their results drawn.

    Decoding, drawing and encoding run in parallel. Another thread reads ``pixels`` until this
    returns.

    Args:
        start: The first frame.
        end: The frame to stop before.
        overwrite: Whether ``output`` may be replaced.
        progress: Called with each frame's number in the session once it is written.
        painter: Draws the frames; by default PySDK's overlay.
        pictures: The frames; by default all from ``start`` to ``end`` at their own times.
        target: The kind of output; by default an MP4.

    Returns:
        Frames written, the video's length in seconds, and notes for the user, a line each.

    Raises:
        OutputError: The output cannot be written.
        VideoError: There is nothing to draw, or no way to draw or encode it.
    """
    target = target or MP4
    target.check(output, overwrite=overwrite)
    refuse_recorded(output, [*files_of(session), *pixels.footage.files])
    painter = painter or OverlayPainter()
    canvas = canvas_for(session, painter, start, end, even=target.even)
    if pictures is None:
        pictures = replay_frames(session, pixels, start, end)
    drawn = _drawn(pictures, painter, canvas if target.one_size else None)
    waiting: _Drawn | None = None
    step = FIRST_STEP_US
    with (
        target.open(output, canvas.width, canvas.height, overwrite=overwrite) as sink,
        contextlib.closing(drawn),
    ):

        def write(drawn_frame: _Drawn, duration_us: int) -> None:
            sink.write(drawn_frame.picture, drawn_frame.pts_us, duration_us, drawn_frame.result)
            progress(drawn_frame.result.frame)

        # A frame lasts until the next one, so it is written once that is known.
        for following in drawn:
            if waiting is not None:
                duration = following.pts_us - waiting.pts_us
                write(waiting, duration)
                if duration <= LONGEST_USUAL_STEP_US:
                    step = duration  # the last picture lasts as long
            waiting = following
        if waiting is None:
            raise VideoError("; ".join(pixels.notes()) or f"{session.path}: no frames to draw")
        write(waiting, step)
    seconds = (waiting.pts_us + step) / 1e6
    return sink.frames, seconds, [*pixels.notes(), *painter.notes(), *sink.notes()]


class _Drawn(NamedTuple):
    """A finished picture, without the frame's pixels, which take much memory."""

    result: RecordedResult
    pts_us: int
    picture: Image


def _drawn(
    pictures: Iterable[ReplayFrame], painter: Painter, canvas: Canvas | None
) -> Generator[_Drawn, None, None]:
    """Yield finished pictures, decoded in one thread and drawn in another."""

    def draw() -> Iterator[_Drawn]:
        with contextlib.closing(ahead(pictures, "decode")) as decoded:
            for frame in decoded:
                picture = painter.draw(frame.result, frame.image)
                if canvas is not None:
                    picture = canvas.fit(picture)
                yield _Drawn(frame.result, frame.pts_us, picture)

    return ahead(draw(), "draw")
