"""Track ids that no two tracks of an export share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from dgrec.replay.exports.losses import Losses
from dgrec.replay.exports.odd_values import replaced
from dgrec.session import Runs

if TYPE_CHECKING:
    from dgrec.session import Session


class TrackIds:
    """Gives a track another id where an earlier run had given its id to another object.

    Trackers begin anew in each run, and formats have no place for runs: other programs would take
    the two for one track.
    """

    def __init__(self, session: Session) -> None:
        self._runs = Runs(session.metadata.get("events", []))
        #: The ids that are written, by run and recorded id.
        self._written: dict[tuple[int, int], int] = {}
        self._taken: set[int] = set()
        self._free = 1

    def unique(
        self, rows: pa.RecordBatch, found: pa.StructArray, row_of: Sequence[int], losses: Losses
    ) -> pa.StructArray:
        """Return detections with the ids that are written.

        Args:
            rows: Their frames.
            row_of: For each detection, its frame's place in ``rows``.
            losses: Gets the tracks with other ids.
        """
        if not self._runs.are_several:
            return found
        runs = [self._runs.number(number) for number in rows.column("source_frame").to_pylist()]
        recorded = pc.struct_field(found, "track_id").to_pylist()
        ids = [
            None if track is None else self._id(runs[row], track, losses)
            for row, track in zip(row_of, recorded, strict=True)
        ]
        return replaced(found, {"track_id": pa.array(ids, pa.int64())})

    def _id(self, run: int, track: int, losses: Losses) -> int:
        key = run, track
        if key not in self._written:
            number = track
            if number in self._taken:
                while self._free in self._taken:
                    self._free += 1
                number = self._free
                losses.add("gave a track of a later run another id", 1, "track")
            self._taken.add(number)
            self._written[key] = number
        return self._written[key]
