"""Recordings as a folder that opens in a browser without a server."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from dgrec.errors import ConfigError, DgrecError, OutputError
from dgrec.files import NewFolder, check_parent, exists_already, output_error
from dgrec.footage import find_footage, parse_position
from dgrec.replay.viewing import card, statements
from dgrec.replay.viewing.contents import Contents
from dgrec.replay.viewing.files import open_regular
from dgrec.replay.viewing.opened import OpenedSession
from dgrec.replay.viewing.parameters import Parameters
from dgrec.replay.viewing.previews import Preview, make_preview, plays_everywhere
from dgrec.replay.viewing.recordings import Recordings
from dgrec.replay.viewing.targets import FolderTarget
from dgrec.session import Session
from dgrec.units import counted

__all__ = ["export_folder"]

#: The page in an export, by its name in the package.
_PAGE: Final = {
    "export.html": "index.html",
    "page.js": "page.js",
    "page.css": "page.css",
    "icon.svg": "icon.svg",
    "NOTICE": "NOTICE",
}
_DATA: Final = "data"
#: Where a file can say that a folder is an export: only such a folder is replaced.
_MARK: Final = 'name="dgrec-data"'


def export_folder(
    places: Sequence[Path],
    output: Path,
    *,
    start: str | None = None,
    end: str | None = None,
    redact: tuple[str, ...] = (),
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
    advise: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the page, the data and the videos of recordings into a folder.

    It is there once it is complete.

    Args:
        places: Sessions, folders and globs.
        output: The folder.
        start: Only frames from here on, as of ``dgrec clip``.
        end: Only frames before this.
        redact: Labels whose detections are covered in the videos; ``("all",)``: of all labels.
        overwrite: Whether an earlier export is replaced.
        say: Gets a line for each recording, and the size of all.
        advise: Gets what is missing, and why.

    Raises:
        OutputError: It exists already, is no export, or cannot be written.
        ConfigError: There are no recordings, or no such frames.
    """
    check_output(output, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        recordings = stack.enter_context(_opened(places))
        if not recordings.names():
            raise ConfigError(f"{', '.join(map(str, places))}: no recordings found")
        if start is not None or end is not None:
            folder = stack.enter_context(_scratch(output))
            parts = _cut(recordings, folder, start, end, advise)
            recordings = stack.enter_context(_opened(parts))
        try:
            new = NewFolder(output)
        except OSError as error:
            raise output_error(output, error) from None
        stack.callback(new.discard)
        _write(recordings, new.temporary, redact, say, advise)
        size = _size(new.temporary)
        try:
            new.temporary.chmod(0o777 & ~_umask())
            new.finish(lambda folder: _replace(folder, new.temporary, overwrite=overwrite))
        except OSError as error:
            raise output_error(output, error) from None
    say(f"{output}: {size:,.1f} MB; open {output / 'index.html'}")


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` if an export cannot be written, before any work is done."""
    check_parent(output)
    if not os.path.lexists(output):
        return
    if not output.is_dir() or output.is_symlink():
        raise OutputError(f"{output}: exists already and is not a folder")
    with contextlib.suppress(OSError):
        if not any(output.iterdir()):
            return
    if not overwrite:
        raise exists_already(output)
    _check_is_export(output)


def _check_is_export(folder: Path) -> None:
    known = {*_PAGE.values(), _DATA}
    try:
        names = {path.name for path in folder.iterdir()}
        is_ours = _MARK in (folder / "index.html").read_text("utf-8", "replace")
    except OSError:
        is_ours = False
    if not is_ours or names - known:
        raise OutputError(
            f"{folder}: has something else than an export of dgrec view; choose another name"
        )


def _replace(folder: Path, new: Path, *, overwrite: bool) -> None:
    """Put a new export in the place of an earlier one."""
    check_output(folder, overwrite=overwrite)
    shutil.rmtree(folder / _DATA, ignore_errors=True)
    for path in sorted(new.iterdir()):
        path.replace(folder / path.name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def _opened(places: Sequence[Path]) -> Iterator[Recordings]:
    recordings = Recordings(places)
    try:
        yield recordings
    finally:
        recordings.close()


# --- parts of recordings -------------------------------------------------------------------------


@contextlib.contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """Give a folder on the disk of the export, for clips; it is removed."""
    try:
        with tempfile.TemporaryDirectory(prefix=".dgrec-", dir=output.absolute().parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise output_error(output, error) from None


def _cut(
    recordings: Recordings,
    folder: Path,
    start: str | None,
    end: str | None,
    advise: Callable[[str], None],
) -> list[Path]:
    """Write the part that is exported of each recording as a session of its own."""
    from dgrec.replay.clip import Span, write_clip
    from dgrec.replay.rendering import select_frames

    parts = []
    first, last = (None if text is None else parse_position(text) for text in (start, end))
    asked = {key: value for key, value in (("start", start), ("end", end)) if value is not None}
    for number, (name, path) in enumerate(recordings.names().items()):
        with Session(path) as session:
            selection = select_frames(session, first, last)
            stem = Path(name).name[:100] or "session"
            clip = folder / str(number) / f"{stem}.parquet"
            clip.parent.mkdir()
            has_pictures = find_footage(session).path is not None
            report = write_clip(
                session,
                [Span(selection.start, selection.end)],
                clip,
                with_video=has_pictures,
                description=asked,
            )
            for note in report.notes:
                advise(note)
            parts.append(clip)
    return parts


# --- what is written -----------------------------------------------------------------------------


def _write(
    recordings: Recordings,
    output: Path,
    redact: tuple[str, ...],
    say: Callable[[str], None],
    advise: Callable[[str], None],
) -> None:
    folders: dict[str, str] = {}
    thumbs: dict[str, str] = {}
    target = FolderTarget(output / _DATA)
    listed = card.sessions(recordings, Parameters({}), lambda *_: ())["sessions"]
    for facts in listed:
        name = facts["s"]
        folder = str(len(folders))
        # Not where it was, as in the card.
        facts["path"] = Path(facts["path"]).name
        try:
            with recordings.opened(name) as opened:
                thumb = _write_session(opened, folder, target, redact, advise)
        except OutputError:
            raise
        except DgrecError as error:
            if redact:
                raise
            advise(f"{error}; left out")
            shutil.rmtree(target.folder / folder, ignore_errors=True)
            continue
        folders[name] = folder
        if thumb:
            thumbs[name] = "thumb.jpg"
        size = _size(target.folder / folder)
        say(f"{name}: {counted(facts['frames'] or 0, 'frame')}, {size:,.1f} MB")
    if not folders:
        raise ConfigError("none of the recordings can be read")
    index = {
        "sessions": [facts for facts in listed if facts["s"] in folders],
        "folders": folders,
        "thumbs": thumbs,
    }
    target.put("index", index)
    target.put("questions", statements.questions())
    for name, shown in _PAGE.items():
        page = resources.files("dgrec.replay.viewing").joinpath("static", name)
        FolderTarget(output).put_file(shown, page.read_bytes())


def _size(folder: Path) -> float:
    """Return the size of a folder, in millions of bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def _write_session(
    opened: OpenedSession,
    folder: str,
    target: FolderTarget,
    redact: tuple[str, ...],
    advise: Callable[[str], None],
) -> bool:
    videos, preview, note = _videos(opened, folder, target, redact, advise)
    contents = Contents(opened, folder, target, videos, preview, note)
    return contents.write(has_thumb=not redact)


def _videos(
    opened: OpenedSession,
    folder: str,
    target: FolderTarget,
    redact: tuple[str, ...],
    advise: Callable[[str], None],
) -> tuple[dict[int, str], Preview | None, str]:
    """Copy the videos of a session, or make one."""
    shown = [(number, opened.videos.all[number]) for number in opened.videos.used]
    footage = find_footage(opened.session)
    if footage.path is None and not footage.parts:
        return {}, None, footage.lacking
    if not redact and shown and all(plays_everywhere(video) for _, video in shown):
        names = {}
        for number, video in shown:
            names[number] = f"video-{number}{video.path.suffix.lower()}"
            with open_regular(video.path, video.inode) as file:
                target.copy(f"{folder}/{names[number]}", file)
        return names, None, ""
    path = target.path(f"{folder}/video-0.mp4")
    preview = make_preview(opened, path, redact)
    if preview is None:
        return {}, None, "none of its pictures can be read"
    for each in preview.notes:
        advise(each)
    return {0: path.name}, preview, ""
