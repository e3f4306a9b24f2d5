"""Outputs: a base class for whatever watches a recording, and the queue in front of each."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from dgrec.errors import ConfigError, DgrecError, value_text
from dgrec.format import Event, Metadata, Row
from dgrec.recorder.options import QueuePolicy
from dgrec.units import counted

if TYPE_CHECKING:
    from dgrec.recorder.session_writer import SessionWriter

#: How long the end of a recording waits for an output that takes nothing: if the recording waits
#: for its outputs, and otherwise.
_PATIENCE_S = 60.0
_PATIENCE_IN_A_HURRY_S = 5.0
_POLL_S = 0.1


class Output:
    """Watches a recording. Override the methods that you need.

    All of them are called in one thread that does nothing else, one call after the other: a slow
    output costs the recording nothing until `capacity` frames wait. Then a recording with the
    policy ``block`` waits for it, and one with ``drop-oldest`` leaves frames out. An output that
    raises is not called again, except for `close`, and the recording goes on; the message of a
    `DgrecError` is reported as it is. An output can neither add frames to the recording that it
    watches nor close it. The end of a recording waits for outputs, but not for one that takes
    nothing for a minute (5 seconds for a live source, or after Ctrl-C or an error). What an output
    missed is recorded under ``notes`` in the session's metadata.

    Example:

        >>> import dgrec
        >>> class Counter(dgrec.Output):
        ...     found = 0
        ...     def frame(self, row, result):
        ...         self.found += len(row.results)
        >>> counter = Counter()
        >>> with dgrec.Recorder("watched.parquet", outputs=[counter]) as recorder:
        ...     recorder.add([{"label": "cat", "score": 0.9, "bbox": [10.0, 20.0, 110.0, 70.0]}])
        >>> counter.found
        1
    """

    #: Used in messages.
    name = "output"
    #: How many frames may wait.
    capacity: ClassVar[int] = 1024
    #: Whether a recording that can wait (of a file) waits when the queue is full. Otherwise, and
    #: for live sources, the oldest frames are left out.
    is_waited_for: bool = True
    #: Whether the session notes how many frames the output was too slow for.
    counts_losses: ClassVar[bool] = True
    #: Whether `frame` gets the result, whose pixels take memory while they wait; None otherwise.
    wants_results: ClassVar[bool] = False
    #: Whether it puts events into the session, and so ends before the last of it is written.
    adds_events: ClassVar[bool] = False
    #: Whether it must run in the main thread, as windows must on some systems: the code that makes
    #: the recorder then calls `OutputQueue.run` there.
    needs_main_thread: ClassVar[bool] = False

    def watch(self, writer: SessionWriter) -> None:
        """For outputs of dgrec itself: called before `start`, with the session's writer."""

    def wants(self, row: Row) -> bool:
        """Return whether `frame` is called for a row; the recording waits for the answer."""
        return True

    def result_for(self, row: Row, result: Any) -> Any:
        """Return what `frame` gets as its result; the recording waits for that, too."""
        return result if self.wants_results else None

    def end_of_frames(self) -> None:
        """For outputs of dgrec itself: called when no row follows; the recording waits for it."""

    def start(self, metadata: Metadata) -> None:
        """Called first, with the session's metadata as far as it is known at the start."""

    def frame(self, row: Row, result: Any) -> None:
        """Called for each frame that is recorded."""

    def event(self, event: Event) -> None:
        """Called for each event of the source, such as a gap."""

    def close(self) -> None:
        """Called last, whatever happened, and before the session is sealed."""

    def give_up(self) -> None:
        """Called in another thread when the output is left behind: its waiting calls should end."""


class _Frame(NamedTuple):
    row: Row
    result: Any


class OutputQueue:
    """Hands a recording to an output, in another thread.

    ``failure`` is why the output ended early, and ``left_out`` how many frames it did not get.
    """

    def __init__(self, output: Output, policy: QueuePolicy) -> None:
        if not isinstance(output, Output):
            raise ConfigError(f"outputs: {value_text(output)} is not a dgrec.Output")
        self.output = output
        self.failure: str | None = None
        self.left_out = 0
        #: The thread that calls the output; 0 before and after that.
        self.thread = 0
        self._waits = policy == "block" and output.is_waited_for
        self._waiting: deque[_Frame | Event] = deque()
        self._frames = 0
        #: When it last finished something, or was asked to end.
        self._moved_s = 0.0
        self._changed = threading.Condition()
        self._is_closing = False
        self._is_left_behind = False
        self._has_ended = threading.Event()
        self._metadata: Metadata = {}
        self._finished = 0
        #: Called in the output's thread whenever `taken` has grown.
        self.on_taken: Callable[[], None] = lambda: None

    # --- for the recorder; none of it raises ---

    def start(self, metadata: Metadata) -> None:
        self._metadata = metadata
        if not self.output.needs_main_thread:
            threading.Thread(target=self.run, name="dgrec-output", daemon=True).start()

    def put_frame(self, row: Row, result: Any) -> None:
        try:
            if not self.output.wants(row):
                return
            item = _Frame(row, self.output.result_for(row, result))
        except Exception as error:
            self._fail_by(error)
            return
        with self._changed:
            while self._frames >= max(self.output.capacity, 1) and not self._is_over():
                if not self._waits:
                    self._leave_out()
                else:
                    self._changed.wait()
            if self._is_over():
                return
            self._waiting.append(item)
            self._frames += 1
            self._changed.notify_all()

    def put_event(self, event: Event) -> None:
        with self._changed:
            if not self._is_over():
                self._waiting.append(event)
                self._changed.notify_all()

    def hurry(self) -> None:
        """Wait for the output no longer than for one that watches a live source."""
        with self._changed:
            self._waits = False
            self._changed.notify_all()

    def end(self) -> None:
        """Let the output take what waits, and then end."""
        if self._is_closing:
            return
        try:
            self.output.end_of_frames()
        except (Exception, SystemExit) as error:
            self._fail_by(error)
        with self._changed:
            self._is_closing = True
            self._moved_s = time.monotonic()
            self._changed.notify_all()

    def close(self) -> None:
        """`end`, and wait for that; an output that takes nothing is left behind."""
        self.end()
        while not (self._has_ended.wait(_POLL_S) or self._is_left_behind):
            if self.is_stuck(self._moved_s):
                self._is_left_behind = True
                with self._changed:
                    self.left_out += self._frames
                patience_s = self._patience_s
                self._fail(f"{self.output.name}: left behind: it took nothing for {patience_s:g} s")
                with contextlib.suppress(Exception):
                    self.output.give_up()

    def is_stuck(self, since_s: float) -> bool:
        """Return whether the output has taken nothing for too long since ``since_s`` or later."""
        return time.monotonic() - max(self._moved_s, since_s) > self._patience_s

    @property
    def _patience_s(self) -> float:
        return _PATIENCE_S if self._waits else _PATIENCE_IN_A_HURRY_S

    @property
    def taken(self) -> int:
        """The number of frames that the output is done with; all once it has ended."""
        if self.failure is not None or self._has_ended.is_set():
            return sys.maxsize
        return self._finished + self.left_out

    @property
    def depth(self) -> int:
        """The number of frames that wait."""
        return self._frames

    @property
    def note(self) -> str:
        """The reason for an early end, and the number of frames missed if they count, or ""."""
        notes = [self.failure] if self.failure else []
        if self.left_out and self.output.counts_losses:
            missed = counted(self.left_out, "frame")
            notes.append(f"{self.output.name}: {missed} left out: it was too slow")
        return "; ".join(notes)

    # --- in the output's thread ---

    def run(self) -> None:
        """Hand over what comes, until the end."""
        self.thread = threading.get_ident()
        try:
            self._run()
        finally:
            self.thread = 0

    def _run(self) -> None:
        try:
            self.output.start(self._metadata)
            while (item := self._next()) is not None:
                if isinstance(item, _Frame):
                    self.output.frame(*item)
                    self._finished += 1
                    self.on_taken()
                else:
                    self.output.event(item)
                self._moved_s = time.monotonic()
        except BaseException as error:
            self._fail_by(error)
            if isinstance(error, KeyboardInterrupt):  # in the main thread
                self._has_ended.set()
                raise
        try:
            self.output.close()
        except (Exception, SystemExit) as error:
            self._fail(f"{self.output.name}: {error}")
        finally:
            self._has_ended.set()
            self.on_taken()

    # --- inside ---

    def _is_over(self) -> bool:
        return self._is_closing or self.failure is not None

    def _leave_out(self) -> None:
        """Leave out the oldest frame; events stay."""
        index = next(i for i, item in enumerate(self._waiting) if isinstance(item, _Frame))
        del self._waiting[index]
        self._frames -= 1
        self.left_out += 1

    def _next(self) -> _Frame | Event | None:
        with self._changed:
            while not self._waiting:
                if self._is_closing:
                    return None
                self._changed.wait()
            item = self._waiting.popleft()
            if isinstance(item, _Frame):
                self._frames -= 1
            self._changed.notify_all()
            return item

    def _fail_by(self, error: BaseException) -> None:
        """End the output early. A defect in it must not end the recording, nor hang it."""
        is_ours = isinstance(error, DgrecError)
        self._fail(str(error) if is_ours else f"{self.output.name}: ended early: {error!r}")

    def _fail(self, reason: str) -> None:
        with self._changed:
            self.failure = self.failure or reason
            self._waiting.clear()
            self._frames = 0
            self._changed.notify_all()
        self.on_taken()
