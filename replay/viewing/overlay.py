"""What is drawn over the pictures of a session's frames, for `/api/overlay`.

PySDK's and degirum_tools' own code decides it (`dgrec.overlay.noting`); the page repeats their
calls. A frame is ``{size, layers: [{alpha, groups: [{d, ops}]}], tracks, notes}``
(the last two, and some below, only where there are any):

- ``size``: of what is drawn; where labels stand below the frame's picture, ``picture`` is the size
  of that, and ``fill`` the color of the rest.
- ``layers``: each is drawn by itself, then blended with the picture by its ``alpha``; its masks
  below all else, by their own.
- ``d``: the detection that ``ops`` belong to, by its index; -1: none.
- ``ops``: see `dgrec.overlay.operations`.
- ``tracks``: ``[d, track, color, x, y]`` for each detection with a track: the center of its box,
  for trails over the last frames.
- ``notes``: what is left out, and why.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dgrec.analyzers import Notice, drawing_of
from dgrec.errors import DgrecError, first_line
from dgrec.format import Metadata
from dgrec.overlay import Colors, Operations, note_analyzers, note_overlay
from dgrec.replay.drawing import track_color
from dgrec.session import RecordedResult, Session, rows_of

__all__ = ["drawings", "label_color"]

#: What is needed of a row.
_COLUMNS = ["frame", "captured_at", "completed_at", "width", "height", "timing"]
_COLUMNS += ["detections", "attributes", "restore"]
#: Detections of a frame that are drawn.
_MOST_DETECTIONS = 3000
#: Rows that take more memory are not drawn.
_MOST_ROW_BYTES = 64 << 20
#: An answer ends after the frame that exceeds it: some megabytes.
_MOST_WEIGHT = 1_500_000
#: Rows that are turned into Python values at once.
_ROWS_AT_ONCE = 32
#: The size of frames that do not say theirs.
_UNKNOWN_SIZE = (640, 480)
#: Labels that are not the model's, of a whole session.
_MOST_LABELS = 20_000


def drawings(session: Session, start: int, stop: int) -> dict[str, Any]:
    """Return what to draw over frames, by their positions.

    There may be fewer frames than asked for, at least one: the answer ends where it becomes large.
    What cannot be drawn is left out, with a note.

    Args:
        session: No other thread reads from it meanwhile.
        start: Position of the first frame.
        stop: Position to stop before.

    Example:
        >>> import dgrec
        >>> from dgrec.replay.viewing.overlay import drawings
        >>> with dgrec.open("session.parquet") as session:
        ...     drawn = drawings(session, 240, 242)
        >>> drawn["colors"][0], len(drawn["frames"])
        ((255, 255, 0), 2)
        >>> drawn["frames"][0]["layers"][0]["groups"][0]["ops"][0][0]
        'box'
    """
    colors = Colors()
    labels = _labels_of(session)
    metadata = session.metadata
    frames: list[dict[str, Any]] = []
    weight = 0
    for row, note in _rows(session, max(start, 0), stop):
        operations = Operations(colors, *_size_of(row, metadata))
        tracks: list[Any] = []
        if note:
            operations.note(note)
        if row["detections"] is not None:
            tracks = _note_row(session, row, metadata, labels, operations)
        frames.append(_frame(operations, tracks))
        weight += operations.weight + 100
        if weight > _MOST_WEIGHT:
            break
    return {"from": start, "colors": colors.table, "frames": frames}


def label_color(session: Session, label: str, category_id: int | None) -> tuple[int, int, int]:
    """Return the color in which detections of a label are drawn (red, green, blue)."""
    from degirum.postprocessor import DetectionResults

    color: Any = session.metadata.get("overlay", {}).get("color") or (255, 255, 0)
    if not isinstance(color[0], list | tuple):
        return _rgb(color)
    labels = _labels_of(session)
    labels.add(session, label, category_id)
    result = DetectionResults.__new__(DetectionResults)
    result._label_dictionary, result._overlay_color = labels.by_id, color
    return _rgb(result._deduce_color(category_id, label, iter(color)))


def _rgb(color: Any) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, int(part))) for part in color)
    return red, green, blue


def _note_row(
    session: Session,
    row: Mapping[str, Any],
    metadata: Metadata,
    labels: _Labels,
    operations: Operations,
) -> list[Any]:
    """Note what is drawn of a row; return its tracks."""
    try:
        result = session.restored(row, metadata)
        labels.add_all(session, result.results)
        is_pil = _model_of(result, metadata).get("image_backend") == "pil"
        drawn = result.to_pysdk(None, labels=labels.by_id)
    except DgrecError as error:
        operations.note(first_line(error))
        return []
    except Exception as error:  # PySDK raises anything for odd results
        operations.note(f"not drawn: {first_line(error)}")
        return []
    note_overlay(drawn, operations, is_pil=is_pil)
    drawing = drawing_of(metadata)
    if drawing.analyzers:
        notices: dict[str, Notice] = {}
        if drawing.has_notifiers and result.completed_ns is not None:
            notices = session.notices_until(result.completed_ns)
        note_analyzers(drawing, drawn, operations, notices)
    return _tracks(row["detections"], operations.colors)


def _model_of(result: RecordedResult, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    model: Mapping[str, Any] = (result.described or {}).get("model") or metadata.get("model", {})
    return model


def _frame(operations: Operations, tracks: list[Any]) -> dict[str, Any]:
    frame: dict[str, Any] = {
        "size": [operations.width, operations.height],
        "layers": [layer for layer in operations.layers if layer["groups"]],
    }
    if operations.fill is not None:
        frame |= {"picture": operations.picture, "fill": operations.fill}
    if tracks:
        frame["tracks"] = tracks
    if operations.notes:
        more = [f"and {operations.unkept:,} more"] if operations.unkept else []
        frame["notes"] = [*operations.notes, *more]
    return frame


def _size_of(row: Mapping[str, Any], metadata: Mapping[str, Any]) -> tuple[int, int]:
    source = metadata.get("source", {})
    for facts in (row, source):
        width, height = facts.get("width"), facts.get("height")
        if type(width) is type(height) is int and width > 0 and height > 0:
            return width, height
    return _UNKNOWN_SIZE


def _tracks(detections: list[Any], colors: Colors) -> list[Any]:
    tracks = []
    for index, item in enumerate(detections):
        if item is None or item["track_id"] is None:
            continue
        corners = [item[name] for name in ("x_min", "y_min", "x_max", "y_max")]
        if any(value is None or not abs(value) < 1e9 for value in corners):
            continue
        left, top, right, bottom = corners
        blue, green, red = track_color(item["track_id"])
        track = item["track_id"] if abs(item["track_id"]) < 2**53 else str(item["track_id"])
        center = round((left + right) / 2, 1), round((top + bottom) / 2, 1)
        tracks.append([index, track, colors.number((red, green, blue)), *center])
    return tracks


# --- rows ----------------------------------------------------------------------------------------


def _rows(session: Session, start: int, stop: int) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield rows, and what is left out of each.

    Detections beyond the limit are cut off before they take memory in Python.
    """
    names = [name for name in _COLUMNS if name in session.schema.names]
    for batch in session.batches(names, start, stop):
        column = batch.schema.get_field_index("detections")
        for at in range(0, batch.num_rows, _ROWS_AT_ONCE):
            part = batch.slice(at, _ROWS_AT_ONCE)
            counts = pc.list_value_length(part.column(column)).fill_null(0).to_pylist()
            if max(counts) <= _MOST_DETECTIONS and part.nbytes <= _MOST_ROW_BYTES:
                yield from ((row, "") for row in rows_of(part))
                continue
            for index, count in enumerate(counts):
                yield _cut(part.slice(index, 1), column, count)


def _cut(row: pa.RecordBatch, column: int, count: int) -> tuple[dict[str, Any], str]:
    note = ""
    if count > _MOST_DETECTIONS:
        note = f"{_MOST_DETECTIONS:,} of {count:,} detections are drawn"
        found = pc.list_slice(row.column(column), 0, _MOST_DETECTIONS)
        row = row.set_column(column, row.schema.field(column).name, found)
    if row.nbytes > _MOST_ROW_BYTES:
        note = f"not drawn: its row takes {row.nbytes / 1e6:,.0f} MB"
        row = row.slice(0, 0)
        return {**dict.fromkeys(_COLUMNS), "timing": []}, note
    return rows_of(row)[0], note


# --- labels --------------------------------------------------------------------------------------


class _Labels:
    """A session's labels by id, with those that are not the model's.

    PySDK numbers these as it meets them, over all frames of a pass, and picks colors by that: here
    in the order of the session, so that a frame looks the same wherever one comes from.
    """

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = {int(key): label for key, label in known.items()}
        #: Labels by id, and ids by those labels that are not the model's, as PySDK has them.
        self.by_id: dict[Any, Any] = dict(self._known)
        self._next = 1 + max(self._known) if self._known else 0
        self._are_all = False

    def add_all(self, session: Session, results: Any) -> None:
        """Number the labels of a frame that are not the model's."""
        for found in results if isinstance(results, list) else ():
            if isinstance(found, dict):
                self.add(session, found.get("label"), found.get("category_id"))

    def add(self, session: Session, label: Any, category_id: Any) -> None:
        """Number a label, if it is not the model's; the session's labels before it come first."""
        if not self._is_new(label, category_id):
            return
        if not self._are_all:
            self._are_all = True
            for other in session.sql_rows(_LABELS_IN_ORDER):
                if self._is_new(*other):
                    self._number(other[0])
            if not self._is_new(label, category_id):
                return
        if len(self.by_id) > len(self._known) + 2 * _MOST_LABELS:
            self.by_id = dict(self._known)
        self._number(label)

    def _is_new(self, label: Any, category_id: Any) -> bool:
        return (
            isinstance(label, str)
            and type(category_id) is int
            and self.by_id.get(category_id, "") != label
            and label not in self.by_id
        )

    def _number(self, label: str) -> None:
        self.by_id[label] = self._next
        self._next += 1


_LABELS_IN_ORDER = (
    "SELECT label, category_id FROM detections "
    "WHERE label IS NOT NULL AND category_id IS NOT NULL GROUP BY ALL "
    f"ORDER BY min(frame), min_by(detection, frame) LIMIT {_MOST_LABELS}"
)
_LABELS: weakref.WeakKeyDictionary[Session, _Labels] = weakref.WeakKeyDictionary()


def _labels_of(session: Session) -> _Labels:
    if session not in _LABELS:
        _LABELS[session] = _Labels(session.metadata.get("model", {}).get("labels", {}))
    return _LABELS[session]
