"""Ctrl-C and its relatives, sent as a terminal or a service manager sends them: to the group."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dgrec.errors import SessionError
from dgrec.journal import is_being_written
from dgrec.session import Session
from tests.recorder.command import Command, names
from tests.recorder.zoo import broken_model

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(dgrec: Command) -> Iterator[Start]:
    """Give a function that starts a looped recording into s.parquet; no process survives."""
    started: list[subprocess.Popen[str]] = []

    def launch(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        options_given = ["--source", "sample", "--loop", "--output", "s.parquet", *arguments]
        process = dgrec.start(*options_given, **options)
        started.append(process)
        return process

    yield launch
    for process in started:
        # PySDK's worker is in the group too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


def frames_in(path: Path) -> int:
    try:
        with Session(path) as session:
            return len(session)
    except SessionError:
        return 0


def wait_for(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not is_so():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def assert_sealed(folder: Path, end_reason: str) -> None:
    assert names(folder) == ["s.parquet"]
    with Session(folder / "s.parquet") as session:
        assert session.sealed
        assert session.damage == []
        metadata = session.metadata
        assert metadata["end_reason"] == end_reason
        assert metadata["totals"]["frames"] == len(session) >= 30
        assert session.frames["frame"].to_pylist() == list(range(len(session)))
        # What was in the pipeline has come out as well.
        assert session.frames["source_frame"].to_pylist() == list(range(len(session)))
        assert metadata["totals"]["source_frames"] == len(session)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_in_good_order(
    number: signal.Signals, dgrec: Command, start: Start
) -> None:
    process = start()
    journal = dgrec.folder / "s.arrows"
    wait_for(lambda: frames_in(journal) >= 30, process)
    assert is_being_written(journal)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert "Recorded " in stderr
    assert "interrupted" in stderr
    assert_sealed(dgrec.folder, "interrupted")


def test_a_service_manager_may_tell_the_main_process_only(dgrec: Command, start: Start) -> None:
    process = start()
    wait_for(lambda: frames_in(dgrec.folder / "s.arrows") >= 30, process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == 0, stderr
    assert_sealed(dgrec.folder, "interrupted")


def test_the_second_signal_leaves_the_journal(dgrec: Command, start: Start) -> None:
    """The model hangs: the first signal waits for the frames that are in the pipeline."""
    model = broken_model(dgrec.folder, "import time; time.sleep(3)", after=25)
    process = start(*model)
    journal = dgrec.folder / "s.arrows"
    wait_for(lambda: frames_in(journal) >= 25, process)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "the first signal waits"
    asked = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)

    assert time.monotonic() - asked < 3, "the second does not"
    assert process.returncode == 128 + signal.SIGINT
    assert "Left as it is: s.arrows" in stderr
    assert "Traceback" not in stderr
    assert not (dgrec.folder / "s.parquet").exists()
    assert not is_being_written(journal)
    with Session(journal) as session:
        assert not session.sealed
        assert session.damage == []
        assert len(session) >= 25
        assert session.frames["source_frame"].to_pylist() == list(range(len(session)))
        assert session.metadata["end_reason"] is None


def _seconds_in(lines: Path) -> float:
    """Return how much time the published lines span."""
    complete = lines.read_text().split("\n")[:-1] if lines.exists() else []
    stamps = [json.loads(line)["timestamp"] for line in complete]
    return float(stamps[-1] - stamps[0]) if stamps else 0.0


def test_kill_9_leaves_all_but_the_last_second(dgrec: Command, start: Start) -> None:
    process = start("--publish", "lines.jsonl")
    journal, lines = dgrec.folder / "s.arrows", dgrec.folder / "lines.jsonl"
    # A fast machine has dozens of frames before there is a second that could be lost.
    wait_for(lambda: _seconds_in(lines) > 2.5, process)
    process.kill()
    killed_at = time.time()
    process.wait(timeout=30)

    text = lines.read_text()
    stamps = [json.loads(line)["timestamp"] for line in text[: text.rindex("\n")].splitlines()]
    assert stamps[0] < killed_at - 1 < stamps[-1] + 1, "otherwise there was nothing to lose"
    with Session(journal) as session:
        assert session.damage == []
        assert session.frames["frame"].to_pylist() == list(range(len(session)))
        recorded = [at.timestamp() for at in session.frames["completed_at"].to_pylist()]
        assert recorded == pytest.approx(stamps[: len(recorded)], abs=2e-6)
        older = sum(stamp < killed_at - 1 for stamp in stamps)
        assert len(recorded) >= older > 0


def test_a_signal_while_the_model_loads_leaves_nothing(dgrec: Command, start: Start) -> None:
    process = start()
    assert process.stderr is not None
    assert process.stderr.readline().startswith("No model named")
    os.killpg(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in stderr
    assert names(dgrec.folder) == []
