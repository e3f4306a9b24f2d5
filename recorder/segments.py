"""The segments of a recording, and which of them a frame belongs to.

The row goes to the journal half a second later and the picture to an encoder, each in a thread of
its own. Both carry the segment, so that they are split at the same frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dgrec.format import Metadata, Row, uuid7
from dgrec.paths import part_path
from dgrec.recorder.options import Splitting

if TYPE_CHECKING:
    from dgrec.recorder.video import SegmentVideos


class Names:
    """The names of a recording's segments; this base class is for a recording with only one."""

    def __init__(self, output: Path) -> None:
        self._output = output

    def path(self, number: int) -> Path:
        """Return the file that a segment is sealed to."""
        return self._output

    def describe(self, number: int, first_frame: int) -> Metadata:
        """Return the entries in which a segment's metadata differ from the recording's."""
        return {}


class PartNames(Names):
    """The names of the parts of a recording: NAME-0001.parquet, NAME-0002.parquet, ...

    Args:
        set_id: The id that the parts have in common.
    """

    def __init__(self, output: Path, set_id: str) -> None:
        super().__init__(output)
        self._set_id = set_id

    def path(self, number: int) -> Path:
        return part_path(self._output, number)

    def describe(self, number: int, first_frame: int) -> Metadata:
        return {
            # Each part has its own: batches name their journal by it.
            "session_id": str(uuid7()),
            "name": self.path(number).stem,
            "part": {"number": number, "set_id": self._set_id, "first_frame": first_frame},
        }


def names_of(output: Path, splitting: Splitting, set_id: str) -> Names:
    return PartNames(output, set_id) if splitting else Names(output)


@dataclass(eq=False)
class Segment:
    """The frames that go into one journal, and into one file of each video.

    The writer sets ``begun`` once there is a journal for it, or ``failed`` if there cannot be one:
    the part ``number`` is then tried again, but not before ``retry_ns``.
    """

    number: int
    videos: SegmentVideos
    begun: bool = False
    failed: bool = False
    retry_ns: int = 0
    #: How many rows belong to it; counted by the thread that makes them.
    rows: int = 0
    #: How many of them are in a journal; counted by the writer.
    written: int = 0


class PlacedRow(NamedTuple):
    """A row on its way to the journal of its segment."""

    row: Row
    segment: Segment


class Cutter:
    """Decides which segment a row belongs to. Rows come in their order, from one thread.

    Args:
        begin: Returns new videos for segment ``number``.
        bytes_of: Returns how much a segment takes on disk once its waiting rows are written.
        number: The number of the first segment.
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
        """Return the segment of the row whose result came at ``completed_ns``."""
        if self._is_due(completed_ns):
            self._cut(completed_ns)
        self.current.rows += 1
        if not self._due_ns:
            self._due_ns = completed_ns + self._step_ns
        return self.current

    def cut(self) -> Segment:
        """Begin the next segment now, whenever its first row comes."""
        self._begin_next()
        self._due_ns = 0
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

    def _begin_next(self) -> None:
        # A part that could not be begun is tried again under its own number.
        number = self.current.number if self.current.failed else self.current.number + 1
        self.current = Segment(number, self._begin(number))

    def _cut(self, completed_ns: int) -> None:
        self._begin_next()
        if self._step_ns and completed_ns >= self._due_ns:
            # On a fixed grid, so that the parts of a day do not drift.
            steps = (completed_ns - self._due_ns) // self._step_ns + 1
            self._due_ns += steps * self._step_ns
