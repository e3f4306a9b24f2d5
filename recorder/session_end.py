"""The end of a session: everything that writes it is closed, and its metadata is completed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from dgrec.clock import Clock
from dgrec.credentials import redact_text
from dgrec.errors import DgrecError, OutputError, StorageError
from dgrec.format import Metadata, add_rows, utc_text
from dgrec.recorder.ending import Ending
from dgrec.recorder.machine import MachineMeter
from dgrec.recorder.outputs import OutputQueue
from dgrec.recorder.ring_writer import RingWriter
from dgrec.recorder.targets import Targets
from dgrec.recorder.video import VideoRecorder
from dgrec.recorder.writing import Earlier, PartedJournal, RowWriter, unsealed
from dgrec.session import open_session


@dataclass(kw_only=True)
class SessionEnd:
    """Ends a session to which nothing is added any more; used once.

    Args:
        output: The session file, or the name that the parts' names are made of.
        metadata: What was known of the session at its start.
        earlier: The earlier runs that it continues.
        ended_ns: When it ended, by its clock.
        results: How many results came.
        intake: The object that takes rows, events and values: ``writer``, or the ring before it.
    """

    output: Path
    metadata: Metadata
    earlier: Earlier
    ended_ns: int
    results: int
    clock: Clock
    meter: MachineMeter
    journal: PartedJournal
    writer: RowWriter
    intake: RowWriter | RingWriter
    video: VideoRecorder
    outputs: Sequence[OutputQueue]
    targets: Targets

    def seal(self, ending: Ending) -> Metadata:
        """Write what waits and seal the session; return its metadata.

        Raises:
            OutputError: It could not be written or sealed; the message says where the rows are.
        """
        try:
            self._close_writers()
            self._deliver_later()
            closing = self._closing(ending)
            self.writer.end(closing)
        except DgrecError as error:
            raise self._leave(error, ending) from None
        if problems := self.journal.seal():
            raise unsealed(problems, ending.failure)
        self.targets.count_kept(self.journal.sealed)
        totals = add_rows(closing["totals"], self.journal.row_totals)
        return {**self.journal.sealed_metadata, **self.metadata, **closing, "totals": totals}

    def _close_writers(self) -> None:
        for queue in self.outputs:
            if queue.output.adds_events:
                queue.close()
        try:
            self.intake.close()
        finally:
            self.video.close()
        for queue in self.outputs:  # what they missed goes into the metadata
            queue.close()

    def _deliver_later(self) -> None:
        """Send targets what they did not get, if that was asked for."""
        if not self.targets.lacks_something or self.writer.is_disk_low:
            return
        self.writer.write_deliveries()
        path = self.output
        if self.earlier.parts or self.journal.number > self.earlier.number + 1:
            self.journal.wait_for_sealing()
        else:
            path = self.journal.path
        session_id = str(self.metadata["session_id"])
        self.targets.deliver_later(
            lambda: open_session(path), session_id, self.writer.write_deliveries
        )

    def _closing(self, ending: Ending) -> Metadata:
        """Return the metadata in the end of the journal."""
        journal = self.journal
        totals = {
            "frames": journal.frames,
            "detections": journal.detections,
            **ending.counts.totals(self.results, self.intake.left_out, self.intake.dropped),
            "flushes": journal.flushes,
            "clock_drift_ms": round(self.clock.drift_ns() / 1e6, 3),
        }
        if self.video.options.kinds:
            totals["video_left_out"] = self.video.left_out
        if lost := self.writer.lost_signals:
            totals["signals_left_out"] = lost
        closing: Metadata = {
            "ended_at": utc_text(self.ended_ns),
            "end_reason": ending.recorded_reason,
            "totals": totals,
            "machine": self._machine,
        }
        missed = [redact_text(queue.note) for queue in self.outputs if queue.note]
        if notes := [*missed, *self.targets.notes, *journal.not_recorded]:
            closing["notes"] = notes
        if ending.recorded_detail:
            closing["end_detail"] = redact_text(ending.recorded_detail)
        return closing

    @cached_property
    def _machine(self) -> Metadata:
        # Once: a second lap would measure no time at all.
        return self.meter.lap()

    def _leave(self, error: DgrecError, ending: Ending) -> OutputError:
        """End a journal that can no longer be written; return the error for the user."""
        # Sealing it would need more room on the disk than the write that has just failed.
        with contextlib.suppress(DgrecError):  # the ending may fit even if the rows did not
            self.writer.end(self._closing(replace(ending, reason="failed", failure=error)))
        with contextlib.suppress(DgrecError):
            self.journal.close()
        kind = StorageError if isinstance(error, StorageError) else OutputError
        return kind(f"{error}; {self.journal.what_is_left(self.output)}")
