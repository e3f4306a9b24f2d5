"""The name of a new session, and whether it can be written there."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from glob import escape
from pathlib import Path

from dgrec.errors import OutputError, StorageError
from dgrec.files import check_parent, exists_already, output_error
from dgrec.format import is_being_written
from dgrec.paths import JOURNAL_SUFFIX, is_part_name, journal_path, numbered_files, video_path
from dgrec.recorder.recovery import is_journal
from dgrec.recorder.video import VideoOptions
from dgrec.recorder.writing import recorded_videos
from dgrec.session import parts_of
from dgrec.units import size_text

__all__ = [
    "DEFAULT_FOLDER",
    "check_folder",
    "check_output",
    "check_room",
    "check_videos",
    "free_path",
    "make_default_folder",
    "output_path",
    "replaced_files",
]

#: For sessions without a given name.
DEFAULT_FOLDER = Path("recordings")


def output_path(output: Path | None, source_name: str) -> Path:
    """Return the session file, named after its source if no name is given."""
    if output is None:
        return free_path(DEFAULT_FOLDER / f"{source_name}-{datetime.now():%Y%m%d-%H%M%S}.parquet")
    return Path(str(output).replace("{source}", source_name))


def check_output(output: Path, overwrite: bool, *, split: bool) -> None:
    """Raise `OutputError` if the name is taken, or the folder is missing or read-only."""
    check_folder(output)
    if output.exists() and not overwrite:
        raise exists_already(output)
    parts = parts_of(output)
    for journal in (journal_path(output), *(p for p in parts if p.suffix == JOURNAL_SUFFIX)):
        if journal.exists():
            if is_being_written(journal):
                state = "is being recorded now"
            elif is_journal(journal):
                state = f"was left by a recording that was cut off (dgrec recover {journal})"
            else:
                state = "exists already, and is not a journal of dgrec"
            raise OutputError(f"{journal}: {state}; choose another name")
    if parts and not overwrite:
        raise OutputError(
            f"{parts[0]}: is a part of an older recording; choose another name or say --overwrite"
        )
    others = [path for _, path in numbered_files(output) if path not in parts] if split else []
    if others:
        raise OutputError(f"{others[0]}: is named like a part, but is not one; choose another name")


def replaced_files(output: Path) -> list[Path]:
    """Return the sealed files that a recording of this name replaces."""
    sealed = [path for path in parts_of(output) if path.suffix != JOURNAL_SUFFIX]
    return [*sealed, output] if output.exists() else sealed


def check_folder(output: Path) -> None:
    """Raise `OutputError` if no file can be written there, whether the name is taken or not."""
    if output.is_dir():
        raise OutputError(f"{output}: is a folder; give a file name")
    if output.parent.is_dir():
        check_parent(output)
    elif output.parent != DEFAULT_FOLDER:  # see `make_default_folder`
        raise OutputError(f"{output.parent}: no such folder; make it first")


def make_default_folder(output: Path) -> None:
    """Make the folder ``recordings``, if the session goes there."""
    if output.parent == DEFAULT_FOLDER:
        try:
            DEFAULT_FOLDER.mkdir(exist_ok=True)
        except OSError as error:
            raise output_error(DEFAULT_FOLDER, error) from None


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
    """Return ``path``, or one with a number in it that is not taken, nor by files beside it."""
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        free = path.with_name(f"{path.stem}{suffix}{path.suffix}")
        if not any(path.parent.glob(f"{escape(free.stem)}[.-]*")):
            return free
    raise OutputError(f"{path.parent}: no free name for {path.stem}")


def check_videos(output: Path, video: VideoOptions, overwrite: bool, *, split: bool) -> None:
    """Raise `OutputError` if another file has the name of a video that would be recorded."""
    older = [output, *parts_of(output)] if overwrite else []
    ours = {path for session in older for path in recorded_videos(session)}
    for kind in video.kinds:
        name = video_path(output, kind)
        wanted = [name]
        if split:
            ending = name.name.removeprefix(output.stem)
            wanted = sorted(output.parent.glob(f"{escape(output.stem)}-[0-9]*{ending}"))
            wanted = [path for path in wanted if is_part_name(path.name.removesuffix(ending))]
        for path in wanted:
            for taken in (path, path.with_suffix(f".new{path.suffix}")):
                if os.path.lexists(taken) and taken not in ours:
                    raise OutputError(
                        f"{taken}: exists already, and the video would go there; choose another "
                        "name"
                    )
