"""The labels of many frames at once, as numbers that numpy counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["labels_of", "rows_with_labels"]

_Array = np.ndarray[Any, Any]
#: Pairs of label and row that have a byte each; where there may be more, they are sorted.
_MOST_PAIRS = 4_000_000


def labels_of(detections: pa.ListArray) -> tuple[list[str | None], _Array, _Array]:
    """Return the labels in a column of detections; of each detection, which it has and its row.

    The last label is None: detections that have none.
    """
    labels = pc.struct_field(detections.flatten(), "label").dictionary_encode()
    names = [*labels.dictionary.to_pylist(), None]
    codes = labels.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
    rows = pc.list_parent_indices(detections).to_numpy(zero_copy_only=False)
    return names, codes.astype(np.int64), rows


def rows_with_labels(codes: _Array, rows: _Array, labels: int, count: int) -> list[_Array]:
    """Return for each of some labels in which of ``count`` rows it is, ascending."""
    pairs = codes * count + rows
    if labels * count <= _MOST_PAIRS:
        is_there = np.zeros(labels * count, bool)
        is_there[pairs] = True
        pairs = np.flatnonzero(is_there)
    else:
        pairs = np.unique(pairs)
    bounds = np.searchsorted(pairs, np.arange(1, labels) * count)
    return [part - code * count for code, part in enumerate(np.split(pairs, bounds))]
