"""A real AI server of DeGirum's on loopback, as a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from dgrec import sample

__all__ = ["AiServer"]

_PATIENCE_S = 60.0
#: `degirum server start` in this interpreter. The kernel ends it with the test, whatever happens.
_START = """
import ctypes, sys
ctypes.CDLL(None).prctl(1, 9)
sys.argv = ["degirum", "server", "start", "--zoo", sys.argv[1], "--port", sys.argv[2], "--quiet"]
from degirum import _command_entrypoint
_command_entrypoint()
"""


class AiServer:
    """Serves a zoo on a free port; `kill`, `stop` and `go_on`, and `start` again on the same."""

    def __init__(self, zoo: Path = sample.ZOO) -> None:
        self._zoo = zoo
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def start(self) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(self._zoo), str(self.port)],
            env={**os.environ, "PATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        due = time.monotonic() + _PATIENCE_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            assert self._process.poll() is None, "the server ended"
            assert time.monotonic() < due, "the server does not listen"
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """Send a signal to the server and its workers."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
