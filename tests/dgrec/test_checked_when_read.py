"""Damage is noticed when it is read: opening a session reads its footer only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import dgrec
from dgrec.format import checksums, parquet, verify_checksums
from dgrec.format.schema import METADATA_KEY
from dgrec.replay.query import SqlReader
from dgrec.session import open_sessions
from tests.dgrec.test_parts import write_set
from tests.factory import make_rows, new_metadata, without_column, write_session
from tests.hostile_files import edited

ROWS, GROUP = 300, 100


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file of a few KB have the blocks and row groups of a large one."""
    monkeypatch.setattr(checksums, "_BLOCK", 64)
    monkeypatch.setattr(parquet, "_LITTLE_BYTES", 0)
    monkeypatch.setattr(parquet, "_ROW_GROUP_FRAMES", GROUP)
    monkeypatch.setattr("dgrec.sql.checking._LITTLE_BYTES", 0)


def made(path: Path) -> Path:
    return write_session(path, make_rows(ROWS), new_metadata(path.stem), batch=GROUP)


def flipped(path: Path, column: str, group: int) -> Path:
    """Damage one byte in the middle of a column of a row group."""
    footer = pq.read_metadata(path)
    names = [footer.schema.column(index).path for index in range(len(footer.schema))]
    chunk = footer.row_group(group).column(names.index(column))
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    return path


READS: dict[str, Callable[[Any], Any]] = {
    "batches": lambda session: list(session.batches(None, GROUP, GROUP + 1)),
    "a column": lambda session: list(session.batches(["latency_ms"])),
    "a row": lambda session: session.row(GROUP + 5),
    "iteration": lambda session: list(session),
    "SQL": lambda session: session.sql("SELECT sum(latency_ms) FROM frames").fetchall(),
    "SQL, filtered": lambda session: session.sql(
        "SELECT frame FROM frames WHERE latency_ms > 3"
    ).fetchall(),
    "SQL, several": lambda session: session.sql("SELECT 1; SELECT 2"),
    "all": lambda session: session.check(),
}


@pytest.mark.parametrize("read", READS)
def test_damage_is_reported_when_it_is_read(tmp_path: Path, read: str) -> None:
    path = flipped(made(tmp_path / "s.parquet"), "latency_ms", 1)
    with dgrec.open(path) as session, pytest.raises(dgrec.DamagedSessionError) as caught:
        READS[read](session)
    assert str(caught.value).startswith(f"{path}: damaged: ")
    assert "restore the file from a copy" in str(caught.value)
    with pytest.raises(dgrec.DamagedSessionError):
        verify_checksums(path)


def test_what_is_whole_can_be_read_from_a_damaged_file(tmp_path: Path) -> None:
    path = flipped(made(tmp_path / "s.parquet"), "detections.list.element.x_min", 2)
    with dgrec.open(path) as session:
        assert session.metadata["name"] == "s"
        assert len(list(session.batches(None, 0, 2 * GROUP))) > 0
        assert session.row(GROUP)["frame"] == GROUP
        assert session.sql("SELECT count(*) FROM frames").fetchall() == [(ROWS,)]
        assert session.sql("SELECT max(frame) FROM frames").fetchall() == [(ROWS - 1,)]
        with pytest.raises(dgrec.DamagedSessionError):
            session.sql("SELECT avg(x_min) FROM detections")


def test_every_byte_is_checked_by_verify(tmp_path: Path) -> None:
    from dgrec.replay.verify import verify

    path = made(tmp_path / "s.parquet")
    assert verify(path) == []
    data = path.read_bytes()
    for at in range(4, len(data) - 12, len(data) // 40):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        (problem,) = verify(path)
        assert problem.startswith("damaged")


def test_opening_reads_the_footer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "s.parquet")
    monkeypatch.setattr(
        checksums.Checksums, "check", lambda *_: pytest.fail("a row group is compared")
    )
    with dgrec.open(path) as session:
        assert len(session) == ROWS
        assert session.totals["frames"] == ROWS
    (opened,) = open_sessions([tmp_path])
    opened.close()


def test_a_file_that_was_replaced_is_another(tmp_path: Path) -> None:
    path = made(tmp_path / "s.parquet")
    with dgrec.open(path) as session:
        made(tmp_path / "t.parquet").replace(path)
        with pytest.raises(dgrec.SessionError, match="was replaced after it was opened"):
            session.check()
        path.unlink()
        with pytest.raises(dgrec.SessionError, match="cannot be read: No such file"):
            session.check()


def test_rows_are_those_of_the_file_that_was_opened(tmp_path: Path) -> None:
    """Without checksums, too: another tool has written it."""
    copies = []
    for name, frames in (("a", 5), ("b", 9)):
        (tmp_path / name).mkdir()
        whole = write_session(tmp_path / name / "s.parquet", make_rows(frames))
        copies.append(without_column(whole, "restore"))
    first, second = copies
    with dgrec.open(first) as session:
        assert not session.has_checksums
        second.replace(first)
        assert session.row(4)["frame"] == 4
        assert sum(batch.num_rows for batch in session.batches()) == len(session) == 5


def test_columns_are_those_of_the_file_whatever_was_opened_before(tmp_path: Path) -> None:
    """Arrow takes types for equal whose lists name their items otherwise."""
    table = pq.read_table(made(tmp_path / "s.parquet"))
    text = pq.ParquetFile(tmp_path / "s.parquet").metadata.metadata[METADATA_KEY]
    for name in ("one", "another"):
        type_ = pa.list_(pa.field(name, pa.int32(), metadata={"of": name}))
        column = pa.array([[1, 2]] * ROWS).cast(type_)
        path = tmp_path / f"{name}.parquet"
        table_with = table.append_column("more", column)
        edited(path, table_with, text, use_compliant_nested_type=False)
        with dgrec.open(path) as session:
            item = session.schema.field("more").type.value_field
            assert (item.name, item.metadata[b"of"]) == (name, name.encode())


@pytest.mark.slow
def test_a_damaged_session_of_a_folder_is_left_out(tmp_path: Path) -> None:
    for name in "abc":
        made(tmp_path / f"{name}.parquet")
    bad = flipped(tmp_path / "b.parquet", "latency_ms", 0)
    lines: list[str] = []
    sessions = open_sessions([tmp_path])
    with SqlReader(sessions, left_out=lines.append) as reader:
        by_name = "SELECT name, count(*) AS n FROM frames JOIN sessions USING (session_id) GROUP BY"
        assert {row["name"] for row in reader.rows(f"{by_name} name")} == {"a", "b", "c"}
        assert lines == []
        (row,) = reader.rows("SELECT count(latency_ms) AS n, sum(latency_ms) AS ms FROM frames")
        assert row["n"] == 2 * ROWS
        (line,) = lines
        assert line.startswith(f"{bad}: damaged")
        assert line.endswith("; left out")
        assert {row["name"] for row in reader.rows(f"{by_name} name")} == {"a", "c"}
    with SqlReader(sessions) as reader, pytest.raises(dgrec.DamagedSessionError):
        reader.rows("SELECT sum(latency_ms) AS ms FROM frames")
    for session in sessions:
        session.close()
    with pytest.warns(UserWarning, match=r"b\.parquet: damaged.*left out") as caught:
        connection = dgrec.connect(tmp_path)
    assert caught[0].filename == __file__
    assert connection.sql("SELECT count(*) FROM frames").fetchall() == [(2 * ROWS,)]
    connection.close()


@pytest.mark.slow
def test_a_damaged_part_is_named_when_it_is_read(tmp_path: Path) -> None:
    output = write_set(tmp_path)
    bad = flipped(tmp_path / "s-0003.parquet", "latency_ms", 0)
    with dgrec.open(output) as session:
        first = session.parts[2].first_frame
        assert session.row(first - 1)["frame"] == first - 1
        with pytest.raises(dgrec.DamagedSessionError, match=f"{bad}: damaged"):
            session.row(first)
        with pytest.raises(dgrec.DamagedSessionError, match=f"{bad}: damaged"):
            session.sql("SELECT sum(latency_ms) FROM frames")
    bad.unlink()
    with dgrec.open(output) as session:
        assert session.damage
        assert session.sql("SELECT sum(latency_ms) FROM frames").fetchall()


@pytest.mark.parametrize("command", ["query", "stats"])
def test_commands_say_so(tmp_path: Path, command: str) -> None:
    from dgrec.cli import gather

    path = flipped(made(tmp_path / "s.parquet"), "latency_ms", 1)
    arguments = [command, str(path)]
    if command == "query":
        arguments.append("SELECT max(latency_ms) FROM frames")
    outcome = CliRunner().invoke(gather(), arguments)
    assert outcome.exit_code == 1
    assert outcome.stdout == ""
    assert "damaged" in outcome.stderr


def test_alerts_of_other_sessions_are_found(tmp_path: Path) -> None:
    from dgrec.cli import gather

    bad = flipped(made(tmp_path / "a.parquet"), "detections.list.element.label", 1)
    arguments = ["alerts", str(bad), "--alert", "any=count() > 0", "--format", "json"]
    outcome = CliRunner().invoke(gather(), arguments)
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(f"Error: {bad}: damaged")
    outcome = CliRunner().invoke(gather(), [*arguments, str(made(tmp_path / "b.parquet"))])
    assert outcome.exit_code == 0
    assert outcome.stderr.startswith(f"{bad}: damaged")
    assert outcome.stderr.endswith("; left out\n")
    (found,) = json.loads(outcome.stdout)["sessions"]
    assert found["path"] == str(tmp_path / "b.parquet")
    assert found["alerts"]
