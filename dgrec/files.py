"""What several modules do with files."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from dgrec.errors import OutputError, StorageError

__all__ = ["is_storage_failure", "open_error", "sync_folder", "write_error"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FAILED = frozenset({errno.EIO, errno.EROFS, errno.ENODEV, errno.ENXIO, errno.ESTALE})


def is_storage_failure(error: OSError) -> bool:
    """Return whether the disk is to blame, rather than a name or a permission."""
    return error.errno in _FULL or error.errno in _FAILED


def write_error(path: Path, error: OSError) -> StorageError:
    """Return what to raise when a write to a file that was open already has failed."""
    reason = error.strerror or str(error)
    return StorageError(f"{path}: cannot be written: {reason}", is_full=error.errno in _FULL)


def open_error(path: Path, error: OSError) -> OutputError:
    """Return what to raise when a file cannot be opened for writing."""
    if is_storage_failure(error):
        return write_error(path, error)
    return OutputError(f"{path}: cannot be written: {error.strerror or error}")


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
