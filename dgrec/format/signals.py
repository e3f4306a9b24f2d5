"""Signals: values over time that a program logs beside the frames.

A row has those that were logged since the previous row was written (column ``signals``). While no
frames come, they are kept in the metadata of the journal's batches, and readers give them to the
next row. Those after the last row are sealed in the session's metadata.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, NamedTuple

import pyarrow as pa

from dgrec import compute as pc
from dgrec.format.casting import FIRST_US, LAST_US
from dgrec.format.schema import SCHEMA, SIGNAL

#: The most values kept from a time without frames: ten names at 1 Hz for almost three hours.
MOST_WITHOUT_ROW = 100_000
#: Characters of a signal's name.
LONGEST_NAME = 200
_LIST: pa.DataType = SCHEMA.field("signals").type


class Signal(NamedTuple):
    """A value that was logged; the time is in nanoseconds of the session's clock."""

    name: str
    at_ns: int
    value: float


def _array_of(signals: Sequence[Signal]) -> pa.StructArray:
    """Return signals as items of the column."""
    names, times, values = zip(*signals, strict=True) if signals else ((), (), ())
    return _items(names, [time // 1000 for time in times], values)


def signals_column(signals: Sequence[Sequence[Signal]]) -> pa.Array:
    """Return what was logged before each row as the column ``signals``; null if it is nothing.

    At least one row must have some.
    """
    ends = accumulate(map(len, signals), initial=0)
    mask = pa.array([not of_row for of_row in signals])
    items = _array_of(list(chain.from_iterable(signals)))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), items, type=_LIST, mask=mask)


def signals_of(rows: pa.RecordBatch, index: int) -> pa.StructArray:
    """Return what the row at ``index`` has in its column ``signals``."""
    return rows.column("signals").slice(index, 1).flatten()


def with_signals(rows: pa.RecordBatch, found: Mapping[int, pa.StructArray]) -> pa.RecordBatch:
    """Return rows with the signals of some replaced, by their index; null where there are none."""
    at = rows.schema.get_field_index("signals")
    column = rows.column(at)
    chunks, done = [], 0
    for index in sorted(found):
        own = pa.nulls(1, column.type)
        if count := len(found[index]):
            ends = pa.array([0, count], pa.int32())
            own = pa.ListArray.from_arrays(ends, found[index], type=column.type)
        chunks += [column.slice(done, index - done), own]
        done = index + 1
    joined = pa.concat_arrays([*chunks, column.slice(done)])
    return rows.set_column(at, rows.schema.field(at), joined)


def with_earlier(rows: pa.RecordBatch, earlier: pa.StructArray) -> pa.RecordBatch:
    """Return rows with earlier signals added before those of the first row."""
    return with_signals(rows, {0: pa.concat_arrays([earlier, signals_of(rows, 0)])})


class WaitingSignals:
    """Signals logged while no frames came, kept for the next row: the last `MOST_WITHOUT_ROW`."""

    def __init__(self) -> None:
        self._chunks: list[pa.StructArray] = []
        self._count = 0
        self.left_out = 0

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def add(self, signals: pa.StructArray) -> None:
        self._chunks.append(signals)
        self._count += len(signals)
        while (excess := self._count - MOST_WITHOUT_ROW) > 0:
            oldest = self._chunks.pop(0)
            if len(oldest) > excess:
                self._chunks.insert(0, oldest.slice(excess))
            gone = min(excess, len(oldest))
            self._count -= gone
            self.left_out += gone

    def take(self) -> pa.StructArray:
        """Return them as one array, and wait for others."""
        found = self.joined()
        self._chunks, self._count = [], 0
        return found

    def joined(self) -> pa.StructArray:
        return pa.concat_arrays(self._chunks) if self._chunks else _array_of(())


# --- as JSON -----------------------------------------------------------------------------------


def as_note(signals: Sequence[Signal]) -> list[tuple[str, int, float]]:
    """Return signals as the metadata of a batch has them: name, microseconds since 1970, value."""
    return [(name, at_ns // 1000, value) for name, at_ns, value in signals]


def from_note(value: Any) -> pa.StructArray:
    """Return the signals in the metadata of a batch.

    Raises:
        ValueError: dgrec did not write them.
    """
    if not isinstance(value, list) or len(value) > MOST_WITHOUT_ROW:
        raise ValueError("a batch's signals are not a list of signals")
    for item in value:
        is_signal = isinstance(item, list) and list(map(type, item)) == [str, int, float]
        if not is_signal or len(item[0]) > LONGEST_NAME or not FIRST_US <= item[1] <= LAST_US:
            raise ValueError("a batch's signals are not a list of signals")
    return _items(*zip(*value, strict=True)) if value else _array_of(())


def as_metadata(signals: pa.StructArray) -> list[dict[str, Any]]:
    """Return signals as the metadata of a session has them."""
    names, times, values = signals.flatten()
    stamps = pc.strftime(times, "%Y-%m-%dT%H:%M:%SZ").to_pylist()  # with microseconds
    columns = names.to_pylist(), stamps, values.to_pylist()
    return [
        {"name": name, "at": at, "value": value} for name, at, value in zip(*columns, strict=True)
    ]


def from_metadata(metadata: Mapping[str, Any]) -> pa.StructArray:
    """Return the signals in the metadata of a session, without those that are incomplete."""
    found: list[tuple[str, int, float]] = []
    for item in metadata.get("signals", []):
        name, at, value = (item.get(key) for key in ("name", "at", "value"))
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            moment = dt.datetime.fromisoformat(at)
            since = moment - dt.datetime.fromtimestamp(0, dt.UTC)
            if name is not None and value is not None:
                found.append((name, since // dt.timedelta(microseconds=1), float(value)))
    return _items(*zip(*found, strict=True)) if found else _array_of(())


def _items(
    names: Sequence[str], times_us: Sequence[int], values: Sequence[float]
) -> pa.StructArray:
    columns = [
        pa.array(names, pa.string()),
        pa.array(times_us, pa.int64()).view(SIGNAL.field("at").type),
        pa.array(values, pa.float64()),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(SIGNAL))
