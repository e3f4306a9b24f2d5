"""How files are named: sessions, journals, parts and videos, and what is made of a session."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal

__all__ = [
    "CONTACT_SHEET_SUFFIX",
    "FRAMES_SUFFIX",
    "JOURNAL_SUFFIX",
    "REPLAY_SUFFIX",
    "REPORT_SUFFIX",
    "SESSION_SUFFIX",
    "SESSION_SUFFIXES",
    "VIDEO_SUFFIXES",
    "VideoKind",
    "is_part_name",
    "journal_path",
    "numbered_files",
    "part_number",
    "part_path",
    "sealed_path",
    "session_stem",
    "video_path",
]

VideoKind = Literal["raw", "annotated"]

SESSION_SUFFIX: Final = ".parquet"
JOURNAL_SUFFIX: Final = ".arrows"
#: Of the files that hold rows.
SESSION_SUFFIXES: Final = (SESSION_SUFFIX, JOURNAL_SUFFIX)
VIDEO_SUFFIXES: Final[dict[VideoKind, str]] = {"raw": ".mp4", "annotated": ".annotated.mp4"}
#: What is written beside a session if no other name is given.
REPLAY_SUFFIX: Final = ".replay.mp4"
CONTACT_SHEET_SUFFIX: Final = ".contact-sheet.png"
FRAMES_SUFFIX: Final = ".frames"
REPORT_SUFFIX: Final = ".report.html"

#: Four digits, more only when four are not enough: NAME-030405 is a time of day, not a part.
_NUMBERED = re.compile(r"(.+)-(\d{4}|[1-9]\d{4,})\Z")


def journal_path(session: Path) -> Path:
    """Return where the journal of the session ``session`` is, or was."""
    return session.with_suffix(JOURNAL_SUFFIX)


def sealed_path(journal: Path) -> Path:
    """Return where the journal ``journal`` is sealed."""
    return journal.with_suffix(SESSION_SUFFIX)


def session_stem(output: Path) -> str:
    """Return the name of a recording without its suffix; a set's name may be given without it."""
    return output.name.removesuffix(SESSION_SUFFIX)


def part_path(output: Path, number: int) -> Path:
    """Return where part ``number`` (from 1) of the recording ``output`` goes once it is sealed."""
    return output.with_name(f"{session_stem(output)}-{number:04}{SESSION_SUFFIX}")


def part_number(path: Path) -> tuple[str, int] | None:
    """Return the recording's name and the number of a part, as the file's name has them.

    None of any other name: parts are Parquet files or journals, and count from 1.
    """
    match = _NUMBERED.match(path.stem)
    if match is None or int(match[2]) == 0 or path.suffix not in SESSION_SUFFIXES:
        return None
    return match[1], int(match[2])


def is_part_name(stem: str) -> bool:
    """Return whether a file name without its suffix is like that of a part."""
    return _NUMBERED.match(stem) is not None


def numbered_files(output: Path) -> list[tuple[int, Path]]:
    """Return (number, path) of the files that are named like parts of ``output``, in order.

    Where a part is there both sealed and as a journal, the sealed file comes first.
    """
    stem = session_stem(output)
    found = [
        (part[1], file)
        for file in output.parent.glob("*-*")
        if (part := part_number(file)) is not None and part[0] == stem
    ]
    return sorted(found, key=lambda item: (item[0], item[1].suffix == JOURNAL_SUFFIX))


def video_path(session: Path, kind: VideoKind) -> Path:
    """Return where a video goes that is recorded beside ``session`` (sealed, or its journal)."""
    return session.with_suffix(VIDEO_SUFFIXES[kind])
