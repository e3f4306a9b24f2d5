"""The names of sessions, journals, parts, videos, and files that are made from a session."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Final, Literal

__all__ = [
    "CONTACT_SHEET_SUFFIX",
    "FRAMES_SUFFIX",
    "JOURNAL_SUFFIX",
    "PICTURES_SUFFIX",
    "REPLAY_SUFFIX",
    "REPORT_SUFFIX",
    "SESSION_SUFFIX",
    "SESSION_SUFFIXES",
    "VIDEO_SUFFIXES",
    "VideoKind",
    "file_word",
    "is_part_name",
    "journal_path",
    "names_session",
    "new_video_path",
    "numbered_files",
    "part_number",
    "part_path",
    "sealed_path",
    "session_stem",
    "video_names",
    "video_path",
    "with_session_suffix",
]

VideoKind = Literal["raw", "annotated"]

SESSION_SUFFIX: Final = ".parquet"
JOURNAL_SUFFIX: Final = ".arrows"
#: The suffixes of files that hold rows.
SESSION_SUFFIXES: Final = (SESSION_SUFFIX, JOURNAL_SUFFIX)
VIDEO_SUFFIXES: Final[dict[VideoKind, str]] = {"raw": ".mp4", "annotated": ".annotated.mp4"}
#: For files that are written beside a session if no name is given.
REPLAY_SUFFIX: Final = ".replay.mp4"
CONTACT_SHEET_SUFFIX: Final = ".contact-sheet.png"
FRAMES_SUFFIX: Final = ".frames"
#: For the folder of pictures beside an export.
PICTURES_SUFFIX: Final = ".images"
REPORT_SUFFIX: Final = ".report.html"

#: More than four digits only without a leading 0: NAME-030405 is a time of day, not a part.
_NUMBERED = re.compile(r"(.+)-(\d{4}|[1-9]\d{4,})\Z", re.DOTALL)


#: What follows a dot may also be a placeholder, or the number of a version.
_SUFFIX = re.compile(r"\.[A-Za-z]\w*\Z")


#: A character of a name may take four bytes, and a name at most 255.
_LONGEST_WORD: Final = 60


def file_word(text: str) -> str:
    """Return any name in a form that fits into the name of a file; "" if nothing is left.

    Letters of any script stay. Different names may become the same.

    Example:
        >>> file_word("front door/1"), file_word("Süd"), file_word("??")
        ('front-door-1', 'Süd', '')
    """
    text = unicodedata.normalize("NFC", text)
    # Vowel signs and tones of many scripts are marks, which are not in \w.
    marks = "".join({letter for letter in text if unicodedata.category(letter)[0] == "M"})
    word = re.sub(rf"[^\w.{marks}-]+", "-", text).strip("-.")
    return word.encode()[:_LONGEST_WORD].decode(errors="ignore")


def with_session_suffix(output: Path) -> Path:
    """Return the name of a session that is written: ``walk`` is ``walk.parquet``.

    Without a suffix it would be in no list, and no name would stand for it.

    Example:
        >>> str(with_session_suffix(Path("walk"))), str(with_session_suffix(Path("door-v1.2")))
        ('walk.parquet', 'door-v1.2.parquet')
    """
    if _SUFFIX.match(output.suffix) or not output.name or output.name == "-" or output.exists():
        return output
    return output.with_name(output.name + SESSION_SUFFIX)


def journal_path(session: Path) -> Path:
    """Return the journal of a session."""
    return session.with_suffix(JOURNAL_SUFFIX)


def sealed_path(journal: Path) -> Path:
    """Return the session that a journal is sealed to."""
    return journal.with_suffix(SESSION_SUFFIX)


def session_stem(output: Path) -> str:
    """Return the name of a recording without its suffix."""
    return output.name.removesuffix(SESSION_SUFFIX)


def part_path(output: Path, number: int) -> Path:
    """Return the sealed file of part ``number`` (from 1) of the recording ``output``."""
    return output.with_name(f"{session_stem(output)}-{number:04}{SESSION_SUFFIX}")


def part_number(path: Path) -> tuple[str, int] | None:
    """Return (name of the recording, number of the part) from the name of a part's file.

    None for any other name: parts are Parquet files or journals, numbered from 1.
    """
    match = _NUMBERED.match(path.stem)
    if match is None or int(match[2]) == 0 or path.suffix not in SESSION_SUFFIXES:
        return None
    return match[1], int(match[2])


def is_part_name(stem: str) -> bool:
    """Return whether a file name without its suffix has the form of a part's."""
    return _NUMBERED.match(stem) is not None


def numbered_files(output: Path) -> list[tuple[int, Path]]:
    """Return (number, path) of the files that are named like parts of ``output``, in order.

    If a part exists both sealed and as a journal, the sealed file comes first.
    """
    stem = session_stem(output)
    found = [
        (part[1], file)
        for file in output.parent.glob("*-*")
        if (part := part_number(file)) is not None and part[0] == stem
    ]
    return sorted(found, key=lambda item: (item[0], item[1].suffix == JOURNAL_SUFFIX))


def names_session(text: str) -> bool:
    """Return whether a name is that of a session, a journal, or a recording in parts."""
    if not text or "\0" in text:
        return False
    path = Path(text)
    if path.suffix in SESSION_SUFFIXES:
        return "://" not in text
    try:
        return not path.exists() and bool(numbered_files(path))
    except (OSError, ValueError):  # not possible as a file name
        return False


def video_path(session: Path, kind: VideoKind) -> Path:
    """Return the video that is recorded beside ``session`` (sealed, or its journal)."""
    return session.with_suffix(VIDEO_SUFFIXES[kind])


def new_video_path(video: Path) -> Path:
    """Return the name of a video until its session has replaced an older one."""
    return video.with_suffix(f".new{video.suffix}")


def video_names(session: Path) -> list[Path]:
    """Return all names that a video recorded with ``session`` may have."""
    names = [video_path(session, kind) for kind in VIDEO_SUFFIXES]
    return [*names, *map(new_video_path, names)]
