"""Checks before a file is written, and what to report when writing fails."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from dgrec.errors import OutputError, StorageError
from dgrec.files.leftovers import remove_leftovers
from dgrec.paths import SESSION_SUFFIX

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FAILED = frozenset({errno.EIO, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ESTALE})


def placed(path: Path) -> Path:
    """Return the absolute path, which still names the file after the program changes its folder.

    If the program's folder was removed, the path itself: no relative path names a file then.
    """
    try:
        return path.absolute()
    except OSError:
        return path


def resolved(path: Path) -> Path:
    """Return the absolute path without links; `Path.resolve` raises where links form a circle."""
    return Path(os.path.realpath(path))


def check_session_name(path: Path) -> None:
    """Raise `OutputError` if a session that is written has another suffix, or a name that no file
    can have.
    """
    if path.suffix != SESSION_SUFFIX:
        raise OutputError(f"{path}: a session is Parquet; choose a name that ends in .parquet")
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # too long, or in a folder without permission
        raise output_error(path, error) from None


def _is_storage_failure(error: OSError) -> bool:
    """Return whether the disk is to blame, rather than a name or a permission."""
    return error.errno in _FULL or error.errno in _FAILED


def write_error(path: Path, error: OSError) -> StorageError:
    """Return what to raise when writing to a file that was open already has failed."""
    reason = error.strerror or str(error)
    return StorageError(f"{path}: cannot be written: {reason}", is_full=error.errno in _FULL)


def output_error(path: Path | str, error: Exception) -> OutputError:
    """Return what to raise when a file cannot be made or written.

    Args:
        error: An `OSError`, or an error of a library, which may have an ``errno`` as well.

    Returns:
        A `StorageError` if the disk is to blame.
    """
    number, reason = getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)
    text = f"{path}: cannot be written: {reason}"
    if number in _FULL or number in _FAILED:
        return StorageError(text, is_full=number in _FULL)
    return OutputError(text)


@contextlib.contextmanager
def output_errors(path: Path | str) -> Iterator[None]:
    """Raise `output_error` for what goes wrong with a file in the block."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from None


def exists_already(path: Path) -> OutputError:
    """Return what to raise when there is a file of that name, and no ``--overwrite``."""
    return OutputError(f"{path}: exists already; choose another name or say --overwrite")


def check_not_special(path: Path) -> None:
    """Raise `OutputError` if ``path`` is, or links to, what is neither a file nor a folder.

    Replacing /dev/null would take it from every program of the machine.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OutputError(f"{path}: is a pipe or a device, not a file; choose another name")


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` if no file can be written to ``path``, before any work is done."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")
    check_not_special(path)
    remove_leftovers(path.parent)
    if os.path.lexists(path) and not overwrite:
        raise exists_already(path)
    check_parent(path)


def check_new_folder(path: Path, *, overwrite: bool) -> set[str]:
    """Return the names that are already in a folder that is to be written.

    Raises:
        OutputError: It cannot be written, or has something in it and is not to be overwritten.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file, not a folder")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.absolute().parent}")
    check_parent(path)
    try:
        there = {entry.name for entry in path.iterdir()} if path.exists() else set()
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror}") from None
    if there and not overwrite:
        raise OutputError(
            f"{path}: exists and is not empty; choose another name or say --overwrite"
        )
    return there


def check_parent(path: Path) -> None:
    """Raise `OutputError` if the folder of ``path`` cannot be written, before any work is done."""
    folder = path.absolute().parent
    if os.access(folder, os.W_OK):
        return
    number = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
    raise output_error(path, OSError(number, os.strerror(number)))


def is_file(path: Path) -> bool:
    """Return whether there is a file of this name, of which a name may be too long for any file.

    `Path.is_file` raises an error for that until Python 3.13: what a user gives may be a list, or
    the name of something else.
    """
    try:
        return path.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def read_small_text(path: Path, most: int = 1_000_000) -> str:
    """Return the text of a configuration file, UTF-8 with or without a byte order mark.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not a regular file of at most ``most`` bytes, or not UTF-8.
    """
    # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
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
    """Write a folder's list of names to disk, so that a new or renamed file survives a power cut.

    Raises:
        OSError: The disk failed. A file system that cannot sync folders is not an error.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            with contextlib.suppress(OSError):
                os.close(descriptor)
    except OSError as error:
        if _is_storage_failure(error):
            raise
