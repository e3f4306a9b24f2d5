"""One source and its session: what ``dgrec record`` prepares for each, and runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from dgrec.clock import Clock
from dgrec.errors import ConfigError, DgrecError
from dgrec.files import exists_already
from dgrec.format import Metadata
from dgrec.format import metadata as metadata_module
from dgrec.recorder.ai_server import AIServer
from dgrec.recorder.capture import Capture, Decimator
from dgrec.recorder.destination import (
    DEFAULT_FOLDER,
    check_folder,
    check_room,
    check_videos,
    make_default_folder,
    output_path,
)
from dgrec.recorder.machine import MachineMeter
from dgrec.recorder.model import LoadedModel, load_model
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.outputs import OverlayWindow, Publisher, check_target
from dgrec.recorder.recording import Recording
from dgrec.recorder.recovery import Recovery
from dgrec.recorder.request import RecordRequest
from dgrec.recorder.sources import (
    Footage,
    FrameSource,
    LiveSource,
    Source,
    SourceReader,
    open_source,
    parse_source,
)
from dgrec.recorder.video import Kind, VideoOptions, check_codec, find_codec
from dgrec.recorder.writing import Earlier, find_earlier, recover_parts

__all__ = ["Job", "Plan", "make_plan", "prepare"]

#: Stamps are microseconds.
_STAMP_NS = 1000


@dataclass(frozen=True)
class Plan:
    """A source and where its session goes, checked but not opened."""

    source: Source
    output: Path
    #: What is recorded of the pixels.
    video: VideoOptions
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
    request: RecordRequest,
    tell: Callable[[Path, Recovery | DgrecError], None] = lambda *_: None,
) -> Plan:
    """Return what is to be recorded where, having checked that it can be.

    Args:
        tell: Takes what became of journals that earlier runs left (``--continue``).

    Raises:
        DgrecError: There is no such source, or its session cannot go there.
    """
    source = parse_source(text, named)
    options, output = request.options, request.output
    is_split = bool(options.splitting)
    if output is not None and "{source}" in str(output):
        output = Path(str(output).replace("{source}", source.name))
    if request.continues:
        output = output or DEFAULT_FOLDER / f"{source.name}.parquet"
        check_folder(output)
        if output.exists():  # it would stand for the name, not the parts
            raise exists_already(output)
        recover_parts(output, tell)
    else:
        output = output_path(output, source.name, request.overwrite, split=is_split)
    check_room(output.parent, options.min_free)
    if request.publish is not None:
        check_target(request.publish, output)
    video = _video(source, options)
    if not request.continues:
        check_videos(output, video, request.overwrite, split=is_split)
    return Plan(source, output, video, request.continues)


def prepare(
    plan: Plan,
    reader: SourceReader,
    loaded: LoadedModel,
    request: RecordRequest,
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
    options, video = request.options, plan.video
    width, height = video.size or reader.size
    if video.kinds and width and height:
        check_codec(video.codec, video.quality, (width + width % 2, height + height % 2))
    earlier = find_earlier(plan.output) if plan.continues else Earlier()
    if plan.continues and reader.has_end:
        if not options.loop:
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
    if request.publish is not None:
        publisher = Publisher(request.publish)
        stack.callback(publisher.close)
        watchers.append(lambda row, _: publisher.publish(row))
        extras.append(publisher)
    if request.display:
        window = OverlayWindow(f"dgrec: {source.name}", capture.stop)
        stack.callback(window.close)
        watchers.append(window.show)
        extras.append(window)
    earlier.check(plan.output, metadata)
    expected = _expected_frames(reader, options)
    make_default_folder(plan.output)
    # The last that can go wrong: from here on there is a journal.
    recording = Recording(
        loaded.model,
        capture,
        plan.output,
        metadata,
        clock=clock,
        masks=options.masks,
        durability=options.durability,
        policy=options.policy or ("block" if reader.has_end else "drop-oldest"),
        watchers=tuple(watchers),
        replace=request.overwrite,
        splitting=options.splitting,
        video=_video_for(reader, plan.video, options),
        meter=MachineMeter(len(request.sources)),
        server=_server(loaded, request, tell),
        earlier=earlier,
        min_free=options.min_free,
    )
    return Job(source, recording, expected, extras)


def _server(
    loaded: LoadedModel, request: RecordRequest, tell: Callable[[str], None]
) -> AIServer | None:
    """Return the AI server that a model runs on, if it is one of the user's own."""
    host = str(loaded.description["inference_host"])
    if host.startswith("@"):
        return None
    return AIServer(
        host,
        lambda: load_model(request.model),
        reconnect_for_s=request.options.reconnect_for,
        tell=tell,
    )


_KINDS: dict[str, tuple[Kind, ...]] = {
    "none": (),
    "raw": ("raw",),
    "annotated": ("annotated",),
    "both": ("raw", "annotated"),
}


def _video(source: Source, options: RecordingOptions) -> VideoOptions:
    """Return what is to be recorded of the pixels.

    Raises:
        VideoError: The installed PyAV has no encoder for it.
    """
    choice = options.video
    if choice == "auto":
        choice = "none" if source.is_file else "raw"
    kinds = _KINDS[choice]
    # Looking it up takes PyAV, which a recording without video does without; but a mistyped name
    # is reported even where there is no video.
    if not kinds and options.codec == RecordingOptions.codec:
        return VideoOptions()
    codec = find_codec(options.codec)
    policy = options.video_policy or ("block" if source.is_file else "leave-out")
    return VideoOptions(kinds, codec, options.video_quality, options.video_size, policy)


def _video_for(
    reader: SourceReader, video: VideoOptions, options: RecordingOptions
) -> VideoOptions:
    """Return the video's options with what only opening the source has shown."""
    if reader.has_end and options.video_policy is None:
        video = replace(video, policy="block")  # footage can wait for the encoder
    return replace(video, aspect=reader.aspect) if video.size is None else video


def _capture(
    reader: SourceReader,
    source: Source,
    clock: Clock,
    options: RecordingOptions,
    tell: Callable[[str], None],
) -> Capture:
    frames: FrameSource

    def reopen() -> SourceReader:
        return open_source(source, stall_timeout_s=options.stall_timeout)

    if reader.has_end:
        frames = Footage(
            reader, clock, reopen=reopen, loop=options.loop, may_wait=not source.is_file
        )
    else:
        frames = LiveSource(
            reader,
            source,
            clock,
            reopen=reopen,
            reconnect_for_s=options.reconnect_for,
            stall_timeout_s=options.stall_timeout,
            max_duration_s=options.duration,
            tell=tell,
        )
    return Capture(
        frames,
        decimator=Decimator(options.fps, options.every or 1),
        max_frames=options.max_frames,
        max_duration_s=options.duration,
        is_live=not reader.has_end,
    )


def _expected_frames(reader: SourceReader, options: RecordingOptions) -> int | None:
    """Return how many source frames will be read, for the bar; None if nobody knows."""
    limits = []
    frame_count = reader.frame_count
    if frame_count and not options.loop:
        limits.append(frame_count)
    if options.max_frames and not options.fps:
        limits.append(options.max_frames * (options.every or 1))
    if options.duration and reader.fps:
        limits.append(int(options.duration * reader.fps))
    return min(limits) if limits else None


def _metadata(
    plan: Plan,
    reader: SourceReader,
    loaded: LoadedModel,
    clock: Clock,
    options: RecordingOptions,
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
        "loop": options.loop,
    }
    metadata["model"] = loaded.description
    metadata["overlay"] = loaded.overlay
    metadata["options"] = options.recorded(with_video=bool(plan.video.kinds))
    return metadata
