"""Writes the files of an export, and reports what was written."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dgrec.arguments import check_text, given_path, one_or_more, optional_path, with_parameters
from dgrec.errors import ConfigError, DamagedSessionError, OutputError, VideoError
from dgrec.files import (
    NewFile,
    NewFolder,
    TemporaryFolder,
    check_new_file,
    check_new_folder,
    output_error,
    output_errors,
    resolved,
)
from dgrec.footage import parse_position, recorded_files, refuse_recorded
from dgrec.format import DecodeError
from dgrec.paths import PICTURES_SUFFIX
from dgrec.replay.exports.exported import Exported, session_name
from dgrec.replay.exports.format import ExportFormat, format_of
from dgrec.replay.exports.losses import Losses
from dgrec.replay.exports.pictures import Pictures
from dgrec.replay.exports.selection import (
    ExportOptions,
    chosen_positions,
    parse_split,
    split_positions,
)
from dgrec.replay.rendering import earlier_pictures

if TYPE_CHECKING:
    from dgrec.session import Session

_Splits = list[tuple[str, np.ndarray[Any, Any]]]


@dataclass
class ExportReport:
    """The result of an export."""

    format: str
    #: Files and folders.
    outputs: list[Path] = field(default_factory=list)
    frames: int = 0
    detections: int = 0
    pictures: int = 0
    #: What the user should know: what the format cannot hold, pictures that were missing.
    notes: list[str] = field(default_factory=list)


@with_parameters()
def export(
    session: str | Path | Session,
    output: str | Path,
    format: str | None = None,
    *,
    where: str | None = None,
    detections_where: str | None = None,
    start: int | str | None = None,
    end: int | str | None = None,
    every: int = 1,
    min_score: float | None = None,
    split: str | None = None,
    images: str | None = None,
    redact: str | Sequence[str] = (),
    video: str | Path | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Export a session in a format of other tools (docs/exports.md).

    Args:
        session: A session, or its path.
        output: The file or folder to write.
        format: Its format, such as ``coco`` or ``yolo``; None: what the suffix says.
        where: Which frames: a condition in SQL on the view ``frames``.
        detections_where: Which detections: a condition in SQL on the view ``detections``.
        start: The first frame: a frame, a time since the first one, or UTC.
        end: The frame to stop before.
        every: One frame in this many.
        min_score: The lowest score of a detection.
        split: Shares of time, such as ``train=0.8,val=0.2``.
        images: ``jpg``, ``png`` or ``none``; None: what the format usually has.
        redact: Labels that are covered in pictures; ``all`` for every detection.
        video: The footage, where dgrec does not find it itself.
        overwrite: Replace what exists.

    Raises:
        DgrecError: It cannot be written; the message says why.

    Example:
        >>> import dgrec
        >>> with dgrec.open("session.parquet") as session:
        ...     report = dgrec.export(session, "faces.csv", min_score=0.9)
        >>> report.format, report.frames
        ('csv', 256)
    """
    from dgrec.session import Session

    texts = {"where": where, "detections_where": detections_where, "split": split}
    for name, text in texts.items():
        if text is not None:
            check_text(name, text)
    options = ExportOptions(
        where=where,
        detections_where=detections_where,
        start=None if start is None else parse_position(str(start)),
        end=None if end is None else parse_position(str(end)),
        every=every,
        min_score=min_score,
        split=() if split is None else parse_split(split),
        images=images,  # type: ignore[arg-type]  # checked there
        redact=tuple(one_or_more("redact", redact, "a label")),
    )
    path = given_path("output", output, OutputError)
    target = format_of(format, path)
    footage = optional_path("video", video, VideoError)
    with ExitStack() as stack:
        if not isinstance(session, Session):
            session = stack.enter_context(Session(session))
        return export_session(session, path, target, options, video=footage, overwrite=overwrite)


def export_session(
    session: Session,
    output: Path,
    target: ExportFormat,
    options: ExportOptions,
    *,
    video: Path | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Export a session.

    Raises:
        DgrecError: It cannot be written; the message says why.
    """
    images = _picture_kind(target, options)
    positions = chosen_positions(session, options)
    splits: _Splits = [("", positions)]
    if options.split:
        splits = split_positions(positions, options.split)
    jobs = [(output, splits)]
    if not target.has_splits and options.split:
        jobs = [(_split_output(output, name), [(name, chosen)]) for name, chosen in splits]
    for path, _ in jobs:
        check_output(session, path, target, images, overwrite=overwrite)
    report, losses, notes = ExportReport(target.name), Losses(), dict[str, None]()
    exported: Exported | None = None
    for path, chosen in jobs:
        with ExitStack() as stack:
            place = stack.enter_context(_Place(path, target, images, overwrite=overwrite))
            pictures: Pictures | None = None
            if images not in ("none", "video"):
                pictures = Pictures(
                    session,
                    place.pictures,
                    f".{images}",
                    place.prefix,
                    video=video,
                    redact=options.redact,
                )
                stack.enter_context(pictures)
            exported = Exported(
                session, target, options, chosen, images, pictures, video, before=exported
            )
            stack.enter_context(exported)
            _write(target, exported, place.content)
            if exported.is_nothing:
                why = "; ".join(exported.losses.lines())
                raise ConfigError(f"{session.path}: nothing is left to export: {why}")
            report.frames += exported.frame_count
            report.detections += exported.detection_count
            losses.update(exported.losses)
            notes.update(dict.fromkeys(exported.notes))
            if exported.pictures is not None:
                report.pictures += exported.pictures.written
                notes.update(dict.fromkeys(exported.pictures.notes()))
            place.finish()
            report.outputs += place.outputs
    report.notes = [*losses.lines(), *notes]
    return report


def export_to_stdout(
    session: Session, target: ExportFormat, options: ExportOptions, *, video: Path | None = None
) -> ExportReport:
    """Export a session to standard output.

    Raises:
        DgrecError: It is a folder, or cannot be written.
    """
    images = "none" if target.has_pictures_inside else options.images or target.pictures[0]
    if target.is_folder or options.split or images != "none":
        raise ConfigError("-o -: standard output takes one file, without pictures and splits")
    with TemporaryFolder("dgrec-export") as folder:
        path = folder.path / "output"
        report = export_session(session, path, target, options, video=video)
        sys.stdout.flush()
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    return report


def member_outputs(sessions: Sequence[Session], folder: Path, target: ExportFormat) -> list[Path]:
    """Return the output of each of several sessions: a file or folder of its name in ``folder``.

    The folder is made if there is none.

    Raises:
        OutputError: It cannot be made.
        ConfigError: Two sessions have the same name.
    """
    suffix = ""
    if not target.is_folder:
        suffix = target.member_suffix or target.suffixes[0]
    outputs = [folder / f"{session_name(session)}{suffix}" for session in sessions]
    twice = [path.name for path, count in Counter(outputs).items() if count > 1]
    if twice:
        raise ConfigError(f"{twice[0]}: would be the export of two sessions of the same name")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; the exports of several sessions are in a folder")
    with output_errors(folder):
        folder.mkdir(exist_ok=True)
    return outputs


def _split_output(output: Path, name: str) -> Path:
    """Return the output of a split: ``boxes-train.csv`` for ``boxes.csv``."""
    return output.with_name(f"{output.stem}-{name}{output.suffix}")


def check_output(
    session: Session, path: Path, target: ExportFormat, images: str, *, overwrite: bool
) -> None:
    """Raise `OutputError` if an output cannot be written, before any work is done."""
    refuse_recorded(path, recorded_files([session]))
    if target.is_folder:
        _check_folder(path, target.replaced, overwrite=overwrite)
        return
    check_new_file(resolved(path), overwrite=overwrite)
    if images != "none" and not target.has_pictures_inside:
        _check_folder(_pictures_folder(path), None, overwrite=overwrite)


def _pictures_folder(path: Path) -> Path:
    """Return the folder for the pictures of an export that is a file."""
    return path.with_name(f"{path.stem}{PICTURES_SUFFIX}")


def _picture_kind(target: ExportFormat, options: ExportOptions) -> str:
    """Return the kind of pictures to write.

    Raises:
        ConfigError: The format has no place for them, or there are none to cover.
    """
    kind = options.images or target.pictures[0]
    if kind not in target.pictures:
        choices = " or ".join(each for each in target.pictures if each != "video")
        raise ConfigError(f"--images {kind}: {target.name} takes {choices}")
    if options.redact and kind in ("none", "video"):
        if "jpg" not in target.pictures:
            raise ConfigError(f"--redact: {target.name} has no pictures that could be covered")
        what = "a video cannot be covered" if kind == "video" else "covers pictures"
        raise ConfigError(f"--redact: {what}; export pictures with --images jpg")
    return kind


def _check_folder(path: Path, replaced: tuple[str, ...] | None, *, overwrite: bool) -> None:
    """Raise `OutputError` if a folder cannot be written.

    Args:
        replaced: The names that an earlier export of this kind has in it; None: pictures.
    """
    there = check_new_folder(path, overwrite=overwrite)
    if there and replaced is not None and not there.issuperset(replaced[:1]):
        raise OutputError(
            f"{path}: is not an earlier export of this kind (it has no {replaced[0]}), so it is "
            "not overwritten; choose another name"
        )


def _write(target: ExportFormat, exported: Exported, path: Path) -> None:
    try:
        target.write(exported, path)
    except DecodeError as error:
        name = exported.session.path
        raise DamagedSessionError(f"{name}: damaged: {error}") from None


class _Place:
    """The output of an export: a file, a file with a folder of pictures, or a folder."""

    def __init__(self, path: Path, target: ExportFormat, images: str, *, overwrite: bool) -> None:
        self.outputs = [path]
        self.prefix = ""
        #: The names that an earlier export has in the folder; None: pictures.
        self._replaced = target.replaced if target.is_folder else None
        self._path, self._overwrite, self._is_finished = path, overwrite, False
        self._file: NewFile | None = None
        self._folder: NewFolder | None = None
        with output_errors(path):
            if target.is_folder:
                self._folder = NewFolder(path)
                self.content = self.pictures = self._folder.temporary
                return
            self._file = NewFile(resolved(path), replace=overwrite)
            self.content = self.pictures = Path(self._file.name)
            if images != "none" and not target.has_pictures_inside:
                folder = _pictures_folder(path)
                self._folder = NewFolder(folder)
                self.pictures, self.prefix = self._folder.temporary, f"{folder.name}/"
                self.outputs.append(folder)

    def finish(self) -> None:
        """Give everything its final name."""
        with output_errors(self._path):
            if self._folder is not None:
                self._folder.finish(self._merge)
            if self._file is not None:
                self._file.finish()
        self._is_finished = True

    def _merge(self, folder: Path) -> None:
        """Replace what an earlier export wrote; other files stay."""
        assert self._folder is not None
        if not self._overwrite and any(folder.iterdir()):
            raise OutputError(f"{folder}: another program has written to it meanwhile")
        made = self._folder.temporary
        names = {new.name for new in made.iterdir()}
        earlier = self._replaced
        if earlier is None:
            earlier = tuple(picture.name for picture in earlier_pictures(folder))
        # What only the earlier one had would be taken for a part of this one.
        for name in sorted({*names, *earlier}):
            old = folder / name
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            elif name not in names:
                old.unlink(missing_ok=True)
            if name in names:
                os.replace(made / name, old)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, _: Any) -> None:
        if not self._is_finished:
            for unfinished in (self._folder, self._file):
                if unfinished is not None:
                    unfinished.discard()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise output_error(self._path, error) from None
