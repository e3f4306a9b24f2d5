"""Exports to a disk that is full, for which a limit of the size of files stands in."""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import dgrec
from dgrec import sample
from dgrec.errors import StorageError
from dgrec.replay.commands.export import export_command
from dgrec.replay.exports import FORMATS
from tests.factory import make_row, make_rows, smooth_boxes, write_session

LARGEST = 30_000


@pytest.fixture
def limit() -> Iterator[None]:
    """Limit the size of files of this process."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def _remove(output: Path) -> None:
    if output.is_dir():
        shutil.rmtree(output)
    else:
        output.unlink()


@pytest.mark.slow
def test_a_full_disk_is_reported_and_nothing_is_left(limit: None, tmp_path: Path) -> None:
    rows = [make_row(i, found) for i, found in enumerate(smooth_boxes(1500, 6))]
    for row in rows:
        for number, each in enumerate(row.results):
            each["track_id"] = number
    path = write_session(tmp_path / "s.parquet", rows)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    tried = 0
    with dgrec.open(path) as session:
        for name in FORMATS.load():
            if name.startswith("yolo"):
                continue  # each of its files is small
            session.export(tmp_path / "warm", name, end="2")  # what is imported may be compiled
            _remove(tmp_path / "warm")
            resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, hard))
            with pytest.raises(StorageError) as error:
                session.export(tmp_path / name, name)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            assert "cannot be written" in str(error.value), name
            assert [each.name for each in tmp_path.iterdir()] == ["s.parquet"], name
            tried += 1
    assert tried >= 12


@pytest.mark.slow
def test_a_disk_that_is_full_when_mcap_ends_is_reported(limit: None, tmp_path: Path) -> None:
    """Foxglove's writer seeks back at the end of a chunk, and panics at another position."""
    rows = [make_row(i, found) for i, found in enumerate(smooth_boxes(100, 6))]
    path = write_session(tmp_path / "s.parquet", rows)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with dgrec.open(path) as session:
        session.export(tmp_path / "warm.mcap", images="none")
        size = (tmp_path / "warm.mcap").stat().st_size
        for part in (size // 4, size // 2, size - 10):
            resource.setrlimit(resource.RLIMIT_FSIZE, (part, hard))
            with pytest.raises(StorageError, match="cannot be written"):
                session.export(tmp_path / "full.mcap", images="none")
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            assert not (tmp_path / "full.mcap").exists()


@pytest.mark.slow
def test_rerun_does_not_wait_for_a_file_that_cannot_grow(limit: None, tmp_path: Path) -> None:
    """Its flush never returned where the error came while it waited, as behind a large video."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with dgrec.open(sample.SESSION) as session:
        session.export(tmp_path / "warm.rrd", end="2", images="none")
        (tmp_path / "warm.rrd").unlink()
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        with pytest.raises(StorageError, match="cannot be written: File too large"):
            session.export(tmp_path / "full.rrd")
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert list(tmp_path.iterdir()) == []


def test_the_exit_code_of_several_exports_says_that_the_disk_is_full(
    limit: None, tmp_path: Path
) -> None:
    sessions = [write_session(tmp_path / f"{name}.parquet", make_rows(9)) for name in "ab"]
    arguments = [*map(str, sessions), "-o", str(tmp_path / "out"), "--format", "csv"]
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    done = CliRunner().invoke(export_command, arguments)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert done.exit_code == StorageError.exit_code, done.output
    *each, last = done.stderr.splitlines()
    assert [line.endswith("; left out") for line in each] == [True, True]
    assert last == "Error: 2 of 2 sessions could not be exported"
