"""Sources that are waited for: pipes, and web servers that fall silent."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

import dgrec as library
from dgrec.errors import DgrecError, SourceError
from dgrec.recorder.sources.read_ahead import ReadAhead
from dgrec.session import open_session
from tests.footage import FRAMES, Encoding, encode
from tests.recorder.command import Command, names
from tests.waiting import PATIENCE_S, wait_until
from tests.web_server import serving


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def rows_in(path: Path) -> int:
    try:
        with open_session(path) as session:
            return len(session)
    except (DgrecError, OSError):
        return 0


def test_what_was_read_before_an_error_is_handed_out() -> None:
    """However much later than the error."""

    class Failing:
        left = 4

        def read(self) -> Any:
            self.left -= 1
            if self.left < 0:
                raise SourceError("cannot be read")
            return self.left

        def release(self) -> None:
            pass

    ahead = ReadAhead(cast(Any, Failing()))
    found = [ahead.read() for _ in range(3)]
    ahead._thread.join(PATIENCE_S)
    found.append(ahead.read())
    assert found == [3, 2, 1, 0]
    with pytest.raises(SourceError, match="cannot be read"):
        ahead.read()
    ahead.release()


@pytest.mark.slow
def test_a_pipe_is_recorded_once_and_with_its_pixels(dgrec: Command, tmp_path: Path) -> None:
    pipe = dgrec.folder / "pipe"
    os.mkfifo(pipe)
    data = encode(tmp_path / "a.ts", Encoding(size=(320, 240))).read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(data,), daemon=True)
    writer.start()
    done = dgrec.record("--source", "pipe", "--output", "s.parquet")
    assert done.returncode == 0, done.stderr
    writer.join(PATIENCE_S)
    with library.open(dgrec.folder / "s.parquet") as session:
        assert len(session) == FRAMES
        assert session.metadata["end_reason"] == "finished"
        assert session.metadata["source"]["kind"] == "pipe"
        assert session.metadata["video"][0]["frames"] == FRAMES


@pytest.mark.slow
def test_a_pipe_that_nobody_writes_to(dgrec: Command, started: list[subprocess.Popen[str]]) -> None:
    os.mkfifo(dgrec.folder / "pipe")
    process = dgrec.start("--source", "pipe", "--output", "s.parquet")
    started.append(process)
    assert process.stderr is not None
    assert process.stderr.readline() == "pipe: waiting for what writes to this pipe\n"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert names(dgrec.folder) == ["pipe"]


class _Silent(http.server.BaseHTTPRequestHandler):
    """Sends half of a file, and then neither more nor the end."""

    data = b""
    is_over = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/silent":
            self.is_over.wait()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()
        self.wfile.write(self.data[: len(self.data) // 2])
        self.is_over.wait()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    front = {"movflags": "faststart"}
    path = encode(tmp_path / "a.mp4", Encoding(size=(320, 240), muxer=front))
    _Silent.data = path.read_bytes()
    _Silent.is_over.clear()
    with serving(_Silent) as address:
        yield address
        _Silent.is_over.set()


@pytest.mark.slow
def test_ctrl_c_while_footage_is_waited_for(
    dgrec: Command, silent: str, started: list[subprocess.Popen[str]]
) -> None:
    path = dgrec.folder / "s.arrows"
    options = ("--stall-timeout", "1h", "--durability", "frame", "--output", "s.parquet")
    process = dgrec.start("--source", f"{silent}/a.mp4", *options)
    started.append(process)
    # The results of all that came are there, though no further frame makes PySDK hand them out.
    wait_until(lambda: rows_in(path) >= FRAMES // 3, process=process)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, error
    with library.open(dgrec.folder / "s.parquet") as session:
        assert session.metadata["end_reason"] == "interrupted"
        assert FRAMES // 3 <= len(session) < FRAMES


@pytest.mark.slow
def test_ctrl_c_while_opening(
    dgrec: Command, silent: str, started: list[subprocess.Popen[str]]
) -> None:
    options = ("--stall-timeout", "1h", "--output", "s.parquet")
    process = dgrec.start("--source", f"{silent}/silent", *options)
    started.append(process)
    port = int(silent.rpartition(":")[2])

    def is_connected() -> bool:
        connections = psutil.Process(process.pid).net_connections()
        return any(connection.raddr and connection.raddr.port == port for connection in connections)

    wait_until(is_connected, process=process)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
