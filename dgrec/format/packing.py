"""Python lists of numbers to arrays, if each is exactly of the expected type.

In a column of float64, an integer, a bool or a NumPy scalar would come back as another type.
`marshal` writes a tag for the exact type before each value, so that one pass in C both checks and
converts. Should another version of Python write something else, the tags are not found, and the
caller takes its slow path.

For the ten boxes of each of 15 frames this takes 13 us; a pass for the types and another for the
values would take 43.
"""

from __future__ import annotations

import marshal
from typing import Any

import numpy as np

#: The version that writes every value in full: later ones refer back to objects seen before.
_VERSION = 2
_HEAD = 5  # the tag of a list, and its length
_FLOAT = np.dtype([("tag", "u1"), ("value", "<f8")])
_INT32 = np.dtype([("tag", "u1"), ("value", "<i4")])
_BOX = np.dtype([("head", "V5"), ("items", _FLOAT, 4)])
#: Offset and value of each byte before and between the values of a box.
_BOX_TAGS = [*enumerate(b"[\x04\0\0\0"), *((_HEAD + 9 * i, ord("g")) for i in range(4))]


def pack_floats(values: list[Any]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return ``values`` as float64 if each is exactly a `float`, else None."""
    data = _dumped(values, _FLOAT)
    if data is None or data[_HEAD :: _FLOAT.itemsize].count(b"g") < len(values):
        return None
    return np.frombuffer(data, _FLOAT, offset=_HEAD)["value"].copy()


def pack_int32(values: list[Any]) -> np.ndarray[Any, np.dtype[np.int32]] | None:
    """Return ``values`` as int32 if each is exactly an `int` and in range, else None."""
    data = _dumped(values, _INT32)
    if data is None or data[_HEAD :: _INT32.itemsize].count(b"i") < len(values):
        return None
    return np.frombuffer(data, _INT32, offset=_HEAD)["value"].copy()


def pack_boxes(values: list[Any]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return 4 x n float64 if each value is a list of exactly four `float`, else None."""
    data = _dumped(values, _BOX)
    # Each value begins where the one before ends: if all tags are in their places, nothing else is
    # between them.
    if data is None or any(
        data[_HEAD + place :: _BOX.itemsize].count(tag) < len(values) for place, tag in _BOX_TAGS
    ):
        return None
    return np.frombuffer(data, _BOX, offset=_HEAD)["items"]["value"].T.copy()


def _dumped(values: list[Any], item: np.dtype[Any]) -> bytes | None:
    """Return `marshal`'s bytes for values; None if their length is not that of so many items."""
    try:
        data = marshal.dumps(values, _VERSION)
    except ValueError:  # a type that marshal does not know
        return None
    return data if len(data) == _HEAD + item.itemsize * len(values) else None
