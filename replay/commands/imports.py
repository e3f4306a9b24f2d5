"""`dgrec import` and `dgrec merge`: sessions that no recorder wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dgrec.options import Command, NamedPath, Parsed, SessionOutput, json_option
from dgrec.replay.options import FiniteRange, say_clip_written, sessions_argument
from dgrec.terminal import say_written
from dgrec.units import counted, parse_both_dimensions

#: A copy of `dgrec.imports.FORMATS`, whose import needs pyarrow; a test compares the two.
FORMATS = "coco csv cvat fiftyone mcap mot payload supervision-json ultralytics".split()


_output_option = click.option(
    "--output",
    "-o",
    type=SessionOutput(),
    required=True,
    metavar="SESSION.parquet",
    help="The session to write.",
)


@click.command(
    "import",
    cls=Command,
    groups={
        "What FILE does not say": (
            "video fps size labels frames normalized frame_column field".split()
        ),
    },
    short_help="Make a session of what another program found.",
    epilog="Example: dgrec import labels.json -o truth.parquet --video faces.mp4",
)
@click.argument("file", type=NamedPath(path_type=Path))
@_output_option
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    metavar="NAME",
    help=f"{', '.join(FORMATS)}.  [default: what the beginning of FILE looks like]",
)
@click.option(
    "--video",
    type=NamedPath(path_type=Path),
    help="The footage that the boxes belong to: it gives times and size, and replay shows it.",
)
@click.option(
    "--fps",
    type=FiniteRange(0, 10_000, min_open=True),
    metavar="RATE",
    help="Frames per second of the footage, where neither FILE nor --video says it.",
)
@click.option(
    "--size",
    type=Parsed(parse_both_dimensions),
    metavar="WxH",
    help="Size of the frames, likewise: 1280x720.",
)
@click.option(
    "--labels",
    metavar="NAMES",
    help="Names of category ids, from 0: person,car; a text file with a name in each line; or COCO "
    "annotations, whose pictures then say which frames are meant.",
)
@click.option(
    "--frames",
    type=click.IntRange(1, 10_000_000),
    metavar="N",
    help="How many frames the footage has. Those that FILE does not name become frames in which "
    "nothing was found.",
)
@click.option(
    "--normalized",
    is_flag=True,
    help="Coordinates are parts of the width and height, from 0 to 1.",
)
@click.option(
    "--frame-column",
    metavar="NAME",
    help="The column of a table that holds the number of the frame, from 0.",
)
@click.option(
    "--field", metavar="NAME", help="Which of several fields (FiftyOne) or topics (MCAP) to take."
)
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@json_option
def import_command(
    file: Path, output: Path, form: str | None, as_json: bool, **options: Any
) -> None:
    """Write the detections in FILE as a session, so that stats, query, compare and replay serve
    recordings and ground truth from elsewhere.

    Formats: COCO annotations and results, MOTChallenge, supervision's JSON and CSV, Ultralytics'
    JSON, JSON lines of DeGirum's payload, exports of CVAT and FiftyOne, and MCAP with
    ImageAnnotations. docs/imports.md has an example of each.

    What a file does not say (times, sizes, losses) is unknown in the session, not made up. A file
    that is damaged is refused with one line that says where.
    """
    import dgrec

    report = dgrec.import_(file, output, format=form, **options)
    say_written(
        [
            f"{report.path}: {counted(report.frames, 'frame')}, "
            f"{counted(report.detections, 'detection')}, from {report.format}"
        ],
        as_json=as_json,
        path=report.path,
        source=file,
        format=report.format,
        frames=report.frames,
        detections=report.detections,
        notes=report.notes,
    )


@click.command(
    "merge",
    cls=Command,
    short_help="Join recordings that came one after the other into one.",
    epilog="Example: dgrec merge monday.parquet tuesday.parquet -o week.parquet",
)
@sessions_argument
@_output_option
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@json_option
def merge_command(sessions: tuple[Path, ...], output: Path, overwrite: bool, as_json: bool) -> None:
    """Write the recordings SESSION... of one camera or file as one, in the order of time.

    Frames are numbered on, and the time between two recordings is a gap in its events. Videos that
    were recorded with them are joined: copied bit by bit where that can be done, else encoded
    again. Sessions that overlap in time, or are of different models or sources, are refused: query
    and stats take several sessions as they are.
    """
    from dgrec.replay.merging import merge

    if len(sessions) < 2:
        raise click.UsageError("name two sessions or more")
    report = merge(sessions, output, overwrite=overwrite)
    say_clip_written(
        output,
        report,
        f"{counted(report.frames, 'frame')} from {counted(report.spans, 'recording')}",
        as_json=as_json,
        sessions=sessions,
        recordings=report.spans,
    )
