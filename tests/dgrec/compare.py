"""Strict equality: values, types, key order, bit patterns."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from dgrec.format.json_values import RecordedObject

__all__ = ["assert_same", "difference"]


def difference(one: Any, other: Any, where: str = "value") -> str | None:
    """Return where and how two values differ, or None if they cannot be told apart."""
    if type(one) is not type(other):
        return f"{where}: {type(one).__name__} became {type(other).__name__}"
    if isinstance(one, np.ndarray):
        same = one.dtype == other.dtype and one.shape == other.shape
        if one.dtype.hasobject or not same or one.tobytes() != other.tobytes():
            return f"{where}: {one!r} became {other!r}"
        return None
    if isinstance(one, np.generic):
        same = one.dtype == other.dtype and one.tobytes() == other.tobytes()
        return None if same else f"{where}: {one!r} became {other!r}"
    if isinstance(one, float):
        # Any NaN is as good as another: JSON and Python make no difference between them.
        same = struct.pack("d", one) == struct.pack("d", other) or (one != one and other != other)
        return None if same else f"{where}: {one!r} became {other!r}"
    if isinstance(one, complex):
        return difference((one.real, one.imag), (other.real, other.imag), where)
    if isinstance(one, dict):
        if [*map(repr, one)] != [*map(repr, other)]:
            return f"{where}: keys {list(one)} became {list(other)}"
        pairs = zip(one.items(), other.items(), strict=True)
        found = (
            difference(key, key2, f"{where} key") or difference(value, value2, f"{where}[{key!r}]")
            for (key, value), (key2, value2) in pairs
        )
        return next(filter(None, found), None)
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{where}: length {len(one)} became {len(other)}"
        items = enumerate(zip(one, other, strict=True))
        return next(filter(None, (difference(*p, f"{where}[{i}]") for i, p in items)), None)
    if isinstance(one, RecordedObject):
        return difference(one.to_dict(), other.to_dict(), f"{where}.to_dict()")
    return None if one == other else f"{where}: {one!r} became {other!r}"


def assert_same(one: Any, other: Any) -> None:
    found = difference(one, other)
    assert found is None, found
