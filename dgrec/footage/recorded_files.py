"""The files that a recording's metadata names: which may be opened, and which must stay.

Sessions are shared, so their metadata may name any file of the user who opens them: a private
video, a device, a pipe that nothing writes to. Only two kinds are opened: a regular file below the
session's folder, links resolved, and one that has the recorded size and digest: the author of the
session had that file already. Any other file has to be named by the user.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from dgrec import sample
from dgrec.errors import DgrecError, OutputError
from dgrec.files import resolved
from dgrec.format import SealedFile, video_entries
from dgrec.paths import video_names
from dgrec.video import named_files

if TYPE_CHECKING:
    from dgrec.session import Session

#: Digests of files as they are now.
_DIGESTS: dict[tuple[int, ...], str] = {}
_MOST_DIGESTS = 1000
_SETTLED_NS = 5_000_000_000
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")


def may_open(path: Path, folder: Path, recorded: Mapping[str, Any]) -> bool:
    """Return whether a file that a session's metadata names may be opened.

    Args:
        path: The file. It is not read unless its size is the recorded one.
        folder: The session's folder.
        recorded: The metadata's entry for the file: its ``size`` and ``sha256``.
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
    has_digest = isinstance(sha256, str) and _SHA256.match(sha256) is not None
    # Files of /proc have size 0: they are never opened.
    return has_digest and size == found.st_size > 0 and not difference_of(path, recorded)


def file_facts(path: Path, folder: Path) -> dict[str, Any]:
    """Return what a session in ``folder`` records of a file: name, size, digest, and where it is.

    Raises:
        OSError: It cannot be read.
    """
    path = resolved(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts: dict[str, Any] = {"file": path.name, "size": path.stat().st_size, "sha256": digest}
    if (named := named_files(path)) is not None:
        facts["named_files"] = named.facts
    # By this path, a session finds footage that was moved together with it.
    relative = Path(os.path.relpath(path, resolved(folder))).as_posix()
    return {**facts, "path": str(path), "relative": relative}


def videos_beside(session: Path, metadata: Mapping[str, Any]) -> list[Path]:
    """Return the paths of the videos that were recorded with ``session``.

    Only those that the metadata names: another file with a similar name may be other footage.
    """
    names = [base_name(video.get("file")) for video in video_entries(metadata)]
    return [session.with_name(name) for name in names if name]


def own_videos(session: Path) -> list[Path]:
    """Return the videos that go if the session file is replaced; none if it is damaged or absent.

    See `videos_of_its_name`.
    """
    with contextlib.suppress(DgrecError, OSError, KeyError, TypeError):
        sealed = SealedFile(session)
        sealed.close()
        return videos_of_its_name(session, sealed.metadata)
    return []


def videos_of_its_name(session: Path, metadata: Mapping[str, Any]) -> list[Path]:
    """Return the videos that go with the session file.

    Only those of its own name: the video of a copy, a renamed session or an analyzed one may be
    that of another session, which is still there.
    """
    if "analyzed" in metadata:
        return []
    names = video_names(session)
    return [path for path in videos_beside(session, metadata) if path in names]


def recorded_video(folder: Path, item: Mapping[str, Any]) -> Path | None:
    """Return the video of a metadata entry, in the session's folder; None if it is not there.

    The folder that the entry names is ignored. A playlist in the video's place is refused: it
    would lead to other files.
    """
    name = base_name(item.get("file"))
    path = folder / name
    with contextlib.suppress(OSError):
        if name and may_open(path, folder, item) and named_files(path) is None:
            return path
    return None


def why_not_there(folder: Path, item: Mapping[str, Any]) -> str:
    """Return what is wrong with a video that `recorded_video` does not find, as a predicate."""
    path = folder / base_name(item.get("file"))
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISREG(path.stat().st_mode) and not os.access(path, os.R_OK, effective_ids=True):
            return "cannot be read: Permission denied"
    return "is gone"


def recorded_files(sessions: Iterable[Session]) -> list[Path]:
    """Return the files, names, videos and footage of ``sessions``: no output may replace them."""
    found = []
    for session in sessions:
        found += [session.place, *session.files]
        found += videos_beside(session.place, session.metadata)
        folder = session.place.parent
        source = session.metadata.get("source", {})
        # Path.is_file raises for a name that is too long.
        found += [path for path in source_paths(source, folder) if os.path.isfile(path)]  # noqa: PTH113
    return found


def source_paths(source: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    """Yield the paths where the source file may be, the most likely one first."""
    if relative := source.get("relative"):
        yield folder / relative
    if source.get("kind") == "sample":
        yield sample.CLIP
    if path := source.get("path"):
        yield Path(path)


def refuse_recorded(path: Path, recorded: Sequence[Path]) -> None:
    """Raise `OutputError` if ``path`` is one of ``recorded``, by whatever name."""
    # A session in parts has no file of its name, but such a file would hide it.
    if path.absolute() in [name.absolute() for name in recorded] or any(
        path.exists() and file.exists() and path.samefile(file) for file in recorded
    ):
        raise OutputError(f"{path}: is the session itself, or its video; choose another name")


def difference_of(path: Path, recorded: Mapping[str, Any]) -> str:
    """Return how a file differs from its recorded size and digest; "" if it does not."""
    try:
        size, sha256 = recorded.get("size"), recorded.get("sha256")
        # Opening must not wait if the file has been replaced by a pipe.
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                return "it is not a regular file"
            if isinstance(size, int) and found.st_size != size:
                return f"{found.st_size:,} bytes instead of {size:,}"
            wanted = sha256.lower() if isinstance(sha256, str) else ""
            if wanted and _digest(file, found) != wanted:
                return "its contents have changed"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return ""


def _digest(file: Any, facts: os.stat_result) -> str:
    """Return the digest of an open file; it is kept until the file changes."""
    key = facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
    if key not in _DIGESTS:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        # What was written just now may be written again with the same stamp.
        if time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns) < _SETTLED_NS:
            return digest
        if len(_DIGESTS) >= _MOST_DIGESTS:
            _DIGESTS.clear()
        _DIGESTS[key] = digest
    return _DIGESTS[key]


def base_name(name: object) -> str:
    """Return the last part of a POSIX path, or of an absolute one of Windows; "" if there is none.

    Any other backslash or colon is a part of the name: `a:b.mp4`.
    """
    text = PurePosixPath(name if isinstance(name, str) else "").name
    if (windows := PureWindowsPath(text)).is_absolute():
        text = windows.name
    return "" if "\0" in text else text
