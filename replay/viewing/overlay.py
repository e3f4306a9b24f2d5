"""The overlay of a session's frames, as drawings for `/api/overlay`.

PySDK's and degirum_tools' own code decides what is drawn (`dgrec.overlay.noting`); the page repeats
their calls. A frame is ``{size, layers: [{alpha, groups: [{d, ops}]}], labels, scores}``, and more
where there is any:

- ``size``: of what is drawn; where labels stand below the frame's picture, ``picture`` is the size
  of that, and ``fill`` the color of the rest.
- ``layers``: each is drawn by itself, then blended with the picture by its ``alpha``; its masks
  below all else, by their own.
- ``d``: the detection that ``ops`` belong to, by its index; -1: none.
- ``ops``: see `dgrec.overlay.operations`.
- ``tracks``: ``[d, track, color, x, y]`` for each detection with a track: the center of its box,
  for trails over the last frames.
- ``run``: of the recorder, from 1 for the second: a track is another object's in each run.
- ``labels``, ``scores``: of the detections, for filters: a label is an index of the answer's
  ``labels``, or -1; a score may be null.
- ``notes``: what is left out, and why.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from dgrec.analyzers import Notice, drawing_of
from dgrec.errors import DgrecError, first_line
from dgrec.footage import Pixels, find_footage
from dgrec.format import LABEL_LEAF
from dgrec.overlay import Colors, Operations, note_analyzers, note_overlay
from dgrec.replay.drawing import track_color
from dgrec.replay.viewing.bounded_rows import bounded_rows
from dgrec.replay.viewing.label_colors import label_color, labels_of
from dgrec.replay.viewing.pictures import jpeg
from dgrec.replay.viewing.videos import LARGEST_DIGESTED
from dgrec.session import RecordedResult, Runs, Session

__all__ = ["Drawings", "drawings", "label_color", "thumbnail"]

#: The columns that are needed of a row.
_COLUMNS = ["frame", "source_frame", "captured_at", "completed_at", "width", "height", "timing"]
_COLUMNS += ["detections", "attributes", "restore"]
#: An answer ends after the frame that exceeds it: some megabytes.
_MOST_WEIGHT = 1_500_000
#: An answer ends after the frame at which it has taken this long.
_LONGEST_S = 1.0
#: Rows on both sides of the middle that are searched for a thumbnail.
_LOOKED_AT = 1000
#: The gray that detections are drawn on where there is no footage.
_DARK = 36
#: Frames that claim to be larger are treated like those that do not say their size.
_LONGEST_SIDE = 65_536
#: The size of frames that do not say theirs.
_UNKNOWN_SIZE = (640, 480)
#: Longer labels are cut.
_LONGEST_LABEL = 200
#: Labels that are not the model's, of a whole session.
_MOST_LABELS = 20_000


def drawings(session: Session, start: int, stop: int) -> dict[str, Any]:
    """Return what to draw over frames, by their positions.

    There may be fewer frames than asked for, at least one: the answer ends where it becomes large,
    or takes long. What cannot be drawn is left out, with a note.

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
    found = Drawings(session, max(start, 0))
    began = time.monotonic()
    for row, note in bounded_rows(session, max(start, 0), stop, _COLUMNS):
        found.add(row, note)
        if found.is_full or time.monotonic() - began > _LONGEST_S:
            break
    return found.answer()


class Drawings:
    """Collects what to draw over some frames, one after the other.

    Args:
        session: No other thread reads from it meanwhile.
        start: Position of the first frame.
    """

    def __init__(self, session: Session, start: int) -> None:
        self._session, self._start = session, start
        self._metadata = session.metadata
        self._runs = Runs(self._metadata.get("events", []))
        self._colors = Colors()
        self._labels = labels_of(session)
        self._names: dict[str, int] = {}
        self._frames: list[dict[str, Any]] = []
        self._weight = 0

    @property
    def is_full(self) -> bool:
        """Return whether the answer is large enough to end here."""
        return self._weight > _MOST_WEIGHT

    def add(self, row: Mapping[str, Any], note: str, result: RecordedResult | None = None) -> None:
        """Add the next frame.

        Args:
            row: As of `bounded_rows`, with the note on it.
            result: The row's, if it was restored already.
        """
        operations = Operations(self._colors, *_size_of(row, self._metadata))
        tracks: list[Any] = []
        if note:
            operations.note(note)
        if row["detections"] is not None:
            tracks = self._note(row, result, operations)
        frame = _frame(operations, tracks)
        if run := self._runs.number(row["source_frame"]):
            frame["run"] = run
        _add_labels(frame, row["detections"] or (), self._names)
        self._frames.append(frame)
        self._weight += operations.weight + 100

    def answer(self) -> dict[str, Any]:
        """Return the answer of `drawings`."""
        labels = list(self._names)
        colors = self._colors.table
        return {"from": self._start, "colors": colors, "labels": labels, "frames": self._frames}

    def _note(
        self, row: Mapping[str, Any], result: RecordedResult | None, operations: Operations
    ) -> list[Any]:
        """Note what is drawn of a row; return its tracks."""
        session, metadata = self._session, self._metadata
        try:
            result = result or session.restored(row, metadata)
            self._labels.add_all(session, result.results)
            is_pil = _model_of(result, metadata).get("image_backend") == "pil"
            drawn = result.to_pysdk(None, labels=self._labels.by_id)
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


def thumbnail(session: Session, width: int = 320) -> bytes:
    """Return a small JPEG of a frame in the middle with its overlay; of a dark one without footage.

    Args:
        width: The widest that it may be, in pixels.
    """

    position = _middle(session)
    row, _ = next(bounded_rows(session, position, position + 1), (None, ""))
    image = _picture(session, row)
    if row is not None and row["detections"]:
        scale = max(1.0, image.shape[1] / width)
        settings: dict[str, Any] = {"line_width": round(2 * scale), "font_scale": scale}
        if any(item is not None and item["x_min"] is not None for item in row["detections"]):
            settings["show_labels"] = settings["show_probabilities"] = False
        # Results that cannot be drawn are left out.
        with contextlib.suppress(DgrecError):
            result = session.restored(row, session.metadata)
            image = result.overlay(image, settings, labels_of(session).by_id)
    return jpeg(image, width)


def _middle(session: Session) -> int:
    """Return a position with detections near the middle; the middle itself if there is none."""
    middle = len(session) // 2
    start = max(0, middle - _LOOKED_AT)
    counts: list[int] = []
    for batch in session.batches([LABEL_LEAF], start, middle + _LOOKED_AT):
        counts += pc.list_value_length(batch.column(0)).fill_null(0).to_pylist()
    found = (start + at for at, count in enumerate(counts) if count)
    return min(found, key=lambda position: abs(position - middle), default=middle)


def _picture(session: Session, row: Mapping[str, Any] | None) -> Any:
    """Return a row's picture; a dark one if there is none."""
    size = _UNKNOWN_SIZE
    with (
        contextlib.suppress(DgrecError),
        Pixels(find_footage(session, largest=LARGEST_DIGESTED)) as pixels,
    ):
        image = None if row is None or row["frame"] is None else pixels.frame(row)
        if image is not None and pixels.footage.path is not None:
            return image
        if image is not None:
            size = image.shape[1], image.shape[0]
    return np.full((size[1], size[0], 3), _DARK, np.uint8)


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


def _add_labels(frame: dict[str, Any], detections: Iterable[Any], names: dict[str, int]) -> None:
    labels, scores = [], []
    for item in detections:
        label, score = (None, None) if item is None else (item["label"], item["score"])
        if label is not None:
            label = names.setdefault(label[:_LONGEST_LABEL], len(names))
        labels.append(-1 if label is None else label)
        scores.append(round(score, 6) if score is not None and abs(score) < 1e9 else None)
    frame |= {"labels": labels, "scores": scores}


def _size_of(row: Mapping[str, Any], metadata: Mapping[str, Any]) -> tuple[int, int]:
    source = metadata.get("source", {})
    for facts in (row, source):
        width, height = facts.get("width"), facts.get("height")
        sizes = range(1, _LONGEST_SIDE)
        if type(width) is type(height) is int and width in sizes and height in sizes:
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
