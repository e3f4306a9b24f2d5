"""What several modules do with files."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from dgrec.errors import OutputError, StorageError

__all__ = [
    "check_new_file",
    "check_parent",
    "is_storage_failure",
    "output_error",
    "sync_folder",
    "write_error",
]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FAILED = frozenset({errno.EIO, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ESTALE})


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
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or say --overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}")
    check_parent(path)
