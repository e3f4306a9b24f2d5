"""The command ``dgrec record``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from dgrec.errors import ConfigError
from dgrec.options import NamedPath, Parsed
from dgrec.recorder.options import (
    CHOICES,
    QUANTITIES,
    VIDEO_OPTIONS,
    RecordingOptions,
    parse_video_size,
)

__all__ = ["COMMANDS"]


def _quantity(name: str) -> Parsed:
    """Return the type of an option whose text (``512MB``, ``10m``) names a quantity."""
    return Parsed(QUANTITIES[name].read)


@click.command(
    "record",
    epilog="Example: dgrec record --source sample --output session.parquet",
    short_help="Run a model on a camera, stream or file and record every frame.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    default=("cam0",),
    metavar="SOURCE",
    help="cam0 (any camN), a file, a URL (RTSP, HTTP), sample, asset:NAME of DeGirum's example "
    "media, or a name from dgrec.toml. Repeatable: a session for each.  [default: cam0]",
)
@click.option("--loop", is_flag=True, help="Start a file over when it ends.")
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path, dir_okay=False),
    help="Session file to write; {source} in it stands for the source's name.  [default: "
    "recordings/SOURCE-TIME.parquet]",
)
@click.option("--overwrite", is_flag=True, help="Replace the session file if it exists.")
@click.option("--model-name", default="", help="Name of the model in its zoo.")
@click.option(
    "--zoo-url",
    default="",
    help="Model zoo: a folder, or the address of one in the cloud, such as degirum/hailo.",
)
@click.option("--model-url", default="", help="Zoo and model in one, instead of the two above.")
@click.option(
    "--inference-host-address",
    default="",
    metavar="HOST",
    help="@local, @cloud, or the address of an AI server.  [default: @local with --zoo-url, "
    "else @cloud]",
)
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="KEY=VALUE",
    help="Model property, the value as JSON or as Python writes it: "
    "output_confidence_threshold=0.4. Repeatable.",
)
@click.option(
    "--model-registry",
    "registry",
    default="",
    metavar="FILE",
    help="YAML model registry, with --model.",
)
@click.option("--model", "alias", default="", metavar="ALIAS", help="Alias in the model registry.")
@click.option("--max-frames", type=click.IntRange(min=1), help="End after that many frames.")
@click.option(
    "--duration",
    type=_quantity("duration"),
    metavar="TIME",
    help="End after that time (90s, 10m; seconds without a unit): of footage for a file, of real "
    "time for a live source.",
)
@click.option(
    "--fps",
    type=_quantity("fps"),
    metavar="RATE",
    help="Leave frames out down to this rate.",
)
@click.option("--every", type=click.IntRange(min=1), metavar="N", help="Take every Nth frame only.")
@click.option(
    "--reconnect-for",
    type=_quantity("reconnect_for"),
    metavar="TIME",
    help="How long to try to get a lost live source, or AI server, back (90s, 10m). One that "
    "cannot be reached at the start is an error at once.  [default: for ever]",
)
@click.option(
    "--stall-timeout",
    type=_quantity("stall_timeout"),
    default=f"{RecordingOptions.stall_timeout:g}s",
    show_default=True,
    metavar="TIME",
    help="Silence after which a live source counts as lost.",
)
@click.option(
    "--masks",
    type=click.Choice(CHOICES["masks"]),
    default=RecordingOptions.masks,
    show_default=True,
    help="Keep segmentation masks exactly, or as the bitmap that an overlay uses.",
)
@click.option(
    "--durability",
    type=click.Choice(CHOICES["durability"]),
    default=RecordingOptions.durability,
    show_default=True,
    help="When what is recorded is forced to the disk (fsync).",
)
@click.option(
    "--when-full",
    "policy",
    type=click.Choice(CHOICES["policy"]),
    help="What happens when the disk cannot keep up.  [default: block for files, drop-oldest for "
    "live sources]",
)
@click.option(
    "--split-every",
    type=_quantity("split_every"),
    metavar="TIME",
    help="Begin a new part after that time (90s, 10m, 24h): NAME-0001.parquet, ... It is real "
    "time, also for a file, which is recorded as fast as the model runs.",
)
@click.option(
    "--split-size",
    type=_quantity("split_size"),
    metavar="SIZE",
    help="Begin a new part before its journal and its videos take more than that (512MB, 2GB). "
    "Sealed, the rows are much smaller.",
)
@click.option(
    "--keep-last",
    type=_quantity("keep_last"),
    metavar="TIME",
    help="Remove parts that ended longer ago.",
)
@click.option(
    "--keep-total",
    type=_quantity("keep_total"),
    metavar="SIZE",
    help="Remove the oldest parts when all of them, with their videos, take more.",
)
@click.option(
    "--continue",
    "continues",
    is_flag=True,
    help="Continue the parts of that name, for a recorder that a service manager restarts: seal "
    "what a killed run left, continue the numbers of parts and frames, and let --keep-last and "
    "--keep-total count the parts of all runs. Without --output: recordings/SOURCE.parquet.",
)
@click.option(
    "--min-free",
    metavar="SIZE",
    type=_quantity("min_free"),
    help="End and seal the recording before the disk has less than SIZE (1GB) left; exit code 5.",
)
@click.option(
    "--video",
    type=click.Choice(CHOICES["video"]),
    default=RecordingOptions.video,
    show_default=True,
    help="Record the pixels beside the session: as they came (NAME.mp4), with the overlay "
    "(NAME.annotated.mp4), or both. auto: raw for a live source; nothing for a file, which is the "
    "video itself.",
)
@click.option(
    "--video-quality",
    type=click.IntRange(1, 100),
    default=RecordingOptions.video_quality,
    show_default=True,
    metavar="1-100",
    help="From smallest (1) to best (100). 6 more is twice as good in H.264's own terms, and takes "
    "about a third more room.",
)
@click.option(
    "--video-size",
    type=Parsed(parse_video_size),
    metavar="WxH",
    help="Scale the video to that size, both numbers even: 640x360.  [default: that of the frames]",
)
@click.option(
    "--codec",
    default=RecordingOptions.codec,
    show_default=True,
    help="h264 (plays anywhere), h265, av1 or vp9, as far as the installed PyAV has them.",
)
@click.option(
    "--video-when-full",
    "video_policy",
    type=click.Choice(CHOICES["video_policy"]),
    help="What happens when the encoder cannot keep up: wait for it, or leave frames out of the "
    "video, never their rows.  [default: block for files, leave-out for live sources]",
)
@click.option("--display", is_flag=True, help="Show the overlay in a window while recording.")
@click.option(
    "--publish",
    metavar="FILE",
    help="Append one JSON line a frame to FILE (new, or published to before) while recording; - is "
    "stdout. A file waits for a slow reader; of a live source, lines are left out.",
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def record_command(properties: tuple[str, ...], **given: Any) -> None:
    """Run a model on SOURCE through PySDK's predict_stream and record every frame.

    Detections, timing and everything needed to draw the overlays again go into one Parquet file.
    Without a model the bundled face detector runs on the CPU. The DeGirum token is read from
    DEGIRUM_CLOUD_TOKEN or from PySDK's own store. Ctrl-C ends and seals the recording. When the
    disk is full, fails or goes away, what was written before stays readable (exit code 4).
    """
    from dgrec.recorder.command import run_record
    from dgrec.recorder.job import RecordRequest
    from dgrec.recorder.model import ModelRequest, parse_property

    def take(kind: type) -> dict[str, Any]:
        return {each.name: given.pop(each.name) for each in fields(kind) if each.name in given}

    context = click.get_current_context()
    of_video = [
        option.opts[0]
        for option in context.command.params
        if option.name in VIDEO_OPTIONS
        and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]
    try:
        options = RecordingOptions(**take(RecordingOptions))
        model = ModelRequest(**take(ModelRequest), properties=dict(map(parse_property, properties)))
        request = RecordRequest(options=options, model=model, video_flags=tuple(of_video), **given)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    code = run_record(request)
    if code:
        raise SystemExit(code)


@click.command(
    "recover",
    epilog="Example: dgrec recover recordings/cam0-20260102-030405.arrows",
    short_help="Seal the journal of a recording that was cut off.",
)
@click.argument("journals", nargs=-1, required=True, type=NamedPath(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path, dir_okay=False),
    help="Session file to write.  [default: the journal's name with .parquet]",
)
@click.option("--keep", is_flag=True, help="Leave the journal where it is, also when all is saved.")
def recover_command(journals: tuple[Path, ...], output: Path | None, keep: bool) -> None:
    """Make a session file of everything that is readable in JOURNALS.

    Every command can read a journal as it is; this is for keeping it. The journal is removed once
    the session file is on disk, unless part of it was lost. A video beside it is cut after its last
    complete frame, and the session records how far it goes. Exit code 0: everything was saved. 3:
    sealed, but part of the journal is damaged. 1: nothing could be read. 4: the session file could
    not be written, and the journal is unchanged.
    """
    if output is not None and len(journals) > 1:
        raise click.UsageError("--output goes with one journal")
    from dgrec.recorder.command import run_recover

    code = max(run_recover(journal, output, keep) for journal in journals)
    raise SystemExit(code)


COMMANDS: tuple[click.Command, ...] = (record_command, recover_command)
