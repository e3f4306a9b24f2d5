"""The recorded frames of a session that stands in for a model, by position."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dgrec.analyzers import Notice, drawing_of
from dgrec.format import DecodeError, RestoredFrame, restore, utc_ns
from dgrec.session import Session, damaged_frame
from dgrec.stand_in.recorded_trackers import Trackers
from dgrec.stand_in.settings import recorded_limits


@dataclass(slots=True)
class RecordedFrame:
    """The model's results for a frame, and when they came out."""

    source: Frames
    restored: RestoredFrame
    #: When the result came out, in nanoseconds since 1970; None if unknown.
    completed_ns: int | None
    latency_ms: float | None


class Frames:
    """The frames of a session; several threads may ask for them."""

    def __init__(self, path: Path) -> None:
        self.session = Session(path)
        self.metadata = self.session.metadata
        #: The limits at which the model gave its results.
        self.limits = recorded_limits(self.parameters)
        #: The entries for the analyzers whose results it has.
        self.analyzers = self.metadata.get("analyzers", [])
        # Those of a model in a compound model belong to its results, whatever is attached.
        inner = [entry for entry in self.analyzers if entry.get("within")]
        own = [entry for entry in self.analyzers if not entry.get("within")]
        self.trackers = Trackers(own, inner)
        self.drawing = drawing_of(self.metadata)
        self.inner_drawing = drawing_of({"analyzers": inner})
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.session)

    def at(self, position: int) -> RecordedFrame:
        """Return the frame at a position, with values of its own, which may be changed.

        Raises:
            DamagedSessionError: The row does not hold what dgrec writes.
        """
        row = self._row(position)
        try:
            restored = restore(row)
        except DecodeError as error:
            raise damaged_frame(self.session.path, row, error) from None
        return RecordedFrame(self, restored, _completed_ns(row), row.get("latency_ms"))

    @property
    def parameters(self) -> dict[str, Any]:
        """The recorded settings of the model."""
        recorded = self.metadata.get("model", {}).get("parameters")
        return recorded if isinstance(recorded, dict) else {}

    def notices_until(self, completed_ns: int) -> dict[str, Notice]:
        """Return the last message of each notifier up to a time."""
        with self._lock:
            return self.session.notices_until(completed_ns)

    def empty(self, last: int) -> RecordedFrame:
        """Return a frame for which nothing was recorded: without detections, all background.

        Args:
            last: Position of the frame before, whose time it gets; before any, the first frame's.
        """
        results: list[Any] = []
        if self._map_shape is not None:
            results = [{"data": np.zeros(*self._map_shape)}]
        completed_ns = _completed_ns(self._row(max(last, 0))) if len(self) else None
        return RecordedFrame(self, RestoredFrame(results, {}, "", {}), completed_ns, None)

    def _row(self, position: int) -> dict[str, Any]:
        with self._lock:
            row: dict[str, Any] = self.session.row(position)
        return row

    @functools.cached_property
    def _map_shape(self) -> tuple[tuple[int, ...], Any] | None:
        """Shape and type of the class maps that the model gives; None for other results."""
        if self.metadata.get("model", {}).get("result_type") != "Segmentation" or not len(self):
            return None
        try:
            data = self.at(0).restored.results[0]["data"]
            return data.shape, data.dtype
        except (AttributeError, LookupError, TypeError):
            return None


def _completed_ns(row: dict[str, Any]) -> int | None:
    stamp = row["completed_at"] or row["captured_at"]
    return None if stamp is None else utc_ns(stamp)
