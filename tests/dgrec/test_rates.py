"""A rate never exceeds what the source sent, whatever happened on the way; in SQL and in Python."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dgrec
from dgrec.format import Row
from dgrec.rates import RecentRate, frame_rate, rate_text
from dgrec.sql import views
from tests.factory import START_NS, make_row, rate_of, write_session

US = 1_000
_EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def live_recordings(draw: st.DrawFn) -> tuple[list[Row], int]:
    """Return rows of a camera that sends exactly every so many microseconds, and that period.

    Any of its frames are lost, results take any time, and come out in the order of the frames.
    """
    period_us = draw(st.integers(1_000, 400_000))
    count = draw(st.integers(2, 40))
    lost = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    took_us = draw(st.lists(st.integers(0, 3_000_000), min_size=count, max_size=count))
    rows = []
    source_frame, completed = -1, 0
    for i in range(count):
        source_frame += 1 + lost[i]
        captured = START_NS + source_frame * period_us * US
        completed = max(completed, captured + took_us[i] * US)
        rows.append(
            make_row(
                i,
                [],
                source_frame=source_frame,
                captured_ns=captured,
                completed_ns=completed,
                dropped_queue=lost[i],
            )
        )
    return rows, period_us


def asked(path: Path, *queries: str) -> list[list[dict[str, Any]]]:
    with dgrec.open(path) as session, contextlib.closing(views.connect([session])) as connection:
        return [connection.sql(query).to_arrow_table().to_pylist() for query in queries]


@pytest.mark.slow
@_EXAMPLES
@given(recording=live_recordings(), seconds=st.sampled_from([0.1, 0.7, 3]))
def test_no_rate_of_a_camera_is_more_than_it_sends(
    tmp_path: Path, recording: tuple[list[Row], int], seconds: float
) -> None:
    rows, period_us = recording
    sent = 1e6 / period_us * (1 + 1e-9)
    path = tmp_path / "s.parquet"
    path.unlink(missing_ok=True)
    write_session(path, rows)
    (whole,), windows, (one,), (pipeline,) = asked(
        path,
        "SELECT fps FROM session_throughput",
        f"SELECT frames, fps FROM throughput({seconds})",
        "SELECT fps FROM throughput(1e6)",
        "SELECT fps, delivered_fps FROM pipeline",
    )
    assert whole["fps"] == pytest.approx(rate_of(rows))
    assert 0 < whole["fps"] <= sent
    assert sum(row["frames"] for row in windows) == len(rows)
    assert all(0 <= row["fps"] <= sent for row in windows)
    assert one["fps"] == pytest.approx(whole["fps"])
    assert pipeline["fps"] <= pipeline["delivered_fps"] * (1 + 1e-9)
    assert pipeline["delivered_fps"] == pytest.approx(1e6 / period_us)
    recent = RecentRate(seconds)
    for row in rows:
        recent.add(row.captured_ns / 1e9, row.completed_ns / 1e9)
        # Seconds since 1970 as floating point numbers are a quarter of a microsecond apart.
        assert recent.fps(row.completed_ns / 1e9) <= sent * (1 + 1e-3)


@pytest.mark.slow
@_EXAMPLES
@given(recording=live_recordings())
def test_no_rate_is_more_than_what_came_out(
    tmp_path: Path, recording: tuple[list[Row], int]
) -> None:
    rows, _ = recording
    path = tmp_path / "s.parquet"
    path.unlink(missing_ok=True)
    write_session(path, rows)
    ((whole,),) = asked(path, "SELECT fps FROM session_throughput")
    results_s = (rows[-1].completed_ns - rows[0].completed_ns) / 1e9
    assert whole["fps"] * results_s <= (len(rows) - 1) * (1 + 1e-6)


def late_first_result(count: int, period_ms: float, late_ms: float) -> list[Row]:
    """Return rows of a camera of which only the first result is late."""
    rows, completed = [], 0
    for i in range(count):
        captured = START_NS + int(i * period_ms * 1e6)
        completed = max(completed, captured + int((late_ms if i == 0 else 20) * 1e6))
        rows.append(make_row(i, [], captured_ns=captured, completed_ns=completed))
    return rows


@pytest.mark.parametrize(
    ("count", "fps", "late_ms"), [(60, 5.0, 1000), (900, 30.0, 2000), (100, 0.5, 9000)]
)
def test_a_late_first_result_changes_nothing(
    tmp_path: Path, count: int, fps: float, late_ms: float
) -> None:
    rows = late_first_result(count, 1000 / fps, late_ms)
    path = write_session(tmp_path / "s.parquet", rows)
    ((found,),) = asked(path, "SELECT fps FROM session_throughput")
    assert found["fps"] == pytest.approx(fps)


def test_the_windows_of_a_session_are_cut_out_of_its_rate(tmp_path: Path) -> None:
    """Where results come evenly, every window has the same rate, also the last bit of one."""
    rows = late_first_result(95, 100, 20)
    path = write_session(tmp_path / "s.parquet", rows)
    rates = [row["fps"] for row in asked(path, "FROM throughput(1)")[0]]
    assert len(rates) == 10
    # The first begins with the first result, in the middle of a step.
    assert 9 < rates[0] < 10
    assert rates[1:] == pytest.approx([10.0] * 9)


def test_a_backlog_that_drains_is_no_more_than_the_camera_sends(tmp_path: Path) -> None:
    """For three seconds nothing comes out, then all that had come in."""
    rows = late_first_result(100, 100, 20)
    rows[40:70] = [row._replace(completed_ns=rows[70].completed_ns) for row in rows[40:70]]
    path = write_session(tmp_path / "s.parquet", rows)
    (windows,) = asked(path, "SELECT frames, fps FROM throughput(1)")
    assert [row["frames"] for row in windows[4:8]] == [0, 0, 0, 40]
    assert [row["fps"] for row in windows[4:8]] == pytest.approx([0, 0, 0, 10])


def test_the_recent_rate_goes_down_while_nothing_comes() -> None:
    recent = RecentRate(10)
    assert recent.fps(5) == 0
    for i in range(101):
        recent.add(i / 10, i / 10 + 0.05)
    assert recent.fps(10.05) == pytest.approx(10, rel=0.02)
    assert recent.fps(15.05) == pytest.approx(5, rel=0.02)
    assert recent.fps(100) == 0


def test_what_no_time_is_between_has_no_rate() -> None:
    assert frame_rate(0, 0, 0) is None
    assert frame_rate(3, 0, 0) is None
    assert frame_rate(3, 1.5, 1) == 2


def test_rates_of_parts_of_a_second_are_not_zero() -> None:
    texts: Sequence[tuple[float | None, str]] = [
        (None, "-"),
        (0.0, "0.0"),
        (0.0123456, "0.0123"),
        (0.5, "0.5"),
        (4.996, "5.00"),
        (29.97, "30.0"),
        (1234.56, "1,234.6"),
    ]
    assert [rate_text(fps) for fps, _ in texts] == [text for _, text in texts]
    numbers = [float(rate_text(fps).replace(",", "")) for fps in (0.001, 0.02, 0.3, 4, 50)]
    assert all(a < b for a, b in itertools.pairwise(numbers))
