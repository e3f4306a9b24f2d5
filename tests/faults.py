"""Makes the n-th call that changes something on disk fail, once or from then on.

Counted are ``os.write``, ``os.fsync``, ``os.ftruncate``, ``os.close``, ``os.replace``,
``os.unlink`` and the renaming of new files on files below one folder, and every write that reaches
the operating system of new files there (sealing); with ``makes`` also the making of such files, by
``os.open``. Whoever sweeps n from 0 upwards until `Faults.hit` stays false has made each of them
fail.
"""

from __future__ import annotations

import errno
import io
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from dgrec.files import renaming

__all__ = ["Faults", "Kind"]

_real_open, _real_os_open, _real_write = io.open, os.open, os.write
_real_rename = renaming.rename_exclusively
#: What tells the names of new files apart.
_RANDOM = re.compile(r"\.[0-9a-f]{16}(?=\.new$)")


@dataclass(frozen=True)
class Kind:
    """How a call fails: with which error, and whether that is the end of the disk.

    ``torn``: half of what was to be written arrives first.
    """

    code: int = errno.ENOSPC
    for_good: bool = False
    torn: bool = False

    def __str__(self) -> str:
        how = [errno.errorcode[self.code], "torn" * self.torn, "for good" * self.for_good]
        return " ".join(filter(None, how))


@dataclass
class Faults:
    """While it is entered, call number ``at`` below ``folder`` fails; None: all are only noted."""

    folder: Path
    at: int | None = None
    kind: Kind = field(default_factory=Kind)
    #: (name of the call, name of the file), in order.
    calls: list[tuple[str, str]] = field(default_factory=list)
    hit: bool = False
    makes: bool = False

    def __enter__(self) -> Self:
        self._lock = threading.Lock()  # recording writes in a thread, sealing in another
        self._patch = pytest.MonkeyPatch()
        for name in ("fsync", "ftruncate", "close"):
            self._wrap(name, lambda file, *_: _path_of(file))
        for name in ("replace", "unlink"):
            self._wrap(name, lambda path, *_: os.fspath(path))
        self._patch.setattr(renaming, "rename_exclusively", self._rename)
        self._patch.setattr(os, "write", self._write)
        self._patch.setattr(io, "open", self._open)
        if self.makes:
            self._patch.setattr(os, "open", self._os_open)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def fails(self, call: str, path: str) -> bool:
        """Note one call; return whether it is to fail."""
        if not path.startswith(str(self.folder)):
            return False
        with self._lock:
            number = len(self.calls)
            self.calls.append((call, _RANDOM.sub("", Path(path).name)))
            if self.at is None or number < self.at or (number > self.at and not self.kind.for_good):
                return False
            self.hit = True
            return True

    def error(self) -> OSError:
        return OSError(self.kind.code, os.strerror(self.kind.code))

    def _wrap(self, name: str, path_of: Callable[..., str]) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if self.fails(name, path_of(*arguments)):
                if name == "close":  # Linux closes a file even when it reports that it failed
                    real(*arguments)
                raise self.error()
            return real(*arguments, **options)

        self._patch.setattr(os, name, call)

    def _write(self, file: int, data: Any) -> int:
        if self.fails("write", _path_of(file)):
            if self.kind.torn:
                _real_write(file, memoryview(data).cast("B")[: len(data) // 2])
            raise self.error()
        return _real_write(file, data)

    def _rename(self, old: Path, new: Path) -> None:
        if self.fails("rename", str(old)):
            raise self.error()
        _real_rename(old, new)

    def _os_open(self, path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_CREAT and self.fails("open", os.fspath(path)):
            raise self.error()
        return _real_os_open(path, flags, *arguments, **options)

    def _open(self, path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if isinstance(path, int):  # a file that was made with os.open
            name = _path_of(path)
            if name.startswith(str(self.folder)) and "w" in mode:
                return io.BufferedRandom(_FaultyFile(self, path, name))
            return _real_open(path, mode, *arguments, **options)
        inside = isinstance(path, str | Path) and str(path).startswith(str(self.folder))
        assert not inside or mode == "rb" or "r" in mode, f"not watched: {path} {mode}"
        return _real_open(path, mode, *arguments, **options)


class _FaultyFile(io.FileIO):
    def __init__(self, faults: Faults, file: int, path: str) -> None:
        super().__init__(file, "w+")
        self._faults = faults
        self._path = path

    def write(self, data: Any) -> int:
        if self._faults.fails("write", self._path):
            if self._faults.kind.torn:
                view = memoryview(data).cast("B")
                super().write(view[: len(view) // 2])
            raise self._faults.error()
        return super().write(data)


def _path_of(file: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{file}").readlink())
    except OSError:
        return ""
