"""Where a recording is cut: decided once for a frame, for its row and for its picture.

The row goes to the journal half a second later and the picture to an encoder, each in a thread of
its own. The segment goes with both, so that they are cut at the same frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dgrec.format import Metadata, Row, uuid7
from dgrec.paths import part_path
from dgrec.recorder.options import Splitting

if TYPE_CHECKING:
    from dgrec.recorder.video import SegmentVideos

__all__ = ["Cutter", "Names", "OneFile", "Parts", "PlacedRow", "Segment", "names_of"]


class Names(Protocol):
    """What the files of a recording are called, and what each says of its place among them."""

    def path(self, number: int) -> Path:
        """Return where a segment goes once it is sealed."""

    def describe(self, number: int, first_frame: int) -> Metadata:
        """Return what sets a segment's metadata apart from that of the recording."""


class OneFile:
    """The names of a recording that is a single file."""

    def __init__(self, output: Path) -> None:
        self._output = output

    def path(self, number: int) -> Path:
        return self._output

    def describe(self, number: int, first_frame: int) -> Metadata:
        return {}


class Parts:
    """The names of a recording in parts: NAME-0001.parquet, NAME-0002.parquet, ...

    Args:
        set_id: What the parts have in common.
    """

    def __init__(self, output: Path, set_id: str) -> None:
        self._output = output
        self._set_id = set_id

    def path(self, number: int) -> Path:
        return part_path(self._output, number)

    def describe(self, number: int, first_frame: int) -> Metadata:
        return {
            # Each its own: batches name the journal that they belong to by it.
            "session_id": str(uuid7()),
            "name": self.path(number).stem,
            "part": {"number": number, "set_id": self._set_id, "first_frame": first_frame},
        }


def names_of(output: Path, splitting: Splitting, set_id: str) -> Names:
    return Parts(output, set_id) if splitting else OneFile(output)


@dataclass(eq=False)
class Segment:
    """What goes into one journal, and into one file of each video.

    The writer says whether there is a journal for it: ``begun``, or ``failed``; a part ``number``
    is then to be tried again, but not before ``retry_ns``.
    """

    number: int
    videos: SegmentVideos
    begun: bool = False
    failed: bool = False
    retry_ns: int = 0
    #: Rows that belong to it; counted by the thread that hands them over.
    rows: int = 0
    #: Those of them that are in a journal; counted by the writer.
    written: int = 0


class PlacedRow(NamedTuple):
    """A row on its way to the journal of its segment."""

    row: Row
    segment: Segment


class Cutter:
    """Says which segment a row belongs to. Rows come in their order, from one thread.

    Args:
        begin: Returns the videos of segment ``number``, which begin with it.
        bytes_of: What a segment takes on disk once the rows that wait for it are written.
        number: Of the first part.
    """

    def __init__(
        self,
        splitting: Splitting,
        begin: Callable[[int], SegmentVideos],
        bytes_of: Callable[[Segment], int],
        number: int,
    ) -> None:
        self._splitting = splitting
        self._begin = begin
        self._bytes_of = bytes_of
        self._step_ns = int((splitting.every_s or 0) * 1e9)
        self._due_ns = 0
        self.current = Segment(number, begin(number), begun=True)

    def segment_of(self, completed_ns: int) -> Segment:
        """Return the segment of the row whose result came at that time."""
        if self._is_due(completed_ns):
            self._cut(completed_ns)
        self.current.rows += 1
        if not self._due_ns:
            self._due_ns = completed_ns + self._step_ns
        return self.current

    def _is_due(self, completed_ns: int) -> bool:
        if self.current.failed:
            return completed_ns >= self.current.retry_ns
        if not self.current.rows:
            return False
        if self._step_ns and completed_ns >= self._due_ns:
            return True
        size = self._splitting.size
        return size is not None and self._bytes_of(self.current) > size

    def _cut(self, completed_ns: int) -> None:
        # The part that could not be begun is tried again under its own number.
        number = self.current.number if self.current.failed else self.current.number + 1
        self.current = Segment(number, self._begin(number))
        if self._step_ns and completed_ns >= self._due_ns:
            # On a fixed grid: the parts of a day do not drift.
            steps = (completed_ns - self._due_ns) // self._step_ns + 1
            self._due_ns += steps * self._step_ns
