"""``dgrec record --split-every`` as a process: killed in the middle, overwriting, refusing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import dgrec
from dgrec.errors import NotASessionError
from dgrec.recorder.cli import record_command
from dgrec.recorder.recovery import left_behind, recover
from dgrec.replay.verify import verify
from dgrec.session import Session
from tests.factory import make_rows, write_session
from tests.recorder.command import Command, error_of, names
from tests.waiting import PATIENCE_S, wait_until

SAMPLE = ["--source", "sample", "--loop"]


def wait_for(folder: Path, pattern: str, count: int) -> None:
    wait_until(lambda: len(list(folder.glob(pattern))) >= count)


@pytest.mark.slow
def test_killed_in_the_middle(tmp_path: Path) -> None:
    command = Command(tmp_path)
    output = tmp_path / "s.parquet"
    process = command.start(*SAMPLE, "--split-every", "1s", "--output", "s.parquet", "--quiet")
    try:
        wait_for(tmp_path, "s-*.parquet", 3)
        # All that reads takes the set while it is being recorded.
        with Session(output) as session:
            assert len(session.parts) >= 3
            assert session.damage == []
            assert [result.frame for result in session] == list(range(len(session)))
            assert session.sql("SELECT count(*) FROM frames").fetchall() == [(len(session),)]
        assert verify(output) == []
        assert left_behind(tmp_path) == []
        wait_for(tmp_path, "s-*.parquet", 5)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE_S)

    journals = left_behind(tmp_path)
    assert journals, "the part that was being written"
    sealed = sorted(tmp_path.glob("s-*.parquet"))
    assert len(sealed) >= 5
    for path in sealed:
        assert verify(path) == []
    with dgrec.open(output) as session:
        assert session.damage == []
        frames = session.frames
        assert frames.column("frame").to_pylist() == list(range(len(session)))
        assert frames.column("source_frame").to_pylist() == list(range(len(session)))
        before = len(session)
        assert session.metadata["end_reason"] is None
    problems = verify(output)
    assert problems
    assert all("its recorder was cut off (dgrec recover" in line for line in problems)

    with pytest.raises(NotASessionError, match=f"in parts; its journal is {journals[-1]}"):
        recover(output)
    with pytest.raises(NotASessionError, match="is not a journal"):
        recover(sealed[0])
    for journal in journals:
        assert recover(journal).damage == ()
    assert verify(output) == []
    with dgrec.open(output) as session:
        assert session.sealed
        assert len(session) == before
        assert session.metadata["end_reason"] == "recovered"


@pytest.mark.slow
def test_what_is_said_and_left(tmp_path: Path) -> None:
    command = Command(tmp_path)
    # An older recording in parts: one of another length, so that it cannot be taken for the new.
    done = command.record(
        *SAMPLE, "--max-frames", "12", "--split-every", "1s", "--output", "s.parquet"
    )
    assert done.returncode == 0, done.stderr
    with dgrec.open(tmp_path / "s") as session:
        assert len(session) == 12
        old_id, old_parts = session.id, [part.path for part in session.parts]
    last = old_parts[-1].name
    if len(old_parts) > 1:
        expected = f"Session: s.parquet ({len(old_parts)} parts: s-0001.parquet to {last}, "
    else:
        expected = "Session: s.parquet (1 part: s-0001.parquet, "
    assert expected in done.stderr
    assert "Replay it with: dgrec replay s.parquet" in done.stderr

    refused = command.record(*SAMPLE, "--max-frames", "2", "--output", "s.parquet")
    assert error_of(refused) == (
        "s-0001.parquet: is a part of an older recording; choose another name or say --overwrite"
    )
    assert names(tmp_path) == [path.name for path in old_parts]

    options = ["--max-frames", "8", "--split-size", "1MB", "--keep-total", "1GB", "--overwrite"]
    done = command.record(*SAMPLE, *options, "--output", "s.parquet")
    assert done.returncode == 0, done.stderr
    assert names(tmp_path) == ["s-0001.parquet"]
    with dgrec.open(tmp_path / "s") as session:
        assert len(session) == 8
        assert session.id != old_id
        recorded = session.metadata["options"]
        assert recorded["split_size"] == 1_000_000
        assert recorded["keep_total"] == 1_000_000_000


def usage_of(*arguments: str) -> Result:
    return CliRunner().invoke(record_command, ["--source", "sample", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split-every", "ten"], "'ten' is not a valid time; expected 90s, 10m, 1h30m"),
        (["--split-every", "10MB"], "is not a valid time"),
        (["--split-size", "512"], "'512' is not a valid size; expected 512MB or 20GB"),
        (["--split-size", "10m"], "is not a valid size"),
        (["--split-size", "100kB"], "'100kB' is too little; 1MB is the least"),
        (["--split-every", "0.5s"], "'0.5s' is too little; 1s is the least"),
        (["--keep-last", "24h"], "say --split-every or --split-size, too"),
        (["--keep-total", "20GB"], "say --split-every or --split-size, too"),
        (["--split-every", "1h", "--keep-last", "soon"], "'soon' is not a valid time"),
    ],
)
def test_usage(arguments: list[str], message: str) -> None:
    done = usage_of(*arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


@pytest.mark.slow
def test_a_session_that_is_no_part_is_in_the_way(tmp_path: Path) -> None:
    write_session(tmp_path / "s-0003.parquet", make_rows(3))
    done = Command(tmp_path).record(
        *SAMPLE, "--max-frames", "2", "--split-every", "1s", "--output", "s.parquet", "--overwrite"
    )
    assert error_of(done) == (
        "s-0003.parquet: is named like a part, but is not one; choose another name"
    )
    assert names(tmp_path) == ["s-0003.parquet"]
