"""Thresholds and limits of a model, applied to the results that were recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Limit", "LIMITS", "limited"]


@dataclass(frozen=True)
class Limit:
    """A setting of PySDK's models that takes results away.

    Args:
        property: Its name as a property of a model.
        parameter: Its name among PySDK's parameters of a model.
        lets_more_through: Which of two values lets results through that the other does not.
        take: Takes the results that a value lets through.
    """

    property: str
    parameter: str
    lets_more_through: Callable[[float, float], bool]
    take: Callable[[list[Any], float], list[Any]]

    def loosens(self, value: float, recorded: float) -> bool:
        """Return whether a value asks for results that were not recorded."""
        return self.lets_more_through(value, recorded)


def _confident(results: list[Any], threshold: float) -> list[Any]:
    return [item for item in results if not _score(item) < threshold]


def _score(item: Any) -> float:
    score = item.get("score") if isinstance(item, Mapping) else None
    return float(score) if isinstance(score, int | float) else math.inf


def _best(results: list[Any], count: float) -> list[Any]:
    """Return the results with the highest scores, in their order; 0 takes all."""
    if not count or len(results) <= count:
        return results
    ranked = sorted(range(len(results)), key=lambda index: -_score(results[index]))
    return [results[index] for index in sorted(ranked[: int(count)])]


def _below(one: float, other: float) -> bool:
    return one < other


def _above(one: float, other: float) -> bool:
    return one > other


def _more_of_all(one: float, other: float) -> bool:
    return bool(other) and (not one or one > other)


#: In the order in which they are applied.
LIMITS = (
    Limit("output_confidence_threshold", "OutputConfThreshold", _below, _confident),
    Limit("output_max_detections", "MaxDetections", _above, _best),
    Limit("output_top_k", "OutputTopK", _more_of_all, _best),
)


def limited(results: Any, values: Mapping[str, float], recorded: Mapping[str, float]) -> Any:
    """Return the results that the settings let through, which differ from the recorded ones."""
    if not isinstance(results, list):
        return results
    for limit in LIMITS:
        value = values.get(limit.property)
        if value is not None and value != recorded.get(limit.property):
            results = limit.take(results, value)
    return results
