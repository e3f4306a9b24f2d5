"""The sources of the views ``signals`` and ``events`` beside the column ``signals``.

They are read when a query asks for them. The frame that a value or event belongs to is found here,
in one pass over the stamps: an ASOF join would hold and sort those of a whole day.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from dgrec import compute as pc
from dgrec.format import SCHEMA, TIMING_NAME_LEAF, dumps, from_metadata

if TYPE_CHECKING:
    from dgrec.sql.views import Queryable

_UTC: Final = pa.timestamp("us", tz="UTC")
_EVENTS: Final = pa.schema(
    [
        ("session_id", pa.string()),
        ("kind", pa.string()),
        ("from_at", _UTC),
        ("to_at", _UTC),
        ("frame", pa.int64()),
        ("text", pa.string()),
        ("details", pa.string()),
    ]
)
_SIGNALS: Final = pa.schema(
    [
        ("session_id", pa.string()),
        ("name", pa.string()),
        ("time", _UTC),
        ("frame", pa.int64()),
        ("value", pa.float64()),
    ]
)
_OF_TIMES: Final = ("kind", "from", "to", "at", "text", "reason")


def stamp(text: str | None) -> dt.datetime | None:
    """Return a stamp of the metadata; None if it is unknown or not one."""
    try:
        return dt.datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _events(sessions: Sequence[Queryable]) -> Iterator[pa.RecordBatch]:
    """Yield the events in the metadata of sessions."""
    for session in sessions:
        rows = [_event(session, event) for event in session.metadata.get("events", [])]
        batch = pa.RecordBatch.from_pylist(rows, schema=_EVENTS)
        yield _with_frames(session, batch, "from_at")


def _event(session: Queryable, event: Mapping[str, Any]) -> dict[str, Any]:
    details = event.get("details")
    if not isinstance(details, dict):  # only a mark has them
        details = {key: value for key, value in event.items() if key not in _OF_TIMES}
    return {
        "session_id": session.id,
        "kind": event.get("kind"),
        "from_at": stamp(event.get("from") or event.get("at")),
        "to_at": stamp(event.get("to") or event.get("at")),
        "text": event.get("text", event.get("reason")),
        "details": dumps(details),
    }


def _late_signals(sessions: Sequence[Queryable]) -> Iterator[pa.RecordBatch]:
    """Yield what was logged after the last row of sessions."""
    for session in sessions:
        names, times, values = from_metadata(session.metadata).flatten()
        nothing = pa.nulls(len(names), pa.int64())
        columns = [_repeated(session.id, len(names)), names, times, nothing, values]
        batch = pa.RecordBatch.from_arrays(columns, schema=_SIGNALS)
        yield _with_frames(session, batch, "time")


def _device_signals(sessions: Sequence[Queryable]) -> Iterator[pa.RecordBatch]:
    """Yield what accelerators report of themselves with each result, in the column ``timing``."""
    for session in sessions:
        if not has_device_values(session):
            continue  # reading the numbers of a day takes a second
        for batch in session.batches(["timing", "completed_at", "frame"]):
            rows, names, values = _device_values(batch)
            columns = [
                _repeated(session.id, len(names)),
                names,
                batch.column("completed_at").take(rows),
                batch.column("frame").take(rows),
                values,
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=_SIGNALS)


def has_device_values(session: Queryable) -> bool:
    """Return whether accelerators reported anything of themselves with any result."""
    for batch in session.batches([TIMING_NAME_LEAF]):
        timing = batch.column("timing")
        pairs = timing.cast(_PAIRS) if pa.types.is_map(timing.type) else timing
        names = pc.struct_field(pairs.flatten(), "key").dictionary_encode().dictionary
        if pc.any(_is_of_device(names)).as_py():
            return True
    return False


def _device_values(batch: pa.RecordBatch) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return rows, names and values of all numbers of a device except durations."""
    timing = batch.column("timing")
    lists = timing.cast(_PAIRS)
    rows = pc.list_parent_indices(lists)
    names, values = lists.flatten().flatten()
    wanted = _is_of_device(names)
    return rows.filter(wanted), names.filter(wanted), values.filter(wanted)


def _is_of_device(names: pa.Array) -> pa.Array:
    return pc.and_not(
        pc.starts_with(names, pattern="Device"), pc.ends_with(names, pattern="Duration_ms")
    )


_TIMING: Final[pa.MapType] = SCHEMA.field("timing").type
_PAIRS: Final = pa.list_(
    pa.struct(
        [
            pa.field("key", _TIMING.key_type, nullable=False),
            pa.field("value", _TIMING.item_type),
        ]
    )
)


def _with_frames(session: Queryable, batch: pa.RecordBatch, time: str) -> pa.RecordBatch:
    """Return a batch with its ``frame``: the last one whose result was there by the time."""
    times = batch.column(time).cast(pa.int64())
    if not len(batch) or times.null_count == len(times):
        return batch
    wanted = pc.fill_null(times, -(2**63)).to_numpy()
    found = np.full(len(wanted), -1, np.int64)
    for rows in session.batches(["frame", "completed_at"]):
        rows = rows.filter(rows.column("completed_at").is_valid())
        completed = rows.column("completed_at").cast(pa.int64()).to_numpy()
        index = np.searchsorted(completed, wanted, side="right") - 1
        frames = rows.column("frame").to_numpy()
        found[index >= 0] = frames[index[index >= 0]]
    at = batch.schema.get_field_index("frame")
    return batch.set_column(at, batch.schema.field(at), pa.array(found, mask=found < 0))


def _repeated(text: str, count: int) -> pa.Array:
    return pa.array([text] * count, pa.string())


#: The sources of the library's views: columns, and a function that yields the rows of sessions.
STREAMS: Final[
    dict[str, tuple[pa.Schema, Callable[[Sequence[Queryable]], Iterator[pa.RecordBatch]]]]
] = {
    "_events": (_EVENTS, _events),
    "_late_signals": (_SIGNALS, _late_signals),
    "_device_signals": (_SIGNALS, _device_signals),
}
