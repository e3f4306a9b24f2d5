"""Frames with their stamps, and the footage they are read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from dgrec.clock import Clock
from recorder.source import Source, VideoReader

__all__ = ["Footage", "Frame", "FrameSource"]


@dataclass(slots=True)
class Frame:
    """One frame as it was read, and what is known of it by then.

    ``time_s`` is where it stands on the time line by which frames are left out: of the footage for
    a file, since the first frame for a live source.
    """

    image: Any
    source_frame: int
    media_time_s: float | None
    time_s: float
    captured_ns: int
    read_ns: int
    width: int
    height: int
    skipped_before: int = 0
    dropped_camera: int = 0
    dropped_queue: int = 0


class FrameSource(Protocol):
    """What frames come from: `Footage`, or `recorder.live_source.LiveSource`."""

    @property
    def end_reason(self) -> str:
        """What it means that `read` returned None."""

    def read(self) -> Frame | None:
        """Return the next frame, or None at the end. Raises SourceError when it is lost."""

    def wait(self, timeout_s: float) -> bool:
        """Wait for the next frame or the end; return whether `read` will not have to wait."""

    def take_events(self) -> list[dict[str, Any]]:
        """Return what has happened to the source since the last call (gaps, for one)."""

    def get(self, prop: int) -> float:
        """Return an OpenCV property of the source."""

    def interrupt(self) -> None:
        """Make a `read` that waits return soon."""

    def release(self) -> None:
        """Close the source."""


class Footage:
    """The frames of a file, in order and at the pace at which they are asked for.

    Args:
        loop: Start over when it ends: frame numbers and media time go on counting.
    """

    end_reason = "finished"

    def __init__(
        self, reader: VideoReader, source: Source, clock: Clock, *, loop: bool = False
    ) -> None:
        self._reader = reader
        self._source = source
        self._clock = clock
        self._loop = loop
        self._fps = reader.fps
        self._next_frame = 0
        self._first_ns = 0
        self._loop_start_s = 0.0
        self._last_media_s: float | None = None
        self.loops = 0

    def read(self) -> Frame | None:
        started = self._clock.now_ns()
        ok, image = self._reader.read()
        if not ok and self._loop and self._next_frame > 0:
            self._start_over()
            ok, image = self._reader.read()
        if not ok:
            return None
        captured = self._clock.now_ns()
        self._first_ns = self._first_ns or captured
        index = self._next_frame
        self._next_frame += 1
        media_s = self._media_time()
        if media_s is not None:
            time_s = media_s
        else:
            time_s = index / self._fps if self._fps else (captured - self._first_ns) / 1e9
        height, width = image.shape[:2]
        return Frame(image, index, media_s, time_s, captured, captured - started, width, height)

    def wait(self, timeout_s: float) -> bool:
        return True

    def take_events(self) -> list[dict[str, Any]]:
        return []

    def get(self, prop: int) -> float:
        return self._reader.get(prop)

    def interrupt(self) -> None:
        """Nothing to do: reading a file does not wait."""

    def release(self) -> None:
        self._reader.release()

    def _start_over(self) -> None:
        self._reader.release()
        self._reader = VideoReader(self._source)
        self.loops += 1
        if self._last_media_s is not None:
            # The last frame is shown for one period before the first is shown again.
            self._loop_start_s = self._last_media_s + (1 / self._fps if self._fps else 0.0)

    def _media_time(self) -> float | None:
        position = self._reader.position_s()
        if position is None:
            return None
        self._last_media_s = position + self._loop_start_s
        return self._last_media_s
