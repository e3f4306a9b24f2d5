"""``dgrec verify``: whatever is wrong with a session is said, and told by the exit code."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from dgrec.cli import gather
from dgrec.format import Journal, write_sealed
from tests.factory import (
    CAMERA,
    CLOSING,
    START_NS,
    make_row,
    make_rows,
    smooth_boxes,
    write_journal,
    write_session,
)
from tests.replay.clips import file_source, numbered_metadata, numbered_row, write_clip


def verify(*paths: Path) -> Result:
    return CliRunner().invoke(gather(), ["verify", *map(str, paths)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [make_row(i, results) for i, results in enumerate(smooth_boxes(40, 3))]
    return write_session(tmp_path_factory.mktemp("verify") / "whole.parquet", rows)


def test_a_whole_session(whole: Path) -> None:
    done = verify(whole)
    assert (done.exit_code, done.output) == (0, f"{whole}: whole\n")


def test_one_of_several_is_damaged(whole: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(whole.read_bytes()[:-9])
    copy = shutil.copy(whole, tmp_path / "copy.parquet")
    done = verify(whole, bad, copy)
    assert done.exit_code == 1
    assert done.output.count(": whole") == 2
    assert f"{bad}: 1 problem\n" in done.output


@pytest.mark.slow
def test_a_flipped_bit_anywhere(whole: Path, tmp_path: Path) -> None:
    """In the magic, pages, page headers, indexes, checksums, footer and its length alike."""
    data = whole.read_bytes()
    path = tmp_path / "flipped.parquet"
    rng = random.Random(5)
    footer = int.from_bytes(data[-8:-4], "little") + 8
    places = {
        *range(8),
        *range(len(data) - 40, len(data)),
        *range(len(data) - footer - 40, len(data) - footer + 8),
        *(rng.randrange(len(data)) for _ in range(300)),
    }
    for at in sorted(places):
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        done = verify(path)
        assert done.exit_code == 1, f"byte {at} of {len(data)}: {done.output}"
        assert done.exception is None or isinstance(done.exception, SystemExit), at
        assert re.search(r"problems?\n  ", done.output)


def rewritten(path: Path, change: Any) -> Path:
    """Return a session, with valid checksums, whose (table, metadata) went through ``change``."""
    journal = write_journal(path.with_suffix(".arrows"), make_rows(12), batch=12)
    opened = Journal.open(journal)
    table = pa.Table.from_batches(opened.batches())
    metadata = {**opened.metadata, **(opened.closing or {})}
    table, metadata = change(table, metadata)
    write_sealed(path, table.schema, table.to_batches(), lambda _: metadata)
    # Sealing counts for itself: what the metadata says is put in afterwards.
    stored = pq.read_metadata(path).metadata[b"dgrec"].decode()
    said = {**json.loads(stored), "totals": metadata["totals"]}
    with path.open("r+b") as file:
        data = file.read()
        old, new = stored.encode(), json.dumps(said, separators=(",", ":")).encode()
        assert data.count(old) == 1
        assert len(new) <= len(old)
        file.seek(data.index(old))
        file.write(new.ljust(len(old)))
        restore_checksums(file)
    return path


def restore_checksums(file: Any) -> None:
    """Make the checksum block of a changed file right again."""
    import struct
    import zlib

    file.seek(0)
    data = bytearray(file.read())
    footer = len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]
    (count,) = struct.unpack_from("<I", data, footer - 16)
    body = footer - 12 - 4 * (count + 2)
    struct.pack_into("<I", data, footer - 20, zlib.crc32(data[footer:]))
    block = bytes(data[body : footer - 12])
    struct.pack_into("<I", data, footer - 12, zlib.crc32(block))
    file.seek(0)
    file.write(data)


def with_column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    index = table.schema.get_field_index(name)
    field = table.schema.field(name)
    return table.set_column(index, field, pa.array(values, field.type))


def swap(name: str, row: int, value: int) -> Any:
    def change(table: pa.Table, metadata: dict[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
        values = table[name].cast(pa.int64()).to_pylist()
        values[row] = values[value] if name.endswith("_at") else value
        metadata["totals"] = {"frames": 12, "detections": 12}
        return with_column(table, name, values), metadata

    return change


def totals(**said: int) -> Any:
    return lambda table, metadata: (
        table,
        {**metadata, "totals": {"frames": 12, "detections": 12, **said}},
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (totals(), None),
        (totals(frames=11), "its metadata says 11 frames, but there are 12"),
        (totals(dropped_at_start=3), None),
        (
            lambda table, metadata: totals(dropped_at_start=3)(
                table, {**metadata, "source": CAMERA}
            ),
            "its metadata says 3 dropped while the model started, but there are 0",
        ),
        (totals(detections=13), "its metadata says 13 detections, but there are 12"),
        (swap("frame", 5, 6), "row 5 has the frame number 6"),
        (swap("frame", 11, 99), "row 11 has the frame number 99"),
        (swap("source_frame", 7, 6), "frame 7: source_frame steps back"),
        (swap("captured_at", 7, 2), "frame 7: captured_at steps back"),
        (swap("completed_at", 7, 2), "frame 7: completed_at steps back"),
        (swap("completed_at", 7, 2), "frame 7: was completed before it was captured"),
        (swap("dropped_before", 3, 2), "frame 3: its drops do not add up"),
    ],
    ids=lambda item: str(item) if isinstance(item, str) else "",
)
def test_a_session_that_is_wrong_about_itself(
    tmp_path: Path, change: Any, problem: str | None
) -> None:
    done = verify(rewritten(tmp_path / "s.parquet", change))
    if problem is None:
        assert done.exit_code == 0, done.output
    else:
        assert done.exit_code == 1
        assert f"  {problem}\n" in done.output


def test_a_session_that_lost_its_checksums(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    stored = pq.read_metadata(whole).metadata
    table = pq.read_table(whole).replace_schema_metadata({"dgrec": stored[b"dgrec"]})
    pq.write_table(table, path)
    done = verify(path)
    assert done.exit_code == 1
    assert "has no checksums of its own" in done.output


@pytest.mark.slow
def test_a_journal(tmp_path: Path) -> None:
    closing = {**CLOSING, "totals": {"frames": 20, "detections": 20}}
    path = write_journal(tmp_path / "s.arrows", make_rows(20), batch=5, closing=closing)
    assert verify(path).exit_code == 0
    data = path.read_bytes()
    for at in random.Random(6).sample(range(len(data)), 60):
        changed = bytearray(data)
        changed[at] ^= 16
        path.write_bytes(changed)
        assert verify(path).exit_code == 1, at


def test_what_is_no_session(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing of the kind\n" * 9)
    for path in (tmp_path / "missing.parquet", tmp_path / "notes.txt"):
        done = verify(path)
        assert done.exit_code == 1
        assert "1 problem\n" in done.output
    done = verify(tmp_path)
    assert done.exit_code == 1
    assert done.output == f"Error: {tmp_path}: is a folder without sessions\n"


def test_parquet_of_other_programs_in_a_folder(whole: Path, tmp_path: Path) -> None:
    shutil.copy(whole, tmp_path / "door.parquet")
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1, 2]}), other)
    done = verify(tmp_path)
    assert done.exit_code == 0
    assert done.stdout == f"{tmp_path / 'door.parquet'}: whole\n"
    assert f"{other}: a Parquet file, but not a dgrec session" in done.stderr
    assert verify(other).exit_code == 1
    info = CliRunner().invoke(gather(), ["info", str(tmp_path), "--json"])
    assert (info.exit_code, len(json.loads(info.stdout))) == (0, 1)
    # What may be a session is still a problem.
    other.write_bytes(other.read_bytes()[:-3])
    assert verify(tmp_path).exit_code == 1


@pytest.mark.slow
def test_video_against_rows(tmp_path: Path) -> None:
    clip = tmp_path / "raw.mp4"
    write_clip(clip, 5)
    source = file_source(clip)
    video = {"file": "raw.mp4", "kind": "raw", "size": source["size"], "sha256": source["sha256"]}

    def session(
        name: str, numbers: list[int | None], late: tuple[int, ...] = (), **known: Any
    ) -> Path:
        rows = []
        for i, number in enumerate(numbers):
            at_ms = 40 * (i if number is None else number) + (1000 if number in late else 0)
            captured = START_NS + at_ms * 1_000_000
            stamps = {"captured_ns": captured, "completed_ns": captured + 1_000_000}
            rows.append(numbered_row(i, i, video_frame=number, **stamps))
        metadata = numbered_metadata({"given": "cam0", "kind": "camera"}, video=[video | known])
        return write_session(tmp_path / name, rows, metadata)

    right = session("right.parquet", [0, 1, None, 2, 3, 4])
    late = session("late.parquet", [0, 1, 2, 3, 4], late=(3, 4))
    assert (
        "its video raw.mp4 shows frame 3 at 0.120000 s instead of 1.120000 s (and 1 more)"
        in verify(late).output
    )
    mixed = session("mixed.parquet", [0, 2, 1, 3, 4])
    past = [0, 1, 3, 7]  # 2 was lost in front of the disk
    assert verify(right).exit_code == 0
    assert verify(session("lost.parquet", past[:3], frames=5)).exit_code == 0
    assert "a row says video frame 1 after 2" in verify(mixed).output
    assert (
        "raw.mp4 has 5 frames, but a row says video frame 7"
        in verify(session("past.parquet", past)).output
    )
    assert verify(session("cut.parquet", past, frames=5, problem="disk full")).exit_code == 0
    assert (
        "raw.mp4 has 5 frames instead of 6" in verify(session("six.parquet", past, frames=6)).output
    )
    with clip.open("ab") as file:
        file.write(b"x")
    assert "is not the one that was recorded" in verify(right).output
    clip.unlink()
    assert "its video raw.mp4 is gone" in verify(right).output
