"""What the rows of a session add up to: the figures that every command shows of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.format.metadata import utc_text
from dgrec.format.schema import SCHEMA

__all__ = ["FLOATS", "LARGEST_MEASUREMENT", "LOSSES", "TOTALLED", "RowTotals", "add_rows"]

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
#: A larger number in one of them is no measurement: sums and squares of 1e308 are infinite.
LARGEST_MEASUREMENT = 1e15
_AT_ONCE = 16
#: Columns that `RowTotals.add` looks at.
TOTALLED = ("frame", "captured_at", "completed_at", *LOSSES.values(), "detections")
#: More than any stamp.
_NEVER = 2**63 - 1


class RowTotals:
    """Adds up rows, batch by batch.

    A count that no row has (NULL in all of them, or no such column) is not known: None, not 0.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._detections = 0
        self._losses: dict[str, int] = {}
        self._last_us: int | None = None
        self._start = _StartLosses()
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
        if rows.num_rows and set(_StartLosses.COLUMNS) <= set(rows.schema.names):
            with contextlib.suppress(pa.ArrowException):
                self._start.add(rows)
        if "completed_at" in rows.schema.names:
            with contextlib.suppress(pa.ArrowException):
                stamps = rows.column("completed_at").cast(pa.timestamp("us", "UTC"), safe=False)
                last = pc.max(stamps.cast(pa.int64())).as_py()
                if last is not None:
                    self._last_us = max(last, self._last_us or last)
        if self._is_finite:
            floats = (rows.column(name) for name in rows.schema.names if name in FLOATS)
            self._is_finite = all(
                _is_measured(column) for column in floats if pa.types.is_floating(column.type)
            )

    @property
    def detections(self) -> int:
        self._add_waiting()
        return self._detections

    @property
    def is_finite(self) -> bool:
        """Whether every number of the rows' own columns is a measurement, or null."""
        self._add_waiting()
        return self._is_finite

    @property
    def losses(self) -> dict[str, int | None]:
        """Source frames left out and lost before the rows, by what `LOSSES` calls them."""
        self._add_waiting()
        losses = {name: self._losses.get(name, None if self.frames else 0) for name in LOSSES}
        if losses["dropped"] is None:
            return {**losses, "dropped_at_start": None}
        return {**losses, "dropped_at_start": self._start.count() if self.frames else 0}

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


def _is_measured(column: pa.ChunkedArray) -> bool:
    sizes = pc.abs(column.cast(pa.float64()))
    return pc.all(pc.less_equal(sizes, LARGEST_MEASUREMENT)).as_py() is not False


class _StartLosses:
    """Counts what was lost while the model started, as ``frame_losses`` of the SQL library does."""

    COLUMNS = ("frame", "captured_at", "completed_at", "dropped_before")

    def __init__(self) -> None:
        self._is_begun = False
        self._before_us = _NEVER
        self._first_result_us = _NEVER
        #: (when the frame before was captured, frames lost), for rows that may belong to the start.
        self._losses: list[tuple[int, int]] = []

    def add(self, rows: pa.RecordBatch | pa.Table) -> None:
        frame, captured, completed, dropped = (
            _integers(rows.column(name), default)
            for name, default in zip(self.COLUMNS, (-1, _NEVER, _NEVER, 0), strict=True)
        )
        before = np.concatenate([[self._before_us], captured[:-1]])
        if not self._is_begun and frame[0] == 0:
            before[0] = -_NEVER
        elif not self._is_begun:
            self._first_result_us = -_NEVER  # others went before: the model had started
        self._is_begun, self._before_us = True, int(captured[-1])
        self._first_result_us = min(self._first_result_us, int(completed.min()))
        early = np.flatnonzero((before <= self._first_result_us) & (dropped > 0))
        self._losses += zip(before[early].tolist(), dropped[early].tolist(), strict=True)

    def count(self) -> int:
        first_us = self._first_result_us
        if first_us == _NEVER:
            return 0
        return sum(lost for before_us, lost in self._losses if before_us <= first_us)


def _integers(column: pa.Array | pa.ChunkedArray, default: int) -> np.ndarray[Any, Any]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    values = pc.fill_null(column.cast(pa.int64()), default)
    return np.asarray(values.to_numpy(), dtype=np.int64)


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
