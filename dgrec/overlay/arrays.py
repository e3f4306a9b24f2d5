"""Arrays that are reused: those of a frame's layers, and those of freed pictures.

If they were allocated for every frame, getting their pages from the system would take longer than
all of the drawing.
"""

from __future__ import annotations

import collections
import math
import threading
from typing import Any

import numpy as np

Image = np.ndarray[Any, Any]


class _Arrays(threading.local):
    def __init__(self) -> None:
        self.flat: dict[str, Image] = {}


_ARRAYS = _Arrays()


def scratch(name: str, shape: tuple[int, ...], dtype: Any = np.uint8) -> Image:
    """Return this thread's array of a name, uninitialised."""
    size = math.prod(shape)
    flat = _ARRAYS.flat.get(name)
    if flat is None or flat.size < size:
        flat = _ARRAYS.flat[name] = np.empty(size, dtype)
    return flat[:size].reshape(shape)


class _Loan:
    """Owner of an array's memory, which becomes spare when the array is freed."""

    def __init__(self, memory: Image, shape: tuple[int, ...]) -> None:
        self._memory = memory
        self.__array_interface__ = {**memory.__array_interface__, "shape": shape}

    def __del__(self) -> None:
        _SPARE.append(self._memory)


#: Memory of freed pictures; the oldest is dropped.
_SPARE: collections.deque[Image] = collections.deque(maxlen=4)


def new_picture(shape: tuple[int, ...]) -> Image:
    """Return an uninitialised picture that belongs to the caller."""
    size = math.prod(shape)
    try:
        memory = _SPARE.pop()
    except IndexError:  # also if another thread was faster
        memory = None
    if memory is None or memory.size != size:
        memory = np.empty(size, np.uint8)
    return np.asarray(_Loan(memory, shape))


def copied(picture: Image) -> Image:
    made = new_picture(picture.shape)
    np.copyto(made, picture)
    return made
