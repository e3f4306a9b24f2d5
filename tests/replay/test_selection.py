"""Positions in a session, as people write them."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

import dgrec
from dgrec import sample
from dgrec.errors import QueryError
from dgrec.footage import parse_position, resolve
from dgrec.replay.query import DetectionFilter, SqlReader, matching_frames
from tests.factory import START_NS, make_row, write_session


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("0", "frame", 0),
        (" 300 ", "frame", 300),
        ("0s", "time", 0),
        ("12.5s", "time", 12_500_000),
        ("250ms", "time", 250_000),
        ("1m30s", "time", 90_000_000),
        ("2h", "time", 7_200_000_000),
        ("1h2m3.25s", "time", 3_723_250_000),
        ("90M", "time", 5_400_000_000),
        ("1:30", "time", 90_000_000),
        ("00:01:30", "time", 90_000_000),
        ("100:00:00.5", "time", 360_000_500_000),
        ("1970-01-01T00:00:01Z", "utc", 1_000_000),
        ("1970-01-01 00:00:01.5", "utc", 1_500_000),
        ("1970-01-01T01:00:00+01:00", "utc", 0),
        ("1970-01-02", "utc", 86_400_000_000),
    ],
)
def test_positions_are_read(text: str, kind: str, value: int) -> None:
    position = parse_position(text)
    assert (position.kind, position.value) == (kind, value)


@pytest.mark.parametrize(
    "text", ["", " ", "-1", "-5s", "12.5", "1:99", "1:60:00", "s", "5x", "nan", "1e3", "yesterday"]
)
def test_what_names_no_position_is_refused(text: str) -> None:
    with pytest.raises(dgrec.DgrecError, match="is not a valid position; expected a frame"):
        parse_position(text)


def test_positions_are_found_on_the_time_line_of_the_source(tmp_path: Path) -> None:
    # Inference took four times as long as the video lasts: times mean the video's.
    rows = [
        make_row(
            i,
            media_time_s=7 + i * 0.04,
            captured_ns=START_NS + i * 160_000_000,
            completed_ns=START_NS + i * 160_000_000 + 1_000_000,
        )
        for i in range(20)
    ]
    with dgrec.open(write_session(tmp_path / "s.parquet", rows)) as session:

        def found(text: str) -> int:
            return resolve(session, parse_position(text))

        assert found("0s") == 0
        assert found("0.4s") == 10
        assert found("401ms") == 11
        assert found("0:01") == 20
        assert found("7") == 7
        assert found("99") == 20
        captured = dt.datetime.fromtimestamp(START_NS / 1e9, dt.UTC)
        assert found((captured + dt.timedelta(milliseconds=800)).isoformat()) in (5, 6)
        assert found(session.result(5).captured_at.isoformat()) == 5
        assert found("1999-12-31") == 0
        assert found("2999-12-31") == 20


def test_without_a_source_time_the_clock_counts(tmp_path: Path) -> None:
    rows = [make_row(i, media_time_s=None) for i in range(10)]
    with dgrec.open(write_session(tmp_path / "s.parquet", rows)) as session:
        assert resolve(session, parse_position("100ms")) == 3  # 33.3667 ms apart
        assert resolve(session, parse_position("101ms")) == 4


def test_conditions_and_statements_are_utf8() -> None:
    text = os.fsdecode(b"label = '\xff'")
    with dgrec.open(sample.SESSION) as session, SqlReader([session]) as reader:
        for ask in (
            lambda: matching_frames(session, text, 0, 1),
            lambda: DetectionFilter(session, text),
            lambda: reader.statements(f"SELECT {text}"),
            lambda: reader.answer(f"SELECT {text}"),
        ):
            with pytest.raises(QueryError, match="the SQL is not UTF-8 text"):
                ask()
