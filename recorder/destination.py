"""The name of a new session, and whether it can be written there.

A name may hold ``{source}``, ``{time}`` (20260102-030405) and what strftime knows (``%Y-%m-%d``).
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from datetime import datetime
from glob import escape
from pathlib import Path

from dgrec.errors import ConfigError, OutputError, StorageError
from dgrec.files import (
    check_not_special,
    check_parent,
    check_session_name,
    exists_already,
    output_errors,
)
from dgrec.footage import own_videos
from dgrec.format import is_being_written
from dgrec.paths import (
    JOURNAL_SUFFIX,
    is_part_name,
    journal_path,
    new_video_path,
    numbered_files,
    video_path,
    with_session_suffix,
)
from dgrec.recorder.recovery import is_journal
from dgrec.recorder.video import VideoOptions
from dgrec.session import parts_of
from dgrec.units import size_text

#: For sessions without a given name.
_DEFAULT_FOLDER = Path("recordings")


#: The name of a session in a folder.
_NAME_IN_FOLDER = "{source}-{time}.parquet"
_CONTINUED_NAME = "{source}.parquet"
_PLACEHOLDER = re.compile(r"\{[^{}]*\}?|\}|%.?")
_TIME = "%Y%m%d-%H%M%S"
_DIRECTIVES = frozenset("aAbBdfHIjmMpSuUVwWyYGzsZ%")
#: Paths that `free_path` has returned, and that nothing was written to yet.
_returned: set[Path] = set()
_lock = threading.Lock()


def name_pattern(output: Path | None, *, continues: bool = False) -> Path:
    """Return the pattern of the names of sessions: a name as given, or one in a folder."""
    folder = _DEFAULT_FOLDER if output is None else output
    # The usual folder is meant also before it is there.
    if folder != _DEFAULT_FOLDER and not folder.is_dir():
        return with_session_suffix(folder)
    return folder / (_CONTINUED_NAME if continues else _NAME_IN_FOLDER)


def check_pattern(pattern: Path, *, continues: bool = False) -> None:
    """Raise `ConfigError` if a name holds a placeholder that is unknown, or not possible here."""
    if str(pattern) == "-":
        raise ConfigError(
            "--output -: a session is a file that is sealed at its end, not a stream; --publish - "
            "prints a JSON line a frame while recording"
        )
    for found in _PLACEHOLDER.findall(str(pattern)):
        if found == "{source}":
            continue
        if found != "{time}" and not (found[0] == "%" and found[1:] in _DIRECTIVES):
            raise ConfigError(
                f"--output: {found!r} is not a placeholder; there are {{source}}, {{time}}, and "
                "those of strftime such as %Y-%m-%d (%% is a percent sign)"
            )
        if continues and found != "%%":
            raise ConfigError(
                f"--output: {found} gives another name in each run, and --continue needs the same"
            )


def output_path(pattern: Path, source_name: str, moment: datetime) -> Path:
    """Return the session file of a source, for a recording that begins at ``moment``."""

    def value(match: re.Match[str]) -> str:
        found = match.group()
        if found == "{source}":
            return source_name
        return moment.strftime(_TIME if found == "{time}" else found)

    path = Path(_PLACEHOLDER.sub(value, str(pattern)))
    return free_path(path) if pattern.name == _NAME_IN_FOLDER else path


def makes_folder(pattern: Path) -> bool:
    """Return whether the folder of a session is made: the usual one, or one with a placeholder."""
    return pattern.parent == _DEFAULT_FOLDER or _PLACEHOLDER.search(str(pattern.parent)) is not None


def check_output(output: Path, overwrite: bool, *, split: bool, makes_folder: bool = False) -> None:
    """Raise `OutputError` if the name is taken, or the folder is missing or read-only."""
    check_session_name(output)
    check_folder(output, makes_folder=makes_folder)
    check_not_special(output)
    _check_free(output, overwrite)
    parts = parts_of(output)
    for journal in (journal_path(output), *(p for p in parts if p.suffix == JOURNAL_SUFFIX)):
        if journal.exists():
            if is_being_written(journal):
                state = "is being recorded now"
            elif is_journal(journal):
                state = f"was left by a recording that was cut off (dgrec recover {journal})"
            elif not journal.exists():  # it was sealed since
                continue
            else:
                state = "exists already, and is not a journal of dgrec"
            raise OutputError(f"{journal}: {state}; choose another name")
    _check_free(output, overwrite)  # a journal may have been sealed since
    if parts and not overwrite:
        raise OutputError(
            f"{parts[0]}: is a part of an older recording; choose another name or say --overwrite"
        )
    others = [path for _, path in numbered_files(output) if path not in parts] if split else []
    if others:
        raise OutputError(f"{others[0]}: is named like a part, but is not one; choose another name")


def _check_free(output: Path, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        raise exists_already(output)


def replaced_files(output: Path) -> list[Path]:
    """Return the sealed files that a recording of this name replaces."""
    sealed = [path for path in parts_of(output) if path.suffix != JOURNAL_SUFFIX]
    return [*sealed, output] if output.exists() else sealed


def check_folder(output: Path, *, makes_folder: bool = False) -> None:
    """Raise `OutputError` if no file can be written there, whether the name is taken or not.

    Args:
        makes_folder: Its folder is made if it is not there (`make_folder`).
    """
    if output.is_dir():
        raise OutputError(f"{output}: is a folder; give a file name")
    if output.parent.is_dir():
        check_parent(output)
    elif not makes_folder:
        raise OutputError(f"{output.parent}: no such folder; make it first")


def make_folder(folder: Path) -> None:
    """Make the folder of a session, and those above it."""
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def check_room(folder: Path, min_free: int | None) -> None:
    """Raise `StorageError` if the disk has less than ``min_free`` bytes left."""
    if min_free is None:
        return
    free = shutil.disk_usage(folder if folder.exists() else Path()).free
    if free < min_free:
        raise StorageError(
            f"{folder}: has {size_text(free)} free, less than --min-free {size_text(min_free)}",
            is_full=True,
        )


def free_path(path: Path) -> Path:
    """Return ``path``, with a number in it if a session, or a file beside one, has that name.

    No name is returned twice before `has_begun`: its recording may begin later.
    """
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        free = path.with_name(f"{path.stem}{suffix}{path.suffix}")
        if any(path.parent.glob(f"{escape(free.stem)}[.-]*")):
            continue
        with _lock:
            if (name := free.absolute()) not in _returned:
                _returned.add(name)
                return free
    raise OutputError(f"{path.parent}: no free name for {path.stem}")


def has_begun(path: Path) -> None:
    """Note that files of this name exist now; once they are removed, the name is free again."""
    with _lock:
        _returned.discard(path.absolute())


def check_videos(output: Path, video: VideoOptions, overwrite: bool, *, split: bool) -> None:
    """Raise `OutputError` if another file has the name of a video that would be recorded."""
    older = [output, *parts_of(output)] if overwrite else []
    ours = {path for session in older for path in own_videos(session)}
    for kind in video.kinds:
        name = video_path(output, kind)
        wanted = [name]
        if split:
            ending = name.name.removeprefix(output.stem)
            wanted = sorted(output.parent.glob(f"{escape(output.stem)}-[0-9]*{ending}"))
            wanted = [path for path in wanted if is_part_name(path.name.removesuffix(ending))]
        for path in wanted:
            for taken in (path, new_video_path(path)):
                if os.path.lexists(taken) and taken not in ours:
                    raise OutputError(
                        f"{taken}: exists already, and the video would go there; choose another "
                        "name"
                    )
