"""The command ``dgrec report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dgrec.options import Command, NamedPath, json_option
from dgrec.paths import REPORT_SUFFIX
from dgrec.replay.options import session_argument, video_option
from dgrec.terminal import say_written

if TYPE_CHECKING:
    from dgrec.session import Session

_PLOTS = ("latency", "histogram", "stages", "throughput", "detections")


@click.command(
    "report",
    cls=Command,
    short_help="A session as one HTML page: plots, tables, the slowest frames, the SQL.",
    epilog="Example: dgrec report session.parquet --output session.html",
)
@session_argument
@click.option(
    "--output",
    "-o",
    type=NamedPath(path_type=Path, is_file=True),
    help="File to write.  [default: NAME.report.html, or NAME.PLOT.png, beside the session]",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@click.option(
    "--png",
    "plot",
    type=click.Choice(_PLOTS),
    help="Write this one plot as a PNG instead.",
)
@video_option
@click.option("--no-pictures", is_flag=True, help="Leave out the strip of the slowest frames.")
@json_option
def report_command(
    session: Path,
    output: Path | None,
    overwrite: bool,
    plot: str | None,
    video: Path | None,
    no_pictures: bool,
    as_json: bool,
) -> None:
    """Write a report on SESSION that opens in any browser, offline.

    Latency over time, its histogram, the stages, throughput and losses, detections by label, the
    slowest frames with what was found in them: each with the SQL that made it. The file holds
    everything that it shows and loads nothing; with pictures in it, mind whom you give it to.
    """
    if plot and (video or no_pictures):
        raise click.UsageError("--png writes a plot: it goes without --video and --no-pictures")
    if video and no_pictures:
        raise click.UsageError("--no-pictures needs no --video")

    import dgrec
    from dgrec.replay.report import write_plot
    from dgrec.replay.stats import caveats

    suffix, what = (".png", "a plot is a PNG") if plot else (".html", "a report is HTML")
    # A file that exists is refused as such, below.
    if output and output.suffix.lower() not in ("", suffix, ".htm") and not output.exists():
        raise click.UsageError(f"--output {output}: {what}; choose a name that ends in {suffix}")
    with dgrec.open(session) as opened:
        notes = [f"{session}: {caveat}" for caveat in caveats(opened)]
        if plot:
            chosen = output or opened.path.with_suffix(f".{plot}.png")
            write_plot(opened, plot, chosen, overwrite=overwrite)
        else:
            chosen = output or opened.path.with_suffix(REPORT_SUFFIX)
            notes += _write_page(opened, chosen, overwrite, video, not no_pictures)
        frames = len(opened)
    size = chosen.stat().st_size
    say_written(
        [f"{chosen}: {size / 1e6:,.1f} MB"],
        as_json=as_json,
        path=chosen,
        session=opened.path,
        frames=frames,
        bytes=size,
        notes=notes,
    )


def _write_page(
    session: Session, output: Path, overwrite: bool, video: Path | None, pictures: bool
) -> list[str]:
    """Write the page; return what the user should know about its pictures."""
    from dgrec.footage import Pixels, find_footage, recorded_files
    from dgrec.replay.report import check_file, write_report

    # Bad arguments are refused before anything takes time.
    footage = find_footage(session, video) if pictures else None
    keep = [*recorded_files([session]), *(footage.files if footage is not None else ())]
    check_file(output, overwrite=overwrite, keep=keep)
    if footage is None:
        write_report(session, output, overwrite=overwrite)
        return []
    with Pixels(footage) as pixels:
        write_report(session, output, pixels=pixels, overwrite=overwrite)
        return [footage.note, *pixels.notes()]
