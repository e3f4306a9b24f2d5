"""Reading a recording, sealed or not: frames, detections, results, SQL."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import dgrec
from dgrec.errors import DgrecError, NotASessionError, QueryError, SessionError, VideoError
from dgrec.session import Session, open_session
from tests.dgrec.compare import assert_same
from tests.factory import make_detection, make_row, new_metadata, write_journal, write_session

#: 0, 1, 2, 0, 1, ... detections a frame
ROWS = [make_row(i, [make_detection(k) for k in range(i % 3)]) for i in range(600)]
FORMS = ("journal", "sealed")


def write(folder: Path, form: str, rows: list[dgrec.RecordedResult] | list = ROWS) -> Path:  # type: ignore[type-arg]
    if form == "journal":
        return write_journal(folder / "a.arrows", rows, batch=35)
    return write_session(folder / "a.parquet", rows, batch=35)


@pytest.fixture(params=FORMS)
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Session]:
    with open_session(write(tmp_path, request.param)) as session:
        yield session


def test_what_it_is(session: Session) -> None:
    assert len(session) == 600
    assert session.sealed == (session.path.suffix == ".parquet")
    assert session.metadata["model"]["name"] == "tiny_model"
    assert session.metadata["end_reason"] == "finished"
    assert session.id == session.metadata["session_id"]
    assert "600 frames" in repr(session)
    assert session.damage == []
    if session.sealed:
        with pytest.raises(DgrecError, match="not a journal"):
            _ = session.journal


def test_frames(session: Session) -> None:
    frames = session.frames
    assert frames.num_rows == 600
    assert "detections" not in frames.column_names
    assert frames.column("frame").to_pylist() == list(range(600))


def test_detections(session: Session) -> None:
    detections = session.detections
    expected = [(i, k) for i in range(600) for k in range(i % 3)]
    assert detections.num_rows == len(expected)
    assert detections.column("frame").to_pylist() == [i for i, _ in expected]
    assert detections.column("category_id").to_pylist() == [k for _, k in expected]
    assert detections.column_names[:3] == ["frame", "label", "category_id"]


def test_iteration(session: Session) -> None:
    results = [frame.results for frame in session]
    assert_same([row.results for row in ROWS], results)
    assert [frame.frame for frame in session] == list(range(600))


@pytest.mark.parametrize("index", [0, 1, 34, 35, 255, 256, 299, 598, 599, -1, -600])
def test_result(session: Session, index: int) -> None:
    frame = session.result(index)
    assert frame.frame == index % 600
    assert_same(ROWS[index].results, frame.results)
    assert_same(dict(ROWS[index].timing), frame.timing)
    assert frame.info == ""
    assert frame.size == (640, 480)


def test_results_in_any_order(session: Session) -> None:
    for index in (500, 3, 599, 0, 257, 255, 3):
        assert session.result(index).frame == index


@pytest.mark.parametrize(
    "copied", [lambda each: pickle.loads(pickle.dumps(each)), copy.deepcopy, copy.copy]
)
def test_a_result_may_leave_its_session(session: Session, copied: Callable[[Any], Any]) -> None:
    """As results of PySDK, it can be copied; other processes get it, too."""
    frames = [copied(frame) for frame in session[:4]]
    session.close()
    picture = np.zeros((480, 640, 3), np.uint8)
    for frame, row in zip(frames, ROWS, strict=False):
        assert_same(row.results, frame.results)
        assert frame.with_image(picture).image_overlay.any() == bool(row.results)


@pytest.mark.parametrize("index", [600, 10_000, -601])
def test_result_out_of_range(session: Session, index: int) -> None:
    with pytest.raises(IndexError, match=f"frame {index} of a session of 600 frames"):
        session.result(index)


def test_batches_of_chosen_columns(session: Session) -> None:
    batches = list(session.batches(["frame", "latency_ms"]))
    assert sum(batch.num_rows for batch in batches) == 600
    assert batches[0].schema.names == ["frame", "latency_ms"]


@pytest.mark.slow
def test_sql(session: Session) -> None:
    counts = session.sql(
        "SELECT (SELECT count(*) FROM frames), (SELECT count(*) FROM detections), "
        "(SELECT max(detection) FROM detections)"
    ).fetchall()
    assert counts == [(600, 600, 1)]
    # Twice, and while an earlier result is still open: journals are read again each time.
    first = session.sql("SELECT frame FROM frames ORDER BY frame")
    second = session.sql("SELECT label, count(*) FROM detections GROUP BY 1 ORDER BY 1")
    assert second.fetchall() == [("car", 200), ("person", 400)]
    assert first.fetchall() == [(i,) for i in range(600)]
    assert session.sql("SELECT frame FROM frames WHERE frame = 577").fetchall() == [(577,)]


@pytest.mark.slow
def test_sql_keeps_frames_without_detections(session: Session) -> None:
    rows = session.sql("SELECT len(detections), count(*) FROM frames GROUP BY 1 ORDER BY 1")
    assert rows.fetchall() == [(0, 200), (1, 200), (2, 200)]


@pytest.mark.slow
def test_sessions_view(session: Session) -> None:
    (row,) = session.sql(
        "SELECT session_id, name, end_reason, source, model, device, started_at FROM sessions"
    ).fetchall()
    assert row[:6] == (session.id, "test", "finished", "clip.mp4", "tiny_model", "TFLITE/CPU")
    assert row[6].isoformat() == "2026-01-02T03:04:05.678901+00:00"
    joined = session.sql("SELECT count(*) FROM frames JOIN sessions USING (session_id)")
    assert joined.fetchall() == [(600,)]


@pytest.mark.parametrize(
    "query", ["SELEKT 1", "SELECT nothing FROM frames", "FROM missing", "", " ;", "-- nothing"]
)
def test_sql_errors_are_one_line(session: Session, query: str) -> None:
    with pytest.raises(QueryError) as caught:
        session.sql(query)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [[], [make_row(0, [])], [make_row(i, []) for i in range(50)]])
def test_sessions_with_nothing_in_them(form: str, rows: list, tmp_path: Path) -> None:  # type: ignore[type-arg]
    session = open_session(write(tmp_path, form, rows))
    assert len(session) == session.frames.num_rows == len(list(session)) == len(rows)
    assert session.detections.num_rows == 0
    assert session.detections.column_names[0] == "frame"
    counts = "SELECT (SELECT count(*) FROM frames), (SELECT count(*) FROM detections)"
    assert session.sql(counts).fetchall() == [(len(rows), 0)]
    with pytest.raises(IndexError):
        session.result(len(rows))
    with pytest.raises(IndexError):
        session.result(-len(rows) - 1)


def test_attributes_are_read_like_those_of_the_result(tmp_path: Path) -> None:
    row = make_row(0, attributes={"zone_counts": {"in": 3}, "scene_cut": True})
    frame = open_session(write_session(tmp_path / "a.parquet", [row])).result(0)
    assert frame.zone_counts == {"in": 3}
    assert frame.scene_cut is True
    assert frame.attributes == {"zone_counts": {"in": 3}, "scene_cut": True}
    with pytest.raises(AttributeError, match="trails"):
        _ = frame.trails


@pytest.mark.parametrize("name", ["image", "image_overlay"])
def test_a_result_without_pixels_says_where_they_are(name: str, tmp_path: Path) -> None:
    frame = open_session(write_session(tmp_path / "a.parquet", ROWS[:5])).result(3)
    assert not hasattr(frame, name)
    with pytest.raises(
        AttributeError, match=rf"frame 3 has no '{name}': .*session.pixels.*overlay"
    ):
        getattr(frame, name)


@pytest.mark.parametrize("picture", [None, "a.png", np.zeros((4, 4), np.uint8)])
def test_an_overlay_needs_a_picture(picture: Any, tmp_path: Path) -> None:
    frame = open_session(write_session(tmp_path / "a.parquet", ROWS[:5])).result(3)
    with pytest.raises(VideoError, match="frame 3: cannot be drawn on "):
        frame.overlay(picture)


@pytest.mark.parametrize("name", ["with 'quote'.parquet", "naïve 人.parquet", "a[1]*?.parquet"])
def test_names_that_need_quoting(name: str, tmp_path: Path) -> None:
    session = open_session(write_session(tmp_path / name, ROWS[:5]))
    assert session.sql("SELECT count(*) FROM frames").fetchall() == [(5,)]


def test_closing(session: Session) -> None:
    with session as opened:
        opened.sql("SELECT 1").fetchall()
    session.close()


@pytest.mark.parametrize("columns", [["frame", "nope"], "nope", ["nope.list.element"]])
def test_a_column_that_is_not_there_is_no_damage(session: Session, columns: Any) -> None:
    with pytest.raises(SessionError, match=r"a\.(arrows|parquet): has no column 'nope") as caught:
        list(session.batches(columns))
    assert type(caught.value) is SessionError
    fields = ["frame", "detections.list.element.label"] if session.sealed else ["frame"]
    assert sum(batch.num_rows for batch in session.batches(fields)) == 600


def test_unknown_columns_and_metadata_of_a_later_minor_version(tmp_path: Path) -> None:
    path = write_journal(tmp_path / "a.arrows", ROWS[:5], new_metadata(later={"x": 1}))
    assert open_session(path).metadata["later"] == {"x": 1}


def test_arrow_stream_of_a_journal(tmp_path: Path) -> None:
    journal = open_session(write(tmp_path, "journal")).journal
    for _ in range(2):
        assert pa.RecordBatchReader.from_stream(journal).read_all().num_rows == 600


@pytest.mark.parametrize(
    "use",
    [lambda s: s.sql("SELECT 1").fetchall(), lambda s: s.frames, list],
)
def test_a_closed_session_says_so(tmp_path: Path, use: Callable[[Session], Any]) -> None:
    with dgrec.open(write_session(tmp_path / "s.parquet", ROWS[:3])) as session:
        use(session)
    with pytest.raises(SessionError, match=r"s\.parquet: the session is closed"):
        use(session)


def test_pictures_that_are_closed_say_so(tmp_path: Path) -> None:
    with dgrec.Recorder(tmp_path / "s.parquet", video="raw") as recorder:
        recorder.add([], np.zeros((48, 64, 3), np.uint8))
    with dgrec.open(tmp_path / "s.parquet") as session:
        with session.pixels() as pixels:
            assert next(pixels.results(session)).image.shape == (48, 64, 3)
        with pytest.raises(VideoError, match=r"s\.mp4: the pictures are closed; ask "):
            next(pixels.results(session))


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
def test_a_session_that_is_pickled_says_what_to_do(
    session: Session, copied: Callable[[Session], Any]
) -> None:
    with pytest.raises(TypeError, match="cannot be pickled or copied deeply; open it again by its"):
        copied(session)
    assert copy.copy(session)[0].results == session[0].results


def test_frames_by_index_and_by_slice(session: Session) -> None:
    assert session[-1].frame == 599
    assert [result.frame for result in session[3:9:2]] == [3, 5, 7]
    assert [result.results for result in session[598:]] == [
        session.result(i).results for i in (598, 599)
    ]
    with pytest.raises(IndexError):
        session[600]
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        session.result("a")  # type: ignore[arg-type]


@pytest.mark.slow
def test_rows_that_duckdb_cannot_read_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_journal(tmp_path / "a.arrows", ROWS)
    read: list[int] = []
    batches = Session.batches

    def counted(self: Session, *arguments: Any, **more: Any) -> Any:
        read.append(1)
        return batches(self, *arguments, **more)

    monkeypatch.setattr(Session, "batches", counted)
    with open_session(path) as session:
        answers = [session.sql("SELECT sum(latency_ms) FROM frames").fetchall() for _ in range(3)]
        assert session.sql("SELECT count(*) FROM frames").fetchall() == [(len(ROWS),)]
    assert answers[0] == answers[1] == answers[2] != [(None,)]
    assert len(read) == 1


def test_a_missing_session_is_one_error(tmp_path: Path) -> None:
    """Python shows no error of the file before it, as if that had gone wrong as well."""
    with pytest.raises(NotASessionError, match="none: cannot be read: No such file") as caught:
        dgrec.open(tmp_path / "none")
    assert caught.value.__context__ is None
