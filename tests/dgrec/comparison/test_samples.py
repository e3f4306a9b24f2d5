"""What is read of a session: warm-up, stalls, stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.comparison.samples import read_sample, warm_up_end
from tests.factory import START_NS, make_row, make_rows, write_journal, write_session

MS = 1_000_000


def end_of(latency: list[float], intervals: list[float]) -> int | None:
    completed = np.cumsum(np.array(intervals) * 1000).astype(np.int64) + 1_000_000
    captured = completed - np.array(np.array(latency) * 1000, np.int64)
    return warm_up_end(np.arange(len(latency)), np.array(latency), captured, completed)


def test_a_steady_session_has_no_warm_up() -> None:
    assert end_of([10.0] * 300, [33.3] * 300) == 0


def test_slow_first_frames_are_warm_up() -> None:
    # 30 frames a second: the first window is slower, and so is the second.
    assert end_of([40.0] * 60 + [10.0] * 240, [33.3] * 300) == 60


def test_throughput_has_to_settle_too() -> None:
    # 29 frames a second on average, so that 29 make a window.
    assert end_of([10.0] * 300, [50.0] * 25 + [33.3] * 275) == 29


def test_ten_per_cent_is_the_limit() -> None:
    steps = [10.9] * 30 + [10.0] * 270
    assert end_of(steps, [33.3] * 300) == 0
    steps = [11.1] * 30 + [10.0] * 270
    assert end_of(steps, [33.3] * 300) == 30


def test_a_session_that_does_not_settle_leaves_nothing_out() -> None:
    assert end_of([10.0 * 1.2 ** (i // 30) for i in range(300)], [33.3] * 300) is None
    # Only its second half is steady: what came before is not a warm-up.
    assert end_of([10.0 * 1.2 ** min(i // 30, 6) for i in range(300)], [33.3] * 300) is None


@pytest.mark.parametrize("frames", [0, 1, 20])
def test_too_short_for_three_windows(frames: int) -> None:
    assert end_of([10.0] * frames, [33.3] * frames) is None


def test_rows_that_were_lost_are_no_frames_of_a_window() -> None:
    frame = np.concatenate((np.arange(100), np.arange(400, 600)))
    completed = frame * 33_300 + 10_000
    latency = np.full(300, 10.0)
    assert warm_up_end(frame, latency, completed - 10_000, completed) == 0


@pytest.mark.parametrize("sealed", [True, False])
def test_sample_is_what_was_recorded(tmp_path: Path, sealed: bool) -> None:
    rows = make_rows(200)
    for row in rows[::3]:
        row.timing = {}
    rows[7].dropped_queue, rows[9].dropped_camera, rows[11].skipped_before = 3, 2, 5
    path = (
        write_session(tmp_path / "s.parquet", rows)
        if sealed
        else write_journal(tmp_path / "s.arrows", rows, end=False)
    )
    with dgrec.open(path) as session:
        sample = read_sample(session)
    assert (sample.frames, sample.warm_up, len(sample)) == (200, 0, 200)
    assert sample.dropped == {"camera": 2, "queue": 3, "writer": 0}
    assert sample.skipped == 5
    expected = np.array([(r.completed_ns - r.captured_ns) / MS for r in rows])
    assert sample.stages["latency_ms"] == pytest.approx(expected, abs=1e-3)
    assert np.isnan(sample.stages["inference_ms"]).sum() == len(rows[::3])
    assert len(sample.stage("inference_ms")) == 200 - len(rows[::3])
    assert sample.second == 30
    gaps = np.diff([r.completed_ns for r in rows]) / MS
    assert sample.gaps.values == pytest.approx(gaps, abs=2e-3)


def test_stalls_are_long_gaps_and_cluster(tmp_path: Path) -> None:
    def session(stalled: list[int]) -> Any:
        now, rows = START_NS, []
        for i in range(600):
            now += (200 if i in stalled else 30) * MS
            rows.append(make_row(i, captured_ns=now, completed_ns=now + 10 * MS))
        path = tmp_path / f"{stalled[1]}.parquet"
        write_session(path, rows)
        with dgrec.open(path) as opened:
            return read_sample(opened)

    apart, together = session([100, 200, 300, 400]), session([100, 101, 102, 103])
    assert apart.stalls[0] == together.stalls[0] == 4
    assert apart.stalls[1] == pytest.approx(4, rel=0.25)
    assert together.stalls[1] < 2
