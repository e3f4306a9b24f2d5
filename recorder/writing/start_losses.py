"""Counts the frames that were lost while the model started."""

from __future__ import annotations

from dgrec.format import AT_START, Row

__all__ = ["StartLosses"]


class StartLosses:
    """Counts from the written rows what ``frame_losses`` in the SQL library counts.

    A loss belongs to the start of a live source if it came before the first row, or after a frame
    that was captured before the first result came out.
    """

    def __init__(self) -> None:
        #: By the names of `AT_START`.
        self.counts = dict.fromkeys(AT_START, 0)
        self._first_result_us = 0
        self._captured_before_us: int | None = None

    def add(self, row: Row) -> None:
        if self._captured_before_us is None:
            self._first_result_us = row.completed_ns // 1000
        if self._captured_before_us is None or self._captured_before_us <= self._first_result_us:
            for place in ("camera", "queue", "writer"):
                lost = getattr(row, f"dropped_{place}")
                self.counts[f"dropped_{place}_at_start"] += lost
                self.counts["dropped_at_start"] += lost
        self._captured_before_us = row.captured_ns // 1000
