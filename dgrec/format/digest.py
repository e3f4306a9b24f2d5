"""What a row says of the pixels that were inferred: an exact digest, and a small signature.

By the digest a picture is found again among the recorded ones; by the signature the recorded
picture that is most like it, such as the original of a re-encoded copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import xxhash

__all__ = [
    "NO_FINGERPRINT",
    "Fingerprint",
    "digest",
    "distance",
    "fingerprint",
    "signature",
    "vectors",
]

_Array = np.ndarray[Any, Any]

#: Cells of a signature, down and across.
_ROWS, _COLUMNS = 4, 8
#: Its pixels are as many at least, down and across (fewer of a smaller picture): all of 1280x720
#: would take longer than the digest.
_LEAST_ROWS, _LEAST_COLUMNS = 45, 80
#: Means are kept in as many steps of a level of brightness.
_STEPS = 16
_CELL = np.dtype("<u2")
#: The share of a difference of all cells alike that counts.
_COMMON = 0.1


class Fingerprint(NamedTuple):
    """The digest and the signature of a picture; None: there was no picture."""

    digest: int | None
    signature: bytes | None


NO_FINGERPRINT: Final = Fingerprint(None, None)


def fingerprint(image: Any) -> Fingerprint:
    """Return digest and signature of what a model is given.

    Args:
        image: An array, a picture of PIL's (taken as the array that NumPy makes of it), or bytes.
            Anything else, such as the name of a file, has neither.
    """
    array = _array(image)
    return NO_FINGERPRINT if array is None else Fingerprint(_digest(array), _signature(array))


def digest(image: Any) -> int | None:
    """Return a number from 0 to 2^63 - 1 that equal pictures have in common, and no others.

    It covers every value, the shape and the type of the values.
    """
    array = _array(image)
    return None if array is None else _digest(array)


def signature(image: Any) -> bytes | None:
    """Return the brightness of 32 cells of a picture, which `distance` compares."""
    array = _array(image)
    return None if array is None else _signature(array)


def distance(first: bytes, second: bytes) -> float:
    """Return how unlike two pictures are by their signatures, from 0; see `vectors`."""
    one, other = vectors([first, second])
    return float(np.linalg.norm(one - other))


def vectors(signatures: Sequence[bytes]) -> _Array:
    """Return a row of 32 numbers for each signature, whose Euclidean distance is `distance`.

    It is about the root mean square of the differences between the cells of two pictures, in levels
    of brightness from 0 to 255. What all cells have in common counts for a tenth: another
    conversion of colours, as of a re-encoded copy, makes a picture a little brighter or darker.

    Raises:
        ValueError: One of them is no signature.
    """
    size = _ROWS * _COLUMNS
    if any(len(each) != size * _CELL.itemsize for each in signatures):
        raise ValueError("a signature has 64 bytes")
    planes = np.frombuffer(b"".join(signatures), np.uint8).reshape(-1, 2, size).astype(np.float32)
    cells = (planes[:, 0] * 256 + planes[:, 1]) / _STEPS
    common = cells.mean(1, keepdims=True)
    found: _Array = (cells - common * (1 - _COMMON)) / np.float32(math.sqrt(size))
    return found


def _array(image: Any) -> _Array | None:
    if isinstance(image, bytes | bytearray | memoryview):
        image = np.frombuffer(image, np.uint8)
    elif hasattr(image, "getchannel"):  # of PIL
        image = np.asarray(image)
    if isinstance(image, np.ndarray) and image.dtype.kind in "biuf" and image.size:
        return image
    return None


def _digest(array: _Array) -> int:
    values = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    seed = _seed(array.shape, array.dtype.str)
    # Without its lowest bit it fits the signed integers that every reader of Parquet has.
    return xxhash.xxh3_64_intdigest(values.data, seed) >> 1


@lru_cache(maxsize=256)
def _seed(shape: tuple[int, ...], dtype: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{shape} {dtype}".encode())


def _signature(array: _Array) -> bytes | None:
    if array.ndim not in (2, 3):
        return None
    # The middle one of three is green, of RGB as of BGR.
    plane = array if array.ndim == 2 else array[..., 1 if array.shape[2] > 1 else 0]
    down, across = max(1, plane.shape[0] // _LEAST_ROWS), max(1, plane.shape[1] // _LEAST_COLUMNS)
    points = plane[down // 2 :: down, across // 2 :: across]
    rows, columns, steps = _layout(points.shape)
    if points.dtype == np.uint8:
        means = rows @ points.astype(np.float32) @ columns * steps
    else:
        with np.errstate(all="ignore"):  # of floats that are no brightness
            levels = points.astype(np.float32) * np.float32(_levels(points))
            means = np.nan_to_num(rows @ levels @ columns * steps).clip(0, 255 * _STEPS)
    # High bytes first: they hardly change from frame to frame, and compress well together.
    cells = (means + np.float32(0.5)).astype(_CELL).reshape(-1, 1).view(np.uint8)
    return cells[:, ::-1].T.tobytes()


@lru_cache(maxsize=256)
def _layout(shape: tuple[int, int]) -> tuple[_Array, _Array, _Array]:
    """Return which rows and columns are in each cell, as factors, and steps of a mean by a sum."""
    rows, columns = _parts(shape[0], _ROWS), _parts(shape[1], _COLUMNS).T
    steps = _STEPS / np.outer(rows.sum(1), columns.sum(0))
    return rows, np.ascontiguousarray(columns), steps.astype(np.float32)


def _parts(size: int, count: int) -> _Array:
    """Return which of ``size`` are in each of ``count`` parts; of few, one is in several."""
    starts = np.arange(count) * size // count
    ends = np.maximum(np.append(starts[1:], size), starts + 1)
    at = np.arange(size)
    is_in: _Array = (at >= starts[:, None]) & (at < ends[:, None])
    return is_in.astype(np.float32)


def _levels(points: _Array) -> float:
    """Return how many levels of 255 a unit of the values is."""
    if points.dtype.kind == "f":  # in [0, 1], or like bytes
        return 1.0 if points.max() > 1 else 255.0
    return 255.0 if points.dtype == np.bool_ else 255 / np.iinfo(points.dtype).max
