"""How often each label was detected, of recordings of any length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from dgrec.footage import labels_of, rows_with_labels
from dgrec.format import LABEL_LEAF, SCORE_LEAF

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["LabelCount", "count_labels"]


@dataclass
class LabelCount:
    """Detections of one label; None stands for detections that have no label."""

    label: str | None
    detections: int = 0
    #: Frames with at least one.
    frames: int = 0
    #: Detections with a score, and the sum of their scores.
    scored: int = 0
    score: float = 0.0

    @property
    def mean_score(self) -> float | None:
        return self.score / self.scored if self.scored else None


def count_labels(session: Session) -> list[LabelCount]:
    """Count a session's detections by label, the most frequent first.

    The numbers are those of the library's ``label_rate``. DuckDB reads every field of all
    detections for them, which takes ten times as long as these two.

    Raises:
        SessionError: Part of the file cannot be read.
    """
    found: dict[str | None, LabelCount] = {}
    for batch in session.batches([LABEL_LEAF, SCORE_LEAF]):
        column = batch.column("detections")
        names, codes, rows = labels_of(column)
        score = pc.struct_field(column.flatten(), "score").to_numpy(zero_copy_only=False)
        is_scored = np.isfinite(score)
        counts = zip(
            names,
            np.bincount(codes, minlength=len(names)).tolist(),
            map(len, rows_with_labels(codes, rows, len(names), batch.num_rows)),
            np.bincount(codes[is_scored], minlength=len(names)).tolist(),
            np.bincount(codes, np.where(is_scored, score, 0), len(names)).tolist(),
            strict=True,
        )
        for name, detections, frames, scored, total in counts:
            if detections:
                label = found.setdefault(name, LabelCount(name))
                label.detections += detections
                label.frames += frames
                label.scored += scored
                label.score += total
    return sorted(found.values(), key=_order)


def _order(count: LabelCount) -> tuple[int, bool, str]:
    return -count.detections, count.label is None, count.label or ""
