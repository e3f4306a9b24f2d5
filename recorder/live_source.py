"""A live camera: the newest frame, read in a thread of its own, and patience when it goes away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from dgrec.clock import Clock
from dgrec.errors import SourceError
from dgrec.metadata import utc_text
from recorder.frames import Frame
from recorder.source import Source, VideoReader

__all__ = ["LiveSource"]

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0


class LiveSource:
    """Frames of a camera or stream, of which only the newest waits.

    When inference is slower than the camera, a queue of frames would only make every result older:
    here the frame that waits is replaced by the next one, and counted (`Frame.dropped_queue`).

    When the camera stops answering it is opened again, with growing pauses, for up to
    ``reconnect_for_s`` seconds (None: for ever). Each gap is one entry in `events`.

    Args:
        reader: The opened source.
        reopen: Opens it again; raises SourceError while that does not work.
    """

    def __init__(
        self,
        reader: VideoReader,
        source: Source,
        clock: Clock,
        *,
        reopen: Callable[[], VideoReader],
        reconnect_for_s: float | None = None,
    ) -> None:
        self._reader = reader
        self._source = source
        self._clock = clock
        self._reopen = reopen
        self._reconnect_for_s = reconnect_for_s
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._events: list[dict[str, Any]] = []
        self._ending = threading.Event()
        self._error: SourceError | None = None
        self._next_frame = 0
        self._first_ns: int | None = None
        self._stream_start_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="dgrec-camera", daemon=True)
        self._thread.start()

    def read(self) -> Frame | None:
        """Wait for a frame newer than the last one; None once the source was interrupted.

        Raises:
            SourceError: The camera went away and did not come back in time.
        """
        with self._changed:
            while self._newest is None and self._error is None and not self._ending.is_set():
                self._changed.wait()
            frame, self._newest = self._newest, None
            if frame is None and self._error is not None:
                raise self._error
            return frame

    def take_events(self) -> list[dict[str, Any]]:
        """Return what has happened to the source since the last call."""
        with self._changed:
            events, self._events = self._events, []
            return events

    def get(self, prop: int) -> float:
        return self._reader.get(prop)

    def interrupt(self) -> None:
        self._ending.set()
        with self._changed:
            self._changed.notify_all()

    def release(self) -> None:
        self.interrupt()
        # A read that hangs in the network cannot be interrupted: the thread is a daemon.
        self._thread.join(timeout=2)

    # --- the camera's thread ---

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                frame = self._grab()
                if frame is not None:
                    self._offer(frame)
                elif not self._reconnect():
                    return
        except Exception as error:  # a defect here must end the recording, not hang it
            self._fail(SourceError(f"{self._source.given}: failed: {error!r}"))
        finally:
            self._reader.release()

    def _grab(self) -> Frame | None:
        started = self._clock.now_ns()
        ok, image = self._reader.read()
        if not ok:
            return None
        captured = self._clock.now_ns()
        if self._first_ns is None:
            self._first_ns = captured
        index = self._next_frame
        self._next_frame += 1
        time_s = (captured - self._first_ns) / 1e9
        height, width = image.shape[:2]
        return Frame(
            image=image,
            source_frame=index,
            media_time_s=self._media_time(time_s),
            time_s=time_s,
            captured_ns=captured,
            read_ns=captured - started,
            width=width,
            height=height,
        )

    def _media_time(self, time_s: float) -> float | None:
        """Return the stream's own time of the last frame, on one line over all reconnections.

        A stream that is opened again counts from 0 again: it goes on where the clock says.
        """
        position = self._reader.position_s()
        if position is None:
            return None
        if self._stream_start_s is None:
            self._stream_start_s = time_s - position
        return position + self._stream_start_s

    def _offer(self, frame: Frame) -> None:
        with self._changed:
            if self._newest is not None:
                frame.dropped_queue = self._newest.dropped_queue + 1
            self._newest = frame
            self._changed.notify_all()

    def _reconnect(self) -> bool:
        """Open the camera again; return False if that was given up."""
        lost_ns = self._clock.now_ns()
        pause = _FIRST_PAUSE_S
        attempts = 0
        reason = "no frame came"
        self._reader.release()
        while not self._ending.is_set():
            attempts += 1
            try:
                self._reader = self._reopen()
            except SourceError as error:
                reason = str(error)
            else:
                self._stream_start_s = None
                self._note_gap(lost_ns, attempts, reason)
                return True
            waited_s = (self._clock.now_ns() - lost_ns) / 1e9
            if self._reconnect_for_s is not None and waited_s >= self._reconnect_for_s:
                self._note_gap(lost_ns, attempts, reason)
                self._fail(
                    SourceError(
                        f"{self._source.given}: lost, and not back within "
                        f"{self._reconnect_for_s:g} s"
                    )
                )
                return False
            self._ending.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)
        return False

    def _note_gap(self, lost_ns: int, attempts: int, reason: str) -> None:
        now = self._clock.now_ns()
        with self._changed:
            self._events.append(
                {
                    "kind": "gap",
                    "from": utc_text(lost_ns),
                    "to": utc_text(now),
                    "seconds": round((now - lost_ns) / 1e9, 3),
                    "source_frame": self._next_frame,
                    "attempts": attempts,
                    "reason": reason,
                }
            )

    def _fail(self, error: SourceError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()
