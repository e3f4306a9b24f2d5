"""The machine's load while recording, against the clocks of the processes it measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgrec.recorder import machine
from dgrec.recorder.capture import Capture
from dgrec.recorder.machine import MachineMeter, usable_cores
from dgrec.recorder.options import Splitting
from dgrec.recorder.recovery import recover
from dgrec.session import open_session
from tests.recorder.doubles import PysdkDouble, ScriptedFrames, record

BURN = """
import sys, time
while time.process_time() < 0.3:
    pass
print(time.process_time(), flush=True)
sys.stdin.read()
"""
#: The kernel counts in ticks, of which psutil sees whole ones only.
TICKS = 0.05


@pytest.fixture
def busy_child() -> Iterator[float]:
    """Start a child that has used some processor time, and still is there; give how much."""
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        yield float(child.stdout.readline())
        child.kill()


@pytest.mark.slow
def test_processor_time_of_this_process() -> None:
    meter = MachineMeter()
    wall, started = time.monotonic(), time.process_time()
    while time.process_time() < started + 0.3:
        pass
    found = meter.lap()
    used = time.process_time() - started
    assert abs(found["process_cpu_s"] - used) <= TICKS
    assert found["process_cpu_s"] - TICKS <= found["seconds"] <= time.monotonic() - wall + TICKS
    # One of the processors was ours for all of the time that we used.
    assert found["system_busy"] >= (used - TICKS) / found["seconds"] / (os.cpu_count() or 1) * 0.9
    assert found["system_busy"] <= 1
    again = meter.lap()
    assert again["process_cpu_s"] < found["process_cpu_s"], "each lap from the one before"


@pytest.mark.slow
def test_processor_time_of_a_child(request: pytest.FixtureRequest) -> None:
    meter = MachineMeter()
    used = request.getfixturevalue("busy_child")
    found = meter.lap()
    assert found["children_cpu_s"] >= used - TICKS
    assert meter.lap()["children_cpu_s"] <= TICKS


def test_cores_that_this_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os; from dgrec.recorder.machine import usable_cores as u\n"
    code += "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); print(u())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert float(done.stdout) <= 1
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr(machine, "_CGROUP_LIMIT", limit)
    assert usable_cores() == len(os.sched_getaffinity(0))
    limit.write_text("max 100000\n")
    assert usable_cores() == len(os.sched_getaffinity(0))
    limit.write_text("50000 100000\n")
    assert usable_cores() == 0.5


@pytest.mark.slow
def test_every_part_says_it_and_the_whole_adds_it_up(tmp_path: Path) -> None:
    model = PysdkDouble("Detection", lambda _: time.sleep(0.02) or [])
    path = tmp_path / "s.parquet"
    capture = Capture(ScriptedFrames(i / 30 for i in range(60)))
    _, metadata = record(model, capture, path, model.describe(), splitting=Splitting(every_s=0.4))
    assert isinstance(metadata, dict), metadata
    laps: list[dict[str, Any]] = []
    for part in sorted(tmp_path.glob("s-*.parquet")):
        with open_session(part) as session:
            laps.append(session.metadata["machine"])
    assert len(laps) >= 2
    with open_session(path) as session:
        whole = session.metadata["machine"]
        taken = session.frames.column("completed_at").to_pylist()
    assert whole["process_cpu_s"] == pytest.approx(sum(lap["process_cpu_s"] for lap in laps))
    assert whole["seconds"] == pytest.approx(sum(lap["seconds"] for lap in laps))
    assert whole["seconds"] >= (taken[-1] - taken[0]).total_seconds()
    told = [lap for lap in laps if lap["system_busy"] is not None]  # the last may be too short
    seconds = sum(lap["seconds"] for lap in told)
    weighted = sum(lap["seconds"] * lap["system_busy"] for lap in told) / seconds
    assert whole["system_busy"] == pytest.approx(weighted, abs=1e-3)


@pytest.mark.slow
def test_nobody_knows_it_of_a_recording_that_was_cut_off(tmp_path: Path) -> None:
    """A journal without an end says nothing of it, and so does what is recovered from it."""
    model = PysdkDouble("Detection", lambda _: [])
    path = tmp_path / "s.parquet"
    record(model, Capture(ScriptedFrames([0.0, 0.1])), path, model.describe())
    with open_session(path) as session:
        assert json.dumps(session.metadata["machine"])
        assert session.metadata["machine"]["sources"] == 1

    journal = tmp_path / "cut.arrows"
    code = f"""
import os, sys
sys.path.insert(0, {str(Path.cwd())!r})
from dgrec.recorder.capture import Capture
from tests.recorder.doubles import PysdkDouble, ScriptedFrames, record
from pathlib import Path
model = PysdkDouble("Detection", lambda index: os._exit(9) if index == 2 else [])
record(model, Capture(ScriptedFrames([0.0, 0.1, 0.2])), Path({str(tmp_path / "cut.parquet")!r}),
       model.describe(), durability="frame")
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    recover(journal)
    with open_session(tmp_path / "cut.parquet") as session:
        assert "machine" not in session.metadata
