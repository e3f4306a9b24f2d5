"""Frames with their stamps, and the source that reads them from a file."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dgrec.clock import Clock
from dgrec.format import NO_FINGERPRINT, Event, Fingerprint, fingerprint, utc_text
from dgrec.recorder.sources.damage import DamageLog
from dgrec.recorder.sources.read_ahead import ReadAhead
from dgrec.recorder.sources.source import SourceReader
from dgrec.timeline import SteadyTime
from dgrec.video import KeptPacket, Picture

# OpenCV's numbers for the properties that PySDK may ask for: width, height, frame rate.
_WIDTH, _HEIGHT, _FPS = 3, 4, 5
#: How long a frame lasts if the file does not say, and how long it lasts at most.
_STEP_NS = 40_000_000
_GAP_NS = 60_000_000_000
#: The most packets that wait for a frame to be inferred, and how often their size is checked.
_MOST_PACKETS = 1000
_MOST_BYTES = 64 << 20
_LOOK_EVERY = 32


@dataclass(slots=True)
class Frame:
    """One frame as it was read.

    ``time_s`` is its time for leaving out frames and for ``--duration``, since the first frame: in
    the footage for a file.
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
    #: If it is not, ``captured_ns`` is when its result came.
    is_capture_known: bool = True
    #: The source's packets since the previous frame that was inferred, if they are kept.
    packets: list[KeptPacket] = field(default_factory=list)
    #: The packet that the frame is in.
    packet: KeptPacket | None = None
    #: Of the pixels that the model is given.
    fingerprint: Fingerprint = NO_FINGERPRINT
    #: The time that recording it took before its result was recorded.
    before_ns: int = 0

    def take_fingerprint(self) -> None:
        """Take the fingerprint of the pixels, before the model's program can draw on them."""
        began = time.perf_counter_ns()
        self.fingerprint = fingerprint(self.image)
        self.before_ns = time.perf_counter_ns() - began

    def keep(self, picture: Picture) -> None:
        """Take the packets that came with the frame's picture."""
        self.packets, self.packet = list(picture.packets), picture.packet
        if self.packet is not None:
            self.packet.captured_ns = self.captured_ns

    def follow(self, packets: list[KeptPacket]) -> None:
        """Put packets of frames that are not inferred in front. The caller gives up the list.

        If there are too many of them, as while a server is away, only those that the next
        pictures need are kept.
        """
        packets.extend(self.packets)
        self.packets = packets
        looks = len(packets) % _LOOK_EVERY == 0
        if len(packets) > _MOST_PACKETS or (
            looks and sum(packet.size for packet in packets) > _MOST_BYTES
        ):
            starts = [at for at, packet in enumerate(packets) if packet.starts]
            del packets[: starts[-1] if starts and starts[-1] else len(packets)]


class FrameSource(ABC):
    """The base of the sources of frames, `FileSource` and `dgrec.recorder.sources.live.LiveSource`.

    Attributes:
        end_reason: Why `read` returned None.
        end_detail: More about that; may be empty.
        lost_at_end: How many frames were lost after the last one that `read` returned.
    """

    end_reason = "finished"
    end_detail = ""
    lost_at_end = 0

    def __init__(self, reader: SourceReader, clock: Clock) -> None:
        width, height = reader.size
        self._properties = {_WIDTH: width, _HEIGHT: height, _FPS: reader.fps or 0.0}
        self._clock = clock
        self._events: list[Event] = []
        self._damage = DamageLog()
        self._next_frame = 0
        self._size: tuple[int, int] | None = None

    @abstractmethod
    def read(self) -> Frame | None:
        """Return the next frame, or None at the end. Raises SourceError if the source is lost."""

    @abstractmethod
    def wait(self, timeout_s: float) -> bool:
        """Wait for the next frame or the end; return whether `read` can return at once."""

    @abstractmethod
    def take_events(self) -> list[Event]:
        """Return the events since the last call, such as gaps."""

    @abstractmethod
    def interrupt(self) -> None:
        """Make a waiting `read` return soon."""

    @abstractmethod
    def release(self) -> None:
        """Close the source."""

    def get(self, prop: int) -> float:
        """Return an OpenCV property of the source."""
        return self._properties.get(prop, 0.0)

    def _set_size(self, width: int, height: int, at_ns: int) -> None:
        """Set the size of the next frame; a change is an event."""
        if self._size not in (None, (width, height)):
            self._events.append(
                {
                    "kind": "size",
                    "at": utc_text(at_ns),
                    "source_frame": self._next_frame,
                    "width": width,
                    "height": height,
                }
            )
        self._size = width, height


class FileSource(FrameSource):
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
        super().__init__(reader, clock)
        self._reader = reader
        self._ahead = ReadAhead(reader) if may_wait else None
        self._is_interrupted = False
        self._reopen = reopen
        self._loop = loop
        self._fps = reader.fps
        self._first_ns = 0
        self._time = SteadyTime(round(1e9 / self._fps) if self._fps else _STEP_NS, _GAP_NS)
        self._begun_ns: int | None = None  # the first frame's time: not 0 for a part or a clip
        self._begins_round = False
        self._loop_start_s = 0.0
        self._loop_start = 0  # added to the numbers that pictures have
        self._lost = 0  # at the end of the previous loop

    def read(self) -> Frame | None:
        started = self._clock.now_ns()
        picture = self._picture()
        can_loop = self._loop and self._next_frame > 0 and not self._is_interrupted
        if picture is None and can_loop and self._reopen is not None:
            self._start_over(self._reopen)
            picture = self._picture()
        captured = self._clock.now_ns()
        if picture is not None:
            return self._frame(picture, started, captured)
        if not self._is_interrupted:
            self._end(captured)
        return None

    def wait(self, timeout_s: float) -> bool:
        return self._ahead is None or self._ahead.wait(timeout_s)

    def take_events(self) -> list[Event]:
        now = None if self._is_interrupted else self._clock.now_ns()  # such as by a limit
        events = [*self._events, *self._damage.take(now)]
        self._events = []
        return events

    def interrupt(self) -> None:
        self._is_interrupted = True
        if self._ahead is not None:
            self._ahead.release()

    def release(self) -> None:
        (self._ahead or self._reader).release()

    def _picture(self) -> Picture | None:
        return (self._ahead or self._reader).read()

    def _frame(self, picture: Picture, started: int, captured: int) -> Frame:
        self._first_ns = self._first_ns or captured
        height, width = picture.image.shape[:2]
        if picture.number is not None:
            self._next_frame = self._loop_start + picture.number
        index = self._next_frame
        self._set_size(width, height, captured)
        self._next_frame += 1
        media_s = self._media_s(picture)
        if media_s is None and not self._fps and self._time.now is None:
            time_s = (captured - self._first_ns) / 1e9
        else:
            at_ns = self._time.at(None if media_s is None else round(media_s * 1e9))
            self._begun_ns = at_ns if self._begun_ns is None else self._begun_ns
            time_s = (at_ns - self._begun_ns) / 1e9
        lost, self._lost = picture.lost_before + self._lost, 0
        if lost:
            self._damage.add(lost, index, captured, media_s)
        frame = Frame(
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
        frame.keep(picture)
        return frame

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
        self._loop_start += self._reader.announced or 0
        self._reader = reopen()
        self._ahead = None if self._ahead is None else ReadAhead(self._reader)
        self._begins_round = True

    def _media_s(self, picture: Picture) -> float | None:
        """Return a picture's time in the footage; rounds of a loop follow each other."""
        if picture.time is None:
            return None
        if self._begins_round and self._time.now is not None:
            # The last frame is shown for one period before the first is shown again.
            period_s = 1 / self._fps if self._fps else 0.0
            self._loop_start_s = self._time.now / 1e9 + period_s - float(picture.time)
        self._begins_round = False
        return float(picture.time) + self._loop_start_s
