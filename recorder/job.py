"""One source and its session: what ``dgrec record`` prepares for each, and runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from dgrec.clock import Clock
from dgrec.errors import ConfigError, DgrecError
from dgrec.files import exists_already
from dgrec.format import Metadata
from dgrec.recorder.ai_server import HERE, AIServer, Inference
from dgrec.recorder.capture import Capture, Decimator
from dgrec.recorder.destination import (
    DEFAULT_FOLDER,
    check_folder,
    check_output,
    check_room,
    check_videos,
    make_default_folder,
    output_path,
)
from dgrec.recorder.model import LoadedModel, load_model
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.outputs import JsonLines, Output, OutputQueue, OverlayWindow, check_target
from dgrec.recorder.recovery import Recovery
from dgrec.recorder.request import RecordRequest
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.sources import (
    FileSource,
    FrameSource,
    LiveSource,
    Source,
    SourceReader,
    open_source,
    parse_source,
)
from dgrec.recorder.stream import Stream
from dgrec.recorder.video import check_codec, video_options
from dgrec.recorder.writing import NOTHING_EARLIER, Earlier, find_earlier, recover_parts

__all__ = ["Job", "Plan", "make_plan", "prepare"]

#: Stamps are microseconds.
_STAMP_NS = 1000


@dataclass(frozen=True)
class Plan:
    """A source and where its session goes, checked but not opened."""

    source: Source
    output: Path
    #: Those of the request, with what depends on the source.
    options: RecordingOptions
    #: Whether it goes on with the parts that are there.
    continues: bool = False

    @property
    def has_video(self) -> bool:
        return self.options.video != "none"


@dataclass
class Job:
    """A recording that is ready to run, and what became of it."""

    source: Source
    stream: Stream
    #: Source frames that will be read; None where nobody knows.
    expected: int | None
    metadata: Metadata | None = None
    error: DgrecError | None = None
    seconds: float = 0.0

    @property
    def recorder(self) -> SessionWriter:
        return self.stream.recorder

    @property
    def has_ended(self) -> bool:
        return self.metadata is not None or self.error is not None

    def run(self) -> None:
        """Record to the end. What goes wrong is in ``error``: other jobs go on."""
        started = time.monotonic()
        try:
            self.metadata = self.stream.run()
        except DgrecError as error:
            self.error = error
        except Exception as error:  # a defect must not take the other sources with it
            self.error = DgrecError(f"{self.source.given}: recording failed: {error!r}")
        finally:
            for queue in self.recorder.outputs:
                queue.close()
        self.seconds = time.monotonic() - started


def make_plan(
    text: str,
    named: dict[str, str],
    request: RecordRequest,
    report: Callable[[Path, Recovery | DgrecError], None] = lambda *_: None,
) -> Plan:
    """Return what is to be recorded where, having checked that it can be.

    Args:
        report: Takes what became of journals that earlier runs left (``--continue``).

    Raises:
        DgrecError: There is no such source, or its session cannot go there.
    """
    source = parse_source(text, named)
    options = _for_source(request.options, source)
    video = video_options(options)
    is_split = bool(options.splitting)
    if request.continues:
        output = output_path(request.output or DEFAULT_FOLDER / "{source}.parquet", source.name)
        check_folder(output)
        if output.exists():  # it would stand for the name, not the parts
            raise exists_already(output)
        recover_parts(output, report)
    else:
        output = output_path(request.output, source.name)
        check_output(output, request.overwrite, split=is_split)
    check_room(output.parent, options.min_free)
    if request.publish is not None:
        check_target(request.publish, output)
    if not request.continues:
        check_videos(output, video, request.overwrite, split=is_split)
    return Plan(source, output, options, request.continues)


def _for_source(options: RecordingOptions, source: Source) -> RecordingOptions:
    """Return the options with those filled in that depend on the kind of source."""
    video, policy = options.video, options.video_policy
    if video == "auto":
        video = "none" if source.is_file else "raw"
    return replace(
        options,
        video=video,
        video_policy=policy or ("block" if source.is_file else "leave-out"),
    )


def prepare(
    plan: Plan,
    reader: SourceReader,
    loaded: LoadedModel,
    request: RecordRequest,
    stack: ExitStack,
    announce: Callable[[str], None],
) -> Job:
    """Make a recording ready to run; ``stack`` releases what it holds in the end.

    Args:
        announce: Takes a line for whoever watches; it does not wait.

    Raises:
        DgrecError: An output cannot be written.
    """
    source, given = plan.source, request.options
    video = video_options(plan.options)
    width, height = video.size or reader.size
    if video.kinds and width and height:
        check_codec(video.codec, video.quality, (width + width % 2, height + height % 2))
    earlier = _earlier(plan, reader)
    clock = Clock(after_ns=earlier.completed_ns + _STAMP_NS)
    if clock.drift_ns() < -_STAMP_NS:
        announce(
            f"{plan.output}: the system clock is {-clock.drift_ns() / 1e9:.1f} s behind the last "
            "frame that was recorded; stamps go on from there"
        )
    capture = _capture(reader, source, clock, given, announce)
    stack.callback(capture.release)  # PySDK does it too, unless its loop was left early
    metadata = _metadata(plan, reader, loaded, given)
    earlier.check(plan.output, metadata)
    outputs: list[Output] = []
    if request.publish is not None:
        outputs.append(JsonLines(request.publish))
    if request.display:
        outputs.append(OverlayWindow(f"dgrec: {source.name}", capture.stop))
    make_default_folder(plan.output)
    can_wait = reader.has_end
    policy = given.policy or ("block" if can_wait else "drop-oldest")
    # The last that can go wrong: from here on there is a journal.
    recorder = SessionWriter(
        plan.output,
        replace(
            plan.options,
            policy=policy,
            # Footage can wait for the encoder, from wherever it comes.
            video_policy=given.video_policy or ("block" if can_wait else plan.options.video_policy),
        ),
        metadata=metadata,
        overwrite=request.overwrite,
        clock=clock,
        earlier=earlier,
        sources=len(request.sources),
        outputs=[OutputQueue(each, policy) for each in outputs],
    )
    inference = _inference(loaded, request, announce)
    stream = Stream(loaded.model, capture, recorder, clock=clock, inference=inference)
    return Job(source, stream, _expected_frames(reader, given))


def _earlier(plan: Plan, reader: SourceReader) -> Earlier:
    """Return what there is to go on from."""
    if not plan.continues:
        return NOTHING_EARLIER
    earlier = find_earlier(plan.output)
    if not reader.has_end:
        return earlier
    if not plan.options.loop:
        raise ConfigError(
            f"{plan.source.given}: --continue is for what has no end: a live source, or a file "
            "with --loop"
        )
    return earlier.aligned(plan.output, reader.frame_count)


def _inference(
    loaded: LoadedModel, request: RecordRequest, announce: Callable[[str], None]
) -> Inference:
    """Return where a model runs: on an AI server of the user's own, or as far as PySDK says."""
    host = str(loaded.description["inference_host"])
    if host.startswith("@"):
        return HERE
    return AIServer(
        host,
        lambda: load_model(request.model),
        reconnect_for_s=request.options.reconnect_for,
        announce=announce,
    )


def _capture(
    reader: SourceReader,
    source: Source,
    clock: Clock,
    options: RecordingOptions,
    announce: Callable[[str], None],
) -> Capture:
    frames: FrameSource

    def reopen() -> SourceReader:
        return open_source(source, stall_timeout_s=options.stall_timeout)

    if reader.has_end:
        frames = FileSource(
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
            announce=announce,
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
    plan: Plan, reader: SourceReader, loaded: LoadedModel, given: RecordingOptions
) -> Metadata:
    width, height = reader.size
    return {
        "source": {
            **plan.source.describe(plan.output.parent, is_live=not reader.has_end),
            "width": width,
            "height": height,
            "fps": reader.fps,
            "frames": reader.announced,
            "live": not reader.has_end,
            "pixel_aspect": str(reader.aspect).replace("/", ":") if reader.aspect != 1 else None,
            "loop": given.loop,
        },
        "model": loaded.description,
        "overlay": loaded.overlay,
        "options": given.recorded(with_video=plan.has_video),
    }
