"""Marks on the time line: drops, gaps, late frames, events and alerts.

=======  ==========================================================================================
drops    source frames that were lost before a frame (``frame_losses`` in the SQL library)
gaps     times without a result (``stalls``), and events of the kind ``gap``
late     late frames, and what was to blame (``late_frames``)
events   the other events of the recording, such as the program's marks (``events``)
alerts   when rules fired (``alerts``)
=======  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dgrec.errors import QueryError
from dgrec.footage import column_values
from dgrec.replay.viewing.time_line import Pixels, once, pixels, time_line
from dgrec.units import counted

if TYPE_CHECKING:
    from dgrec.replay.query import SqlReader
    from dgrec.session import Session

#: The kinds of marks, as requests name one of them, and the lane that shows them.
KINDS = {"drop": "drops", "gap": "gaps", "late": "late", "event": "events", "alert": "alerts"}
#: Characters of a mark's text.
_LONGEST_TEXT = 200

# Each query gives a row for each mark, in any order: the frame that it leads to, when it was
# (epoch_us), how many there are, a number and a text for the words about it, and when it ended.
_QUERIES = {
    "drops": """
        SELECT frame, epoch_us(captured_at) AS us, dropped_before::BIGINT AS n,
               CASE WHEN at_start THEN 1 ELSE 0 END::DOUBLE AS value,
               concat_ws(', ', CASE WHEN dropped_camera > 0 THEN 'camera' END,
                         CASE WHEN dropped_queue > 0 THEN 'queue' END,
                         CASE WHEN dropped_writer > 0 THEN 'writer' END) AS text,
               NULL::BIGINT AS until
        FROM frame_losses WHERE dropped_before > 0""",
    "gaps": """
        SELECT frame, epoch_us(from_at) AS us, 1 AS n, gap_ms AS value, '' AS text,
               epoch_us(to_at) AS until
        FROM stalls()
        UNION ALL
        SELECT coalesce(frame, -1), epoch_us(from_at), 1, NULL, coalesce(text, kind),
               epoch_us(to_at)
        FROM events WHERE kind = 'gap' AND from_at IS NOT NULL""",
    "late": """
        SELECT frame, epoch_us(captured_at) AS us, 1 AS n, late_by_ms AS value,
               coalesce(blame, '') AS text, NULL::BIGINT AS until
        FROM late_frames()""",
    "events": """
        SELECT coalesce(frame, -1) AS frame, epoch_us(from_at) AS us, 1 AS n, NULL::DOUBLE AS value,
               concat_ws(': ', kind, text) AS text, epoch_us(to_at) AS until
        FROM events WHERE coalesce(kind, '') NOT IN ('gap', 'alert', 'alert_end')""",
    "alerts": """
        SELECT coalesce(f.frame, later.frame, (SELECT max(frame) FROM frames), -1) AS frame,
               epoch_us(a.fired) AS us, 1 AS n,
               NULL::DOUBLE AS value, concat_ws(': ', name, rule) AS text,
               epoch_us(a.ended) AS until
        FROM alerts a LEFT JOIN (
            SELECT source_frame, min(frame) AS frame FROM frames
            WHERE source_frame IN (SELECT source_frame FROM alerts) GROUP BY source_frame
        ) f USING (source_frame)
        -- One that fired in silence is of a frame that was not recorded.
        ASOF LEFT JOIN (
            SELECT frame, captured_at FROM frames
            WHERE captured_at >= (SELECT min(fired) FROM alerts)
        ) later ON a.fired <= later.captured_at""",
}


@dataclass(frozen=True, eq=False)
class Lane:
    """All marks of a kind, by the position of the row that each leads to."""

    positions: np.ndarray[Any, Any]
    stamps_us: np.ndarray[Any, Any]
    #: When each ended; its stamp, if it took no time.
    ends_us: np.ndarray[Any, Any]
    counts: np.ndarray[Any, Any]
    #: Number and text of each; few of them are shown at a time.
    words: pa.Table

    def text(self, chosen: int, describe: Callable[[float, str, int], str]) -> str:
        value, text = (column[chosen].as_py() for column in self.words.columns)
        return describe(value, text, int(self.counts[chosen]))[:_LONGEST_TEXT]


def marks(
    session: Session,
    reader: SqlReader,
    start: float | None = None,
    end: float | None = None,
    width: int = 1000,
) -> dict[str, Any]:
    """Return the marks in a stretch of the time line, at most one for each pixel and kind.

    Those that began before the stretch, and end in it or after it, are one more of their kind.

    Args:
        reader: A connection over just this session.
        start: Seconds since the first frame; None: from the beginning.
        end: Seconds since the first frame; None: to the end.
        width: Pixels.

    Returns for each of ``drops``, ``gaps``, ``late``, ``events`` and ``alerts`` a list of
    ``{t, i, count, text}``: the time and the row of the first one of a pixel, how many there are
    (for drops: lost frames), and what the first is. ``to``: when that ended, if it took time;
    ``place``: where frames were dropped. ``totals`` has their number in the whole stretch.

    Raises:
        QueryError: There is no such stretch.
        SessionError: Part of the file cannot be read.
    """
    times = time_line(session, reader)
    span = pixels(times, start, end, width)
    if span is None:
        return {**{name: [] for name in _QUERIES}, "totals": dict.fromkeys(_QUERIES, 0)}
    found: dict[str, Any] = {}
    totals: dict[str, int] = {}
    for name in _QUERIES:
        found[name], totals[name] = _in_pixels(name, lane(session, reader, name), span)
    return {**found, "totals": totals}


def next_mark(
    session: Session, reader: SqlReader, position: int, kinds: Sequence[str], direction: int = 1
) -> dict[str, Any]:
    """Return the next row that stands out after (1) or before (-1) a position.

    Args:
        kinds: Of `KINDS`; none: all.

    Returns ``i``, null where there is none; ``kind`` and ``text`` of its mark.

    Raises:
        QueryError: There is no such kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise QueryError(f"kind={kind}: expected {', '.join(KINDS)}")
    if not len(session):
        return {"i": None}
    best: tuple[int, str, int] | None = None
    for kind in kinds or KINDS:
        positions = lane(session, reader, KINDS[kind]).positions
        if direction > 0:
            at = int(np.searchsorted(positions, position, side="right"))
        else:
            before = int(np.searchsorted(positions, position)) - 1
            # The first mark of that row.
            at = -1 if before < 0 else int(np.searchsorted(positions, positions[before]))
        if not 0 <= at < len(positions):
            continue
        candidate = int(positions[at])
        if best is None or (candidate - best[0]) * direction < 0:
            best = candidate, kind, at
    if best is None:
        return {"i": None}
    i, kind, at = best
    name = KINDS[kind]
    return {"i": i, "kind": kind, "text": lane(session, reader, name).text(at, _WORDS[name])}


@once
def lane(session: Session, reader: SqlReader, name: str) -> Lane:
    """Return all marks of a kind; some 40 bytes each, also where every frame is one."""
    times = time_line(session, reader)
    known = "WHERE us IS NOT NULL" if times.is_of_captures else ""
    result = reader.stream(f"SELECT * FROM ({_QUERIES[name]}) {known}")
    table = pa.Table.from_batches(_encoded(result.batches), _encoded_schema(result.schema))
    # Without rows, no mark has a place.
    table = table.slice(0, len(table) if times.count else 0).combine_chunks().unify_dictionaries()
    frames, stamps, counts = (table.column(column).to_numpy() for column in ("frame", "us", "n"))
    positions = times.positions(frames)
    if not times.is_of_captures:
        found = [times.stamps(batch.column(0)) for batch in session.batches([times.column])]
        stamps = np.concatenate([np.zeros(0, np.int64), *found])[positions]
    stamps = stamps.astype(np.int64)
    ends, is_there = column_values(table.column("until"))
    # Times of day have no place on a time line of other times.
    ends = np.where(is_there & times.is_of_captures, np.maximum(ends, stamps), stamps)
    order = np.lexsort((stamps, positions))
    words = table.select(["value", "text"]).take(pa.array(order))
    return Lane(positions[order], stamps[order], ends[order], counts[order].astype(np.int64), words)


def _encoded_schema(schema: pa.Schema) -> pa.Schema:
    at = schema.get_field_index("text")
    return schema.set(at, pa.field("text", pa.dictionary(pa.int32(), pa.string())))


def _encoded(batches: Any) -> Any:
    """Yield batches whose texts, of which there are few, take four bytes each."""
    for batch in batches:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        columns["text"] = columns["text"].cast(pa.string()).dictionary_encode()
        yield pa.RecordBatch.from_arrays(
            list(columns.values()), schema=_encoded_schema(batch.schema)
        )


def _in_pixels(name: str, found: Lane, span: Pixels) -> tuple[list[dict[str, Any]], int]:
    """Return a mark for each pixel that has any, and how many there are in all."""
    here = np.flatnonzero((found.stamps_us <= span.end_us) & (found.ends_us >= span.start_us))
    # The first of a pixel is the earliest.
    here = here[np.argsort(found.stamps_us[here], kind="stable")]
    counts, ends = found.counts[here], found.ends_us[here]
    # Pixel -1 has what began before the stretch.
    pixel = np.maximum(span.of(found.stamps_us[here]), -1)
    at, first, inverse = np.unique(pixel, return_index=True, return_inverse=True)
    sums = np.bincount(inverse, counts, len(at)).astype(np.int64)
    shown = []
    for before, k, count in zip((at < 0).tolist(), first.tolist(), sums.tolist(), strict=True):
        chosen = here[k]
        stamp_us = int(found.stamps_us[chosen])
        mark: dict[str, Any] = {
            "t": span.seconds(stamp_us),
            "i": int(found.positions[chosen]),
            "count": count,
            "text": found.text(chosen, _WORDS[name]),
        }
        end_us = int(ends[pixel < 0].max() if before else ends[k])
        if end_us > stamp_us:
            mark["to"] = span.seconds(end_us)
        if name == "drops":
            mark["place"] = found.words.column("text")[chosen].as_py()
        shown.append(mark)
    return shown, int(counts.sum())


# --- words ---------------------------------------------------------------------------------------


def _drop(at_start: float, place: str, count: int) -> str:
    where = f" ({place})" if place else ""
    return f"{counted(count, 'frame')} lost before{where}" + (
        ", while the model started" if at_start else ""
    )


def _gap(gap_ms: float | None, text: str, _: int) -> str:
    return f"gap: {text}" if gap_ms is None else f"{gap_ms / 1e3:,.3g} s without a result"


def _late(late_by_ms: float, blame: str, _: int) -> str:
    return f"late by {late_by_ms:,.1f} ms" + (f": {blame}" if blame else "")


def _text(_: float | None, text: str, __: int) -> str:
    return text


_WORDS: dict[str, Callable[[Any, str, int], str]] = {
    "drops": _drop,
    "gaps": _gap,
    "late": _late,
    "events": _text,
    "alerts": _text,
}
