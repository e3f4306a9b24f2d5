"""Detections that a condition keeps."""

from __future__ import annotations

from typing import Any

import numpy as np

from dgrec.errors import QueryError
from dgrec.replay.query import DetectionFilter, SqlReader
from dgrec.replay.viewing.time_line import time_line
from dgrec.session import Session

#: Rows in one request.
MOST_ROWS = 1_000


def matches(session: Session, reader: SqlReader, text: str, start: int, end: int) -> dict[str, Any]:
    """Return the detections of some rows that a DuckDB condition over ``detections`` keeps.

    Args:
        reader: A connection over just this session.
        text: The condition, as of ``dgrec replay --detections-where``.
        start: Position of the first row.
        end: Position to stop before; at most `MOST_ROWS` further.

    Returns ``from``, ``to`` and ``keep``: indices of detections, by the position of their row.

    Raises:
        QueryError: DuckDB refuses the condition, or it is not a stretch of rows.
    """
    count = len(session)
    start, end = max(start, 0), min(end, count)
    if end - start > MOST_ROWS:
        raise QueryError(f"{end - start:,} rows at once; expected at most {MOST_ROWS:,}")
    found: dict[str, list[int]] = {}
    if start < end:
        times = time_line(session, reader)
        frames = [b.column(0).to_numpy() for b in session.batches(["frame"], start, end)]
        first, last = int(frames[0][0]), int(frames[-1][-1])
        chosen = DetectionFilter(session, text, reader=reader, name="condition")
        numbers, indices = chosen.between(first, last + 1)
        for i, index in zip(
            times.positions(np.asarray(numbers)).tolist(), indices.tolist(), strict=True
        ):
            found.setdefault(str(i), []).append(index)
    return {"from": start, "to": end, "keep": found}
