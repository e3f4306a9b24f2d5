"""Every call that changes the disk made to fail once while a recording is split.

What is asserted after each: the rows that can be read are exactly those whose write had returned,
but for whole parts that were let go as asked for. So a failure costs at most the batch whose write
it was and what would have followed it; one that concerned the beginning, the end, the sealing or
the removing of a part costs no row.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dgrec.errors import DgrecError, NotASessionError, OutputError, StorageError
from dgrec.files import check_new_file
from dgrec.recorder.capture import Capture
from dgrec.recorder.options import Retention, Splitting
from dgrec.recorder.recovery import recover
from dgrec.recorder.stream import Stream
from dgrec.recorder.writing import PartedJournal, RowWriter
from dgrec.recorder.writing import sealer as sealer_module
from dgrec.recorder.writing.sealer import Sealer
from dgrec.session import open_session
from tests.dgrec.damage import read_all
from tests.factory import CLOSING, make_rows, write_session
from tests.faults import Faults, Kind
from tests.recorder.doubles import ScriptedFrames, journal_of, write_rows
from tests.recorder.test_faults import (
    FRAMES,
    is_whole,
    new_recording,
    numbers,
    sweep,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc/self/fd"
)

#: A head is 7 KB and a row 4 KB: two rows in a part, and five in three parts.
SIZE = 16_400
#: Room for two parts, of 16 KB each.
TOTAL = 36_000
FOREIGN = ("s-0099.parquet", "t-0001.parquet")
FULL, FAILING = Kind(errno.ENOSPC), Kind(errno.EIO, torn=True)


@dataclass(frozen=True)
class Scenario:
    kind: Kind
    keeps: bool = False
    #: What is overwritten: a set of more parts than come, or one file.
    old: str = ""

    def __str__(self) -> str:
        return f"{self.kind}{' keep' * self.keeps}{' over ' * bool(self.old)}{self.old}"


# Each kind of failure with and without retention, with and without an older recording: all pairs,
# and not all combinations, which would take half a minute.
SCENARIOS = [
    Scenario(FULL),
    Scenario(FAILING, keeps=True),
    Scenario(FAILING, old="one"),
    Scenario(FULL, keeps=True, old="parts"),
]


@pytest.fixture(autouse=True)
def in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let writing wait for sealing: call number n is then the same call in every run."""
    add, let_go, done = Sealer.add, Sealer._remove_unwanted, [0]

    def add_and_wait(self: Sealer, *arguments: Any, **options: Any) -> None:
        before = done[0]
        add(self, *arguments, **options)
        wait_until(lambda: done[0] > before, pause_s=0.0005)

    def counted(self: Sealer) -> None:
        let_go(self)
        done[0] += 1

    monkeypatch.setattr(Sealer, "add", add_and_wait)
    monkeypatch.setattr(Sealer, "_remove_unwanted", counted)


def split(folder: Path, keep: Retention | None = None, **options: Any) -> Stream:
    splitting = Splitting(size=SIZE, keep=keep or Retention())
    return new_recording(folder, splitting=splitting, in_step=True, **options)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def is_of(path: Path, set_id: str) -> bool:
    with open_session(path) as session:
        return bool(session.metadata.get("part", {}).get("set_id") == set_id)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return folders with what is there before a recording."""
    made = {}
    for old in ("", "one", "parts"):
        folder = tmp_path_factory.mktemp("before")
        if old == "one":
            write_session(folder / "s.parquet", make_rows(7))
        if old == "parts":
            recording = split(folder)
            recording.capture = Capture(ScriptedFrames(i / 30 for i in range(8)))
            recording.run()
            assert len(files(folder)) == 4
        for name in FOREIGN:
            write_session(folder / name, make_rows(3))
        made[old] = folder
    return made.__getitem__


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_every_call_of_a_split_recording_fails_once(
    tmp_path: Path, before: Callable[[str], Path], scenario: Scenario
) -> None:
    keep = Retention(total=TOTAL if scenario.keeps else None)
    old = files(before(scenario.old))
    old_rows = {"": 0, "one": 7, "parts": 8}[scenario.old]
    failed = 0
    for faults in sweep(tmp_path, scenario.kind):
        folder, faults.makes = faults.folder, True
        shutil.copytree(before(scenario.old), folder, dirs_exist_ok=True)
        recording, error = None, None
        with faults:
            try:
                recording = split(folder, keep, overwrite=bool(scenario.old))
                recording.run()
            except DgrecError as caught:
                error = caught
        state = f"call {faults.at}, {faults.calls[faults.at or 0 :][:1]}: {error}"
        check_new_file(folder / "next", overwrite=False)  # clears away what could not be removed
        now = files(folder)
        assert {name: now[name] for name in FOREIGN} == {name: old[name] for name in FOREIGN}
        assert not [name for name in now if name.startswith(".")], state
        if error is not None:
            failed += 1
            assert isinstance(error, StorageError), state
            assert error.exit_code == 4
            assert "\n" not in str(error)
        if recording is None:  # it never began
            assert now == old, state
            continue
        parts = recording.recorder._journal
        assert isinstance(parts, PartedJournal)
        written = parts.frames
        if error is None:
            assert written == FRAMES, state
            assert not list(folder.glob("*.arrows")), state
        set_id = recording.recorder._metadata["session_id"]
        new = [p for p in sorted(folder.iterdir()) if is_of(p, set_id)]
        sealed = [p for p in new if p.suffix == ".parquet"]
        assert sealed == parts.sealed, state
        # Each part by itself is whole.
        rows = []
        for path in new:
            if path.suffix == ".arrows" and path.with_suffix(".parquet") in sealed:
                continue
            part, damage = read_all(path)
            assert damage == [], state
            rows += part
        frames = [row["frame"] for row in rows]
        assert frames == sorted({*frames}), state
        assert all(row["source_frame"] == row["frame"] for row in rows)
        assert all(row["detections"][0]["x_min"] == 10.5 + row["frame"] for row in rows), state
        # And none is missing.
        first = frames[0] if frames else 0
        assert frames == list(range(first, written)), state
        assert parts.kept_frames == len(rows), state
        assert (first > 0) == (parts.removed > 0), state
        assert parts.removed <= scenario.keeps
        if error is not None:
            told = re.search(r"the (\d+) frames? .*written before (is|are) in", str(error))
            assert told, state
            assert int(told[1]) == len(rows), state
        # The name stands for the new rows, once there is something of them that is sealed.
        if scenario.old and not sealed:
            assert {name: now[name] for name in old} == old, state
            assert len(numbers(folder / "s.parquet")) == old_rows, state
            continue
        assert {*now} == {*FOREIGN, *(path.name for path in new)}, state
        assert numbers(folder / "s.parquet") == frames, state
        # The disk is well again: whatever is a journal still can be sealed.
        for path in new:
            if path.suffix == ".arrows":
                assert recover(path).journal_removed, state
                assert numbers(folder / "s.parquet") == frames, state
    assert faults.at is not None
    assert faults.at > 60, "fewer calls than parts need: the injector does not see them"
    assert 15 < failed < 45, "writing rows must fail, and all else not"


@pytest.mark.slow
def test_every_call_of_a_split_recording_fails_for_good(tmp_path: Path) -> None:
    """No part is sealed from then on: what was is, and the journals of the others are read."""
    for faults in sweep(tmp_path, Kind(errno.EIO, for_good=True, torn=True)):
        recording, error = None, None
        with faults:
            try:
                recording = split(faults.folder)
                recording.run()
            except DgrecError as caught:
                error = caught
        state = f"call {faults.at}, {faults.calls[faults.at or 0 :][:1]}: {error}"
        assert error is None or isinstance(error, StorageError), state
        if recording is None:
            continue
        written = recording.recorder._journal.frames
        assert error is not None or written == FRAMES, state
        assert numbers(faults.folder / "s.parquet")[:written] == list(range(written)), state
        for journal in sorted(faults.folder.glob("*.arrows")):
            with contextlib.suppress(
                NotASessionError
            ):  # a part that could not be begun, nor removed
                recover(journal)
        assert numbers(faults.folder / "s.parquet")[:written] == list(range(written)), state


# --- what is said ---


@pytest.mark.slow
def test_a_disk_that_is_full_while_sealing_says_so(tmp_path: Path) -> None:
    with Faults(tmp_path) as seen:
        split(tmp_path).run()
    at = seen.calls.index(("write", ".s-0003.parquet.new"))
    folder = tmp_path / "full"
    folder.mkdir()
    full = Faults(folder, at, Kind(errno.ENOSPC, for_good=True))
    with full, pytest.raises(StorageError) as caught:
        split(folder).run()
    assert caught.value.exit_code == 4
    assert caught.value.is_full
    assert str(caught.value) == (
        f"{folder / 's-0003.parquet'}: cannot be written: No space left on device; "
        f"what it holds is in {folder / 's-0003.arrows'}"
    )
    assert numbers(folder / "s.parquet") == list(range(FRAMES))


def test_a_file_in_the_way_is_no_fault_of_the_disk(tmp_path: Path) -> None:
    foreign = write_session(tmp_path / "s-0002.parquet", make_rows(3))
    with pytest.raises(OutputError, match=r"s-0002\.parquet: exists already") as caught:
        split(tmp_path).run()
    assert type(caught.value) is OutputError
    assert caught.value.exit_code == 1
    assert is_whole(foreign, 3)
    assert numbers(tmp_path / "s-0002.arrows") == [2, 3]


def test_the_disk_is_named_before_a_file_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = sealer_module.seal

    def failing(journal: Any, path: Path, **options: Any) -> Any:
        if path.name == "s-0003.parquet":
            raise StorageError(f"{path}: full", is_full=True)
        return original(journal, path, **options)

    monkeypatch.setattr(sealer_module, "seal", failing)
    write_session(tmp_path / "s-0002.parquet", make_rows(3))
    with pytest.raises(StorageError, match=r"s-0003\.parquet: full; .* \(and 1 more part\)"):
        split(tmp_path).run()


def test_frames_that_were_removed_are_not_counted(tmp_path: Path) -> None:
    keep = Retention(total=1)
    with Faults(tmp_path) as seen:
        split(tmp_path / ".", keep).run()
    # The first row of the last part: the part before is sealed.
    at = seen.calls.index(("write", "s-0003.arrows"))
    folder = tmp_path / "failing"
    folder.mkdir()
    with Faults(folder, at, Kind(errno.EIO)), pytest.raises(StorageError) as caught:
        split(folder, keep).run()
    # The part before holds what is newest, and stays, however little is to be kept.
    assert str(caught.value).endswith(
        f"; the 2 frames kept of those written before are in the parts of {folder / 's.parquet'}"
    )
    assert numbers(folder / "s.parquet") == [2, 3]


# --- what is kept ---


def test_a_part_sealed_at_the_second_try_is_removed_before_newer_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, failures = sealer_module.seal, [StorageError("full")]

    def failing(journal: Any, path: Path, **options: Any) -> Any:
        if path.name == "s-0002.parquet" and failures:
            raise failures.pop()
        return original(journal, path, **options)

    monkeypatch.setattr(sealer_module, "seal", failing)
    recording = split(tmp_path, Retention(total=1))
    recording.run()
    assert numbers(tmp_path / "s.parquet") == [FRAMES - 1]
    assert [path.name for path in recording.recorder.files] == ["s-0003.parquet"]


def test_what_came_in_the_place_of_an_old_part_is_not_replaced(tmp_path: Path) -> None:
    split(tmp_path).run()
    old = [tmp_path / f"s-000{n}.parquet" for n in (1, 2, 3)]
    journal = journal_of(
        tmp_path / "s.parquet", Splitting(size=SIZE), durability="never", replaces=old
    )
    rows = make_rows(5)
    while not journal.sealed:
        write_rows(journal, [rows.pop(0)])
    assert not old[1].exists()
    foreign = write_session(tmp_path / "other.parquet", make_rows(3)).rename(old[1])
    journal.end(CLOSING)
    (problem,) = journal.seal()
    assert "s-0002.parquet: exists already" in str(problem)
    assert is_whole(foreign, 3)


# --- room ---


@pytest.mark.parametrize("enough", [True, False])
def test_min_free_leaves_room_for_all_parts_that_are_not_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enough: bool
) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise StorageError("full")

    monkeypatch.setattr(sealer_module, "seal", failing)
    journal = journal_of(tmp_path / "s.parquet", Splitting(size=SIZE), durability="frame")
    for row in make_rows(4):
        write_rows(journal, [row])
    waiting = sum(path.stat().st_size for path in tmp_path.glob("*.arrows"))
    assert journal.path.name != "s-0001.arrows"
    assert journal.unsealed_bytes == waiting
    # One more row takes less than 5,000 bytes, or 12,000 with the head of another part.
    free = 1000 + waiting + (20_000 if enough else 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("usage", (), {"free": free}))
    alarms: list[str] = []
    writer = RowWriter(journal, min_free=1000, alarm=alarms.append)
    (row,) = make_rows(5)[4:]
    writer.put(row, journal.cutter.segment_of(row.completed_ns))
    writer.close()
    assert writer.is_disk_low is not enough
    assert alarms == ([] if enough else ["disk_full"])
    journal.close()
