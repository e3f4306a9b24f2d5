"""Takes from a result, or a list of detections, what is recorded of it."""

from __future__ import annotations

import copy
import itertools
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from dgrec.errors import ConfigError, DgrecError
from dgrec.format import json_values, utc_ns

__all__ = [
    "DetectionList",
    "added_attributes",
    "finite",
    "own_pixels",
    "recordable",
    "sampled_conversion",
    "size_of",
    "stamp_ns",
]

# Attributes of PySDK's own result objects; any other was added by an analyzer.
_OWN_ATTRIBUTES = frozenset({"timing", "mask_result", "masks_present"})


@dataclass
class DetectionList:
    """Detections with the interface of a PySDK result."""

    # With an underscore, or it would count as added by an analyzer (see `added_attributes`).
    _results: list[dict[str, Any]]
    timing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def results(self) -> list[dict[str, Any]]:
        return self._results

    @property
    def info(self) -> str:
        return ""

    @property
    def image(self) -> None:
        return None


def recordable(result: Any) -> Any:
    """Return ``result`` if it is like a PySDK result, or a `DetectionList` of a list.

    Raises:
        DgrecError: It is neither.
    """
    if isinstance(result, list) and all(isinstance(item, dict) for item in result):
        try:
            # It is written half a second later, and the caller may change it meanwhile.
            return DetectionList(copy.deepcopy(result))
        except Exception as error:  # it holds a lock, or is nested too deeply
            raise DgrecError(
                f"detections that cannot be copied are not recorded: {error}"
            ) from None
    has_all = all(hasattr(result, name) for name in ("__dict__", "results", "timing", "info"))
    if has_all and isinstance(result.timing, Mapping):
        return result
    raise DgrecError(
        f"a {type(result).__name__} cannot be recorded: expected a PySDK result, or a list of "
        "detections, each a dictionary"
    )


def own_pixels(image: Any) -> Any:
    """Return a copy of an image that is to be recorded: the caller may change its own.

    Raises:
        DgrecError: It is not an image.
    """
    is_picture = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if is_picture and image.shape[2:] == (3,) and image.size:
        return image.copy()
    raise DgrecError(
        "a video is recorded, so every frame needs an image: an array of bytes of the shape "
        "(height, width, 3)"
    )


def size_of(image: Any) -> tuple[int, int] | None:
    """Return width and height of an image; None if it is not an array."""
    if not isinstance(image, np.ndarray) or image.ndim < 2:
        return None
    height, width = image.shape[:2]
    return width, height


def stamp_ns(moment: datetime | float) -> int:
    """Return nanoseconds since 1970 of a datetime, or of seconds since then.

    Raises:
        ConfigError: It is neither, has no time zone, or is before 1970.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ConfigError(f"captured_at: {moment} has no time zone")
        ns = utc_ns(moment)
    else:
        ns = round(finite("captured_at", moment) * 1e9)
    if ns < 0:
        raise ConfigError(f"captured_at: {moment} is before 1970")
    return ns


def finite(name: str, number: float) -> float:
    """Return a number of seconds as a Python float.

    Raises:
        ConfigError: It is not a finite number.
    """
    if isinstance(number, numbers.Real) and math.isfinite(number):
        return float(number)
    raise ConfigError(f"{name}: {number!r} is not a number of seconds")


def added_attributes(result: Any) -> str | None:
    """Return what analyzers added to a result, as `json_values.dumps` writes it.

    It is written out at once: an analyzer may keep changing the object that it added (running
    totals, for example), and every row of a batch would show its last state.
    """
    # Not `dir`: for a PySDK result that is a fixed list of six names.
    added = {
        name: value
        for name, value in vars(result).items()
        if name[0] != "_" and name not in _OWN_ATTRIBUTES
    }
    return json_values.dumps(added) if added else None


def sampled_conversion(result: Any) -> tuple[float, float, float, float] | None:
    """Return the model-to-image conversion at the two points where PySDK's overlay samples it."""
    try:
        height, width = result.results[0]["data"].squeeze().shape
        convert = result._conversion
        points = [convert(width / 2, height / 2), convert(width / 2 - 1, height / 2 - 1)]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None
    (x1, y1), (x2, y2) = itertools.islice(points, 2)
    return float(x1), float(y1), float(x2), float(y2)
