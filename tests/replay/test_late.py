"""`dgrec stats --late`: the frame that began a backlog, of hiccups that were made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from tests.factory import START_NS, make_row, write_session

Run = Callable[..., Result]
MS = 1_000_000


def with_hiccups(
    path: Path, hiccups: Mapping[int, float], *, period_ms: float = 40, seed: int = 0
) -> Path:
    """Write a session of one worker, at 40 ms a frame, in which some frames take longer."""
    random = np.random.default_rng(seed)
    rows, free_ms = [], 0.0
    for i in range(200):
        captured_ms = i * period_ms
        inference_ms = 25 + float(random.uniform(-2, 2)) + hiccups.get(i, 0)
        free_ms = max(captured_ms, free_ms) + inference_ms + 2
        rows.append(
            make_row(
                i,
                [],
                captured_ns=START_NS + int(captured_ms * MS),
                completed_ns=START_NS + int(free_ms * MS),
                timing={
                    "CorePreprocessDuration_ms": 1.0,
                    "CoreInferenceDuration_ms": inference_ms,
                    "CorePostprocessDuration_ms": 1.0,
                },
            )
        )
    return write_session(path, rows)


def late(dgrec: Run, path: Path) -> list[dict[str, Any]]:
    done = dgrec("stats", path, "--late", 100, "--format", "json")
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("hiccup_ms", [60, 200, 600])
def test_all_who_waited_name_the_frame_that_began_it(
    dgrec: Run, tmp_path: Path, hiccup_ms: float
) -> None:
    """Long after it has come out: a backlog of 600 ms takes 50 frames to drain."""
    rows = late(dgrec, with_hiccups(tmp_path / "s.parquet", {50: hiccup_ms, 130: hiccup_ms}))
    waited = [row for row in rows if row["blame"] == "queue"]
    assert {row["frame"] for row in rows} >= {50, 130}
    assert len(waited) >= 2
    for row in waited:
        began = 50 if row["frame"] < 130 else 130
        assert (row["frame"], row["behind_frame"]) == (row["frame"], began)
        assert row["behind_ms"] == pytest.approx(hiccup_ms + 27, abs=3)
    assert {row["behind_frame"] for row in rows if row["frame"] in (50, 130)} == {None}


@pytest.mark.slow
def test_more_than_there_are(dgrec: Run, tmp_path: Path) -> None:
    path = with_hiccups(tmp_path / "s.parquet", {50: 300})
    every, more = (dgrec("stats", path, "--late", number) for number in ("1000", "9" * 30))
    assert every.exit_code == 0
    assert more.output == every.output


@pytest.mark.slow
def test_a_second_hiccup_in_a_backlog_did_not_begin_it(dgrec: Run, tmp_path: Path) -> None:
    rows = late(dgrec, with_hiccups(tmp_path / "s.parquet", {50: 300, 60: 500}))
    waited = [row for row in rows if row["blame"] == "queue"]
    assert len(waited) > 20
    assert {row["behind_frame"] for row in waited} == {50}


@pytest.mark.slow
def test_hiccups_of_any_kind(dgrec: Run, tmp_path: Path) -> None:
    """Each late frame names the hiccup before which the worker was last free."""
    for seed in range(6):
        random = np.random.default_rng(seed)
        hiccups = {
            int(at): float(random.uniform(80, 400)) for at in random.choice(180, 8, replace=False)
        }
        path = with_hiccups(tmp_path / f"{seed}.parquet", hiccups, seed=seed)
        waited = [row for row in late(dgrec, path) if row["blame"] == "queue"]
        assert waited
        for row in waited:
            assert row["behind_frame"] in hiccups, (seed, row)
            assert row["behind_frame"] < row["frame"]
