"""Statements of users run in a process of their own, which may be ended.

DuckDB's own limits leave out what a function builds, and it looks for an interruption between rows
only: one ``range`` took 10 GB, even after its time was over. The operating system limits the
process (`dgrec.replay.viewing.statement_program`), and ends it first if the machine has no memory
left.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from typing import Any, Final

from dgrec.files import TemporaryFolder
from dgrec.processes import module_command
from dgrec.replay.viewing.opened_session import STATEMENT_S
from dgrec.replay.viewing.parameters import RequestError
from dgrec.replay.viewing.workers import Task

_PROGRAM: Final = "dgrec.replay.viewing.statement_program"
#: How long a cancelled statement may go on.
_PATIENCE_S: Final = 3.0
#: More time for starting, opening a long recording, and answers of several steps.
_BESIDE_S: Final = 60.0
_LOOK_S: Final = 0.05
#: A process that has had nothing to do for this long is ended.
_IDLE_S: Final = 60.0


class _Running:
    """A process that runs statements, one after the other."""

    def __init__(self) -> None:
        # What DuckDB spills is removed with the process, however that ends.
        self._folder = TemporaryFolder("dgrec")
        try:
            self._process = subprocess.Popen(
                module_command(_PROGRAM, str(self._folder.path)),
                stdin=subprocess.PIPE,  # it ends when this is closed
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self._folder.path,
                start_new_session=True,  # Ctrl-C is for the server
            )
        except OSError as error:
            self._folder.cleanup()
            raise RequestError(f"statements cannot be run: {error.strerror}", 422) from None
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="dgrec-statements", daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):  # closed
            for line in self._process.stdout:
                self._answers.put(line)
        self._answers.put(b"")  # it has ended

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def write(self, message: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # if it has ended, so have its answers
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self, seconds: float) -> bytes | None:
        """Return its next answer, b"" if it has ended, None if there is none in time."""
        with contextlib.suppress(queue.Empty):
            return self._answers.get(timeout=seconds)
        return None

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        with contextlib.suppress(OSError):
            self._folder.cleanup()


class StatementProcess:
    """Runs statements, one at a time, in a process that is started when it is needed."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._running: _Running | None = None
        self._is_closed = False
        self._used_s = 0.0

    def run(self, request: dict[str, Any], task: Task) -> bytes:
        """Return the body of the answer.

        Raises:
            CancelledError: Nobody waits for it any more.
            RequestError: The statement is refused.
        """
        with self._turn:
            task.check()
            running = self._ready()
            task.check()
            began_s = time.monotonic()
            line = self._line(running, request, task)
            self._used_s = time.monotonic()
            # A statement that was stopped because of the time may go on.
            if not line or time.monotonic() - began_s >= STATEMENT_S:
                self._end()
            task.check()
        if line is None:
            raise RequestError(f"stopped after {STATEMENT_S:g} s", 422)
        if not line:
            raise RequestError("out of memory", 422)
        status, _, body = line.rstrip(b"\n").partition(b" ")
        if status != b"200":
            raise RequestError(json.loads(body), int(status))
        return body

    def _ready(self) -> _Running:
        """Return a process that waits for requests."""
        if self._running is not None and self._running.has_ended:
            self._end()
        if self._running is None:
            self._running = _Running()
            until_s = time.monotonic() + _BESIDE_S
            while (line := self._running.answer(_LOOK_S)) is None:
                if self._is_closed or time.monotonic() > until_s:
                    break
            if not line:
                self._end()
                raise RequestError("statements cannot be run: out of memory or time", 422)
        return self._running

    def _end(self) -> None:
        if self._running is not None:
            self._running.end()
            self._running = None

    def _line(self, running: _Running, request: dict[str, Any], task: Task) -> bytes | None:
        until_s = time.monotonic() + STATEMENT_S + _BESIDE_S
        is_cancelled = False
        running.write(request)
        while time.monotonic() < until_s:
            if (line := running.answer(_LOOK_S)) is not None:
                return line
            if not is_cancelled and (task.is_cancelled or self._is_closed):
                is_cancelled = True
                running.write(None)
                until_s = time.monotonic() + (0.0 if self._is_closed else _PATIENCE_S)
        return None

    def end_idle(self) -> None:
        """End the process if nothing was asked for a while: it keeps sessions open."""
        if self._turn.acquire(blocking=False):
            try:
                if time.monotonic() - self._used_s > _IDLE_S:
                    self._end()
            finally:
                self._turn.release()

    def close(self) -> None:
        """End the process."""
        self._is_closed = True
        with self._turn:
            self._end()
