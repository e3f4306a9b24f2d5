"""Ctrl-C and its relatives: the first ends the recording in good order, the second at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import NoReturn, Self

__all__ = ["StopSignals"]

_NAMES = tuple(name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopSignals:
    """While it is entered, the first signal calls ``stop`` and the second ``abandon``.

    Terminals, service managers and `timeout` signal a whole process group, PySDK's worker for
    Python postprocessors included: it would die, and PySDK's core with it, before the frames in
    the pipeline have come out. The signals are therefore blocked, in this thread and so in every
    thread and process that PySDK starts from here on, and taken by a thread that waits for them.
    Enter it before the model is loaded. Until `stop` is set, a signal ends the process: there is
    nothing to save yet.
    """

    def __init__(self) -> None:
        self.stop: Callable[[], None] | None = None
        self.abandon: Callable[[], None] | None = None
        self._received = 0
        self._done = False

    def __enter__(self) -> Self:
        # Threads that were started before have nothing blocked, and may be given the signal.
        self._previous = {name: signal.getsignal(getattr(signal, name)) for name in _NAMES}
        for name in _NAMES:
            signal.signal(getattr(signal, name), self._handle)
        if hasattr(signal, "pthread_sigmask"):
            self._blocked = {getattr(signal, name) for name in _NAMES}
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._blocked)
            self._thread = threading.Thread(target=self._wait, name="dgrec-signals", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done = True
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_kill(self._thread.ident or 0, signal.SIGINT)  # end its waiting
            self._thread.join()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for name, handler in self._previous.items():
            signal.signal(getattr(signal, name), handler)
        _end_workers()

    def _wait(self) -> None:
        while True:
            number = signal.sigwait(self._blocked)
            if self._done:
                return
            self._handle(number, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._received += 1
        if self.stop is None:
            self._leave(number)
        if self._received == 1:
            self.stop()
            return
        if self.abandon is not None:
            self.abandon()
        # Skip everything: whatever hangs, the journal is whole up to its last flush.
        self._leave(number)

    def _leave(self, number: int) -> NoReturn:
        try:
            _end_workers()
        finally:
            os._exit(128 + number)


def _end_workers() -> None:
    """End PySDK's worker, which PySDK itself ends with the SIGTERM that is blocked there.

    The model must have been released by then, or PySDK waits for an answer and aborts.

    Left alone it goes when it finds its parent gone, but a parent that nobody has waited for yet
    counts as there: whoever reads our output to its end first would wait for ever, since the
    worker has that pipe open too.
    """
    import psutil  # type: ignore[import-untyped]  # PySDK depends on it

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if any("pproc_worker" in part for part in child.cmdline()):
                    child.kill()
