"""Recordings in parts: no row lost or doubled between two of them, and the oldest ones go first."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.clock import Clock
from dgrec.errors import OutputError
from dgrec.footage import videos_beside
from dgrec.format import AT_START, Delivery, is_being_written
from dgrec.format import metadata as metadata_module
from dgrec.paths import part_path
from dgrec.recorder.capture import Capture
from dgrec.recorder.destination import check_output
from dgrec.recorder.model import LoadedModel
from dgrec.recorder.options import Retention, Splitting
from dgrec.recorder.recovery import left_behind, recover
from dgrec.recorder.segments import PlacedRow, Segment
from dgrec.recorder.sources import parse_source
from dgrec.recorder.writing import PartedJournal, RowWriter
from dgrec.recorder.writing import parts as parts_module
from dgrec.recorder.writing import sealer as sealer_module
from dgrec.session import Session
from tests.dgrec.compare import assert_same
from tests.factory import (
    CLOSING,
    START_NS,
    make_detection,
    make_row,
    new_metadata,
    write_session,
)
from tests.recorder.doubles import PysdkDouble, ScriptedFrames, clip, record, write_rows
from tests.recorder.doubles import journal_of as new_journal

#: 30 frames a second: a second is 29.97 of them.
from tests.waiting import wait_until

ROWS = [
    make_row(
        i,
        [make_detection(k) for k in range(i % 3)],
        skipped_before=i % 2,
        dropped_camera=int(i % 5 == 4),
        dropped_queue=int(i % 7 == 6),
        source_frame=2 * i,
    )
    for i in range(630)
]
TOTALS = {
    "frames": 630,
    "detections": sum(len(row.results) for row in ROWS),
    "source_frames": 630 + 315 + 17,  # 17 were read after the last row
    "skipped": 315 + 17,
    "dropped": 126 + 90,
    "dropped_writer": 0,
    "clock_drift_ms": 0.25,
}
END: dict[str, Any] = {**CLOSING, "totals": TOTALS}
RECORDED_NS = START_NS + 21_100_000_000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealer_module, "_CHECK_SECONDS", 0.05)


class SetClock(Clock):
    """A clock that stands where it was put."""

    def __init__(self, now_ns: int = RECORDED_NS) -> None:
        self.now = now_ns
        super().__init__()

    def now_ns(self) -> int:
        return self.now


def journal_of(output: Path, splitting: Splitting, **options: Any) -> PartedJournal:
    options = {"clock": SetClock(), "durability": "never", **options}
    return new_journal(output, splitting, **options)


def write(output: Path, splitting: Splitting, *, batch: int = 10, **options: Any) -> PartedJournal:
    """Write `ROWS` in parts, to their end."""
    journal = journal_of(output, splitting, **options)
    for start in range(0, len(ROWS), batch):
        write_rows(journal, ROWS[start : start + batch])
    flushes = {"flushes": journal.flushes}
    journal.end({**END, "totals": {**TOTALS, **flushes}})
    assert journal.seal() == []
    return journal


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def open_files() -> list[str]:
    links = Path("/proc/self/fd").iterdir()
    names = []
    for link in links:
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            names.append(str(link.readlink()))
    return names


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dgrec-")]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "s.parquet"


# --- nothing lost, nothing twice ---


BY_TIME = Splitting(every_s=1.5)
BY_SIZE = Splitting(size=50_000)
BY_BOTH = Splitting(every_s=2, size=50_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("splitting", "batch"),
    # Batches of 128 rows are too few for ten parts by size.
    [
        *((BY_TIME, batch) for batch in (1, 10, 128)),
        *((BY_SIZE, batch) for batch in (1, 10)),
        *((BY_BOTH, batch) for batch in (1, 10, 128)),
    ],
)
def test_rows_are_those_of_a_recording_in_one_file(
    tmp_path: Path, output: Path, splitting: Splitting, batch: int
) -> None:
    write(output, splitting, batch=batch)
    (tmp_path / "one").mkdir()
    one = write_session(tmp_path / "one" / "s.parquet", ROWS, batch=batch)
    with dgrec.open(output) as session, dgrec.open(one) as whole:
        assert len(session.parts) >= 10
        assert session.damage == []
        assert session.frames.combine_chunks() == whole.frames.combine_chunks()
        assert session.detections.combine_chunks() == whole.detections.combine_chunks()
        for expected, part in itertools.pairwise(session.parts):
            assert part.first_frame == expected.first_frame + expected.rows
            assert part.number == expected.number + 1
    assert not list(tmp_path.glob("*.arrows"))
    assert threads() == []
    assert not [name for name in open_files() if str(tmp_path) in name]


@pytest.mark.slow
def test_a_part_ends_between_two_rows(output: Path) -> None:
    """By the rows' own stamps, wherever the writer's batches happen to end."""
    write(output, Splitting(every_s=2), batch=97)
    with dgrec.open(output) as session:
        stamps = [row.completed_ns for row in ROWS]
        parts = [(stamp - stamps[0]) // 2_000_000_000 for stamp in stamps]
        assert [part.rows for part in session.parts] == [parts.count(n) for n in range(11)]


def test_parts_stay_on_the_grid_after_a_pause(output: Path) -> None:
    """A camera that was away for a while leaves no empty parts, and shifts none."""
    second = 1_000_000_000
    at = [0, 1, 2, 3, 25, 29, 30, 31]  # the third part has all of 20 to 30
    rows = [
        make_row(i, captured_ns=START_NS + s * second, completed_ns=START_NS + s * second)
        for i, s in enumerate(at)
    ]
    journal = journal_of(output, Splitting(every_s=10))
    write_rows(journal, rows)
    journal.end(CLOSING)
    assert journal.seal() == []
    with dgrec.open(output) as session:
        assert [part.rows for part in session.parts] == [4, 2, 2]
        assert [part.number for part in session.parts] == [1, 2, 3]


@pytest.mark.slow
def test_a_part_is_no_larger_than_asked_for(tmp_path: Path, output: Path) -> None:
    sizes = []
    journal = journal_of(output, Splitting(size=100_000))
    for row in ROWS:
        path = journal.path
        size = path.stat().st_size
        write_rows(journal, [row])
        if journal.path != path:
            sizes.append(size)
    journal.end(END)
    journal.seal()
    assert len(sizes) >= 10
    assert max(sizes) <= 101_000, "the last batch may be a little larger than the one before"
    assert min(sizes) > 80_000


@pytest.mark.slow
def test_metadata_of_the_parts(output: Path) -> None:
    write(output, Splitting(every_s=5))
    metadatas = []
    for number in range(1, 6):
        with dgrec.open(part_path(output, number)) as part:
            metadatas.append(part.metadata)
    first = metadatas[0]
    set_id = first["part"]["set_id"]
    assert len({metadata["session_id"] for metadata in metadatas} | {set_id}) == 6
    assert [metadata["name"] for metadata in metadatas] == [f"s-000{n}" for n in range(1, 6)]
    assert [metadata["end_reason"] for metadata in metadatas] == [*["split"] * 4, "finished"]
    frame = 0
    for number, metadata in enumerate(metadatas, 1):
        assert metadata["part"] == {"number": number, "set_id": set_id, "first_frame": frame}
        frame += metadata["totals"]["frames"]
        assert metadata["model"] == first["model"]
    for metadata in metadatas:
        assert metadata["started_at"] < metadata["ended_at"]
    for metadata in metadatas[1:]:
        row = ROWS[metadata["part"]["first_frame"]]
        assert metadata["started_at"] == metadata_module.utc_text(row.captured_ns)
    with dgrec.open(output) as session:
        assert session.id == set_id
        totals = session.metadata["totals"]
        assert totals.pop("flushes") == sum(m["totals"]["flushes"] for m in metadatas)
        # Those of the rows; what was left out after the last one stands apart.
        losses = {"dropped_camera": 126, "dropped_queue": 90, "skipped": 315, "skipped_after": 17}
        at_start = dict.fromkeys(AT_START, 0)
        assert totals == {**TOTALS, **losses, **at_start}
        assert session.totals == {
            **at_start,
            "frames": 630,
            "detections": TOTALS["detections"],
            "skipped": 315,
            "dropped": 126 + 90,
            "dropped_camera": 126,
            "dropped_queue": 90,
            "dropped_writer": 0,
        }
        assert metadatas[-1]["totals"]["skipped_after"] == 17
        assert all(m["totals"]["skipped"] > 0 for m in metadatas)
        assert session.metadata["end_reason"] == "finished"
        assert session.metadata["started_at"] == metadata_module.utc_text(START_NS)
        assert session.metadata["ended_at"] == CLOSING["ended_at"]


def test_events_stand_in_the_part_of_their_time(output: Path) -> None:
    journal = journal_of(output, Splitting(every_s=1))
    write_rows(journal, ROWS[:10])
    journal.write([], [{"n": 1}])
    write_rows(journal, ROWS[10:80], [{"n": 2}])  # and a part ends in the middle of these
    journal.end(CLOSING)
    journal.seal()
    with dgrec.open(part_path(output, 1)) as part:
        assert part.metadata["events"] == [{"n": 1}, {"n": 2}]
    with dgrec.open(output) as session:
        assert len(session.parts) == 3
        assert session.metadata["events"] == [{"n": 1}, {"n": 2}]


def test_an_empty_recording_has_one_part(output: Path) -> None:
    journal = journal_of(output, Splitting(every_s=1))
    journal.end({"end_reason": "finished", "totals": {}})
    assert journal.seal() == []
    with dgrec.open(output) as session:
        assert (len(session), len(session.parts)) == (0, 1)


# --- beside the writer ---


@pytest.mark.slow
def test_neither_the_writer_nor_the_recording_waits_for_sealing(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, original = threading.Event(), sealer_module.seal

    def slow(*arguments: Any, **options: Any) -> Any:
        assert gate.wait(60)
        return original(*arguments, **options)

    monkeypatch.setattr(sealer_module, "seal", slow)
    journal = journal_of(output, Splitting(every_s=1))
    writer = RowWriter(journal, policy="drop-oldest", capacity=1000)
    for row in ROWS:
        writer.put(row, journal.cutter.segment_of(row.completed_ns))
    writer.close()
    # Every row is in a journal, while not one part could be sealed.
    assert journal.frames == 630
    assert writer.dropped == 0
    journals = sorted(output.parent.glob("*.arrows"))
    assert len(journals) == 21
    assert not list(output.parent.glob("*.parquet"))
    with dgrec.open(output) as session:
        assert session.frames.column("source_frame").to_pylist() == list(range(0, 1260, 2))
    # And nobody takes those that wait for journals of a recording that was cut off.
    assert left_behind(output.parent) == []
    with pytest.raises(OutputError, match="is being recorded now"):
        recover(journals[0])
    gate.set()
    writer.end(END)
    assert journal.seal() == []
    assert not list(output.parent.glob("*.arrows"))
    with dgrec.open(output) as session:
        assert session.frames.column("source_frame").to_pylist() == list(range(0, 1260, 2))


@pytest.mark.slow
def test_a_part_that_cannot_be_sealed_stays_a_journal(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = sealer_module.seal
    tried = []

    def failing(journal: Any, path: Path, **options: Any) -> Any:
        tried.append(path.name)
        if path.name == "s-0002.parquet":
            raise OutputError(f"{path}: cannot be written: No space left on device")
        return original(journal, path, **options)

    monkeypatch.setattr(sealer_module, "seal", failing)
    journal = journal_of(output, Splitting(every_s=5))
    for start in range(0, 630, 10):
        write_rows(journal, ROWS[start : start + 10])
    journal.end(END)
    (problem,) = journal.seal()
    assert "No space left on device" in str(problem)
    assert str(output.with_name("s-0002.arrows")) in str(problem)
    assert tried == [*(f"s-000{n}.parquet" for n in range(1, 6)), "s-0002.parquet"]
    assert [p.name for p in output.parent.glob("*.arrows")] == ["s-0002.arrows"]
    assert not is_being_written(output.with_name("s-0002.arrows"))
    with dgrec.open(output) as session:
        assert session.frames.column("source_frame").to_pylist() == list(range(0, 1260, 2))
        query = "SELECT list(source_frame ORDER BY frame) FROM frames"
        assert session.sql(query).fetchall() == [([*range(0, 1260, 2)],)]
    monkeypatch.undo()
    recovery = recover(output.with_name("s-0002.arrows"))
    assert (recovery.ended, recovery.damage, recovery.journal_removed) == (True, (), True)
    with dgrec.open(output) as session:
        assert session.sealed
        assert session.metadata["totals"]["frames"] == len(session) == 630


@pytest.mark.slow
@pytest.mark.parametrize("at", ["middle", "end"])
def test_a_journal_that_cannot_be_read_back_is_left(
    output: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    original = sealer_module.seal

    def failing_disk(journal: Any, path: Path, **options: Any) -> Any:
        if path.name == "s-0002.parquet":
            data = bytearray(journal.path.read_bytes())
            data[len(data) // 2 if at == "middle" else -200] ^= 0xFF
            if at == "end":  # the last rows, and what follows them
                del data[-20_000:]
            journal.path.write_bytes(data)
        return original(journal, path, **options)

    monkeypatch.setattr(sealer_module, "seal", failing_disk)
    journal = journal_of(output, Splitting(every_s=5))
    for start in range(0, 630, 10):
        write_rows(journal, ROWS[start : start + 10])
    journal.end(END)
    (problem,) = journal.seal()
    assert "s-0002.arrows: what was written cannot be read back" in str(problem)
    assert output.with_name("s-0002.arrows").exists()
    assert output.with_name("s-0002.parquet").exists()


def test_room_is_needed_for_what_is_not_sealed_yet(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, original = threading.Event(), sealer_module.seal

    def slow(*arguments: Any, **options: Any) -> Any:
        assert gate.wait(60)
        return original(*arguments, **options)

    monkeypatch.setattr(sealer_module, "seal", slow)
    journal = journal_of(output, Splitting(every_s=5))
    write_rows(journal, ROWS[:400])
    sizes = {path.name: path.stat().st_size for path in output.parent.glob("*.arrows")}
    assert len(sizes) == 3
    assert journal.unsealed_bytes == journal.bytes_written == sum(sizes.values())
    gate.set()
    wait_until(lambda: journal.unsealed_bytes == sizes["s-0003.arrows"])
    assert journal.bytes_written == sum(sizes.values())
    journal.end(END)
    assert journal.seal() == []


def test_a_failed_part_is_tried_again_at_the_end(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, failures = sealer_module.seal, [OutputError("full"), RuntimeError("a defect")]

    def failing(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return original(*arguments, **options)

    monkeypatch.setattr(sealer_module, "seal", failing)
    write(output, Splitting(every_s=5))
    assert names(output.parent) == [f"s-000{n}.parquet" for n in range(1, 6)]


def test_a_part_that_cannot_be_begun_does_not_end_the_recording(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts_module, "_RETRY_NS", 1_000_000_000)
    blocked = output.with_name("s-0002.arrows")
    blocked.write_bytes(b"in the way")
    journal = journal_of(output, Splitting(every_s=4))
    write_rows(journal, ROWS[:200])
    assert journal.path.name == "s-0001.arrows"
    assert "exists already" in journal.notes[0]
    blocked.unlink()
    write_rows(journal, ROWS[200:])
    assert journal.path.name != "s-0001.arrows"
    assert journal.notes == []
    journal.end(END)
    assert journal.seal() == []
    with dgrec.open(output) as session:
        assert session.frames.column("source_frame").to_pylist() == list(range(0, 1260, 2))
        assert session.damage == []


@pytest.mark.slow
def test_a_writer_that_fails_leaves_the_sealed_parts(output: Path) -> None:
    journal = journal_of(output, Splitting(every_s=5))
    writer = RowWriter(journal, policy="block")
    for row in ROWS[:400]:
        writer.put(row, journal.cutter.segment_of(row.completed_ns))
    wait_until(lambda: journal.frames == 400)

    def fail(*_: Any, **__: Any) -> None:
        raise OutputError("s-0003.arrows: cannot be written: No space left on device")

    journal._current.write = fail  # type: ignore[method-assign]
    writer.put(ROWS[400], journal.cutter.segment_of(ROWS[400].completed_ns))
    with pytest.raises(OutputError, match="No space left"):
        writer.close()
    journal.close()
    assert threads() == []
    assert names(output.parent) == ["s-0001.parquet", "s-0002.parquet", "s-0003.arrows"]
    with dgrec.open(output) as session:
        assert len(session) == 400


# --- what is kept ---


@pytest.mark.slow
def test_keep_last_removes_what_ended_before(output: Path) -> None:
    keep = Retention(last_s=8.0)  # of 21 s, in parts of 2
    journal = write(output, Splitting(every_s=2, keep=keep))
    with dgrec.open(output) as session:
        assert session.damage == []
        now = RECORDED_NS
        ended = [row["completed_at"].timestamp() for row in session.frames.to_pylist()]
        assert min(ended) >= now / 1e9 - 8 - 2.1
        assert [part.number for part in session.parts] == [7, 8, 9, 10, 11]
        assert session.result(-1).row["source_frame"] == 1258
        assert session.first_frame > 0
    assert journal.removed == 6
    assert [path.name for path in journal.sealed] == names(output.parent)


def test_keep_last_removes_while_no_new_part_comes(output: Path) -> None:
    clock = SetClock()
    journal = journal_of(output, Splitting(every_s=5, keep=Retention(last_s=3600)), clock=clock)
    write_rows(journal, ROWS)
    wait_until(lambda: len(list(output.parent.glob("*.parquet"))) == 4)
    time.sleep(0.2)
    assert len(list(output.parent.glob("*.parquet"))) == 4
    clock.now += 2 * 3600 * 10**9
    wait_until(lambda: not list(output.parent.glob("*.parquet")))
    # The part that is being written is older than that, too; it stays.
    assert names(output.parent) == ["s-0005.arrows"]
    journal.end(END)
    assert journal.seal() == []
    assert names(output.parent) == ["s-0005.parquet"], "the last part is what was recorded last"


@pytest.mark.slow
def test_keep_total_counts_journals_and_removes_only_sealed_parts(output: Path) -> None:
    whole = write(output.with_name("all.parquet"), Splitting(every_s=2))
    sizes = [path.stat().st_size for path in whole.sealed]
    for path in whole.sealed:
        path.unlink()
    limit = sum(sizes[-4:]) + 1000
    journal = write(output, Splitting(every_s=2, keep=Retention(total=limit)))
    kept = journal.sealed
    assert [path.name for path in kept] == names(output.parent)
    assert 2 <= len(kept) <= 4
    assert sum(path.stat().st_size for path in kept) <= limit
    assert kept[-1].name == "s-0011.parquet"


@pytest.mark.slow
def test_the_part_being_written_is_never_removed(output: Path) -> None:
    journal = journal_of(output, Splitting(every_s=2, keep=Retention(last_s=0.001, total=1)))
    for start in range(0, 630, 10):
        write_rows(journal, ROWS[start : start + 10])
        assert journal.path.exists()
    wait_until(lambda: names(output.parent) == [journal.path.name])
    journal.end(END)
    assert journal.seal() == []
    assert names(output.parent) == ["s-0011.parquet"]


@pytest.mark.slow
def test_a_part_goes_with_its_videos(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = sealer_module.seal

    def with_video(journal: Any, path: Path, **options: Any) -> Any:
        metadata = original(journal, path, **options)
        files = [path.with_suffix(".mp4"), path.with_suffix(".annotated.mp4")]
        for file in files:
            file.write_bytes(b"v" * 1000)
        path.with_suffix(".replay.mp4").write_bytes(b"made by a person")
        return {**metadata, "video": [{"file": file.name} for file in files]}

    monkeypatch.setattr(sealer_module, "seal", with_video)
    write(output, Splitting(every_s=4, keep=Retention(last_s=6)))
    left = names(output.parent)
    stems = sorted({name.split(".")[0] for name in left if name.endswith(".parquet")})
    assert stems == ["s-0004", "s-0005", "s-0006"]
    for suffix in (".mp4", ".annotated.mp4"):
        videos = [name for name in left if name in {f"s-000{n}{suffix}" for n in range(1, 7)}]
        assert videos == [f"{stem}{suffix}" for stem in stems]
    assert len([name for name in left if name.endswith(".replay.mp4")]) == 6


@pytest.mark.slow
def test_videos_count_in_keep_total(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = sealer_module.seal

    def with_video(journal: Any, path: Path, **options: Any) -> Any:
        path.with_suffix(".mp4").write_bytes(b"v" * 10_000_000)
        return {**original(journal, path, **options), "video": [{"file": f"{path.stem}.mp4"}]}

    monkeypatch.setattr(sealer_module, "seal", with_video)
    journal = write(output, Splitting(every_s=4, keep=Retention(total=25_000_000)))
    assert [path.name for path in journal.sealed] == ["s-0005.parquet", "s-0006.parquet"]
    assert len(names(output.parent)) == 4


@pytest.mark.parametrize("file", ["../other.mp4", "/etc/other.mp4", "a/b/../../../other.mp4"])
def test_a_video_is_never_looked_for_elsewhere(tmp_path: Path, file: str) -> None:
    path = tmp_path / "in" / "s-0001.parquet"
    assert videos_beside(path, {"video": [{"file": file}]}) == [tmp_path / "in" / "other.mp4"]


# --- names that are taken ---


SAMPLE = parse_source("sample")


@pytest.mark.parametrize("split", [True, False])
def test_parts_of_an_older_recording_are_refused(output: Path, split: bool) -> None:
    write(output, Splitting(every_s=10))
    with pytest.raises(OutputError, match=r"s-0001\.parquet: is a part of an older recording"):
        check_output(output, False, split=split)
    check_output(output, True, split=split)


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_part_left_behind_is_refused_always(output: Path, overwrite: bool) -> None:
    journal = journal_of(output, Splitting(every_s=10))
    write_rows(journal, ROWS[:5])
    with pytest.raises(OutputError, match="is being recorded now"):
        check_output(output, overwrite, split=True)
    journal.close()
    with pytest.raises(OutputError, match=r"dgrec recover .*s-0001\.arrows"):
        check_output(output, overwrite, split=True)


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_no_part_is_not_overwritten(output: Path, overwrite: bool) -> None:
    other = write_session(output.with_name("s-2024.parquet"), ROWS[:3])
    with pytest.raises(OutputError, match=r"s-2024\.parquet: is named like a part, but is not one"):
        check_output(output, overwrite, split=True)
    check_output(output, overwrite, split=False)
    assert other.exists()


@pytest.mark.slow
def test_old_parts_stay_until_the_first_new_one_is_sealed(output: Path) -> None:
    write(output, Splitting(every_s=4))
    old = sorted(output.parent.glob("*.parquet"))
    one = write_session(output, ROWS[:3])
    journal = journal_of(output, Splitting(every_s=4), replaces=[*old, one])
    write_rows(journal, ROWS[:10])
    assert names(output.parent) == ["s-0001.arrows", *(path.name for path in old), "s.parquet"]
    with dgrec.open(output) as session:
        assert len(session) == 3, "what is there is still the old recording"
    write_rows(journal, ROWS[10:300])
    wait_until(
        lambda: (
            names(output.parent)
            == [
                "s-0001.parquet",
                "s-0002.parquet",
                "s-0003.arrows",
            ]
        )
    )
    journal.end(CLOSING)
    assert journal.seal() == []
    with dgrec.open(output) as session:
        assert len(session) == 300


@pytest.mark.slow
def test_only_what_was_to_be_replaced_is(output: Path) -> None:
    """A file that came to have a part's name while recording is somebody's."""
    write(output, Splitting(every_s=10))
    old = sorted(output.parent.glob("*.parquet"))
    assert len(old) == 3
    journal = journal_of(output, Splitting(every_s=4), replaces=old)
    other = write_session(output.with_name("s-0005.parquet"), ROWS[:3])
    write_rows(journal, ROWS)
    journal.end(CLOSING)
    (problem,) = journal.seal()
    assert "s-0005.parquet: exists already" in str(problem)
    with dgrec.open(other) as session:
        assert len(session) == 3


@pytest.mark.slow
def test_overwriting_parts_with_one_file(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    write(output, Splitting(every_s=4))
    model = PysdkDouble("Detection", lambda index: [])
    metadata = record(
        model, Capture(ScriptedFrames([0, 1, 2])), output, model.describe(), overwrite=True
    )[1]
    assert isinstance(metadata, dict)
    assert names(tmp_path) == ["s.parquet"]


# --- with PySDK ---


@pytest.fixture(scope="module")
def looped(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The bundled model on the clip, a good part of a second round, in many parts."""
    output = tmp_path_factory.mktemp("looped") / "faces.parquet"
    clock = Clock()
    capture = Capture(clip(clock, skip=320, loop=True), max_frames=160)
    described = {"model": loaded.description, "overlay": loaded.overlay}
    splitting = Splitting(size=60_000)
    seen, metadata = record(
        loaded.model,
        capture,
        output,
        described,
        clock=clock,
        durability="frame",
        splitting=splitting,
    )
    assert isinstance(metadata, dict), metadata
    with dgrec.open(output) as session:
        yield seen, metadata, session


@pytest.mark.slow
def test_no_frame_is_lost_between_parts(looped: Any) -> None:
    seen, metadata, session = looped
    assert len(session.parts) >= 10
    assert len(seen) == len(session) == 160
    assert session.frames.column("frame").to_pylist() == list(range(160))
    assert session.frames.column("source_frame").to_pylist() == list(range(160))
    assert session.sealed
    assert session.damage == []
    assert session.metadata["totals"] == metadata["totals"]
    assert metadata["totals"]["frames"] == metadata["totals"]["source_frames"] == 160
    assert metadata["end_reason"] == session.metadata["end_reason"] == "limit"


@pytest.mark.slow
def test_results_come_back_across_parts(looped: Any) -> None:
    seen, _, session = looped
    assert any(one.results for one in seen)
    for index, (one, result) in enumerate(zip(seen, session, strict=True)):
        assert_same(result.results, one.results)
        assert_same(result.timing, one.timing)
        if index % 20 == 0:
            assert (session.result(index).overlay(one.image) == one.overlay).all()


@pytest.mark.slow
def test_each_part_is_a_session(looped: Any) -> None:
    _, _, session = looped
    position = 0
    for part in session.parts:
        with Session(part.path) as alone:
            assert alone.first_frame == position
            assert [result.frame for result in alone] == [*range(position, position + part.rows)]
            assert alone.metadata["totals"]["frames"] == len(alone) == part.rows
            assert alone.metadata["model"] == session.metadata["model"]
            started, ended = (alone.metadata[f"{at}_at"] for at in ("started", "ended"))
            first, last = alone.result(0), alone.result(-1)
            assert started <= metadata_module.utc_text(_ns(first.row["captured_at"]))
            assert ended >= metadata_module.utc_text(_ns(last.row["completed_at"]))
        position += part.rows


def _ns(stamp: Any) -> int:
    return round(stamp.timestamp() * 1e6) * 1000


def test_a_journal_left_behind_is_a_part_that_can_be_recovered(output: Path) -> None:
    journal = journal_of(output, Splitting(every_s=5))
    write_rows(journal, ROWS[:400])
    path = journal.path
    journal._sealer.close()
    journal._current.close()
    assert left_behind(output.parent) == [path]
    recovery = recover(path)
    assert recovery.damage == ()
    assert not recovery.ended
    with dgrec.open(output) as session:
        assert len(session) == 400
        assert session.metadata["end_reason"] == "recovered"
        assert session.damage == []


# --- late threads ---


def test_what_a_target_took_is_in_the_part_of_its_row(output: Path) -> None:
    """A target may have taken a row before that is written, and here it begins a part."""
    metadata = new_metadata("s", targets=[{"target": "t", "every": 1}])
    journal = new_journal(output, Splitting(every_s=1), metadata=metadata)
    segment_of = journal.cutter.segment_of
    rows = [PlacedRow(row, segment_of(row.completed_ns)) for row in ROWS[:40]]
    cut = next(place for place, row in enumerate(rows) if row.segment is not rows[0].segment)
    taken = [Delivery(0, row.row.source_frame, 4096) for row in rows]
    journal.write(rows[:cut], (), (), taken[: cut + 2])
    journal.write([], (), (), taken[cut + 2 : cut + 3])
    journal.write(rows[cut:], (), (), taken[cut + 3 :])
    journal.end({**CLOSING, "totals": {}})
    assert journal.seal() == []
    with dgrec.open(output) as session:
        assert len(session.parts) == 2
        assert session.frames.column("published_ms").to_pylist() == [1.0] * 40
        (target,) = session.metadata["targets"]
    assert (target["frames"], target["delivered"], target["left_out"]) == (40, 40, [])


def test_a_part_waits_for_rows_that_are_on_their_way(output: Path) -> None:
    """That a target does not get the last row is known before it took the one before."""
    metadata = new_metadata("s", targets=[{"target": "t", "every": 2}])
    clock = SetClock(ROWS[60].completed_ns)
    journal = journal_of(output, Splitting(every_s=1), metadata=metadata, clock=clock)
    first = journal.path
    segment_of = journal.cutter.segment_of
    rows = [PlacedRow(row, segment_of(row.completed_ns)) for row in ROWS[:60]]
    cut = next(place for place, row in enumerate(rows) if row.segment is not rows[0].segment)
    taken = [
        Delivery(0, each.row.source_frame, 4096)
        if place % 2 == cut % 2
        else Delivery.not_due(0, each.row.source_frame)
        for place, each in enumerate(rows)
    ]
    assert taken[cut - 2].is_taken
    assert not taken[cut - 1].is_taken
    *others, on_its_way = taken[: cut - 1]
    journal.write(rows[:cut], (), (), [*others, taken[cut - 1]])
    journal.write(rows[cut : cut + 1])
    assert journal.has_ending_parts
    journal.write([], (), (), [on_its_way])
    assert not journal.has_ending_parts  # the next row has not been taken
    journal.wait_for_sealing()
    assert not first.exists()
    journal.end({**CLOSING, "totals": {}})
    assert journal.seal() == []
    with dgrec.open(part_path(output, 1)) as part:
        times = part.frames.column("published_ms").to_pylist()
    assert times == [1.0 if each.is_taken else None for each in taken[:cut]]


def test_what_a_target_took_of_rows_that_were_lost_is_kept(output: Path) -> None:
    metadata = new_metadata("s", targets=[{"target": "t", "every": 1}])
    journal = new_journal(output, metadata=metadata)
    write_rows(journal, ROWS[:2])
    journal.write([], (), (), [Delivery(0, number, 4096) for number in (0, 2, 4)])
    journal.end({**CLOSING, "totals": {}})
    assert journal.seal() == []
    with dgrec.open(output) as session:
        assert session.frames.column("published_ms").to_pylist() == [1.0, 1.0]


def test_a_part_that_just_began_is_not_as_large_as_the_one_before(output: Path) -> None:
    """The loop asks for its size while the writer begins it."""

    class Watched(PartedJournal):
        begin = staticmethod(lambda: None)

        @property
        def _current(self) -> Any:
            found, begin = self.__dict__["_current"], self.begin
            self.begin = lambda: None  # type: ignore[method-assign]
            begin()
            return found

        @_current.setter
        def _current(self, journal: Any) -> None:
            self.__dict__["_current"] = journal

    journal = journal_of(output, Splitting(size=10_000_000))
    write_rows(journal, ROWS[:400])
    large = journal.bytes_written
    segment = journal.cutter.cut()
    assert isinstance(segment, Segment)
    journal.__class__ = Watched
    begin = [PlacedRow(ROWS[400], segment)]
    journal.begin = lambda: journal.write(begin)  # type: ignore[attr-defined]
    assert journal._bytes_of(segment) < large / 2
    journal.end({**CLOSING, "totals": {}})
    assert journal.seal() == []


def test_events_are_in_the_part_of_their_time(output: Path) -> None:
    """Two parts are written at once, since the disk was slow."""
    journal = new_journal(output, Splitting(every_s=1))
    rows = ROWS[:70]
    events: list[Any] = [
        {"kind": "mark", "text": str(place), "at": metadata_module.utc_text(row.completed_ns)}
        for place, row in enumerate(rows)
    ]
    odd = [{"kind": "mark", "text": "at no time"}, {"kind": "gap", "from": events[50]["at"]}]
    write_rows(journal, rows, [*events, *odd])
    journal.end({**CLOSING, "totals": {}})
    assert journal.seal() == []
    with dgrec.open(output) as session:
        parts = [part.metadata["events"] for part in session.parts]
        counts = [part.rows for part in session.parts]
        assert sum(map(len, parts)) == len(session.metadata["events"]) == 72
    assert len(parts) > 2
    assert odd[0] in parts[0]
    assert odd[1] in parts[1]
    texts = [e["text"] for part in parts for e in part if "at" in e]
    assert texts == [str(place) for place in range(70)]
    assert [sum("at" in e for e in part) for part in parts] == counts
