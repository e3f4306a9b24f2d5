"""SQL, questions, conditions and findings as the page gets them."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import pytest

from dgrec.errors import QueryError
from dgrec.replay.query import DetectionFilter, SqlReader
from dgrec.replay.stats import explain
from dgrec.replay.viewing.matches import matches
from dgrec.replay.viewing.statements import MOST_ROWS, answer, questions, with_places
from dgrec.replay.viewing.why import why
from tests.factory import make_detection, make_rows, write_session
from tests.replay.conftest import uneven_rows
from tests.replay.viewing.test_series import opened
from tests.waiting import wait_until


def test_statements(session: Path) -> None:
    with opened(session) as (_, reader):
        result = answer(reader, "SELECT label, frame, score FROM detections ORDER BY ALL", 5)
        assert [column["name"] for column in result["columns"]] == ["label", "frame", "score"]
        assert [column["numeric"] for column in result["columns"]] == [False, True, True]
        assert (len(result["rows"]), result["truncated"], result["frame_column"]) == (5, True, 1)
        result = answer(
            reader,
            "SELECT 9007199254740993, 'inf'::DOUBLE, [1, NULL], true, NULL, repeat('x', 1000000), "
            "'<script>' || chr(0), 'frame' AS frame",
        )
        assert not result["truncated"]
        assert result["frame_column"] is None  # a text
        cells = result["rows"][0]
        assert cells[:5] == ["9007199254740993", "inf", "[1, null]", True, None]
        assert len(cells[5]) < 4100
        assert cells[6] == "<script>\x00"
        json.dumps(result, allow_nan=False)
        everything = answer(reader, "SELECT unnest(range(100000)) AS n", 10**9)
        assert (len(everything["rows"]), everything["truncated"]) == (MOST_ROWS, True)


def test_rows_of_an_answer_lead_to_their_frames(session: Path) -> None:
    with opened(session) as (one, reader):
        asked = "SELECT unnest([7, NULL, 39, 7, -1, 40]) AS frame"
        found = with_places(one, reader, answer(reader, asked))
        captured = one.frames.column("captured_at").cast("int64").to_pylist()
        seven, last = ((i, pytest.approx((captured[i] - captured[0]) / 1e6)) for i in (7, 39))
        assert found["places"] == [seven, None, last, seven, None, None]
        assert "places" not in with_places(one, reader, answer(reader, "SELECT 1"))
        assert "places" not in with_places(one, reader, answer(reader, "SELEC"))
        assert with_places(one, reader, answer(reader, "SELECT 1 AS frame LIMIT 0"))["places"] == []


def test_statements_that_fail(session: Path) -> None:
    with opened(session) as (one, reader):
        for text, reason in (
            ("", "no statement"),
            ("SELECT 1; SELECT 2", "2 statements"),
            ("COPY frames TO 'x.csv'", "COPY is refused"),
            ("SELECT nothing FROM frames", "nothing"),
            ("SELECT * FROM read_text('/etc/passwd')", "read_text"),
            ("SELECT '\ud800'", "UTF-8"),
        ):
            result = answer(reader, text)
            assert reason in result["error"], text
            assert "\n" not in result["error"]
            assert "--" not in result["error"]
        assert answer(reader, "SELECT 1 AS one")["rows"] == [[1]]
        with SqlReader([one], timeout=0.2) as hurried:
            result = answer(hurried, "SELECT count(*) FROM range(100000000000)")
            assert result == {"error": "stopped after 0.2 s"}


def test_a_statement_ends_when_its_reader_has_gone(session: Path) -> None:
    with opened(session) as (_, reader):
        found = []
        thread = threading.Thread(
            target=lambda: found.append(answer(reader, "SELECT count(*) FROM range(100000000000)"))
        )
        thread.start()

        def has_ended() -> bool:
            reader.interrupt()
            return not thread.is_alive()

        wait_until(has_ended)
        assert "nterrupt" in found[0]["error"]
        assert answer(reader, "SELECT 1")["rows"] == [[1]]


@pytest.mark.slow
def test_every_question_can_be_asked(session: Path) -> None:
    asked = questions()
    assert len(asked) > 20
    with opened(session) as (_, reader):
        for question in asked:
            assert question["text"]
            assert "error" not in answer(reader, question["sql"]), question["name"]
        late = next(q for q in asked if q["name"] == "late frames")
        assert late["sql"].endswith("FROM late_frames(factor := 1.5, at_least_ms := 10)")
        assert answer(reader, late["sql"])["frame_column"] == 0


@pytest.mark.slow
def test_what_limited_a_recording(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", uneven_rows(120))
    with opened(path) as (session, reader):
        found = why(session, reader)
        with SqlReader([session]) as other:
            (pipeline,) = explain([session], other)
        assert found["findings"] == list(pipeline.findings)
        busy, stages = found["tables"]
        assert [row[0] for row in busy["rows"]] == [load.stage for load in pipeline.loads]
        assert busy["numeric"] == [False, True, True, True, True, True]
        assert stages["columns"][:3] == ["stage", "count", "mean"]
    with opened(write_session(tmp_path / "none.parquet", [])) as both:
        assert why(*both)["findings"] == ["There are no frames."]


def test_conditions_on_detections(tmp_path: Path) -> None:
    rows = uneven_rows(60)
    path = write_session(tmp_path / "s.parquet", rows)
    with opened(path) as (session, reader):
        for text in ("score > 0.6", "label = 'car' OR label IS NULL", "latency_ms > 30 -- x"):
            chosen = DetectionFilter(session, text)
            wanted = {str(i): kept for i in range(10, 40) if (kept := chosen.kept(i))}
            chosen.close()
            assert matches(session, reader, text, 10, 40) == {"from": 10, "to": 40, "keep": wanted}
            assert wanted
        assert matches(session, reader, "true", -5, 10**6)["to"] == 60
        assert matches(session, reader, "true", 70, 60)["keep"] == {}
        for text in ("", "nothing > 3", "true) OR (SELECT 1", "1; DROP VIEW frames"):
            with pytest.raises(QueryError, match=r"^condition.*expected a condition on detections"):
                matches(session, reader, text, 0, 10)
    boxes = [make_detection(score=math.nan), make_detection(label="<img>")]
    path = write_session(tmp_path / "many.parquet", make_rows(1100, results=boxes))
    with opened(path) as (session, reader):
        with pytest.raises(QueryError, match="1,100 rows at once"):
            matches(session, reader, "true", 0, 1100)
        kept = matches(session, reader, "label = '<img>'", 0, 1000)["keep"]
        assert len(kept) == 1000
        assert kept["7"] == [1]
