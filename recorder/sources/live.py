"""A live source: keeps the newest frame, and reconnects when the source is lost."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dgrec.clock import Clock
from dgrec.errors import SourceError
from dgrec.format import Event, utc_text
from dgrec.recorder.sources.frames import Frame, FrameSource
from dgrec.recorder.sources.source import Source, SourceReader

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
#: Why a source was lost, if its reader came to an end by itself.
_ENDED = "the stream ended"
#: How often `read` checks whether it has waited long enough.
_LOOK_S = 0.25


class LossMeter:
    """Estimates how many frames a camera lost between two reads, from the stream's own stamps.

    It counts too few rather than too many. A step between two stamps counts as a loss if it is
    longer than one and a half periods. The period is the median of the last steps, not the
    announced rate, which many cameras do not keep. The step before must have been a regular one: a
    camera that halves its rate when it gets dark loses nothing.

    Args:
        opening_s: When opening the stream began. Stamps that run ahead of the clock since then,
            or since a step back, were reset by the camera: such a jump is not a loss.
    """

    _MOST = 30
    _FEWEST = 10
    _AHEAD_S = 1.0

    def __init__(self, opening_s: float) -> None:
        self._opening_s = opening_s
        self._steps: deque[float] = deque(maxlen=self._MOST)
        self._first: float | None = None
        self._last: float | None = None

    def lost_before(self, position_s: float | None, now_s: float) -> int:
        """Return how many frames were lost before the one at ``position_s``, read at ``now_s``."""
        last, self._last = self._last, position_s
        if position_s is None:
            return 0
        if self._first is None:
            self._first = position_s
        if last is None:
            return 0
        step = position_s - last
        if step < 0:  # the camera's clock was set back, and may be set forward again
            self._first, self._opening_s = position_s, now_s
        lost = 0
        if len(self._steps) >= self._FEWEST:
            period = statistics.median(self._steps)
            before = self._steps[-1]
            in_time = position_s - self._first <= now_s - self._opening_s + self._AHEAD_S
            if step > 1.5 * period > 0 and 0.5 * period <= before <= 1.5 * period and in_time:
                lost = round(step / period) - 1
        self._steps.append(step)
        return lost


@dataclass
class _Gap:
    """A time without frames, while it lasts."""

    from_ns: int  # stamp of the last frame before
    noticed_ns: int
    reason: str
    attempts: int = 0
    refusal: str = ""


class LiveSource(FrameSource):
    """Frames of a camera or stream, of which only the newest waits.

    When inference is slower than the camera, a queue of frames would only make every result older.
    So the frame that waits is replaced by the next one, and counted (`Frame.dropped_queue`).

    A camera that stops answering is opened again, with growing pauses, for up to
    ``reconnect_for_s`` seconds (None: for ever). Each gap is one event.

    The camera is read in a thread of its own. A read that hangs cannot be interrupted: after a
    while its thread is abandoned, and another one takes over.

    Args:
        reader: The opened source, which this object releases.
        reopen: Opens it again; raises SourceError while that does not work.
        stall_timeout_s: Silence after which a stream counts as lost; the readers use the same.
        max_duration_s: End this long after the first frame, even if no frame comes.
        announce: Called with a line when the camera is lost, and when it is back. It must not wait:
            the camera's thread calls it.
    """

    #: Unless it was interrupted.
    end_reason = "limit"

    def __init__(
        self,
        reader: SourceReader,
        source: Source,
        clock: Clock,
        *,
        reopen: Callable[[], SourceReader],
        reconnect_for_s: float | None = None,
        stall_timeout_s: float = 10.0,
        max_duration_s: float | None = None,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(reader, clock)
        self._source = source
        self._announce = announce
        self._reopen = reopen
        self._reconnect_for_s = reconnect_for_s
        self._stall_timeout_s = stall_timeout_s
        # The readers give up by themselves after the timeout; opening may wait for it twice.
        self._hanging_ns = int((2 * stall_timeout_s + 1) * 1e9)
        self._max_duration_s = max_duration_s
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._gap: _Gap | None = None
        self._ending = threading.Event()
        #: Whether it turned out to be footage that has ended.
        self._is_over = False
        self._error: SourceError | None = None
        self._started_ns = self._last_ns = clock.now_ns()
        self._first_ns: int | None = None
        self._last_media_s: float | None = None
        self._media_offset_s: float | None = None
        self._gone_s = 0.0
        self._busy_since_ns: int | None = None
        self._turn = 0
        self._reader: SourceReader | None = None  # the one that frames are taken from
        self._thread = self._start(reader)

    def read(self) -> Frame | None:
        """Wait for a new frame and return it; None once it was interrupted or time is up.

        Raises:
            SourceError: The camera went away and did not come back in time.
        """
        with self._changed:
            while not self._is_due():
                self._changed.wait(_LOOK_S)
                self._look_after_thread()
            if self._newest is not None:
                frame, self._newest = self._newest, None
                return frame
            if self._error is not None:
                raise self._error
            return None

    def wait(self, timeout_s: float) -> bool:
        with self._changed:
            if not self._is_due():
                self._changed.wait(timeout_s)
                self._look_after_thread()
            return self._is_due()

    def take_events(self) -> list[Event]:
        with self._changed:
            now = None if self._ending.is_set() else self._clock.now_ns()
            events, self._events = [*self._events, *self._damage.take(now)], []
            return events

    def interrupt(self) -> None:
        self._ending.set()
        with self._changed:
            self._end_gap(self._clock.now_ns(), back=False)
            self._changed.notify_all()

    def release(self) -> None:
        self.interrupt()
        # Wait no longer: a read that hangs in the network cannot be interrupted.
        self._thread.join(timeout=1)

    # --- in the thread that calls `read` ---

    def _is_due(self) -> bool:
        """Return whether `read` has something to return or to raise."""
        return (
            self._newest is not None
            or self._error is not None
            or self._ending.is_set()
            or self._is_over
            or self._is_time_up()
        )

    def _is_time_up(self) -> bool:
        if self._max_duration_s is None:
            return False
        since = self._started_ns if self._first_ns is None else self._first_ns
        return self._clock.now_ns() - since >= self._max_duration_s * 1e9

    def _look_after_thread(self) -> None:
        """Give up, or replace a thread that hangs, once it is time to."""
        now = self._clock.now_ns()
        if self._newest is not None or self._error is not None:
            return
        if self._ending.is_set() or self._is_over:
            return
        if self._gap is not None and self._is_too_late(self._gap, now):
            self._give_up()
        elif self._busy_since_ns is not None and now - self._busy_since_ns > self._hanging_ns:
            if self._gap is None:
                self._begin_gap(self._last_ns, now, "reading did not come back")
                if self._reader is not None:
                    self._reader.release()  # takes effect once its read comes back
            else:
                self._gap.refusal = "opening did not come back"
            self._thread = self._start(None)

    def _is_too_late(self, gap: _Gap, now_ns: int) -> bool:
        limit = self._reconnect_for_s
        return limit is not None and now_ns - gap.noticed_ns >= limit * 1e9

    def _give_up(self) -> None:
        gap = self._gap
        assert gap is not None
        self._end_gap(self._clock.now_ns(), back=False)
        limit = self._reconnect_for_s or 0
        patience = f", and not back within {limit:g} s" if limit else ""
        self._turn += 1  # ignore a thread that hangs in an attempt
        self._fail(
            SourceError(f"{self._source.given}: lost{patience} ({gap.refusal or gap.reason})")
        )

    # --- in the camera's thread ---

    def _start(self, reader: SourceReader | None) -> threading.Thread:
        self._turn += 1
        self._busy_since_ns = None
        thread = threading.Thread(
            target=self._run, args=(reader, self._turn), name="dgrec-camera", daemon=True
        )
        thread.start()
        return thread

    def _goes_on(self, turn: int) -> bool:
        return turn == self._turn and not self._ending.is_set()

    def _run(self, reader: SourceReader | None, turn: int) -> None:
        earlier: SourceReader | None = None
        missing = ""
        try:
            while self._goes_on(turn):
                if reader is None:
                    reader = self._reconnect(turn)
                    if reader is None:
                        return
                    if earlier is not None and reader.repeats(earlier):
                        self._finish(turn, earlier.lost_at_end, missing, reader.has_end)
                        return
                self._read_on(reader, turn)
                missing = reader.missing()  # while it is open
                reader.release()
                earlier, reader = reader, None
        except Exception as error:  # a defect here must end the recording, not hang it
            with self._changed:
                if turn == self._turn:
                    self._fail(SourceError(f"{self._source.given}: failed: {error!r}"))
        finally:
            if reader is not None:
                reader.release()

    def _read_on(self, reader: SourceReader, turn: int) -> None:
        """Take frames from one connection until there are no more."""
        meter = LossMeter(reader.opening_s)
        with self._changed:
            if not self._goes_on(turn):
                return  # another thread has taken over while this one opened it
            self._reader = reader
            self._media_offset_s = None
        opened_ns = self._clock.now_ns()
        opening_ns = opened_ns - int((time.monotonic() - reader.opening_s) * 1e9)
        # Measured now, since first frames without a stamp move the time of the last frame.
        self._gone_s = max(0, opening_ns - self._last_ns) / 1e9
        silent_ns: int | None = None  # when the read that timed out began
        while self._goes_on(turn):
            started = self._busy_since_ns = self._clock.now_ns()
            picture = reader.read()
            captured = self._clock.now_ns()
            with self._changed:
                if not self._goes_on(turn):
                    return
                self._busy_since_ns = None
                stalled = captured - started >= self._stall_timeout_s * 0.95e9
                if picture is None:
                    self._open_gap(self._last_ns, captured, stalled)
                    break
                position_s = None if picture.time is None else float(picture.time)
                # Pictures that arrived and could not be decoded are missing in the stamps, too.
                lost = max(meter.lost_before(position_s, time.monotonic()), picture.lost_before)
                if picture.lost_before:
                    self._damage.add(picture.lost_before, self._next_frame, captured, None)
                frame = self._frame(picture.image, position_s, captured, captured - started, lost)
                frame.keep(picture)
                self._offer(frame)
                if stalled and self._source.kind == "url":
                    # The read timed out: FFmpeg returns what it still had before it fails.
                    silent_ns = started
                if silent_ns is not None and not reader.waiting:
                    self._open_gap(silent_ns, captured, True)
                    break
        if self._clock.now_ns() - opened_ns < _FIRST_PAUSE_S * 1e9:
            # It opened and was lost at once: do not reconnect as fast as it hangs up.
            self._ending.wait(_FIRST_PAUSE_S)

    def _frame(
        self, image: Any, position_s: float | None, captured: int, read_ns: int, lost: int
    ) -> Frame:
        if self._first_ns is None:
            self._first_ns = captured
        height, width = image.shape[:2]
        self._set_size(width, height, captured)
        frame = Frame(
            image=image,
            source_frame=self._next_frame,
            media_time_s=self._media_time(position_s),
            time_s=(captured - self._first_ns) / 1e9,
            captured_ns=captured,
            read_ns=read_ns,
            width=width,
            height=height,
            dropped_camera=lost,
        )
        self._next_frame += 1
        return frame

    def _media_time(self, position_s: float | None) -> float | None:
        """Return the stream's own time of a frame, continued over reconnections.

        A stream that is opened again counts from 0 again: its time continues after what passed
        until it was opened, not until its first frame came. Frames that come while the stream is
        probed (a second or two of RTSP) are kept, and handed out at once.
        """
        if position_s is None:
            return None
        if self._media_offset_s is None:
            start_s = 0.0 if self._last_media_s is None else self._last_media_s + self._gone_s
            self._media_offset_s = start_s - position_s
        self._last_media_s = position_s + self._media_offset_s
        return self._last_media_s

    def _offer(self, frame: Frame) -> None:
        self._end_gap(frame.captured_ns, back=True)
        self._last_ns = frame.captured_ns
        if self._newest is not None:
            frame.dropped_queue = self._newest.dropped_queue + 1
            frame.dropped_camera += self._newest.dropped_camera
            frame.follow(self._newest.packets)
        self._newest = frame
        self._changed.notify_all()

    def _reconnect(self, turn: int) -> SourceReader | None:
        """Open the camera again; return None once there is no more time for that."""
        pause_s = _FIRST_PAUSE_S
        while True:
            with self._changed:
                gap = self._gap
                if gap is None or not self._goes_on(turn):
                    return None
                now = self._clock.now_ns()
                if self._is_too_late(gap, now):
                    self._give_up()
                    return None
                gap.attempts += 1
                self._busy_since_ns = now
            try:
                reader = self._reopen()
            except SourceError as error:
                refusal = str(error).removeprefix(f"{self._source.given}: ")
            else:
                return reader
            with self._changed:
                if not self._goes_on(turn):
                    return None
                gap.refusal = refusal
                self._busy_since_ns = None
            left_s = self._time_left(gap)
            self._ending.wait(pause_s if left_s is None else min(pause_s, left_s))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _time_left(self, gap: _Gap) -> float | None:
        if self._reconnect_for_s is None:
            return None
        gone_s = (self._clock.now_ns() - gap.noticed_ns) / 1e9
        return max(0.0, self._reconnect_for_s - gone_s)

    def _open_gap(self, from_ns: int, now_ns: int, stalled: bool) -> None:
        if self._gap is not None:
            return  # opened again, but no frame came
        reason = f"no frame for {self._stall_timeout_s:g} s" if stalled else _ENDED
        self._begin_gap(from_ns, now_ns, reason)

    def _begin_gap(self, from_ns: int, now_ns: int, reason: str) -> None:
        self._gap = _Gap(from_ns, now_ns, reason)
        self._announce(f"{self._source.given}: lost ({reason}); trying to get it back")

    def _end_gap(self, now_ns: int, *, back: bool) -> None:
        gap, self._gap = self._gap, None
        if gap is None:
            return
        seconds = round((now_ns - gap.from_ns) / 1e9, 3)  # one figure wherever it is shown
        if back:
            self._announce(f"{self._source.given}: back after {seconds:.1f} s")
        self._events.append(
            {
                "kind": "gap",
                "from": utc_text(gap.from_ns),
                "to": utc_text(now_ns),
                "seconds": seconds,
                "source_frame": self._next_frame - (1 if back else 0),
                "back": back,
                "attempts": gap.attempts,
                "reason": gap.reason + (f"; then: {gap.refusal}" if gap.refusal else ""),
            }
        )

    def _ended_while_lost(self, has_end: bool) -> bool:
        """Return whether a playlist got its end, and maybe more pictures, while it was lost.

        If its reader had seen the end, the next one would have seen it at its first attempt.
        """
        gap = self._gap
        return has_end and gap is not None and (gap.attempts > 1 or gap.reason != _ENDED)

    def _finish(self, turn: int, lost: int, missing: str, has_end: bool) -> None:
        """End a source that seemed live, but was footage, which would now be recorded again.

        Args:
            lost: How many pictures after the last one could not be decoded.
            missing: What did not come of it, in words.
            has_end: Whether it says by now that it has an end.
        """
        with self._changed:
            if not self._goes_on(turn):
                return
            if not missing and self._ended_while_lost(has_end):
                missing = "it was lost, and had ended when it was back"
                self._end_gap(self._clock.now_ns(), back=False)
            self._gap = None
            self.lost_at_end = lost
            if lost:
                self._damage.add(lost, self._next_frame, self._clock.now_ns(), None)
            self.end_reason, self.end_detail = ("incomplete" if missing else "finished"), missing
            self._is_over = True
            self._announce(f"{self._source.given}: not live, but footage that has ended")
            self._changed.notify_all()

    def _fail(self, error: SourceError) -> None:
        self._error = error
        self._changed.notify_all()
