"""How dgrec writes files, and what else several modules do with them.

Every file appears under its name once it is whole (`NewFile`, `NewFolder`): until then it has a
random one beside it, ``.NAME.0123456789abcdef.new``, which nobody can have put there before, and is
locked. What a killed process left is therefore known by its name and by having no lock; it is
removed when the next file is made in that folder.

Locks are those of ``flock``. Where a file system has none, or does not share them between machines
that write to the same folder, a name is still taken only once, but leftovers stay or, in the second
case, a file that another machine is writing is taken for one: that one then fails, and says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import re
import secrets
import shutil
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from dgrec.errors import OutputError, StorageError

try:
    import fcntl
except ImportError:  # Windows keeps others from removing or renaming an open file by itself
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "NewFile",
    "NewFolder",
    "Unfinished",
    "check_new_file",
    "check_parent",
    "exists_already",
    "is_locked",
    "is_storage_failure",
    "lock",
    "output_error",
    "read_small_text",
    "resolved",
    "sync_folder",
    "write_error",
]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FAILED = frozenset({errno.EIO, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ESTALE})


def resolved(path: Path) -> Path:
    """Return the absolute path without links; links in a circle stay, for opening to report."""
    return Path(os.path.realpath(path))


def is_storage_failure(error: OSError) -> bool:
    """Return whether the disk is to blame, rather than a name or a permission."""
    return error.errno in _FULL or error.errno in _FAILED


def write_error(path: Path, error: OSError) -> StorageError:
    """Return what to raise when a write to a file that was open already has failed."""
    reason = error.strerror or str(error)
    return StorageError(f"{path}: cannot be written: {reason}", is_full=error.errno in _FULL)


def output_error(path: Path | str, error: Exception) -> OutputError:
    """Return what to raise when a file cannot be made or written, be it the disk's fault or not.

    Args:
        error: An `OSError`, or one of a library that has an ``errno`` and a ``strerror`` where it
            stands for one.
    """
    number, reason = getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)
    text = f"{path}: cannot be written: {reason}"
    if number in _FULL or number in _FAILED:
        return StorageError(text, is_full=number in _FULL)
    return OutputError(text)


def check_parent(path: Path) -> None:
    """Raise `OutputError` if the folder of ``path`` takes no new file, before any work is done."""
    folder = path.absolute().parent
    if os.access(folder, os.W_OK):
        return
    number = errno.EACCES
    if hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY:
        number = errno.EROFS
    raise output_error(path, OSError(number, os.strerror(number)))


def read_small_text(path: Path, most: int = 1_000_000) -> str:
    """Return what is in a configuration file, which may be UTF-8 with a byte order mark.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no regular file of at most ``most`` bytes, or not UTF-8.
    """
    # A pipe that nobody writes to must not be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"is larger than {most:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of names to the disk: a new or renamed file survives a power cut.

    Raises:
        OSError: The disk failed. That a file system cannot sync folders is no error.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    except OSError as error:
        if is_storage_failure(error):
            raise


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` if no file can be written to ``path``, before any work is done."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")
    _remove_leftovers(path.parent)
    if os.path.lexists(path) and not overwrite:
        raise exists_already(path)
    check_parent(path)


def exists_already(path: Path) -> OutputError:
    """Return what to raise when there is a file of that name, which nobody said to replace."""
    return OutputError(f"{path}: exists already; choose another name or say --overwrite")


# --- locks -------------------------------------------------------------------------------------

#: Opening a FIFO would wait for somebody to write into it.
_LOOK = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
_LOOKS, _LOOK_S = 20, 0.005


def lock(descriptor: int) -> bool:
    """Lock an open file until it is closed or this process dies; False if another process has it.

    On a file system without locks nothing is locked, and the answer is True.
    """
    for _ in range(_LOOKS):
        if _try_lock(descriptor) is not False:
            return True
        time.sleep(_LOOK_S)  # somebody may only be looking (`is_locked`)
    return False


def is_locked(path: Path) -> bool:
    """Return whether a live process has locked the file ``path``."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, _LOOK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _try_lock(descriptor: int) -> bool | None:
    """Return whether the lock could be had; None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


# --- new files ---------------------------------------------------------------------------------

#: How many bytes of a name go into the random one: file systems take 255.
_NAME_BYTES = 200
_RANDOM_NAME = re.compile(
    r"\.(?P<name>.+)\.(?P<id>[0-9a-f]{16})\.(?P<state>new|named)\Z", re.DOTALL
)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_MAKE = os.O_CREAT | os.O_EXCL | os.O_RDWR | _NOFOLLOW
#: What file systems without hard links answer (FAT, some network shares).
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1
_NO_EXCLUSIVE_RENAME = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


class Unfinished(ABC):
    """Something that is being written, and takes its name when it is whole.

    Leaving the ``with`` block by an exception, or being killed, leaves nothing under that name.
    """

    @abstractmethod
    def finish(self) -> None:
        """Write what is left and give it its name.

        Raises:
            OutputError: It cannot be written.
        """

    @abstractmethod
    def discard(self) -> None:
        """Remove what was written so far; after `finish`, do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.discard()


class NewFile:
    """A file that is being written, and takes its name once it is whole.

    Leaving the ``with`` block finishes it, and leaving it by an exception removes it; killed before
    it has its name, it leaves nothing that stands in the way of the next try.

    Several files that only make sense together have an ``owner``, the one that names the others
    (a session, whose videos they are). They take their names when they are finished, but as long as
    the owner has not taken its own they count as leftovers, as it does.

    Args:
        path: Where it goes.
        replace: Whether it takes the place of a file of that name. Otherwise it takes the name only
            if nothing has it by then, a symbolic link included.
        owner: See above.

    Raises (also from `finish`):
        OutputError: ``path`` exists already, or another process is writing a file of that name.
        OSError: It cannot be made or written.
    """

    def __init__(self, path: Path, *, replace: bool = False, owner: NewFile | None = None) -> None:
        self.path = path
        self._replace = replace
        self._owner = owner
        self._members: list[NewFile] = []
        self._has_name = False
        _remove_leftovers(path.parent)
        if not replace and os.path.lexists(path):
            raise exists_already(path)
        _check_alone(path)
        of_owner = owner.temporary if owner is not None else None
        self.descriptor: int
        self.temporary: Path
        self.descriptor, self.temporary = _make(path, of_owner)
        #: For reading and writing.
        self.file: BinaryIO = os.fdopen(os.dup(self.descriptor), "w+b")
        if owner is not None:
            owner._members.append(self)

    @property
    def name(self) -> str:
        """What other libraries can open: this very file, whatever becomes of its name."""
        own = Path(f"/proc/self/fd/{self.descriptor}")
        return str(own if own.exists() else self.temporary.absolute())

    def finish(self, check: Callable[[Path], None] | None = None, *, sync: bool = False) -> None:
        """Give the file its name.

        Args:
            check: Called with where the file is before anything that was there goes; what it raises
                leaves everything as it was.
            sync: Whether it is to survive a power cut from then on.
        """
        try:
            if sync:
                self.file.flush()
                os.fsync(self.descriptor)
            self.file.close()
            if check is not None:
                check(self.temporary)
            self._take_name()
            if sync:
                sync_folder(self.path.parent)
        except BaseException:
            self._undo()
            raise
        if self._owner is None:
            self._settle()

    def discard(self) -> None:
        """Remove what was written; once it is finished, do nothing."""
        if self.descriptor >= 0 and not self._has_name:
            self._undo()

    def release(self) -> int:
        """Finish without closing: return the descriptor, which the caller closes.

        The file stays locked for as long as that is open. It may still be appended to.
        """
        try:
            self.file.close()
            self._take_name()
        except BaseException:
            self._undo()
            raise
        descriptor, self.descriptor = self.descriptor, -1
        self._settle()
        return descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
        elif self.descriptor >= 0 and not self._has_name:
            self.finish()

    # --- inside ---

    def _take_name(self) -> None:
        if self._owner is not None:
            # From here on it has two names. Which of them goes is decided by the owner.
            named = self.temporary.with_suffix(".named")
            self.temporary = self.temporary.rename(named)
        take: Callable[[Path, Path], None] = os.replace if self._replace else _rename
        if self._owner is not None:
            take = _link_over if self._replace else _link
        take(self.temporary, self.path)
        self._has_name = True
        if not self._is_at(self.path):
            raise OutputError(f"{self.path}: another process has written to this name meanwhile")

    def _undo(self) -> None:
        for member in self._members:
            member._undo()
        with contextlib.suppress(OSError):
            self.file.close()
        if self._has_name and self._is_at(self.path) and not self._replace:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._settle()

    def _settle(self) -> None:
        """Remove the random names, and unlock."""
        for member in self._members:
            member._settle()
        if not self._has_name or self._owner is not None:
            with contextlib.suppress(OSError):
                self.temporary.unlink(missing_ok=True)
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _is_at(self, path: Path) -> bool:
        try:
            return os.path.samestat(path.lstat(), os.fstat(self.descriptor))
        except OSError:
            return False


class NewFolder:
    """A folder that is being filled, and takes its name once it is whole.

    Args:
        path: Where it goes.

    Raises (also from `finish`):
        OutputError: Another process is writing a folder of that name.
        OSError: It cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _remove_leftovers(path.parent)
        _check_alone(path)
        self._descriptor, self.temporary = _make(path, is_folder=True)

    def finish(self, merge: Callable[[Path], None]) -> None:
        """Give the folder its name; where there is one that is not empty, ``merge`` into that.

        Args:
            merge: Called with the folder that is there, which no other process merges into
                meanwhile.
        """
        try:
            try:
                self.temporary.rename(self.path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                with _locked_folder(self.path):
                    merge(self.path)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what was written; once it is finished, do nothing."""
        shutil.rmtree(self.temporary, ignore_errors=True)
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _make(path: Path, owner: Path | None = None, *, is_folder: bool = False) -> tuple[int, Path]:
    """Make a file or folder with a random name beside ``path``, and lock it.

    ``owner`` is one whose random part its name shares.
    """
    start = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])
    of_owner = _RANDOM_NAME.match(owner.name) if owner is not None else None
    while True:
        random = of_owner["id"] if of_owner else secrets.token_hex(8)
        temporary = path.with_name(f".{start}.{random}.new")
        if is_folder:
            temporary.mkdir()
            descriptor = os.open(temporary, _LOOK | _NOFOLLOW)
        else:
            descriptor = os.open(temporary, _MAKE, 0o666)
        # Before it was locked, another process may have taken it for a leftover.
        if lock(descriptor):
            with contextlib.suppress(OSError):
                if os.path.samestat(temporary.lstat(), os.fstat(descriptor)):
                    return descriptor, temporary
        os.close(descriptor)


def _link(temporary: Path, path: Path) -> None:
    """Give a file a second name, if nothing has it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise exists_already(path) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename(temporary, path)


def _rename(temporary: Path, path: Path) -> None:
    """Give a file its name, if nothing has it, instead of the one that it has."""
    try:
        rename_exclusively(temporary, path)
        return
    except FileExistsError:
        raise exists_already(path) from None
    except OSError as error:
        if error.errno not in _NO_EXCLUSIVE_RENAME:
            raise
    # An empty file takes the name, and then the whole one its place.
    try:
        os.close(os.open(path, _MAKE, 0o666))
    except FileExistsError:
        raise exists_already(path) from None
    os.replace(temporary, path)


def rename_exclusively(old: Path, new: Path) -> None:
    """Rename a file unless something has the new name; one step, where the system has it.

    Raises:
        FileExistsError: Something has it.
        OSError: It cannot be renamed, or not in this way (`_NO_EXCLUSIVE_RENAME`).
    """
    # A hard link would do, too, but is followed by a second step, and the open file would keep the
    # name that is removed then: /proc, and what reads it, would call it deleted.
    call = _renameat2()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(new))


@functools.cache
def _renameat2() -> Any:
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, TypeError, AttributeError):  # not Linux, or an old C library
        return None
    name = ctypes.c_char_p
    call.argtypes = (ctypes.c_int, name, ctypes.c_int, name, ctypes.c_uint)
    return call


def _link_over(temporary: Path, path: Path) -> None:
    """Give a file a second name, in the place of what has that name."""
    second = temporary.with_suffix(".new")
    try:
        os.link(temporary, second)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        second = temporary
    os.replace(second, path)


@contextlib.contextmanager
def _locked_folder(path: Path) -> Iterator[None]:
    descriptor = os.open(path, _LOOK)
    try:
        if not lock(descriptor):
            raise OutputError(f"{path}: another process is writing to it now")
        yield
    finally:
        os.close(descriptor)


def _check_alone(path: Path) -> None:
    """Raise `OutputError` if another process is writing a file that is to have this name.

    Two may look at the same moment and find nobody. `NewFile.finish` then tells them apart; but who
    comes later should hear of it before an hour of work.
    """
    for name, match in _random_names(path.parent):
        is_for_it = match["name"] == path.name and match["state"] == "new"
        if is_for_it and is_locked(path.with_name(name)):
            raise OutputError(f"{path}: another process is writing it now; choose another name")


def _random_names(folder: Path) -> list[tuple[str, re.Match[str]]]:
    with contextlib.suppress(OSError):  # a folder may be there to be written to only
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
        return [(name, match) for name in names if (match := _RANDOM_NAME.match(name))]
    return []


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left of files that never came to be whole."""
    found = _random_names(folder)
    # An owner says whether its members count, and so goes last; its lock is theirs.
    for name, match in sorted(found, key=lambda item: item[1]["state"] == "new"):
        with contextlib.suppress(OSError):
            _remove_leftover(folder / name, match, found)


def _remove_leftover(
    path: Path, match: re.Match[str], found: list[tuple[str, re.Match[str]]]
) -> None:
    descriptor = os.open(path, _LOOK | _NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if _try_lock(descriptor) is not True:
            return
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path, ignore_errors=True)
            return
        if not stat.S_ISREG(status.st_mode):
            return
        if match["state"] == "named":
            owners = [
                path.with_name(name)
                for name, other in found
                if other["id"] == match["id"] and other["state"] == "new"
            ]
            if any(map(os.path.lexists, owners)):  # else it has its name
                _remove_name_of(path, match["name"], status)
        path.unlink()
    finally:
        os.close(descriptor)


def _remove_name_of(leftover: Path, start: str, status: os.stat_result) -> None:
    """Remove the other name of a file that counts only together with one that never was."""
    for other in list(leftover.parent.iterdir()):
        if other.name.startswith(start) and os.path.samestat(other.lstat(), status):
            other.unlink()
