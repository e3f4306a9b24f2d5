"""Conditions over one detection: ``score > 0.5 and label in ('person', 'car')``."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from dgrec.alerts.condition import Condition, Grammar, parse_condition
from dgrec.format import CORNERS

#: Values of a detection that can be compared: a text, and numbers.
_DETECTION_VALUES = ("label", "score", *CORNERS, "width", "height", "track_id", "category_id")
#: What Python turns into a number though it is none.
NO_NUMBERS: Final = (bool, np.bool_, str, bytes, bytearray)


class DetectionCondition:
    """A condition over one detection.

    Example:
        >>> condition = parse_detection_condition("score > 0.5 and label == 'cat'")
        >>> condition.holds({"label": "cat", "score": 0.75}), condition.holds({"label": "cat"})
        (True, False)
    """

    def __init__(self, condition: Condition[str]) -> None:
        self._condition = condition
        self._needs_box = not condition.values.isdisjoint({*CORNERS, "width", "height"})

    @property
    def text(self) -> str:
        return self._condition.text

    def holds(self, item: Mapping[Any, Any]) -> bool:
        """Return whether it holds for a detection as PySDK has it; False if that is unknown."""
        label = item.get("label")
        values: dict[str, float | str | None] = {
            "label": label if isinstance(label, str) else None,
            **{name: known_number(item.get(name)) for name in ("score", "track_id", "category_id")},
        }
        if self._needs_box:
            box = _box(item.get("bbox"))
            values |= zip(CORNERS, box, strict=True)
            values["width"] = _difference(box[2], box[0])
            values["height"] = _difference(box[3], box[1])
        return self._condition.holds(values)


def parse_detection_condition(text: str) -> DetectionCondition:
    """Parse a condition.

    Raises:
        ConfigError: It is not one; the message says why.
    """
    grammar = Grammar(
        "--payload-where",
        _value,
        f"of a detection there are {', '.join(_DETECTION_VALUES)}",
        "score > 0.5",
        texts=("label",),
    )
    return DetectionCondition(parse_condition(text, grammar))


def _value(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) and node.id in _DETECTION_VALUES else None


def known_number(value: Any) -> float | None:
    """Return a number of a detection; None if it is not a number, or unknown (NaN)."""
    number = number_of(value)
    return None if number is None or math.isnan(number) else number


def number_of(value: Any) -> float | None:
    """Return a value as its typed column has it; None if it is not a number.

    The column has those of texts and of True and False too, which are no numbers here.
    """
    if isinstance(value, NO_NUMBERS):
        return None
    try:
        return float(value)
    except Exception:  # it may be of any class, or an integer of hundreds of digits
        return None


def _box(box: Any) -> list[float | None]:
    if isinstance(box, np.ndarray):
        box = box.tolist()
    if not isinstance(box, list | tuple) or len(box) != 4:
        return [None] * 4
    return [known_number(each) for each in box]


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else known_number(one - other)
