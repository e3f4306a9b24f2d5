"""The recordings of ``dgrec record``: what was asked for, and a job for each source."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from dgrec.alerts import Rule, parse_rules
from dgrec.analyzers import AnalyzerRequest, describe_attached
from dgrec.clock import Clock
from dgrec.credentials import redact
from dgrec.errors import ConfigError, DgrecError
from dgrec.files import exists_already
from dgrec.footage import count_pictures
from dgrec.format import Metadata
from dgrec.paths import JOURNAL_SUFFIX, VIDEO_SUFFIXES
from dgrec.recorder.ai_server import HERE, AIServer, Inference
from dgrec.recorder.alerting import Alerting, check_alert_options, check_without_analyzers
from dgrec.recorder.capture import Capture, Decimator
from dgrec.recorder.destination import (
    check_folder,
    check_output,
    check_pattern,
    check_room,
    check_videos,
    make_folder,
    makes_folder,
    name_pattern,
    output_path,
)
from dgrec.recorder.groups import Group
from dgrec.recorder.model import LoadedModel, ModelRequest, load_model
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.outputs import (
    AlertClips,
    AlertFeed,
    Metrics,
    NewestFrame,
    Output,
    OutputQueue,
    OverlayWindow,
    parse_metrics_address,
)
from dgrec.recorder.publishing import PublishRequest
from dgrec.recorder.recovery import Recovery
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

#: The resolution of stamps.
_STAMP_NS = 1000
#: The system clock is reported if it is behind by more than this.
_LEAST_SAID_NS = 50_000_000


@dataclass(frozen=True, kw_only=True)
class RecordRequest:
    """The request that ``dgrec record`` was given.

    Args:
        output: The session file, with ``{source}`` for the name of each source, or the folder for
            it; None: the folder ``recordings``. See `dgrec.recorder.destination`.
        overwrite: Replace an existing session.
        together: The sessions are one recording: they share a clock, and a group in the metadata.
        continues: Continue the parts of earlier runs.
        display: Show the overlay in a window.
        view: Show the recording in a browser.
        as_json: Print what was recorded as a line of JSON on standard output.
        metrics: The address that figures are served at, ``[HOST:]PORT``; "" for none.
        publishing: What is published, and where.
        alerts: Rules, ``NAME=RULE`` or a file of events each.
        on_alert: A command that is run for each alert.

    Raises:
        ConfigError: Two of them exclude each other.
    """

    sources: tuple[str, ...]
    output: Path | None = None
    overwrite: bool = False
    together: bool = False
    continues: bool = False
    display: bool = False
    view: bool = False
    metrics: str = ""
    alerts: tuple[str, ...] = ()
    on_alert: str = ""
    quiet: bool = False
    as_json: bool = False
    moment: datetime = field(default_factory=datetime.now)
    options: RecordingOptions = field(default_factory=RecordingOptions)
    model: ModelRequest = field(default_factory=ModelRequest)
    analyzers: AnalyzerRequest = field(default_factory=AnalyzerRequest)
    publishing: PublishRequest = field(default_factory=PublishRequest)

    def __post_init__(self) -> None:
        if self.metrics:
            parse_metrics_address(self.metrics)
        check_alert_options(self.rules, self.on_alert, self.options)
        if self.continues and not self.options.splitting:
            raise ConfigError("--continue adds parts: say --split-every or --split-size, too")
        if self.continues and self.overwrite:
            raise ConfigError("--continue and --overwrite contradict each other: give one of them")
        if len(self.sources) > 1:
            self._check_several()
        elif self.together:
            raise ConfigError("--together takes several sources: repeat --source")
        suffix = self.output.suffix if self.output is not None else ""
        if self.as_json and "-" in self.publishing.publish:
            raise ConfigError("--json and --publish - both write to standard output")
        if suffix == JOURNAL_SUFFIX:
            raise ConfigError("--output: .arrows is the suffix of journals; use .parquet")
        if suffix == VIDEO_SUFFIXES["raw"]:
            raise ConfigError("--output: .mp4 is the suffix of videos; use .parquet")
        check_pattern(self.output_pattern, continues=self.continues)

    @cached_property  # a file may change meanwhile
    def rules(self) -> list[Rule]:
        return parse_rules(self.alerts)

    def _check_several(self) -> None:
        source, count = Counter(self.sources).most_common(1)[0]
        if count > 1:
            raise ConfigError(f"--source {redact(source)} is given twice")
        if "{source}" not in str(self.output_pattern):
            raise ConfigError(
                "--output names one file for several sources; put {source} into the name, such as "
                "night-{source}.parquet, or record them --together"
            )
        if self.display:
            raise ConfigError("--display takes one source only")
        self.publishing.check_several()

    @property
    def output_pattern(self) -> Path:
        """The output as a file, with ``{source}`` in it for sources that are recorded together."""
        output = name_pattern(self.output, continues=self.continues)
        if not self.together or "{source}" in str(output):
            return output
        return output.with_name(f"{output.stem}-{{source}}{output.suffix}")


@dataclass(frozen=True)
class Plan:
    """A source and where its session goes, checked but not opened.

    ``options`` are those of the request, with the defaults that depend on the source filled in.
    """

    source: Source
    output: Path
    options: RecordingOptions
    continues: bool = False
    makes_folder: bool = False
    #: What earlier runs left, if it continues them.
    earlier: Earlier = NOTHING_EARLIER

    def make_folder(self) -> None:
        """Make the folder of the session, if it is to be made."""
        if self.makes_folder:
            make_folder(self.output.parent)

    @property
    def has_video(self) -> bool:
        return self.options.video != "none"


@dataclass
class Job:
    """A recording that is ready to run, and its outcome."""

    source: Source
    stream: Stream
    #: How many source frames will be read; None if unknown.
    expected: int | None
    clips: AlertClips | None = None
    #: Pictures for the page, where there is one.
    frames: NewestFrame | None = None
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
        """Record to the end. An error is kept in ``error``: other jobs go on."""
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
    """Check that a source can be recorded as requested, and return the plan.

    Args:
        report: Called with the outcome for each journal that an earlier run left (``--continue``).

    Raises:
        DgrecError: There is no such source, or its session cannot be written there.
    """
    source = parse_source(text, named)
    options = _for_source(request.options, source)
    video = video_options(options)
    is_split = bool(options.splitting)
    pattern = request.output_pattern
    is_made = makes_folder(pattern)
    output = output_path(pattern, source.name, request.moment)
    earlier = NOTHING_EARLIER
    if request.continues:
        check_folder(output, makes_folder=is_made)
        if output.exists():  # opening the recording's name would open this file, not the parts
            raise exists_already(output)
        recover_parts(output, report)
        # Before the source is opened: nobody takes its frames meanwhile.
        earlier = find_earlier(output)
    else:
        check_output(output, request.overwrite, split=is_split, makes_folder=is_made)
    check_room(output.parent, options.min_free)
    request.publishing.check_files(output)
    if not request.continues:
        check_videos(output, video, request.overwrite, split=is_split)
    return Plan(source, output, options, request.continues, is_made, earlier)


def _for_source(options: RecordingOptions, source: Source) -> RecordingOptions:
    """Return the options with the defaults that depend on the kind of source filled in."""
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
    *,
    watching: Sequence[Output] = (),
    inference: Inference | None = None,
    analyzers: Sequence[Any] = (),
    group: Group | None = None,
) -> Callable[[], Job]:
    """Make a recording ready to begin; ``stack`` releases what it holds.

    Args:
        announce: Prints a line without waiting.
        watching: Outputs beside those that were requested.
        inference: Where the model runs, if it was not loaded as requested.
        analyzers: Those that are attached while the model runs.
        group: What it shares with the recordings that are made together with it.

    Returns:
        What begins it: from then on there is a journal.

    Raises:
        DgrecError: It cannot be recorded like that, or an output cannot be written.
    """
    source, given = plan.source, request.options
    video = video_options(plan.options)
    packets = reader.keep_packets() if not plan.options.encodes_as_asked else None
    width, height = video.size or reader.size
    if video.kinds and packets is None and width and height:
        odd = 0 if video.codec.is_lossless else 1
        check_codec(
            video.codec, video.quality, (width + width % 2 * odd, height + height % 2 * odd)
        )
    earlier = _earlier(plan, reader)
    clock = group.clock if group else Clock(after_ns=earlier.completed_ns + _STAMP_NS)
    if (behind_ns := -clock.drift_ns()) > _LEAST_SAID_NS:
        announce(
            f"{plan.output}: the system clock is {behind_ns / 1e9:.1f} s behind the last "
            "recorded frame; stamps continue from there"
        )
    capture = _capture(reader, source, clock, given, announce, keeps=packets is not None)
    stack.callback(capture.release)  # PySDK does it too, unless its loop was left early
    metadata = _metadata(plan, reader, loaded, given)
    if described := describe_attached(loaded.model, analyzers):
        metadata["analyzers"] = described
    else:
        check_without_analyzers(request.rules)
    if group is not None:
        metadata["group"] = group.description
    earlier.check(plan.output, metadata)
    outputs = list(watching)
    names = {"source": source.name, "session": plan.output.stem}
    can_wait = reader.has_end
    alert_feed = AlertFeed()
    outputs += request.publishing.publishers(
        names,
        model=str(loaded.description.get("name") or ""),
        rules=tuple(rule.name for rule in request.rules),
        alerts=alert_feed,
        can_wait=can_wait,
    )
    if request.metrics:
        outputs.append(Metrics(request.metrics, source.name))
    frames = NewestFrame(plan.output) if request.view else None
    if frames is not None:
        outputs.append(frames)
    if request.display:
        outputs.append(OverlayWindow(f"dgrec: {source.name}", capture.stop))
    recorder: SessionWriter
    alerting = Alerting.of(
        request.rules,
        request.on_alert,
        plan.options,
        plan.output,
        writer=lambda: recorder,
        clock=clock,
        say=announce,
        feed=alert_feed,
    )
    outputs += alerting.outputs
    policy = given.policy or ("block" if can_wait else "drop-oldest")
    # Footage can wait for the encoder, wherever it comes from.
    video_policy = given.video_policy or ("block" if can_wait else plan.options.video_policy)

    def begin() -> Job:
        nonlocal recorder
        plan.make_folder()
        recorder = SessionWriter(
            plan.output,
            replace(plan.options, policy=policy, video_policy=video_policy),
            metadata=metadata,
            overwrite=request.overwrite,
            clock=clock,
            earlier=earlier,
            sources=len(request.sources),
            outputs=[OutputQueue(each, policy) for each in outputs],
            packets=packets,
            moments=alerting.moments,
        )
        stream = Stream(
            loaded.model,
            capture,
            recorder,
            clock=clock,
            inference=inference or _inference(loaded, request, announce),
            analyzers=analyzers,
        )
        return Job(source, stream, _expected_frames(reader, given), alerting.clips, frames)

    return begin


def _earlier(plan: Plan, reader: SourceReader) -> Earlier:
    """Return what earlier runs left, continued at the first frame of repeated footage."""
    earlier = plan.earlier
    if not (plan.continues and reader.has_end):
        return earlier
    if not plan.options.loop:
        raise ConfigError(
            f"{plan.source.given}: --continue needs a source without an end: a live source, or a "
            "file with --loop"
        )
    count = reader.frame_count
    is_exact = reader.announced is not None and not earlier.has_damage
    if earlier.source_frames and plan.source.kind == "file" and not is_exact:
        # The container's count is an estimate, or includes pictures that cannot be decoded.
        count = count_pictures(Path(str(plan.source.target)))
    return earlier.aligned(plan.output, count)


def _inference(
    loaded: LoadedModel, request: RecordRequest, announce: Callable[[str], None]
) -> Inference:
    """Return where a model runs: on the user's own AI server, or wherever PySDK runs it."""
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
    *,
    keeps: bool,
) -> Capture:
    frames: FrameSource

    def reopen() -> SourceReader:
        again = open_source(source, stall_timeout_s=options.stall_timeout)
        if keeps:
            again.keep_packets()
        return again

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
    """Return how many source frames will be read, for the progress bar; None if unknown."""
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
    source = plan.source.describe(plan.output.parent, is_live=not reader.has_end)
    return {
        "source": {
            **source,
            "width": width,
            "height": height,
            "fps": reader.fps,
            "frames": reader.announced,
            "live": not reader.has_end,
            "pixel_aspect": str(reader.aspect).replace("/", ":") if reader.aspect != 1 else None,
            "loop": given.loop or bool(source.get("loop")),  # of a session's footage
        },
        "model": loaded.description,
        "overlay": loaded.overlay,
        "options": given.recorded(with_video=plan.has_video),
    }
