"""The SQL views over what analyzers of degirum_tools add, held against the results in Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dgrec
from tests.analyzed import everything, record_analyzed
from tests.factory import make_detection, make_row, write_session

VIEWS = ("zones", "lines", "line_crossings", "zone_events", "detected_events", "scene_cuts")


@pytest.fixture(scope="module", params=[(True, False), (False, True)])
def recorded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dgrec.Session, list[Any]]]:
    path = tmp_path_factory.mktemp("analyzed") / "s.parquet"
    results = record_analyzed(path, everything(*request.param))
    with dgrec.open(path) as session:
        yield session, results


def test_zones(recorded: tuple[dgrec.Session, list[Any]]) -> None:
    session, results = recorded
    expected = {
        (number, str(zone), None if label == "total" else label, count)
        for number, result in enumerate(results)
        for zone, counts in (
            result.zone_counts.items()
            if isinstance(result.zone_counts, dict)
            else enumerate(result.zone_counts)
        )
        for label, count in counts.items()
    }
    rows = session.sql_rows("SELECT frame, zone, label, count FROM zones")
    assert len(rows) == len(expected) == 30 * 2 * 3
    assert set(rows) == expected
    assert any(count for *_, count in rows)


def test_lines(recorded: tuple[dgrec.Session, list[Any]]) -> None:
    session, results = recorded
    expected = set()
    for number, result in enumerate(results):
        for line, counts in enumerate(result.line_counts):
            by_label = {None: counts, **counts.for_class}
            for label, single in by_label.items():
                totals = {k: v for k, v in single.to_dict().items() if k != "for_class"}
                expected |= {(number, line, label, *item) for item in totals.items()}
    rows = session.sql_rows("SELECT frame, line, label, direction, count FROM lines")
    assert set(rows) == expected
    assert len(rows) == len(expected)
    assert max(count for *_, count in rows) > 0


def test_line_crossings(recorded: tuple[dgrec.Session, list[Any]]) -> None:
    session, results = recorded
    expected = []
    for number, result in enumerate(results):
        for found in result.results:
            for line, crosses in enumerate(found["cross_line"]):
                if crosses:
                    way = found["cross_line_direction"][line]
                    way = way if isinstance(way, str) else " ".join(way.values())
                    expected.append((number, found["track_id"], found["label"], line, way))
    rows = session.sql_rows("SELECT frame, track_id, label, line, direction FROM line_crossings")
    assert sorted(rows) == sorted(expected)
    assert len(rows) >= 2
    # What is counted in the end is what has crossed.
    [(last,)] = session.sql_rows(
        "SELECT sum(count) FROM lines WHERE frame = 29 AND label IS NULL "
        "AND direction IN ('left', 'right')"
    )
    assert last == len(rows)


def test_zone_events(recorded: tuple[dgrec.Session, list[Any]]) -> None:
    session, results = recorded
    expected = [
        (n, e["event_type"], e["zone_id"], e["track_id"], e["object_label"], e["dwell_time"])
        for n, result in enumerate(results)
        for e in result.zone_events
    ]
    rows = session.sql_rows("SELECT frame, event, zone, track_id, label, dwell_s FROM zone_events")
    assert sorted(map(repr, rows)) == sorted(map(repr, expected))
    assert {row[1] for row in rows} >= {"zone_entry", "zone_exit", "zone_occupied", "zone_empty"}


def test_detected_events_and_scene_cuts(recorded: tuple[dgrec.Session, list[Any]]) -> None:
    session, results = recorded
    rows = session.sql_rows("SELECT frame, event FROM detected_events")
    expected = [(n, name) for n, result in enumerate(results) for name in result.events_detected]
    assert sorted(rows) == sorted(expected)
    assert {name for _, name in rows} == {"car there", "anything"}
    rows = session.sql_rows("SELECT frame FROM scene_cuts ORDER BY frame")
    assert rows == [(n,) for n, result in enumerate(results) if result.scene_cut]


def test_columns_of_detections(recorded: tuple[dgrec.Session, list[Any]]) -> None:
    session, results = recorded
    rows = session.sql_rows(
        "SELECT track_id, in_zone, frames_in_zone, time_in_zone, cross_line FROM detections "
        "ORDER BY frame, detection"
    )
    names = ("track_id", "in_zone", "frames_in_zone", "time_in_zone", "cross_line")
    expected = [tuple(f[name] for name in names) for r in results for f in r.results]
    assert rows == expected
    assert any(row[1][0] for row in rows)
    [(count,)] = session.sql_rows("SELECT count(*) FROM detections WHERE in_zone[1]")
    assert count == sum(f["in_zone"][0] for r in results for f in r.results)


def test_without_analyzers_there_is_nothing(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", [make_row(0, [make_detection()])])
    with dgrec.open(path) as session:
        for view in VIEWS:
            assert session.sql_rows(f"FROM {view}") == [], view
        columns = "in_zone, frames_in_zone, time_in_zone, cross_line, cross_line_direction"
        assert session.sql_rows(f"SELECT {columns} FROM detections") == [(None,) * 5]


@pytest.mark.parametrize(
    "added",
    [
        {"zone_counts": 5, "line_counts": "x", "zone_events": None, "events_detected": [1]},
        {"zone_counts": [[1, 2], {"total": "many"}], "line_counts": [{"left": 3}, 7]},
        {"zone_events": [{"event_type": 5}, "x", {}], "events_detected": "zone"},
        {"zone_counts": {1: {"total": 4}, "$x": {"total": 5}}, "scene_cut": "true or not"},
        {"line_counts": {"for_class": {}}, "events_detected": {"fire": True, "smoke": False}},
    ],
)
def test_other_values_under_the_same_names(tmp_path: Path, added: dict[str, Any]) -> None:
    """Any analyzer may use these names: what does not fit is left out, and nothing fails."""
    found = make_detection(in_zone="yes", time_in_zone=[1, "x"], cross_line=[True, None])
    path = write_session(tmp_path / "s.parquet", [make_row(0, [found], attributes=added)])
    with dgrec.open(path) as session:
        rows = {
            view: session.sql_rows(f"SELECT * EXCLUDE session_id FROM {view}") for view in VIEWS
        }
        if isinstance(added.get("zone_counts"), dict):
            assert sorted(rows["zones"]) == [(0, "$x", None, 5), (0, "1", None, 4)]
        if isinstance(added.get("events_detected"), dict):
            assert rows["detected_events"] == [(0, "fire")]
        assert rows["line_crossings"] == [(0, None, "person", 0, None)]
        assert session.sql_rows("SELECT in_zone, time_in_zone[1] FROM detections") == [(None, 1.0)]


def test_what_is_no_json_is_nothing(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = write_session(tmp_path / "s.parquet", [make_row(0, [], attributes={"zone_counts": []})])
    known = pq.read_metadata(path).metadata
    table = pq.read_table(path)
    index = table.schema.get_field_index("attributes")
    broken = table.set_column(index, table.schema.field(index), [['{"zone_counts": [']])
    pq.write_table(broken.replace_schema_metadata(known), path)
    with dgrec.open(path) as session:
        for view in VIEWS:
            assert session.sql_rows(f"FROM {view}") == [], view


def test_queries_that_do_not_use_them_do_not_read_them(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", [make_row(0)])
    with dgrec.open(path) as session:
        [(_, plan)] = session.sql_rows(
            "EXPLAIN (FORMAT json) SELECT label, score, track_id FROM detections"
        )
        assert "label" in plan
        assert "in_zone" not in plan
        assert "'extra'" not in plan
        [(_, plan)] = session.sql_rows("EXPLAIN (FORMAT json) SELECT in_zone FROM detections")
        assert "in_zone" in plan
