"""The object that `predict_stream` reads its frames from.

It has the face of ``cv2.VideoCapture``, so the real `predict_stream` runs on it unchanged, and it
does what that function has no place for: it stamps each frame as it is read, leaves frames out at
exactly the rate that was asked for, counts what was left out, and ends the stream cleanly.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from dgrec.clock import Clock
from dgrec.errors import DgrecError, SourceError

__all__ = ["Capture", "Decimator", "FrameSource", "Stamp"]

# OpenCV's number for CAP_PROP_FRAME_COUNT; importing cv2 for one integer would cost 0.4 s.
_PROP_FRAME_COUNT = 7


class FrameSource(Protocol):
    """What frames come from: `recorder.source.VideoReader`, or a live camera's thread."""

    def read(self) -> tuple[bool, Any]: ...

    def position_s(self) -> float | None: ...

    def get(self, prop: int) -> float: ...

    def release(self) -> None: ...


@dataclass(slots=True)
class Stamp:
    """What is known of a frame when it is handed to PySDK."""

    source_frame: int
    media_time_s: float | None
    captured_ns: int
    read_ns: int
    width: int
    height: int
    skipped_before: int
    dropped_camera: int
    dropped_queue: int
    image: Any


class Decimator:
    """Chooses which frames to keep for a lower rate.

    A frame is kept when the time line enters a new period of ``1 / fps``. That is right on average
    at any ratio (29.97 to 15 keeps 150 or 151 of 300) and for sources of variable rate.
    ``degirum_tools`` keeps 286 of those 300.
    """

    def __init__(self, fps: float | None = None, every: int = 1) -> None:
        self._fps = fps
        self._every = every
        self._last_period: int | None = None

    def keeps(self, source_frame: int, time_s: float) -> bool:
        if source_frame % self._every:
            return False
        if self._fps is None:
            return True
        # A stamp that stands a hair before its period (29.97 * 1.001) still belongs to it.
        period = int(time_s * self._fps + 1e-6)
        if period == self._last_period:
            return False
        self._last_period = period
        return True


class Capture:
    """Reads, stamps and counts the frames of one source.

    `read` is called by PySDK, in the thread that iterates over `predict_stream`; `take` is called
    by the recording loop, once for each result, in the same order.

    Args:
        reopen: Gives the source again from its start, when it ended and is to be looped.
    """

    def __init__(
        self,
        frames: FrameSource,
        clock: Clock,
        *,
        decimator: Decimator | None = None,
        nominal_fps: float | None = None,
        max_frames: int | None = None,
        max_duration_s: float | None = None,
        by_media_time: bool = True,
        reopen: Callable[[], FrameSource] | None = None,
    ) -> None:
        self._frames = frames
        self._clock = clock
        self._decimator = decimator or Decimator()
        self._nominal_fps = nominal_fps
        self._max_frames = max_frames
        self._max_duration_s = max_duration_s
        self._by_media_time = by_media_time
        self._reopen = reopen
        self._stop = threading.Event()
        self._waiting: deque[Stamp] = deque()
        self._skipped_since = 0
        self._first_ns: int | None = None
        self._loop_offset_s = 0.0
        self._last_media_s: float | None = None
        self._frame_time_s = 1 / nominal_fps if nominal_fps else 0.0
        self.frames_read = 0
        self.frames_given = 0
        self.frames_skipped = 0
        self.loops = 0
        self.end_reason = "finished"
        self.error: DgrecError | None = None

    # --- the face of cv2.VideoCapture ---

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def get(self, prop: int) -> float:
        # For a source without a frame count `predict_stream` takes a failed read for an error
        # and raises; for one with a count it ends.
        if prop == _PROP_FRAME_COUNT:
            return 1.0
        return self._frames.get(prop)

    def set(self, prop: int, value: float) -> bool:
        return False

    def release(self) -> None:
        self._frames.release()

    def read(self) -> tuple[bool, Any]:
        """Return (True, the next frame that is to be inferred), or (False, None) at the end."""
        while not self._stop.is_set():
            if self._max_frames is not None and self.frames_given >= self._max_frames:
                return self._finish("limit")
            try:
                stamp = self._next()
            except DgrecError as error:
                self.error = error
                return self._finish("source_lost")
            if stamp is None:
                return self._finish("finished")
            if self._is_past_duration(stamp):
                return self._finish("limit")
            if not self._decimator.keeps(stamp.source_frame, self._time_s(stamp)):
                self.frames_skipped += 1
                self._skipped_since += 1
                continue
            stamp.skipped_before = self._skipped_since
            self._skipped_since = 0
            self.frames_given += 1
            self._waiting.append(stamp)
            return True, stamp.image
        return False, None

    # --- for the recording loop ---

    def stop(self, reason: str = "interrupted") -> None:
        """End the stream at the next read; what is in the pipeline still comes out."""
        if not self._stop.is_set():
            self.end_reason = reason
            self._stop.set()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def take(self, image: Any) -> Stamp:
        """Return the stamp of the frame whose result has just come out.

        Results come in the order of the frames. The image tells when that is not so: PySDK passes
        the very array that `read` returned.
        """
        stamp = self._waiting.popleft() if self._waiting else None
        if stamp is None or (image is not None and stamp.image is not image):
            if stamp is not None:
                for index, other in enumerate(self._waiting):
                    if other.image is image:
                        self._waiting.appendleft(stamp)
                        del self._waiting[index + 1]
                        other.image = None
                        return other
            raise SourceError("PySDK returned a result for a frame that it was not given")
        stamp.image = None  # the pixels are not needed any more
        return stamp

    # --- inside ---

    def _finish(self, reason: str) -> tuple[bool, Any]:
        self.stop(reason)
        return False, None

    def _next(self) -> Stamp | None:
        started = self._clock.now_ns()
        ok, image = self._frames.read()
        if not ok and self._reopen is not None and self.frames_read > 0:
            self._frames.release()
            self._frames = self._reopen()
            self.loops += 1
            if self._last_media_s is not None:
                self._loop_offset_s = self._last_media_s + self._frame_time_s
            ok, image = self._frames.read()
        if not ok:
            return None
        captured = self._clock.now_ns()
        if self._first_ns is None:
            self._first_ns = captured
        media_s = self._frames.position_s()
        if media_s is not None:
            media_s += self._loop_offset_s
            if self._last_media_s is not None and not self.loops and not self._nominal_fps:
                self._frame_time_s = media_s - self._last_media_s
            self._last_media_s = media_s
        height, width = image.shape[:2]
        index = self.frames_read
        self.frames_read += 1
        return Stamp(index, media_s, captured, captured - started, width, height, 0, 0, 0, image)

    def _time_s(self, stamp: Stamp) -> float:
        """Return the stamp's place on the time line by which frames are left out."""
        if self._by_media_time:
            if stamp.media_time_s is not None:
                return stamp.media_time_s
            if self._nominal_fps:
                return stamp.source_frame / self._nominal_fps
        assert self._first_ns is not None
        return (stamp.captured_ns - self._first_ns) / 1e9

    def _is_past_duration(self, stamp: Stamp) -> bool:
        return self._max_duration_s is not None and self._time_s(stamp) >= self._max_duration_s
