"""`dgrec whatif`: what a session would hold with other thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dgrec.options import Command, NamedPath, Parsed, usage_errors
from dgrec.replay.options import output_options, say_damage, session_argument
from dgrec.terminal import echo
from dgrec.units import parse_steps

if TYPE_CHECKING:
    from dgrec.session import Session


@click.command(
    "whatif",
    cls=Command,
    short_help="Count what other thresholds would give, without the model.",
    epilog="Example: dgrec whatif session.parquet --threshold 0.6:0.9:0.1",
)
@session_argument
@click.option(
    "--threshold",
    "thresholds",
    type=Parsed(parse_steps),
    metavar="FROM:TO:STEP",
    help="Confidence thresholds, as PySDK's output_confidence_threshold: 0.3:0.9:0.05, or "
    "0.3,0.5. Not below that of the recording.",
)
@click.option(
    "--nms",
    type=Parsed(parse_steps),
    metavar="FROM:TO:STEP",
    help="NMS thresholds (IoU), as PySDK's output_nms_threshold. Not above that of the recording.",
)
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    metavar="SETTINGS",
    help='Count tracks with an ObjectTracker of these settings: --tracker "track_thresh=0.3". '
    "Repeatable, to compare settings.",
)
@click.option(
    "--truth",
    type=NamedPath(path_type=Path),
    metavar="FILE",
    help="Boxes that people drew, of any format that dgrec import reads, or a session: precision, "
    "recall and the best F1.",
)
@click.option(
    "--plot",
    type=NamedPath(path_type=Path),
    metavar="FILE.png",
    help="Draw it over the threshold, too.",
)
@output_options("table", "json", "markdown")
def whatif_command(
    session: Path,
    thresholds: tuple[float, ...] | None,
    nms: tuple[float, ...] | None,
    trackers: tuple[str, ...],
    truth: Path | None,
    plot: Path | None,
    form: str,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Count what SESSION would hold with other thresholds, and how steady that is.

    Record at a low threshold, then ask as often as you like. The flicker is the share of
    detections that are in one frame only, or missing in one frame; the agreement is that of
    `dgrec compare` with the recording as it is. Precision, recall and F1 are over all annotated
    frames, at an IoU of 0.5, with detections and boxes matched as COCO does.
    """
    import dgrec
    from dgrec.analyzers import AnalyzerRequest
    from dgrec.footage import recorded_files
    from dgrec.replay.output import open_output
    from dgrec.replay.report import check_file
    from dgrec.replay.whatif import write_plot, write_whatif

    if not (thresholds or nms or trackers or truth):
        raise click.UsageError("say what to try: --threshold, --nms, --tracker, or --truth")
    with usage_errors():
        for text in trackers:
            AnalyzerRequest((text,))
    if plot is not None and plot.suffix.lower() != ".png":
        raise click.UsageError(f"--plot {plot}: a plot is a PNG; choose a name that ends in .png")
    if plot is not None and len({*(thresholds or ())}) < 2:
        raise click.UsageError("--plot takes two thresholds or more: --threshold 0.6:0.9:0.1")
    with dgrec.open(session) as opened:
        say_damage(opened)
        if plot is not None:
            kept = (*recorded_files([opened]), *filter(None, (truth, output)))
            check_file(plot, overwrite=overwrite, keep=kept)
        answer = dgrec.whatif(
            opened, thresholds or (), nms=nms or (), trackers=trackers, truth=truth
        )
    keep: list[Path | Session] = [session, opened, *filter(None, (truth, plot))]
    with open_output(output, overwrite=overwrite, keep=keep) as destination:
        write_whatif(answer, form, destination)
    if plot is not None:
        write_plot(answer, plot, overwrite=overwrite)
        echo(f"{plot}: {plot.stat().st_size / 1e6:,.1f} MB", err=True)
