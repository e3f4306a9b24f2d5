"""Totals of a session's rows, which every command shows."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from dgrec import compute as pc
from dgrec.format.casting import FIRST_US, LAST_US
from dgrec.format.metadata import is_live, utc_text
from dgrec.format.schema import SCHEMA

#: Columns of frames that were lost, by the place where they were lost.
DROPPED = ("dropped_camera", "dropped_queue", "dropped_writer")
#: Totals of source frames that have no row, and the column that each adds up.
LOSSES = {
    "skipped": "skipped_before",
    "dropped": "dropped_before",
    **{name: name for name in DROPPED},
}
#: Of these frames, those lost while the model started.
AT_START = {
    f"{name}_at_start": column for name, column in LOSSES.items() if name.startswith("dropped")
}
#: Columns that may hold NaN or infinities.
FLOATS = frozenset(column.name for column in SCHEMA if pa.types.is_floating(column.type))
#: Larger numbers are not measurements: sums and squares of 1e308 are infinite.
LARGEST_MEASUREMENT = 1e15
#: Columns that `RowTotals.add` looks at.
TOTALLED = ("frame", "captured_at", "completed_at", *LOSSES.values(), "detections")
#: Later than any stamp.
_NEVER = 2**63 - 1


class StampBounds:
    """The earliest and the latest of some stamps, in microseconds since 1970."""

    def __init__(self) -> None:
        self.first_us: int | None = None
        self.last_us: int | None = None
        #: How many of them are null.
        self.missing = 0

    def add(self, stamps: pa.Array | pa.ChunkedArray) -> None:
        self.missing += stamps.null_count
        first, last = pc.min_max(stamps).as_py().values()
        if first is not None:
            self.first_us = first if self.first_us is None else min(first, self.first_us)
            self.last_us = last if self.last_us is None else max(last, self.last_us)

    @property
    def known(self) -> tuple[int, int] | None:
        """The earliest and the latest; None if a row has no stamp."""
        if self.missing or self.first_us is None or self.last_us is None:
            return None
        return self.first_us, self.last_us

    @property
    def seconds(self) -> float:
        """From the earliest to the latest; 0 without any."""
        return ((self.last_us or 0) - (self.first_us or 0)) / 1e6


class RowTotals:
    """Adds up rows, batch by batch.

    A count that is null in every row, or has no column, is unknown: None, not 0.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.detections = 0
        #: Values that were logged beside the frames.
        self.signals = 0
        self._losses: dict[str, int] = {}
        #: When the frames were captured, and when their results came.
        self.captured, self.completed = StampBounds(), StampBounds()
        self._start = StartLosses()
        #: Whether every float of the rows' own columns is a measurement, or null.
        self.is_finite = True

    def add(self, rows: pa.RecordBatch | pa.Table) -> None:
        self.frames += rows.num_rows
        lists = rows.column("detections")
        if not pa.types.is_null(lists.type):
            self.detections += pc.sum(pc.list_value_length(lists)).as_py() or 0
        if "signals" in rows.schema.names:
            self.signals += pc.sum(pc.list_value_length(rows.column("signals"))).as_py() or 0
        for name, column in LOSSES.items():
            if column in rows.schema.names:
                total = pc.sum(rows.column(column)).as_py()
                if total is not None:
                    self._losses[name] = self._losses.get(name, 0) + int(total)
        if rows.num_rows:
            with contextlib.suppress(pa.ArrowException):
                self._start.add(rows)
        for name, bounds in (("captured_at", self.captured), ("completed_at", self.completed)):
            if name in rows.schema.names:
                with contextlib.suppress(pa.ArrowException):
                    stamps = rows.column(name).cast(pa.timestamp("us", "UTC"), safe=False)
                    bounds.add(stamps.cast(pa.int64()))
        if self.is_finite:
            floats = (rows.column(name) for name in rows.schema.names if name in FLOATS)
            self.is_finite = all(
                _is_measured(column) for column in floats if pa.types.is_floating(column.type)
            )

    def losses(self, metadata: Mapping[str, Any]) -> dict[str, int | None]:
        """Return the frames left out and lost before these rows: `LOSSES` and `AT_START`."""
        losses = {name: self._losses.get(name, None if self.frames else 0) for name in LOSSES}
        at_start = self._start.counts() if loses_at_start(metadata) else {}
        for name in AT_START:
            in_all = losses[name.removesuffix("_at_start")]
            losses[name] = None if in_all is None else at_start.get(name, 0)
        return losses

    @property
    def is_start_over(self) -> bool:
        """Return whether no later row can have lost anything while the model started."""
        return self._start.is_over

    @property
    def ended_at(self) -> str | None:
        """The time of the last result, as metadata writes stamps; None if unknown."""
        if self.completed.last_us is None:
            return None
        with contextlib.suppress(ValueError, OverflowError, OSError):
            return utc_text(self.completed.last_us * 1000)
        return None

    def to_dict(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the known totals as ``totals`` of the metadata."""
        losses = self.losses(metadata).items()
        known = {name: count for name, count in losses if count is not None}
        signals = {"signals": self.signals} if self.signals else {}
        return {"frames": self.frames, "detections": self.detections, **known, **signals}


def _is_measured(column: pa.ChunkedArray) -> bool:
    sizes = pc.abs(column.cast(pa.float64()))
    return pc.all(pc.less_equal(sizes, LARGEST_MEASUREMENT)).as_py() is not False


def loses_at_start(metadata: Mapping[str, Any]) -> bool:
    """Return whether losses while the model started are counted apart.

    Footage waits for the model, and a clip does not begin with its recording.
    """
    return is_live(metadata) and "clip" not in metadata


def since_start(totals: Mapping[str, Any]) -> dict[str, Any]:
    """Return totals whose ``dropped`` leaves out losses while the model started.

    That is how every command counts it. In the metadata's ``totals``, ``dropped`` has all losses.
    """
    found = dict(totals)
    for name in AT_START:
        in_all, at_start = totals.get(name.removesuffix("_at_start")), totals.get(name)
        if in_all is not None and at_start is not None:
            found[name.removesuffix("_at_start")] = in_all - at_start
    return found


class StartLosses:
    """Counts losses while the model started, as ``frame_losses`` of the SQL library does."""

    def __init__(self) -> None:
        self._is_begun = False
        self._before_us = _NEVER
        self._first_result_us = _NEVER
        #: For rows that may belong to the start: when the frame before was captured, and what was
        #: lost, in a row for each of `AT_START`.
        self._before = np.empty(0, np.int64)
        self._lost = np.empty((len(AT_START), 0), np.int64)

    def add(self, rows: pa.RecordBatch | pa.Table) -> None:
        frame = _integers(rows, "frame", -1)
        captured = _integers(rows, "captured_at", _NEVER)
        completed = _integers(rows, "completed_at", _NEVER)
        lost = np.stack([_integers(rows, column, 0) for column in AT_START.values()])
        before = np.concatenate([[self._before_us], captured[:-1]])
        if not self._is_begun and frame[0] == 0:
            before[0] = -_NEVER
        elif not self._is_begun:
            self._first_result_us = -_NEVER  # earlier rows exist: the model had started
        self._is_begun, self._before_us = True, int(captured[-1])
        self._first_result_us = min(self._first_result_us, int(completed.min()))
        early = (before <= self._first_result_us) & lost.any(axis=0)
        self._before = np.concatenate([self._before, before[early]])
        self._lost = np.concatenate([self._lost, lost[:, early]], axis=1)

    @property
    def is_over(self) -> bool:
        """Return whether no later row can have lost anything while the model started."""
        return self._is_begun and self._before_us > self._first_result_us

    def counts(self) -> dict[str, int]:
        """Return the frames lost, by the names of `AT_START`."""
        if self._first_result_us == _NEVER:
            return dict.fromkeys(AT_START, 0)
        counts = self._lost[:, self._before <= self._first_result_us].sum(axis=1)
        return dict(zip(AT_START, counts.tolist(), strict=True))


def _integers(
    rows: pa.RecordBatch | pa.Table, name: str, default: int
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return a column; ``default`` where it is null or missing, or a stamp is not a date."""
    if name not in rows.schema.names:
        return np.full(rows.num_rows, default, np.int64)
    column = rows.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
        # Stamps beyond all dates are read as the first or the last date.
        is_date = pc.and_(pc.greater(column, FIRST_US), pc.less(column, LAST_US))
        column = pc.if_else(is_date, column, None)
    values = pc.fill_null(column.cast(pa.int64()), default)
    return np.asarray(values.to_numpy(), dtype=np.int64)


def add_rows(
    counted: Mapping[str, Any], rows: Mapping[str, int], *, damaged: bool = False
) -> dict[str, Any]:
    """Return the recorder's totals, corrected by those of the rows.

    Frames that the recorder counted after the last row are ``skipped_after``, ``dropped_after`` and
    so on; not in a ``damaged`` session, where they may belong to rows that are missing.
    """
    totals = {**counted, **rows}
    for name in LOSSES:
        said = counted.get(name)
        if not damaged and isinstance(said, int) and said > rows.get(name, said):
            totals[f"{name}_after"] = said - rows[name]
    return totals
