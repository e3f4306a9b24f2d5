"""`dgrec export`: sessions in the formats of other tools."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dgrec.errors import ConfigError, DgrecError, NotASessionError
from dgrec.options import Command, NamedPath, Parsed, json_option, usage_errors
from dgrec.replay.options import say_damage, selection_options, sessions_argument, video_option
from dgrec.terminal import echo, say_written
from dgrec.units import counted

if TYPE_CHECKING:
    from dgrec.replay.exports import ExportFormat, ExportReport

#: The formats of `dgrec.replay.exports`, which is only loaded when something is exported.
_NAMES = (
    "coco coco-results csv cvat jsonl label-studio mcap mot mot-results otel parquet-flat perfetto "
    "rrd supervision-json yolo yolo-obb yolo-pose yolo-seg"
).split()


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{text!r} is not a finite number")
    return number


def _split(text: str) -> Any:
    from dgrec.replay.exports import parse_split

    return parse_split(text)


@click.command(
    "export",
    cls=Command,
    groups={
        "Frames and detections": "every min_score split".split(),
        "Pictures": "images redact video".split(),
    },
    short_help="Write a recording for other tools: COCO, YOLO, CVAT, Rerun, Perfetto ...",
    epilog="Example: dgrec export session.parquet -o faces.csv",
)
@sessions_argument
@click.option(
    "--output",
    "-o",
    required=True,
    type=NamedPath(path_type=Path),
    help="File or folder to write; - is standard output. Of several sessions, a folder in which "
    "each keeps its name.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_NAMES),
    metavar="NAME",
    help=f"{', '.join(_NAMES)}.  [default: what the suffix of --output says]",
)
@click.option(
    "--all",
    "is_all",
    is_flag=True,
    help="Export every session in the folders that are named, each under its name.",
)
@selection_options("where", "detections_where", "start", "end")
@click.option("--every", type=click.IntRange(1), default=1, metavar="N", help="One of N frames.")
@click.option(
    "--min-score",
    type=Parsed(_number),
    metavar="SCORE",
    help="Only detections of this score or more.",
)
@click.option(
    "--split",
    type=Parsed(_split),
    metavar="NAME=SHARE,...",
    help="Stretches of time for training and for validation: train=0.8,val=0.2.",
)
@click.option(
    "--images",
    type=click.Choice(["jpg", "png", "none"]),
    help="Write pictures of the frames, for a file in a folder beside it.  [default: jpg for YOLO, "
    "the video itself for MCAP and Rerun, else none]",
)
@click.option(
    "--redact",
    multiple=True,
    metavar="LABEL",
    help="Cover objects of this class, or all, in the pictures, as `dgrec replay --redact` does.",
)
@video_option
@click.option("--overwrite", is_flag=True, help="Replace what exists.")
@json_option
def export_command(
    sessions: tuple[Path, ...],
    output: Path,
    form: str | None,
    is_all: bool,
    video: Path | None,
    overwrite: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Write SESSION in the format of another tool; docs/exports.md has a recipe for each.

    What the format cannot hold is reported on stderr, with how much of it there was.
    """
    from dgrec.replay.exports import ExportOptions, format_of

    chosen["redact"] = tuple(chosen["redact"])
    with usage_errors():
        options = ExportOptions(**chosen)
        # The names in a folder have no suffix that could tell the format.
        target = format_of(form, output)
    if as_json and str(output) == "-":
        raise click.UsageError("--json and --output - both write to standard output")
    if is_all or len(sessions) > 1:
        if video is not None:
            raise click.UsageError("--video goes with one session")
        _export_all(sessions, output, target, options, is_all, overwrite, as_json)
    else:
        _export_one(sessions[0], output, target, options, video, overwrite, as_json)


def _export_one(
    path: Path,
    output: Path,
    target: ExportFormat,
    options: Any,
    video: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    import dgrec
    from dgrec.replay.exports import export_session, export_to_stdout

    with dgrec.open(path) as session:
        say_damage(session)
        if str(output) == "-":
            for note in export_to_stdout(session, target, options, video=video).notes:
                echo(note, err=True)
            return
        report = export_session(session, output, target, options, video=video, overwrite=overwrite)
    _say(session.path, output, report, as_json)


def _say(session: Path, output: Path, report: ExportReport, as_json: bool) -> None:
    counts = [counted(report.frames, "frame"), counted(report.detections, "detection")]
    if report.pictures:
        counts.append(counted(report.pictures, "picture"))
    say_written(
        [*map(str, report.outputs), f"{report.format}: {', '.join(counts)}"],
        as_json=as_json,
        path=output,
        files=report.outputs,
        session=session,
        format=report.format,
        frames=report.frames,
        detections=report.detections,
        pictures=report.pictures,
        notes=report.notes,
    )


def _export_all(
    paths: tuple[Path, ...],
    output: Path,
    target: ExportFormat,
    options: Any,
    is_all: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Export several sessions into a folder."""
    from dgrec.replay.exports import export_session, member_outputs
    from dgrec.session import names_something, open_sessions

    if not is_all and any(path.is_dir() for path in paths):
        raise click.UsageError("--all exports every session in a folder")
    for path in paths:
        if not names_something(str(path)):
            raise NotASessionError(f"{path}: there is no such session or folder")
    opened = open_sessions(paths, lambda line: echo(line, err=True), with_clips=True)
    outputs = member_outputs(opened, output, target)
    codes = []
    for session, path in zip(opened, outputs, strict=True):
        say_damage(session)
        try:
            report = export_session(session, path, target, options, overwrite=overwrite)
            _say(session.path, path, report, as_json)
        except DgrecError as error:
            if len(opened) == 1:
                raise
            echo(f"{error}; left out", err=True)
            codes.append(error.exit_code)
    if codes:
        failed = f"{len(codes):,} of {len(opened):,} sessions could not be exported"
        echo(f"Error: {failed}", err=True, colour="red")
        raise SystemExit(max(codes))
