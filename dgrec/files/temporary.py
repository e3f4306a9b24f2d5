"""Folders for temporary files, which are removed even if a process was killed."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Self

from dgrec.files.leftovers import make_temporary, remove_leftovers


class TemporaryFolder:
    """A folder that only this user can open, among the system's temporary files.

    It is removed with the ``with`` block, by `cleanup`, or with the object. It is locked until
    then: what a killed process left is removed by the next one that needs a folder, and programs
    that remove old temporary files see that it is in use.

    Args:
        name: The beginning of its name.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, name: str) -> None:
        place = Path(tempfile.gettempdir())
        _remove_leftovers(place)
        descriptor, self.path = make_temporary(place / name, is_folder=True, mode=0o700)
        self._finalizer = weakref.finalize(self, _remove, self.path, descriptor)

    def cleanup(self) -> None:
        """Remove it, if it is still there."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cleanup()


@functools.cache
def _remove_leftovers(place: Path) -> None:
    remove_leftovers(place)


def _remove(path: Path, descriptor: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(descriptor)
