"""New files: names that nobody can foresee, taken once, and what killed processes leave."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dgrec.errors import OutputError
from dgrec.files import (
    NewFile,
    NewFolder,
    TemporaryFolder,
    check_new_file,
    is_locked,
    leftovers,
    lock,
    locks,
    renaming,
    temporary,
    unfinished,
)
from tests.forks import forking

_FORK = multiprocessing.get_context("fork")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def write(path: Path, text: bytes, **options: Any) -> None:
    with NewFile(path, **options) as new:
        new.file.write(text)


def killed(work: Callable[[], Any]) -> None:
    """Do ``work`` in a process that ends where it stands, as after kill -9."""
    with forking():
        process = os.fork()
        if process == 0:
            try:
                work()
            finally:
                os._exit(9)
    os.waitpid(process, 0)


# --- one file ---


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with NewFile(path) as new:
        new.file.write(b"text")
        new.file.flush()
        assert not path.exists()
        assert is_locked(new.temporary)
        assert new.temporary.name.startswith(".a.txt.")
        assert new.temporary.stat().st_mode & 0o777 == 0o666 & ~umask()
    assert path.read_bytes() == b"text"
    assert names(tmp_path) == {"a.txt"}
    assert not is_locked(path)


def umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="enough"), NewFile(tmp_path / "a.txt") as new:
        raise ValueError("enough")
    new.discard()  # once more does nothing
    assert names(tmp_path) == set()


def test_a_check_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    new = NewFile(path, replace=True)
    new.file.write(b"new")
    seen = []

    def refuse(where: Path) -> None:
        seen.append(where.read_bytes())
        raise OutputError("is not right")

    with pytest.raises(OutputError, match="is not right"):
        new.finish(refuse)
    assert seen == [b"new"]
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {"a.txt"}


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "folder"])
def test_a_name_that_is_taken(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "a.txt", tmp_path / "other"
    new = NewFile(path)  # it is not there yet
    new.file.write(b"new")
    if kind == "file":
        path.write_bytes(b"old")
    elif kind == "folder":
        path.mkdir()
    else:
        if kind == "link":
            other.write_bytes(b"old")
        path.symlink_to(other)
    before = names(tmp_path) - {new.temporary.name}
    for attempt in (new.finish, lambda: NewFile(path), lambda: check(path)):
        with pytest.raises(OutputError, match=r"a\.txt: (exists already; choose|is a folder)"):
            attempt()
    assert names(tmp_path) == before
    if kind in ("file", "link"):
        assert path.read_bytes() == b"old"
    assert other.exists() == (kind == "link")


def check(path: Path) -> None:
    check_new_file(path, overwrite=False)


def test_replacing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"old")
    (tmp_path / "a.txt").symlink_to(tmp_path / "other")
    write(tmp_path / "a.txt", b"new", replace=True)
    assert (tmp_path / "other").read_bytes() == b"old"
    assert (tmp_path / "a.txt").read_bytes() == b"new"


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_or_a_device_is_not_replaced(tmp_path: Path, linked: bool) -> None:
    pipe = path = tmp_path / "pipe"
    os.mkfifo(pipe)
    if linked:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    for attempt in (
        lambda: NewFile(path, replace=True),
        lambda: check_new_file(path, overwrite=True),
        lambda: check_new_file(path, overwrite=False),
    ):
        with pytest.raises(OutputError, match="is a pipe or a device, not a file; choose another"):
            attempt()
    assert pipe.is_fifo()
    assert path.is_symlink() == linked


def test_names_that_are_foreseen_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "precious"
    target.write_bytes(b"old")
    monkeypatch.setattr(secrets, "token_hex", lambda _: "0123456789abcdef")
    foreseen = tmp_path / ".a.txt.0123456789abcdef.new"
    foreseen.symlink_to(target)
    with pytest.raises(FileExistsError):
        NewFile(tmp_path / "a.txt")
    assert target.read_bytes() == b"old"
    assert foreseen.is_symlink()


def test_another_process_that_writes_the_same_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with NewFile(path) as new:
        for replace in (False, True):
            with pytest.raises(OutputError, match="another process is writing it now"):
                NewFile(path, replace=replace)
        write(tmp_path / "b.txt", b"beside")
        new.file.write(b"first")
    assert path.read_bytes() == b"first"


def test_a_name_that_was_replaced_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between taking the name and looking, another one took it."""
    path = tmp_path / "a.txt"
    new = NewFile(path, replace=True)
    real = os.replace

    def replace(*names: Any) -> None:
        real(*names)
        other = tmp_path / "other"
        other.write_bytes(b"of another")
        real(other, path)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OutputError, match="another process has written to this name"):
        new.finish()
    assert path.read_bytes() == b"of another"
    assert names(tmp_path) == {"a.txt"}


def test_a_file_system_that_renames_only_over_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(renaming, "rename_exclusively", fail)
    path = tmp_path / "a.txt"
    first, second = NewFile(path), NewFile.__new__(NewFile)
    first.file.write(b"first")
    first.finish()
    assert path.read_bytes() == b"first"
    monkeypatch.setattr(os.path, "lexists", lambda _: False)  # it looked before the other finished
    second.__init__(path)  # type: ignore[misc]
    with pytest.raises(OutputError, match="exists already"):
        second.finish()
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == {"a.txt"}


def test_a_name_of_255_bytes(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 125 + ".txt.")
    assert len(os.fsencode(path.name)) == 255
    write(path, b"long")
    assert path.read_bytes() == b"long"


# --- what a killed process leaves ---


def test_leftovers_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    live = NewFile(tmp_path / "live.txt")

    def leave() -> None:
        file, folder = NewFile(path), NewFolder(tmp_path / "pictures")
        file.file.write(b"torn")
        (folder.temporary / "x").write_bytes(b"x")

    killed(leave)
    assert len(names(tmp_path)) == 3
    fifo = tmp_path / ".a.txt.0123456789abcdef.new"
    os.mkfifo(fifo)  # looking at it must not wait
    mine = tmp_path / ".a.txt.new"
    mine.write_bytes(b"somebody's")
    write(path, b"whole")
    assert names(tmp_path) == {"a.txt", live.temporary.name, fifo.name, mine.name}
    live.finish()
    assert (tmp_path / "live.txt").exists()


def test_leftovers_are_left_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(37, "No locks available")

    killed(lambda: NewFile(tmp_path / "a.txt"))
    monkeypatch.setattr(fcntl, "flock", flock)
    write(tmp_path / "a.txt", b"whole")
    assert len(names(tmp_path)) == 2


def test_a_folder_for_temporary_files_goes_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def work() -> None:
        folder = TemporaryFolder("work")
        (folder.path / "inside").write_bytes(b"large")
        os._exit(9)

    (tmp_path / ".other.new").mkdir()
    killed(work)
    assert len(names(tmp_path)) == 2
    temporary._remove_leftovers.cache_clear()
    first = TemporaryFolder("work")
    assert names(tmp_path) == {".other.new", first.path.name}
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o700
    temporary._remove_leftovers.cache_clear()
    with TemporaryFolder("work") as second:
        (second.path / "inside").mkdir()
        assert names(tmp_path) == {".other.new", first.path.name, second.path.name}
    assert names(tmp_path) == {".other.new", first.path.name}
    del first
    assert names(tmp_path) == {".other.new"}


@pytest.mark.parametrize("is_opened", [False, True])
def test_a_folder_that_another_process_takes_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_opened: bool
) -> None:
    """Two commands that began at the same moment: one of them could not begin."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    removed: list[Path] = []

    def remove(made: Path) -> None:
        if not removed:
            removed.append(made)
            leftovers.remove_leftovers(tmp_path)
            assert not made.exists()

    make = Path.mkdir

    def mkdir(self: Path, mode: int) -> None:
        make(self, mode)
        if not is_opened:
            remove(self)

    def lock(descriptor: int) -> bool:
        if is_opened:
            remove(Path(f"/proc/self/fd/{descriptor}").readlink())
        return locks.lock(descriptor)

    temporary._remove_leftovers(tmp_path)  # which is done once
    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(leftovers, "lock", lock)
    with TemporaryFolder("work") as folder:
        assert removed
        assert folder.path not in removed
        assert names(tmp_path) == {folder.path.name}


def test_a_leftover_that_another_process_is_removing_is_written_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder with many pictures it takes a while: its name was refused meanwhile."""
    folder = tmp_path / "pictures"
    killed(lambda: NewFolder(folder))
    (left,) = tmp_path.iterdir()
    real, made = shutil.rmtree, []

    def rmtree(path: Path, **options: Any) -> None:
        if path == left and not made:
            made.append(path)
            NewFolder(folder).finish(lambda _: None)  # what the other process does
        real(path, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    leftovers.remove_leftovers(tmp_path)
    assert made
    assert names(tmp_path) == {"pictures"}


# --- files that belong together ---


def pair(folder: Path, stop: int, *, replace: bool = False, stem: str = "s") -> None:
    """Write a session and its video; stop after so many steps."""
    session = NewFile(folder / f"{stem}.parquet", replace=replace)
    steps: list[Callable[[], Any]] = [
        lambda: session.file.write(b"new"),
        lambda: write(folder / f"{stem}.mp4", b"new", owner=session, replace=replace),
        session.finish,
    ]
    for step in steps[:stop]:
        step()


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("looks", ["check", "new"])
def test_a_session_and_its_video_are_both_there_or_neither(
    tmp_path: Path, stop: int, looks: str
) -> None:
    killed(lambda: pair(tmp_path, stop))
    if stop == 3:
        with pytest.raises(OutputError, match="exists already"):
            check_new_file(tmp_path / "s.mp4", overwrite=False)
        assert names(tmp_path) == {"s.parquet", "s.mp4"}
        return
    assert (tmp_path / "s.mp4").exists() == (stop == 2)
    if looks == "check":
        check_new_file(tmp_path / "s.mp4", overwrite=False)
        assert names(tmp_path) == set()
    pair(tmp_path, 3)
    assert names(tmp_path) == {"s.parquet", "s.mp4"}
    assert (tmp_path / "s.mp4").read_bytes() == b"new"


def test_a_video_goes_where_two_processes_remove_leftovers(tmp_path: Path) -> None:
    """One is at the video while the other one, which waits for nobody, is at its session."""
    killed(lambda: pair(tmp_path, 2))
    (video,) = tmp_path.glob("*.named")
    other = os.open(video, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    leftovers.remove_leftovers(tmp_path)
    os.close(other)
    leftovers.remove_leftovers(tmp_path)
    assert names(tmp_path) == set()


def test_killed_before_the_random_names_are_gone(tmp_path: Path) -> None:
    def work() -> None:
        real = Path.unlink

        def unlink(path: Path, **options: Any) -> None:
            if path.suffix == ".named":
                os._exit(9)
            real(path, **options)

        Path.unlink = unlink  # type: ignore[method-assign, assignment]
        pair(tmp_path, 3)

    killed(work)
    assert len(names(tmp_path)) == 3
    write(tmp_path / "other", b"")
    assert names(tmp_path) == {"s.parquet", "s.mp4", "other"}


def test_a_session_with_the_longest_name_and_its_videos(tmp_path: Path) -> None:
    stem = "é" * 120
    with NewFile(tmp_path / f"{stem}.parquet") as session:
        for end in (".mp4", "-2.mp4"):
            write(tmp_path / f"{stem}{end}", b"new", owner=session)
    assert names(tmp_path) == {f"{stem}{end}" for end in (".parquet", ".mp4", "-2.mp4")}


def test_an_exception_takes_the_video_with_it(tmp_path: Path) -> None:
    def work() -> None:
        with NewFile(tmp_path / "s.parquet") as session:
            write(tmp_path / "s.mp4", b"new", owner=session)
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        work()
    assert names(tmp_path) == set()


def test_replacing_both(tmp_path: Path) -> None:
    for name in ("s.parquet", "s.mp4"):
        (tmp_path / name).write_bytes(b"old")
    pair(tmp_path, 3, replace=True)
    assert names(tmp_path) == {"s.parquet", "s.mp4"}
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"new"}


@pytest.mark.parametrize("stem", ["s", "x" * 200 + "y"], ids=["short", "long"])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_what_a_killed_process_replaced_is_there_again(
    tmp_path: Path, stop: int, stem: str
) -> None:
    for name in (f"{stem}.parquet", f"{stem}.mp4"):
        (tmp_path / name).write_bytes(b"old")
    killed(lambda: pair(tmp_path, stop, replace=True, stem=stem))
    leftovers.remove_leftovers(tmp_path)
    assert names(tmp_path) == {f"{stem}.parquet", f"{stem}.mp4"}
    found = {path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {b"new" if stop == 3 else b"old"}


@pytest.mark.parametrize("before", [{"s.parquet", "s.mp4"}, {"s.parquet"}], ids=["both", "one"])
@pytest.mark.parametrize("drops", [False, True])
def test_an_exception_leaves_what_was_to_be_replaced(
    tmp_path: Path, before: set[str], drops: bool
) -> None:
    for name in before:
        (tmp_path / name).write_bytes(b"old")

    def work() -> None:
        with NewFile(tmp_path / "s.parquet", replace=True) as session:
            write(tmp_path / "s.mp4", b"new", owner=session, replace=True)
            leftovers.remove_leftovers(tmp_path)  # what another process does meanwhile
            if drops:
                session.drop(tmp_path / "s.mp4")
                assert names(tmp_path) == before | {session.temporary.name}
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        work()
    assert names(tmp_path) == before
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"old"}


def test_what_is_dropped_goes_also_where_nothing_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.mp4").write_bytes(b"old")
    monkeypatch.setattr(renaming, "link_again", lambda *_: False)
    with NewFile(tmp_path / "s.parquet") as session:
        write(tmp_path / "s.mp4", b"new", owner=session, replace=True)
        session.drop(tmp_path / "s.mp4")
    assert names(tmp_path) == {"s.parquet"}


def test_a_session_that_has_its_name_keeps_its_new_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old rows are gone: with the old video, the new ones would show other pictures."""
    for name in ("s.parquet", "s.mp4"):
        (tmp_path / name).write_bytes(b"old")

    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(unfinished, "sync_folder", interrupt)
    session = NewFile(tmp_path / "s.parquet", replace=True)
    session.file.write(b"new")
    write(tmp_path / "s.mp4", b"new", owner=session, replace=True)
    with pytest.raises(KeyboardInterrupt):
        session.finish(sync=True)
    assert names(tmp_path) == {"s.parquet", "s.mp4"}
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"new"}


# --- folders ---


def fill(path: Path, text: bytes, merge: Callable[[Path], None]) -> None:
    new = NewFolder(path)
    (new.temporary / "x").write_bytes(text)
    new.finish(merge)


def test_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "pictures"
    merged: list[Path] = []
    fill(path, b"first", merged.append)
    assert (path / "x").read_bytes() == b"first"
    assert merged == []
    fill(path, b"second", merged.append)
    assert merged == [path]
    assert names(tmp_path) == {"pictures"}
    assert stat.S_ISDIR(path.stat().st_mode)

    other = os.open(path, os.O_RDONLY)
    try:
        assert lock(other)
        with pytest.raises(OutputError, match="another process is writing to it now"):
            fill(path, b"third", merged.append)
    finally:
        os.close(other)
    assert merged == [path]
    assert names(tmp_path) == {"pictures"}


@pytest.mark.parametrize("held", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_a_process_that_only_looks_whether_a_file_is_locked_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    """On a busy machine a look may take longer than a lock was waited for."""
    path = tmp_path / "a"
    path.write_bytes(b"")
    looking, mine = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 50:
            fcntl.flock(looking, fcntl.LOCK_UN)

    monkeypatch.setattr("time.sleep", sleep)
    try:
        fcntl.flock(looking, held)
        assert lock(mine) is (held == fcntl.LOCK_SH)
        assert is_locked(path)
    finally:
        os.close(looking)
        os.close(mine)


# --- two at once ---


def _compete(path: Path, number: int, replace: bool, barrier: Any, won: Any) -> None:
    barrier.wait(60)
    try:
        with NewFile(path, replace=replace) as new:
            for _ in range(50):
                new.file.write(b"%d\n" % number)
    except OutputError:
        os._exit(1)
    won.put(number)


@pytest.mark.slow
@pytest.mark.parametrize("replace", [False, True])
def test_many_at_once(tmp_path: Path, replace: bool) -> None:
    """No file ever holds the lines of two, and of those that may not replace exactly one wins."""
    for attempt in range(10):
        path = tmp_path / f"{attempt}.txt"
        barrier, won = _FORK.Barrier(4), _FORK.SimpleQueue()
        processes = [
            _FORK.Process(target=_compete, args=(path, number, replace, barrier, won))
            for number in range(4)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        winners = []
        while not won.empty():
            winners.append(won.get())
        lines = set(path.read_bytes().split())
        assert len(lines) == 1
        assert winners
        assert int(next(iter(lines))) in winners
        assert replace or len(winners) == 1
        assert sorted(process.exitcode for process in processes) == [0] * len(winners) + [1] * (
            4 - len(winners)
        )
    assert len(names(tmp_path)) == 10


@pytest.mark.parametrize("in_one_step", [True, False])
def test_folders_take_each_others_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_step: bool
) -> None:
    if not in_one_step:
        monkeypatch.setattr(renaming, "_renameat2", lambda: None)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "of").write_text(name)
    renaming.exchange(tmp_path / "a", tmp_path / "b")
    assert [(tmp_path / name / "of").read_text() for name in "ab"] == ["b", "a"]
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    with pytest.raises(FileNotFoundError):
        renaming.exchange(tmp_path / "none", tmp_path / "b")
    assert (tmp_path / "b" / "of").read_text() == "a"


def test_a_new_folder_may_be_named_by_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in" / "side").mkdir(parents=True)
    (tmp_path / "in" / "old").touch()
    monkeypatch.chdir(tmp_path / "in" / "side")
    new = NewFolder(Path(".."))
    assert new.temporary.parent == tmp_path
    new.finish(lambda folder: (folder / "merged").touch())
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"side", "old", "merged"}
