"""Files that only name others: playlists and lists of files.

A digest of such a file says nothing about the pictures. FFmpeg reports each file that it opens;
only of its own list format (concat), which opens them without a report, the list is read here.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from dgrec.files import resolved
from dgrec.video.pyav import import_av

__all__ = ["NamedFiles", "named_files"]

_HEAD_BYTES = 4096
#: What FFmpeg knows its own list format (concat) by.
_LIST_HEAD = b"ffconcat version"
#: Lists of lists: more is a list that names itself.
_DEEPEST = 8
#: Seconds that opening, and a read, may take: of local files neither waits for anything.
_PATIENCE_S = (10, 10)
#: A file that is called frame%03d.jpg is that file, as it is for `dgrec.video.reader`.
_OPTIONS = {"protocol_whitelist": "file,crypto,data", "pattern_type": "none"}


@dataclass(frozen=True)
class NamedFiles:
    """What a file that only names others has named."""

    #: In the order in which they were opened.
    paths: tuple[Path, ...]
    size: int = 0
    #: Of the SHA-256 digests (32 bytes each) of all of them, in order.
    sha256: str = ""
    #: Why nothing can be said about them; "" if all are covered.
    problem: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """What a session's metadata says of them."""
        if self.problem:
            return {"problem": self.problem}
        return {"count": len(self.paths), "size": self.size, "sha256": self.sha256}

    def difference(self, recorded: Mapping[str, Any]) -> str:
        """Return how they differ from what was recorded of them (`facts`); "" if they do not."""
        if self.problem:
            return f"of the files that it names: {self.problem}"
        if recorded.get("sha256") == self.sha256:
            return ""
        return "the files that it names have changed"


def named_files(path: Path) -> NamedFiles | None:
    """Return the files that ``path`` names, and a digest of them; None where it is footage itself.

    All of them are read. Only regular files below the folder of ``path`` are opened.

    Raises:
        OSError: ``path`` itself cannot be read.
    """
    path = path.absolute()
    found = _Found(resolved(path.parent))
    try:
        if not _look(path, found, 0):
            return None
        return _digested(found)
    except _UncoveredError as error:
        return NamedFiles(tuple(found.paths), problem=str(error))


@dataclass
class _Found:
    """The files that were opened, each once, and the folder that they have to be in."""

    folder: Path
    paths: dict[Path, None] = field(default_factory=dict)

    def add(self, path: Path) -> bool:
        """Add a file; return whether it was not there yet."""
        try:
            real = resolved(path)
            is_file = stat.S_ISREG(real.stat().st_mode)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise _UncoveredError(f"{path.name}: {reason}") from None
        if not is_file:
            raise _UncoveredError(f"{path.name} is not a file")
        if not real.is_relative_to(self.folder):
            raise _UncoveredError(f"{path.name} is not below its folder")
        is_new = path not in self.paths
        self.paths[path] = None
        return is_new


class _UncoveredError(Exception):
    """A digest cannot cover what a file names; the text says why."""


def _look(path: Path, found: _Found, depth: int) -> bool:
    """Add the files that ``path`` names; return whether it does name others."""
    if depth > _DEEPEST:
        raise _UncoveredError("lists that name lists without end")
    head = _head(path)
    if b"\0" in head:  # everything that names others is text
        return False
    if head.startswith(_LIST_HEAD):
        for file in _listed(path):
            if found.add(file):
                _look(file, found, depth + 1)
        return True
    av = import_av()
    opened: dict[Path, None] = {}
    files: list[BinaryIO] = []

    def open_file(url: str, flags: int, options: Mapping[str, str]) -> Any:
        file = Path(url.removeprefix("file:"))
        if file != path:
            found.add(file)
        opened[file] = None
        files.append(file.open("rb"))
        return files[-1]

    try:
        with av.open(
            str(path), io_open=open_file, options=_OPTIONS, timeout=_PATIENCE_S
        ) as container:
            if all(file == path for file in opened):
                return False
            if container.duration is None:
                raise _UncoveredError("it has no end yet: it is live, or still being written")
            for _ in container.demux():  # which opens the rest, one after the other
                pass
            return True
    except _UncoveredError:
        raise
    except (OSError, ValueError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _UncoveredError(f"not local files alone, or not whole ({reason})") from None
    finally:
        for opened_file in files:  # PyAV leaves some open
            opened_file.close()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _listed(path: Path) -> list[Path]:
    """Return the files in a list of FFmpeg's concat format."""
    files = []
    for line in path.read_text("utf-8", "surrogateescape").splitlines():
        words = shlex.shlex(line, posix=True)
        words.quotes, words.escapedquotes, words.commenters = "'", "", ""
        words.whitespace_split = True
        try:
            directive, *arguments = words
        except ValueError:  # an empty line, or a quote without an end
            continue
        if directive == "file" and arguments:
            files.append(path.parent / arguments[0].removeprefix("file:"))
    return files


def _digested(found: _Found) -> NamedFiles:
    size = 0
    digests = hashlib.sha256()
    for path in found.paths:
        try:
            with path.open("rb") as file:
                size += os.fstat(file.fileno()).st_size
                digests.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise _UncoveredError(f"{path.name}: {error.strerror}") from None
    return NamedFiles(tuple(found.paths), size, digests.hexdigest())
