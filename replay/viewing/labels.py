"""The labels of all detections of a session, as numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.format import LABEL_LEAF, labels_of

if TYPE_CHECKING:
    from dgrec.session import Session

#: Bytes of numbers that are kept in memory: with more detections, they are read again.
_MOST_KEPT: Final = 64_000_000

_Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class SessionLabels:
    """The label of each detection, in the order of the rows.

    Args:
        counts: How many detections each label has.
        numbers: The number of each label in `codes`.
        codes: The number of each detection's label; None: there are too many.
        ends: Where the detections of each row end in `codes`.
    """

    counts: dict[str, int]
    numbers: dict[str | None, int]
    codes: _Array | None
    ends: _Array

    def rows(
        self, session: Session, column: str, start: int, stop: int
    ) -> Iterator[tuple[pa.Array, RowLabels]]:
        """Yield a column of some rows, a part at a time, with the labels in these rows."""
        if self.codes is None:
            for batch in session.batches([column, LABEL_LEAF], start, stop):
                names, codes, _ = labels_of(batch.column(1))
                numbers = {name: number for number, name in enumerate(names)}
                yield batch.column(0), RowLabels(numbers, codes, _lengths(batch.column(1)))
            return
        for batch in session.batches([column], start, stop):
            ends = self.ends[start : start + batch.num_rows]
            began = int(self.ends[start - 1]) if start else 0
            codes = self.codes[began : int(ends[-1]) if len(ends) else began]
            yield batch.column(0), RowLabels(self.numbers, codes, np.diff(ends, prepend=began))
            start += batch.num_rows


@dataclass(frozen=True, eq=False)
class RowLabels:
    """The labels of some rows: the number of each detection's label, and each row's detections."""

    numbers: dict[str | None, int]
    codes: _Array
    lengths: _Array

    def count(self, label: str) -> _Array:
        """Return how many detections of a label each row has."""
        found = np.zeros(len(self.lengths), np.int64)
        number = self.numbers.get(label)
        has_some = self.lengths > 0
        if number is not None and has_some.any():
            starts = (np.cumsum(self.lengths) - self.lengths)[has_some]
            found[has_some] = np.add.reduceat(self.codes == number, starts, dtype=np.int64)
        return found


def read_labels(session: Session, check: Callable[[], None] = lambda: None) -> SessionLabels:
    """Read the labels of a session, from the column of labels alone.

    Args:
        check: Called repeatedly; what it raises ends the reading.
    """
    numbers: dict[str | None, int] = {}
    counts = np.zeros(0, np.int64)
    parts: list[_Array] | None = []
    lengths: list[_Array] = []
    kept = 0
    for batch in session.batches([LABEL_LEAF]):
        check()
        names, codes, _ = labels_of(batch.column(0))
        places = np.array([numbers.setdefault(name, len(numbers)) for name in names])
        many = np.bincount(codes, minlength=len(names))
        counts = np.pad(counts, (0, len(numbers) - len(counts)))
        np.add.at(counts, places, many)
        if parts is None:
            continue
        of_all = places.astype(np.min_scalar_type(len(numbers)))
        parts.append(of_all[codes])
        lengths.append(_lengths(batch.column(0)))
        kept += parts[-1].nbytes + 8 * batch.num_rows
        if kept > _MOST_KEPT:
            parts = None
            lengths.clear()
    found = dict(zip(numbers, counts.tolist(), strict=True))
    return SessionLabels(
        {label: count for label, count in found.items() if label is not None and count},
        numbers,
        None if parts is None else np.concatenate([np.zeros(0, np.uint8), *parts]),
        np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths])),
    )


def _lengths(detections: pa.ListArray) -> _Array:
    lengths = pc.fill_null(pc.list_value_length(detections), 0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), np.int64)
