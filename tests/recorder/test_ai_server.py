"""An AI server that dies or hangs in the middle of a recording, and one that comes back."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from dgrec import sample
from dgrec.errors import DgrecError
from dgrec.recorder.ai_server import AIServer, _close_beside
from dgrec.recorder.capture import Capture
from dgrec.session import Session, open_session
from tests.recorder.ai_server import AiServer
from tests.recorder.command import Command
from tests.recorder.doubles import ScriptedFrames
from tests.recorder.network_camera import MjpegCamera

PATIENCE_S = 120.0
MODEL = ("--model-name", sample.MODEL_NAME, "--inference-host-address")


@pytest.fixture
def server() -> Iterator[AiServer]:
    with AiServer() as server:
        yield server


@pytest.mark.parametrize(
    ("longest_s", "is_interrupted", "overdue_s", "is_lost"),
    [
        (0.1, False, 4.0, False),
        (0.1, False, 5.5, True),
        (3.0, False, 11.0, False),
        (0.1, True, 2.5, True),
        (3.0, True, 4.0, False),  # a slow model stays slow when the recording is to end
        (3.0, True, 12.5, True),
        (None, False, 50.0, False),  # the server may still be loading the model
        (None, True, 2.5, True),
    ],
)
def test_a_server_is_lost_after_a_silence_that_its_model_does_not_explain(
    longest_s: float | None, is_interrupted: bool, overdue_s: float, is_lost: bool
) -> None:
    capture = SimpleNamespace(
        longest_wait_s=longest_s, was_interrupted=is_interrupted, overdue_s=lambda: overdue_s
    )
    silence = AIServer("127.0.0.1:1", load=lambda: pytest.fail("loaded")).silence
    assert bool(silence(capture, object())) is is_lost  # type: ignore[arg-type]


def test_the_first_wait_says_nothing_of_a_model_that_was_being_loaded() -> None:
    capture = Capture(ScriptedFrames([0.0, 0.1, 0.2]))
    known = []
    for _ in range(3):
        _, image = capture.read()
        capture.take(image)
        known.append(capture.longest_wait_s is not None)
    assert known == [False, True, True]


def test_streams_that_are_closed_at_once_leave_no_silence_behind() -> None:
    usual = sys.unraisablehook
    begun, may_end = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    class Stream:
        def __init__(self, number: int) -> None:
            self._number = number

        def close(self) -> None:
            begun[self._number].set()
            may_end[self._number].wait(PATIENCE_S)

    closing: list[threading.Thread] = []
    for number in range(2):
        others = {*threading.enumerate()}
        _close_beside(Stream(number))  # type: ignore[arg-type]
        begun[number].wait(PATIENCE_S)
        closing += {*threading.enumerate()} - others
    assert len(closing) == 2
    assert sys.unraisablehook is not usual
    for event in may_end:  # the first one ends before the other
        event.set()
        closing.pop(0).join()
    assert sys.unraisablehook is usual


def rows_in(path: Path) -> int:
    journal = path.with_suffix(".arrows")
    try:
        with open_session(journal if journal.exists() else path) as session:
            return len(session)
    except (DgrecError, OSError):
        return 0


def wait_until(done: Callable[[], bool], process: subprocess.Popen[str], what: str) -> None:
    due = time.monotonic() + PATIENCE_S
    while not done():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < due, what
        time.sleep(0.05)


@pytest.fixture
def recordings() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def start(
    dgrec: Command, recordings: list[subprocess.Popen[str]], server: AiServer, *more: str
) -> subprocess.Popen[str]:
    process = dgrec.start("--output", "s.parquet", *MODEL, server.address, *more)
    recordings.append(process)
    return process


def server_events(session: Session) -> list[dict[str, Any]]:
    return [e for e in session.metadata["events"] if e["kind"] == "server_lost"]


@pytest.mark.slow
def test_a_file_goes_on_where_it_was_when_the_server_is_back(
    dgrec: Command, server: AiServer, recordings: list[subprocess.Popen[str]]
) -> None:
    """Frames that the dead server had are inferred again: nothing is missing, nothing is twice."""
    path = dgrec.folder / "s.parquet"
    # A row is in the journal at once: a fast machine has inferred all in two seconds.
    options = ("--source", "sample", "--max-frames", "200", "--durability", "frame")
    process = start(dgrec, recordings, server, *options, "--tracker", "trail_depth=3")
    wait_until(lambda: rows_in(path) >= 30, process, "no rows")
    server.kill()
    before = psutil.Process(process.pid).memory_info().rss
    assert process.stderr is not None
    line = next(text for text in process.stderr if "lost" in text)
    assert f"AI server {server.address}: lost (" in line
    memory = psutil.Process(process.pid).memory_info
    wait_until(lambda: memory().rss < before + (100 << 20), process, "memory is not given back")
    server.start()
    _, rest = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, rest
    assert f"AI server {server.address}: back after " in rest
    with open_session(path) as session:
        assert session.frames.column("source_frame").to_pylist() == list(range(200))
        assert session.metadata["totals"]["dropped"] == 0
        (event,) = server_events(session)
        assert event["back"] is True
        assert event["server"] == f"AI server {server.address}"
        assert event["seconds"] > 0
        assert event["attempts"] >= 1
        assert 0 <= event["without_result"] <= 8
        faces = [len(result.results) for result in session]
        # The tracker goes on with the model that was loaded again.
        assert all(hasattr(result, "trails") for result in session)
        assert {len(trail) for result in session for trail in result.trails.values()} == {1, 2, 3}
    with open_session(sample.SESSION) as recorded:
        expected = [len(recorded.result(index).results) for index in range(200)]
    # A server is sent JPEG: a face at the threshold may be lost. One frame off, eight would differ.
    assert sum(here != there for here, there in zip(faces, expected, strict=True)) <= 2
    assert sum(faces) > 50


@pytest.mark.slow
@pytest.mark.parametrize("fate", ["killed", "hanging"])
def test_ctrl_c_while_the_server_is_gone(
    fate: str, dgrec: Command, server: AiServer, recordings: list[subprocess.Popen[str]]
) -> None:
    path = dgrec.folder / "s.parquet"
    process = start(dgrec, recordings, server, "--source", "sample", "--loop")
    wait_until(lambda: rows_in(path) >= 20, process, "no rows")
    if fate == "killed":
        server.kill()
    else:
        server.signal(signal.SIGSTOP)
    assert process.stderr is not None
    assert any("lost (" in line for line in process.stderr)
    os.killpg(process.pid, signal.SIGINT)
    _, rest = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, rest
    with open_session(path) as session:
        assert session.metadata["end_reason"] == "interrupted"
        numbers = session.frames.column("source_frame").to_pylist()
        assert numbers == list(range(len(numbers)))
        (event,) = server_events(session)
        assert event["back"] is False
        totals = session.metadata["totals"]
        # No row came after them: they are in the totals only.
        lost = totals.get("dropped_after", 0)
        assert lost == event["without_result"]
        assert totals["source_frames"] == totals["frames"] + lost


@pytest.mark.slow
def test_a_server_that_does_not_come_back(
    dgrec: Command, server: AiServer, recordings: list[subprocess.Popen[str]]
) -> None:
    path = dgrec.folder / "s.parquet"
    options = ("--source", "sample", "--loop", "--reconnect-for", "1s")
    process = start(dgrec, recordings, server, *options)
    wait_until(lambda: rows_in(path) >= 20, process, "no rows")
    server.kill()
    _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    last = error.splitlines()[-1]
    assert last.startswith(f"Error: AI server {server.address}: lost, and not back within 1 s (")
    with open_session(path) as session:
        assert session.metadata["end_reason"] == "failed"
        assert f"the {len(session)} frames before are in " in last


@pytest.mark.slow
def test_a_live_source_goes_on_dropping_and_counts_what_the_server_had(
    dgrec: Command, server: AiServer, recordings: list[subprocess.Popen[str]]
) -> None:
    path = dgrec.folder / "s.parquet"
    with MjpegCamera() as camera:
        process = start(dgrec, recordings, server, "--source", camera.url, "--video", "none")
        wait_until(lambda: rows_in(path) >= 10, process, "no rows")
        server.signal(signal.SIGSTOP)
        assert process.stderr is not None
        assert any("lost (" in line for line in process.stderr)
        server.kill()
        server.start()
        assert any("back after" in line for line in process.stderr)
        rows = rows_in(path)
        wait_until(lambda: rows_in(path) > rows + 5, process, "no rows after the server was back")
        os.killpg(process.pid, signal.SIGINT)
        _, rest = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, rest
    with open_session(path) as session:
        numbers = session.frames.column("source_frame").to_pylist()
        dropped = session.frames.column("dropped_queue").to_pylist()
        (event,) = server_events(session)
        assert event["without_result"] >= 1
        # Every frame that is missing is counted in the row after it.
        steps = [later - earlier - 1 for earlier, later in itertools.pairwise(numbers)]
        assert steps == dropped[1:]
        assert max(dropped) >= event["without_result"]


# --- the capture alone ---


def give(capture: Capture, count: int) -> list[Any]:
    return [capture.read()[1] for _ in range(count)]


def test_frames_without_a_result_are_given_again_in_their_order() -> None:
    capture = Capture(ScriptedFrames(i / 30 for i in range(6)))
    capture.asks_for_results, capture.most_waiting = True, 4
    first = give(capture, 4)
    assert capture.read() == (True, None), "no more than the queue takes"
    assert capture.take(first[0]).source_frame == 0
    assert capture.take_back() == 3
    again = give(capture, 3)
    assert [image is old for image, old in zip(again, first[1:], strict=True)] == [True] * 3
    assert [capture.take(image).source_frame for image in again] == [1, 2, 3]
    last = give(capture, 2)
    assert capture.read() == (True, None), "not the end before the results"
    assert capture.take_back() == 2
    assert give(capture, 2)[0] is last[0], "also after the end of the source"
    assert [capture.take(image).source_frame for image in last] == [4, 5]
    assert capture.read() == (False, None)
    assert capture.frames_given == capture.counts.read == 6
    assert capture.counts.dropped == 0


def test_frames_of_a_live_source_without_a_result_are_lost_and_counted() -> None:
    frames = ScriptedFrames([i / 30 for i in range(6)], dropped_queue=[0, 2, 0, 1])
    capture = Capture(frames, is_live=True)
    capture.asks_for_results, capture.most_waiting = True, 4
    first = give(capture, 3)
    assert capture.take(first[0]).source_frame == 0
    assert capture.take_back() == 2
    (image,) = give(capture, 1)
    frame = capture.take(image)
    assert (frame.source_frame, frame.dropped_queue) == (3, 2 + 2 + 1)
    assert capture.counts.dropped_queue == 5
    assert capture.counts.read == capture.frames_given + 2
