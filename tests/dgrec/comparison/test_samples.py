"""Samples of a session for comparisons: warm-up, stalls, stages."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dgrec
from bench.day import make_day
from dgrec.comparison.changes import Series
from dgrec.comparison.metrics import compare_samples
from dgrec.comparison.samples import count_stalls, read_sample, stall_limit
from tests.factory import (
    START_NS,
    later,
    make_row,
    make_rows,
    new_metadata,
    write_journal,
    write_session,
)

MS = 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize(("slow", "left_out"), [(0, 0), (60, 60), (3, 0), (-1, None)])
def test_the_warm_up_is_left_out(tmp_path: Path, slow: int, left_out: int | None) -> None:
    rows = make_rows(600)
    # Slow at first; or fast and slow by turns of half a second.
    for i, row in enumerate(rows):
        if i < slow or (slow < 0 and i // 45 % 2):
            rows[i] = row._replace(completed_ns=row.completed_ns + 30 * MS)
    with dgrec.open(write_session(tmp_path / "s.parquet", rows)) as session:
        sample = read_sample(session)
        latency = sample.stages["latency_ms"]
        ((warm_up,),) = session.sql("SELECT warm_up_frames FROM warm_up").fetchall()
    assert sample.has_settled == (left_out is not None)
    assert sample.warm_up == warm_up == (left_out or 0)
    assert sample.frames == 600
    assert sample.source_frame[0] == warm_up
    assert len(latency) == len(sample) == 600 - warm_up


@pytest.mark.parametrize("sealed", [True, False])
def test_sample_is_what_was_recorded(tmp_path: Path, sealed: bool) -> None:
    rows = make_rows(200)
    rows[::3] = [row._replace(timing={}) for row in rows[::3]]
    rows[7] = rows[7]._replace(dropped_queue=3)
    rows[9] = rows[9]._replace(dropped_camera=2)
    rows[11] = rows[11]._replace(skipped_before=5)
    path = (
        write_session(tmp_path / "s.parquet", rows)
        if sealed
        else write_journal(tmp_path / "s.arrows", rows, end=False)
    )
    with dgrec.open(path) as session:
        sample = read_sample(session)
        stages = dict(sample.stages)
    assert (sample.frames, sample.warm_up, len(sample)) == (200, 0, 200)
    assert sample.dropped == {"camera": 2, "queue": 3, "writer": 0}
    assert sample.skipped == 5
    expected = np.array([(r.completed_ns - r.captured_ns) / MS for r in rows])
    assert stages["latency_ms"] == pytest.approx(expected, abs=1e-3)
    assert np.isnan(stages["inference_ms"]).sum() == len(rows[::3])
    assert len(Series.of_known(stages["inference_ms"], sample.second)) == 200 - len(rows[::3])
    assert sample.second == 30
    gaps = np.diff([r.completed_ns for r in rows]) / MS
    assert sample.gaps.values == pytest.approx(gaps, abs=2e-3)


@pytest.mark.slow
def test_stalls_are_long_gaps_and_cluster(tmp_path: Path) -> None:
    def session(stalled: list[int]) -> tuple[int, float]:
        now, rows = START_NS, []
        for i in range(600):
            now += (200 if i in stalled else 30) * MS
            rows.append(make_row(i, captured_ns=now, completed_ns=now + 10 * MS))
        path = tmp_path / f"{stalled[1]}.parquet"
        write_session(path, rows)
        with dgrec.open(path) as opened:
            gaps = read_sample(opened).gaps
        return count_stalls(gaps, stall_limit(gaps.quantile(0.5)))

    apart, together = session([100, 200, 300, 400]), session([100, 101, 102, 103])
    assert apart[0] == together[0] == 4
    assert apart[1] == pytest.approx(4, rel=0.25)
    assert together[1] < 2
    gaps = Series(np.full(600, 200.0), 5)
    assert count_stalls(gaps, 100.0) == (600, 600.0)


@pytest.mark.slow
def test_no_time_passes_where_frames_are_not_there(tmp_path: Path) -> None:
    """Between the moments of a clip, and where damage took frames, the time is not known."""
    rows = make_rows(100)
    times = [row.completed_ns for row in rows]
    rows[40:] = [later(row, 600_000 * MS) for row in rows[40:]]  # ten minutes are left out here
    clip = {"ranges": [{"first_frame": 0, "frames": 40}, {"first_frame": 40, "frames": 60}]}
    with dgrec.open(write_session(tmp_path / "c.parquet", rows, new_metadata(clip=clip))) as cut:
        sample = read_sample(cut)
    assert np.flatnonzero(np.isnan(sample.gap_ms)).tolist() == [0, 40]
    recorded = (times[-1] - times[0] - (times[40] - times[39])) / 1e9
    assert sample.seconds == pytest.approx(recorded, abs=1e-5)
    path = write_session(tmp_path / "d.parquet", rows)
    table, stored = pq.read_table(path), pq.read_metadata(path).metadata
    left = pa.concat_tables([table[:30], table[50:]])
    pq.write_table(left.replace_schema_metadata({b"dgrec": stored[b"dgrec"]}), path)
    with dgrec.open(path) as damaged:
        assert np.flatnonzero(np.isnan(read_sample(damaged).gap_ms)).tolist() == [0, 30]


@pytest.mark.slow
def test_memory_of_a_comparison(tmp_path: Path) -> None:
    import scipy.special  # noqa: F401  (what it takes itself does not count)

    frames = 60_000
    path = make_day(tmp_path / "day.parquet", frames, 1)
    with dgrec.open(path) as base, dgrec.open(path) as new:
        tracemalloc.start()
        try:
            samples = [read_sample(base), read_sample(new)]
            samples[1] = samples[1].only(np.arange(len(samples[1])) % 7 > 0)
            compare_samples(samples.pop(0), samples.pop(), same_frames=True)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most / frames < 120  # bytes
