"""`dgrec clip`: a part of a session as a session of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dgrec.options import NamedPath
from dgrec.replay.options import say_damage, session_argument
from dgrec.terminal import echo

if TYPE_CHECKING:
    from dgrec.replay.clip import Span
    from dgrec.session import Session

__all__ = ["clip_command"]

_POSITION = "A frame (300), a time since the first (12.5s, 00:01:30), or UTC (2026-01-02T03:04:05Z)"


@click.command(
    "clip",
    short_help="Cut a part of a session, or all frames that match, with its video.",
    epilog='Example: dgrec clip s.parquet --where "latency_ms > 100" --pad 2s -o reel.parquet',
)
@session_argument
@click.option(
    "--output",
    "-o",
    required=True,
    type=NamedPath(path_type=Path),
    help="The new session (.parquet); its video goes beside it.",
)
@click.option("--start", metavar="WHERE", help=f"{_POSITION}.  [default: the beginning]")
@click.option(
    "--end", metavar="WHERE", help="Where to stop, written as --start.  [default: the end]"
)
@click.option(
    "--where",
    metavar="SQL",
    help="Only frames that match: a condition in SQL on the columns of the view frames.",
)
@click.option(
    "--pad", metavar="TIME", help="With --where: time to keep before and after each, such as 2s."
)
@click.option(
    "--with-video",
    is_flag=True,
    help="If the pixels are in a source file, write this part of them beside the clip.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--quiet", "-q", is_flag=True, help="Print problems only.")
def clip_command(
    session: Path,
    output: Path,
    start: str | None,
    end: str | None,
    where: str | None,
    pad: str | None,
    with_video: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Cut a part of SESSION, with its part of the video, as a new session.

    Rows stay as they were recorded, but count from 0 again; "clip" in the metadata names the
    session and its frames. A recorded video is copied if every part begins with one of its key
    frames, and encoded again otherwise. The clip of a session that was recorded from a file shows
    the same file.
    """
    import dgrec
    from dgrec.replay.clip import check_clip_output, write_clip

    if pad is not None and where is None:
        raise click.UsageError("--pad goes with --where")
    with dgrec.open(session) as opened:
        check_clip_output(opened, output, with_video=with_video, overwrite=overwrite)
        say_damage(opened)
        spans = _spans(opened, start, end, where, pad)
        asked = {"start": start, "end": end, "where": where, "pad": pad}
        report = write_clip(
            opened,
            spans,
            output,
            with_video=with_video,
            overwrite=overwrite,
            description={key: value for key, value in asked.items() if value is not None},
        )
    for note in report.notes:
        echo(note, err=True)
    if not quiet:
        moments = f" from {report.spans:,} moments" if report.spans > 1 else ""
        echo(f"{output}: {report.frames:,} frames{moments}")
        for path, is_copy in report.videos:
            echo(f"{path}: {'copied' if is_copy else 'encoded again'}")


def _spans(
    session: Session, start: str | None, end: str | None, where: str | None, pad: str | None
) -> list[Span]:
    from dgrec.errors import ConfigError
    from dgrec.footage import parse_position
    from dgrec.replay.clip import Span, spans_where
    from dgrec.replay.rendering import select_frames
    from dgrec.units import parse_time

    if not len(session):
        raise ConfigError(f"{session.path}: has no frames")
    first, last = (None if text is None else parse_position(text) for text in (start, end))
    selection = select_frames(session, first, last)
    within = Span(selection.start, selection.end)
    if where is None:
        return [within]
    pad_us = 0 if pad is None else round(parse_time(pad) * 1e6)
    spans = spans_where(session, where, pad_us, within)
    if not spans:
        raise ConfigError(f"{session.path}: there is no frame with {where}")
    return spans
