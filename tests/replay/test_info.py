"""`dgrec info`: metadata, columns and the state of a session."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import Result

from dgrec.format import AT_START, LOSSES, SCHEMA, JournalWriter
from dgrec.replay.info import describe
from dgrec.session import open_session
from tests.factory import (
    CAMERA,
    edited,
    losses_of,
    make_rows,
    new_metadata,
    write_journal,
    write_session,
)
from tests.replay.conftest import uneven_rows

Run = Callable[..., Result]


def json_info(dgrec: Run, path: Path) -> dict[str, Any]:
    result = dgrec("info", path, "--format", "json")
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def text_info(dgrec: Run, path: Path) -> str:
    result = dgrec("info", path)
    assert result.exit_code == 0, result.output
    return result.stdout


def row_of(text: str, name: str) -> str:
    """Return what stands behind a name."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"{name}  "))
    return line.removeprefix(name).strip()


def test_columns_add_up_to_the_file(dgrec: Run, session: Path) -> None:
    info = json_info(dgrec, session)
    columns = info["columns"]
    footer = pq.read_metadata(session)
    stored = {
        footer.row_group(0).column(i).path_in_schema: (
            footer.row_group(0).column(i).total_compressed_size
        )
        for i in range(footer.num_columns)
    }
    assert footer.num_row_groups == 1
    assert {c["name"]: c["bytes"] for c in columns} == {
        path.replace(".list.element", "").replace(".key_value", ""): size
        for path, size in stored.items()
    }
    assert {c["name"].split(".")[0] for c in columns} == set(SCHEMA.names)
    assert info["bytes"] == session.stat().st_size
    for column in columns:
        assert column["share"] == pytest.approx(column["bytes"] / info["bytes"])
    types = {c["name"]: c["type"] for c in columns}
    assert types["captured_at"] == "timestamp[us, tz=UTC]"
    assert types["detections.landmarks.landmark"] == "double"
    assert types["timing.key"] == "string"


def test_bytes_per_frame_and_detection(dgrec: Run, session: Path) -> None:
    info = json_info(dgrec, session)
    detections = sum(len(row.results) for row in uneven_rows(40))
    assert (info["frames"], info["detections"]) == (40, detections)
    assert info["bytes_per_frame"] == pytest.approx(session.stat().st_size / 40)
    taken = sum(c["bytes"] for c in info["columns"] if c["name"].startswith("detections."))
    assert info["bytes_per_detection"] == pytest.approx(taken / detections)


@pytest.mark.slow
def test_several_row_groups_are_added_up(dgrec: Run, tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(16_384 + 10), batch=4096)
    footer = pq.read_metadata(path)
    assert footer.num_row_groups == 2
    total = sum(
        footer.row_group(g).column(i).total_compressed_size
        for g in range(2)
        for i in range(footer.num_columns)
    )
    assert sum(c["bytes"] for c in json_info(dgrec, path)["columns"]) == total


def test_json_has_all_metadata(dgrec: Run, tmp_path: Path) -> None:
    labels = {str(i): f"label {i}" for i in range(80)}
    metadata = new_metadata("yard", model={"name": "m", "labels": labels}, future={"key": [1]})
    path = write_session(tmp_path / "s.parquet", make_rows(2), metadata)
    info = json_info(dgrec, path)
    assert info["metadata"]["model"]["labels"] == labels
    assert info["metadata"]["future"] == {"key": [1]}
    assert info["metadata"]["totals"]["frames"] == 2
    text = text_info(dgrec, path)
    assert row_of(text, "labels").startswith("80 entries: ")
    assert "label 79" not in text
    assert row_of(text, "key") == "[1]"  # groups that this version does not know are shown too


def test_groups_and_totals(dgrec: Run, session: Path) -> None:
    text = text_info(dgrec, session)
    titles = ("Session", "File", "Source", "Model", "Totals", "Versions", "Host", "Columns")
    lines = text.splitlines()
    assert [line for line in lines if line in titles] == list(titles)
    assert row_of(text, "state") == "sealed"
    assert row_of(text, "end reason") == "finished"
    assert row_of(text, "given") == "clip.mp4"
    assert row_of(text, "checksums") == "all correct"
    assert row_of(text, "damage") == "none"
    size = session.stat().st_size
    assert row_of(text, "size").startswith(f"{size:,} bytes")
    shares = [float(line.split()[-1][:-1]) for line in lines if line.endswith("%")]
    assert sum(shares) == pytest.approx(100, abs=0.06 * len(shares))


def test_a_session_without_frames(dgrec: Run, tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", [])
    info = json_info(dgrec, path)
    assert info["bytes_per_frame"] is None
    assert info["bytes_per_detection"] is None
    assert row_of(text_info(dgrec, path), "a frame takes") == "-"


@pytest.mark.slow
def test_states_of_a_journal(dgrec: Run, tmp_path: Path) -> None:
    live = tmp_path / "live.arrows"
    writer = JournalWriter(live, new_metadata(), durability="never")
    try:
        writer.write(make_rows(5))
        info = json_info(dgrec, live)
        assert info["state"] == "being recorded"
        assert (info["frames"], info["detections"]) == (5, 5)
        assert info["end_reason"] is None
        assert {column["bytes"] for column in info["columns"]} == {None}
        assert "compressed" not in text_info(dgrec, live)
    finally:
        writer.close()
    assert json_info(dgrec, live)["state"].startswith("cut off")
    ended = write_journal(tmp_path / "ended.arrows", make_rows(5))
    info = json_info(dgrec, ended)
    assert info["state"] == "ended, not sealed"
    assert info["end_reason"] == "finished"
    assert info["form"] == "journal"


def gap(seconds: float, **more: Any) -> dict[str, Any]:
    stamp = f"2026-01-01T00:{int(seconds):02d}:00Z"
    return {"kind": "gap", "from": stamp, "seconds": seconds, "reason": "the stream ended", **more}


@pytest.mark.slow
def test_gaps_of_a_journal(dgrec: Run, tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "s.arrows", new_metadata(), durability="never")
    writer.write(make_rows(5), events=[gap(8.8), {"kind": "size", "width": 64}])
    writer.write(make_rows(10)[5:], events=[gap(2.0, back=False)])
    writer.close()
    text = text_info(dgrec, tmp_path / "s.arrows")
    assert row_of(text, "in all") == "2, 10.8 s"
    assert row_of(text, "2026-01-01T00:08:00Z") == "8.8 s: the stream ended"
    assert row_of(text, "2026-01-01T00:02:00Z") == "2.0 s, until the end: the stream ended"
    assert len(json_info(dgrec, tmp_path / "s.arrows")["events"]) == 3


def test_of_many_gaps_the_longest_are_shown(dgrec: Run, tmp_path: Path) -> None:
    gaps = [gap(float(seconds)) for seconds in range(1, 26)]
    path = write_session(tmp_path / "s.parquet", make_rows(5), new_metadata(events=gaps))
    text = text_info(dgrec, path)
    assert row_of(text, "in all") == "25, 325.0 s"
    shown = [line for line in text.splitlines() if ": the stream ended" in line]
    assert len(shown) == 10
    assert "16.0 s" in shown[0]
    assert "25.0 s" in shown[-1]
    assert row_of(text, "shorter ones").startswith("15 ")


def test_a_session_without_gaps_has_no_table_of_them(dgrec: Run, session: Path) -> None:
    assert "in all" not in text_info(dgrec, session)


@pytest.mark.slow
def test_damage_is_listed(dgrec: Run, tmp_path: Path) -> None:
    path = write_journal(tmp_path / "s.arrows", make_rows(50), end=False)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    info = json_info(dgrec, path)
    assert info["damage"]
    text = text_info(dgrec, path)
    for line in info["damage"]:
        assert line in text
    assert row_of(text, "damage").endswith("below")


def test_a_file_that_another_tool_rewrote(dgrec: Run, session: Path, tmp_path: Path) -> None:
    path = tmp_path / "rewritten.parquet"
    table, metadata = pq.read_table(session), pq.read_metadata(session).metadata
    pq.write_table(table.replace_schema_metadata({b"dgrec": metadata[b"dgrec"]}), path)
    assert json_info(dgrec, path)["checksums"] is False
    assert "none" in row_of(text_info(dgrec, path), "checksums")


def test_every_command_ends_its_help_with_an_example(dgrec: Run) -> None:
    for command in ("query", "stats", "info"):
        help_text = dgrec(command, "--help").stdout
        assert f"Example: dgrec {command} " in help_text.split("General options:")[1]


def test_counts_are_those_of_the_rows(dgrec: Run, tmp_path: Path) -> None:
    """Another tool may have left the totals of what it cut down."""
    totals = {
        "frames": 99,
        "detections": 987_654_321,
        "skipped": 7,
        "dropped": 8,
        "dropped_camera": 8,
    }
    path = edited(write_session(tmp_path / "s.parquet", make_rows(20)), {}, totals=totals)
    found = json.loads(dgrec("info", path, "--format", "json").stdout)
    counted = {"frames": 20, "detections": 20, "skipped": 0, "dropped": 0, "dropped_camera": 0}
    assert (found["frames"], found["detections"]) == (20, 20)
    assert {name: found["totals"][name] for name in counted} == counted
    assert "987,654,321" not in dgrec("info", path).stdout


def test_losses_are_called_what_every_command_calls_them(tmp_path: Path) -> None:
    rows = uneven_rows(40)
    lost = losses_of(rows)
    path = write_session(tmp_path / "s.parquet", rows, new_metadata(source=CAMERA))
    with open_session(path) as session:
        totals = describe(session)["totals"]
        in_all = session.metadata["totals"]["dropped"]
        (asked,) = session.sql("SELECT dropped, dropped_at_start FROM sessions").fetchall()
    assert lost["at_start"] > 0
    assert in_all == lost["total"] + lost["at_start"]
    assert (totals["dropped"], totals["dropped_at_start"]) == asked
    assert asked == (lost["total"], lost["at_start"])
    for place in ("camera", "queue", "writer"):
        assert totals[f"dropped_{place}"] == lost[place]


def test_footage_loses_nothing_while_the_model_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = uneven_rows(40)
    with monkeypatch.context() as before:
        # As sessions were sealed before.
        before.setattr("dgrec.format.totals.is_live", lambda metadata: True)
        path = write_session(tmp_path / "s.parquet", rows)
    with open_session(path) as session:
        assert session.has_checksums
        assert session.metadata["totals"]["dropped_at_start"] > 0
        totals = describe(session)["totals"]
    assert totals["dropped"] == losses_of(rows, live=False)["total"]
    assert totals["dropped_at_start"] == totals["dropped_camera_at_start"] == 0


def test_totals_that_make_no_sense_are_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = uneven_rows(40)
    with monkeypatch.context() as forged:
        forged.setattr("dgrec.format.parquet.add_rows", lambda *_, **__: {**counts, "dropped": 1})
        counts = dict.fromkeys(["frames", "detections", *LOSSES, *AT_START], 9)
        path = write_session(tmp_path / "s.parquet", rows, new_metadata(source=CAMERA))
    with open_session(path) as session:
        assert session.has_checksums
        assert session.totals["dropped"] == losses_of(rows)["total"]


@pytest.mark.parametrize("write", [write_session, write_journal])
def test_what_an_accelerator_says_of_itself_is_counted_sealed_or_not(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    timing = {"DeviceTemperature_C": 40.0, "DevicePreprocessDuration_ms": 2.0}
    path = tmp_path / ("s.parquet" if write is write_session else "s.arrows")
    rows = [*make_rows(1), *make_rows(8, timing=timing)[1:]]  # not with the first result
    with open_session(write(path, rows)) as session:
        counted = session.sql_rows("SELECT name, count(*) FROM signals GROUP BY name")
        assert describe(session)["signals"] == dict(counted) == {"DeviceTemperature_C": 7}
