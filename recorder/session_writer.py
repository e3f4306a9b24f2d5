"""`SessionWriter`: writes one session, wherever its results come from."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dgrec.clock import Clock
from dgrec.errors import ConfigError, DgrecError, StorageError
from dgrec.files import exists_already
from dgrec.footage import own_videos
from dgrec.format import (
    Event,
    Metadata,
    Row,
    Signal,
    pixel_aspect,
    result_type,
    result_values,
)
from dgrec.format import metadata as metadata_module
from dgrec.recorder.destination import check_output, check_videos, has_begun, replaced_files
from dgrec.recorder.ending import Ending
from dgrec.recorder.held_result import Held, HeldResult
from dgrec.recorder.host_signals import HostSignals
from dgrec.recorder.machine import MachineMeter
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.outputs import OutputQueue
from dgrec.recorder.progress import Progress
from dgrec.recorder.result_kinds import ResultKinds
from dgrec.recorder.results import added_attributes, snapshot
from dgrec.recorder.ring_writer import RingWriter, judges_of
from dgrec.recorder.segments import names_of
from dgrec.recorder.session_end import SessionEnd
from dgrec.recorder.signals import late_interrupt
from dgrec.recorder.sources import Frame
from dgrec.recorder.targets import Targets
from dgrec.recorder.video import (
    NO_VIDEO,
    EncodedFormat,
    VideoOptions,
    VideoRecorder,
    video_options,
)
from dgrec.recorder.writing import (
    NOTHING_EARLIER,
    Continuation,
    Earlier,
    Moments,
    PartedJournal,
    RowWriter,
)
from dgrec.video import PacketFormat

#: How often `close` checks whether a thread that records waits for an output.
_LOOK_S = 0.1


class SessionWriter:
    """Writes a session: rows through a journal, videos, parts, and metadata.

    It knows nothing of where results come from: `dgrec.Recorder`, `dgrec.predict_stream` and
    ``dgrec record`` each use one for a session. What it is given reaches the disk within half a
    second, and is sealed by `close`.

    Args:
        output: The session file; its videos and parts go beside it.
        options: How it is recorded. Those of the source (``max_frames``, ``duration``, ``fps``,
            ``every``) are for the code that reads it.
        metadata: What is known of the ``source``, the ``model`` and its ``overlay``.
        overwrite: Replace the session that is there, once there is a new one.
        clock: The clock that frames are stamped with.
        earlier: What earlier runs left, if this one continues them (of a recording in parts).
        sources: How many recordings this process writes at once.
        outputs: Outputs that get each frame and event as well.
        packets: The format of the source's packets, if they are kept as its raw video.
        moments: The times whose parts are kept, if the options ask for that.

    Raises:
        ConfigError: The metadata cannot be recorded.
        OutputError: The file exists, or cannot be written.
        VideoError: The installed PyAV cannot encode such a video.
    """

    def __init__(
        self,
        output: Path,
        options: RecordingOptions,
        *,
        metadata: Metadata | None = None,
        overwrite: bool = False,
        clock: Clock | None = None,
        earlier: Earlier = NOTHING_EARLIER,
        sources: int = 1,
        outputs: Sequence[OutputQueue] = (),
        packets: PacketFormat | None = None,
        moments: Moments | None = None,
    ) -> None:
        if options.keep_only is not None and moments is None:
            raise ConfigError("keep_only: only `dgrec record` has rules of alerts (--alert)")
        self.options = options
        self.output = output
        self.progress = Progress()
        #: Called in another thread with the reason why the recording has to end.
        self.alarm: Callable[[str], None] = lambda _: None
        #: When it ended, by its clock; None while it goes on.
        self.ended_ns: int | None = None
        #: When the newest result came, which may take long to reach outputs.
        self.newest_ns = 0
        self._alarm_reason = ""
        self._clock = clock or Clock()
        self._earlier = earlier
        self._continuation = Continuation(earlier)
        self._carried_ns = 0
        self._is_closed = False
        self._closer = 0
        self._failure: DgrecError | None = None
        self._has_ended = threading.Event()
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._held = HeldResult(self.release_late)
        self._meter = MachineMeter(sources)
        video = replace(video_options(options), packets=packets)
        #: Whether the pixels of frames are encoded.
        self.encodes = bool(video.kinds) and packets is None
        judges = judges_of(outputs) if options.only_on_alert else []
        self._check_names(video, overwrite)
        self._metadata = {
            **metadata_module.new(self.output.stem, self._clock.now_ns()),
            "source": {"given": self.output.stem, "kind": "program"},
            "options": options.recorded(with_video=bool(video.kinds)),
            **metadata_module.given(metadata or {}),
        }
        if video.size is None:
            video = replace(video, aspect=pixel_aspect(self._metadata))
        if self._earlier.set_id:  # messages name the whole recording by it
            self._metadata["session_id"] = self._earlier.set_id
        self.targets = Targets([queue.output for queue in outputs])
        self._metadata |= self.targets.described
        self._kinds = ResultKinds(result_type(self._metadata))
        self.outputs = outputs
        self.video, self._journal = self._begin(video, overwrite, moments)
        self._writer = RowWriter(
            self._journal,
            # The ring waits, not the recording.
            policy="block" if options.only_on_alert else options.policy or "block",
            min_free=options.min_free,
            reserve=lambda: self.video.needed_bytes,
            alarm=self._raise_alarm,
        )
        self._ring: RingWriter | None = None
        if judges:
            encodes = video if self.encodes else None
            self._ring = RingWriter(self._writer, self.video, encodes, options, judges, self._clock)
        #: What takes events and values.
        self.intake = self._ring or self._writer
        self.targets.record = self.intake.deliver
        for queue in self.outputs:
            queue.output.watch(self)
            queue.start(self._metadata)
        self._host = HostSignals(self.log, self._clock.now_ns) if options.signals else None

    def _check_names(self, video: VideoOptions, overwrite: bool) -> None:
        if self._earlier == NOTHING_EARLIER:
            is_split = bool(self.options.splitting)
            check_output(self.output, overwrite, split=is_split)
            check_videos(self.output, video, overwrite, split=is_split)

    def _begin(
        self, video: VideoOptions, overwrite: bool, moments: Moments | None
    ) -> tuple[VideoRecorder, PartedJournal]:
        names = names_of(self.output, self.options.splitting, self.set_id)
        replaced = replaced_files(self.output) if overwrite else []
        old_videos = [file for path in replaced for file in own_videos(path)]
        if self.options.only_on_alert and video.kinds:
            # What the ring holds is written as it is, and waits for the disk.
            packets = video.packets or EncodedFormat.of(video)
            video = replace(video, packets=packets, policy="block")
        recorder = VideoRecorder(video, names, old_videos)
        journal = PartedJournal(
            names,
            self._metadata,
            self.options,
            clock=self._clock,
            video=recorder,
            meter=self._meter,
            replaces=replaced,
            earlier=self._earlier,
            moments=moments,
        )
        if not overwrite and names.path(journal.number).exists():
            # Another recording of this name was sealed since the check: its journal is gone, and
            # this one could never be sealed.
            journal.path.unlink()
            journal.close()
            raise exists_already(self.output)
        has_begun(self.output)
        return recorder, journal

    # --- recording ---

    def record(
        self, frame: Frame, result: Any, completed_ns: int, began_ns: int | None = None
    ) -> Row:
        """Record a frame of which everything is known, and return its row. For one thread only.

        Args:
            result: It is not changed any more.
            completed_ns: When it came, by the recorder's clock.
            began_ns: When recording it began, if that was later.
        """
        self.newest_ns = completed_ns
        # Before the video takes the frame: this may fail.
        attributes = added_attributes(result, self._journal.losses)
        segment, place = None, NO_VIDEO
        if self._ring is None:
            segment = self._journal.cutter.segment_of(completed_ns)
            place = self.video.take(segment, frame, result)
        kind = self._kinds.of(result)
        conversion = result_values.sampled_conversion(result) if kind.is_class_map else None
        media_time_s = self._continuation.media_time_s(frame.media_time_s, frame.captured_ns)
        now = self._clock.now_ns()
        row = Row(
            source_frame=self._continuation.source_frame(frame.source_frame),
            media_time_s=media_time_s,
            captured_ns=frame.captured_ns,
            completed_ns=completed_ns,
            is_capture_known=frame.is_capture_known,
            read_ns=frame.read_ns,
            # Handing over can only be measured once it is done: it counts for the next row.
            recorder_ns=now - (began_ns or completed_ns) + self._carried_ns + frame.before_ns,
            width=frame.width,
            height=frame.height,
            results=result.results,
            timing=result.timing,
            attributes=attributes,
            info=result.info,
            conversion=conversion,
            described=kind.described,
            skipped_before=frame.skipped_before,
            dropped_camera=frame.dropped_camera,
            dropped_queue=frame.dropped_queue,
            video_frame=place.frame,
            video_state=place.state,
            pixel_digest=frame.fingerprint.digest,
            pixel_sample=frame.fingerprint.sample,
        )
        if not self.progress.frames and (gap := self._earlier.gap(row)):
            self._keep(gap)
        if segment is not None:
            self._writer.put(row, segment)
        elif self._ring is not None:
            self._ring.put(row, frame)
        count = len(row.results) if isinstance(row.results, list) else 0
        self.progress.add(row.captured_ns, completed_ns, count, has_latency=row.is_capture_known)
        for queue in self.outputs:
            queue.put_frame(row, result)
        self._carried_ns = self._clock.now_ns() - now
        return row

    def hold(self, frame: Frame, result: Any, completed_ns: int) -> None:
        """Record a result once its program asks for the next one, or after a while.

        What the program adds to it until then (tracks, zones) is recorded with it.
        """
        with self._lock:
            self._check_open()
            self._release()
            self.newest_ns = completed_ns
            self._held.set(frame, result, completed_ns)

    def release(self) -> None:
        """Record the result that is held, if one is; not after a fork, where nothing writes it."""
        if self._process != os.getpid():
            return
        with self._lock:
            if not self._is_closed:
                self._release()

    def release_late(self) -> None:
        """Record the result that is held, unless that fails now: its program may be changing it at
        this moment. `release` or `close`, in the program's thread, raise the error if it remains.
        """
        if self._process != os.getpid():  # as in `release`
            return
        with self._lock:
            if self._is_closed or (held := self._held.take()) is None:
                return
            try:
                self._record_held(held)
            except Exception:
                self._held.put_back(held)

    def add(self, frame: Frame, result: Any, completed_ns: int) -> None:
        """Record a result that the program is done with. Any thread may call this."""
        with self._lock:
            self._check_open()
            self._release()
            self.record(frame, snapshot(result), completed_ns)

    def _release(self) -> None:
        if (held := self._held.take()) is not None:
            self._record_held(held)

    def _record_held(self, held: Held) -> None:
        now = self._clock.now_ns()
        self.record(held.frame, snapshot(held.result), held.completed_ns, began_ns=now)

    def note(self, event: Event) -> None:
        """Keep an event of the source, such as a gap, with the rows of its time."""
        if event["kind"] == "gap":
            self.progress.gaps += 1
            self.progress.gap_s += event["seconds"]
        elif event["kind"] == "damage":
            self.progress.damaged += event["lost"]
        # Alerts have the frame numbers of rows, which already continue those of earlier runs.
        is_alert = event["kind"] in ("alert", "alert_end")
        self._keep(event if is_alert else self._continuation.event(event))

    def log(self, signal: Signal) -> None:
        """Record a value over time. Any thread may call this."""
        if self._is_closed or self._alarm_reason or self._process != os.getpid():
            self._check_open()
        self.intake.log(signal)

    def lose_signals(self, count: int) -> None:
        """Count values that were logged before there was a session, and could not be kept."""
        self._writer.lost_signals += count

    def close(self, ending: Ending | None = None) -> Metadata:
        """Write the waiting rows, seal the session, and return its metadata. May be called twice:
        another thread waits until it is sealed.

        Raises:
            DgrecError: It could not be written or sealed; the message says where the rows are.
                Or the last result could not be recorded.
        """
        self.check_process()
        with late_interrupt(self.hurry):
            thread = threading.get_ident()
            self._wait_for_lock()
            try:
                last = None if self._is_closed else self._release_last()
                # A signal handler may have closed it meanwhile. It runs after a call only, and
                # there is none before `_is_closed` is set.
                is_first = not self._is_closed
                if is_first:
                    self._closer, self._is_closed = thread, True
            finally:
                self._lock.release()
            if is_first:
                self._close(ending)
            # The closing thread waits for outputs; signal handlers and outputs may call this.
            elif not (self._has_ended.is_set() or self._is_closed_here()):
                self._has_ended.wait()
                last = self._failure  # it was not sealed for this thread, either
        if last is not None:
            raise last
        return self._metadata

    def _wait_for_lock(self) -> None:
        """Take the lock. A thread that records may hold it while it waits for an output: let it
        wait no longer than the end itself would.
        """
        since_s = time.monotonic()
        while not self._lock.acquire(timeout=_LOOK_S):
            for queue in self.outputs:
                if queue.depth and queue.is_stuck(since_s):
                    queue.hurry()

    def _release_last(self) -> DgrecError | None:
        """Record the result that is held; return the error if that fails."""
        self._held.close()
        if self._host is not None:
            self._host.close()
        try:
            self._release()
        except DgrecError as error:
            return error
        return None

    def _close(self, ending: Ending | None) -> None:
        try:
            self.ended_ns = self._clock.now_ns()
            for queue in self.outputs:
                queue.end()  # while the last rows are written
            self._metadata = self._end(ending or Ending(reason=self._alarm_reason or "finished"))
        except DgrecError as error:
            self._failure = error
            raise
        finally:
            try:
                for queue in self.outputs:
                    queue.close()
            finally:
                self._has_ended.set()

    def _end(self, ending: Ending) -> Metadata:
        end = SessionEnd(
            output=self.output,
            metadata=self._metadata,
            earlier=self._earlier,
            ended_ns=self.ended_ns or self._clock.now_ns(),
            results=self.progress.frames,
            clock=self._clock,
            meter=self._meter,
            journal=self._journal,
            writer=self._writer,
            intake=self.intake,
            video=self.video,
            outputs=self.outputs,
            targets=self.targets,
        )
        return end.seal(ending)

    def _is_closed_here(self) -> bool:
        return threading.get_ident() == self._closer or self.is_in_output()

    def is_in_output(self) -> bool:
        """Return whether this thread is that of an output."""
        return any(queue.thread == threading.get_ident() for queue in self.outputs)

    def hurry(self) -> None:
        """Wait for outputs no longer than for a live source; end late deliveries to targets."""
        for queue in self.outputs:
            queue.hurry()
        self.targets.hurry()

    # --- the outcome ---

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def set_id(self) -> str:
        """The id of the recording, which its parts have in common."""
        return self._earlier.set_id or str(self._metadata["session_id"])

    @property
    def journal(self) -> Path:
        """The journal that is being written."""
        return self._journal.path

    @property
    def bytes_written(self) -> int:
        return self._journal.bytes_written

    @property
    def first_frame(self) -> int:
        """The number of the first row of this run."""
        return self._earlier.frames

    def now_ns(self) -> int:
        return self._clock.now_ns()

    @property
    def files(self) -> list[Path]:
        """The files of the session after its end: one, or the parts that were kept."""
        return self._journal.sealed

    @property
    def kept_frames(self) -> int:
        """The number of recorded frames that were not removed."""
        return self._journal.kept_frames

    @property
    def dropped(self) -> int:
        """Rows that were dropped because the disk was too slow."""
        return self.intake.dropped

    @property
    def dropped_at_start(self) -> int:
        """Frames lost while the model started (``frame_losses`` in docs/sql.md)."""
        return self._journal.lost_at_start["dropped_at_start"]

    @property
    def notes(self) -> list[str]:
        """Notes for the user about the parts and videos, a line each."""
        removed = self._journal.removed
        kept = [f"Parts removed, as asked for: {removed:,}."] if removed else []
        return [
            *self.video.failures,
            *self.intake.notes,
            *kept,
            *self._journal.notes,
            *self.targets.undelivered(self.output),
        ]

    def check_process(self) -> None:
        """Raise `DgrecError` after a fork: two processes would write the journal."""
        if self._process != os.getpid():
            raise DgrecError(f"{self.output}: the recorder belongs to another process")

    # --- inside ---

    def _check_open(self) -> None:
        self.check_process()
        if self._is_closed:
            raise DgrecError(f"{self.output}: the recorder is closed; nothing can be added")
        if self._alarm_reason == "disk_full":
            problem = "no more room to spare on the disk (min_free); close the recorder"
            raise StorageError(f"{self.output}: {problem}", is_full=True)

    def _raise_alarm(self, reason: str) -> None:
        self._alarm_reason = reason
        self.alarm(reason)

    def _keep(self, event: Event) -> None:
        self.intake.note(event)
        for queue in self.outputs:
            queue.put_event(event)
