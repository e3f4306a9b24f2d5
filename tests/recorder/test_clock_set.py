"""Somebody sets the system's clock in the middle of a recording: nothing but the drift shows it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

import dgrec
from dgrec.clock import Clock
from dgrec.format import Row
from dgrec.recorder.capture import Capture
from tests.factory import START_NS, make_detection
from tests.recorder.doubles import PysdkDouble, ScriptedFrames, record

FRAMES = 30
#: How long reading the clock takes here: all that passes between two readings.
TICK_NS = 10_000


@pytest.mark.parametrize("step_s", [-3600.0, 7200.5, 0.0])
def test_setting_the_clock_changes_no_stamp(tmp_path: Path, step_s: float) -> None:
    passed = set_by = 0

    def monotonic_ns() -> int:
        nonlocal passed
        passed += TICK_NS
        return passed

    def utc_ns() -> int:
        return START_NS + passed + set_by

    clock = Clock(monotonic_ns, utc_ns)

    def set_clock(row: Row, _: object) -> None:
        nonlocal set_by
        if row.source_frame == FRAMES // 2:
            set_by = int(step_s * 1e9)

    model = PysdkDouble("DetectionYolo", lambda index: [make_detection(index)])
    frames = ScriptedFrames((i / 30 for i in range(FRAMES)), clock=clock)
    path = tmp_path / "s.parquet"
    _, metadata = record(
        model, Capture(frames), path, model.describe(), clock=clock, watchers=(set_clock,)
    )

    assert isinstance(metadata, dict), metadata
    drift_ms = metadata["totals"]["clock_drift_ms"]
    assert drift_ms == pytest.approx(step_s * 1000, abs=2 * TICK_NS / 1e6)
    with dgrec.open(path) as session:
        table = session.frames
        captured, completed = (table[name].to_pylist() for name in ("captured_at", "completed_at"))
        assert captured == sorted({*captured})
        assert completed == sorted({*completed})
        for latency, start, end in zip(
            table["latency_ms"].to_pylist(), captured, completed, strict=True
        ):
            assert latency == pytest.approx((end - start) / dt.timedelta(milliseconds=1), abs=0.001)
            assert 0 < latency < 100
        # The recording lasted as long as it lasted, whatever the clock on the wall said.
        lasted = dt.datetime.fromisoformat(metadata["ended_at"]) - dt.datetime.fromisoformat(
            metadata["started_at"]
        )
        assert lasted.total_seconds() == pytest.approx(passed / 1e9, abs=0.01)
