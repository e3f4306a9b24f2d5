"""Frames with their stamps, and the source that reads them from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dgrec.clock import Clock
from dgrec.format import Event, utc_text
from dgrec.recorder.sources.damage import DamageLog
from dgrec.recorder.sources.read_ahead import ReadAhead
from dgrec.recorder.sources.source import SourceReader
from dgrec.timeline import SteadyTime

if TYPE_CHECKING:
    from dgrec.video import Picture

__all__ = ["FileSource", "Frame", "FrameSource", "properties_of", "size_event"]

# OpenCV's numbers for the properties that PySDK may ask for: width, height, frame rate.
_WIDTH, _HEIGHT, _FPS = 3, 4, 5
#: How long a frame lasts if the file does not say, and how long it lasts at most.
_STEP_NS = 40_000_000
_GAP_NS = 60_000_000_000


@dataclass(slots=True)
class Frame:
    """One frame as it was read.

    ``time_s`` is its time for leaving out frames and for ``--duration``: in the footage for a file,
    since the first frame for a live source.
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
    """A source of frames: `FileSource`, or `dgrec.recorder.sources.live.LiveSource`."""

    @property
    def end_reason(self) -> str:
        """Why `read` returned None."""

    @property
    def end_detail(self) -> str:
        """More about the end; may be empty."""

    @property
    def lost_at_end(self) -> int:
        """Frames that were lost after the last one that `read` returned."""

    def read(self) -> Frame | None:
        """Return the next frame, or None at the end. Raises SourceError if the source is lost."""

    def wait(self, timeout_s: float) -> bool:
        """Wait for the next frame or the end; return whether `read` can return at once."""

    def take_events(self) -> list[Event]:
        """Return the events of the source since the last call, such as gaps."""

    def get(self, prop: int) -> float:
        """Return an OpenCV property of the source."""

    def interrupt(self) -> None:
        """Make a waiting `read` return soon."""

    def release(self) -> None:
        """Close the source."""


class FileSource:
    """The frames of a file, in order, read when they are asked for.

    Args:
        reopen: Opens the file again, for ``loop``.
        loop: Start over when it ends; frame numbers and media time keep counting.
        may_wait: Whether reading may have to wait, as from a network or a pipe.
    """

    def __init__(
        self,
        reader: SourceReader,
        clock: Clock,
        *,
        reopen: Callable[[], SourceReader] | None = None,
        loop: bool = False,
        may_wait: bool = False,
    ) -> None:
        self._reader = reader
        self._ahead = ReadAhead(reader) if may_wait else None
        self._is_interrupted = False
        self._clock = clock
        self._reopen = reopen
        self._loop = loop
        self._fps = reader.fps
        self._properties = properties_of(reader)
        self._next_frame = 0
        self._first_ns = 0
        self._time = SteadyTime(round(1e9 / self._fps) if self._fps else _STEP_NS, _GAP_NS)
        self._loop_start_s = 0.0
        self._lost = 0  # at the end of the previous loop
        self._size: tuple[int, int] | None = None
        self._events: list[Event] = []
        self._damage = DamageLog()
        self.end_reason = "finished"
        self.end_detail = ""
        self.lost_at_end = 0

    def read(self) -> Frame | None:
        started = self._clock.now_ns()
        picture = self._picture()
        if picture is None and self._loops_now():
            assert self._reopen is not None
            self._start_over(self._reopen)
            picture = self._picture()
        captured = self._clock.now_ns()
        if picture is None and self._is_interrupted:
            return None
        if picture is None:
            self._end(captured)
            return None
        return self._frame(picture, started, captured)

    def wait(self, timeout_s: float) -> bool:
        return self._ahead is None or self._ahead.wait(timeout_s)

    def take_events(self) -> list[Event]:
        events = [*self._events, *self._damage.take(self._clock.now_ns())]
        self._events = []
        return events

    def get(self, prop: int) -> float:
        return self._properties.get(prop, 0.0)

    def interrupt(self) -> None:
        self._is_interrupted = True
        if self._ahead is not None:
            self._ahead.release()

    def release(self) -> None:
        (self._ahead or self._reader).release()

    def _picture(self) -> Picture | None:
        return (self._ahead or self._reader).read()

    def _loops_now(self) -> bool:
        can = self._reopen is not None and self._loop
        return can and self._next_frame > 0 and not self._is_interrupted

    def _frame(self, picture: Picture, started: int, captured: int) -> Frame:
        self._first_ns = self._first_ns or captured
        height, width = picture.image.shape[:2]
        index = self._next_frame
        self._next_frame += 1
        media_s = None if picture.time is None else float(picture.time) + self._loop_start_s
        if media_s is None and not self._fps and self._time.now is None:
            time_s = (captured - self._first_ns) / 1e9
        else:
            time_s = self._time.at(None if media_s is None else round(media_s * 1e9)) / 1e9
        lost, self._lost = picture.lost_before + self._lost, 0
        if lost:
            self._damage.add(lost, index, captured, media_s)
        if self._size not in (None, (width, height)):
            self._events.append(size_event(captured, index, width, height))
        self._size = width, height
        return Frame(
            picture.image,
            index,
            media_s,
            time_s,
            captured,
            captured - started,
            width,
            height,
            dropped_camera=lost,
        )

    def _end(self, now_ns: int) -> None:
        self.lost_at_end = self._reader.lost_at_end + self._lost
        if self.lost_at_end:
            self._damage.add(self.lost_at_end, self._next_frame, now_ns, None)
        self._events += self._damage.take()
        missing = self._reader.missing()
        if missing:
            self.end_reason, self.end_detail = "incomplete", missing

    def _start_over(self, reopen: Callable[[], SourceReader]) -> None:
        self._lost += self._reader.lost_at_end
        self.release()
        self._reader = reopen()
        self._ahead = None if self._ahead is None else ReadAhead(self._reader)
        last_ns = self._time.now
        if last_ns is not None:
            # The last frame is shown for one period before the first is shown again.
            self._loop_start_s = last_ns / 1e9 + (1 / self._fps if self._fps else 0.0)


def properties_of(reader: SourceReader) -> dict[int, float]:
    """Return the properties that PySDK may ask for, by OpenCV's numbers."""
    width, height = reader.size
    return {_WIDTH: width, _HEIGHT: height, _FPS: reader.fps or 0.0}


def size_event(at_ns: int, source_frame: int, width: int, height: int) -> Event:
    """Return the event for a change of the picture size at a frame."""
    return {
        "kind": "size",
        "at": utc_text(at_ns),
        "source_frame": source_frame,
        "width": width,
        "height": height,
    }
