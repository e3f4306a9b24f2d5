"""``--view``: the page while a recording goes on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import dgrec
from dgrec.cli import gather
from tests.clips import short_clip
from tests.factory import make_rows, write_session
from tests.recorder.command import Command
from tests.recorder.network_camera import picture
from tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow

_ADDRESS = re.compile(r"Watch the recording at (http://\S+)")


def test_the_page_is_there_for_as_long_as_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise AssertionError('this is the user\\'s own')\n")
    # An older recording has its name until it ends.
    write_session(tmp_path / "s.parquet", make_rows(3))
    arguments = ["record", "sample", "--loop", "--view", "--output", "s.parquet", "--overwrite"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "dgrec", *arguments],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    found = None
    while found is None:
        line = process.stderr.readline()
        assert line, "it ended"
        found = _ADDRESS.search(line)
    address, _, shown = found[1].partition("#")
    assert shown == "s=s.arrows"
    with urllib.request.urlopen(
        address.replace("/?", "/api/sessions?"), timeout=PATIENCE_S
    ) as page:
        assert b'"s":"s.arrows"' in page.read()
    process.kill()  # nothing of it is asked
    process.communicate(timeout=PATIENCE_S)

    def is_gone() -> bool:
        try:
            urllib.request.urlopen(address, timeout=PATIENCE_S).close()
        except OSError:
            return True
        return False

    wait_until(is_gone)


def started(folder: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """Record with a page, and return the process and the address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dgrec", "record", *arguments, "--view", "--output", "s.parquet"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if found := _ADDRESS.search(line):
            return process, found[1].partition("#")[0]
    raise AssertionError("it ended")


def test_clients_and_a_viewer_that_do_not_read_cost_no_frame(tmp_path: Path) -> None:
    with dgrec.Recorder(tmp_path / "footage.parquet", video="raw") as recorder:
        for number in range(150):
            recorder.add([], picture(number))
    # On a busy machine the footage would be over before anything is asked.
    process, address = started(tmp_path, "footage.mp4", "--loop")
    clients = []

    def newest() -> bytes:
        asked = address.replace("/?", "/api/newest?s=s&")
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
            return answer.read(2)

    def recorded() -> int:
        with dgrec.open(tmp_path / "s.arrows") as session:
            return len(session)

    try:
        url = urlsplit(address)
        wait_until(lambda: newest() == b"\xff\xd8")
        for path in ("/api/live?s=s", "/api/newest?s=s") * 2:
            client = socket.create_connection((url.hostname, url.port))
            clients.append(client)
            # As many requests as it can send, and nothing is read.
            request = f"GET {path}&{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode()
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(200):
                    client.send(request)
        viewer = viewer_of(process.pid)
        os.kill(viewer, signal.SIGSTOP)
        before = recorded()
        for more in range(10, 61, 10):  # however slowly; but it goes on
            wait_until(lambda: recorded() >= before + more, pause_s=0.1)  # noqa: B023
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
        wait_until(lambda: not Path(f"/proc/{viewer}").exists())
    finally:
        process.kill()
        process.communicate()
        for client in clients:
            client.close()
    with dgrec.open(tmp_path / "s.parquet") as session:
        frames = session.frames.column("source_frame").to_pylist()
    assert frames == [*range(len(frames))]
    assert len(frames) >= before + 60


def viewer_of(process: int) -> int:
    """Return the process of the page."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return next(
        int(child)
        for child in children
        if b"--of-recorder" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
    )


def test_a_program_shows_its_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    said = ""

    def address() -> str:
        nonlocal said
        said += capsys.readouterr().err
        found = _ADDRESS.search(said)
        return found[1] if found else ""

    with dgrec.Recorder(tmp_path / "s.parquet", view=True) as recorder:
        recorder.add([{"label": "cat", "score": 0.9, "bbox": [1.0, 2.0, 30.0, 40.0]}])
        wait_until(lambda: bool(address()))
        page, _, place = address().partition("#")
        assert place == "s=s"
        sessions = page.replace("/?", "/api/sessions?")
        wait_until(lambda: b'"s":"s"' in urllib.request.urlopen(sessions).read(), pause_s=0.1)
        # The picture of the next frame, with its overlay.
        newest = page.replace("/?", "/api/newest?s=s&")
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(lambda: urllib.request.urlopen(newest, timeout=PATIENCE_S))
            found = [{"label": "cat", "score": 0.9, "bbox": [40.0, 100.0, 200.0, 200.0]}]
            while not asked.done():
                recorder.add(found, picture(1))
                time.sleep(0.01)
        with asked.result() as answer:
            shown = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)
        assert shown.shape == (240, 320, 3)
        assert np.abs(shown.astype(int) - picture(1)).max(axis=2)[100, 60:180].min() > 50
        # A page that is open stays when the recording has ended.
        urllib.request.urlopen(page.replace("/?", "/api/page?id=1&")).close()
    wait_until(lambda: b'"state":"sealed"' in urllib.request.urlopen(sessions).read(), pause_s=0.1)
    assert "stays until it is closed" in capsys.readouterr().err
    urllib.request.urlopen(page.replace("/?", "/api/page?id=1&closed=1&")).close()

    def is_gone() -> bool:
        try:
            urllib.request.urlopen(page, timeout=PATIENCE_S).close()
        except OSError:
            return True
        return False

    wait_until(is_gone, pause_s=0.1)


_APP = """
import sys
from tests.recorder.test_program import load
from degirum_tools import predict_stream

model = load()
while True:
    for _ in predict_stream(model, sys.argv[1]):
        pass
"""


def test_an_unchanged_program_shows_its_frames(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(_APP)
    clip = short_clip(tmp_path / "clip.mp4")
    command = [sys.executable, "-m", "dgrec", "run", "--view", "--", sys.executable, "app.py"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        [*command, str(clip)],
        cwd=tmp_path,
        env=Command(tmp_path).environment({"PATH": path, "TMPDIR": str(tmp_path)}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, "it ended"
            assert "No page" not in line
            found = _ADDRESS.search(line)
        address = found[1].partition("#")[0]

        def sessions() -> list[str]:
            with urllib.request.urlopen(address.replace("/?", "/api/sessions?")) as answer:
                return [each["s"] for each in json.load(answer)["sessions"]]

        wait_until(lambda: bool(sessions()), pause_s=0.2)
        after, seen = 0, 0
        while seen < 3:
            asked = f"/api/newest?s={sessions()[0]}&after={after}&"
            with urllib.request.urlopen(address.replace("/?", asked), timeout=PATIENCE_S) as answer:
                if answer.status == 204:  # it has hardly begun
                    assert process.poll() is None
                    continue
                assert int(answer.headers["X-Captured-Us"]) > after
                after = int(answer.headers["X-Captured-Us"])
                newest = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)
            assert newest is not None
            assert newest.shape == (360, 640, 3)
            seen += 1
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
    assert list(tmp_path.glob("dgrec-frames-*")) == []


def test_what_is_not_recorded_is_not_shown() -> None:
    arguments = ["run", "--view", "--replay", "s.parquet", "--", "true"]
    result = CliRunner().invoke(gather(), arguments)
    assert result.exit_code == 2
    assert "--view shows what is recorded" in result.output
