"""The commands that record: ``record``, ``run`` and ``recover``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from dgrec.errors import ConfigError
from dgrec.options import (
    Command,
    Completed,
    NamedPath,
    Parsed,
    SessionOutput,
    SessionPath,
    analyzer_options,
    json_option,
    payload_options,
    usage_errors,
)
from dgrec.recorder.options import (
    CHOICES,
    HELP,
    QUANTITIES,
    VIDEO_OPTIONS,
    RecordingOptions,
    parse_video_size,
)
from dgrec.terminal import is_quiet
from dgrec.units import parse_rate, parse_share, parse_size, parse_time

#: Options that are not named like their fields.
_FLAGS = {"policy": "--when-full", **VIDEO_OPTIONS}
_METAVARS: dict[Callable[[str], float], str] = {
    parse_share: "SHARE",
    parse_time: "TIME",
    parse_size: "SIZE",
    parse_rate: "RATE",
}


#: Options that say how a source is read: a program reads its own.
_OF_SOURCE = frozenset(
    {"max_frames", "duration", "fps", "every", "loop", "reconnect_for", "stall_timeout"}
)
#: Options that belong to --alert.
_OF_ALERTS = frozenset(
    {"only_on_alert", "clip_on_alert", "before", "after", "keep_only", "keep_sample"}
)


def _recording_options(
    command: Callable[..., None], left_out: frozenset[str] = frozenset()
) -> Callable[..., None]:
    """Add an option for each field of `RecordingOptions`, but for those left out."""
    for each in reversed(fields(RecordingOptions)):
        name, default = each.name, each.default
        if name in left_out:
            continue
        kind: click.ParamType[Any] | None = None
        metavar = "N" if name == "every" else None
        if name in QUANTITIES:
            kind, metavar = Parsed(QUANTITIES[name].read), _METAVARS[QUANTITIES[name].parse]
            default = None if default is None else f"{default:g}s"
        elif name in CHOICES:
            kind = click.Choice(CHOICES[name])
        elif name == "video_size":
            kind, metavar = Parsed(parse_video_size), "WxH"
        elif name == "video_quality":
            kind, metavar = click.IntRange(1, 100), "1-100"
        elif name == "codec":
            kind, metavar = click.STRING, "NAME"
        elif default is None:
            kind, metavar = click.IntRange(min=1), "N"
        command = click.option(
            _FLAGS.get(name, "--" + name.replace("_", "-")),
            name,
            type=kind,
            default=default,
            is_flag=isinstance(default, bool),
            show_default=default is not None and not isinstance(default, bool),
            metavar=metavar,
            help=HELP[name],
        )(command)
    return command


def _sources(_: click.Context, incomplete: str) -> list[str | CompletionItem]:
    from dgrec.completion import footage
    from dgrec.recorder.sources import named_sources

    cameras = sorted(path.name.replace("video", "cam") for path in Path("/dev").glob("video[0-9]*"))
    try:
        named = sorted(named_sources(Path.cwd()))
    except ConfigError:
        named = []
    words = [word for word in ("sample", *cameras, *named) if word.startswith(incomplete)]
    return [*words, *footage(incomplete)]


def _zoos(_: click.Context, incomplete: str) -> list[CompletionItem]:
    from dgrec.completion import zoos

    return zoos(incomplete)


def _models(context: click.Context, incomplete: str) -> list[str]:
    from dgrec.completion import models

    return models(incomplete, context.params.get("zoo_url") or "")


#: The titles of options in ``--help``.
_GROUPS = {
    "Model": (
        "model_name zoo_url model_url inference_host_address properties registry alias tracker "
        "analyzer_functions"
    ).split(),
    "Reading the source": sorted(_OF_SOURCE),
    "Session, parts and disk": (
        "output together overwrite masks durability policy split_every split_size keep_last "
        "keep_total min_free signals continues"
    ).split(),
    "Video": ("video", *VIDEO_OPTIONS),
    "While recording": (
        "as_json display view publish payload payload_where publish_every publish_wait "
        "only_changes ended_after publish_later mqtt_discovery metrics alerts on_alert"
    ).split()
    + sorted(_OF_ALERTS),
}


_view_option = click.option(
    "--view",
    is_flag=True,
    help="Show what is recorded in a browser, until the recording ends; see `dgrec view`.",
)


@click.command(
    "record",
    cls=Command,
    groups=_GROUPS,
    epilog="Example: dgrec record sample --output session.parquet",
    short_help="Run a model on a camera, stream or file and record every frame.",
)
@click.argument("named", nargs=-1, metavar="[SOURCE...]", type=Completed(_sources))
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="SOURCE",
    type=Completed(_sources),
    help="cam0 (any camN), a file, a URL (RTSP, HTTP), a recorded session, sample, asset:NAME of "
    "DeGirum's example media, or a name from dgrec.toml, as SOURCE alone. Repeatable: a session "
    "for each.  [default: cam0]",
)
@click.option(
    "-o",
    "--output",
    type=NamedPath(path_type=Path),
    help="Session file to write, or the folder for it. {source} in it stands for the source's "
    "name, {time} for 20260102-030405, and %Y-%m-%d is what strftime makes of it; a folder with "
    "one of these is made.  [default: recordings/{source}-{time}.parquet]",
)
@click.option(
    "--together",
    is_flag=True,
    help="The sessions of several sources are one recording, with one clock and one group: replay "
    "shows them side by side in time, SQL joins them, clip cuts all at once. --output walk.parquet "
    "then stands for walk-{source}.parquet.",
)
@click.option("--overwrite", is_flag=True, help="Replace the session file if it exists.")
@click.option(
    "--model-name",
    type=Completed(_models),
    default="",
    metavar="NAME",
    help="Name of the model in its zoo.",
)
@click.option(
    "--zoo-url",
    type=Completed(_zoos),
    default="",
    metavar="ZOO",
    help="Model zoo: a folder, or the address of one in the cloud, such as degirum/hailo.",
)
@click.option(
    "--model-url",
    default="",
    metavar="URL",
    help="Zoo and model in one, instead of the two above.",
)
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
@analyzer_options
@_recording_options
@click.option(
    "--continue",
    "continues",
    is_flag=True,
    help="Continue the parts of that name, for a recorder that a service manager restarts: seal "
    "what a killed run left, continue the numbers of parts and frames, and let --keep-last and "
    "--keep-total count the parts of all runs. Without --output: recordings/SOURCE.parquet.",
)
@json_option
@_view_option
@click.option("--display", is_flag=True, help="Show the overlay in a window while recording.")
@click.option(
    "--publish",
    multiple=True,
    metavar="TARGET",
    help="Publish a JSON message a frame while recording: - (standard output), a file (new, or "
    "published to before), mqtt://HOST/TOPIC, https://HOST/PATH, or served here: ws://HOST:PORT, "
    "sse://HOST:PORT (docs/publishing.md). "
    "Repeatable. A slow target does not hold up the recording: frames are left out for it, and "
    "counted; with footage, file targets are waited for.",
)
@payload_options
@click.option(
    "--metrics",
    default="",
    metavar="[HOST:]PORT",
    help="Serve figures for Prometheus at /metrics while recording; ?cert=FILE&key=FILE behind it "
    "for TLS (docs/publishing.md).",
)
@click.option(
    "--publish-later",
    is_flag=True,
    help="At the end, send targets the messages they missed, as long as they take them; "
    "`dgrec publish --missing` does so later.",
)
@click.option("--publish-wait", is_flag=True, help="Wait for slow targets, where the source can.")
@click.option(
    "--alert",
    "alerts",
    multiple=True,
    metavar="NAME=RULE|FILE.yaml",
    help='Report when a rule holds: "crowd=count(\'person\') >= 3 for 2s", "silent=missing 30s", '
    "or a file of EventDetector's events (docs/alerts.md). Repeatable. `dgrec alerts` tries rules "
    "on recordings.",
)
@click.option(
    "--on-alert",
    default="",
    metavar="COMMAND",
    help="Run a program for each alert, which finds it in the environment: DGREC_ALERT, "
    "DGREC_ALERT_RULE, DGREC_ALERT_AT. No shell reads it.",
)
def record_command(
    named: tuple[str, ...],
    sources: tuple[str, ...],
    properties: tuple[str, ...],
    tracker: tuple[str, ...],
    analyzer_functions: tuple[str, ...],
    **given: Any,
) -> None:
    """Run a model on SOURCE through PySDK's predict_stream and record every frame.

    Detections, timing and everything needed to draw the overlays again go into one Parquet file.
    Without a model the bundled face detector runs on the CPU. The DeGirum token is read from
    DEGIRUM_CLOUD_TOKEN or from PySDK's own store. Ctrl-C ends and seals the recording. When the
    disk is full, fails or goes away, what was written before stays readable (exit code 4).
    """
    from dgrec.analyzers import AnalyzerRequest
    from dgrec.recorder.command import run_record
    from dgrec.recorder.job import RecordRequest
    from dgrec.recorder.model import ModelRequest, parse_property
    from dgrec.recorder.publishing import PublishRequest

    def take(kind: type) -> dict[str, Any]:
        return {each.name: given.pop(each.name) for each in fields(kind) if each.name in given}

    with usage_errors():
        options = RecordingOptions(**take(RecordingOptions))
        model = ModelRequest(**take(ModelRequest), properties=dict(map(parse_property, properties)))
        request = RecordRequest(
            options=options,
            model=model,
            analyzers=AnalyzerRequest(tracker, analyzer_functions),
            sources=(*named, *sources) or ("cam0",),
            quiet=is_quiet(),
            publishing=PublishRequest(**take(PublishRequest)),
            **given,
        )
    code = run_record(request)
    if code:
        raise SystemExit(code)


@click.command(
    "recover",
    cls=Command,
    epilog="Example: dgrec recover recordings/cam0-20260102-030405.arrows",
    short_help="Seal the journal of a recording that was cut off.",
)
@click.argument(
    "journals", metavar="JOURNAL...", nargs=-1, required=True, type=SessionPath(path_type=Path)
)
@click.option(
    "-o",
    "--output",
    type=SessionOutput(path_type=Path, dir_okay=False, is_file=True),
    help="Session file to write.  [default: the journal's name with .parquet]",
)
@click.option("--keep", is_flag=True, help="Leave the journal where it is, also when all is saved.")
@json_option
def recover_command(
    journals: tuple[Path, ...], output: Path | None, keep: bool, as_json: bool
) -> None:
    """Make a session file of everything that is readable in each JOURNAL.

    Every command can read a journal as it is; this is for keeping it. The journal is removed once
    the session file is on disk, unless part of it was lost. A video beside it is cut after its last
    complete frame, and the session records how far it goes. Exit code 0: everything was saved. 3:
    sealed, but part of the journal is damaged. 1: nothing could be read. 4: the session file could
    not be written, and the journal is unchanged. Of several journals each is tried, and the highest
    code is returned.
    """
    if output is not None and len(journals) > 1:
        raise click.UsageError("--output goes with one journal")
    from dgrec.recorder.command import run_recover

    raise SystemExit(run_recover(journals, output, keep, as_json=as_json))


@click.command(
    "run",
    cls=Command,
    groups=_GROUPS,
    epilog="Example: dgrec run -o recordings -- python app.py",
    short_help="Run a program, record what its models yield, or replay recordings to it.",
    # What comes after the program's name is the program's.
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=NamedPath(path_type=Path, file_okay=False, is_file=True),
    default=Path("recordings"),
    envvar="DGREC_RECORD",
    show_default=True,
    show_envvar=True,
    help="Folder for the sessions; made if it does not exist. With --replay nothing is recorded "
    "unless it is named.",
)
@click.option(
    "--replay",
    "replayed",
    multiple=True,
    metavar="[SOURCE=]SESSION",
    help="Put the recording in the place of the model and the camera. Repeatable; a folder means "
    "all sessions in it: a model is replaced by the session that was recorded from it, a camera or "
    "file by the session of the same name, or of SOURCE.",
)
@click.option(
    "--pace",
    type=click.Choice(["recorded", "fast"]),
    default="recorded",
    show_default=True,
    help="With --replay: deliver pictures and results at the recorded times, or as fast as "
    "possible.",
)
@_view_option
@partial(_recording_options, left_out=_OF_SOURCE | _OF_ALERTS)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(
    folder: Path,
    replayed: tuple[str, ...],
    pace: str,
    view: bool,
    command: tuple[str, ...],
    **given: Any,
) -> None:
    """Run COMMAND, an unchanged Python program, and record the results of its PySDK models.

    Each model makes a session in the folder, of all that it yields (predict_batch, predict_stream,
    predict, gizmos). Of a compound model the combined results are recorded. The program behaves as
    without dgrec; if recording fails, the program goes on. The exit code is the program's.

    With --replay the program needs neither its camera nor its accelerator: whatever model it loads
    and whatever camera, stream or file it opens (by degirum_tools or cv2.VideoCapture) is the
    recorded one.
    """
    from dgrec.recorder.command import run_run
    from dgrec.stand_in import Replay

    context = click.get_current_context()

    def is_given(name: str) -> bool:
        return context.get_parameter_source(name) is not ParameterSource.DEFAULT

    with usage_errors():
        options = RecordingOptions(**given)
        replay = Replay.of(replayed, pace, time.time_ns()) if replayed else None
    if replay is None and is_given("pace"):
        raise click.UsageError("--pace goes with --replay")
    records = replay is None or is_given("folder")
    if view and not records:
        raise click.UsageError("--view shows what is recorded; name a folder with --output")
    code = run_run(
        command, folder if records else None, options, replay, quiet=is_quiet(), view=view
    )
    raise SystemExit(code)


COMMANDS: tuple[click.Command, ...] = (record_command, run_command, recover_command)
