"""Recordings in parts, read as one session."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.errors import DamagedSessionError, DgrecError, NotASessionError
from dgrec.files import lock
from dgrec.format import AT_START, SCHEMA, Journal, JournalWriter, Row, seal
from dgrec.paths import numbered_files, part_path
from dgrec.session import Session, membership, parts_of
from dgrec.session import parts as parts_module
from tests.dgrec.compare import assert_same
from tests.factory import make_detection, make_row, new_metadata, write_session

ROWS = [make_row(i, [make_detection(k) for k in range(i % 3)]) for i in range(100)]


def write_part(
    output: Path,
    number: int,
    rows: Sequence[Row],
    *,
    first_frame: int = 0,
    set_id: str = "set-1",
    sealed: bool = True,
    end: bool = True,
    **metadata: Any,
) -> Path:
    """Write one part as the recorder does, and return its file."""
    path = part_path(output, number).with_suffix(".arrows")
    part = {"number": number, "set_id": set_id, "first_frame": first_frame}
    writer = JournalWriter(
        path,
        new_metadata(path.stem, part=part, **metadata),
        durability="never",
        first_frame=first_frame,
    )
    for start in range(0, len(rows), 7):
        writer.write(rows[start : start + 7])
    if end:
        totals = {"skipped": 1, "dropped": 0, "clock_drift_ms": number / 2}
        ended_at = f"2026-01-02T03:{number:02}:00Z"
        totals |= {"frames": len(rows), "detections": sum(len(row.results) for row in rows)}
        writer.end({"ended_at": ended_at, "end_reason": "split", "totals": totals})
    writer.close()
    if not sealed:
        return path
    seal(Journal.open(path), path.with_suffix(".parquet"))
    path.unlink()
    return path.with_suffix(".parquet")


def write_set(
    folder: Path, *, size: int = 8, journal: bool = False, name: str = "s.parquet"
) -> Path:
    """Write `ROWS` in parts of ``size`` rows; with ``journal`` the last has lost its writer."""
    output = folder / name
    for number, start in enumerate(range(0, len(ROWS), size), 1):
        is_left = journal and start + size >= len(ROWS)
        rows = ROWS[start : start + size]
        write_part(output, number, rows, first_frame=start, sealed=not is_left, end=not is_left)
    return output


@pytest.fixture(params=["sealed", "journal"])
def parts(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_set(tmp_path, journal=request.param == "journal")


@pytest.fixture
def whole(tmp_path: Path) -> Session:
    """The same rows in one file."""
    (tmp_path / "one").mkdir()
    return dgrec.open(write_session(tmp_path / "one" / "s.parquet", ROWS))


# --- as one session ---


@pytest.mark.slow
def test_rows_are_those_of_one_file(parts: Path, whole: Session) -> None:
    with dgrec.open(parts) as session:
        assert len(session.parts) == 13
        assert len(session) == 100
        assert session.first_frame == 0
        assert session.damage == []
        assert session.schema == whole.schema
        assert session.frames.combine_chunks() == whole.frames.combine_chunks()
        assert session.detections.combine_chunks() == whole.detections.combine_chunks()
        rows = [row for batch in session.batches() for row in batch.to_pylist()]
        assert rows == [row for batch in whole.batches() for row in batch.to_pylist()]
        some = [n for b in session.batches(["frame"]) for n in b.column("frame").to_pylist()]
        assert some == list(range(100))
        assert [result.frame for result in session] == list(range(100))


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 7, 8, 50, 99, -1, -100])
def test_results_are_those_of_one_file(parts: Path, whole: Session, index: int) -> None:
    with dgrec.open(parts) as session:
        assert session.result(index).row == whole.result(index).row
        assert_same(session.result(index).results, whole.result(index).results)


@pytest.mark.slow
def test_results_in_any_order(parts: Path) -> None:
    with dgrec.open(parts) as session:
        for index in (99, 0, 98, 15, 16, 15, 3):
            assert session.result(index).frame == index
        for index in (100, -101):
            with pytest.raises(IndexError):
                session.result(index)


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        "SELECT * EXCLUDE (session_id) FROM frames",
        "SELECT * EXCLUDE (session_id) FROM detections",
        "SELECT count(*), sum(frame), median(latency_ms) FROM frames",
    ],
)
def test_sql_is_that_of_one_file(parts: Path, whole: Session, query: str) -> None:
    with dgrec.open(parts) as session:
        for _ in range(2):  # a journal has to be given anew for each query
            assert session.sql(query).fetchall() == whole.sql(query).fetchall()


@pytest.mark.slow
def test_sql_knows_one_session(parts: Path) -> None:
    with dgrec.open(parts) as session:
        assert session.sql("SELECT DISTINCT session_id FROM frames").fetchall() == [("set-1",)]
        (row,) = session.sql("SELECT session_id, name, bytes FROM sessions").fetchall()
        size = sum(os.path.getsize(path) for _, path in numbered_files(parts))
        assert row == ("set-1", "s", size)


@pytest.mark.slow
def test_metadata_of_the_whole(tmp_path: Path) -> None:
    with dgrec.open(write_set(tmp_path)) as session:
        metadata = session.metadata
        assert session.id == metadata["session_id"] == "set-1"
        assert metadata["name"] == "s"
        assert metadata["model"]["name"] == "tiny_model"
        assert metadata["ended_at"] == "2026-01-02T03:13:00Z"
        assert metadata["totals"] == {
            "frames": 100,
            "detections": 99,
            "skipped": 0,
            "dropped": 0,
            **dict.fromkeys(AT_START, 0),
            "dropped_camera": 0,
            "dropped_queue": 0,
            "dropped_writer": 0,
            "skipped_after": 1,  # the last part's: what came after its last row
            "clock_drift_ms": 6.5,
        }
        assert "part" not in metadata
        assert metadata["parts"][1] == {
            "number": 2,
            "file": "s-0002.parquet",
            "first_frame": 8,
            "frames": 8,
        }
        assert session.sealed
        assert session.has_checksums
        with pytest.raises(DgrecError, match="a recording in parts, not a journal"):
            _ = session.journal


@pytest.mark.slow
def test_metadata_while_the_last_part_is_open(tmp_path: Path) -> None:
    with dgrec.open(write_set(tmp_path, journal=True)) as session:
        assert not session.sealed
        assert session.metadata["ended_at"] is None
        assert session.metadata["end_reason"] is None
        assert "totals" not in session.metadata, "nobody knows them yet"


def test_events_and_videos_of_all_parts(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    for number in (1, 2):
        video = [{"file": f"s-{number:04}.mp4"}]
        write_part(
            output,
            number,
            ROWS[:2],
            first_frame=number * 2 - 2,
            video=video,
            events=[{"n": number}],
        )
    with dgrec.open(output) as session:
        assert session.metadata["events"] == [{"n": 1}, {"n": 2}]
        assert [video["file"] for video in session.metadata["video"]] == [
            "s-0001.mp4",
            "s-0002.mp4",
        ]


@pytest.mark.slow
def test_a_part_alone(tmp_path: Path) -> None:
    output = write_set(tmp_path)
    with dgrec.open(part_path(output, 3)) as session:
        assert session.parts == ()
        assert session.first_frame == 16
        assert session.metadata["part"] == {"number": 3, "set_id": "set-1", "first_frame": 16}
        assert session.frames.column("frame").to_pylist() == list(range(16, 24))
        assert session.result(0).frame == 16
        assert session.damage == []


def test_a_part_alone_as_a_journal_has_lost_nothing(tmp_path: Path) -> None:
    path = write_part(tmp_path / "s.parquet", 3, ROWS[16:24], first_frame=16, sealed=False)
    with dgrec.open(path) as session:
        assert session.damage == []
        assert session.journal.lost_frames == 0
        assert session.frames.column("frame").to_pylist() == list(range(16, 24))


def test_a_part_whose_head_is_gone_has_lost_no_earlier_frames(tmp_path: Path) -> None:
    path = write_part(tmp_path / "s.parquet", 3, ROWS[16:24], first_frame=16, sealed=False)
    data = bytearray(path.read_bytes())
    data[100] ^= 0xFF  # in the schema, and so in the metadata
    path.write_bytes(data)
    with dgrec.open(path) as session:
        assert not any("frames" in line for line in session.damage), session.damage
        assert session.journal.lost_frames == 0
        assert session.frames.column("frame").to_pylist() == list(range(16, 24))


# --- names ---


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s", "s.parquet"])
def test_the_name_without_number_opens_the_set(tmp_path: Path, name: str) -> None:
    write_set(tmp_path)
    with dgrec.open(tmp_path / name) as session:
        assert len(session) == 100
        assert session.path == tmp_path / name


@pytest.mark.slow
def test_a_relative_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path)
    monkeypatch.chdir(tmp_path)
    with dgrec.open("s") as session:
        assert len(session) == 100
        assert session.sql("SELECT count(*) FROM frames").fetchall() == [(100,)]


@pytest.mark.slow
def test_a_file_of_that_name_comes_first(tmp_path: Path) -> None:
    output = write_set(tmp_path)
    write_session(output, ROWS[:3])
    with dgrec.open(output) as session:
        assert len(session) == 3
        assert session.parts == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t.parquet", "s.arrows", "nowhere/s.parquet", "s-9999", ""])
def test_names_that_open_nothing(tmp_path: Path, name: str) -> None:
    write_set(tmp_path)
    with pytest.raises(NotASessionError, match="cannot be read"):
        dgrec.open(tmp_path / name)


def test_part_names() -> None:
    assert part_path(Path("a/s.parquet"), 7) == Path("a/s-0007.parquet")
    assert part_path(Path("a/s"), 12345) == Path("a/s-12345.parquet")
    assert part_path(Path("a/s.front"), 1) == Path("a/s.front-0001.parquet")


def test_files_that_only_look_like_parts(tmp_path: Path) -> None:
    output = write_set(tmp_path, size=50)
    write_session(tmp_path / "s-0003.parquet", ROWS[:3])  # a session of its own
    write_session(tmp_path / "s-030405.parquet", ROWS[:3])  # a time of day
    write_part(tmp_path / "s-t.parquet", 3, ROWS[:3])  # another recording's
    for name in ("s-0004.mp4", "s-004.parquet", "s-0000.parquet", "s-00004.parquet"):
        (tmp_path / name).write_bytes(b"something")
    numbers = [number for number, _ in numbered_files(output)]
    assert numbers == [1, 2, 3]
    assert [path.name for path in parts_of(output)] == ["s-0001.parquet", "s-0002.parquet"]
    with dgrec.open(output) as session:
        assert len(session) == 100
        assert session.damage == []


def test_ten_thousand_parts_stay_in_order(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    for number in (9999, 10000, 998):
        write_part(output, number, ROWS[:1], first_frame=number)
    with dgrec.open(output) as session:
        assert session.frames.column("frame").to_pylist() == [998, 9999, 10000]


# --- parts that are missing, damaged, or of another recording ---


@pytest.mark.slow
def test_the_oldest_parts_may_be_gone(tmp_path: Path) -> None:
    output = write_set(tmp_path)
    part_path(output, 1).unlink()
    part_path(output, 2).unlink()
    with dgrec.open(output) as session:
        assert session.damage == []
        assert session.first_frame == session.result(0).frame == 16
        assert len(session) == 84
        assert session.metadata["totals"]["frames"] == 84


@pytest.mark.slow
def test_a_part_missing_between_two_is_damage(tmp_path: Path) -> None:
    output = write_set(tmp_path)
    for number in (3, 4, 9):
        part_path(output, number).unlink()
    with dgrec.open(output) as session:
        assert session.damage == [
            "parts 3 to 4 are missing: frames 16 to 31 are lost",
            "part 9 is missing: frames 64 to 71 are lost",
        ]
        assert session.metadata["damage"] == session.damage
        assert len(session) == 76


@pytest.mark.slow
def test_a_damaged_part_does_not_hide_the_others(tmp_path: Path) -> None:
    output = write_set(tmp_path)
    data = bytearray(part_path(output, 3).read_bytes())
    data[60] ^= 1
    part_path(output, 3).write_bytes(data)
    part_path(output, 5).write_bytes(b"PAR1" + b"x" * 100)
    with dgrec.open(output) as session:
        first, second = session.damage
        assert first.startswith("part 3 (s-0003.parquet) cannot be read: damaged")
        assert second.startswith("part 5 (s-0005.parquet) cannot be read: ")
        assert len(session) == 84
        assert session.sql("SELECT count(*) FROM frames").fetchall() == [(84,)]


def test_only_damaged_parts(tmp_path: Path) -> None:
    path = part_path(tmp_path / "s.parquet", 1)
    path.write_bytes(b"PAR1" + b"x" * 100)
    with pytest.raises(DamagedSessionError, match="s-0001"):
        dgrec.open(tmp_path / "s.parquet")


@pytest.mark.slow
def test_parts_that_an_earlier_version_began(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    output = write_set(tmp_path)
    with dgrec.open(output) as session:
        expected = [row.row for row in session]
    path = part_path(output, 1)
    kept = pq.read_metadata(path).metadata
    table = pq.ParquetFile(path).read().drop_columns(["signals"])
    pq.write_table(table.replace_schema_metadata({b"dgrec": kept[b"dgrec"]}), path)
    with dgrec.open(output) as session:
        assert session.damage == []
        assert [row.row for row in session] == expected
        assert session.frames.num_rows == len(expected)
        assert session.schema.names == SCHEMA.names
        count = "SELECT count(*), count(signals), (SELECT count(*) FROM signals) FROM frames"
        assert session.sql(count).fetchall() == [(len(expected), 0, 0)]


@pytest.mark.slow
def test_a_part_with_other_columns(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    output = write_set(tmp_path)
    path = part_path(output, 2)
    kept = pq.read_metadata(path).metadata
    table = pq.read_table(path).drop_columns(["latency_ms"])
    pq.write_table(table.replace_schema_metadata({b"dgrec": kept[b"dgrec"]}), path)
    with dgrec.open(output) as session:
        assert session.damage == ["part 2 (s-0002.parquet) has other columns: left out"]


@pytest.mark.slow
def test_damage_inside_a_part_is_told_with_its_number(tmp_path: Path) -> None:
    output = write_set(tmp_path, journal=True)
    (path,) = tmp_path.glob("*.arrows")
    with path.open("ab") as file:
        file.write(b"\xff\xff\xff\xff torn off in the middle of a write")
    with dgrec.open(output) as session:
        (line,) = session.damage
        assert line.startswith("part 13: ")
        assert len(session) == 100


def test_a_recording_that_overwrites_counts_once_a_part_of_it_is_sealed(tmp_path: Path) -> None:
    output = write_set(tmp_path, size=40)
    write_part(output, 1, ROWS[:5], set_id="set-2", sealed=False)
    with dgrec.open(output) as session:
        assert session.id == "set-1"
        assert len(session) == 100
    part_path(output, 1).unlink()  # also where the old one begins later
    with dgrec.open(output) as session:
        assert session.id == "set-1"
        assert len(session) == 60
    (tmp_path / "s-0001.arrows").unlink()
    write_part(output, 1, ROWS[:5], set_id="set-2")
    # Parts 2 and 3 of the old one have not been removed yet.
    write_part(output, 2, ROWS[5:6], first_frame=5, set_id="set-2", sealed=False, end=False)
    with dgrec.open(output) as session:
        assert session.id == "set-2"
        assert session.frames.column("source_frame").to_pylist() == list(range(6))
        assert session.damage == []


def test_sealed_but_the_journal_is_still_there(tmp_path: Path) -> None:
    output = write_set(tmp_path, size=50)
    write_part(output, 2, ROWS[50:], first_frame=50, sealed=False)
    with dgrec.open(output) as session:
        assert len(session) == 100
        assert session.sealed


def test_a_journal_that_has_just_been_made(tmp_path: Path) -> None:
    output = write_set(tmp_path, size=50)
    descriptor = os.open(tmp_path / "s-0003.arrows", os.O_CREAT | os.O_WRONLY)
    try:
        assert lock(descriptor)
        with dgrec.open(output) as session:
            assert session.damage == []
            assert len(session) == 100
    finally:
        os.close(descriptor)


# --- read while the recorder goes on ---


@pytest.mark.slow
def test_a_part_that_is_sealed_after_opening(tmp_path: Path) -> None:
    output = write_set(tmp_path, journal=True)
    with dgrec.open(output) as session:
        expected = session.frames.combine_chunks()
        path = tmp_path / "s-0013.arrows"
        seal(Journal.open(path), path.with_suffix(".parquet"))
        path.unlink()
        assert session.frames.combine_chunks() == expected
        assert session.result(-1).frame == 99
        assert session.sql("SELECT count(*) FROM frames").fetchall() == [(100,)]
        # The part is where it is now; `files` never names what is not there.
        assert [file.name for file in session.files] == [f"s-{n:04}.parquet" for n in range(1, 14)]


@pytest.mark.slow
def test_rows_written_after_opening_are_not_seen(tmp_path: Path) -> None:
    """All looks at one session show the same rows, so that sums agree."""
    output = write_set(tmp_path, size=50)
    part = {"number": 3, "set_id": "set-1", "first_frame": 100}
    writer = JournalWriter(
        tmp_path / "s-0003.arrows",
        new_metadata(part=part),
        durability="never",
        first_frame=100,
    )
    writer.write(ROWS[:4])
    with dgrec.open(output) as session:
        writer.write(ROWS[4:6])
        assert len(session) == session.frames.num_rows == 104
        assert session.sql("SELECT count(*) FROM frames").fetchall() == [(104,)]
        # Nor once they are all in one batch of a sealed file.
        writer.close()
        seal(Journal.open(writer.path), part_path(output, 3))
        writer.path.unlink()
        assert session.frames.num_rows == 104
        assert session.sql("SELECT count(*) FROM frames").fetchall() == [(104,)]


@pytest.mark.slow
def test_more_parts_than_files_may_be_open(tmp_path: Path) -> None:
    import resource

    output = tmp_path / "s.parquet"
    for number in range(1, 61):
        write_part(output, number, ROWS[:1], first_frame=number - 1)
    open_now = len(list(Path("/proc/self/fd").iterdir()))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 25, limits[1]))
    try:
        with dgrec.open(output) as session:
            assert sum(1 for _ in session) == 60
            assert [session.result(i).frame for i in range(60)] == list(range(60))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# --- while a recording goes on ---


def seal_part(journal: Path) -> None:
    seal(Journal.open(journal), journal.with_suffix(".parquet"))
    journal.unlink()


@pytest.mark.parametrize("part", [2, 3])
def test_a_part_that_is_sealed_while_a_set_is_opened_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    output = tmp_path / "s.parquet"
    for number in range(1, 4):
        rows = ROWS[10 * number : 10 * number + 10]
        write_part(output, number, rows, first_frame=10 * number, sealed=number < part)
    original = membership._membership

    def look(path: Path) -> tuple[str | None, bool]:
        journal = part_path(output, part).with_suffix(".arrows")
        if path == journal and journal.exists():
            seal_part(journal)
        return original(path)

    monkeypatch.setattr(membership, "_membership", look)
    with dgrec.open(output) as session:
        assert session.damage == []
        assert [each.number for each in session.parts] == [1, 2, 3]


@pytest.mark.parametrize("how", ["batches", "row"])
def test_a_part_that_is_sealed_while_it_is_read_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    output = tmp_path / "s.parquet"
    write_part(output, 1, ROWS[:10])
    journal = write_part(output, 2, ROWS[10:40], first_frame=10, sealed=False)
    with dgrec.open(output) as session:
        original = parts_module.PartSet._reopened

        def reopened(self: Any, part: Any) -> Any:
            file = original(self, part)
            if part.number == 2 and journal.exists():
                seal_part(journal)
            return file

        monkeypatch.setattr(parts_module.PartSet, "_reopened", reopened)
        if how == "row":
            found = [session.row(place)["source_frame"] for place in range(40)]
        else:
            found = [
                number
                for batch in session.batches(["source_frame"])
                for number in batch.column(0).to_pylist()
            ]
        assert found == [row.source_frame for row in ROWS[:40]]
