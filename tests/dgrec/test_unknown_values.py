"""NaN and NULL, in files that dgrec wrote and in those that other tools wrote or edited."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dgrec
from dgrec.alerts import alerts_of, parse_rule, parse_rules
from dgrec.format import RESTARTED, utc_text
from dgrec.format.schema import METADATA_KEY
from dgrec.publishing import (
    Messages,
    PayloadOptions,
    PublishedFrame,
    missed_messages_of,
    parse_target,
)
from dgrec.replay.publishing import publish
from dgrec.replay.query import SqlReader
from dgrec.replay.stats import explain, measure, time_line
from dgrec.replay.verify import verify
from dgrec.session import Session, each_row
from dgrec.sql import frame_condition
from tests.factory import (
    CAMERA,
    edited,
    later,
    make_detection,
    make_row,
    make_rows,
    new_metadata,
    write_session,
)

NAN = math.nan
INFERENCE = [NAN if i % 4 == 1 else 5.0 + i % 7 for i in range(40)]


def written_by_dgrec(path: Path) -> Path:
    return write_session(
        path, [make_row(i, timing={"CoreInferenceDuration_ms": v}) for i, v in enumerate(INFERENCE)]
    )


def written_by_another(path: Path) -> Path:
    found = edited(write_session(path, make_rows(40)), {"inference_ms": INFERENCE})
    bounds = pq.read_metadata(found).row_group(0).column(7)
    # This is what makes it hard: the bounds say that there is no NaN.
    assert bounds.path_in_schema == "inference_ms"
    assert (bounds.statistics.min, bounds.statistics.max) == (5.0, 11.0)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("write", [written_by_dgrec, written_by_another])
def test_a_duration_of_nan_is_no_measurement(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "s.parquet")
    known = np.array([value for value in INFERENCE if not math.isnan(value)])
    with dgrec.open(path) as session:
        for where, count in {
            "inference_ms IS NULL": 10,
            "isnan(inference_ms)": 0,
            "inference_ms IS NOT NULL": 30,
            "inference_ms > 5": int((known > 5).sum()),
            "NOT inference_ms > 5": int((known <= 5).sum()),
            "inference_ms = 'nan'::DOUBLE": 0,
            "inference_ms >= 11": int((known >= 11).sum()),
        }.items():
            asked = f"SELECT count(*), count(*) FILTER ({where}) FROM frames"
            assert session.sql(asked).fetchall() == [(40, count)], where
            assert session.sql(f"SELECT count(*) FROM frames WHERE {where}").fetchall() == [
                (count,)
            ], where
        stats = measure(session).stages["inference_ms"]
        comparison = dgrec.compare(session, session)
    assert stats.count == 30
    assert stats.p50 == np.median(known) == comparison.row("inference_p50_ms").base.value
    assert (stats.max, stats.mean) == (11.0, pytest.approx(known.mean()))


def test_dgrec_writes_no_nan_into_a_stage_and_loses_none(tmp_path: Path) -> None:
    path = written_by_dgrec(tmp_path / "s.parquet")
    column = pq.read_table(path)["inference_ms"]
    assert column.null_count == 10
    assert not any(math.isnan(value) for value in column.drop_null().to_pylist())
    with dgrec.open(path) as session:
        timings = [result.timing["CoreInferenceDuration_ms"] for result in session]
    assert np.array_equal(timings, INFERENCE, equal_nan=True)


@pytest.mark.slow
def test_whoever_reads_the_file_itself_finds_its_nan(tmp_path: Path) -> None:
    """In scores and corners, which are kept as the model gave them."""
    import duckdb

    box = [NAN, 1.0, 9.0, 9.0]
    rows = [make_row(i, [make_detection(score=NAN if i % 2 else 0.5, bbox=box)]) for i in range(9)]
    path = write_session(tmp_path / "s.parquet", rows)
    table = f"(SELECT unnest(detections, recursive := true) FROM '{path}')"
    asked = f"SELECT count(*) FILTER (isnan(score)), count(*) FROM {table} WHERE isnan(x_min)"
    assert duckdb.sql(asked).fetchall() == [(4, 9)]
    assert duckdb.sql(f"SELECT count(*) FROM {table} WHERE isnan(score)").fetchall() == [(4,)]
    with dgrec.open(path) as session:
        found = session.sql(
            "SELECT count(*), count(score), count(x_min), count(x_max), avg(score) FROM detections"
        ).fetchall()
        assert found == [(9, 5, 0, 9, 0.5)]
        # NaN counts as more than any number, NULL does not.
        assert session.sql("SELECT count(*) FROM detections WHERE score > 0.9").fetchall() == [(0,)]


@pytest.mark.slow
@pytest.mark.parametrize("type_", [pa.float32(), pa.int16(), pa.decimal128(22, 3), pa.null()])
def test_durations_of_other_types(tmp_path: Path, type_: pa.DataType) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(12))
    table = pq.read_table(path)
    values = pa.nulls(12) if pa.types.is_null(type_) else pa.array(range(12)).cast(type_)
    place = table.schema.get_field_index("inference_ms")
    metadata = {METADATA_KEY: pq.read_metadata(path).metadata[METADATA_KEY]}
    changed = table.set_column(place, "inference_ms", values)
    pq.write_table(changed.replace_schema_metadata(metadata), path)
    expected = None if pa.types.is_null(type_) else 5.5
    with dgrec.open(path) as session:
        assert measure(session).stages["inference_ms"].p50 == expected
        assert dgrec.compare(session, session).row("inference_p50_ms").base.value == expected


# --- stamps and counts ---------------------------------------------------------------------------


def stamps(count: int, missing: set[int]) -> list[int | None]:
    first = 1_767_323_045_000_000
    return [None if i in missing else first + i * 160_000 for i in range(count)]


@pytest.mark.slow
def test_a_row_without_a_stamp_is_in_no_window_and_makes_no_stall(tmp_path: Path) -> None:
    missing = {i for i in range(300) if i % 5 == 3}
    path = edited(
        write_session(tmp_path / "s.parquet", make_rows(300)),
        {"completed_at": stamps(300, missing), "captured_at": stamps(300, set())},
    )
    with dgrec.open(path) as session:
        windows = session.sql("SELECT frames, fps FROM throughput(8)").fetchall()
        assert [frames for frames, _ in windows] == [40] * 6
        # 40 results in 8 s, give or take the one in which a window begins or ends.
        assert [fps for _, fps in windows] == pytest.approx([5.0] * 6, rel=0.03)
        assert session.sql("FROM stalls()").fetchall() == []
        stalls = dgrec.compare(session, session).row("stalls_per_min")
        assert stalls.base.value == 0
        (jitter,) = session.sql("SELECT intervals, result_interval_ms FROM jitter").fetchall()
    # Between two rows that have one; 60 of 300 have none.
    assert jitter == (300 - 1 - 2 * 60, 160.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("completed_at", stamps(40, {7, 9}), "frame 7: has no completed_at"),
        ("captured_at", stamps(40, {0}), "frame 0: has no captured_at"),
        ("dropped_before", [None, *[0] * 39], "frame 0: has no dropped_before"),
        ("dropped_queue", [*[0] * 39, None], "frame 39: has no dropped_queue"),
        ("source_frame", [*range(39), None], "frame 39: has no source_frame"),
        ("latency_ms", [NAN] * 40, "frame 0: has no latency_ms"),
        ("read_ms", [1.0, -1.0, *[1.0] * 38], "frame 1: has a negative count or duration"),
        ("completed_at", stamps(40, set())[::-1], "frame 1: completed_at steps back"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_verify_finds_what_was_edited_and_compare_ends_in_an_answer(
    tmp_path: Path, column: str, values: list[Any], problem: str
) -> None:
    whole = write_session(tmp_path / "whole.parquet", make_rows(40))
    path = edited(write_session(tmp_path / "s.parquet", make_rows(40)), {column: values})
    assert problem in verify(path)
    for base, new in ((path, whole), (whole, path), (path, path)):
        comparison = dgrec.compare(base, new)
        assert {row.verdict for row in comparison.rows} <= {"SAME", "UNCLEAR", "FASTER", "SLOWER"}
    other = write_session(tmp_path / "other.parquet", make_rows(40))
    assert len(dgrec.compare([path, whole], [other]).rows) == 17


@pytest.mark.slow
def test_what_no_row_says_is_not_known(tmp_path: Path) -> None:
    columns = {name: [None] * 40 for name in ("dropped_before", "dropped_queue", "skipped_before")}
    path = edited(write_session(tmp_path / "s.parquet", make_rows(40)), columns)
    (recording,) = dgrec.compare(path, path).base
    assert (recording.lost, recording.skipped) == (None, None)
    assert recording.dropped == {"camera": 0, "queue": None, "writer": 0}
    with Session(path) as session:
        assert session.totals["dropped"] is None
        assert "skipped" in session.totals
        found = session.sql("SELECT dropped, skipped, frames FROM sessions").fetchall()
    assert found == [(None, None, 40)]


@pytest.mark.slow
@pytest.mark.parametrize("write", [written_by_dgrec, written_by_another])
def test_a_number_that_nothing_can_measure_is_no_measurement(tmp_path: Path, write: Any) -> None:
    """Squares and sums of such numbers are infinite."""
    huge = [(-1e308, 1e308, 1e16)[i % 3] if i % 4 == 1 else 5.0 for i in range(40)]
    path = tmp_path / "s.parquet"
    if write is written_by_dgrec:
        timing = [{"CoreInferenceDuration_ms": value} for value in huge]
        write_session(path, [make_row(i, timing=said) for i, said in enumerate(timing)])
        column = "inference_ms"
    else:
        edited(write_session(path, make_rows(40)), {"latency_ms": huge})
        column = "latency_ms"
    with dgrec.open(path) as session:
        asked = f"SELECT count({column}), min({column}), max({column}) FROM frames"
        assert session.sql(asked).fetchall() == [(30, 5.0, 5.0)]
        comparison = dgrec.compare(session, session)
        assert comparison.row(f"{column.removesuffix('_ms')}_p50_ms").base.value == 5.0
        with SqlReader([session]) as reader:
            line = time_line(reader, 80)
            assert line is not None
            assert list(line.lines(blocks=True))


@pytest.mark.slow
def test_stamps_and_numbers_at_the_ends_of_their_types(tmp_path: Path) -> None:
    ends = [-(2**63), 2**63 - 1, -(2**62)]
    path = write_session(tmp_path / "s.parquet", make_rows(40))
    with dgrec.open(path) as session:
        stamps = [
            row[0] for row in session.sql("SELECT epoch_us(captured_at) FROM frames").fetchall()
        ]
    odd = [ends[i % 3] if i % 4 == 1 else stamp for i, stamp in enumerate(stamps)]
    numbers = [ends[i % 3] if i % 4 == 2 else i for i in range(40)]
    edited(path, {"captured_at": odd, "source_frame": numbers})
    with dgrec.open(path) as session:
        asked = "SELECT count(captured_at), count(source_frame), max(source_frame) FROM frames"
        assert session.sql(asked).fetchall() == [(30, 30, 39)]
        assert session.sql(
            "SELECT steps FROM (SELECT max(source_frame) - min(source_frame) AS steps FROM frames)"
        ).fetchall() == [(39,)]
        with SqlReader([session]) as reader:
            assert len(explain([session], reader)) == 1
        assert dgrec.compare(session, session).rows


@pytest.mark.slow
def test_numbers_of_frames_that_overflow_are_an_error_of_ours(tmp_path: Path) -> None:
    frames = [-(2**63), *range(1, 40)]
    path = edited(write_session(tmp_path / "s.parquet", make_rows(40)), {"frame": frames})
    with dgrec.open(path) as session, pytest.raises(dgrec.DgrecError, match="Overflow"):
        dgrec.compare(session, session)


def test_scores_and_corners_beyond_what_can_be_measured(tmp_path: Path) -> None:
    """One rule for the numbers of frames and of detections: a sum of two such has no value."""
    odd = (1e300, -1e308, 1e308, 2e15, NAN)
    rows = [
        make_row(i, [make_detection(label="car", score=score, bbox=[score, 1.0, 1e15, 9.0])])
        for i, score in enumerate([0.25, *odd, 0.75])
    ]
    path = write_session(tmp_path / "s.parquet", rows)
    with dgrec.open(path) as session:
        asked = (
            "SELECT count(*), count(score), avg(score), count(x_min), max(x_max) FROM detections"
        )
        assert session.sql(asked).fetchall() == [(7, 2, 0.5, 2, 1e15)]
        asked = "SELECT detections, frames, scored, mean_score FROM label_rate"
        assert session.sql(asked).fetchall() == [(7, 7, 2, 0.5)]
        assert session.sql("SELECT sum(scored), sum(score) FROM frame_labels").fetchall() == [
            (2, 1.0)
        ]
        (label,) = measure(session).labels
        # The file has them as they were given.
        asked = "SELECT max(detections[1].score) FROM frames WHERE NOT isnan(detections[1].score)"
        assert session.sql(asked).fetchall() == [(1e308,)]
    assert (label.detections, label.mean_score) == (7, 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["camera", "writer"])
def test_losses_count_where_it_is_not_known_what_the_first_row_lost(
    tmp_path: Path, place: str
) -> None:
    """What the first row says was lost before all of them; the next one's were lost between.

    The first one that counts is the second: the model was starting when frame 0 was captured.
    """
    figure = {"camera": "sent_fps / delivered_fps", "writer": "inferred_fps / fps"}[place]
    found = []
    for first in (None, 0, 7):
        column = {f"dropped_{place}": [0, first, 38, *[0] * 37]}
        path = edited(write_session(tmp_path / f"{first}.parquet", make_rows(40)), column)
        with dgrec.open(path) as session:
            found += session.sql(f"SELECT {figure} FROM pipeline").fetchall()
    assert found == [(pytest.approx(2.0),)] * 3


@pytest.mark.parametrize("unit", ["us", "ms"])
def test_a_stamp_beyond_all_dates_is_none_whoever_reads_the_file(tmp_path: Path, unit: str) -> None:
    """DuckDB reads microseconds itself; other stamps come to it cast, and to Python all do."""
    rows = make_rows(40, dropped_camera=1)
    path = write_session(tmp_path / "s.parquet", rows, new_metadata(source=CAMERA))
    table = pq.read_table(path)
    metadata = {METADATA_KEY: pq.read_metadata(path).metadata[METADATA_KEY]}
    type_ = pa.timestamp(unit, "UTC")
    for name, odd in (("captured_at", {7: 2**62, 9: -(2**62)}), ("completed_at", {5: -(2**62)})):
        at = table.schema.get_field_index(name)
        stamps = table.column(name).cast(type_, safe=False).cast(pa.int64()).to_pylist()
        values = pa.array([odd.get(i, stamp) for i, stamp in enumerate(stamps)], type_)
        table = table.set_column(at, name, values)
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with dgrec.open(path) as session:
        asked = "SELECT count(captured_at), count(completed_at) FROM frames"
        assert session.sql(asked).fetchall() == [(38, 39)]
        asked = "SELECT count(captured_at), count(*) FROM frame_labels"
        assert session.sql(asked).fetchall() == [(38, 40)]
        (numbers,) = session.sql("SELECT list(number) FROM label_windows(1e6)").fetchall()
        assert {*numbers[0]} == {0, None}
        asked = "SELECT dropped, at_start FROM _session_losses"
        assert session.sql(asked).fetchall() == [(38, 2)]
        assert (session.totals["dropped"], session.totals["dropped_at_start"]) == (38, 2)
        # 37 rows have both stamps, over 39 steps of the source.
        assert measure(session).throughput_fps == pytest.approx(29.97 * 36 / 39, rel=0.01)


@pytest.mark.slow
def test_a_score_of_nan_is_unknown_to_conditions_on_frames_and_to_alerts(tmp_path: Path) -> None:
    scores: list[list[float | None]] = [[NAN, 0.2], [0.95], [NAN], [math.inf], [None, 0.3], [None]]
    rows = []
    for number, each in enumerate(scores):
        found = [make_detection(1, score=score) for score in each]
        rows += [make_row(2 * number, found), make_row(2 * number + 1, [])]  # ends an alert
    with dgrec.open(write_session(tmp_path / "s.parquet", rows)) as session:
        for condition, frames in {
            "best('car') > 0.9": [2, 6],
            "best('car') < 0.4": [0, 8],
            "best() >= 0": [0, 2, 6, 8],
            "count('car') = 2": [0, 8],
        }.items():
            fired = alerts_of(session, parse_rules([f"a={condition.replace(' = ', ' == ')}"]))
            assert [alert.source_frame for alert in fired] == frames, condition
            assert _frames_where(session, condition) == frames, condition
        assert _frames_where(session, "count('car', 0.9) > 0") == [2, 6]
        assert _frames_where(session, "best('car', 0.25) < 0.5") == [8]


def _frames_where(session: Session, condition: str) -> list[int]:
    asked = f"SELECT frame FROM frames WHERE {frame_condition(condition)} ORDER BY frame"
    return [frame for (frame,) in session.sql(asked).fetchall()]


def test_windows_of_stamps_that_are_far_apart_are_refused(tmp_path: Path) -> None:
    """They would take gigabytes of temporary files before anything came of them."""
    path = write_session(tmp_path / "s.parquet", make_rows(3))
    edited(path, {"captured_at": [0, *stamps(2, set())]})
    with dgrec.open(path) as session, SqlReader([session]) as reader:
        with pytest.raises(dgrec.QueryError, match="are 20455 days apart: more than 50 million"):
            reader.rows("FROM throughput(0.1)")
        assert len(reader.rows("FROM throughput(1e6)")) == 1768


def test_why_says_so_where_no_part_can_be_told_to_have_been_busy(tmp_path: Path) -> None:
    """How many results there were, and so how busy each part was, takes what the writer lost."""
    rows = make_rows(40)
    for row in rows:
        row.completed_ns += 100_000_000  # three frames are on their way at a time
    path = edited(write_session(tmp_path / "s.parquet", rows), {"dropped_writer": [None] * 40})
    with dgrec.open(path) as session, SqlReader([session]) as reader:
        assert session.sql("SELECT count(busy) FROM stage_load").fetchall() == [(0,)]
        (pipeline,) = explain([session], reader)
    assert pipeline.limit is None
    assert "This file does not say how busy its parts were" in pipeline.findings[0]


@pytest.mark.slow
def test_runs_of_frames_without_a_number_are_told_by_their_stamps(tmp_path: Path) -> None:
    """Alerts, and what is published, begin anew with each run."""
    item = make_detection(label="person")
    rows = [make_row(i, [item]) for i in range(10)]
    rows[5:] = [later(row, 10**10) for row in rows[5:]]
    gap = {
        "kind": "gap",
        "reason": RESTARTED,
        "from": utc_text(rows[4].captured_ns),
        "to": utc_text(rows[5].captured_ns),
        "source_frame": 5,
    }
    target = {"target": "lines.jsonl", "only_changes": True, "left_out": [[0, 9]]}
    metadata = new_metadata(events=[gap], targets=[target])
    path = write_session(tmp_path / "s.parquet", rows, metadata)
    found = []
    for numbers in (range(10), [None] * 10):
        edited(path, {"source_frame": list(numbers)})
        lines = tmp_path / f"{len(found)}.jsonl"
        with dgrec.open(path) as session:
            alerts = alerts_of(session, [parse_rule("some = count('person') >= 1")])
            options = PayloadOptions(only_changes=True)
            publish(session, [parse_target(str(lines))], options, speed=None)
            missed = [*missed_messages_of(session, "lines.jsonl").frames()]
        assert all(each.source_frame >= 0 or each.is_end for each in missed)
        values = [json.loads(line) for line in lines.read_text().splitlines()]
        for value in values:
            value.pop("source_frame", None)
        found.append(([replace(alert, source_frame=None) for alert in alerts], values))
    assert len(found[0][0]) == 2
    assert [value["change"] for value in found[0][1]] == ["started", "ended"] * 2
    assert found[0] == found[1]


@pytest.mark.parametrize("only_changes", [False, True])
def test_messages_of_frames_without_a_number_are_told_apart(
    tmp_path: Path, only_changes: bool
) -> None:
    """A server that heeds Idempotency-Key took the first, and left out all others."""
    found = [make_detection(label="person")]
    path = write_session(
        tmp_path / "s.parquet", [make_row(i, found if i % 2 else []) for i in range(4)]
    )
    edited(path, {"source_frame": [None] * 4})
    with dgrec.open(path) as session:
        messages = Messages(PayloadOptions(only_changes=only_changes), session.id)
        sent = [
            message
            for batch in session.batches()
            for row in each_row(batch)
            for message in messages.frame(PublishedFrame.of_recorded(row, session.id))
        ]
    keys = [message.key for message in (*sent, *messages.end())]
    assert len(keys) == len({*keys}) == 4
