"""Charts of text: their shape, and that what they show is what was recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

import dgrec as dgrec_package
from dgrec.format import Row
from dgrec.replay.query import SqlReader
from dgrec.replay.stats import can_show_blocks, histogram, time_line
from dgrec.replay.stats.charts import bars
from tests.factory import START_NS, losses_of, make_row, write_session
from tests.replay.conftest import uneven_rows

Run = Callable[..., Result]
MS = 1_000_000


def test_bars() -> None:
    assert bars([0, 1, 4, 8], 1, 8, blocks=True) == [" ▁▄█"]
    assert bars([0, 8, 9, 16], 2, 16, blocks=True) == ["  ▁█", " ███"]
    assert bars([0, 1, 2, 3, 6], 2, 6, blocks=False) == ["    #", " .:##"]
    # Nothing that is there disappears, and no value is none.
    assert bars([0.001, None, 1000], 1, 1000, blocks=True) == ["▁ █"]
    assert bars([0, None], 1, 0, blocks=True) == ["  "]
    assert bars([], 2, 0, blocks=True) == ["", ""]


@pytest.mark.parametrize(
    ("encoding", "can"), [("utf-8", True), ("ascii", False), ("latin-1", False), ("none", False)]
)
def test_blocks_are_drawn_where_they_can_be_shown(encoding: str, can: bool) -> None:
    assert can_show_blocks(encoding) is can


def of_session(path: Path, width: int) -> tuple[Any, Any]:
    with dgrec_package.open(path) as session, SqlReader([session]) as reader:
        return histogram(reader, width), time_line(reader, width)


@pytest.mark.slow
def test_the_histogram_counts_every_frame(tmp_path: Path) -> None:
    rows = uneven_rows(300, seed=31)
    path = write_session(tmp_path / "s.parquet", rows)
    latency = np.array(dgrec_package.open(path).frames["latency_ms"])
    found, _ = of_session(path, 60)
    assert len(found.counts) == 50
    assert sum(found.counts) + found.beyond == 300
    assert (found.low_ms, found.largest_ms) == (latency.min(), latency.max())
    assert found.beyond == (latency >= found.high_ms).sum() > 0
    expected, _ = np.histogram(
        latency[latency < found.high_ms], bins=50, range=(found.low_ms, found.high_ms)
    )
    # A value at an edge may fall to either side of it.
    assert np.abs(np.cumsum(expected) - np.cumsum(found.counts)).max() <= 1


@pytest.mark.slow
def test_the_time_line_adds_up(tmp_path: Path) -> None:
    rows = uneven_rows(300, seed=32)
    _, found = of_session(write_session(tmp_path / "s.parquet", rows), 60)
    assert len(found.fps) == len(found.latency_p95_ms) == len(found.dropped) == 50
    rest = found.seconds - 49 * found.step_s
    # Not all of the 300: where results come in a burst, a rate is no more than the source's.
    counted = sum(found.fps[:-1]) * found.step_s + found.fps[-1] * rest
    assert 0.9 * 299 < counted < 299
    lost = losses_of(rows, live=False)["total"]
    assert sum(found.dropped) == lost


@pytest.mark.slow
@pytest.mark.parametrize("width", [1, 40, 80, 300])
def test_no_line_is_wider_than_the_terminal(tmp_path: Path, width: int) -> None:
    path = write_session(tmp_path / "s.parquet", uneven_rows(100))
    for chart in of_session(path, width):
        for blocks in (True, False):
            lines = list(chart.lines(blocks=blocks))
            assert max(map(len, lines)) <= max(width, 60)
            assert not any(line != line.rstrip() for line in lines)
            assert blocks or all(line.isascii() for line in lines)


@pytest.mark.parametrize(
    "rows",
    [
        [make_row(0, [])],
        [make_row(i, [], captured_ns=START_NS, completed_ns=START_NS + MS) for i in range(5)],
        [make_row(0), make_row(1, captured_ns=START_NS + 10**13, completed_ns=START_NS + 10**13)],
    ],
    ids=["one frame", "all alike", "a gap of hours"],
)
def test_few_and_equal_values(tmp_path: Path, rows: list[Row]) -> None:
    for chart in of_session(write_session(tmp_path / "s.parquet", rows), 80):
        assert list(chart.lines(blocks=True))


@pytest.mark.slow
def test_no_frames_no_chart(dgrec: Run, tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", [])
    assert of_session(path, 80) == (None, None)
    assert dgrec("stats", path, "--charts").exit_code == 0


@pytest.mark.slow
def test_charts_are_drawn_when_asked_for(dgrec: Run, session: Path) -> None:
    plain = dgrec("stats", session).stdout
    drawn = dgrec("stats", session, "--charts").stdout
    assert drawn.startswith(plain)
    assert "Latency: 40 frames" in drawn
    assert "Over time:" in drawn
    assert "dropped" in drawn[len(plain) :]
    assert "Latency: 40" not in dgrec("stats", session, "--charts", "--format", "markdown").stdout
