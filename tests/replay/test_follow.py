"""`dgrec stats --follow`: the numbers of a journal while it grows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from dgrec.format import Journal, JournalTail, JournalWriter, seal
from dgrec.paths import numbered_files, part_path
from dgrec.recorder.options import Splitting
from dgrec.recorder.writing import sealer
from dgrec.replay import stats
from dgrec.replay.stats import Follower, follow, journal_of, screen, sealed_or_not, status_line
from dgrec.replay.stats.follow import RECENT_S, Snapshot, wait_for
from dgrec.session import Session, open_session
from tests.factory import (
    CAMERA,
    CLOSING,
    START_NS,
    losses_of,
    make_row,
    new_metadata,
    rate_of,
    write_journal,
    write_session,
)
from tests.recorder.doubles import journal_of as recorded
from tests.recorder.doubles import write_rows
from tests.replay.conftest import uneven_rows
from tests.waiting import PATIENCE_S

Run = Callable[..., Result]
ROWS = uneven_rows(400, seed=41)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    made = JournalWriter(tmp_path / "s.arrows", new_metadata(source=CAMERA), durability="never")
    yield made
    made.close()


# --- the tail of a journal ---------------------------------------------------------------------


def test_each_read_gives_what_is_new(writer: JournalWriter) -> None:
    tail = JournalTail(writer.path)
    assert list(tail.read()) == []
    frames: list[int] = []
    for start in range(0, 100, 20):
        writer.write(ROWS[start : start + 10])
        writer.write(ROWS[start + 10 : start + 20])
        new = [frame for batch in tail.read() for frame in batch.column("frame").to_pylist()]
        assert new == list(range(start, start + 20))
        frames += new
        assert list(tail.read()) == []
        assert tail.closing is None
    writer.end(CLOSING)
    writer.close()
    writer.path.unlink()
    # What was written last is read although the file has gone.
    assert list(tail.read()) == []
    assert tail.closing == CLOSING
    assert tail.damage == []
    assert frames == list(range(100))
    tail.close()


def test_half_a_batch_is_read_once_it_is_whole(tmp_path: Path) -> None:
    whole = write_journal(tmp_path / "whole.arrows", ROWS[:50]).read_bytes()
    path = tmp_path / "growing.arrows"
    head = 12_000  # the schema is in there
    path.write_bytes(whole[:head])
    tail = JournalTail(path)
    frames = []
    for end in (*range(head, len(whole), 997), len(whole)):
        with path.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(whole[file.tell() : end])
        frames += [f for batch in tail.read() for f in batch.column("frame").to_pylist()]
    assert frames == list(range(50))
    assert tail.closing == CLOSING
    assert tail.damage == []
    tail.close()


def test_damage_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    path = write_journal(tmp_path / "s.arrows", ROWS[:60])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    tail = JournalTail(path)
    found = [f for batch in tail.read() for f in batch.column("frame").to_pylist()]
    expected = [f for b in Journal.open(path).batches() for f in b.column("frame").to_pylist()]
    assert found == expected
    assert len(found) == 50
    assert any("are damaged" in line for line in tail.damage)
    tail.close()


# --- the numbers -------------------------------------------------------------------------------


def test_numbers_so_far_agree_with_numpy(writer: JournalWriter) -> None:
    follower = Follower(writer.path)
    assert follower.poll()
    assert follower.snapshot(START_NS / 1e9).frames == 0
    written = 0
    for count in (37, 163, 200):
        writer.write(ROWS[written : written + count])
        written += count
        assert follower.poll()
        rows = ROWS[:written]
        completed = np.array([row.completed_ns // 1000 for row in rows]) / 1e6
        now = completed[-1] + 1.5
        latency = np.array([(row.completed_ns - row.captured_ns) / 1e6 for row in rows])
        found = follower.snapshot(now)
        assert found.frames == written
        assert found.detections == sum(len(row.results) for row in rows)
        assert found.skipped == sum(row.skipped_before for row in rows)
        lost = losses_of(rows)
        assert (found.dropped, found.dropped_at_start) == (lost["total"], lost["at_start"])
        assert found.seconds == pytest.approx(completed[-1] - rows[0].captured_ns / 1e9, abs=1e-5)
        assert found.silent_s == pytest.approx(1.5)
        # 16 seconds: all of it is recent.
        assert found.recent_fps == pytest.approx((written - 1) / (now - completed[0]))
        assert found.recent_latency_ms == pytest.approx(
            tuple(np.quantile(latency, [0.5, 0.95, 0.99])), abs=1e-3
        )
        assert found.recent_inference_ms == pytest.approx(
            np.median([row.timing["CoreInferenceDuration_ms"] for row in rows])
        )
        assert sum(found.results_by_second) == written
        assert found.results_by_second[-2:] == ((completed > now - 2).sum(), 0)
    follower.close()


def test_frames_without_latency_are_counted(writer: JournalWriter) -> None:
    """As a program adds them: they ended it by a traceback."""
    follower = Follower(writer.path)
    rows = [row._replace(is_capture_known=False) for row in ROWS[:20]]
    writer.write(rows)
    assert follower.poll()
    found = follower.snapshot(rows[-1].completed_ns / 1e9)
    assert (found.frames, sum(found.results_by_second)) == (20, 20)
    assert found.recent_latency_ms is None
    assert set(found.latency_by_second) == {None}
    assert "latency p50 - p95 - ms" in status_line(found)
    assert "latency p50 -, p95 -, p99 - ms" in "\n".join(screen("s", found, blocks=True))
    writer.write(ROWS[20:40])
    assert follower.poll()
    found = follower.snapshot(ROWS[39].completed_ns / 1e9)
    latency = [(row.completed_ns - row.captured_ns) / 1e6 for row in ROWS[20:40]]
    assert found.recent_latency_ms == pytest.approx(
        tuple(np.quantile(latency, [0.5, 0.95, 0.99])), abs=1e-3
    )
    follower.close()


def test_only_the_last_minute_is_kept(writer: JournalWriter) -> None:
    follower = Follower(writer.path)
    second = 1_000_000_000
    for minute in range(5):
        for start in range(0, 60, 10):
            writer.write(
                [
                    make_row(
                        i,
                        [],
                        captured_ns=START_NS + (minute * 60 + i) * second,
                        completed_ns=START_NS + (minute * 60 + i) * second + (minute + 1) * 10**7,
                    )
                    for i in range(start, start + 10)
                ]
            )
            assert follower.poll()
    now = START_NS / 1e9 + 299.06
    found = follower.snapshot(now)
    assert (found.frames, sum(found.results_by_second)) == (300, RECENT_S)
    assert found.recent_latency_ms == pytest.approx((50, 50, 50))
    assert found.recent_fps == pytest.approx(1.0)
    assert sum(len(part[0]) for part in follower._recent) <= RECENT_S + 10
    # Nothing comes any more: the rate goes down.
    silent = follower.snapshot(now + 45)
    assert silent.recent_fps == pytest.approx(0.25)
    assert silent.silent_s == pytest.approx(45, abs=0.1)
    assert follower.snapshot(now + 100).recent_latency_ms is None
    follower.close()


def test_it_ends_with_the_recording(writer: JournalWriter) -> None:
    follower = Follower(writer.path)
    writer.write(ROWS[:5])
    assert follower.poll()
    writer.write(ROWS[5:9])
    writer.end(CLOSING)
    assert not follower.poll()
    assert follower.snapshot().frames == 9
    assert follower.will_be_sealed
    follower.close()


def test_it_ends_where_the_recorder_was_killed(writer: JournalWriter) -> None:
    follower = Follower(writer.path)
    writer.write(ROWS[:5])
    assert follower.poll()
    writer.write(ROWS[5:9])
    writer.close()  # the lock is gone, as after a kill
    assert not follower.poll()
    assert follower.snapshot().frames == 9
    assert not follower.will_be_sealed
    follower.close()


def test_parts_follow_each_other(tmp_path: Path) -> None:
    name = tmp_path / "s.parquet"

    def part(number: int, start: int) -> JournalWriter:
        path = part_path(name, number)
        about = {"number": number, "set_id": "set-1", "first_frame": start}
        return JournalWriter(
            path.with_suffix(".arrows"),
            new_metadata(path.stem, part=about),
            durability="never",
            first_frame=start,
        )

    first = part(1, 0)
    first.write(ROWS[:20])
    assert journal_of(name) == first.path
    follower = Follower(first.path)
    assert follower.poll()
    second = part(2, 20)
    first.end({**CLOSING, "end_reason": "split"})
    first.close()
    assert follower.poll()
    second.write(ROWS[20:50])
    assert follower.poll()
    assert (follower.path, follower.snapshot().frames) == (second.path, 50)
    assert journal_of(name) == second.path
    second.end(CLOSING)
    second.close()
    assert not follower.poll()
    follower.close()


@pytest.mark.parametrize("ends", [False, True])
def test_parts_that_were_sealed_meanwhile_count(tmp_path: Path, ends: bool) -> None:
    """A busy machine did not let it look for the length of some parts."""
    name = tmp_path / "s.parquet"
    journal = recorded(name, Splitting(every_s=1))
    follower = Follower(journal.path)
    write_rows(journal, ROWS[:20])
    assert follower.poll()
    for start in range(20, 200, 20):
        write_rows(journal, ROWS[start : start + 20])
    journal.wait_for_sealing()
    assert journal.number > 3
    assert not part_path(name, 3).with_suffix(".arrows").exists()
    part_path(name, 2).unlink()  # as it is where only the last ones are kept
    if ends:
        journal.end({**CLOSING, "totals": {}})
        assert journal.seal() == []
        assert not follower.poll()
    else:
        assert follower.poll()
        assert follower.path == journal.path
        assert follower.poll()
    with open_session(name) as session:
        kept = sum(part.rows for part in session.parts)
    assert follower.snapshot().frames == kept
    follower.close()
    if not ends:
        journal.close()


@pytest.mark.slow
def test_a_part_that_is_removed_while_it_is_counted_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is where only the last ones are kept: that was an error."""
    name = tmp_path / "s.parquet"
    journal = recorded(name, Splitting(every_s=1))
    for start in range(0, 200, 20):
        write_rows(journal, ROWS[start : start + 20])
    journal.wait_for_sealing()
    opened: list[Path] = []

    def open_and_remove(path: Path) -> Session:
        session = open_session(path)
        if not opened:
            part_path(name, 1).unlink()
        opened.append(path)
        return session

    monkeypatch.setattr(follow, "open_session", open_and_remove)
    follower = Follower(journal.path)
    assert follower.poll()
    with open_session(name) as session:
        assert session.parts[0].number == 2
        assert follower.snapshot().frames == sum(part.rows for part in session.parts)
        first_s = session.row(0)["captured_at"].timestamp()
    assert follower.snapshot().seconds == pytest.approx(
        ROWS[199].completed_ns / 1e9 - first_s, abs=1e-5
    )
    assert opened == [name.with_suffix("")] * 2
    follower.close()
    journal.close()


def test_a_part_that_is_sealed_while_it_is_looked_for_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its journal was there when the folder was listed, and that of the part after it."""
    may_seal = threading.Event()

    def wait_and_seal(*args: Any, **options: Any) -> Any:
        assert may_seal.wait(PATIENCE_S)
        return seal(*args, **options)

    monkeypatch.setattr(sealer, "seal", wait_and_seal)
    journal = recorded(tmp_path / "s.parquet", Splitting(every_s=1))
    follower = Follower(journal.path)
    write_rows(journal, ROWS[:60])
    assert journal.number >= 3

    def list_and_seal(name: Path) -> list[tuple[int, Path]]:
        found = numbered_files(name)
        may_seal.set()
        journal.wait_for_sealing()
        return found

    monkeypatch.setattr(follow, "numbered_files", list_and_seal)
    assert follower.poll()
    assert follower.poll()
    assert follower.path == journal.path
    assert follower.snapshot().frames == 60
    follower.close()
    journal.close()


def test_a_journal_that_is_sealed_while_it_is_looked_for(
    tmp_path: Path, dgrec: Run, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = tmp_path / "s.parquet"
    writer.write(ROWS[:20])

    def find_and_seal(path: Path) -> Path | None:
        found = journal_of(path)
        if found is not None:
            writer.end(CLOSING)
            seal(Journal.open(found, is_ours=True), name)
            found.unlink()
        return found

    monkeypatch.setattr(stats, "journal_of", find_and_seal)
    done = dgrec("stats", name, "--follow")
    assert done.exit_code == 0, done.output
    assert "frames       20" in done.output


def test_a_link_to_nothing_that_is_named_like_a_journal(tmp_path: Path, dgrec: Run) -> None:
    (tmp_path / "s-0001.arrows").symlink_to("nothing")
    done = dgrec("stats", tmp_path / "s.parquet", "--follow")
    assert done.exit_code == 1
    assert "s-0001.arrows: cannot be read: No such file or directory" in done.output


@pytest.mark.slow
def test_what_the_parts_before_hold_counts_from_the_start(tmp_path: Path, dgrec: Run) -> None:
    name = tmp_path / "s.parquet"
    now = ROWS[119].completed_ns / 1e9
    for number, start, end in ((1, 0, 50), (2, 50, 90), (3, 90, 120)):
        rows = ROWS[start:end]
        writer = JournalWriter(
            part_path(name, number).with_suffix(".arrows"),
            new_metadata(
                f"s-{number}", part={"number": number, "set_id": "set-1", "first_frame": start}
            ),
            durability="never",
            first_frame=start,
        )
        writer.write(rows)
        if number == 1:  # sealed
            totals = {
                "frames": len(rows),
                "detections": sum(len(row.results) for row in rows),
                "skipped": sum(row.skipped_before for row in rows),
                "dropped": sum(
                    row.dropped_camera + row.dropped_queue + row.dropped_writer for row in rows
                ),
            }
            writer.end({**CLOSING, "totals": totals, "end_reason": "split"})
            writer.close()
            seal(Journal.open(writer.path), part_path(name, number))
            writer.path.unlink()
        elif number == 2:  # cut off
            writer.close()
    follower = Follower(writer.path)
    assert follower.poll()
    found = follower.snapshot(now)
    follower.close()
    writer.end(CLOSING)
    writer.close()
    stats = json.loads(dgrec("stats", name, "--format", "json").stdout)
    assert found.frames == stats["frames"] == 120
    assert found.detections == stats["detections"]
    assert found.skipped == stats["skipped"]
    assert found.dropped == stats["dropped"]["total"]
    assert found.seconds == pytest.approx(stats["duration_s"], abs=1e-5)
    # Of the last minute it has the rows that it read itself.
    assert found.recent_fps == pytest.approx(rate_of(ROWS[50:120]))


def test_which_journal_is_followed(tmp_path: Path, writer: JournalWriter) -> None:
    assert journal_of(writer.path) == writer.path
    assert journal_of(tmp_path / "s.parquet") == writer.path
    assert journal_of(tmp_path / "s") == writer.path
    assert journal_of(tmp_path / "other.parquet") is None
    sealed = write_session(tmp_path / "done.parquet", ROWS[:3])
    assert journal_of(sealed) is None


def test_where_a_recording_is_after_it_ended(tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "s.arrows", ROWS[:3])
    assert sealed_or_not(journal, 0) == journal
    assert sealed_or_not(tmp_path / "s.parquet", 0) == journal
    seal(Journal.open(journal), tmp_path / "s.parquet")
    journal.unlink()
    assert sealed_or_not(journal, 0) == tmp_path / "s.parquet"
    assert sealed_or_not(tmp_path / "s.parquet", 0) == tmp_path / "s.parquet"


def test_the_screen(writer: JournalWriter) -> None:
    follower = Follower(writer.path)
    follower.poll()
    empty = follower.snapshot()
    assert "latency p50 - p95 - ms" in status_line(empty)
    assert "latency p50 -, p95 -, p99 - ms" in "\n".join(screen("s", empty, blocks=True))
    writer.write(ROWS[:100])
    follower.poll()
    now = ROWS[99].completed_ns / 1e9
    text = "\n".join(screen("s.arrows", follower.snapshot(now + 5), blocks=False))
    assert text.isascii()
    assert text.startswith("s.arrows: recording  (nothing for 5 s)")
    assert "100 frames" in text
    assert "nothing for" not in "\n".join(screen("s", follower.snapshot(now), blocks=True))
    follower.close()


def test_bars_reach_as_far_as_the_largest_value_that_the_axis_names() -> None:
    fps = (*(0 for _ in range(RECENT_S - 3)), 30, 15, 10)
    latency = (*(None for _ in range(RECENT_S - 3)), 12.0, None, 240.0)
    snapshot = Snapshot(
        frames=55, detections=0, skipped=0, dropped=0, dropped_at_start=0, seconds=3.0,
        silent_s=0.0, recent_fps=18.3, recent_latency_ms=(12.0, 200.0, 230.0),
        recent_inference_ms=None, results_by_second=fps, latency_by_second=latency,
    )  # fmt: skip
    lines = list(screen("s", snapshot, blocks=False))[-6:]
    assert [line[:10].strip() for line in lines] == ["240", "p95 ms", "0", "30", "results", "0"]
    columns = [line[12:].ljust(RECENT_S) for line in lines]
    # The largest value fills its column, half of it half, and a twentieth next to nothing.
    filled = [[row[-3 + at] != " " for row in columns[3:]] for at in range(3)]
    assert filled[0] == [True, True, True]
    assert filled[1] == [False, True, True]
    assert [row[-1] != " " for row in columns[:3]] == [True, True, True]
    assert [row[-3] != " " for row in columns[:2]] == [False, False]


def test_a_part_that_never_comes_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_for, "__defaults__", (0.0,))
    path = part_path(tmp_path / "s.parquet", 1).with_suffix(".arrows")
    part = {"number": 1, "set_id": "set-1", "first_frame": 0}
    writer = JournalWriter(path, new_metadata(path.stem, part=part), durability="never")
    writer.write(ROWS[:20])
    follower = Follower(path)
    assert follower.poll()
    writer.end({**CLOSING, "end_reason": "split"})
    writer.close()
    assert not follower.poll()
    assert (follower.path, follower.snapshot().frames) == (path, 20)
    follower.close()


# --- the command -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_follows_and_then_measures(
    tmp_path: Path, writer: JournalWriter, dgrec_process: Callable[..., subprocess.Popen[str]]
) -> None:
    writer.write(ROWS[:50])
    process = dgrec_process("stats", tmp_path / "s.parquet", "--follow", "--format", "json")
    assert process.stderr is not None
    assert "50 frames" in process.stderr.readline()
    writer.write(ROWS[50:90])
    while "90 frames" not in process.stderr.readline():
        assert process.poll() is None
    writer.end(CLOSING)
    writer.close()
    seal(Journal.open(writer.path), tmp_path / "s.parquet")
    writer.path.unlink()
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert json.loads(out)["frames"] == 90


@pytest.mark.slow
def test_control_c_ends_it_cleanly(
    writer: JournalWriter, dgrec_process: Callable[..., subprocess.Popen[str]]
) -> None:
    writer.write(ROWS[:50])
    process = dgrec_process("stats", writer.path, "--follow")
    assert process.stderr is not None
    assert "50 frames" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, "")
    assert err.splitlines()[-1] == "stopped looking; the recording goes on"
    assert "Traceback" not in err


@pytest.mark.slow
def test_what_is_not_being_recorded_is_measured_at_once(
    dgrec: Run, session: Path, tmp_path: Path
) -> None:
    done = dgrec("stats", session, "--follow", "--format", "json")
    measured: dict[str, Any] = json.loads(done.stdout)
    assert (done.exit_code, measured["frames"]) == (0, 40)
    missing = dgrec("stats", tmp_path / "none.parquet", "--follow")
    assert missing.exit_code == 1
    assert "No such file" in missing.output
