"""Every call that changes the disk made to fail: nothing that was readable is lost.

What counts as kept: either the session is there, whole, with every row; or the journal can be read
and has every row whose write had returned.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dgrec.errors import DgrecError, OutputError, StorageError
from dgrec.format import JournalWriter, verify_checksums
from dgrec.recorder.capture import Capture
from dgrec.recorder.recovery import recover
from dgrec.recorder.sources import Frame
from dgrec.recorder.stream import Stream
from dgrec.recorder.writing import RowWriter
from dgrec.session import open_session
from tests.dgrec.damage import read_all
from tests.factory import make_detection, make_rows, new_metadata, write_journal, write_session
from tests.faults import Faults, Kind
from tests.recorder.doubles import PysdkDouble, ScriptedFrames, journal_of, new_stream
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc/self/fd"
)

FRAMES = 5

#: What brings rows to the disk: none of it may fail without an error.
ROWS = [("write", "s.arrows"), ("fsync", "s.arrows")]

KINDS = [
    Kind(errno.ENOSPC),
    Kind(errno.EIO, torn=True),
    Kind(errno.ENOSPC, for_good=True, torn=True),
    Kind(errno.EROFS, for_good=True),
]


def new_recording(folder: Path, **options: Any) -> Stream:
    """Return a recording of five frames, each a batch of its own and synced."""
    model = PysdkDouble("DetectionYolo", lambda index: [make_detection(index)])
    return new_stream(
        model,
        Capture(ScriptedFrames(i / 30 for i in range(FRAMES))),
        folder / "s.parquet",
        new_metadata("s", **model.describe()),
        durability="frame",
        **options,
    )


def numbers(path: Path) -> list[int]:
    rows, _ = read_all(path)
    return [row["frame"] for row in rows]


def is_whole(path: Path, frames: int = FRAMES) -> bool:
    return path.exists() and verify_checksums(path) and numbers(path) == list(range(frames))


def sweep(folder: Path, kind: Kind) -> Iterator[Faults]:
    """Yield faults, each in an empty folder of its own, until a run needs no more calls."""
    for at in range(10_000):
        place = folder / str(at)
        place.mkdir()
        faults = Faults(place, at, kind)
        yield faults
        if not faults.hit:
            return


# --- recording and sealing ---


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_call_of_a_recording_fails_once(tmp_path: Path, kind: Kind) -> None:
    failed = 0
    for faults in sweep(tmp_path, kind):
        recording = None
        error = None
        with faults:
            try:
                recording = new_recording(faults.folder)
                recording.run()
            except DgrecError as caught:
                error = caught
        session, journal = faults.folder / "s.parquet", faults.folder / "s.arrows"
        state = f"call {faults.at}, {faults.calls[-1]}: {error}"
        if recording is None:  # it never began
            assert isinstance(error, StorageError), state
            failed += 1
            continue
        written = recording.recorder._journal.frames
        if error is None:
            # What failed was only the clearing away, or sealing, which is tried once more.
            assert is_whole(session), state
            assert not faults.hit or faults.calls[faults.at or 0] not in ROWS, state
        else:
            failed += 1
            assert isinstance(error, StorageError), state
            assert "\n" not in str(error)
            assert is_whole(session) or numbers(journal)[:written] == list(range(written)), state
            assert str(journal) in str(error), state
        if journal.exists() and not is_whole(session):
            # The disk is well again: everything comes back.
            kept = len(numbers(journal))
            assert kept >= written, state
            assert recover(journal).frames == kept, state
            assert is_whole(session, kept), state
    assert faults.at is not None
    assert faults.at > 25, "fewer calls than a recording needs: the injector does not see them"
    healed = 8 if kind.for_good else 13
    assert failed >= faults.at - healed, "most of the failures must have been noticed"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS[1:3], ids=str)
def test_an_overwritten_session_is_there_until_the_new_one_is(tmp_path: Path, kind: Kind) -> None:
    for faults in sweep(tmp_path, kind):
        session = write_session(faults.folder / "s.parquet", make_rows(3))
        with faults, contextlib.suppress(DgrecError):
            new_recording(faults.folder, overwrite=True).run()
        assert is_whole(session, 3) or is_whole(session, FRAMES), faults.calls[-1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_call_of_recover_fails_once(tmp_path: Path, kind: Kind) -> None:
    for faults in sweep(tmp_path, kind):
        journal = write_journal(faults.folder / "s.arrows", make_rows(4), batch=2, end=False)
        before = journal.read_bytes()
        session = faults.folder / "s.parquet"
        with faults, contextlib.suppress(StorageError):  # no other kind
            recover(journal)
        assert journal.exists() or is_whole(session, 4), faults.calls[-1]
        if journal.exists():
            assert journal.read_bytes() == before
            assert recover(journal).journal_removed
            assert is_whole(session, 4)
    assert faults.at is not None
    assert faults.at > 8


@pytest.mark.slow
def test_rows_written_before_a_failure_are_there_and_later_ones_too(tmp_path: Path) -> None:
    """The writer is told of the failure; whoever goes on after it loses nothing else."""
    for faults in sweep(tmp_path, Kind(errno.EIO, torn=True)):
        path = faults.folder / "s.arrows"
        rows = make_rows(6)
        kept: list[int] = []
        with faults:
            try:
                journal = JournalWriter(path, new_metadata())
            except StorageError:
                continue
            for row in rows:
                try:
                    journal.write([row])
                    kept.append(row.source_frame)
                except StorageError:
                    pass
            with contextlib.suppress(StorageError):
                journal.close()
        assert [row["source_frame"] for row in read_all(path)[0]] == kept
        assert len(kept) >= 5


def test_what_a_failing_disk_says(tmp_path: Path) -> None:
    with Faults(tmp_path, 10, Kind(errno.ENOSPC)):
        recording = new_recording(tmp_path)
        with pytest.raises(StorageError) as caught:
            recording.run()
    journal = tmp_path / "s.arrows"
    assert str(caught.value) == (
        f"{journal}: cannot be written: No space left on device; "
        f"the 2 frames written before are in {journal}"
    )
    assert caught.value.exit_code == 4
    with open_session(journal) as session:
        assert len(session) == 2
        # The ending is smaller than the rows and found its place.
        assert session.metadata["end_reason"] == "disk_full"
        assert "No space left" in session.metadata["end_detail"]
        assert session.damage == []


def test_a_disk_that_dies_says_failed(tmp_path: Path) -> None:
    with Faults(tmp_path, 9, Kind(errno.EIO)), pytest.raises(StorageError, match="Input/output"):
        new_recording(tmp_path).run()
    with open_session(tmp_path / "s.arrows") as session:
        assert session.metadata["end_reason"] == "failed"


def test_a_journal_that_cannot_be_read_back_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the disk's fault, and the journal is the only copy of what was on it."""
    recording = new_recording(tmp_path)
    end = recording.recorder._writer.end

    def flip(closing: Any) -> None:
        end(closing)
        data = bytearray(recording.recorder.journal.read_bytes())
        data[len(data) // 2] ^= 1
        with recording.recorder.journal.open("r+b") as file:
            file.write(data)

    monkeypatch.setattr(recording.recorder._writer, "end", flip)
    with pytest.raises(StorageError, match="cannot be read back"):
        recording.run()
    assert recording.recorder.journal.exists()
    assert len(numbers(tmp_path / "s.parquet")) == FRAMES - 1


# --- order ---


def test_the_session_is_on_the_disk_before_the_journal_goes(tmp_path: Path) -> None:
    """A power cut between any two of these calls must find one of the two files complete."""
    with Faults(tmp_path) as seen:
        new_recording(tmp_path).run()
    temporary = ".s.parquet.new"
    first = seen.calls.index(("write", temporary))
    sealing = seen.calls[first:]
    last_write = max(i for i, call in enumerate(sealing) if call == ("write", temporary))
    assert [call for call in sealing[last_write + 1 :] if call[0] != "close"] == [
        ("fsync", temporary),
        ("rename", temporary),
        ("fsync", tmp_path.name),
        ("unlink", "s.arrows"),
    ]
    # And in the journal, every batch was synced before the next was written.
    recording = [call for call, name in seen.calls[:first] if name == "s.arrows"]
    assert recording == ["write", "fsync"] * (FRAMES + 1)
    # Its head and its name were too, before the first row.
    assert seen.calls[:4] == [
        ("write", ".s.arrows.new"),
        ("fsync", ".s.arrows.new"),
        ("rename", ".s.arrows.new"),
        ("fsync", tmp_path.name),
    ]


# --- a disk that fills up, or goes away ---


@pytest.mark.slow
def test_min_free_ends_and_seals_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    free = [10_000_000]
    asked: list[Path] = []

    def usage(path: Path) -> Any:
        asked.append(Path(path))
        free[0] -= 2_000_000
        return type("usage", (), {"free": free[0]})

    monkeypatch.setattr(shutil, "disk_usage", usage)
    recording = new_recording(tmp_path, min_free=5_000_000, policy="block")
    recording.capture = capture = Capture(ScriptedFrames(i / 30 for i in range(3000)))
    metadata = recording.run()
    assert metadata["end_reason"] == capture.end_reason == "disk_full"
    assert {*asked} == {tmp_path}
    with open_session(tmp_path / "s.parquet") as session:
        # The third look found less than what is to stay free.
        assert 3 <= len(session) < 3000
        assert session.damage == []
        assert session.metadata["totals"]["frames"] == len(session)
    assert not recording.recorder.journal.exists()


class Silent(ScriptedFrames):
    """A camera that gives three frames, and then nothing until it is interrupted."""

    def __init__(self) -> None:
        super().__init__(i / 30 for i in range(3))
        self.woken = threading.Event()

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is None:
            assert self.woken.wait(60), "nobody ended the recording"
        return frame

    def interrupt(self) -> None:
        self.woken.set()


def test_a_disk_that_fails_ends_the_recording_of_a_silent_camera(tmp_path: Path) -> None:
    with Faults(tmp_path, 10, Kind(errno.EIO)):
        recording = new_recording(tmp_path)
        recording.capture = Capture(Silent())
        with pytest.raises(StorageError, match="Input/output error; the 2 frames"):
            recording.run()


def test_min_free_leaves_room_for_sealing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    journal = journal_of(tmp_path / "s.parquet", durability="frame")
    enough = journal.bytes_written + 1000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("usage", (), {"free": enough}))
    writer = RowWriter(journal, min_free=999)
    for row in make_rows(3):
        writer.put(row, journal.cutter.segment_of(row.completed_ns))
    writer.close()
    assert journal.bytes_written > enough - 999
    assert writer.is_disk_low
    journal.close()


def test_without_min_free_nobody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: pytest.fail("asked"))
    new_recording(tmp_path).run()


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_folder_that_vanishes_ends_the_recording(tmp_path: Path, how: str) -> None:
    """Writing to a file that has no name any more goes on without an error."""
    import shutil

    folder = tmp_path / "usb"
    folder.mkdir()

    def vanish(row: Any, _: Any) -> None:
        if row.source_frame == 1:
            wait_until(lambda: recording.recorder._journal.frames == 2)
            if how == "moved":
                folder.rename(tmp_path / "elsewhere")
            else:
                shutil.rmtree(folder)

    recording = new_recording(folder, watchers=(vanish,))
    with pytest.raises(StorageError, match=r"is not there any more: .* went with it$") as caught:
        recording.run()
    if how == "moved":
        moved = tmp_path / "elsewhere" / "s.arrows"
        assert f"any more: it is {moved} now; " in str(caught.value)
        # The batch that found out is there once, and so is the end.
        written = recording.recorder._journal.frames
        assert written > 2
        assert numbers(moved) == list(range(written))
        result = recover(moved)
        assert (result.frames, result.ended, result.damage) == (written, True, ())
        with open_session(result.output) as session:
            assert session.metadata["end_reason"] == "failed"
            assert session.metadata["totals"]["frames"] == written


def test_a_folder_that_vanishes_before_sealing(tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    recording = new_recording(folder)
    end = recording.recorder._writer.end

    def end_and_move(closing: Any) -> None:
        end(closing)
        folder.rename(tmp_path / "elsewhere")

    recording.recorder._writer.end = end_and_move  # type: ignore[method-assign]
    with pytest.raises(OutputError) as caught:
        recording.run()
    assert caught.value.exit_code == 4
    moved = tmp_path / "elsewhere" / "s.arrows"
    assert str(caught.value).endswith(f"; what it holds is in {moved}")
    assert len(numbers(moved)) == FRAMES


def test_an_empty_journal_says_so(tmp_path: Path) -> None:
    """What a recorder leaves that is killed between making its file and the first write."""
    (tmp_path / "s.arrows").touch()
    with pytest.raises(DgrecError, match=r"is empty: its recorder was killed"):
        recover(tmp_path / "s.arrows")


def test_recover_does_not_trust_a_damaged_session(tmp_path: Path) -> None:
    """Sealed before, and its disk has lost a bit of it: the journal is the copy that is left."""
    journal = write_journal(tmp_path / "s.arrows", make_rows(6))
    assert recover(journal, keep=True).frames == 6
    session = tmp_path / "s.parquet"
    data = bytearray(session.read_bytes())
    data[len(data) // 3] ^= 4
    session.write_bytes(data)
    with pytest.raises(OutputError, match="exists already"):
        recover(journal)
    assert numbers(journal) == list(range(6))
