"""Recordings as a folder that opens in a browser without a server."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

from dgrec.errors import ConfigError, DgrecError, OutputError, first_line
from dgrec.files import NewFolder, check_parent, exchange, exists_already, output_errors
from dgrec.footage import find_footage, parse_position
from dgrec.replay.viewing import card, statements
from dgrec.replay.viewing.contents import Contents
from dgrec.replay.viewing.files import folder_size, open_regular
from dgrec.replay.viewing.opened_session import OpenedSession
from dgrec.replay.viewing.parameters import Parameters
from dgrec.replay.viewing.previews import Preview, make_preview, plays_everywhere
from dgrec.replay.viewing.recordings import Recordings
from dgrec.replay.viewing.targets import FolderTarget
from dgrec.replay.viewing.videos import shown_footage
from dgrec.session import Session

#: The page in an export, by its name in the package.
_PAGE: Final = {
    "export.html": "index.html",
    "page.js": "page.js",
    "page.css": "page.css",
    "icon.svg": "icon.svg",
    "NOTICE": "NOTICE",
}
_DATA: Final = "data"
#: The folder of the parts that are exported, removed in the end.
_CLIPS: Final = "clips"
#: Characters of each of the names in a path there.
_LONGEST_WORD: Final = 100
#: Text in its page that marks a folder as an export: only such a folder is replaced.
_MARK: Final = 'name="dgrec-data"'


def export_folder(
    places: Sequence[Path],
    output: Path,
    *,
    start: str | None = None,
    end: str | None = None,
    redact: tuple[str, ...] = (),
    overwrite: bool = False,
    advise: Callable[[str], None] = lambda _: None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Exported:
    """Write the page, the data and the videos of recordings into a folder.

    The folder appears once it is complete; until then, an earlier export stays as it is.

    Args:
        places: Sessions, folders and globs.
        output: The folder.
        start: Only frames from here on, as for ``dgrec clip``.
        end: Only frames before this.
        redact: Labels whose detections are covered in the videos; ``("all",)``: of all labels.
        overwrite: Whether an earlier export is replaced.
        advise: Gets what is missing, and why.
        progress: Called with what is being made, the frames done, and all frames.

    Raises:
        OutputError: It exists already, is not an export, or cannot be written.
        ConfigError: There are no recordings, or no such frames.
    """
    check_output(output, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        recordings = stack.enter_context(_opened(places))
        if not recordings.names():
            raise ConfigError(f"{', '.join(map(str, places))}: no recordings found")
        with output_errors(output):
            new = NewFolder(output)
        stack.callback(new.discard)
        if start is not None or end is not None:
            parts = _cut(recordings, new.temporary / _CLIPS, start, end, advise)
            recordings = stack.enter_context(_opened(parts))
        has_files = start is None and end is None
        exported = _Writer(
            recordings, new.temporary, redact, advise, progress, has_files=has_files
        ).write()
        shutil.rmtree(new.temporary / _CLIPS, ignore_errors=True)
        exported.bytes = folder_size(new.temporary)
        with output_errors(output):
            new.temporary.chmod(0o777 & ~_umask())
            new.finish(lambda folder: _replace(folder, new.temporary, overwrite=overwrite))
    return exported


@dataclass
class Exported:
    """The recordings that were written."""

    #: Names of the recordings, with their frames and bytes.
    recordings: dict[str, tuple[int, int]] = field(default_factory=dict)
    detections: int = 0
    #: Of the whole folder.
    bytes: int = 0

    @property
    def frames(self) -> int:
        return sum(frames for frames, _ in self.recordings.values())


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` if an export cannot be written, before any work is done."""
    check_parent(output)
    if output.exists() and output.samefile(os.curdir):
        raise OutputError(f"{output}: is the current folder; choose another name")
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
            f"{folder}: holds something other than an export of dgrec view; choose another name"
        )


def _replace(folder: Path, new: Path, *, overwrite: bool) -> None:
    """Put a new export in the place of an earlier one, in a folder that a server may be serving."""
    check_output(folder, overwrite=overwrite)
    if (folder / _DATA).exists():
        exchange(new / _DATA, folder / _DATA)
    else:
        (new / _DATA).rename(folder / _DATA)
    for name in _PAGE.values():
        (new / name).replace(folder / name)


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


def _cut(
    recordings: Recordings,
    folder: Path,
    start: str | None,
    end: str | None,
    advise: Callable[[str], None],
) -> list[Path]:
    """Write the exported part of each recording as a session of its own."""
    from dgrec.replay.clip import Span, write_clip
    from dgrec.replay.rendering import select_frames

    parts = []
    first, last = (None if text is None else parse_position(text) for text in (start, end))
    asked = {key: value for key, value in (("start", start), ("end", end)) if value is not None}
    for number, (name, path) in enumerate(recordings.names().items()):
        with Session(path) as session:
            selection = select_frames(session, first, last)
            # Its folders tell recordings of the same name apart.
            words = [word[:_LONGEST_WORD] for word in name.split("/")]
            clip = folder.joinpath(str(number), *words[:-1], f"{words[-1] or 'session'}.parquet")
            with output_errors(clip.parent):
                clip.parent.mkdir(parents=True)
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


class _Writer:
    """Writes recordings, and the page that shows them."""

    def __init__(
        self,
        recordings: Recordings,
        output: Path,
        redact: tuple[str, ...],
        advise: Callable[[str], None],
        progress: Callable[[str, int, int], None],
        *,
        has_files: bool,
    ) -> None:
        self._recordings, self._redact, self._has_files = recordings, redact, has_files
        self._advise, self._progress = advise, progress
        self._page, self._target = FolderTarget(output), FolderTarget(output / _DATA)

    def write(self) -> Exported:
        exported = Exported()
        folders: dict[str, str] = {}
        thumbs: dict[str, str] = {}
        listed = card.sessions(self._recordings, Parameters({}), lambda *_: ())["sessions"]
        for facts in listed:
            name, folder = facts["s"], str(len(folders))
            # Without its folder, as in the card.
            facts["path"] = Path(facts["path"]).name
            try:
                with self._recordings.opened(name) as opened:
                    thumb = self._write_session(opened, folder)
            except OutputError:
                raise
            except Exception as error:  # files of other programs may hold anything
                if self._redact or isinstance(error, OSError):
                    raise
                reason = first_line(error)
                if not isinstance(error, DgrecError):
                    reason = f"cannot be shown ({type(error).__name__}): {reason}"
                self._advise(f"{reason if name in reason else f'{name}: {reason}'}; left out")
                shutil.rmtree(self._target.folder / folder, ignore_errors=True)
                continue
            folders[name] = folder
            if thumb:
                thumbs[name] = "thumb.jpg"
            size = folder_size(self._target.folder / folder)
            exported.recordings[name] = facts["frames"] or 0, size
            exported.detections += facts["detections"] or 0
        if not folders:
            raise ConfigError("none of the recordings can be read")
        shown = [facts for facts in listed if facts["s"] in folders]
        self._target.put("index", {"sessions": shown, "folders": folders, "thumbs": thumbs})
        self._target.put("questions", statements.questions())
        for name, written in _PAGE.items():
            page = resources.files("dgrec.replay.viewing").joinpath("static", name)
            self._page.put_file(written, page.read_bytes())
        return exported

    def _write_session(self, opened: OpenedSession, folder: str) -> bool:
        target, redact = self._target, self._redact

        def progress(what: str) -> Callable[[int, int], None]:
            return functools.partial(self._progress, what)

        videos, preview, note = _videos(
            opened, folder, target, redact, self._advise, progress("pictures")
        )
        contents = Contents(
            opened,
            folder,
            target,
            videos,
            preview,
            note,
            progress=progress("frames"),
            has_file=self._has_files,
        )
        return contents.write(has_thumb=not redact)


def _videos(
    opened: OpenedSession,
    folder: str,
    target: FolderTarget,
    redact: tuple[str, ...],
    advise: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> tuple[dict[int, str], Preview | None, str]:
    """Copy the videos of a session, or make one."""
    shown = [(number, opened.videos.all[number]) for number in opened.videos.used]
    if not redact and shown and all(plays_everywhere(video) for _, video in shown):
        names = {}
        for number, video in shown:
            names[number] = f"video-{number}{video.path.suffix.lower()}"
            with open_regular(video.path, video.inode) as file:
                target.copy(f"{folder}/{names[number]}", file)
        return names, None, ""
    footage = find_footage(opened.session) if redact else shown_footage(opened.session)
    if footage.path is None and not footage.parts:
        return {}, None, f"no pictures: {footage.lacking}"
    path = target.path(f"{folder}/video-0.mp4")
    preview = make_preview(opened, path, redact, progress=progress)
    if preview is None:
        return {}, None, "none of its pictures can be read"
    for each in preview.notes:
        advise(each)
    return {0: path.name}, preview, ""
