"""Ctrl-C and similar signals: the first ends and seals the recording, the second exits at once.

One between them ends what is sent to targets before sealing (``--publish-later``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn, Self

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_END = b"\0"
#: The signals that were blocked before `StopSignals` blocked its own; None: no block of it runs.
_usual: set[int | signal.Signals] | None = None


class StopSignals:
    """While it is entered, the first signal calls ``stop``, and the second ``abandon`` and exits.

    Each signal after the first calls ``hurry`` first, and does nothing more if that returns True:
    it has ended what the end was waiting for.

    Terminals, service managers and `timeout` signal a whole process group, PySDK's worker for
    Python postprocessors included: it would die, and PySDK's core with it, before the frames in
    the pipeline have come out. The signals are therefore blocked, in this thread and so in every
    thread and process that PySDK starts from here on.

    Python runs signal handlers in the main thread only, once for all signals that have come by
    then, and that thread may be waiting inside PySDK for a model that hangs. Therefore a thread
    reads from the pipe into which the interpreter writes each signal as it comes.

    SIGHUP stays ignored where it is, as after ``nohup``. SIGINT does not: a script's background
    jobs begin with it ignored, and ``kill -INT`` is how the script ends them in order.

    Enter it before the model is loaded. Until `stop` is set, a signal ends the process: there is
    nothing to save yet.
    """

    def __init__(self) -> None:
        self.stop: Callable[[], None] | None = None
        self.abandon: Callable[[], None] | None = None
        self.hurry: Callable[[], bool] | None = None
        self._received = 0

    def __enter__(self) -> Self:
        handlers = {number: signal.getsignal(number) for number in _NUMBERS}
        if handlers[signal.SIGHUP] is signal.SIG_IGN:
            del handlers[signal.SIGHUP]
        self._previous = handlers
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._previous_pipe = signal.set_wakeup_fd(self._pipe[1])
        for number in self._previous:
            # Instead of the default action; without a handler nothing is written to the pipe.
            signal.signal(number, lambda *_: None)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._previous)
        _set_usual(self._mask)
        self._thread = threading.Thread(target=self._wait, name="dgrec-signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._pipe[1], _END)
        self._thread.join()
        signal.set_wakeup_fd(self._previous_pipe)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        _set_usual(None)
        for end in self._pipe:
            os.close(end)

    def begin_again(self, stop: Callable[[], None]) -> None:
        """Call ``stop`` at the next signal, whether one has come before or not."""
        self.stop, self.abandon = stop, stop
        self._received = 0

    def _wait(self) -> None:
        # One thread has to receive them; threads that were started earlier may do so as well.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._previous)
        while (byte := os.read(self._pipe[0], 1)) != _END:
            if byte[0] in self._previous:
                self._handle(byte[0])

    def _handle(self, number: int) -> None:
        self._received += 1
        if self.stop is None:
            self._leave(number)
        if self._received == 1:
            self.stop()
            return
        if self.hurry is not None and self.hurry():
            return
        if self.abandon is not None:
            self.abandon()
        # Without any clean-up, which may hang: the journal is complete up to its last flush.
        self._leave(number)

    def _leave(self, number: int) -> NoReturn:
        os._exit(128 + number)


def _set_usual(mask: set[int | signal.Signals] | None) -> None:
    global _usual
    _usual = mask


@contextlib.contextmanager
def usual_signals() -> Iterator[None]:
    """Let a program that is started in the block get signals as if `StopSignals` had not blocked
    them: it would inherit the blocked signals for good, and nothing but SIGKILL could end it.
    """
    if _usual is None:
        yield
        return
    # A signal that comes meanwhile goes into the pipe, whichever thread gets it.
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, _usual)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def late_interrupt(first: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Raise the KeyboardInterrupt of a program's Ctrl-C at the end of the block, and that of a
    second one at once. The first one calls ``first``. A program's own handling of Ctrl-C is left
    alone.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    came = False

    def later(number: int, frame: object) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True
        first()

    signal.signal(signal.SIGINT, later)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt
