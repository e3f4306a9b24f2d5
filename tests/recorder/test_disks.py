"""Disks that are really full, or really read-only, under the real command."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable

import pytest

from dgrec.format import verify_checksums
from dgrec.session import open_session
from tests.factory import make_row, make_rows, smooth_boxes, write_journal, write_session
from tests.recorder.command import Command
from tests.recorder.disks import Disk
from tests.waiting import PATIENCE_S


def run(command: Command, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dgrec", *arguments],
        cwd=command.folder,
        env=command.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_disk_that_fills_up_while_recording(
    dgrec: Command, new_disk: Callable[[int], Disk]
) -> None:
    disk = new_disk(200_000)
    # Frame by frame: half a second of a fast machine might not fit at all.
    arguments = ["--source", "sample", "--loop", "--durability", "frame"]
    done = dgrec.record(*arguments, "--output", "disk/s.parquet")
    assert done.returncode == 4, done.stderr
    error = last_line(done)
    assert error.startswith("Error: disk/s.arrows: cannot be written: No space left on device; the")
    assert error.endswith("frames written before are in disk/s.arrows")
    assert [path.name for path in disk.path.iterdir()] == ["s.arrows"]
    with open_session(disk.path / "s.arrows") as session:
        assert f" {len(session):,} frames written before" in error
        assert len(session) > 5
        assert session.damage == []
        assert [result.frame for result in session] == list(range(len(session)))

    # Room is made on another disk: all of it can be kept.
    done = run(dgrec, "recover", "disk/s.arrows", "--output", "s.parquet")
    assert done.returncode == 0, done.stderr
    assert verify_checksums(dgrec.folder / "s.parquet")


@pytest.mark.slow
def test_min_free_seals_while_there_is_room(
    dgrec: Command, new_disk: Callable[[int], Disk]
) -> None:
    disk = new_disk(1_000_000)
    arguments = ["--source", "sample", "--loop", "--output", "disk/s.parquet"]
    done = dgrec.record(*arguments, "--min-free", "950KB")
    assert done.returncode == 5, done.stderr
    assert last_line(done) == (
        "Ended early: sealing it leaves hardly more than 950.0 KB free (--min-free)."
    )
    assert [path.name for path in disk.path.iterdir()] == ["s.parquet"]
    with open_session(disk.path / "s.parquet") as session:
        assert session.metadata["end_reason"] == "disk_full"
        assert len(session) > 10
        assert session.damage == []
    again = [*arguments[:-1], "disk/t.parquet", "--min-free", "1GB"]
    done = dgrec.record(*again)
    assert done.returncode == 4
    assert "free, less than --min-free 1.0 GB" in last_line(done)
    assert [path.name for path in disk.path.iterdir()] == ["s.parquet"]


def fill(disk: Disk, leave: int) -> None:
    """Fill the disk up to ``leave`` bytes, in the pages that a file system counts in."""
    with contextlib.suppress(OSError), (disk.path / "full").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with (disk.path / "full").open("r+b") as file:
        file.truncate(max(0, (disk.path / "full").stat().st_size - leave))


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 4096, 12_288, 24_576])
def test_recovering_on_a_full_disk_leaves_everything(
    dgrec: Command, new_disk: Callable[[int], Disk], left: int
) -> None:
    disk = new_disk(1_000_000)
    rows = [make_row(i, found) for i, found in enumerate(smooth_boxes(100, 8))]
    journal = write_journal(disk.path / "s.arrows", rows, end=False)
    fill(disk, left)
    before = journal.read_bytes()
    done = run(dgrec, "recover", "disk/s.arrows")
    assert done.returncode == 4, done.stderr
    assert last_line(done) == "Error: disk/s.parquet: cannot be written: No space left on device"
    assert {path.name for path in disk.path.iterdir()} == {"s.arrows", "full"}
    assert journal.read_bytes() == before


@pytest.mark.slow
def test_recovering_on_a_read_only_disk_leaves_everything(
    dgrec: Command, new_disk: Callable[[int], Disk]
) -> None:
    disk = new_disk(1_000_000)
    journal = write_journal(disk.path / "s.arrows", make_rows(20), end=False)
    before = journal.read_bytes()
    disk.make_read_only()
    done = run(dgrec, "recover", "disk/s.arrows")
    assert done.returncode == 4, done.stderr
    assert last_line(done).endswith("cannot be written: Read-only file system")
    assert [path.name for path in disk.path.iterdir()] == ["s.arrows"]
    assert journal.read_bytes() == before


#: What writes a file, the file left out.
WRITERS = [
    ["record", "--source", "sample", "-o", "disk/t.parquet"],
    ["query", "s.parquet", "SELECT * FROM frames", "-o", "disk/t.parquet"],
    ["replay", "s.parquet", "-o", "disk/t.mp4"],
    ["replay", "s.parquet", "-o", "disk/frames/"],
    ["clip", "s.parquet", "-o", "disk/t.parquet"],
]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", WRITERS, ids=lambda a: f"{a[0]}-{a[-1][5:]}")
@pytest.mark.parametrize("state", ["full", "read-only"])
def test_exit_code_4_means_the_disk(
    dgrec: Command, new_disk: Callable[[int], Disk], arguments: list[str], state: str
) -> None:
    """Whoever writes: a service that sees it has to see to the disk, not to the command."""
    write_session(dgrec.folder / "s.parquet", make_rows(50))
    disk = new_disk(100_000)
    if state == "full":
        fill(disk, 0)
    else:
        disk.make_read_only()
    before = sorted(disk.path.iterdir())
    done = run(dgrec, *arguments)
    assert done.returncode == 4, done.stderr
    reason = "No space left on device" if state == "full" else "Read-only file system"
    assert f"cannot be written: {reason}" in last_line(done)
    assert sorted(disk.path.iterdir()) == before


@pytest.mark.slow
def test_a_full_disk_below_pysdks_own_folder(
    dgrec: Command, new_disk: Callable[[int], Disk]
) -> None:
    disk = new_disk(200_000)
    disk.take_no_more_files()
    done = dgrec.record("--source", "sample", env={"HOME": str(disk.path)})
    assert done.returncode == 4, done.stderr
    folder = f"{disk.path}/.local/share/DeGirum"
    assert last_line(done) == f"Error: {folder}: cannot be written: No space left on device"
