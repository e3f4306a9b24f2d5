"""Files that a session's metadata names: which of them may be opened.

Sessions are shared, so their metadata may name any file of whoever opens them: a private video, a
device, a pipe that nobody writes to. A name is followed to a regular file below the folder of the
session, links resolved, or to one whose size and digest are those recorded: whoever wrote them
down had that file. For anything else the user has to name the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from dgrec.files import resolved
from dgrec.format import video_entries

__all__ = ["base_name", "difference_of", "may_open", "recorded_video", "videos_beside"]

_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")


def may_open(path: Path, folder: Path, recorded: Mapping[str, Any]) -> bool:
    """Return whether a file may be opened that the metadata of a session names.

    Nothing is opened for that, unless size and digest are recorded and the size is right.

    Args:
        path: What is named.
        folder: The folder of the session.
        recorded: What the metadata says of the file: its ``size`` and ``sha256``.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return False
        if resolved(path).is_relative_to(resolved(folder)):
            return True
    except (OSError, ValueError):  # no such file, a NUL in it, links in a circle
        return False
    size, sha256 = recorded.get("size"), recorded.get("sha256")
    # Files of /proc have no size: they are never opened.
    has_digest = isinstance(sha256, str) and _SHA256.match(sha256) is not None
    return has_digest and size == found.st_size > 0 and not difference_of(path, recorded)


def videos_beside(session: Path, metadata: Mapping[str, Any]) -> list[Path]:
    """Return where the videos stand that were recorded with ``session``.

    Only what its metadata names: a file that is merely called alike may be somebody's footage.
    """
    names = [base_name(video.get("file")) for video in video_entries(metadata)]
    return [session.with_name(name) for name in names if name]


def recorded_video(folder: Path, item: Mapping[str, Any]) -> Path | None:
    """Return the video that an entry of a session's metadata names; None if it is not there.

    It stands beside the session, whatever folder the entry names, and holds its own pictures: a
    list of other files in its place would lead to those.
    """
    from dgrec.video import named_files

    name = base_name(item.get("file"))
    path = folder / name
    with contextlib.suppress(OSError):
        if name and may_open(path, folder, item) and named_files(path) is None:
            return path
    return None


def difference_of(path: Path, recorded: Mapping[str, Any]) -> str:
    """Return how a file differs from what was recorded of it; "" when it does not."""
    try:
        size, sha256 = recorded.get("size"), recorded.get("sha256")
        # Opening must not wait, should it have become a pipe by now.
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                return "it is not a regular file"
            if isinstance(size, int) and found.st_size != size:
                return f"{found.st_size:,} bytes instead of {size:,}"
            wanted = sha256.lower() if isinstance(sha256, str) else ""
            if wanted and hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                return "its contents have changed"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return ""


def base_name(name: object) -> str:
    """Return the last part of a path, of whatever system it is; "" where there is none."""
    text = PureWindowsPath(PurePosixPath(name if isinstance(name, str) else "").name).name
    return "" if "\0" in text else text


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
