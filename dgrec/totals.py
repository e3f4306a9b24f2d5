"""What the rows of a session add up to: the figures that every command shows of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dgrec.metadata import utc_text
from dgrec.schema import SCHEMA

__all__ = ["FLOATS", "LOSSES", "TOTALLED", "RowTotals", "add_rows"]

#: Totals of source frames that are not among the rows, and the column that each adds up.
LOSSES = {
    "skipped": "skipped_before",
    "dropped": "dropped_before",
    "dropped_camera": "dropped_camera",
    "dropped_queue": "dropped_queue",
    "dropped_writer": "dropped_writer",
}
#: Columns of numbers that may not be finite.
FLOATS = frozenset(column.name for column in SCHEMA if pa.types.is_floating(column.type))
_AT_ONCE = 16
#: Columns that `RowTotals.add` looks at.
TOTALLED = ("completed_at", *LOSSES.values(), "detections")


class RowTotals:
    """Adds up rows, batch by batch.

    A count that no row has (NULL in all of them, or no such column) is not known: None, not 0.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._detections = 0
        self._losses: dict[str, int] = {}
        self._last_us: int | None = None
        self._is_finite = True
        # A journal has a batch for every half second: one at a time would take as long as reading.
        self._waiting: list[pa.RecordBatch] = []

    def add(self, rows: pa.RecordBatch | pa.Table) -> None:
        self.frames += rows.num_rows
        if isinstance(rows, pa.Table):
            self._add(rows)
            return
        self._waiting.append(rows)
        if len(self._waiting) >= _AT_ONCE:
            self._add_waiting()

    def _add_waiting(self) -> None:
        if self._waiting:
            rows, self._waiting = pa.Table.from_batches(self._waiting), []
            self._add(rows)

    def _add(self, rows: pa.Table) -> None:
        lists = rows.column("detections")
        if not pa.types.is_null(lists.type):
            self._detections += pc.sum(pc.list_value_length(lists)).as_py() or 0
        for name, column in LOSSES.items():
            if column in rows.schema.names:
                total = pc.sum(rows.column(column)).as_py()
                if total is not None:
                    self._losses[name] = self._losses.get(name, 0) + int(total)
        if "completed_at" in rows.schema.names:
            with contextlib.suppress(pa.ArrowException):
                stamps = rows.column("completed_at").cast(pa.timestamp("us", "UTC"), safe=False)
                last = pc.max(stamps.cast(pa.int64())).as_py()
                if last is not None:
                    self._last_us = max(last, self._last_us or last)
        if self._is_finite:
            floats = (rows.column(name) for name in rows.schema.names if name in FLOATS)
            self._is_finite = all(
                pc.all(pc.is_finite(column)).as_py() is not False
                for column in floats
                if pa.types.is_floating(column.type)
            )

    @property
    def detections(self) -> int:
        self._add_waiting()
        return self._detections

    @property
    def is_finite(self) -> bool:
        """Whether every number of the rows' own columns is finite, or null."""
        self._add_waiting()
        return self._is_finite

    @property
    def losses(self) -> dict[str, int | None]:
        """Source frames left out and lost before the rows, by what `LOSSES` calls them."""
        self._add_waiting()
        return {name: self._losses.get(name, None if self.frames else 0) for name in LOSSES}

    @property
    def ended_at(self) -> str | None:
        """When the last result came, as the metadata writes stamps; None if no row says."""
        self._add_waiting()
        if self._last_us is None:
            return None
        with contextlib.suppress(ValueError, OverflowError, OSError):
            return utc_text(self._last_us * 1000)
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return them as ``totals`` of the metadata, without what is not known."""
        known = {name: count for name, count in self.losses.items() if count is not None}
        return {"frames": self.frames, "detections": self.detections, **known}


def add_rows(
    counted: Mapping[str, Any], rows: Mapping[str, int], *, damaged: bool = False
) -> dict[str, Any]:
    """Return the recorder's totals with those of the rows in their place.

    The recorder also counts source frames that it left out or lost after the last row. No row tells
    of them: they are ``skipped_after``, ``dropped_after`` and so on. Not where the session is
    ``damaged``: rows that are lost may have told of them.
    """
    totals = {**counted, **rows}
    for name in LOSSES:
        said = counted.get(name)
        if not damaged and isinstance(said, int) and said > rows.get(name, said):
            totals[f"{name}_after"] = said - rows[name]
    return totals
