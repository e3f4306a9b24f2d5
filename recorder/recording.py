"""The recording loop: real `predict_stream` in, a session out."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dgrec import exact
from dgrec.clock import Clock
from dgrec.credentials import redact_text
from dgrec.errors import DgrecError, ModelError, OutputError, StorageError
from dgrec.files import exists_already
from dgrec.journal import Durability, Journal, JournalWriter
from dgrec.masks import MaskMode
from dgrec.metadata import Metadata, utc_text
from dgrec.parts import parts_of
from dgrec.rates import RecentRate, frame_rate
from dgrec.rows import Row
from dgrec.schema import JOURNAL_SUFFIX
from dgrec.sealed import seal
from dgrec.totals import add_rows, loses_at_start
from recorder.ai_server import AIServer, close_beside
from recorder.capture import Capture, Feed
from recorder.earlier import Earlier
from recorder.frames import Frame
from recorder.machine import MachineMeter
from recorder.parts import PartedJournal, Splitting
from recorder.sealer import recorded_videos, remove
from recorder.segment_videos import VideoOptions
from recorder.segments import Segment
from recorder.video import VideoRecorder
from recorder.writer import QueuePolicy, RowWriter

__all__ = ["Progress", "Recording", "journal_path"]

#: Seconds that the rate of a running recording is about.
RECENT_S = 10.0

# What PySDK's own result objects carry; anything else was put there by an analyzer.
_OWN_ATTRIBUTES = frozenset({"timing", "mask_result", "masks_present"})


def journal_path(output: Path) -> Path:
    """Return where the session ``output`` is while it is being recorded."""
    return output.with_suffix(JOURNAL_SUFFIX)


@dataclass
class Progress:
    """Figures of a running recording, for whoever watches it. Latencies are in milliseconds."""

    frames: int = 0
    detections: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=1024))
    #: How often a live source was lost, and for how many seconds in all.
    gaps: int = 0
    gap_s: float = 0.0
    #: Pictures of the source that could not be decoded.
    damaged: int = 0

    def __post_init__(self) -> None:
        self._recent = RecentRate(RECENT_S)
        #: When the first and the last frame were captured and completed.
        self._first_ns = self._last_ns = (0, 0)

    def add(self, captured_ns: int, completed_ns: int, detections: int) -> None:
        self._last_ns = captured_ns, completed_ns
        if not self.frames:
            self._first_ns = self._last_ns
        self.frames += 1
        self.detections += detections
        self.latencies.append((completed_ns - captured_ns) / 1e6)
        self._recent.add(captured_ns / 1e9, completed_ns / 1e9)

    def recent_fps(self, now_ns: int) -> float:
        """Return frames a second over the last `RECENT_S` seconds."""
        return self._recent.fps(now_ns / 1e9)

    def fps(self) -> float | None:
        """Return frames a second over all of the recording; None below two frames."""
        captured, completed = (
            (last - first) / 1e9 for first, last in zip(self._first_ns, self._last_ns, strict=True)
        )
        return frame_rate(self.frames - 1, captured, completed)

    def latency(self) -> tuple[float, float]:
        """Return p50 and p95 over the last 1,024 frames, in milliseconds."""
        values = list(self.latencies)
        if not values:
            return 0.0, 0.0
        p50, p95 = np.quantile(values, (0.5, 0.95)).tolist()
        return p50, p95


class Recording:
    """Records one source into one session.

    Args:
        model: A loaded PySDK model (compound models too: anything `predict_stream` takes).
        splitting: When to begin a new part; without it the session is one file.
        watchers: Called with each row and its result before the row is written: display, publisher.
            What they cost is part of `recorder_ms`.
        video: What is recorded of the pixels; nothing without it.
        meter: Measures what recording costs this machine.
        server: The AI server that the model runs on, if it does not run here.
        earlier: What runs before this one left, which it continues (of a recording in parts).
        min_free: Bytes that are to stay free: before there are fewer, the recording ends and is
            sealed, with the end reason ``disk_full``.
    """

    def __init__(
        self,
        model: Any,
        capture: Capture,
        output: Path,
        metadata: Metadata,
        *,
        clock: Clock,
        masks: MaskMode = "exact",
        durability: Durability = "flush",
        policy: QueuePolicy = "block",
        watchers: tuple[Callable[[Row, Any], None], ...] = (),
        replace: bool = False,
        splitting: Splitting | None = None,
        video: VideoOptions | None = None,
        meter: MachineMeter | None = None,
        server: AIServer | None = None,
        earlier: Earlier | None = None,
        min_free: int | None = None,
    ) -> None:
        self.output = output
        self.progress = Progress()
        self.capture = capture
        self._model = model
        self._metadata = metadata
        self._clock = clock
        self._watchers = watchers
        self._replace = replace
        self._notes: list[str] = []
        self._earlier = earlier or Earlier()
        #: What is added to the source's own times, once the first frame has told it.
        self._media_offset_s: float | None = None
        self._meter = meter or MachineMeter()
        self._server = server
        self._server_outages: list[float] = []
        self._machine: dict[str, Any] | None = None
        self._last_completed_ns = clock.now_ns()
        self._takes_conversion = metadata.get("model", {}).get("result_type") == "Segmentation"
        #: Files of an older recording of this name, for when there is something in their place.
        self._replaced = _other_files(output, bool(splitting)) if replace else []
        #: The videos of that recording, and of the one whose name this one takes.
        self._replaced_videos = [
            video
            for path in dict.fromkeys([*self._replaced, output] if replace else [])
            for video in recorded_videos(path)
        ]
        self.video: VideoRecorder | None = None
        if video is not None and video.kinds:
            self.video = VideoRecorder(
                video, output, in_parts=bool(splitting), replaces=self._replaced_videos
            )
        self._segment = Segment(begun=True)
        self._parts: PartedJournal | None = None
        journal: JournalWriter | PartedJournal
        if splitting:
            journal = self._parts = PartedJournal(
                output,
                metadata,
                splitting,
                clock=clock,
                masks=masks,
                durability=durability,
                replaces=self._replaced,
                video=self.video,
                meter=self._meter,
                earlier=self._earlier,
            )
        else:
            head = {**metadata, **self._video_header(metadata)}
            journal = JournalWriter(journal_path(output), head, masks=masks, durability=durability)
        if not replace and journal.path.with_suffix(output.suffix).exists():
            # Another recording of this name was sealed since somebody looked: its journal is gone,
            # and ours could never be sealed.
            journal.path.unlink()
            journal.close()
            raise exists_already(output)
        self.writer = RowWriter(
            journal,
            policy=policy,
            min_free=min_free,
            reserve=lambda: self.video.needed_bytes if self.video is not None else 0,
            alarm=lambda reason: self.capture.stop(reason),
        )

    @property
    def journal(self) -> Path:
        return self.writer.journal.path

    @property
    def files(self) -> list[Path]:
        """What there is of the session once it has ended: one file, or the parts that were kept."""
        return [self.output] if self._parts is None else self._parts.sealed

    @property
    def notes(self) -> list[str]:
        """What the user should know about the parts and videos of the session, a line each."""
        notes = list(self._notes)
        outages = self._server_outages
        if outages:
            times = "once" if len(outages) == 1 else f"{len(outages):,} times"
            notes.append(f"AI server lost {times}, {sum(outages):.1f} s.")
        if self.video is not None:
            notes += self.video.failures
        if self._parts is not None:
            removed = self._parts.removed
            kept = [f"Older parts removed, as asked for: {removed:,}."] if removed else []
            notes += [*kept, *self._parts.notes]
        return notes

    @property
    def dropped(self) -> int:
        """How many frames were lost so far, wherever that was."""
        return self.capture.frames_dropped + self.writer.dropped

    @property
    def dropped_at_start(self) -> int:
        """How many of them were lost while the model started (`frame_losses` in docs/sql.md).

        A recording that goes on where an earlier run ended has its start there.
        """
        is_known = loses_at_start(self._metadata) and not self._earlier.frames
        return self.writer.dropped_at_start if is_known else 0

    def recent_fps(self) -> float:
        """Return frames a second over the last seconds."""
        return self.progress.recent_fps(self._clock.now_ns())

    def run(self) -> Metadata:
        """Record until the source ends or `Capture.stop` is called; seal; return the metadata.

        Raises:
            DgrecError: What ended the recording early. What had been recorded is sealed by then,
                or, where even that failed, still in the journal: the message says which.
        """
        self._meter.lap()  # loading the model is not part of it
        failure = self._infer()
        self._take_events()
        try:
            try:
                self.writer.close()
            finally:
                self._close_video()
            closing = self._closing(failure)
            self.writer.end(closing)
        except DgrecError as error:
            raise self._leave(error) from None
        metadata = (
            self._seal(failure) if self._parts is None else self._seal_parts(failure, closing)
        )
        if failure is not None:
            count = self.progress.frames if self._parts is None else self._parts.kept_frames
            raise type(failure)(f"{failure}; the {count} frames before are in {self.output}")
        return metadata

    # --- inside ---

    def _infer(self) -> DgrecError | None:
        """Run `predict_stream` to its end; return what ended it early, if anything did.

        Where an AI server is lost in the middle, it is run again when the server is back.
        """
        if self._server is None:
            return self._stream()
        rows = -1
        while True:
            try:
                error = self._stream()
            except _ServerLostError as lost:
                reason = str(lost)
            else:
                # Of a connection that broke PySDK says no more than that something failed: with
                # the server back, the frame that the model itself fails at fails at once again.
                if not isinstance(error, ModelError) or rows == self.progress.frames:
                    if error is not None:
                        self.capture.stop("failed")
                    self.capture.take_back()
                    return error
                rows, reason = self.progress.frames, str(error)
            error = self._have_server_back(self._server, reason)
            if error is not None or self.capture.was_interrupted or self.capture.is_time_up():
                self.capture.take_back()  # what was to be handed over again is lost now
                return error

    def _have_server_back(self, server: AIServer, reason: str) -> DgrecError | None:
        """Load the model again, and note what happened; return an error if that did not work."""
        from_ns, capture = self._last_completed_ns, self.capture
        waited = capture.take_back()
        loaded, outage = server.reconnect(reason, capture)
        now = self._clock.now_ns()
        seconds = (now - from_ns) / 1e9
        self._server_outages.append(seconds)
        event: dict[str, Any] = {
            "kind": "server_lost",
            "server": server.name,
            "from": utc_text(from_ns),
            "to": utc_text(now),
            "seconds": round(seconds, 3),
            "back": outage.back,
            "attempts": outage.attempts,
            "without_result": waited,
            "reason": redact_text(reason + (f"; then: {outage.refusal}" if outage.refusal else "")),
        }
        self.writer.note(event)
        if loaded is not None:
            self._model = loaded.model
            return None
        if server.gave_up(capture, outage):
            capture.stop("failed")
            return server.error(outage)
        if not capture.stopping:
            capture.stop("limit")
        return None

    def _stream(self) -> DgrecError | None:
        """Run `predict_stream` until it ends; return what ended it early, if anything did.

        Raises:
            _ServerLostError: The AI server gives no more results.
        """
        from degirum.exceptions import DegirumException
        from degirum_tools import predict_stream

        server, capture = self._server, self.capture
        feed = Feed(capture) if server is not None else capture
        if server is not None:
            capture.most_waiting = server.queue_depth(self._model)
        stream = predict_stream(self._model, feed)
        carried_ns = 0
        try:
            with _non_blocking(self._model) as self.capture.asks_for_results:
                for result in stream:
                    if result is None:
                        # The capture had no frame for it, and it no result.
                        if server is not None and (why := server.silence(capture, self._model)):
                            raise _ServerLostError(why)
                        continue
                    completed = self._last_completed_ns = self._clock.now_ns()
                    frame = self.capture.take(getattr(result, "image", None))
                    row = self._row(frame, result, completed)
                    if not self.progress.frames and (gap := self._earlier.gap(row)):
                        self.writer.note(gap)
                    self._take_events()
                    self._takes_note(row)
                    for watch in self._watchers:
                        watch(row, result)
                    self._place(row, frame, result)
                    done = self._clock.now_ns()
                    # Handing over can only be measured once it is done: it counts for the next row.
                    row.recorder_ns = done - completed + carried_ns
                    self.writer.put(row)
                    carried_ns = self._clock.now_ns() - done
        except _ServerLostError:
            assert isinstance(feed, Feed)
            feed.is_abandoned = True
            close_beside(stream)
            raise
        except DgrecError as error:
            self.capture.stop("failed")
            self._end(stream)
            return error
        except DegirumException as error:
            # PySDK wraps whatever the capture raised into its own text.
            if server is None:
                self.capture.stop("failed")
            return ModelError(f"the model failed: {_reason(error)}")
        except Exception as error:  # a defect here must not cost what was recorded
            self.capture.stop("failed")
            self._end(stream)
            return DgrecError(f"recording failed: {type(error).__name__}: {_reason(error)}")
        return self.capture.error

    def _end(self, stream: Iterator[Any]) -> None:
        """Let PySDK come to its end: closed in the middle, it may print a traceback of its own."""
        if self._server is not None:
            close_beside(stream)
            return
        with contextlib.suppress(Exception):
            for _ in stream:
                pass

    def _row(self, frame: Frame, result: Any, completed_ns: int) -> Row:
        return Row(
            source_frame=self._earlier.source_frames + frame.source_frame,
            media_time_s=self._media_time(frame),
            captured_ns=frame.captured_ns,
            completed_ns=completed_ns,
            read_ns=frame.read_ns,
            recorder_ns=0,
            width=frame.width,
            height=frame.height,
            results=result.results,
            timing=result.timing,
            attributes=_analyzer_attributes(result),
            info=result.info,
            conversion=_sample_conversion(result) if self._takes_conversion else None,
            skipped_before=frame.skipped_before,
            dropped_camera=frame.dropped_camera,
            dropped_queue=frame.dropped_queue,
        )

    def _media_time(self, frame: Frame) -> float | None:
        """Return where a frame stands on the time line that earlier runs began."""
        if frame.media_time_s is None:
            return None
        if self._media_offset_s is None:
            before, self._media_offset_s = self._earlier.media_time_s, 0.0
            if before is not None:  # as where a camera was away: by the time that passed
                passed_s = (frame.captured_ns - self._earlier.captured_ns) / 1e9
                self._media_offset_s = before + passed_s - frame.media_time_s
        return self._media_offset_s + frame.media_time_s

    def _place(self, row: Row, frame: Frame, result: Any) -> None:
        """Decide to which part of the session the row goes, and whether its frame is in a video."""
        if self.video is None:
            return  # the journal cuts by itself, knowing its size to the byte
        if self._parts is not None:
            self._parts.cutter.segment_of(row)
        else:
            row.segment = self._segment
        self.video.add(row, frame.image, result)

    def _video_header(self, metadata: Metadata) -> Metadata:
        if self.video is None:
            return {}
        source = metadata.get("source", {})
        size = source.get("width") or 0, source.get("height") or 0
        return {"video": self.video.videos_of(self._segment).header(size)}

    def _close_video(self) -> None:
        if self.video is not None:
            self.video.close()

    def _take_events(self) -> None:
        for event in self.capture.take_events():
            if "source_frame" in event:
                event["source_frame"] += self._earlier.source_frames
            self.writer.note(event)
            if event["kind"] == "gap":
                self.progress.gaps += 1
                self.progress.gap_s += event["seconds"]
            elif event["kind"] == "damage":
                self.progress.damaged += event["lost"]

    def _takes_note(self, row: Row) -> None:
        count = len(row.results) if isinstance(row.results, list) else 0
        self.progress.add(row.captured_ns, row.completed_ns, count)

    def _closing(self, failure: DgrecError | None) -> Metadata:
        journal = self.writer.journal
        if self._machine is None:
            self._machine = self._meter.lap()
        closing: Metadata = {
            "ended_at": utc_text(self._clock.now_ns()),
            "end_reason": self._end_reason(failure),
            "totals": {
                "frames": journal.frames,
                "detections": journal.detections,
                "source_frames": self.capture.frames_read,
                "skipped": self.capture.frames_skipped,
                "dropped": self.dropped,
                "dropped_camera": self.capture.frames_dropped_camera,
                "dropped_queue": self.capture.frames_dropped_queue,
                "dropped_writer": self.writer.dropped,
                "flushes": journal.flushes,
                "clock_drift_ms": round(self._clock.drift_ns() / 1e6, 3),
            },
            "machine": self._machine,
        }
        if self.video is not None:
            closing["totals"]["video_left_out"] = self.video.left_out
        if self._segment.videos is not None:  # those of parts are told when a part is sealed
            closing["video"] = self._segment.videos.entries()
        detail = str(failure) if failure is not None else self.capture.end_detail
        if detail:
            closing["end_detail"] = redact_text(detail)
        return closing

    def _end_reason(self, failure: DgrecError | None) -> str:
        if isinstance(failure, StorageError):
            return "disk_full" if failure.is_full else "failed"
        # The source may have come to its end before the model failed at one of its last frames.
        lost_source = failure is self.capture.error
        return self.capture.end_reason if failure is None or lost_source else "failed"

    def _leave(self, error: DgrecError) -> OutputError:
        """End a journal that cannot be written any more; return what to say of it.

        It is not sealed: that would need more room, and more of the disk, than has just failed.
        """
        with contextlib.suppress(DgrecError):  # an ending may fit where the last rows did not
            self.writer.end(self._closing(error))
        with contextlib.suppress(DgrecError):
            self.writer.journal.close()
        kind = StorageError if isinstance(error, StorageError) else OutputError
        return kind(f"{error}; {self._what_is_left()}")

    def _what_is_left(self) -> str:
        """Return how many frames are where, once the journal is closed."""
        frames = f"the {self.writer.journal.frames} frames written before"
        is_there = False
        with contextlib.suppress(OSError):  # where the disk is failing, even this may
            is_there = self.journal.exists()
        parts = self._parts
        if parts is None:
            return f"{frames} {f'are in {self.journal}' if is_there else 'went with it'}"
        count = parts.kept_frames - (0 if is_there else parts.current_frames)
        # Not in any part: the folder went, with all that was in it.
        if not is_there and not any(map(os.path.exists, parts.files)):
            return f"{frames} went with it"
        what = "kept of those written before" if parts.removed else "written before"
        last = f", the last of them in {self.journal}" if is_there and parts.current_frames else ""
        return f"the {count} frames {what} are in the parts of {self.output}{last}"

    def _seal(self, failure: DgrecError | None) -> Metadata:
        try:
            # It stays locked until then: nobody takes it for one that was left behind.
            journal = Journal.open(self.journal, is_ours=True)
            metadata = seal(journal, self.output, replace=self._replace)
            if not journal.damage:
                with contextlib.suppress(OSError):
                    self.journal.unlink()
        except (DgrecError, OSError) as error:
            reason = f"{failure}; then sealing failed: {error}" if failure else str(error)
            kind = StorageError if isinstance(error, StorageError | OSError) else OutputError
            raise kind(f"{reason}; everything recorded is in {self.journal}") from None
        finally:
            with contextlib.suppress(DgrecError):  # it was read back: no write of it has failed
                self.writer.journal.close()
        if journal.damage:
            # It was whole a moment ago. What cannot be read now may be readable once more.
            raise StorageError(
                f"{self.journal}: what was written cannot be read back ({journal.damage[0]}); "
                f"the journal was left, and what can be read is in {self.output}"
            )
        self._put_videos_in_place()
        return metadata

    def _put_videos_in_place(self) -> None:
        """Let the new videos take their names, and what is left of an older recording go."""
        ours: list[Path] = []
        videos = self._segment.videos
        if videos is not None:
            try:
                ours = videos.put_in_place()
            except OSError as error:
                self._notes.append(f"{error.filename}: cannot be renamed: {error.strerror}")
        self._notes += remove(
            path for path in [*self._replaced_videos, *self._replaced] if path not in ours
        )

    def _seal_parts(self, failure: DgrecError | None, closing: Metadata) -> Metadata:
        assert self._parts is not None
        problems = self._parts.seal()
        if problems:
            more = f" (and {len(problems) - 1} more parts)" if len(problems) > 1 else ""
            reason = f"{failure}; then sealing failed: " if failure else ""
            # The disk, if it is to blame for any of them: that is what there is to be seen to.
            first = next((p for p in problems if isinstance(p, StorageError)), problems[0])
            text = f"{reason}{first}{more}"
            if isinstance(first, StorageError):
                raise StorageError(text, is_full=first.is_full)
            raise OutputError(text)
        totals = add_rows(
            closing["totals"],
            {**self._parts.row_totals, "dropped_at_start": self.dropped_at_start},
        )
        return {**self._metadata, **closing, "totals": totals}


class _ServerLostError(Exception):
    """The AI server gives no more results; the text says for how long."""


@contextlib.contextmanager
def _non_blocking(model: Any) -> Iterator[bool]:
    """Make a model take None for a frame, and yield what results it has; give whether it can.

    Every model of PySDK can, and every compound model of degirum_tools. It would also yield None
    where nobody expects it, and so is made as it was.
    """
    before = getattr(model, "non_blocking_batch_predict", None)
    if before is None:
        yield False
        return
    model.non_blocking_batch_predict = True
    try:
        yield True
    finally:
        model.non_blocking_batch_predict = before


def _other_files(output: Path, split: bool) -> list[Path]:
    """Return the sealed files that a recording of this name replaces, besides by its own name."""
    sealed = [path for path in parts_of(output) if path.suffix != JOURNAL_SUFFIX]
    return [*sealed, output] if split and output.exists() else sealed


def _analyzer_attributes(result: Any) -> str | None:
    """Return what analyzers added to a result, as `exact.dumps` writes it.

    Now, not when the writer comes to it: an analyzer may go on changing the object that it hung on
    the result (running totals, say), and every row of a batch would show its last state.
    """
    # `dir()` of a PySDK result is a fixed list of six names; its dictionary shows what was added.
    added = {
        name: value
        for name, value in vars(result).items()
        if name[0] != "_" and name not in _OWN_ATTRIBUTES
    }
    return exact.dumps(added) if added else None


def _sample_conversion(result: Any) -> tuple[float, float, float, float] | None:
    """Return the model-to-image conversion at the two points where PySDK's overlay samples it."""
    try:
        height, width = result.results[0]["data"].squeeze().shape
        convert = result._conversion
        points = [convert(width / 2, height / 2), convert(width / 2 - 1, height / 2 - 1)]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None
    (x1, y1), (x2, y2) = itertools.islice(points, 2)
    return float(x1), float(y1), float(x2), float(y2)


# Where in PySDK's C++ code an error passed by; the cause stands in the lines before.
_CPP_TRACE = re.compile(r"\S+\.(cpp|h): \d+ \[|When running model ")


def _reason(error: BaseException) -> str:
    """Return what PySDK says of a failure in one line: "Operation failed", and why."""
    lines = [line.strip() for line in redact_text(str(error)).splitlines()]
    told = [line for line in lines if line and not _CPP_TRACE.match(line)]
    return ": ".join(told) or type(error).__name__
