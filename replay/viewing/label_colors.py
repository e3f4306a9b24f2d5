"""The colors of labels, which depend on all labels of a session."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from dgrec.session import Session

#: The most labels that are not the model's, in a whole session.
_MOST_LABELS = 20_000
#: Labels after so many frames are numbered as they are met: a day has ten million detections.
_MOST_FRAMES = 20_000
_LABELS_IN_ORDER = (
    "SELECT label, category_id FROM detections "
    "WHERE frame < $end AND label IS NOT NULL AND category_id IS NOT NULL GROUP BY ALL "
    f"ORDER BY min(frame), min_by(detection, frame) LIMIT {_MOST_LABELS}"
)


class DrawnLabels:
    """A session's labels by id, with those that are not the model's.

    PySDK numbers those as it meets them, over all frames of a pass, and picks colors by number.
    Here the order is that of the session, so that a frame looks the same however it is reached.
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
        self.add_session(session)
        if not self._is_new(label, category_id):
            return
        if len(self.by_id) > len(self._known) + 2 * _MOST_LABELS:
            self.by_id = dict(self._known)
        self._number(label)

    def add_session(self, session: Session) -> None:
        """Number the labels of the session, unless that was done."""
        if not self._are_all:
            self._are_all = True
            parameters = {"end": session.first_frame + _MOST_FRAMES}
            for label, category_id in session.sql_rows(_LABELS_IN_ORDER, parameters):
                if self._is_new(label, category_id):
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


_KNOWN: weakref.WeakKeyDictionary[Session, DrawnLabels] = weakref.WeakKeyDictionary()


def labels_of(session: Session) -> DrawnLabels:
    """Return the labels of a session, which are kept as long as the session is."""
    if session not in _KNOWN:
        _KNOWN[session] = DrawnLabels(session.metadata.get("model", {}).get("labels", {}))
    return _KNOWN[session]


def label_color(session: Session, label: str, category_id: int | None) -> tuple[int, int, int]:
    """Return the color in which detections of a label are drawn (red, green, blue).

    Args:
        category_id: Its id; None if the model does not know the label.
    """
    from degirum.postprocessor import DetectionResults

    color: Any = session.metadata.get("overlay", {}).get("color") or (255, 255, 0)
    if not isinstance(color[0], list | tuple):
        return _rgb(color)
    labels = labels_of(session)
    if category_id is None or labels.by_id.get(category_id) != label:
        labels.add_session(session)
        category_id = labels.by_id.get(label)
    result = DetectionResults.__new__(DetectionResults)
    result._label_dictionary, result._overlay_color = labels.by_id, color
    return _rgb(result._deduce_color(category_id, label, iter(color)))


def _rgb(color: Any) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, int(part))) for part in color)
    return red, green, blue
