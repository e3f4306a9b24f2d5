"""Long recordings: a new part every so often, sealed while the next one is being written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dgrec.clock import Clock
from dgrec.errors import DgrecError, OutputError
from dgrec.format import (
    JOURNAL_SUFFIX,
    LOSSES,
    Durability,
    JournalWriter,
    MaskMode,
    Metadata,
    Row,
    utc_text,
    uuid7,
)
from dgrec.recorder.machine import MachineMeter
from dgrec.recorder.options import Splitting
from dgrec.recorder.segments import Cutter, Segment
from dgrec.recorder.video import VideoRecorder
from dgrec.recorder.writing.continuation import Earlier
from dgrec.recorder.writing.sealer import Sealer
from dgrec.session import part_path

__all__ = ["PartedJournal"]

#: How long to go on with a part after the next one could not be begun.
_RETRY_NS = 5_000_000_000


@dataclass
class _Counts:
    """What has been written, in the words of the metadata's totals."""

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


class PartedJournal:
    """Has the face of a `JournalWriter`, and writes one journal after the other.

    Rows come from the writer thread (`RowWriter`); a part ends between two of them, where the
    `cutter` says. Beginning a part takes two small writes; sealing the one before is done in
    `Sealer`'s thread. Frame numbers go on counting.

    Args:
        metadata: Of the whole recording; its ``session_id`` becomes the ``set_id`` of the parts,
            unless they continue earlier ones.
        replaces: Files of an older recording, to be removed once the first part is sealed.
        video: What records the frames of the rows, if anything does.
        meter: Measures what each part costs this machine.
        earlier: What runs before this one left, which it continues.

    Raises:
        OutputError: A journal exists, or cannot be written. A part that cannot be *begun* later on
            is no error: the one before goes on, and `notes` tells.
    """

    def __init__(
        self,
        output: Path,
        metadata: Metadata,
        splitting: Splitting,
        *,
        clock: Clock,
        masks: MaskMode = "exact",
        durability: Durability = "flush",
        replaces: Sequence[Path] = (),
        video: VideoRecorder | None = None,
        meter: MachineMeter | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        self.durability = durability
        self._earlier = earlier or Earlier()
        self.number = self._earlier.number
        self._output = output
        self._metadata = metadata
        self._video = video
        self._meter = meter or MachineMeter()
        self._masks = masks
        self._counts = _Counts()
        #: What the closing words of earlier parts have told already.
        self._told = _Counts()
        self._bytes_before = 0
        self._last_write = 0
        self._last_completed_ns = 0
        self._begin_problem = ""
        #: Where parts begin: asked before a frame goes to a video, or else when its row comes.
        self.cutter = Cutter(splitting, self._bytes_of, self.number + 1)
        self._segment = self.cutter.current
        source = metadata.get("source", {})
        size = source.get("width") or 0, source.get("height") or 0
        self._current = self._begin(metadata["started_at"], self._segment, size)
        self._sealer = Sealer(
            splitting.keep,
            clock,
            current_bytes=lambda: self._current.bytes_written + self._video_bytes(self._segment),
            has_rows=lambda: self._current.frames > 0,
            replaces=replaces,
            earlier=self._earlier.parts,
        )

    # --- the face of JournalWriter ---

    @property
    def path(self) -> Path:
        """The journal that is being written."""
        return self._current.path

    @property
    def frames(self) -> int:
        return self._counts.frames

    @property
    def detections(self) -> int:
        return self._told.detections + self._current.detections

    @property
    def flushes(self) -> int:
        return self._told.flushes + self._current.flushes

    @property
    def bytes_written(self) -> int:
        return self._bytes_before + self._current.bytes_written

    @property
    def unsealed_bytes(self) -> int:
        """What the journals take for which sealing still needs room."""
        return self._current.bytes_written + self._sealer.waiting_bytes

    def write(self, rows: Sequence[Row], **note: Any) -> None:
        if not rows:
            self._current.write(rows, **note)
            return
        waiting = list(rows)
        while waiting:
            segment = self.cutter.segment_of(waiting[0])
            if segment is not self._segment and not segment.failed:
                self._rotate(waiting[0], segment)
            others = (
                i for i, row in enumerate(waiting) if self.cutter.segment_of(row) is not segment
            )
            count = next(others, len(waiting))
            if segment.failed and self._video is not None:
                self._video.without_part(waiting[:count])
            self._write(waiting[:count], note)
            note = {}  # once is enough
            del waiting[:count]

    def end(self, closing: Metadata) -> None:
        """Write the end of the last part. ``closing`` is about the whole recording."""
        totals = dict(closing.get("totals", {}))
        for key, told in vars(self._told).items():
            if key in totals:
                totals[key] -= told
        self._current.end({**closing, "totals": totals})

    def close(self) -> None:
        """Let go of the journal, sealed or not, after all that was handed over is sealed."""
        self._sealer.close()
        self._current.close()

    # --- the end of a recording ---

    def seal(self) -> list[OutputError]:
        """Seal the last part, wait for all others, and return why any of them was not sealed."""
        self._sealer.add(self._current, self._last_completed_ns, self._segment.videos, last=True)
        self._sealer.close()
        return self._sealer.failures

    @property
    def notes(self) -> list[str]:
        """What else went wrong, a line each; nothing is lost by it."""
        begin = [self._begin_problem] if self._begin_problem else []
        return [*begin, *self._sealer.notes]

    @property
    def sealed(self) -> list[Path]:
        """The parts that are sealed and were not let go."""
        return self._sealer.sealed

    @property
    def files(self) -> list[Path]:
        """All files with rows, but for the journal that is being written."""
        return [*self._sealer.sealed, *self._sealer.unsealed]

    @property
    def removed(self) -> int:
        """How many parts were let go."""
        return self._sealer.removed

    @property
    def kept_frames(self) -> int:
        """How many of the frames that were written were not let go."""
        return self.frames - self._sealer.removed_frames

    @property
    def row_totals(self) -> dict[str, int]:
        """What the rows of all parts add up to."""
        return {name: getattr(self._counts, name) for name in LOSSES}

    @property
    def current_frames(self) -> int:
        """How many frames are in the journal that is being written."""
        return self._current.frames

    # --- inside ---

    def _write(self, rows: list[Row], note: dict[str, Any]) -> None:
        before, frames = self._current.bytes_written, self._current.frames
        try:
            self._current.write(rows, **note)
        finally:
            if self._current.frames > frames:  # also where it was moved away after that
                self._count(rows)
        self._last_write = self._current.bytes_written - before

    def _count(self, rows: list[Row]) -> None:
        self._last_completed_ns = rows[-1].completed_ns
        counts = self._counts
        counts.frames += len(rows)
        for row in rows:
            # Rows that the writer dropped had been read, too.
            counts.source_frames += 1 + row.skipped_before + row.dropped_writer
            counts.skipped += row.skipped_before
            counts.dropped += row.dropped_camera + row.dropped_queue + row.dropped_writer
            counts.dropped_camera += row.dropped_camera
            counts.dropped_queue += row.dropped_queue
            counts.dropped_writer += row.dropped_writer
            counts.video_left_out += row.video_state is not None
            row.segment = None  # it has got there; the row may be recorded elsewhere, too

    def _bytes_of(self, segment: Segment) -> int:
        """Return what a segment takes with its videos, its next batch included."""
        current, video = self._current, self._video_bytes(segment)
        if segment is not self._segment or not current.frames:
            return video
        # The next batch will be about as large as the last.
        return current.bytes_written + self._last_write + video

    def _video_bytes(self, segment: Segment) -> int:
        return segment.videos.bytes_written if segment.videos is not None else 0

    def _rotate(self, row: Row, segment: Segment) -> None:
        """Begin the next part with ``row``, and hand the finished one to the sealer."""
        finished, videos = self._current, self._segment.videos
        try:
            if segment.number != self.number + 1:
                # The one before could not be begun, or the writer let all of its rows go.
                raise OutputError(f"part {self.number + 1} is not there yet")
            following = self._begin(utc_text(row.captured_ns), segment, (row.width, row.height))
        except DgrecError as error:
            # Rather a part that is too long than a recording that ends.
            self._begin_problem = f"part {self.number + 1} could not be begun: {error}"
            segment.retry_ns = row.completed_ns + _RETRY_NS
            segment.number = self.number + 1  # which is to be tried next, whatever this one was
            segment.failed = True
            return
        segment.begun = True
        self._begin_problem = ""
        try:
            finished.end(self._closing())
        except DgrecError as error:
            self._sealer.note(f"part {self.number - 1} has no proper end: {error}")
        self._bytes_before += finished.bytes_written
        self._current, self._segment = following, segment
        self._sealer.add(finished, self._last_completed_ns, videos)

    def _begin(self, started_at: str, segment: Segment, size: tuple[int, int]) -> JournalWriter:
        path = part_path(self._output, segment.number)
        first_frame = self._earlier.frames + self._counts.frames
        metadata = {
            **self._metadata,
            # Each its own: batches tell by it which journal they belong to.
            "session_id": str(uuid7()),
            "name": path.stem,
            "started_at": started_at,
            "part": {
                "number": segment.number,
                "set_id": self._earlier.set_id or self._metadata["session_id"],
                "first_frame": first_frame,
            },
        }
        if self._video is not None:
            metadata["video"] = self._video.videos_of(segment).header(size)
        journal = JournalWriter(
            path.with_suffix(JOURNAL_SUFFIX),
            metadata,
            masks=self._masks,
            durability=self.durability,
            first_frame=first_frame,
        )
        self.number = segment.number
        return journal

    def _closing(self) -> Metadata:
        """Return the closing words of a part that another one follows."""
        now = replace(self._counts, detections=self.detections, flushes=self.flushes)
        totals = {key: value - getattr(self._told, key) for key, value in vars(now).items()}
        self._told = now
        if self._video is None:
            del totals["video_left_out"]
        return {
            "ended_at": utc_text(self._last_completed_ns),
            "end_reason": "split",
            "totals": totals,
            "machine": self._meter.lap(),
        }
