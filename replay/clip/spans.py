"""Which moments of a session a clip is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dgrec.errors import QueryError
from dgrec.format import cuts_of
from dgrec.replay.footage import Timeline
from dgrec.replay.query import SqlReader, check_only_reads
from dgrec.session import Session

__all__ = ["Span", "spans_where"]


@dataclass(frozen=True, slots=True)
class Span:
    """Frames that follow one another: places in the session, from 0; ``end`` is not in it."""

    start: int
    end: int


def spans_where(
    session: Session, predicate: str, pad_us: int = 0, within: Span | None = None
) -> list[Span]:
    """Return the moments at which a DuckDB predicate on the view ``frames`` holds.

    Args:
        session: The session.
        predicate: Such as ``latency_ms > 100``.
        pad_us: Microseconds to add before and after each, on the session's time line. Moments
            that then overlap, or touch, become one.
        within: Where to look, and to end; everywhere by default.

    Raises:
        QueryError: DuckDB refuses the predicate.
    """
    text = f"SELECT frame FROM frames WHERE (\n{predicate}\n)"
    with SqlReader([session]) as reader:
        try:
            check_only_reads(reader.connection, text)
            matching = [
                number for batch in reader.stream(text).batches for number in batch[0].to_pylist()
            ]
        except QueryError as error:
            raise QueryError(f"--where {predicate!r}: {error}") from None
    frames, times = _times(session)
    limit = within or Span(0, len(frames))
    places = np.unique(np.searchsorted(frames, np.array(matching, np.int64)))
    spans: list[Span] = []
    for place in places[(places >= limit.start) & (places < limit.end)].tolist():
        start = int(np.searchsorted(times, times[place] - pad_us, "left"))
        end = int(np.searchsorted(times, times[place] + pad_us, "right"))
        start, end = max(start, limit.start), min(end, limit.end)
        if spans and start <= spans[-1].end:
            spans[-1] = Span(spans[-1].start, max(end, spans[-1].end))
        else:
            spans.append(Span(start, end))
    return spans


def _times(session: Session) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the number of each row's frame, and its microseconds on the session's time line."""
    frames: list[int] = []
    times: list[int] = []
    timeline = Timeline(cuts_of(session.metadata))
    for batch in session.batches(["frame", "media_time_s", "captured_at"]):
        for row in batch.to_pylist():
            frames.append(row["frame"])
            times.append(timeline.pts_us(row))
    return np.array(frames, np.int64), np.array(times, np.int64)
