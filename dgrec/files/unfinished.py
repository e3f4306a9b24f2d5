"""Files and folders that appear under their names once they are complete."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from dgrec.errors import OutputError
from dgrec.files import renaming
from dgrec.files.checks import check_not_special, exists_already, sync_folder
from dgrec.files.leftovers import check_alone, make_temporary, remove_leftovers
from dgrec.files.locks import OPEN_TO_LOCK, lock


class Unfinished(ABC):
    """Something that is being written, and gets its name once it is complete.

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


class NewFile(Unfinished):
    """A file that is being written; if its process is killed first, it blocks no later attempt.

    Several files that only make sense together have an ``owner``, the one that names the others
    (a session, whose videos they are). They get their names when they are finished, but until the
    owner has its own name they count as leftovers, as the owner does: what they replaced is kept
    until then, where the file system has hard links, and comes back if the owner does not get it.

    Args:
        path: Its name once it is complete.
        replace: Replace a file of that name, never a device or a pipe. Otherwise the file gets the
            name only if nothing has it by then, not even a symbolic link.
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
        #: The second name of the file that this one has replaced, as long as that may come back.
        self._replaced: Path | None = None
        check_not_special(path)
        remove_leftovers(path.parent)
        if not replace and os.path.lexists(path):
            raise exists_already(path)
        check_alone(path)
        of_owner = owner.temporary if owner is not None else None
        self.descriptor: int
        self.temporary: Path
        self.descriptor, self.temporary = make_temporary(path, of_owner)
        #: For reading and writing.
        self.file: BinaryIO = os.fdopen(os.dup(self.descriptor), "w+b")
        if owner is not None:
            owner._members.append(self)

    @property
    def name(self) -> str:
        """A path that other libraries can open: this very file, even if it is renamed."""
        own = Path(f"/proc/self/fd/{self.descriptor}")
        return str(own if own.exists() else self.temporary.absolute())

    def finish(self, check: Callable[[Path], None] | None = None, *, sync: bool = False) -> None:
        """Give the file its name; once it is finished or discarded, do nothing.

        Args:
            check: Called with the path of the complete file before it replaces anything. If it
                raises, everything stays as it was.
            sync: Make it survive a power cut from then on.
        """
        if self.descriptor < 0 or self._has_name:
            return
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
        if self.descriptor >= 0 and not self._has_name:
            self._undo()

    def drop(self, path: Path) -> None:
        """Remove a finished file that this one owns; what it replaced is there again."""
        for member in self._members:
            if member.path == path:
                member._undo(drops=True)
        self._members = [member for member in self._members if member.path != path]

    def release(self) -> int:
        """Finish without closing: return the descriptor, which the caller closes.

        The file stays locked until then, and may still be appended to.
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

    # --- inside ---

    def _take_name(self) -> None:
        if self._owner is None:
            take: Callable[[Path, Path], None] = os.replace if self._replace else renaming.rename
        else:
            # From here on it has two names; the owner decides which of them is removed.
            self.temporary = self.temporary.rename(self.temporary.with_suffix(".named"))
            if self._replace:
                self._keep_replaced()
            take = renaming.link_over if self._replace else renaming.link
        take(self.temporary, self.path)
        self._has_name = True
        if not self._is_at(self.path):
            raise OutputError(f"{self.path}: another process has written to this name meanwhile")

    def _keep_replaced(self) -> None:
        """Give the file that is to be replaced a second name, from which it can come back."""
        second = self.temporary.with_suffix(".replaced")
        try:
            is_kept = renaming.link_again(self.path, second)
        except FileNotFoundError:
            self._replace = False
        else:
            self._replaced = second if is_kept else None

    def _undo(self, *, drops: bool = False) -> None:
        # If it has replaced another file, that is gone, and the new members belong to the new one.
        if not (self._replace and self._is_at(self.path)):
            for member in self._members:
                member._undo()
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            if self._is_at(self.path):
                if self._replaced is not None:
                    self._replaced.replace(self.path)
                elif drops or not self._replace:
                    self.path.unlink()
        self._settle()

    def _settle(self) -> None:
        """Remove the random names, and unlock."""
        for member in self._members:
            member._settle()
        if self._replaced is not None:  # before ".named", which says that it is not a leftover
            with contextlib.suppress(OSError):
                self._replaced.unlink(missing_ok=True)
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
    """A folder that is being filled, and gets its name once it is complete.

    Raises (also from `finish`):
        OutputError: Another process is writing a folder of that name.
        OSError: It cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        if path.name in ("", ".."):
            path = path.resolve()  # it has to have a name of its own
        self.path = path
        remove_leftovers(path.parent)
        check_alone(path)
        self._descriptor, self.temporary = make_temporary(path, is_folder=True)

    def finish(self, merge: Callable[[Path], None]) -> None:
        """Give the folder its name; if one exists that is not empty, ``merge`` into that.

        Args:
            merge: Called with the existing folder, which no other process merges into meanwhile.
        """
        try:
            try:
                self.temporary.rename(self.path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                self._merge(merge)
        finally:
            self.discard()

    def _merge(self, merge: Callable[[Path], None]) -> None:
        descriptor = os.open(self.path, OPEN_TO_LOCK)
        try:
            if not lock(descriptor):
                raise OutputError(f"{self.path}: another process is writing to it now")
            merge(self.path)
        finally:
            os.close(descriptor)

    def discard(self) -> None:
        """Remove what was written; once it is finished, do nothing."""
        shutil.rmtree(self.temporary, ignore_errors=True)
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
