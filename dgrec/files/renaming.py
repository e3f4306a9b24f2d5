"""Giving a temporary file its name: only if nothing has it, or in the place of what has it."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from pathlib import Path
from typing import Any

from dgrec.files.checks import exists_already
from dgrec.files.leftovers import CREATE

#: Errors of file systems without hard links (FAT, some network shares).
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_AT_FDCWD, _RENAME_NOREPLACE, _RENAME_EXCHANGE = -100, 1, 2
_NO_EXCLUSIVE_RENAME = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


def link(temporary: Path, path: Path) -> None:
    """Give a file a second name, if nothing has it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise exists_already(path) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        rename(temporary, path)


def link_over(temporary: Path, path: Path) -> None:
    """Give a file a second name, in the place of what has that name."""
    second = temporary.with_suffix(".new")
    os.replace(second if link_again(temporary, second) else temporary, path)


def link_again(path: Path, second: Path) -> bool:
    """Give a file a second name; return False where the file system cannot.

    Raises:
        FileNotFoundError: There is no such file.
    """
    try:
        os.link(path, second, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True


def rename(temporary: Path, path: Path) -> None:
    """Give a file a new name instead of the one that it has, if nothing has the new one."""
    try:
        rename_exclusively(temporary, path)
        return
    except FileExistsError:
        raise exists_already(path) from None
    except OSError as error:
        if error.errno not in _NO_EXCLUSIVE_RENAME:
            raise
    # An empty file takes the name, and is then replaced.
    try:
        os.close(os.open(path, CREATE, 0o666))
    except FileExistsError:
        raise exists_already(path) from None
    os.replace(temporary, path)


def rename_exclusively(old: Path, new: Path) -> None:
    """Rename a file in one step, unless something has the new name.

    Raises:
        FileExistsError: Something has it.
        OSError: It cannot be renamed, or not in one step (`_NO_EXCLUSIVE_RENAME`).
    """
    # Not by a hard link: the name that the file was opened by would be removed in a second step,
    # and /proc, with everything that reads it, would call the open file deleted.
    _rename_in_one_step(old, new, _RENAME_NOREPLACE)


def exchange(one: Path, other: Path) -> None:
    """Give two files or folders each other's names, in one step where that is possible.

    Raises:
        OSError: They cannot be renamed.
    """
    try:
        _rename_in_one_step(one, other, _RENAME_EXCHANGE)
        return
    except OSError as error:
        if error.errno not in _NO_EXCLUSIVE_RENAME:
            raise
    aside = one.with_suffix(".old")
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


def _rename_in_one_step(old: Path, new: Path, flags: int) -> None:
    call = _renameat2()
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags):
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
