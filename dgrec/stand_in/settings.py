"""Thresholds and limits of a model, applied to the results that were recorded.

PySDK takes detections by score, drops those that overlap a better one of their class (NMS), and
then limits the number of each class, and of all. Each step only removes detections, so the steps
can be applied to a recording if they are at least as strict as when it was recorded. For a single
setting that is exact; where NMS is stricter than recorded, a box that only a removed box had
suppressed is missing, and so is one that did not fit into the recorded limits (docs/stand-in.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from dgrec.errors import ModelError


@dataclass(frozen=True)
class Limit:
    """A setting of PySDK's models that removes results.

    Args:
        property: Its name as a property of a model.
        is_least: Whether a smaller value lets more results through; else a larger one does.
        zero_is_none: Whether 0 means that there is no limit.
    """

    property: str
    is_least: bool = False
    zero_is_none: bool = False

    def loosens(self, value: float, recorded: float) -> bool:
        """Return whether a value asks for results that were not recorded."""
        if self.zero_is_none and 0 in (value, recorded):
            return value == 0 and recorded != 0
        return value < recorded if self.is_least else value > recorded


THRESHOLD = Limit("output_confidence_threshold", is_least=True)
NMS = Limit("output_nms_threshold")
_PER_CLASS = Limit("output_max_detections_per_class")
_MOST = Limit("output_max_detections")
TOP_K = Limit("output_top_k", zero_is_none=True)
LIMITS = (THRESHOLD, NMS, _PER_CLASS, _MOST, TOP_K)

#: Boxes with corners beyond this are not in a picture.
_FARTHEST = 1e9

#: Properties that change results in ways that cannot be derived from recorded ones.
FIXED = (
    "input_crop_percentage",
    "input_pad_method",
    "input_resize_method",
    "output_max_classes_per_detection",
    "output_pose_threshold",
    "output_postprocess_type",
    "output_use_regular_nms",
)


def recorded_limits(parameters: Any) -> dict[str, float]:
    """Return the limits at which a session was recorded, from its model's parameters."""
    known = parameters if isinstance(parameters, dict) else {}
    return {
        limit.property: value
        for limit in LIMITS
        if isinstance(value := known.get(limit.property), int | float)
        and not isinstance(value, bool)
    }


def reports_below_threshold(limit: Limit, value: float, recorded: Mapping[str, float]) -> bool:
    """Return whether a setting has a classifier report classes below the recorded threshold.

    With top k PySDK reports that many classes, whatever the threshold is.
    """
    is_new = limit is TOP_K and value > 0 and recorded.get(TOP_K.property) == 0
    return is_new and recorded.get(THRESHOLD.property, 0) > 0


def kept(
    results: Sequence[Any],
    values: Mapping[str, float],
    recorded: Mapping[str, float],
    *,
    by_class: bool = True,
) -> Sequence[int]:
    """Return which results the settings let through, in their order.

    Args:
        values: Settings by their property's name; those that are as recorded change nothing.
        by_class: Whether boxes of different classes do not suppress each other
            (``output_use_regular_nms``).

    Raises:
        ModelError: A setting cannot be applied to such results.
    """
    changed = {name: value for name, value in values.items() if value != recorded.get(name)}
    everything = range(len(results))
    if not changed or not results:
        return everything
    if not all(
        isinstance(item, Mapping) and isinstance(item.get("score"), Real) for item in results
    ):
        raise ModelError(f"{min(changed)}: cannot be applied to results without scores")
    scores = [float(item["score"]) for item in results]
    if not all("bbox" in item for item in results):
        return _best_classes(scores, values, changed)
    chosen: Sequence[int] = everything
    if (threshold := changed.get(THRESHOLD.property)) is not None:
        chosen = [index for index in chosen if scores[index] >= threshold]
    if (overlap := changed.get(NMS.property)) is not None:
        chosen = _without_overlaps(results, scores, chosen, overlap, by_class=by_class)
    if (most := changed.get(_PER_CLASS.property)) is not None:
        chosen = [
            index for group in _by_class(results, chosen) for index in _best(scores, group, most)
        ]
    if (most := changed.get(_MOST.property)) is not None:
        chosen = _best(scores, chosen, most)
    return sorted(chosen)


def suppressed(
    boxes: np.ndarray[Any, np.dtype[np.float64]],
    scores: np.ndarray[Any, np.dtype[np.float64]],
    classes: np.ndarray[Any, Any] | None,
    overlap: float,
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which boxes NMS removes: they overlap a better one by more than ``overlap`` (IoU).

    Args:
        boxes: n x 4: x_min, y_min, x_max, y_max.
        classes: Boxes of different classes do not suppress each other; None: they do.
    """
    import cv2

    is_removed = np.zeros(len(boxes), np.bool_)
    # A file may hold any number; OpenCV moves the boxes of each class apart.
    is_plain = np.all(np.abs(boxes) < _FARTHEST, axis=1) & np.isfinite(scores)
    places = np.flatnonzero(is_plain)
    if not places.size:
        return is_removed
    boxes, scores = boxes[places], scores[places]
    rectangles: Any = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    rounded: Any = scores.astype(np.float32)
    least = float(rounded.min()) - 1.0  # the threshold is applied elsewhere
    if classes is None:
        left = cv2.dnn.NMSBoxes(rectangles, rounded, least, overlap)
    else:
        of_places: Any = classes[places].tolist()
        left = cv2.dnn.NMSBoxesBatched(rectangles, rounded, of_places, least, overlap)
    is_removed[places] = True
    is_removed[places[np.asarray(left, np.intp).ravel()]] = False
    return is_removed


# --- inside ---


def _best_classes(
    scores: Sequence[float], values: Mapping[str, float], changed: Mapping[str, float]
) -> Sequence[int]:
    """Return the classes that a classifier reports: the best k, or those above the threshold."""
    if top_k := values.get(TOP_K.property):
        return sorted(_best(scores, range(len(scores)), top_k))
    threshold = changed.get(THRESHOLD.property, float("-inf"))
    return [index for index, score in enumerate(scores) if score >= threshold]


def _best(scores: Sequence[float], chosen: Sequence[int], count: float) -> Sequence[int]:
    return sorted(chosen, key=lambda index: -scores[index])[: max(0, int(count))]


def _class_of(item: Mapping[str, Any]) -> Any:
    return item.get("category_id", item.get("label"))


def _by_class(results: Sequence[Any], chosen: Sequence[int]) -> list[list[int]]:
    groups: dict[Any, list[int]] = {}
    for index in chosen:
        groups.setdefault(_class_of(results[index]), []).append(index)
    return list(groups.values())


def _without_overlaps(
    results: Sequence[Any],
    scores: Sequence[float],
    chosen: Sequence[int],
    overlap: float,
    *,
    by_class: bool,
) -> Sequence[int]:
    if any("angle" in results[index] for index in chosen):
        raise ModelError(f"{NMS.property}: cannot be applied to boxes with an angle")
    if not chosen:
        return chosen
    numbers = {item: number for number, item in enumerate({_class_of(results[i]) for i in chosen})}
    classes = np.array([numbers[_class_of(results[index])] for index in chosen])
    removed = suppressed(
        np.array([results[index]["bbox"] for index in chosen], np.float64),
        np.array([scores[index] for index in chosen]),
        classes if by_class else None,
        overlap,
    )
    return [index for index, is_removed in zip(chosen, removed, strict=True) if not is_removed]
