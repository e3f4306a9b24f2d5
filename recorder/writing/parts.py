"""Recordings in parts: each part is sealed while the next one is being written."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from dgrec.clock import Clock
from dgrec.credentials import redact_text
from dgrec.errors import DgrecError, OutputError
from dgrec.format import (
    AT_START,
    LOSSES,
    Delivery,
    Event,
    JournalWriter,
    Metadata,
    Row,
    Signal,
    StartLosses,
    as_note,
    json_values,
    loses_at_start,
    source_size,
    utc_text,
)
from dgrec.paths import journal_path
from dgrec.recorder.machine import MachineMeter
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.segments import Cutter, Names, PlacedRow, Segment
from dgrec.recorder.video import SegmentVideos, VideoRecorder
from dgrec.recorder.writing.continuation import NOTHING_EARLIER, Earlier
from dgrec.recorder.writing.moments import Moments
from dgrec.recorder.writing.placement import (
    done_with,
    events_of,
    split_at,
    split_before,
    split_early,
    with_deliveries,
    with_events,
)
from dgrec.recorder.writing.sealer import Sealer
from dgrec.units import counted

#: How long a part goes on after the next one could not be begun.
_RETRY_NS = 5_000_000_000
#: How long a part waits for targets to take its last rows, so that it says when they did.
_TAKING_NS = 2_000_000_000
#: Estimated size of a row before any was written.
_ROW_BYTES = 1000.0


@dataclass
class _Counts:
    """Counts of what was written, by their names in the metadata's totals."""

    frames: int = 0
    detections: int = 0
    source_frames: int = 0
    skipped: int = 0
    dropped: int = 0
    dropped_camera: int = 0
    dropped_queue: int = 0
    dropped_writer: int = 0
    video_left_out: int = 0
    flushes: int = 0


@dataclass(frozen=True, kw_only=True)
class _EndingPart:
    """A part that has all of its rows, while targets may still take some of them."""

    journal: JournalWriter
    number: int
    videos: SegmentVideos
    closing: Metadata
    began_ns: int
    ended_ns: int
    #: The source's numbers of its first and its last row.
    first_frame: int
    last_frame: int
    #: How many of its rows each target is done with.
    done: Counter[int]

    def add_done(self, deliveries: Sequence[Delivery]) -> None:
        self.done.update(done_with(deliveries, self.first_frame))


class PartedJournal:
    """Writes one journal after the other and has each sealed; a single file is a set of one.

    Rows come from the writer thread (`RowWriter`), each with the segment that the `cutter` gave it.
    Beginning a part takes two small writes; `Sealer` seals the one before in its own thread. Frames
    are numbered across parts.

    Args:
        metadata: Of the whole recording.
        video: Records the frames of the rows.
        meter: Measures the load that each part puts on this machine.
        replaces: Files of an older recording, to be removed once the first part is sealed.
        earlier: The earlier runs that this one continues.
        moments: The times whose parts are kept, if the options ask for that.

    Raises:
        OutputError: A journal exists, or cannot be written. If a later part cannot be *begun*, the
            one before goes on, and `notes` says so.
    """

    def __init__(
        self,
        names: Names,
        metadata: Metadata,
        options: RecordingOptions,
        *,
        clock: Clock,
        video: VideoRecorder,
        meter: MachineMeter,
        replaces: Sequence[Path] = (),
        earlier: Earlier = NOTHING_EARLIER,
        moments: Moments | None = None,
    ) -> None:
        self.durability = options.durability
        #: What results hold that cannot be recorded.
        self.losses = json_values.Losses()
        #: Frames lost while the model started, before the written rows. Other threads may read it.
        self.lost_at_start = dict.fromkeys(AT_START, 0)
        # The start of a continued recording was in its first run.
        may_lose = loses_at_start(metadata) and not earlier.frames
        self._start_losses = StartLosses() if may_lose else None
        self.number = earlier.number
        self._names = names
        self._clock = clock
        self._metadata = metadata
        self._masks = options.masks
        self._video = video
        self._meter = meter
        self._frames_before = earlier.frames
        self._counts = _Counts()
        #: Counts in the closing metadata of earlier parts.
        self._reported = _Counts()
        self._bytes_before = 0
        self._last_write = 0
        self._row_bytes = _ROW_BYTES
        #: When the first row of the current part was captured, and its last one completed.
        self._began_ns = self._last_completed_ns = 0
        #: The source's numbers of the first row of the current part, and of the last one of all.
        self._first_frame = 0
        self._last_frame = -1
        #: How many rows of the current part each target is done with.
        self._done: Counter[int] = Counter()
        self._ending: list[_EndingPart] = []
        #: The newest frame that each target has taken.
        self._newest: dict[int, int] = {}
        #: What targets have taken of rows that are not written yet.
        self._early: list[Delivery] = []
        self._begin_problem = ""
        #: Decides which part a row belongs to, before the row is made.
        self.cutter = Cutter(options.splitting, video.begin, self._bytes_of, earlier.number + 1)
        self._segment = self.cutter.current
        self._current = self._begin(metadata["started_at"], self._segment, source_size(metadata))
        self._sealer = Sealer(
            options.splitting.keep,
            clock,
            current_bytes=lambda: self._current.bytes_written + self._segment.videos.bytes_written,
            has_rows=lambda: self._current.frames > 0,
            replaces=replaces,
            earlier=earlier.parts,
            moments=moments,
        )

    # --- for the writer ---

    def now_ns(self) -> int:
        return self._clock.now_ns()

    @property
    def path(self) -> Path:
        """The journal that is being written."""
        return self._current.path

    @property
    def frames(self) -> int:
        return self._counts.frames

    @property
    def detections(self) -> int:
        return self._reported.detections + self._current.detections

    @property
    def flushes(self) -> int:
        return self._reported.flushes + self._current.flushes

    @property
    def bytes_written(self) -> int:
        return self._bytes_before + self._ending_bytes + self._current.bytes_written

    @property
    def _ending_bytes(self) -> int:
        return sum(part.journal.bytes_written for part in self._ending)

    @property
    def unsealed_bytes(self) -> int:
        """The size of the journals that are still to be sealed."""
        return self._current.bytes_written + self._ending_bytes + self._sealer.waiting_bytes

    def write(
        self,
        placed: Sequence[PlacedRow],
        events: Sequence[Event] = (),
        signals: Sequence[Signal] = (),
        deliveries: Sequence[Delivery] = (),
    ) -> None:
        """Append rows to the journals of their segments, in order, with the events of their time.

        ``signals`` were logged while there were no rows. ``deliveries`` go with their rows, unless
        these are in a part that has ended; they may come before their rows.
        """
        note: dict[str, Any] = {"signals": as_note(signals)} if signals else {}
        deliveries = self._given_to_ending([*self._early, *deliveries])
        last_frame = placed[-1].row.source_frame if placed else self._last_frame
        deliveries, self._early = split_early(deliveries, last_frame)
        if not placed and (note or events or deliveries):
            note = with_events(note, events)
            self._current.write([], **with_deliveries(note, deliveries))
            self._done.update(done_with(deliveries, self._first_frame))
        groups = [
            (s, [p.row for p in group]) for s, group in groupby(placed, key=attrgetter("segment"))
        ]
        own_events = events_of(events, [rows for _, rows in groups])
        for index, (segment, rows) in enumerate(groups):
            note = with_events(note, own_events[index])
            if segment is not self._segment and not segment.failed:
                first = rows[0]
                self._rotate(first.captured_ns, (first.width, first.height), segment)
                deliveries = self._given_to_ending(deliveries)
            if segment.failed:
                rows = self._video.without_part(rows)
            here, deliveries = split_before(deliveries, groups[index + 1 : index + 2])
            self._write(rows, with_deliveries(note, here))
            self._done.update(done_with(here, self._first_frame))
            segment.written += len(rows)
            note = {}

    def cut(self, segment: Segment) -> None:
        """Have the current part sealed, and begin the next one before it has rows."""
        self._rotate(self._clock.now_ns(), (0, 0), segment)
        self.end_due_parts()

    @property
    def has_ending_parts(self) -> bool:
        """Return whether parts that get no more rows wait for targets to take theirs."""
        return bool(self._ending)

    def end_due_parts(self) -> None:
        """End the parts that have waited long enough, if nothing is written meanwhile."""
        self._given_to_ending(())

    def end(self, closing: Metadata) -> None:
        """Write the end of the last part. ``closing`` describes the whole recording."""
        self._end_parts()
        if self._early:  # of rows that were lost
            self._current.write([], **with_deliveries({}, self._early))
            self._early = []
        totals = dict(closing.get("totals", {}))
        for key, reported in vars(self._reported).items():
            if key in totals:
                totals[key] -= reported
        self._current.end({**closing, "totals": totals, **self._segment.videos.described()})

    def close(self) -> None:
        """Close the current journal, once those handed over are sealed."""
        self._end_parts()
        self._sealer.close()
        self._current.close()

    # --- the end of a recording ---

    def seal(self) -> list[OutputError]:
        """Seal the last part, wait for all others, and return why any could not be sealed."""
        self._sealer.add(
            self._current,
            self._began_ns,
            self._last_completed_ns,
            self._segment.videos,
            last=True,
        )
        self._sealer.close()
        return self._sealer.failures

    def wait_for_sealing(self) -> None:
        """Wait until the parts before the current one are sealed, or cannot be."""
        self._end_parts()
        self._sealer.wait()

    @property
    def not_recorded(self) -> list[str]:
        """The contents of results that could not be recorded, a line each."""
        return [redact_text(line) for line in self.losses.lines]

    @property
    def notes(self) -> list[str]:
        """Other problems, a line each; no rows are lost by them."""
        begin = [self._begin_problem] if self._begin_problem else []
        return [*begin, *self.not_recorded, *self._sealer.notes]

    @property
    def sealed(self) -> list[Path]:
        """The sealed parts that still exist."""
        return self._sealer.sealed

    @property
    def removed(self) -> int:
        """The number of parts that were removed, as the options demand."""
        return self._sealer.removed

    @property
    def kept_frames(self) -> int:
        """The number of written frames that were not removed."""
        return self.frames - self._sealer.removed_frames

    @property
    def sealed_metadata(self) -> Metadata:
        """The metadata of the part that was sealed last."""
        return self._sealer.last_metadata

    @property
    def row_totals(self) -> dict[str, int]:
        """Totals of the rows of all parts."""
        return {**{name: getattr(self._counts, name) for name in LOSSES}, **self.lost_at_start}

    def what_is_left(self, output: Path) -> str:
        """Return which frames are in which files, once a journal that failed is closed."""
        is_there = False
        with contextlib.suppress(OSError):  # on a failing disk even this may fail
            is_there = self.path.exists()
        count = self.kept_frames - (0 if is_there else self._current.frames)
        kept = "kept of those " if self.removed else ""
        verb = "is" if count == 1 else "are"
        what = f"the {counted(count, 'frame')} {kept}written before {verb} in"
        if not any(map(os.path.exists, [*self._sealer.sealed, *self._sealer.unsealed])):
            if is_there:
                return f"{what} {self.path}"
            return f"the {counted(self.frames, 'frame')} written before went with it"
        text = f"{what} the parts of {output}"
        has_last = is_there and self._current.frames
        return f"{text}, the last of them in {self.path}" if has_last else text

    # --- inside ---

    def _write(self, rows: list[Row], note: dict[str, Any]) -> None:
        before, frames = self._current.bytes_written, self._current.frames
        try:
            batch = self._current.write(rows, **note)
            if (start := self._start_losses) is not None and not start.is_over:
                start.add(batch)
                self.lost_at_start = start.counts()
        finally:
            if self._current.frames > frames:  # also if the file was moved away after that
                if not frames:
                    self._began_ns = rows[0].captured_ns
                    self._first_frame = rows[0].source_frame
                self._count(rows)
        self._last_write = self._current.bytes_written - before
        self._row_bytes = self._last_write / len(rows)

    def _count(self, rows: list[Row]) -> None:
        self._last_completed_ns = rows[-1].completed_ns
        self._last_frame = rows[-1].source_frame
        counts = self._counts
        counts.frames += len(rows)
        for row in rows:
            # Rows that the writer dropped had also been read.
            counts.source_frames += 1 + row.skipped_before + row.dropped_writer
            counts.skipped += row.skipped_before
            counts.dropped += row.dropped_camera + row.dropped_queue + row.dropped_writer
            counts.dropped_camera += row.dropped_camera
            counts.dropped_queue += row.dropped_queue
            counts.dropped_writer += row.dropped_writer
            counts.video_left_out += row.video_state is not None

    def _bytes_of(self, segment: Segment) -> int:
        """Return the size of a segment with its videos, waiting rows and one more row.

        Waiting rows are assumed to be as large as those written last.
        """
        waiting = round((segment.rows - segment.written + 1) * self._row_bytes)
        size = self._video.expected_bytes(segment.videos)
        # In this order: the writer changes them in the opposite order.
        if segment is not self._segment or not (current := self._current).frames:
            return size + waiting
        return size + current.bytes_written + max(waiting, self._last_write)

    def _rotate(self, started_ns: int, size: tuple[int, int], segment: Segment) -> None:
        """Begin the next part, and hand the finished one to the sealer.

        Args:
            started_ns: When its first row was captured, if there is one by now.
            size: The size of its frames, or 0, 0.
        """
        finished, videos = self._current, self._segment.videos
        try:
            if segment.number != self.number + 1:
                # The part before could not be begun, or the writer dropped all of its rows.
                raise OutputError(f"part {self.number + 1} is not there yet")
            following = self._begin(utc_text(started_ns), segment, size)
        except DgrecError as error:
            # A part that is too long is better than a recording that ends.
            self._begin_problem = f"part {self.number + 1} could not be begun: {error}"
            segment.retry_ns = started_ns + _RETRY_NS
            segment.number = self.number + 1  # to be tried next
            segment.failed = True
            return
        segment.begun = True
        self._begin_problem = ""
        ending = _EndingPart(
            journal=finished,
            number=segment.number - 1,
            videos=videos,
            closing=self._closing(),
            began_ns=self._began_ns,
            ended_ns=self._last_completed_ns,
            first_frame=self._first_frame,
            last_frame=self._last_frame,
            done=self._done,
        )
        self._ending.append(ending)
        self._done = Counter()
        self._current = following
        self._segment = segment  # now `_bytes_of` may look at the journal

    def _given_to_ending(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Write what targets took of parts that have no more rows; return the rest.

        A part ends once they have taken its last row, or a little later. (That a target does not
        get a row is known at once, while other rows are on their way to it.)
        """
        for delivery in deliveries:
            if delivery.is_taken:
                newest = self._newest.get(delivery.target, -1)
                self._newest[delivery.target] = max(newest, delivery.source_frame)
        left = list(deliveries)
        for part in self._ending.copy():
            own, left = split_at(left, part.last_frame + 1)
            if own:
                with self._noting(part):
                    part.journal.write([], **with_deliveries({}, own))
                part.add_done(own)
            is_done = all(
                self._newest.get(target, -1) >= part.last_frame
                or part.done[target] >= part.journal.frames
                for target in range(len(self._metadata.get("targets", [])))
            )
            if is_done or self._clock.now_ns() - part.ended_ns > _TAKING_NS:
                self._end_part(part)
        return left

    def _end_parts(self) -> None:
        for part in self._ending.copy():
            self._end_part(part)

    def _end_part(self, part: _EndingPart) -> None:
        self._ending.remove(part)
        with self._noting(part):
            part.journal.end(part.closing)
        self._bytes_before += part.journal.bytes_written
        self._sealer.add(part.journal, part.began_ns, part.ended_ns, part.videos)

    @contextlib.contextmanager
    def _noting(self, part: _EndingPart) -> Iterator[None]:
        try:
            yield
        except DgrecError as error:
            self._sealer.note(f"part {part.number} has no proper end: {error}")

    def _begin(self, started_at: str, segment: Segment, size: tuple[int, int]) -> JournalWriter:
        first_frame = self._frames_before + self._counts.frames
        metadata = {
            **self._metadata,
            "started_at": started_at,
            **self._names.describe(segment.number, first_frame),
            **segment.videos.header(size),
        }
        journal = JournalWriter(
            journal_path(self._names.path(segment.number)),
            metadata,
            masks=self._masks,
            durability=self.durability,
            first_frame=first_frame,
            losses=self.losses,
        )
        self.number = segment.number
        return journal

    def _closing(self) -> Metadata:
        """Return the closing metadata of a part that another one follows."""
        now = replace(self._counts, detections=self.detections, flushes=self.flushes)
        totals = {key: value - getattr(self._reported, key) for key, value in vars(now).items()}
        self._reported = now
        if not self._video.options.kinds:
            del totals["video_left_out"]
        return {
            "ended_at": utc_text(self._last_completed_ns),
            "end_reason": "split",
            "totals": totals,
            "machine": self._meter.lap(),
            **({"notes": notes} if (notes := self.not_recorded) else {}),
        }
