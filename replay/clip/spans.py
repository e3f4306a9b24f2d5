"""The spans of a session that a clip is made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dgrec.errors import QueryError
from dgrec.footage import session_times
from dgrec.replay.query import SqlReader
from dgrec.session import Session
from dgrec.sql import EXAMPLE, frame_condition


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive frames, by position in the session, from ``start`` to before ``end``."""

    start: int
    end: int


def spans_where(
    session: Session, predicate: str, pad_us: int = 0, within: Span | None = None
) -> list[Span]:
    """Return the spans in which a DuckDB predicate on the view ``frames`` holds.

    Args:
        predicate: Such as ``latency_ms > 100``; see `dgrec.sql.conditions`.
        pad_us: Microseconds to add before and after each, on the session's time line. Spans that
            then overlap or touch become one.
        within: Limits of all spans; by default the whole session.

    Raises:
        QueryError: DuckDB refuses the predicate.
    """
    text = f"SELECT frame FROM frames WHERE (\n{frame_condition(predicate)}\n)"
    with SqlReader([session]) as reader:
        try:
            reader.check(text)
            matching = [batch[0].to_numpy() for batch in reader.stream(text).batches]
        except QueryError as error:
            raise QueryError(
                f"--where {predicate!r}: {error}; expected a condition on frames, {EXAMPLE}"
            ) from None
    frames = _joined(batch.column(0).to_numpy() for batch in session.batches(["frame"]))
    limit = within or Span(0, len(frames))
    places = np.unique(np.searchsorted(frames, _joined(matching)))
    places = places[(places >= limit.start) & (places < limit.end)]
    if not len(places):
        return []
    starts, ends = places, places + 1
    if pad_us:
        times = _joined(session_times(session))
        starts = np.searchsorted(times, times[places] - pad_us, "left")
        ends = np.searchsorted(times, times[places] + pad_us, "right")
    starts, ends = np.maximum(starts, limit.start), np.minimum(ends, limit.end)
    # Both are ascending: a new span begins where one starts after the end of the one before.
    begins = np.concatenate([[True], starts[1:] > ends[:-1]])
    last = np.append(np.flatnonzero(begins)[1:] - 1, len(ends) - 1)
    return list(map(Span, starts[begins].tolist(), ends[last].tolist()))


def _joined(parts: Iterable[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return np.concatenate([np.empty(0, np.int64), *parts])
