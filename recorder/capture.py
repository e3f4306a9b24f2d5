"""The object that `predict_stream` reads its frames from.

It implements ``cv2.VideoCapture``, so that the real `predict_stream` runs on it unchanged. It also
leaves frames out for a lower rate, counts what was left out and lost, keeps each frame's stamps for
its result, and ends the stream cleanly.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import numpy as np

from dgrec.errors import DgrecError, SourceError
from dgrec.format import Event
from dgrec.recorder.ending import SourceCounts
from dgrec.recorder.sources import Frame, FrameSource
from dgrec.video import KeptPacket

# OpenCV's number for CAP_PROP_FRAME_COUNT; importing cv2 for one integer would cost 0.4 s.
_PROP_FRAME_COUNT = 7

#: How often PySDK is asked for results while there is no frame for it: no result is delayed by
#: more than this.
_ASK_S = 0.005
#: The same while PySDK has as many frames as it may have.
_FULL_S = 0.001


class Decimator:
    """Chooses which frames to keep for a lower rate.

    A frame is kept when the time line enters a new period of ``1 / fps``. On average that is right
    at any ratio (29.97 to 15 keeps 150 or 151 of 300; ``degirum_tools`` keeps 286), and for sources
    of variable rate.
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
        # Rounding may leave a stamp just before its period (29.97 * 1.001).
        period = int(time_s * self._fps + 1e-6)
        if period == self._last_period:
            return False
        self._last_period = period
        return True


class Capture:
    """Hands the frames of one source to PySDK.

    `read` is called by PySDK, in the thread that iterates over `predict_stream`; `take` is called
    by the recording loop, once for each result, in the same order.

    Args:
        max_frames: End after this many frames were handed over.
        max_duration_s: End at the first frame whose `Frame.time_s` is not before this.
        is_live: A frame of a live source that got no result is lost; one of a file is handed over
            again.
    """

    def __init__(
        self,
        frames: FrameSource,
        *,
        decimator: Decimator | None = None,
        max_frames: int | None = None,
        max_duration_s: float | None = None,
        is_live: bool = False,
    ) -> None:
        self._frames = frames
        self._is_live = is_live
        self._decimator = decimator or Decimator()
        self._max_frames = max_frames
        self._max_duration_s = max_duration_s
        self._stop = threading.Event()
        self._waiting: deque[Frame] = deque()
        self._again: deque[Frame] = deque()
        self._due_since = time.monotonic()
        self._waits: deque[float] = deque(maxlen=30)
        self._first_read: float | None = None
        self.frames_given = 0
        self.counts = SourceCounts()
        #: Counts since the last frame that was kept: the next one carries them.
        self._pending = SourceCounts()
        self._pending_packets: list[KeptPacket] = []
        self.end_reason = "finished"
        #: More about the end; may be empty.
        self.end_detail = ""
        self.error: DgrecError | None = None
        #: Whether `read` may return no frame, so that PySDK hands out the results that it has.
        #: Otherwise it does that only when it gets the next frame, however long that takes.
        self.asks_for_results = False
        #: How many frames may be without a result at once; None: any number. Beyond that PySDK is
        #: given no frame, and not the end either, until results come.
        self.most_waiting: int | None = None

    # --- the interface of cv2.VideoCapture ---

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def get(self, prop: int) -> float:
        # At a failed read, `predict_stream` ends if the source has a frame count; otherwise it
        # raises.
        if prop == _PROP_FRAME_COUNT:
            return 1.0
        return self._frames.get(prop)

    def set(self, prop: int, value: float) -> bool:
        return False

    def release(self) -> None:
        self._frames.release()

    def read(self) -> tuple[bool, Any]:
        """Return (True, the next frame to infer), or (False, None) at the end.

        (True, None) means that there is none yet (see `asks_for_results`).
        """
        again = bool(self._again) and not self.was_interrupted
        if self.most_waiting is not None and self._waiting:
            is_full = len(self._waiting) >= self.most_waiting
            # Once PySDK has the end it waits for results, and nothing can interrupt that.
            if is_full or (self._stop.is_set() and not again):
                time.sleep(_FULL_S)
                return True, None
        if again:
            return True, self._give(self._again.popleft())
        while not self._stop.is_set():
            if self._max_frames is not None and self.frames_given >= self._max_frames:
                return self._finish("limit")
            # With a server, return now and then: waiting for a camera would hide that it is lost.
            asks = self._has_results_to_come() or self.most_waiting is not None
            if asks and not self._frames.wait(_ASK_S):
                return True, None
            try:
                frame = self._frames.read()
            except DgrecError as error:
                self.error = error
                return self._finish("source_lost")
            if frame is None:
                self.end_detail = self._frames.end_detail
                self.counts.dropped_camera += self._frames.lost_at_end
                return self._finish(self._frames.end_reason)
            if self._max_duration_s is not None and frame.time_s >= self._max_duration_s:
                return self._finish("limit")
            self._count(frame)
            if not self._decimator.keeps(frame.source_frame, frame.time_s):
                self.counts.skipped += 1
                self._pending.skipped += 1
                self._leave_packets(frame)
                if self._has_results_to_come():
                    return True, None
                continue
            frame.skipped_before = self._pending.skipped
            frame.dropped_camera = self._pending.dropped_camera
            frame.dropped_queue = self._pending.dropped_queue
            self._pending = SourceCounts()
            self._leave_packets(frame)
            frame.packets, self._pending_packets = self._pending_packets, []
            frame.take_fingerprint()
            return True, self._give(frame)
        return False, None

    # --- for the recording loop ---

    def stop(self, reason: str = "interrupted") -> None:
        """End the stream at the next read; frames in the pipeline still get their results."""
        if not self._stop.is_set():
            self.end_reason = reason
            self._stop.set()
            self._frames.interrupt()

    @property
    def limit(self) -> str:
        """The option whose limit was reached, if ``end_reason`` is ``limit``."""
        most = self._max_frames
        return "--duration" if most is None or self.frames_given < most else "--max-frames"

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    @property
    def was_interrupted(self) -> bool:
        """Return whether it was stopped by a user or an error, not by its source or a limit."""
        return self._stop.is_set() and self.end_reason not in ("finished", "limit", "source_lost")

    def wait_for_stop(self, timeout_s: float) -> bool:
        return self._stop.wait(timeout_s)

    def is_time_up(self) -> bool:
        """Return whether a live source has reached the duration, even if no frame comes."""
        if not self._is_live or self._max_duration_s is None or self._first_read is None:
            return False
        return time.monotonic() - self._first_read >= self._max_duration_s

    # --- results that do not come ---

    def overdue_s(self) -> float:
        """Return how long frames have been waiting for a result; 0 if none are."""
        return time.monotonic() - self._due_since if self._waiting else 0.0

    @property
    def longest_wait_s(self) -> float | None:
        """The longest of the last waits for a result; None before the second result."""
        return max(self._waits) if len(self._waits) > 1 else None

    def take_back(self) -> int:
        """Take back the frames that will get no result; return how many.

        Those of a live source are lost, and counted in the next row.
        """
        unanswered = list(self._waiting)
        self._waiting.clear()
        self._waits.clear()
        self.frames_given -= len(unanswered)
        if not self._is_live and not self.was_interrupted:
            self._again.extendleft(reversed(unanswered))
            return len(unanswered)
        for frame in (*unanswered, *self._again):
            self._pending.skipped += frame.skipped_before
            self._pending.dropped_camera += frame.dropped_camera
            self._pending.dropped_queue += frame.dropped_queue + 1
            self.counts.dropped_queue += 1
        lost = [packet for frame in (*unanswered, *self._again) for packet in frame.packets]
        self._pending_packets = lost + self._pending_packets
        self._again.clear()
        return len(unanswered)

    def take_events(self) -> list[Event]:
        """Return the events of the source since the last call."""
        return self._frames.take_events()

    def take(self, image: Any) -> Frame:
        """Return the frame that a result belongs to.

        Results come in the order of the frames. The image shows when they do not: PySDK passes the
        very array that `read` returned, except with the image backend PIL, which makes its own.
        """
        is_array = isinstance(image, np.ndarray)
        for index, frame in enumerate(self._waiting):
            if not is_array or frame.image is image:
                del self._waiting[index]
                now = time.monotonic()
                # The first result may have waited for the model to be loaded.
                self._waits.append(now - self._due_since if self._waits else 0.0)
                self._due_since = now
                return frame
        raise SourceError("PySDK returned a result for a frame that it was not given")

    # --- inside ---

    def _has_results_to_come(self) -> bool:
        return self.asks_for_results and bool(self._waiting)

    def _finish(self, reason: str) -> tuple[bool, Any]:
        self.stop(reason)
        return self.most_waiting is not None and bool(self._waiting), None

    def _leave_packets(self, frame: Frame) -> None:
        """Keep the packets of a frame for the next one that is inferred."""
        frame.follow(self._pending_packets)
        self._pending_packets = frame.packets

    def _count(self, frame: Frame) -> None:
        self._first_read = self._first_read or time.monotonic()
        self.counts.read += 1
        for counts in (self.counts, self._pending):
            counts.dropped_camera += frame.dropped_camera
            counts.dropped_queue += frame.dropped_queue

    def _give(self, frame: Frame) -> Any:
        """Register that PySDK has a frame, and return its pixels."""
        if not self._waiting:
            self._due_since = time.monotonic()
        self.frames_given += 1
        self._waiting.append(frame)
        return frame.image


class Feed:
    """A `Capture` for one run of `predict_stream`, whose end does not release the source.

    When an AI server is lost, its run ends or is abandoned, and another run continues.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self.is_abandoned = False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def get(self, prop: int) -> float:
        return self._capture.get(prop)

    def set(self, prop: int, value: float) -> bool:
        return False

    def release(self) -> None:
        """Do nothing: the owner of the `Capture` releases it."""

    def read(self) -> tuple[bool, Any]:
        return (False, None) if self.is_abandoned else self._capture.read()
