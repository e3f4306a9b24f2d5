"""Temporary files: their random names, and removing those that killed processes left behind.

A file that is being written is called ``.NAME.0123456789abcdef.new``, a name that nobody can have
prepared, and is locked. One without a lock was left behind, and is removed when the next file is
made in that folder.

Where a file system has no locks, leftovers stay. Where it does not share them between machines that
write to the same folder, the file that another machine is writing is taken for a leftover: that
machine then reports an error.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
from pathlib import Path

from dgrec.errors import OutputError
from dgrec.files.locks import OPEN_TO_LOCK, is_locked, lock, lock_to_remove

CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW
#: How many bytes of a name, from its beginning and its end, go into the random one: file systems
#: take 255. The names of files with one owner differ at the end.
_FIRST_BYTES, _LAST_BYTES = 150, 50
_RANDOM_NAME = re.compile(
    r"\.(?P<name>.+)\.(?P<id>[0-9a-f]{16})\.(?P<state>new|named|replaced)\Z", re.DOTALL
)


def make_temporary(
    path: Path, owner: Path | None = None, *, is_folder: bool = False, mode: int = 0o777
) -> tuple[int, Path]:
    """Make a file or folder with a random name beside ``path``, and lock it.

    ``owner`` is another temporary file whose random part the name shares. A folder gets ``mode``.
    """
    shown = os.fsencode(path.name)
    if len(shown) > _FIRST_BYTES + _LAST_BYTES:
        shown = shown[:_FIRST_BYTES] + shown[-_LAST_BYTES:]
    of_owner = _RANDOM_NAME.match(owner.name) if owner is not None else None
    while True:
        random = of_owner["id"] if of_owner else secrets.token_hex(8)
        temporary = path.with_name(f".{os.fsdecode(shown)}.{random}.new")
        if is_folder:
            temporary.mkdir(mode)
            try:
                descriptor = os.open(temporary, OPEN_TO_LOCK | os.O_NOFOLLOW)
            except FileNotFoundError:  # removed as a leftover before it was opened
                continue
        else:
            descriptor = os.open(temporary, CREATE, 0o666)
        # Before it was locked, another process may have removed it as a leftover.
        if lock(descriptor):
            with contextlib.suppress(OSError):
                if os.path.samestat(temporary.lstat(), os.fstat(descriptor)):
                    return descriptor, temporary
        os.close(descriptor)


def check_alone(path: Path) -> None:
    """Raise `OutputError` if another process is writing a file that is to have this name.

    Two that start at the same moment do not see each other, and `NewFile.finish` refuses the later
    one; but a process that starts later should learn of it before an hour of work.
    """
    for name, match in _random_names(path.parent):
        is_for_it = match["name"] == path.name and match["state"] == "new"
        if is_for_it and is_locked(path.with_name(name)):
            raise OutputError(f"{path}: another process is writing it now; choose another name")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left of files that were never completed."""
    found = _random_names(folder)
    # "named", "new", "replaced": which name of a member goes depends on its owner, whose lock
    # covers the members; what a member replaced goes once the member is settled.
    for name, match in sorted(found, key=lambda item: item[1]["state"]):
        with contextlib.suppress(OSError):
            _remove_leftover(folder / name, match, found)


def _random_names(folder: Path) -> list[tuple[str, re.Match[str]]]:
    with contextlib.suppress(OSError):  # a folder may be writable and not readable
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
        return [(name, match) for name in names if (match := _RANDOM_NAME.match(name))]
    return []


def _remove_leftover(
    path: Path, match: re.Match[str], found: list[tuple[str, re.Match[str]]]
) -> None:
    if match["state"] == "replaced":
        # Nobody has locked it. It is needed as long as the one that replaced it is there.
        if not os.path.lexists(path.with_suffix(".named")):
            path.unlink()
        return
    descriptor = os.open(path, OPEN_TO_LOCK | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if not lock_to_remove(descriptor):
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
            if any(map(os.path.lexists, owners)):  # the owner never got its name
                _remove_name_of(path, match["name"], status)
        elif _has_members(path, match["id"]):  # another process is removing them
            return
        path.unlink()
    finally:
        os.close(descriptor)


def _has_members(owner: Path, id_: str) -> bool:
    """Return whether there are members that count as leftovers only as long as their owner is."""
    return any(
        match["id"] == id_ and match["state"] == "named" for _, match in _random_names(owner.parent)
    )


def _remove_name_of(leftover: Path, start: str, status: os.stat_result) -> None:
    """Remove the other name of a file whose owner never got its own, or give it back."""
    replaced = leftover.with_suffix(".replaced")
    first = os.fsencode(start)[:_FIRST_BYTES]
    for other in list(leftover.parent.iterdir()):
        is_near = os.fsencode(other.name).startswith(first)
        if is_near and os.path.samestat(other.lstat(), status):
            if os.path.lexists(replaced):
                replaced.replace(other)
            else:
                other.unlink()
