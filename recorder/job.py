"""One source and its session: what ``dgrec record`` prepares for each, and runs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import Any

from dgrec import metadata as metadata_module
from dgrec.clock import Clock
from dgrec.errors import ConfigError, DgrecError, OutputError, StorageError
from dgrec.files import check_parent, exists_already, output_error
from dgrec.journal import is_being_written
from dgrec.metadata import Metadata
from dgrec.parts import is_part_name, numbered_files, parts_of
from dgrec.schema import JOURNAL_SUFFIX
from dgrec.units import size_text
from recorder.ai_server import AIServer
from recorder.capture import Capture, Decimator
from recorder.codecs import check_codec, find_codec
from recorder.display import OverlayWindow
from recorder.earlier import Earlier, find_earlier, recover_parts
from recorder.frames import Footage, FrameSource
from recorder.live_source import LiveSource
from recorder.machine import MachineMeter
from recorder.model import LoadedModel, ModelRequest, load_model, parse_property
from recorder.parts import Splitting
from recorder.publisher import Publisher, check_target
from recorder.recording import Recording, journal_path
from recorder.recovery import Recovery, is_journal
from recorder.sealer import Retention, recorded_videos
from recorder.segment_videos import VideoOptions
from recorder.source import Source, SourceReader, open_source, parse_source
from recorder.video_file import Kind, video_path

__all__ = ["Job", "Plan", "make_plan", "model_request", "prepare"]

_DEFAULT_FOLDER = Path("recordings")
#: Stamps are microseconds.
_STAMP_NS = 1000

_RECORDED_OPTIONS = (
    "max_frames",
    "duration",
    "fps",
    "every",
    "reconnect_for",
    "stall_timeout",
    "masks",
    "durability",
    "policy",
    "split_every",
    "split_size",
    "keep_last",
    "keep_total",
    "min_free",
    "video",
)
_RECORDED_WITH_VIDEO = ("video_quality", "video_size", "codec", "video_policy")


@dataclass(frozen=True)
class Plan:
    """A source and where its session goes, checked but not opened."""

    source: Source
    output: Path
    #: What is recorded of the pixels.
    video: VideoOptions | None = None
    #: Whether it goes on with the parts that are there.
    continues: bool = False


@dataclass
class Job:
    """A recording that is ready to run, and what became of it."""

    source: Source
    recording: Recording
    #: Source frames that will be read; None where nobody knows.
    expected: int | None
    #: Things beside the recording that can fail without ending it.
    extras: list[Publisher | OverlayWindow] = field(default_factory=list)
    metadata: Metadata | None = None
    error: DgrecError | None = None
    seconds: float = 0.0

    @property
    def has_ended(self) -> bool:
        return self.metadata is not None or self.error is not None

    def run(self) -> None:
        """Record to the end. What goes wrong is in ``error``: other jobs go on."""
        started = time.monotonic()
        try:
            self.metadata = self.recording.run()
        except DgrecError as error:
            self.error = error
        except Exception as error:  # a defect must not take the other sources with it
            self.error = DgrecError(f"{self.source.given}: recording failed: {error!r}")
        self.seconds = time.monotonic() - started


def make_plan(
    text: str,
    named: dict[str, str],
    options: dict[str, Any],
    tell: Callable[[Path, Recovery | DgrecError], None] = lambda *_: None,
) -> Plan:
    """Return what is to be recorded where, having checked that it can be.

    Args:
        tell: Takes what became of journals that earlier runs left (``--continue``).

    Raises:
        DgrecError: There is no such source, or its session cannot go there.
    """
    source = parse_source(text, named)
    output = options["output"]
    if output is not None and "{source}" in str(output):
        output = Path(str(output).replace("{source}", source.name))
    if options["continue"]:
        output = output or _DEFAULT_FOLDER / f"{source.name}.parquet"
        _check_folder(output)
        if output.exists():  # it would stand for the name, not the parts
            raise exists_already(output)
        recover_parts(output, tell)
    else:
        output = _output_path(output, source, options["overwrite"], split=bool(_splitting(options)))
    _check_room(output.parent, options["min_free"])
    if options["publish"]:
        check_target(options["publish"], output)
    video = _video(source, options)
    if video is not None and not options["continue"]:
        _check_videos(output, video, options["overwrite"], split=bool(_splitting(options)))
    return Plan(source, output, video, options["continue"])


def prepare(
    plan: Plan,
    reader: SourceReader,
    loaded: LoadedModel,
    options: dict[str, Any],
    stack: ExitStack,
    tell: Callable[[str], None],
) -> Job:
    """Make a recording ready to run; ``stack`` lets go of what it holds in the end.

    Args:
        tell: Takes a line for whoever watches; it does not wait.

    Raises:
        DgrecError: An output cannot be written.
    """
    source = plan.source
    if plan.video is not None:
        width, height = plan.video.size or reader.size
        if width and height:
            size = width + width % 2, height + height % 2
            check_codec(plan.video.codec, plan.video.quality, size)
    earlier = find_earlier(plan.output) if plan.continues else Earlier()
    if plan.continues and reader.has_end:
        if not options["loop"]:
            raise ConfigError(
                f"{source.given}: --continue is for what has no end: a live source, or a file with "
                "--loop"
            )
        earlier = earlier.aligned(plan.output, reader.frame_count)
    clock = Clock(after_ns=earlier.completed_ns + _STAMP_NS)
    if clock.drift_ns() < -_STAMP_NS:
        tell(
            f"{plan.output}: the system clock is {-clock.drift_ns() / 1e9:.1f} s behind the last "
            "frame that was recorded; stamps go on from there"
        )
    capture = _capture(reader, source, clock, options, tell)
    stack.callback(capture.release)  # PySDK does it too, unless its loop was left early
    metadata = _metadata(plan, reader, loaded, clock, options)
    watchers = []
    extras: list[Publisher | OverlayWindow] = []
    if options["publish"]:
        publisher = Publisher(options["publish"])
        stack.callback(publisher.close)
        watchers.append(lambda row, _: publisher.publish(row))
        extras.append(publisher)
    if options["display"]:
        window = OverlayWindow(f"dgrec: {source.name}", capture.stop)
        stack.callback(window.close)
        watchers.append(window.show)
        extras.append(window)
    earlier.check(plan.output, metadata)
    expected = _expected_frames(reader, options)
    _make_default_folder(plan.output)
    # The last that can go wrong: from here on there is a journal.
    recording = Recording(
        loaded.model,
        capture,
        plan.output,
        metadata,
        clock=clock,
        masks=options["masks"],
        durability=options["durability"],
        policy=options["policy"] or ("block" if reader.has_end else "drop-oldest"),
        watchers=tuple(watchers),
        replace=options["overwrite"],
        splitting=_splitting(options),
        video=_video_for(reader, plan.video, options),
        meter=MachineMeter(len(options["source"])),
        server=_server(loaded, options, tell),
        earlier=earlier,
        min_free=options["min_free"],
    )
    return Job(source, recording, expected, extras)


def _server(
    loaded: LoadedModel, options: dict[str, Any], tell: Callable[[str], None]
) -> AIServer | None:
    """Return the AI server that a model runs on, if it is one of the user's own."""
    host = str(loaded.description["inference_host"])
    if host.startswith("@"):
        return None
    request = model_request(options)
    return AIServer(
        host, lambda: load_model(request), reconnect_for_s=options["reconnect_for"], tell=tell
    )


def model_request(options: dict[str, Any]) -> ModelRequest:
    return ModelRequest(
        model_name=options["model_name"],
        zoo_url=options["zoo_url"],
        model_url=options["model_url"],
        inference_host_address=options["inference_host_address"],
        registry=options["model_registry"],
        alias=options["alias"],
        properties=dict(map(parse_property, options["properties"])),
    )


def _video(source: Source, options: dict[str, Any]) -> VideoOptions | None:
    """Return what is to be recorded of the pixels.

    Raises:
        VideoError: The installed PyAV has no encoder for it.
    """
    what = options["video"]
    if what == "auto":
        what = "none" if source.is_file else "raw"
    kinds: dict[str, tuple[Kind, ...]] = {
        "raw": ("raw",),
        "annotated": ("annotated",),
        "both": ("raw", "annotated"),
    }
    # Looking it up takes PyAV, which a recording without video does without; but a mistyped name
    # is to be heard of, also today, when there is no video.
    codec = find_codec(options["codec"]) if what in kinds or options["codec"] != "h264" else None
    if codec is None or what not in kinds:
        return None
    return VideoOptions(
        kinds[what],
        codec,
        options["video_quality"],
        options["video_size"],
        options["video_policy"] or ("block" if source.is_file else "leave-out"),
    )


def _video_for(
    reader: SourceReader, video: VideoOptions | None, options: dict[str, Any]
) -> VideoOptions | None:
    """Return the video's options with what only opening the source has shown."""
    if video is None:
        return None
    if reader.has_end and not options["video_policy"]:
        video = replace(video, policy="block")  # footage can wait for the encoder
    return replace(video, aspect=reader.aspect) if video.size is None else video


def _check_videos(output: Path, video: VideoOptions, overwrite: bool, *, split: bool) -> None:
    """Raise `OutputError` if somebody's file has the name of a video that would be recorded."""
    older = [output, *parts_of(output)] if overwrite else []
    ours = {path for session in older for path in recorded_videos(session)}
    for kind in video.kinds:
        name = video_path(output, kind)
        wanted = [name]
        if split:
            ending = name.name.removeprefix(output.stem)
            wanted = sorted(output.parent.glob(f"{escape(output.stem)}-[0-9]*{ending}"))
            wanted = [path for path in wanted if is_part_name(path.name.removesuffix(ending))]
        for path in wanted:
            for taken in (path, path.with_suffix(f".new{path.suffix}")):
                if os.path.lexists(taken) and taken not in ours:
                    raise OutputError(
                        f"{taken}: exists already, and the video would go there; choose another "
                        "name"
                    )


def _splitting(options: dict[str, Any]) -> Splitting:
    return Splitting(
        options["split_every"],
        options["split_size"],
        Retention(options["keep_last"], options["keep_total"]),
    )


def _capture(
    reader: SourceReader,
    source: Source,
    clock: Clock,
    options: dict[str, Any],
    tell: Callable[[str], None],
) -> Capture:
    frames: FrameSource

    def reopen() -> SourceReader:
        return open_source(source, stall_timeout_s=options["stall_timeout"])

    if reader.has_end:
        frames = Footage(
            reader, clock, reopen=reopen, loop=options["loop"], may_wait=not source.is_file
        )
    else:
        frames = LiveSource(
            reader,
            source,
            clock,
            reopen=reopen,
            reconnect_for_s=options["reconnect_for"],
            stall_timeout_s=options["stall_timeout"],
            max_duration_s=options["duration"],
            tell=tell,
        )
    return Capture(
        frames,
        decimator=Decimator(options["fps"], options["every"] or 1),
        max_frames=options["max_frames"],
        max_duration_s=options["duration"],
        is_live=not reader.has_end,
    )


def _expected_frames(reader: SourceReader, options: dict[str, Any]) -> int | None:
    """Return how many source frames will be read, for the bar; None if nobody knows."""
    limits = []
    frame_count = reader.frame_count
    if frame_count and not options["loop"]:
        limits.append(frame_count)
    if options["max_frames"] and not options["fps"]:
        limits.append(options["max_frames"] * (options["every"] or 1))
    if options["duration"] and reader.fps:
        limits.append(int(options["duration"] * reader.fps))
    return min(limits) if limits else None


def _metadata(
    plan: Plan,
    reader: SourceReader,
    loaded: LoadedModel,
    clock: Clock,
    options: dict[str, Any],
) -> Metadata:
    metadata = metadata_module.new(plan.output.stem, clock.now_ns())
    width, height = reader.size
    metadata["source"] = {
        **plan.source.describe(plan.output.parent, is_live=not reader.has_end),
        "width": width,
        "height": height,
        "fps": reader.fps,
        "frames": reader.announced,
        "live": not reader.has_end,
        "pixel_aspect": str(reader.aspect).replace("/", ":") if reader.aspect != 1 else None,
        "loop": options["loop"],
    }
    metadata["model"] = loaded.description
    metadata["overlay"] = loaded.overlay
    names = _RECORDED_OPTIONS if plan.video is None else _RECORDED_OPTIONS + _RECORDED_WITH_VIDEO
    metadata["options"] = {name: options[name] for name in names if options[name] is not None}
    return metadata


def _output_path(
    output: Path | None, source: Source, overwrite: bool, *, split: bool = False
) -> Path:
    """Return where the session goes, having checked that it can go there.

    Raises:
        OutputError: The name is taken, or the folder is not there or cannot be written.
    """
    if output is None:
        return _free_name(_DEFAULT_FOLDER, f"{source.name}-{datetime.now():%Y%m%d-%H%M%S}")
    _check_folder(output)
    if output.exists() and not overwrite:
        raise exists_already(output)
    parts = parts_of(output)
    for journal in (journal_path(output), *(p for p in parts if p.suffix == JOURNAL_SUFFIX)):
        if journal.exists():
            if is_being_written(journal):
                state = "is being recorded now"
            elif is_journal(journal):
                state = f"was left by a recording that was cut off (dgrec recover {journal})"
            else:
                state = "exists already, and what is recorded would go there first"
            raise OutputError(f"{journal}: {state}; choose another name")
    if parts and not overwrite:
        raise OutputError(
            f"{parts[0]}: is a part of an older recording; choose another name or say --overwrite"
        )
    strangers = [path for _, path in numbered_files(output) if path not in parts] if split else []
    if strangers:
        raise OutputError(
            f"{strangers[0]}: is called like a part, but is none; choose another name"
        )
    return output


def _check_folder(output: Path) -> None:
    """Raise `OutputError` if no session can go there, whatever is there already."""
    if output.is_dir():
        raise OutputError(f"{output}: is a folder; give a file name")
    if output.parent.is_dir():
        check_parent(output)
    elif output.parent != _DEFAULT_FOLDER:  # which is made when it is needed
        raise OutputError(f"{output.parent}: no such folder; make it first")


def _make_default_folder(output: Path) -> None:
    """Make ``recordings`` once something is going to be in it."""
    if output.parent == _DEFAULT_FOLDER:
        try:
            _DEFAULT_FOLDER.mkdir(exist_ok=True)
        except OSError as error:
            raise output_error(_DEFAULT_FOLDER, error) from None


def _check_room(folder: Path, min_free: int | None) -> None:
    if min_free is None:
        return
    free = shutil.disk_usage(folder if folder.exists() else Path()).free
    if free < min_free:
        raise StorageError(
            f"{folder}: has {size_text(free)} free, less than --min-free {size_text(min_free)}",
            is_full=True,
        )


def _free_name(folder: Path, stem: str) -> Path:
    """Return a session name that is not taken: two recordings may start in one second."""
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        path = folder / f"{stem}{suffix}.parquet"
        if not any(folder.glob(f"{escape(path.stem)}[.-]*")):
            return path
    raise OutputError(f"{folder}: no free name for {stem}")
