"""Values as JSON can hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

_LONGEST_BITS: Final = 10_000
#: Keys of detections that are pictures.
PIXELS: Final = ("mask", "data")


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; NaN and infinity become null, pixels are left out."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, np.floating):  # a long double, which is not a Python number
        value = float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and value.bit_length() > _LONGEST_BITS:
        return None  # Python writes no number with so many digits
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if key not in PIXELS}
    return _plain_object(value)


def _plain_object(value: Any) -> Any:
    """Return the state of an object (such as counts of zones), or its text."""
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    state = getattr(value, "state", None)
    return plain(state) if isinstance(state, Mapping) else str(value)
