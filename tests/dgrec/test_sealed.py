"""Sealed files: open Parquet, whole or not there, and damage never goes unseen."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dgrec.errors import (
    DamagedSessionError,
    DgrecError,
    FormatVersionError,
    NotASessionError,
    OutputError,
)
from dgrec.format import (
    AT_START,
    LOSSES,
    SCHEMA,
    Journal,
    SealedFile,
    parquet,
    seal,
    verify_checksums,
)
from dgrec.format import (
    journal as journal_module,
)
from dgrec.format.schema import FORMAT_VERSION
from dgrec.session import open_session
from tests.dgrec.damage import read_all, wrong_rows
from tests.factory import (
    make_detection,
    make_row,
    make_rows,
    new_metadata,
    smooth_boxes,
    write_journal,
    write_session,
)

ROWS = [make_row(i, results) for i, results in enumerate(smooth_boxes(40, 3))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_session(tmp_path_factory.mktemp("sealed") / "whole.parquet", ROWS)


@pytest.fixture(scope="module")
def expected(whole: Path) -> list[dict[str, Any]]:
    rows, damage = read_all(whole)
    assert (len(rows), damage) == (40, [])
    return rows


# --- what it is --------------------------------------------------------------------------------


def test_it_holds_what_the_journal_held(tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "a.arrows", ROWS)
    metadata = seal(Journal.open(journal), tmp_path / "a.parquet")
    assert journal.exists()
    one, other = open_session(journal), open_session(tmp_path / "a.parquet")
    assert [f.row for f in one] == [f.row for f in other]
    assert other.metadata == metadata
    losses = dict.fromkeys([*LOSSES, *AT_START], 0)
    assert metadata["totals"] == {**losses, "frames": 40, "detections": 120}
    assert metadata["end_reason"] == "finished"
    assert other.has_checksums
    assert metadata["session_id"] == one.id


def test_plain_pyarrow_reads_it(whole: Path, expected: list[dict[str, Any]]) -> None:
    table = pq.read_table(whole)
    assert table.schema.remove_metadata().equals(SCHEMA)
    assert table.to_pylist() == expected
    stored = pq.read_metadata(whole).metadata
    assert json.loads(stored[b"dgrec"])["name"] == "test"


def test_duckdb_reads_it(whole: Path) -> None:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    rows = con.execute(
        "SELECT count(*), count(DISTINCT d.label), max(frame) "
        f"FROM '{whole}' f, unnest(f.detections) u(d)"
    ).fetchall()
    assert rows == [(120, 3, 39)]
    (text,) = con.execute(
        f"SELECT value FROM parquet_kv_metadata('{whole}') WHERE key = 'dgrec'"
    ).fetchone()
    assert json.loads(text)["totals"]["detections"] == 120
    timing = con.execute(f"SELECT timing['CoreInferenceDuration_ms'] FROM '{whole}'").fetchone()
    assert timing == (7.5,)


def test_encodings(whole: Path) -> None:
    group = pq.read_metadata(whole).row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    for path, column in columns.items():
        encodings = set(column.encodings)
        if column.physical_type == "DOUBLE":
            assert "BYTE_STREAM_SPLIT" in encodings, path
            assert "RLE_DICTIONARY" not in encodings, path
            # Bounds leave NaN out, and DuckDB would then find none.
            assert not column.is_stats_set, path
        if path in ("frame", "source_frame", "video_frame", "captured_at", "completed_at"):
            assert "DELTA_BINARY_PACKED" in encodings, path
        assert column.has_column_index == (column.physical_type != "DOUBLE"), path
        assert column.has_offset_index, path
    assert "RLE_DICTIONARY" in columns["detections.list.element.label"].encodings
    (order,) = group.sorting_columns
    assert (order.column_index, order.descending) == (0, False)
    assert columns["frame"].statistics.max == 39


@pytest.mark.slow
def test_float64_costs_little(tmp_path: Path) -> None:
    """Lossless at up to 18 bytes a detection, although scores are noise."""
    rows = [make_row(i, results, timing={}) for i, results in enumerate(smooth_boxes(2000, 10))]
    path = write_session(tmp_path / "a.parquet", rows, batch=100)
    assert path.stat().st_size / 20_000 < 18


# --- sealing -----------------------------------------------------------------------------------


def test_an_existing_file_is_not_replaced(tmp_path: Path) -> None:
    journal = Journal.open(write_journal(tmp_path / "a.arrows", ROWS))
    path = tmp_path / "a.parquet"
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        seal(journal, path)
    assert path.read_text() == "precious"
    seal(journal, path, replace=True)
    assert len(open_session(path)) == 40


def test_a_recovered_journal_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.arrows"
    write_journal(path, ROWS, end=False)
    path.write_bytes(path.read_bytes()[:-100])
    metadata = seal(Journal.open(path), tmp_path / "a.parquet")
    assert metadata["end_reason"] == "recovered"
    assert metadata["totals"]["frames"] == 30
    assert "damaged" in metadata["damage"][0]
    assert open_session(tmp_path / "a.parquet").damage == metadata["damage"]


FAILING_SEAL = """
import pathlib, resource, signal, sys
from dgrec.format import Journal
from dgrec.format import AT_START, LOSSES
from dgrec.format import seal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
folder = pathlib.Path(sys.argv[1])
seal(Journal.open(folder / "a.arrows"), folder / "a.parquet", replace=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 0.01, 0.3, 0.6, 0.9, 0.99])
def test_a_seal_that_fails_leaves_everything_as_it_was(
    whole: Path, tmp_path: Path, part: float
) -> None:
    """The disk is full at several places: in a page, in the footer, in the checksums."""
    limit = int(whole.stat().st_size * part)
    write_journal(tmp_path / "a.arrows", ROWS)
    (tmp_path / "a.parquet").write_text("precious")
    command = [sys.executable, "-c", FAILING_SEAL, str(tmp_path), str(limit)]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "StorageError" in failed.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.arrows", "a.parquet"]
    assert (tmp_path / "a.parquet").read_text() == "precious"
    assert len(open_session(tmp_path / "a.arrows")) == 40


def test_rows_that_fail_while_sealing_leave_no_file(tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield from Journal.open(write_journal(tmp_path / "a.arrows", ROWS)).batches()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parquet.write_sealed(tmp_path / "a.parquet", SCHEMA, batches(), dict)
    assert [p.name for p in tmp_path.iterdir()] == ["a.arrows"]


def test_row_groups_are_cut_by_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_ROW_GROUP_FRAMES", 16)
    path = write_session(tmp_path / "a.parquet", ROWS, batch=7)
    assert SealedFile(path).group_starts() == [0, 16, 32, 40]
    session = open_session(path)
    assert [session.result(i).frame for i in (0, 15, 16, 31, 32, 39)] == [0, 15, 16, 31, 32, 39]


def test_row_groups_are_cut_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks are megabytes a second: a group of 16,384 frames would not fit into memory."""
    monkeypatch.setattr(parquet, "_ROW_GROUP_BYTES", 100_000)
    monkeypatch.setattr(journal_module, "_TOGETHER_BYTES", 100_000)
    rng = np.random.default_rng(0)
    data = rng.random((100, 100)).astype(np.float32)
    results = [make_detection(mask={"x_min": 0, "y_min": 0, "data": data})]
    path = write_session(tmp_path / "a.parquet", [make_row(i, results) for i in range(20)], batch=2)
    starts = SealedFile(path).group_starts()
    assert len(starts) > 5
    assert starts[-1] == 20
    assert len(list(open_session(path))) == 20


def test_no_rows(tmp_path: Path) -> None:
    path = write_session(tmp_path / "a.parquet", [])
    session = open_session(path)
    assert (len(session), session.metadata["totals"]["frames"]) == (0, 0)
    assert pq.read_table(path).num_rows == 0


MEMORY = """
import pathlib, resource, sys
from dgrec.format import Journal, JournalWriter
from dgrec.format import AT_START, LOSSES
from dgrec.format import seal
from dgrec.session import open_session
from tests.factory import CLOSING, make_rows, new_metadata
path, frames = pathlib.Path(sys.argv[1]), int(sys.argv[2])
from tests.factory import make_row, smooth_boxes
results = smooth_boxes(100, 20)
writer = JournalWriter(path, new_metadata(), durability="never")
for start in range(0, frames, 100):
    writer.write([make_row(start + i, r) for i, r in enumerate(results)])
writer.end(CLOSING)
writer.close()
seal(Journal.open(path), path.with_suffix(".parquet"))
for batch in open_session(path.with_suffix(".parquet")).batches():
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    """Past the size of one row group, that is: 32 MB, which is 9,000 frames of 20 boxes."""

    def peak(frames: int) -> int:
        path = tmp_path / f"{frames}.arrows"
        command = [sys.executable, "-c", MEMORY, str(path), str(frames)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return int(output) // 1024

    short, long = peak(10_000), peak(100_000)
    assert long < 1.6 * short, f"{short} MB for 1x, {long} MB for 10x"


# --- damage ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_bit_flips_are_reported_or_harmless(
    whole: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    data = whole.read_bytes()
    rng = random.Random(11)
    places = [rng.randrange(len(data)) for _ in range(500)]
    tail = range(len(data) - 200, len(data))  # the checksum block's end, the footer's length
    path = tmp_path / "flip.parquet"
    for at in (*places, *tail):
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        rows, damage = read_all(path)
        assert wrong_rows(rows, expected) == []
        assert damage or len(rows) == 40, f"byte {at}"


def test_every_flip_before_the_checksums_is_reported(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    end = data.rindex(b"DGRCSUM1")
    rng = random.Random(12)
    path = tmp_path / "flip.parquet"
    for _ in range(500):
        changed = bytearray(data)
        changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(DgrecError):
            verify_checksums(path)


def test_the_message_names_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgrec.format.checksums._BLOCK", 4096)
    path = write_session(tmp_path / "a.parquet", ROWS)
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedSessionError, match=r"first at byte 4,096; restore the file"):
        open_session(path)
    monkeypatch.setattr("dgrec.format.parquet._LITTLE_BYTES", 0)
    with (
        open_session(path) as session,
        pytest.raises(DamagedSessionError, match=r"first at byte 4,096; restore the file"),
    ):
        list(session.batches())


def test_truncated_at_many_places(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    path = tmp_path / "cut.parquet"
    for size in (*range(0, len(data), 97), *range(len(data) - 60, len(data))):
        path.write_bytes(data[:size])
        with pytest.raises((DamagedSessionError, NotASessionError)) as caught:
            open_session(path)
        assert "\n" not in str(caught.value)
        if size >= 12:
            assert isinstance(caught.value, DamagedSessionError)


def test_appended_bytes_are_reported(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.parquet"
    path.write_bytes(whole.read_bytes() + b"more")
    with pytest.raises(DamagedSessionError):
        open_session(path)


def test_a_file_that_another_tool_rewrote(
    whole: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    """It lost its checksums, not its rows."""
    path = tmp_path / "rewritten.parquet"
    stored = pq.read_metadata(whole).metadata
    table = pq.read_table(whole).replace_schema_metadata({"dgrec": stored[b"dgrec"], "note": "x"})
    pq.write_table(table.append_column("mine", pa.array(range(40))), path)
    session = open_session(path)
    assert not session.has_checksums
    rows = [dict(frame.row) for frame in session]
    assert [row.pop("mine") for row in rows] == list(range(40))
    assert rows == expected
    assert session.result(3).results == ROWS[3].results


@pytest.mark.slow
def test_damage_inside_a_file_without_checksums(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "rewritten.parquet"
    stored = pq.read_metadata(whole).metadata
    table = pq.read_table(whole).replace_schema_metadata({"dgrec": stored[b"dgrec"]})
    pq.write_table(table, path)
    data = path.read_bytes()
    rng = random.Random(13)
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(20):
            changed[rng.randrange(4, len(data))] ^= 0xFF
        path.write_bytes(changed)
        read_all(path)  # any error but dgrec's own would come through


# --- what it is not ----------------------------------------------------------------------------


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    newer = new_metadata(format={"name": "dgrec", "version": FORMAT_VERSION + 1})
    path = tmp_path / "a.parquet"
    table = pa.Table.from_pylist([], schema=SCHEMA)
    pq.write_table(table.replace_schema_metadata({"dgrec": json.dumps(newer)}), path)
    with pytest.raises(FormatVersionError, match=f"{FORMAT_VERSION + 1}.*up to {FORMAT_VERSION}"):
        open_session(path)


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        (None, NotASessionError),
        ({}, NotASessionError),
        ({"dgrec": "{"}, DamagedSessionError),
        ({"dgrec": "[]"}, NotASessionError),
        ({"dgrec": "{}"}, NotASessionError),
        ({"dgrec": '{"format": {"name": "other", "version": 1}}'}, NotASessionError),
        ({"dgrec": '{"format": {"name": "dgrec"}}'}, FormatVersionError),
        ({"dgrec": '{"format": {"name": "dgrec", "version": 1}}'}, NotASessionError),
    ],
    ids=repr,
)
def test_parquet_that_is_no_session(
    metadata: dict[str, str] | None, error: type[Exception], tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [1]}).replace_schema_metadata(metadata), path)
    with pytest.raises(error, match=r"a\.parquet"):
        open_session(path)


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1PAR1", b"text, and more of it", b"\0" * 99]
)
def test_what_is_no_parquet(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises((NotASessionError, DamagedSessionError)):
        open_session(path)


def test_journals_and_sealed_files_are_told_apart_by_content(tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "a.arrows", make_rows(3))
    moved = journal.rename(tmp_path / "a.parquet")
    session = open_session(moved)
    assert (session.sealed, len(session)) == (False, 3)
