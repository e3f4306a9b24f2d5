"""The session that a name without a suffix, or the name of a recorded video, stands for."""

from __future__ import annotations

from pathlib import Path

from dgrec.paths import JOURNAL_SUFFIX, SESSION_SUFFIX, SESSION_SUFFIXES, VIDEO_SUFFIXES


def session_file(path: Path) -> Path:
    """Return the file of the session that ``path`` names; ``path`` itself if there is none.

    ``door`` stands for door.parquet or door.arrows, and a video (door.mp4, door.annotated.mp4) for
    the session that lies beside it.
    """
    if path.suffix in SESSION_SUFFIXES or not path.name:
        return path
    try:
        if not path.exists():
            stems = [path.name]
        elif path.is_file():
            suffixes = sorted(VIDEO_SUFFIXES.values(), key=len, reverse=True)
            stems = [path.name.removesuffix(each) for each in suffixes if path.name.endswith(each)]
        else:
            return path
        for stem in filter(None, stems):
            for suffix in (SESSION_SUFFIX, JOURNAL_SUFFIX):
                session = path.with_name(stem + suffix)
                if session.is_file():
                    return session
    except (OSError, ValueError):  # not possible as a file name
        pass
    return path
