"""The figures of a running recording: rates and quantiles as everywhere else."""

from __future__ import annotations

import numpy as np
import pytest

from dgrec.format import StartLosses, build_batch
from dgrec.recorder.progress import Progress
from tests.factory import losses_of, make_row, rate_of
from tests.replay.conftest import uneven_rows

MS = 1_000_000


@pytest.mark.parametrize("count", [1, 2, 20, 300, 2000])
def test_quantiles_are_interpolated(count: int) -> None:
    progress = Progress()
    latencies = np.random.default_rng(count).gamma(4, 100, count)
    for i, latency in enumerate(latencies):
        progress.add(i * 40 * MS, i * 40 * MS + round(latency * MS), 0)
    assert progress.latency() == pytest.approx(
        np.quantile(latencies[-1024:], [0.5, 0.95]), rel=1e-5
    )


def test_the_rate_is_that_of_the_rows() -> None:
    rows = uneven_rows(200, seed=5)
    progress = Progress()
    assert (progress.fps(), progress.recent_fps(0)) == (None, 0)
    for row in rows:
        progress.add(row.captured_ns, row.completed_ns, 1)
    assert progress.fps() == pytest.approx(rate_of(rows), rel=1e-5)
    assert progress.frames == progress.detections == 200


def test_losses_at_the_start_are_those_of_the_library() -> None:
    for seed in range(3):
        rows = uneven_rows(200, seed=seed)
        counted = StartLosses()
        for start in range(0, len(rows), 7):
            counted.add(build_batch(rows[start : start + 7], start))
        assert counted.counts()["dropped_at_start"] == losses_of(rows)["at_start"]
    late = make_row(0, completed_ns=9 * 10**18, dropped_queue=3)
    counted = StartLosses()
    counted.add(build_batch([late], 0))
    counted.add(build_batch([make_row(1, dropped_camera=2)], 1))
    assert counted.counts()["dropped_at_start"] == 5
