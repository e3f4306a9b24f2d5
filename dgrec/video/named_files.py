"""Files that only name others: playlists and lists of files.

A digest of such a file says nothing about the pictures. FFmpeg reports each file that it opens,
except those of its own list format (concat): such lists are read here.
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

_HEAD_BYTES = 4096
#: The beginning of FFmpeg's own list format (concat).
_LIST_HEAD = b"ffconcat version"
#: Lists in lists; a deeper one probably names itself.
_DEEPEST = 8
#: Seconds that opening and a read may take; with local files, neither waits for anything.
_PATIENCE_S = (10, 10)
#: A file called frame%03d.jpg is that file, as for `dgrec.video.container`.
_OPTIONS = {"protocol_whitelist": "file,crypto,data", "pattern_type": "none"}


@dataclass(frozen=True)
class NamedFiles:
    """The files that a playlist or list names."""

    #: In the order in which they were opened.
    paths: tuple[Path, ...]
    size: int = 0
    #: Digest of their SHA-256 digests (32 bytes each), in order.
    sha256: str = ""
    #: Why the digest does not cover all of them; "" if it does.
    problem: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """Their entry in a session's metadata."""
        if self.problem:
            return {"problem": self.problem}
        return {"count": len(self.paths), "size": self.size, "sha256": self.sha256}

    def difference(self, recorded: Mapping[str, Any]) -> str:
        """Return how they differ from the recorded `facts`; "" if they do not."""
        if self.problem:
            return f"of the files that it names: {self.problem}"
        if recorded.get("sha256") == self.sha256:
            return ""
        return "the files that it names have changed"


def named_files(path: Path) -> NamedFiles | None:
    """Return the files that ``path`` names, and their digest; None if it is footage itself.

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
    """The files that were opened, without repeats, and the folder that they have to be in."""

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
    """The digest cannot cover the named files; the text says why."""


def _look(path: Path, found: _Found, depth: int) -> bool:
    """Add the files that ``path`` names; return whether it does name others."""
    if depth > _DEEPEST:
        raise _UncoveredError("lists that name lists without end")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if b"\0" in head:  # files that name others are text
        return False
    if head.startswith(_LIST_HEAD):
        for listed in _listed(path):
            if found.add(listed):
                _look(listed, found, depth + 1)
        return True
    return _look_with_ffmpeg(path, found)


def _look_with_ffmpeg(path: Path, found: _Found) -> bool:
    """Add the files that FFmpeg opens for ``path``; return whether there are others."""
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
            for _ in container.demux():  # opens the rest, one after the other
                pass
            return True
    except _UncoveredError:
        raise
    except (OSError, ValueError, av.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _UncoveredError(f"not all of its files are local and whole ({reason})") from None
    finally:
        for opened_file in files:  # PyAV leaves some open
            opened_file.close()


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
