"""Labels of many frames at once, as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from dgrec import compute as pc
from dgrec.format.schema import LABEL_LEAF, SCHEMA, SCORE_LEAF
from dgrec.format.totals import LARGEST_MEASUREMENT

#: For each label in a frame: its detections, how many of them have a score, the sum of scores.
FRAME_LABELS = pa.schema(
    [
        ("frame", pa.int64()),
        ("captured_at", SCHEMA.field("captured_at").type),
        ("label", pa.dictionary(pa.int32(), pa.string())),
        ("detections", pa.int64()),
        ("scored", pa.int64()),
        ("score", pa.float64()),
    ]
)
#: The columns needed for it.
FRAME_LABELS_COLUMNS = ["frame", "captured_at", LABEL_LEAF, SCORE_LEAF]
#: For each label: its detections, the frames that have it, and the scored detections as above.
LABEL_COUNTS = pa.schema(
    [
        ("label", pa.string()),
        ("detections", pa.int64()),
        ("frames", pa.int64()),
        ("scored", pa.int64()),
        ("score", pa.float64()),
    ]
)
LABEL_COUNTS_COLUMNS = [LABEL_LEAF, SCORE_LEAF]
_Array = np.ndarray[Any, Any]
#: Up to this many possible pairs of label and row are marked in a byte each; more are sorted.
_MOST_PAIRS = 4_000_000


def labels_of(detections: pa.ListArray) -> tuple[list[str | None], _Array, _Array]:
    """Return the labels in a column of detections; for each detection, its label's number and row.

    The last label is None, for detections without one.
    """
    labels = pc.struct_field(detections.flatten(), "label").dictionary_encode()
    names = [*labels.dictionary.to_pylist(), None]
    codes = labels.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
    rows = pc.list_parent_indices(detections).to_numpy(zero_copy_only=False)
    return names, codes.astype(np.int64), rows


def rows_with_labels(codes: _Array, rows: _Array, labels: int, count: int) -> list[_Array]:
    """Return for each label the rows (of ``count``) that have it, ascending."""
    pairs = _different(codes * count + rows, labels * count)
    bounds = np.searchsorted(pairs, np.arange(1, labels) * count)
    return [part - code * count for code, part in enumerate(np.split(pairs, bounds))]


def frame_labels(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a row for each frame and each label in it (`FRAME_LABELS`).

    Args:
        batch: Rows with their ``frame``, ``captured_at``, and labels and scores of detections.
    """
    column = batch.column("detections")
    names, codes, rows = labels_of(column)
    pairs, at = _pairs(codes * batch.num_rows + rows, len(names) * batch.num_rows)
    code, row = np.divmod(pairs, batch.num_rows) if len(pairs) else (pairs, pairs)
    arrays = [
        batch.column("frame").take(pa.array(row)),
        batch.column("captured_at").take(pa.array(row)),
        pa.DictionaryArray.from_arrays(
            pa.array(code, pa.int32(), mask=code == len(names) - 1),
            pa.array(names[:-1], pa.string()),
        ),
        pa.array(np.bincount(at, minlength=len(pairs))),
        *_scores(column, at, len(pairs)),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=FRAME_LABELS)


def label_counts(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a row for each label (`LABEL_COUNTS`): `frame_labels`, summed over the frames.

    Args:
        batch: Rows with labels and scores of their ``detections``.
    """
    column = batch.column("detections")
    names, codes, rows = labels_of(column)
    frames = map(len, rows_with_labels(codes, rows, len(names), batch.num_rows))
    arrays = [
        pa.array(names, pa.string()),
        pa.array(np.bincount(codes, minlength=len(names))),
        pa.array(frames, pa.int64()),
        *_scores(column, codes, len(names)),
    ]
    counts = pa.RecordBatch.from_arrays(arrays, schema=LABEL_COUNTS)
    return counts.filter(pc.greater(counts.column("detections"), 0))


def _scores(detections: pa.ListArray, group: _Array, groups: int) -> tuple[pa.Array, pa.Array]:
    """Return how many detections of each group have a score, and the sum of these scores."""
    score = pc.struct_field(detections.flatten(), "score").to_numpy(zero_copy_only=False)
    is_scored = np.abs(score) <= LARGEST_MEASUREMENT  # False for NaN
    scored = np.bincount(group if is_scored.all() else group[is_scored], minlength=groups)
    total = np.bincount(group, np.where(is_scored, score, 0), groups)
    return pa.array(scored), pa.array(total, mask=scored == 0)


def _pairs(numbers: _Array, most: int) -> tuple[_Array, _Array]:
    """Return `_different` numbers, and the index of each number among them."""
    if most > _MOST_PAIRS:
        return np.unique(numbers, return_inverse=True)
    different = _different(numbers, most)
    places = np.empty(most, np.int64)
    places[different] = np.arange(len(different))
    return different, places[numbers]


def _different(numbers: _Array, most: int) -> _Array:
    """Return the distinct numbers, all of them below ``most``, ascending."""
    if most > _MOST_PAIRS:
        return np.unique(numbers)
    is_there = np.zeros(most, bool)
    is_there[numbers] = True
    return np.flatnonzero(is_there)
