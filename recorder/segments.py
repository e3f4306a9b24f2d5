"""Where a recording is cut: decided once for a frame, for its row and its picture.

The row goes to the journal half a second later and the picture to an encoder, each in a thread of
its own. Both take the segment that the row carries, so that they are cut at the same frame. (With
no video the journal decides when it writes the row, and knows its own size exactly.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dgrec.format import Row
from dgrec.recorder.options import Splitting

if TYPE_CHECKING:
    from dgrec.recorder.video import SegmentVideos

__all__ = ["Cutter", "Segment"]


@dataclass(eq=False)
class Segment:
    """What goes into one journal, and into one file of each video.

    ``number`` is that of its part, or 0 where a recording is not in parts. The writer says whether
    there is a journal for it: ``begun``, or ``failed``; a part ``number`` is then to be tried
    again, but not before ``retry_ns``.
    """

    number: int = 0
    begun: bool = False
    failed: bool = False
    retry_ns: int = 0
    videos: SegmentVideos | None = None


class Cutter:
    """Says which segment a row belongs to. Rows come in their order, from one thread.

    Args:
        bytes_of: What a segment takes so far on disk, and will with its next batch.
        number: Of the first part.
    """

    def __init__(
        self, splitting: Splitting, bytes_of: Callable[[Segment], int], number: int = 1
    ) -> None:
        self.current = Segment(number, begun=True)
        self._splitting = splitting
        self._bytes_of = bytes_of
        self._is_empty = True
        self._due_ns: int | None = None

    def segment_of(self, row: Row) -> Segment:
        """Return the segment of ``row``, which it carries until it is written."""
        if row.segment is None:
            if self._is_due(row):
                self._cut(row)
            row.segment = self.current
            self._is_empty = False
            if self._due_ns is None and self._splitting.every_s is not None:
                self._due_ns = row.completed_ns + int(self._splitting.every_s * 1e9)
        segment: Segment = row.segment
        return segment

    def _is_due(self, row: Row) -> bool:
        if self.current.failed:
            return row.completed_ns >= self.current.retry_ns
        if self._is_empty:
            return False
        if self._due_ns is not None and row.completed_ns >= self._due_ns:
            return True
        size = self._splitting.size
        return size is not None and self._bytes_of(self.current) > size

    def _cut(self, row: Row) -> None:
        # The part that could not be begun is tried again under its own number.
        self.current = Segment(self.current.number + (not self.current.failed))
        if self._due_ns is not None and self._splitting.every_s is not None:
            # On a fixed grid: the parts of a day do not drift.
            step = int(self._splitting.every_s * 1e9)
            self._due_ns += ((row.completed_ns - self._due_ns) // step + 1) * step
