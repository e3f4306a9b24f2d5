"""What a comparison reads of one session: durations and stamps of each frame, warm-up apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from dgrec.comparison.blocks import Floats, mean_variance
from dgrec.comparison.changes import Series

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["DROP_PLACES", "STAGES", "Integers", "Sample", "read_sample"]

Integers = np.ndarray[Any, np.dtype[np.int64]]

#: Columns that are compared, in the order of a frame's way. ``recorder_ms`` is not among them: it
#: is what recording cost, no stage of the pipeline.
STAGES: Final = ("read_ms", "preprocess_ms", "inference_ms", "postprocess_ms", "latency_ms")
DROP_PLACES: Final = ("camera", "queue", "writer")

#: A gap between two results longer than so many times the median one, and so long, is a stall.
STALL_TIMES: Final = 3.0
STALL_MS: Final = 100.0


@dataclass
class Sample:
    """The frames of one session; arrays leave out those of the warm-up.

    ``stages`` has NaN where a frame has no such duration.
    """

    path: str
    session_id: str
    #: All frames of the session.
    frames: int
    #: Frames left out at its beginning.
    warm_up: int
    #: Whether the end of the warm-up was found; if not, nothing is left out.
    has_settled: bool
    source_frame: Integers
    completed_us: Integers
    stages: Mapping[str, Floats]
    #: Source frames lost and left out on purpose, over the whole session.
    dropped: Mapping[str, int] = field(default_factory=dict)
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.completed_us)

    def between(self, first: int, last: int) -> Sample:
        """Return the same with only the frames from one ``source_frame`` to another."""
        kept = (self.source_frame >= first) & (self.source_frame <= last)
        return replace(
            self,
            source_frame=self.source_frame[kept],
            completed_us=self.completed_us[kept],
            stages={name: values[kept] for name, values in self.stages.items()},
        )

    @property
    def seconds(self) -> float:
        """From the first result to the last, without the warm-up."""
        if not len(self):
            return 0.0
        return float(self.completed_us[-1] - self.completed_us[0]) / 1e6

    @property
    def second(self) -> int:
        """Frames in a second, at least 1."""
        return max(round((len(self) - 1) / self.seconds), 1) if self.seconds > 0 else 1

    @property
    def gaps(self) -> Series:
        """Milliseconds from each result to the next."""
        return Series(np.diff(self.completed_us) / 1000.0, self.second)

    def stage(self, name: str) -> Series:
        values = self.stages[name]
        return Series(values[~np.isnan(values)], self.second)

    @property
    def stalls(self) -> tuple[int, float]:
        """How often no result came for three times as long as usual, and for 100 ms.

        The second number is how many independent events that counts for: stalls come in clusters.
        """
        gaps = self.gaps
        if not len(gaps):
            return 0, 0.0
        limit = max(STALL_TIMES * gaps.quantile(0.5), STALL_MS)
        is_long = (gaps.values > limit).astype(np.float64)
        count = int(is_long.sum())
        share = count / len(is_long)
        if not count or gaps.block is None:
            return count, float(count)
        variance = mean_variance(is_long, gaps.block)
        clustering = variance * len(is_long) / (share * (1 - share))
        return count, count / max(clustering, 1.0)


def read_sample(session: Session) -> Sample:
    """Read what a comparison needs of a session: 64 bytes of memory a frame.

    Raises:
        SessionError: Part of the file cannot be read.
    """
    counts = [f"dropped_{place}" for place in DROP_PLACES] + ["skipped_before"]
    names = ["source_frame", "completed_at", *STAGES]
    parts: dict[str, list[Any]] = {name: [] for name in names}
    totals = dict.fromkeys(counts, 0)
    for batch in session.batches([*names, *counts]):
        for name in names:
            parts[name].append(_numbers(batch.column(name)))
        for name in counts:
            totals[name] += int(_numbers(batch.column(name)).sum())
    columns = {
        name: np.concatenate(arrays) if arrays else np.empty(0) for name, arrays in parts.items()
    }
    completed = columns["completed_at"].astype(np.int64)
    has_settled, warm_up = _warm_up(session)
    kept = slice(warm_up, None)
    return Sample(
        path=str(session.path),
        session_id=session.id,
        frames=len(completed),
        warm_up=warm_up,
        has_settled=has_settled,
        source_frame=columns["source_frame"].astype(np.int64)[kept],
        completed_us=completed[kept],
        stages={name: columns[name].astype(np.float64)[kept] for name in STAGES},
        dropped={place: totals[f"dropped_{place}"] for place in DROP_PLACES},
        skipped=totals["skipped_before"],
    )


def _warm_up(session: Session) -> tuple[bool, int]:
    """Return whether a session settled, and how many rows come before that (docs/sql.md)."""
    # The rule stands in SQL, where everybody can read it.
    rows = session.sql("SELECT has_settled, warm_up_frames FROM warm_up").fetchall()
    return (bool(rows[0][0]), int(rows[0][1])) if rows else (False, 0)


def _numbers(column: pa.Array) -> np.ndarray[Any, Any]:
    """Return a column as numbers: stamps as integers, NaN for null."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values: np.ndarray[Any, Any] = column.to_numpy(zero_copy_only=False)
    return values
