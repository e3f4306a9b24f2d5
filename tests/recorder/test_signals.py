"""Ctrl-C and its relatives, sent as a terminal or a service manager sends them: to the group."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from dgrec.errors import SessionError
from dgrec.format import is_being_written
from dgrec.recorder.model import LoadedModel
from dgrec.recorder.signals import StopSignals
from dgrec.session import Session
from tests.recorder.command import Command, names
from tests.recorder.zoo import broken_model
from tests.waiting import PATIENCE_S, wait_until

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(dgrec: Command) -> Start:
    """Give a function that starts a looped recording into s.parquet."""
    looped = ("--source", "sample", "--loop", "--output", "s.parquet")
    return lambda *arguments, **options: dgrec.start(*looped, *arguments, **options)


def frames_in(path: Path) -> int:
    try:
        with Session(path) as session:
            return len(session)
    except SessionError:
        return 0


def assert_sealed(folder: Path, end_reason: str) -> None:
    assert names(folder) == ["s.parquet"]
    with Session(folder / "s.parquet") as session:
        assert session.sealed
        assert session.damage == []
        metadata = session.metadata
        assert metadata["end_reason"] == end_reason
        assert metadata["totals"]["frames"] == len(session) >= 10
        assert session.frames["frame"].to_pylist() == list(range(len(session)))
        # What was in the pipeline has come out as well.
        assert session.frames["source_frame"].to_pylist() == list(range(len(session)))
        assert metadata["totals"]["source_frames"] == len(session)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_in_good_order(
    number: signal.Signals, dgrec: Command, start: Start
) -> None:
    process = start()
    journal = dgrec.folder / "s.arrows"
    wait_until(lambda: frames_in(journal) >= 10, process=process)
    assert is_being_written(journal)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert "Recorded " in stderr
    assert "interrupted" in stderr
    assert_sealed(dgrec.folder, "interrupted")


@pytest.mark.slow
def test_a_service_manager_may_tell_the_main_process_only(dgrec: Command, start: Start) -> None:
    process = start()
    wait_until(lambda: frames_in(dgrec.folder / "s.arrows") >= 10, process=process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    assert_sealed(dgrec.folder, "interrupted")


@pytest.mark.slow
def test_the_second_signal_leaves_the_journal(dgrec: Command, start: Start) -> None:
    """The model hangs: the first signal waits for the frames that are in the pipeline."""
    model = broken_model(dgrec.folder, "import time; time.sleep(3)", after=10)
    process = start(*model)
    journal = dgrec.folder / "s.arrows"
    wait_until(lambda: frames_in(journal) >= 10, process=process)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "the first signal waits"
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE_S)  # the second does not

    assert process.returncode == 128 + signal.SIGINT
    assert "Left as it is: s.arrows" in stderr
    assert "Traceback" not in stderr
    assert not (dgrec.folder / "s.parquet").exists()
    assert not is_being_written(journal)
    with Session(journal) as session:
        assert not session.sealed
        assert session.damage == []
        assert len(session) >= 10
        assert session.frames["source_frame"].to_pylist() == list(range(len(session)))
        assert session.metadata["end_reason"] is None


def _stamps_in(lines: Path) -> list[float]:
    """Return the stamps of the lines that were published so far."""
    complete = lines.read_text().split("\n")[:-1] if lines.exists() else []
    return [json.loads(line)["timestamp"] for line in complete]


@pytest.mark.slow
def test_kill_9_leaves_what_was_written_and_it_is_written_all_the_time(
    dgrec: Command, start: Start
) -> None:
    """How old the oldest lost row is at most is measured by ``python -m bench.kill9``."""
    process = start("--publish", "lines.jsonl")
    journal, lines = dgrec.folder / "s.arrows", dgrec.folder / "lines.jsonl"
    written = 0
    for more in (1, 20, 20):  # what has been published is in the journal soon, while it goes on
        enough = written + more
        wait_until(partial(lambda n: len(_stamps_in(lines)) >= n, enough), process=process)
        written = len(_stamps_in(lines))
        wait_until(partial(lambda n: frames_in(journal) >= n, written), process=process)
    process.kill()
    process.wait(timeout=PATIENCE_S)

    stamps = _stamps_in(lines)
    with Session(journal) as session:
        assert session.damage == []
        assert session.frames["frame"].to_pylist() == list(range(len(session)))
        recorded = [at.timestamp() for at in session.frames["completed_at"].to_pylist()]
        together = min(len(recorded), len(stamps))
        assert together >= written > 0
        assert recorded[:together] == pytest.approx(stamps[:together], abs=2e-6)


@pytest.mark.slow
def test_a_signal_while_the_model_loads_leaves_nothing(dgrec: Command, start: Start) -> None:
    process = start()
    assert process.stderr is not None
    assert process.stderr.readline().startswith("No model named")
    os.killpg(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in stderr
    assert names(dgrec.folder) == []


@pytest.mark.slow
def test_a_hangup_stays_ignored(dgrec: Command, start: Start) -> None:
    """Under nohup, also while the model loads; a script's background job still ends in order."""
    ignored = (signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    try:
        process = start()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("No model named")
    journal = dgrec.folder / "s.arrows"
    for _ in range(2):
        os.killpg(process.pid, signal.SIGHUP)
        enough = frames_in(journal) + 6
        wait_until(partial(lambda n: frames_in(journal) >= n, enough), process=process)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    assert_sealed(dgrec.folder, "interrupted")


@pytest.mark.slow
def test_other_models_of_the_process_keep_their_worker(loaded: LoadedModel) -> None:
    """A command that ends within a program leaves what the program runs alone."""
    loaded.model.predict(np.zeros((128, 128, 3), np.uint8))
    workers = [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE
        and any("pproc_worker" in part for part in child.cmdline())
    ]
    with StopSignals():
        pass
    assert workers
    assert all(
        worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers
    )
