"""Writes the detections of another program as a session."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgrec.arguments import check_number, check_text, given_path, optional_path, with_parameters
from dgrec.errors import ConfigError, ImportFileError, OutputError, VideoError, value_text
from dgrec.files import check_new_file, check_session_name, resolved
from dgrec.footage import file_facts
from dgrec.format import NULLABLE_SCHEMA, write_sealed
from dgrec.imports.format import FORMATS, ImportFormat, find_format, format_of
from dgrec.imports.frames import Facts, Frames, ImportOptions, Input
from dgrec.imports.labels import GivenLabels, read_labels
from dgrec.imports.rows import FASTEST, MOST_ADDED, ImportedRows
from dgrec.imports.text import InvalidError, open_binary
from dgrec.imports.values import INT32_MAX
from dgrec.paths import with_session_suffix
from dgrec.session import parts_of
from dgrec.video import VideoReader


@dataclass(frozen=True)
class ImportReport:
    """The result of `import_`."""

    path: Path
    format: str
    frames: int
    detections: int
    #: What a session does not keep of the file, and what the user should know; a line each.
    notes: tuple[str, ...] = ()


@with_parameters()
def import_(
    file: str | Path,
    output: str | Path,
    *,
    format: str | None = None,
    video: str | Path | None = None,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    labels: str | Path | Mapping[int, str] | None = None,
    frames: int | None = None,
    normalized: bool = False,
    frame_column: str | None = None,
    field: str | None = None,
    overwrite: bool = False,
) -> ImportReport:
    """Write the detections in a file of another program as a session.

    Args:
        file: The file to import; docs/imports.md lists the formats.
        output: The session: ``walk`` is ``walk.parquet``.
        format: The name of the format; None: recognized by the file's beginning.
        video: The footage that the detections belong to, for times, size, and replay.
        fps: Frames per second of the footage, where neither the file nor a video says it.
        size: Width and height of the frames, likewise.
        labels: Names of category ids: a dictionary, or as ``--labels`` takes them.
        frames: How many frames the footage has: those that the file does not name are added,
            without detections.
        normalized: Coordinates are parts of the width and height, from 0 to 1.
        frame_column: The column of a table that holds the number of the frame.
        field: Which of several fields (FiftyOne) or topics (MCAP) to take.
        overwrite: Whether the output may be replaced.

    Raises:
        ImportFileError: The file is damaged, or not of its format; the message says where.
        ConfigError: There is no such format, or an option cannot be used.
        OutputError: The output exists, or cannot be written.
        VideoError: The video cannot be read.

    Example:
        >>> import dgrec
        >>> from pathlib import Path
        >>> line = '{"detections": [{"label": "car", "score": 0.9, "bbox": [1, 2, 30, 40]}]}'
        >>> _ = Path("found.jsonl").write_text(line)
        >>> dgrec.import_("found.jsonl", "found.parquet", fps=30).detections
        1
    """
    path, target = (
        given_path("file", file, ImportFileError),
        with_session_suffix(given_path("output", output, OutputError)),
    )
    footage = optional_path("video", video, VideoError)
    _check_given(fps, frames, size)
    size = None if size is None else (int(size[0]), int(size[1]))
    _check_target(path, target, overwrite)
    if fps is not None and not 0 < fps <= FASTEST:
        raise ConfigError(f"fps {fps:g}: expected more than 0, and at most {FASTEST:,.0f}")
    if frames is not None and not 0 < frames <= MOST_ADDED:
        raise ConfigError(f"frames {frames:,}: expected 1 to {MOST_ADDED:,}")
    source = _source(path, target, footage, fps, size)
    named = _given_labels(labels)
    options = ImportOptions(
        labels=named.names,
        categories=named.categories,
        images=named.images,
        size=_size_of(source),
        normalized=normalized,
        frame_column=frame_column,
        field_name=field,
    )
    with open_binary(path) as opened:
        try:
            chosen = find_format(format) if format else format_of(opened)
            _check_is_read(chosen, labels=labels, frame_column=frame_column, field=field)
            facts = Facts()
            rows = ImportedRows(
                chosen, Input(path, opened, options), facts, source.get("fps"), frames
            )
            rows.announced = source.get("frames")
            with contextlib.closing(rows.batches()) as batches:
                write_sealed(
                    target,
                    NULLABLE_SCHEMA,
                    batches,
                    lambda totals: rows.metadata(totals, target, source),
                    replace=overwrite,
                )
        except InvalidError as error:
            raise ImportFileError(f"{path}: {error}") from None
    return ImportReport(target, chosen.name, rows.frames, rows.detections, tuple(rows.notes()))


def _check_given(fps: object, frames: object, size: object) -> None:
    if fps is not None:
        check_number("fps", fps)
    if frames is not None:
        check_number("frames", frames, is_whole=True)
    if size is None:
        return
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise ConfigError(f"size: {value_text(size)} is not a pair of numbers, such as (640, 360)")
    for number in size:
        check_number("size", number, is_whole=True)
    if not all(0 < number <= INT32_MAX for number in size):
        raise ConfigError(f"--size {size[0]}x{size[1]}: expected 1 to {INT32_MAX:,} pixels")


def _check_is_read(chosen: ImportFormat, **given: Any) -> None:
    """Refuse an option that the format has no use for."""
    for name, value in given.items():
        if value and name not in chosen.reads_options:
            formats = FORMATS.load().items()
            others = ", ".join(sorted(n for n, other in formats if name in other.reads_options))
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{flag}: {chosen.name} has no use for it; it is for {others}")


def _given_labels(labels: str | Path | Mapping[int, str] | None) -> GivenLabels:
    if isinstance(labels, str | Path):
        return read_labels(str(labels))
    if not isinstance(labels, Mapping | None):
        raise ConfigError(
            f"labels: {value_text(labels)} is not a dictionary of names by id, a text such as "
            "'person,car', or a file"
        )
    for number, name in (labels or {}).items():
        check_number("labels", number, is_whole=True)
        check_text("labels", name)
    return GivenLabels({int(number): name for number, name in (labels or {}).items()})


def read_frames(file: Path, facts: Facts) -> Frames:
    """Yield the frames of a file of another program, in the order of their numbers.

    Args:
        facts: Is filled in with what the file says about all of them, such as its labels.

    Raises:
        ImportFileError: The file is damaged, or not of a known format.
    """
    with open_binary(file) as opened:
        try:
            given = Input(file, opened, ImportOptions())
            rows = ImportedRows(format_of(opened), given, facts, None, None)
            yield from rows.checked()
        except InvalidError as error:
            raise ImportFileError(f"{file}: {error}") from None


def _check_target(path: Path, target: Path, overwrite: bool) -> None:
    check_session_name(target)
    if resolved(path) == resolved(target):
        raise OutputError(f"{target}: is the file that is imported; choose another name")
    check_new_file(target, overwrite=overwrite)
    if not target.exists() and parts_of(target):
        raise OutputError(f"{target}: a recording in parts has this name; choose another")


def _source(
    path: Path, target: Path, video: Path | None, fps: float | None, size: tuple[int, int] | None
) -> dict[str, Any]:
    """Return the metadata's entry for the footage."""
    if video is None:
        source: dict[str, Any] = {"given": path.name, "kind": "import", "name": path.stem}
    else:
        if not video.is_file():
            raise VideoError(f"{video}: no such file")
        reader = VideoReader(video)
        try:
            aspect = str(reader.aspect).replace("/", ":") if reader.aspect != 1 else None
            source = {
                "given": str(video),
                "kind": "file",
                "name": video.stem,
                **file_facts(video, target.absolute().parent),
                "width": reader.size[0],
                "height": reader.size[1],
                "fps": reader.fps,
                "frames": reader.announced,
                "pixel_aspect": aspect,
            }
        finally:
            reader.release()
        if size is not None and size != reader.size:
            raise ConfigError(
                f"--size {size[0]}x{size[1]}: the frames of {video} are "
                f"{reader.size[0]}x{reader.size[1]}"
            )
    source["live"] = False
    if fps is not None:
        source["fps"] = fps
    if size is not None:
        source["width"], source["height"] = size
    return source


def _size_of(source: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = source.get("width"), source.get("height")
    return (width, height) if width and height else None
