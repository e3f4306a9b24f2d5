"""The time line of a session: whole columns at once give what row after row gives."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dgrec
from dgrec.errors import ConfigError
from dgrec.footage import (
    FIRST_STEP_US,
    LONGEST_USUAL_STEP_US,
    Timeline,
    media_us,
    parse_position,
    resolve,
    session_times,
)
from dgrec.footage.timeline import LONGEST_STEP_US
from dgrec.format import SCHEMA
from dgrec.timeline import SteadyTime
from tests.factory import edited, make_rows, write_session

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
START_US = 1_767_323_045_678_901


class RowByRow:
    """The reference: one row after the other, as plain as the rules can be written."""

    def __init__(self, cuts: Sequence[int] = ()) -> None:
        self._cuts = frozenset(cuts)
        self._pts: int | None = None
        self._media = SteadyTime(FIRST_STEP_US, LONGEST_USUAL_STEP_US)
        self._captured = 0
        self.step_us = FIRST_STEP_US

    def pts_us(self, row: Mapping[str, Any]) -> int:
        media = None if row["media_time_s"] is None else media_us(row["media_time_s"])
        captured = self._captured + self.step_us
        if row["captured_at"] is not None:
            captured = row["captured_at"]
        is_cut = row["frame"] in self._cuts and self._pts is not None
        if is_cut:
            self._media = SteadyTime(self._media.step, LONGEST_USUAL_STEP_US)
        before = self._media.now
        now = None if before is None and media is None else self._media.at(media)
        if self._pts is None:
            self._pts = 0
        else:
            step = captured - self._captured
            if is_cut:
                step = self.step_us
            elif now is not None and before is not None:
                step = now - before
            step = min(max(step, 1), LONGEST_STEP_US)
            if step <= LONGEST_USUAL_STEP_US:
                self.step_us = step
            self._pts += step
        self._captured = captured
        return self._pts


def table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    fields = [SCHEMA.field(name).with_nullable(True) for name in Timeline.COLUMNS]
    return pa.Table.from_pydict(
        {field.name: [row[field.name] for row in rows] for field in fields}, pa.schema(fields)
    )


#: What stamps do from one row to the next: mostly they go on, in steps, and sometimes not.
MEDIA_STEPS_MS = st.one_of(
    st.just(40),
    st.just(40),
    st.integers(1, 90_000),
    st.sampled_from([0, -40, -5000, 0.001, None, float("nan"), float("inf"), 1e300, 10**9]),
)
CAPTURED_STEPS_US = st.one_of(
    st.just(33_333),
    st.just(33_333),
    st.sampled_from([0, -10, -(10**9), 86_400_000_000, 400 * 86_400_000_000, None]),
    st.integers(-100_000, 200_000),
)


@st.composite
def recorded_rows(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[int], list[int]]:
    """Return rows, the frames at which a clip jumps, and where the rows are cut into batches."""
    rows: list[dict[str, Any]] = []
    media, captured = draw(st.sampled_from([0.0, 7.5])), START_US
    for _ in range(draw(st.integers(1, 8))):
        # A stretch in which all is well, and long enough to be computed at once; then odd ones.
        even = draw(st.integers(0, 150))
        has_media = draw(st.booleans())
        steps = [(40 if has_media else None, 33_333)] * even
        steps += draw(st.lists(st.tuples(MEDIA_STEPS_MS, CAPTURED_STEPS_US), max_size=12))
        for media_ms, captured_us in steps:
            stamp: float | None = None
            if media_ms is not None:
                stamp = media + media_ms / 1000
                if np.isfinite(stamp) and abs(stamp) < 1e12:
                    media = stamp
            taken = None
            if captured_us is not None:
                captured = taken = captured + captured_us
            rows.append({"frame": len(rows) + 3, "media_time_s": stamp, "captured_at": taken})
    numbers = st.lists(st.integers(0, len(rows) + 3), max_size=4)
    return rows, draw(numbers), sorted(draw(numbers))


@pytest.mark.slow
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(recorded_rows())
def test_whole_columns_give_what_rows_give(
    case: tuple[list[dict[str, Any]], list[int], list[int]],
) -> None:
    rows, cuts, ends = case
    one_by_one, at_once = RowByRow(cuts), Timeline(cuts)
    expected = [one_by_one.pts_us(row) for row in rows]
    bounds = [0, *(min(end, len(rows)) for end in ends), len(rows)]
    found = [at_once.times_us(table(rows[start:end])) for start, end in itertools.pairwise(bounds)]
    assert np.concatenate(found).tolist() == expected
    assert at_once.step_us == one_by_one.step_us


def test_every_second_stamp_repeated() -> None:
    rows = [
        {"frame": i, "media_time_s": i // 2 * 0.04, "captured_at": START_US + i * 20_000}
        for i in range(2000)
    ]
    reference = RowByRow()
    assert Timeline().times_us(table(rows)).tolist() == [reference.pts_us(row) for row in rows]


@pytest.fixture(scope="module")
def odd_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session whose clock was set back, in row groups of 500 frames."""
    from dgrec.format import parquet

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_ROW_GROUP_FRAMES", 500)
        rows = make_rows(2300, media_time_s=None)
        for number, row in enumerate(rows):
            if 700 <= number < 1600:
                row.captured_ns -= 20_000_000_000
                row.completed_ns -= 20_000_000_000
        return write_session(tmp_path_factory.mktemp("odd") / "s.parquet", rows, batch=100)


@pytest.mark.parametrize("kind", ["time", "utc"])
def test_positions_are_those_of_a_walk_over_all_rows(odd_session: Path, kind: str) -> None:
    with dgrec.open(odd_session) as session:
        rows = [
            {**row, "captured_at": (row["captured_at"] - EPOCH) // dt.timedelta(microseconds=1)}
            for batch in session.batches([*Timeline.COLUMNS])
            for row in batch.to_pylist()
        ]
        timeline = RowByRow()
        times = [timeline.pts_us(row) for row in rows]
        if kind == "utc":
            times = [row["captured_at"] for row in rows]
        assert kind == "utc" or np.concatenate([*session_times(session)]).tolist() == times
        for wanted in (*times[::97], times[699] + 1, times[700], times[1600] - 1, max(times) + 1):
            text = f"{wanted / 1e6:.6f}s"
            if kind == "utc":
                text = (EPOCH + dt.timedelta(microseconds=wanted)).isoformat()
            expected = next((at for at, time in enumerate(times) if time >= wanted), len(rows))
            assert resolve(session, parse_position(text)) == expected


def test_numbers_of_any_length_are_positions_or_refused() -> None:
    assert parse_position("9" * 400).value == 10**400 - 1
    for text in ("9" * 5000, "9" * 5000 + "s"):
        with pytest.raises(ConfigError, match="is not a valid position"):
            parse_position(text)


def test_a_position_in_utc_reads_the_row_groups_that_may_hold_it(
    odd_session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    with dgrec.open(odd_session) as session:
        batches = session.batches

        def counted(*args: Any) -> Any:
            for batch in batches(*args):
                read.append(batch.num_rows)
                yield batch

        monkeypatch.setattr(session, "batches", counted)
        stamp = session.row(2100)["captured_at"]
        assert resolve(session, parse_position(stamp.isoformat())) == 2100
    assert sum(read) <= 500


def test_stamps_that_are_missing_are_passed_over(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(30))
    stamps: list[int | None] = [START_US + i * 40_000 for i in range(30)]
    stamps[5:20] = [None] * 15
    edited(path, {"captured_at": stamps})
    with dgrec.open(path) as session:
        assert session.first_at_least("media_time_s", 0) == 0  # floats have no statistics
        stamp = EPOCH + dt.timedelta(microseconds=START_US + 10 * 40_000)
        assert resolve(session, parse_position(stamp.isoformat())) == 20
        assert session.first_at_least("captured_at", 0) == 0
        assert session.first_at_least("captured_at", 2**62) == 30


def test_a_stretch_of_a_session_is_read_from_its_row_groups(odd_session: Path) -> None:
    with dgrec.open(odd_session) as session:
        for start, end in ((0, None), (0, 1), (499, 501), (500, 500), (1700, 2299), (2299, 9999)):
            rows = [
                number
                for batch in session.batches(["frame"], start, end)
                for number in batch.column(0).to_pylist()
            ]
            assert rows == list(range(2300))[start:end]
