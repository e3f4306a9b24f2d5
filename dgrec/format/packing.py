"""Python lists of numbers to arrays, refusing whatever is not exactly of the expected type.

A float64 column must not swallow an integer, a bool or a numpy scalar: it would come back as
another type. Looking at the type of every item and then converting takes two passes over Python
objects; `marshal` does both in one, in C: it writes a tag before each value, which tells the
exact type, at a fixed distance, where NumPy can check and read it. What `marshal` writes never
leaves this module. Should another Python write something else, the tags are not found where they
are expected, and the caller takes its slow path.
"""

from __future__ import annotations

import marshal
from typing import Any

import numpy as np

__all__ = ["pack_boxes", "pack_floats", "pack_int32"]

#: The version that writes every value in full: later ones refer back to objects seen before.
_VERSION = 2
_HEAD = 5  # the tag of a list, and its length
_FLOAT = np.dtype([("tag", "u1"), ("value", "<f8")])
_INT32 = np.dtype([("tag", "u1"), ("value", "<i4")])
_BOX = np.dtype([("tag", "u1"), ("length", "<i4"), ("items", _FLOAT, 4)])


def pack_floats(values: list[Any]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return ``values`` as float64 if each is exactly a `float`, else None."""
    items = _unpack(values, _FLOAT)
    if items is None or not (items["tag"] == ord("g")).all():
        return None
    return items["value"].astype(np.float64)


def pack_int32(values: list[Any]) -> np.ndarray[Any, np.dtype[np.int32]] | None:
    """Return ``values`` as int32 if each is exactly an `int` and in range, else None."""
    items = _unpack(values, _INT32)
    if items is None or not (items["tag"] == ord("i")).all():
        return None
    return items["value"].astype(np.int32)


def pack_boxes(values: list[Any]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return 4 x n float64 if each value is a list of exactly four `float`, else None."""
    boxes = _unpack(values, _BOX)
    if boxes is None:
        return None
    # Each value begins where the one before ends, if that was of the expected kind: when all tags
    # are in their places, nothing else can stand between them.
    if not (
        (boxes["tag"] == ord("[")).all()
        and (boxes["length"] == 4).all()
        and (boxes["items"]["tag"] == ord("g")).all()
    ):
        return None
    return boxes["items"]["value"].T.astype(np.float64, order="C")


def _unpack(values: list[Any], item: np.dtype[Any]) -> np.ndarray[Any, Any] | None:
    try:
        data = marshal.dumps(values, _VERSION)
    except ValueError:  # not a kind that marshal knows
        return None
    if len(data) != _HEAD + item.itemsize * len(values):
        return None
    return np.frombuffer(data, item, offset=_HEAD)
