"""Rows by their positions: times, durations, and where their pictures are."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.footage import FIRST_STEP_US, LATEST_MEDIA_S, column_values
from dgrec.format import LABEL_LEAF
from dgrec.replay.stats import STAGES
from dgrec.replay.viewing.opened_session import OpenedSession
from dgrec.replay.viewing.parameters import Parameters, RequestError
from dgrec.replay.viewing.values import numbers
from dgrec.replay.viewing.workers import Task
from dgrec.session import RecordedResult

_MOST: Final = 1000
_COLUMNS: Final = (
    "frame",
    "source_frame",
    "media_time_s",
    "captured_at",
    *STAGES,
    "dropped_before",
    "skipped_before",
    "video_frame",
    "video_state",
    LABEL_LEAF,
)
#: Reasons why a row has no picture, in words (`Pixels` knows the first).
_REASONS: Final = {
    "left_out": "not in the video",
    "ends": "the video ends earlier",
    "other": "the video has no picture at this time",
    "unrelated": "the video is another one",
    "damaged": "the video is damaged",
    "no_video": "no video",
    "not_for_browsers": "a video that browsers cannot play",
}


def _read(opened: OpenedSession, start: int, stop: int) -> pa.Table:
    """Return rows with the number of their detections, ``n``, instead of the detections."""
    with opened.rows:
        batches = list(opened.session.batches([*_COLUMNS], start, stop))
    tables = []
    for batch in batches:
        # Parts may have labels of different types.
        count = pc.fill_null(pc.list_value_length(batch.column("detections")), 0)
        table = pa.Table.from_batches([batch]).drop_columns(["detections"])
        tables.append(table.append_column("n", count.cast(pa.int64())))
    return pa.concat_tables(tables, promote_options="permissive")


def rows(opened: OpenedSession, parameters: Parameters, task: Task) -> dict[str, Any]:
    """Answer ``/api/rows``."""
    start, stop = parameters.positions(opened.count, _MOST)
    if start == stop:
        return {"from": start, "frame": [], "n": []}
    found = _read(opened, start, stop)
    task.check()
    pictures = opened.videos.of(_for_pictures(found))
    states = [
        "" if not isinstance(shown, str) else _why(shown, state)
        for (_, shown), state in zip(pictures, found.column("video_state").to_pylist(), strict=True)
    ]
    times = [None if isinstance(shown, str) else shown for _, shown in pictures]
    return {
        "from": start,
        "frame": found.column("frame").to_pylist(),
        "t": numbers(opened.seconds(found, start)),
        "media_s": _floats(found, "media_time_s"),
        "video": [number for number, _ in pictures],
        "pts_s": [None if shown is None else shown.pts_s for shown in times],
        "duration_s": [None if shown is None else shown.duration_s for shown in times],
        "state": states,
        "ms": {name: _floats(found, name) for name in STAGES},
        "dropped": found.column("dropped_before").to_pylist(),
        "skipped": found.column("skipped_before").to_pylist(),
        "n": found.column("n").to_pylist(),
    }


def _for_pictures(rows: pa.Table) -> list[dict[str, Any]]:
    names = ("frame", "source_frame", "media_time_s", "video_frame")
    columns = {name: rows.column(name).to_pylist() for name in names}
    columns["captured_at"] = _stamps(rows.column("captured_at"))
    found = zip(*columns.values(), strict=True)
    return [dict(zip(columns, values, strict=True)) for values in found]


def _stamps(column: pa.ChunkedArray) -> list[Any]:
    """Return stamps; None for those that Python has no datetime for."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError, pa.ArrowException):
        return [_stamp(value) for value in column]


def _stamp(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except (ValueError, OverflowError, pa.ArrowException):
        return None


def _floats(found: pa.Table, name: str) -> list[float | None]:
    values, is_there = column_values(found.column(name))
    return numbers(np.where(is_there, values.astype(np.float64), np.nan))


def _why(reason: str, state: str | None) -> str:
    text = _REASONS.get(reason, reason)
    return f"{text} ({state.replace('_', ' ')})" if state and reason == "left_out" else text


def row(opened: OpenedSession, parameters: Parameters, task: Task) -> dict[str, Any]:
    """Answer ``/api/row``: every column, and the detections as PySDK had them."""
    position = parameters.position(opened.count)
    values = opened.row(position)
    with opened.rows:
        return details(position, opened.session.restored(values))


def details(position: int, result: RecordedResult) -> dict[str, Any]:
    """Return the answer of ``/api/row`` for a row."""
    left_out = ("detections", "restore", "pixel_signature")
    values = {name: value for name, value in result.row.items() if name not in left_out}
    values["timing"] = dict(values.get("timing") or ())
    return {"i": position, **values, "detections": result.results}


def nearest(opened: OpenedSession, parameters: Parameters, task: Task) -> dict[str, Any]:
    """Answer ``/api/at``: the row nearest to a time, a source's stamp, or the number of a frame."""
    if not opened.count:
        raise RequestError("there are no frames", 404)
    if "frame" in parameters:
        wanted = parameters.whole("frame", least=-(2**63), most=2**63 - 1)
        column = "frame"
        exact = opened.positions_of(np.array([wanted]))[0]
        if exact >= 0:
            return {"i": int(exact)}
        target = float(wanted)
    elif "media" in parameters:
        column, target = "media_time_s", parameters.seconds("media")
    else:
        return {"i": position_at(opened, parameters.seconds("t"), task)}
    return {"i": _nearest(opened, column, target, task)}


def position_at(opened: OpenedSession, seconds: float, task: Task) -> int:
    """Return the position of the row nearest to a time since the first row; there must be rows."""
    column, target = _target(opened, seconds)
    if column == "position":
        return int(min(max(target, 0.0) + 0.5, opened.count - 1))
    return _nearest(opened, column, target, task)


def _target(opened: OpenedSession, seconds: float) -> tuple[str, float]:
    if opened.clock == "position":
        return "position", seconds / (FIRST_STEP_US / 1e6)
    scale = 1e6 if opened.clock == "captured_at" else 1.0
    return opened.clock, opened.began + seconds * scale


def _bounded(value: float) -> int:
    return int(min(max(value, -(2.0**62)), 2.0**62))


def _nearest(opened: OpenedSession, column: str, target: float, task: Task) -> int:
    """Return the first row at or after a value, or the one before it if that is nearer."""
    start = 0
    if column != "media_time_s":  # numbers have no bounds in the file
        with opened.rows:
            start = max(opened.session.first_at_least(column, _bounded(target)) - 1, 0)
    best, distance = start, np.inf
    position = start
    with opened.rows:
        for batch in opened.session.batches([column], start):
            task.check()
            values, is_there = column_values(batch.column(0))
            values = np.where(is_there, values.astype(np.float64), np.nan)
            if column == "media_time_s":
                values[~(np.abs(values) <= LATEST_MEDIA_S)] = np.nan
            later = np.flatnonzero(values >= target)
            stop = int(later[0]) + 1 if len(later) else len(values)
            away = np.abs(values[:stop] - target)
            if np.isfinite(away).any():
                at = int(np.nanargmin(away))
                if away[at] < distance:
                    best, distance = position + at, away[at]
            if len(later):
                break
            position += len(values)
    return best
