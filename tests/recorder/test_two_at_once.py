"""Several processes at one name: one wins, the others say so, and nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.errors import DgrecError, NotASessionError, OutputError
from dgrec.files import is_locked, lock, renaming
from dgrec.format import Journal, JournalWriter, is_being_written, verify_checksums
from dgrec.paths import journal_path
from dgrec.recorder import destination
from dgrec.recorder.destination import check_output
from dgrec.recorder.options import Splitting
from dgrec.recorder.recovery import left_behind, recover
from dgrec.replay.verify import verify
from dgrec.session import open_session
from tests.dgrec.damage import read_all
from tests.factory import make_rows, new_metadata, write_journal, write_session
from tests.forks import forking
from tests.recorder.test_faults import new_recording, numbers
from tests.waiting import wait_until

_FORK = multiprocessing.get_context("fork")


def together(work: Callable[[], Any], count: int = 2) -> list[str]:
    """Do ``work`` in some processes at the same moment; return what each of them said."""
    barrier, said = _FORK.Barrier(count), _FORK.SimpleQueue()

    def run() -> None:
        barrier.wait(60)
        try:
            work()
        except DgrecError as error:
            said.put(f"{type(error).__name__}: {error}")
        except BaseException as error:
            said.put(repr(error))
        else:
            said.put("")
        os._exit(0)

    processes = [_FORK.Process(target=run) for _ in range(count)]
    with forking():
        for process in processes:
            process.start()
    for process in processes:
        process.join(60)
    return sorted(said.get() for _ in range(count))


@pytest.mark.slow
def test_two_recoveries_of_one_journal(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    for attempt in range(12):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        journal = write_journal(folder / "s.arrows", make_rows(300), batch=50, end=False)
        won, lost = together(lambda journal=journal: recover(journal))  # type: ignore[misc]
        assert won == ""
        assert "\n" not in lost
        seen[lost.partition(str(journal))[2]] += 1
        assert {path.name for path in folder.iterdir()} == {"s.parquet"}
        assert verify_checksums(folder / "s.parquet")
        assert numbers(folder / "s.parquet") == list(range(300))
    assert set(seen) <= {
        ": is being recorded now, or recovered by another process; stop that first, or wait for it",
        *(f": no such journal; it is sealed: {tmp_path / str(i) / 's.parquet'}" for i in range(12)),
    }


def test_a_journal_that_was_recovered_between_two_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one finished after this one had opened the file, and before it was locked."""
    journal = write_journal(tmp_path / "s.arrows", make_rows(4), end=False)
    shutil.copy(journal, tmp_path / "copy.arrows")

    def late(descriptor: int) -> bool:
        journal.unlink()
        return lock(descriptor)

    monkeypatch.setattr("dgrec.recorder.recovery.lock", late)
    with pytest.raises(NotASessionError, match=r"s\.arrows: no such journal$"):
        recover(journal)
    assert not (tmp_path / "s.parquet").exists()


def test_a_journal_that_goes_before_it_is_opened_is_no_fault_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = write_journal(tmp_path / "s.arrows", make_rows(4), end=False)
    real = os.open

    def late(path: Any, flags: int, *others: Any, **options: Any) -> int:
        if path == journal and journal.exists():
            journal.rename(tmp_path / "s.parquet")  # as the other process leaves it
        return real(path, flags, *others, **options)

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(NotASessionError, match=r"s\.arrows: no such journal; it is sealed: "):
        recover(journal)


def test_a_pipe_named_like_a_journal_is_not_said_to_be_missing_or_sealed(tmp_path: Path) -> None:
    write_session(tmp_path / "s.parquet", make_rows(1))
    pipe = tmp_path / "s.arrows"
    os.mkfifo(pipe)
    with pytest.raises(NotASessionError, match=r"s\.arrows: is a pipe or a device, not a journal$"):
        recover(pipe)


@pytest.mark.slow
def test_recovering_into_other_names(tmp_path: Path) -> None:
    """Only one of them has the journal, wherever it puts what it reads."""
    journal = write_journal(tmp_path / "s.arrows", make_rows(300), batch=50, end=False)
    barrier, said = _FORK.Barrier(2), _FORK.SimpleQueue()

    def run(name: str) -> None:
        barrier.wait(60)
        try:
            recover(journal, tmp_path / name)
        except DgrecError as error:
            said.put(str(error))
        else:
            said.put("")
        os._exit(0)

    processes = [_FORK.Process(target=run, args=(f"{i}.parquet",)) for i in range(2)]
    with forking():
        for process in processes:
            process.start()
    for process in processes:
        process.join(60)
    won, lost = sorted(said.get() for _ in processes)
    assert won == ""
    assert lost
    (sealed,) = tmp_path.iterdir()
    assert numbers(sealed) == list(range(300))


def test_a_copy_of_a_journal_that_is_being_recorded(tmp_path: Path) -> None:
    """Recovering it would cut the video that is being written, which would be damaged then."""
    output, copy = tmp_path / "s.parquet", tmp_path / "copy.arrows"
    with dgrec.Recorder(output, video="raw", durability="frame") as recorder:
        recorder.add([], np.zeros((48, 64, 3), np.uint8))
        wait_until(lambda: (tmp_path / "s.mp4").exists() and len(numbers(journal_path(output))) > 0)
        shutil.copy(journal_path(output), copy)
        before = copy.read_bytes()
        with pytest.raises(OutputError, match=r"s\.mp4: is being recorded now, with s\.arrows"):
            recover(copy)
        assert copy.read_bytes() == before
        recorder.add([], np.zeros((48, 64, 3), np.uint8))
    assert verify(output) == []
    assert recover(copy).frames == 1
    assert verify(output) == []


@pytest.mark.parametrize("is_linked", [False, True])
def test_recovering_by_a_link(tmp_path: Path, is_linked: bool) -> None:
    """The video is not being recorded, though the journal is locked by whoever recovers it."""
    output, journal = tmp_path / "s.parquet", tmp_path / "s.arrows"
    with dgrec.Recorder(output, video="raw", durability="frame") as recorder:
        recorder.add([], np.zeros((48, 64, 3), np.uint8))
        wait_until(lambda: journal.exists() and len(numbers(journal)) > 0)
        data = journal.read_bytes()
    output.unlink()
    journal.write_bytes(data)
    link = tmp_path / "link.arrows"
    if is_linked:
        link.symlink_to(journal)
    else:
        link.hardlink_to(journal)
    assert recover(link).videos == (f"{tmp_path / 's.mp4'}: 1 frame",)


def test_a_recorder_that_was_killed_before_its_video_had_its_name(tmp_path: Path) -> None:
    """The session is sealed and names the video of the session that it has replaced."""
    output, video, new = tmp_path / "s.parquet", tmp_path / "s.mp4", tmp_path / "s.new.mp4"
    journal = journal_path(output)
    with dgrec.Recorder(output, video="raw") as recorder:
        recorder.add([], np.zeros((48, 64, 3), np.uint8))
    old = video.read_bytes()
    with dgrec.Recorder(output, video="raw", overwrite=True, durability="frame") as recorder:
        for _ in range(3):
            recorder.add([], np.zeros((48, 64, 3), np.uint8))
        wait_until(lambda: journal.exists() and len(numbers(journal)) == 3)
        rows = journal.read_bytes()
    video.rename(new)
    video.write_bytes(old)
    journal.write_bytes(rows)
    assert verify(output) != []
    assert recover(journal).journal_removed
    assert verify(output) == []
    assert {path.name for path in tmp_path.iterdir()} == {"s.parquet", "s.mp4"}


def test_a_journal_is_locked_before_anybody_can_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be taken for one that was left behind, and recovered while it is written."""
    path = tmp_path / "s.arrows"
    seen = []
    real = renaming.rename_exclusively

    def rename(old: Path, new: Path) -> None:
        assert is_locked(old)
        real(old, new)
        seen.append((is_being_written(new), left_behind(tmp_path), numbers(new)))

    monkeypatch.setattr(renaming, "rename_exclusively", rename)
    journal = JournalWriter(path, new_metadata())
    assert seen == [(True, [], [])]
    with pytest.raises(OutputError, match="is being recorded now, or recovered"):
        recover(path)
    journal.write(make_rows(3))
    journal.close()
    assert recover(path).frames == 3


@pytest.mark.parametrize("end", ["", "torn"])
def test_a_torn_end_is_damage_to_whoever_recovers_it(tmp_path: Path, end: str) -> None:
    journal = write_journal(tmp_path / "s.arrows", make_rows(6), batch=2, end=False)
    if end:
        os.truncate(journal, journal.stat().st_size - 100)
    result = recover(journal)
    assert result.frames == (4 if end else 6)
    assert bool(result.damage) == bool(end)
    assert journal.exists() == bool(end)


def test_reading_while_it_is_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers see the rows of the journal, and then those of the session; never an error."""
    journal = write_journal(tmp_path / "s.arrows", make_rows(40), batch=5, end=False)
    seen: list[int] = []
    real = Journal.batches

    def batches(self: Journal) -> Any:
        for batch in real(self):
            if self.is_ours:
                rows, damage = read_all(journal)
                assert damage == []
                seen.append(len(rows))
            yield batch

    monkeypatch.setattr(Journal, "batches", batches)
    assert recover(journal).frames == 40
    assert seen
    assert set(seen) == {40}
    with open_session(tmp_path / "s.parquet") as session:
        assert len(session) == 40


def test_a_recording_is_nobodys_until_it_is_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its end and its sealing, `recover` takes it for one that is being recorded."""
    recording = new_recording(tmp_path)
    told = []
    real = recording.recorder._writer.end

    def end(closing: Any) -> None:
        real(closing)
        with pytest.raises(OutputError) as caught:
            recover(recording.recorder.journal)
        told.append(str(caught.value))

    monkeypatch.setattr(recording.recorder._writer, "end", end)
    recording.run()
    assert len(told) == 1
    assert "is being recorded now" in told[0]
    assert numbers(tmp_path / "s.parquet")


@pytest.mark.slow
def test_two_recordings_of_one_name(tmp_path: Path) -> None:
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        won, lost = together(lambda folder=folder: new_recording(folder).run())  # type: ignore[misc]
        assert won == ""
        assert lost.startswith(f"OutputError: {folder / 's'}.")
        assert {path.name for path in folder.iterdir()} == {"s.parquet"}
        assert verify_checksums(folder / "s.parquet")


@pytest.mark.parametrize("options", [{}, {"splitting": Splitting(every_s=60)}])
def test_a_recording_that_was_sealed_before_this_one_began(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """Its journal is gone, so that nothing is in the way of another one but the session."""
    sealed = tmp_path / ("s-0001.parquet" if options else "s.parquet")
    write_session(sealed, make_rows(4))
    before = sealed.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        new_recording(tmp_path, **options)
    assert [path.name for path in tmp_path.iterdir()] == [sealed.name]
    assert sealed.read_bytes() == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_recording_that_is_sealed_while_its_name_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    """Its journal, which was there a moment ago, was said not to be one of dgrec."""
    journal = write_journal(tmp_path / "s.arrows", make_rows(4))

    def sealed(path: Path) -> bool:
        if path.exists():
            recover(path)
        return False

    monkeypatch.setattr(destination, "is_being_written", sealed)
    output = tmp_path / "s.parquet"
    if overwrite:
        check_output(output, overwrite, split=False)
    else:
        with pytest.raises(OutputError, match=r"s\.parquet: exists already; .* --overwrite"):
            check_output(output, overwrite, split=False)
    assert not journal.exists()
