"""The table of recordings on terminals of any width."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import dgrec
from dgrec.cli import gather
from dgrec.errors import SessionError
from dgrec.format import Journal, JournalWriter, seal
from dgrec.paths import part_path
from dgrec.recorder.recovery import recover
from dgrec.replay import listing
from dgrec.replay.listing import list_session, listed, write_listing
from dgrec.replay.output import Destination
from dgrec.session import discovery
from tests.factory import (
    START_NS,
    edited,
    make_row,
    make_rows,
    new_metadata,
    write_journal,
    write_session,
)


@pytest.mark.parametrize(("name_length", "width"), [(10, 200), (60, 80), (10, 30)])
def test_a_line_for_each_value_has_every_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name_length: int, width: int
) -> None:
    """Long names, such as those of clips of alerts, leave no room for any table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(width))
    path = write_session(Path(f"{'n' * name_length}.parquet"), make_rows(3))
    file = io.BytesIO()
    write_listing([list_session(path)], "table", Destination(file, is_terminal=True))
    text = file.getvalue().decode()
    for name in ("session", "started", "length", "model", "fps", "drops", "size", "state"):
        assert name in text, text


@pytest.mark.parametrize("steps", [(0, 1, 2, -3600, -3599), (0, 1, 7200, 3600, 3601), (0, 1, 2, 3)])
@pytest.mark.parametrize("write", [write_session, write_journal])
def test_the_length_is_that_of_stats(
    write: Callable[..., Path], steps: tuple[int, ...], tmp_path: Path
) -> None:
    """Also where a clock was set back: the last frame was not the latest, then."""
    stamps = [START_NS + step * 10**9 for step in steps]
    rows = [
        make_row(i, captured_ns=at, completed_ns=at + 10_000_000) for i, at in enumerate(stamps)
    ]
    suffix = "arrows" if write is write_journal else "parquet"
    _check_times(write(tmp_path / f"s.{suffix}", rows))


@pytest.mark.parametrize("write", [write_session, write_journal])
def test_frames_may_have_been_captured_before_the_first_one(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    """A program says when its frames were captured, and adds them as they come."""
    rows = make_rows(20)
    rows[7].captured_ns = START_NS - 2 * 10**9
    suffix = "arrows" if write is write_journal else "parquet"
    path = write(tmp_path / f"s.{suffix}", rows)
    _check_times(path)


@pytest.mark.slow
@pytest.mark.parametrize("column", ["captured_at", "completed_at"])
@pytest.mark.parametrize("odd", [None, 253_380_000_000_000_000])
def test_a_row_without_a_stamp_is_no_step(odd: int | None, column: str, tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(20))
    stamps = pq.read_table(path)[column].cast(pa.int64()).to_pylist()
    _check_times(edited(path, {column: [odd, *stamps[1:9], odd, *stamps[10:]]}))


def test_the_times_of_parts_are_those_of_all_of_them(tmp_path: Path) -> None:
    """Rows of a later part may be the earliest; a part may have no rows."""
    rows = make_rows(12)
    rows[8].captured_ns = START_NS - 10**9
    for number, start, end in ((1, 0, 6), (2, 6, 6), (3, 6, 12)):
        part = {"number": number, "set_id": "set", "first_frame": start}
        path = tmp_path / f"s-000{number}.parquet"
        writer = JournalWriter(
            path.with_suffix(".arrows"),
            new_metadata(path.stem, part=part),
            durability="never",
            first_frame=start,
        )
        if start < end:
            writer.write(rows[start:end])
        writer.end({"end_reason": "split"})
        writer.close()
        if number < 3:
            seal(Journal.open(writer.path), path)
            writer.path.unlink()
    _check_times(tmp_path / "s.parquet")


def _check_times(path: Path) -> None:
    with dgrec.open(path) as session:
        found = listed(session)
        ((duration_s, fps),) = session.sql_rows("SELECT duration_s, fps FROM session_throughput")
    assert found.duration_s == pytest.approx(duration_s)
    assert found.fps == pytest.approx(fps)


@pytest.mark.parametrize("command", ["list", "info", "verify"])
def test_a_recording_that_is_sealed_after_it_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    journal = write_journal(tmp_path / "s.arrows", make_rows(3))
    write_session(tmp_path / "other.parquet", make_rows(2))
    real = discovery._gather

    def gather_and_seal(*arguments: Any) -> Any:
        found = real(*arguments)
        recover(journal)
        return found

    monkeypatch.setattr(discovery, "_gather", gather_and_seal)
    done = CliRunner().invoke(gather(), [command, str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    paths = {found.get("path", found.get("file")) for found in json.loads(done.stdout)}
    assert {Path(path).name for path in paths} == {"s.parquet", "other.parquet"}
    assert "not a session" not in done.output


def test_a_recording_whose_oldest_part_is_removed_while_it_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--keep-last` does it: the recording was said to be no session."""
    rows = make_rows(9)
    parts = [part_path(tmp_path / "s.parquet", number) for number in (1, 2, 3)]
    for number, path in enumerate(parts, 1):
        part = {"set_id": "a-set", "number": number, "first_frame": number * 3 - 3}
        write_session(path, rows[number * 3 - 3 :][:3], new_metadata(part=part))
    real = listing._times

    def times(session: dgrec.Session) -> Any:
        parts[0].unlink(missing_ok=True)
        return real(session)

    with dgrec.open(tmp_path / "s") as session:
        monkeypatch.setattr(listing, "_times", times)
        found = list_session(tmp_path / "s.parquet")
        assert (found.state, found.frames, found.problem) == ("2 parts, sealed", 6, None)
        with pytest.raises(
            SessionError, match=r"s-0001\.parquet: no longer exists: it was removed"
        ):
            list(session)
