"""What was recorded, and so must not be replaced by anything that is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dgrec.errors import OutputError
from dgrec.footage.videos import videos_beside

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["recorded_files", "refuse_recorded"]


def recorded_files(sessions: Iterable[Session]) -> list[Path]:
    """Return what no output may replace: the files of ``sessions``, their names, their videos."""
    found = []
    for session in sessions:
        found += [session.path, *session.files]
        found += videos_beside(session.path, session.metadata)
    return found


def refuse_recorded(path: Path, recorded: Sequence[Path]) -> None:
    """Raise `OutputError` if ``path`` is one of ``recorded``, by whatever name."""
    # The name of a session in parts is no file, but a file of that name would hide it.
    if path.absolute() in [name.absolute() for name in recorded] or any(
        path.exists() and file.exists() and path.samefile(file) for file in recorded
    ):
        raise OutputError(f"{path}: is the session itself, or its video; choose another name")
