"""The exact digest and the small signature of the pixels that were inferred.

The digest finds a picture again among the recorded ones; the signature finds the recorded picture
that is most like it, such as the original of a re-encoded copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import xxhash

_Array = np.ndarray[Any, Any]

#: Cells of a signature, down and across.
_ROWS, _COLUMNS = 4, 8
#: A signature uses at least this many pixels, down and across (fewer of a smaller picture): all of
#: 1280x720 would take longer than the digest.
_LEAST_ROWS, _LEAST_COLUMNS = 45, 80
#: Steps per level of brightness in which means are kept.
_STEPS = 16
_CELL = np.dtype("<u2")
#: The share that counts of a difference common to all cells.
_COMMON = 0.1


class Fingerprint(NamedTuple):
    """The digest and pixels of a picture, taken before it can change; None: there was none."""

    digest: int | None
    #: The pixels for its signature: `signatures` makes those of many pictures at once, later.
    sample: _Array | None


NO_FINGERPRINT: Final = Fingerprint(None, None)


def fingerprint(image: Any) -> Fingerprint:
    """Return the fingerprint of a model's input, for its row.

    Args:
        image: An array, a PIL picture (taken as the array that NumPy makes of it), or bytes.
            Anything else, such as the name of a file, has no fingerprint.
    """
    array = _array(image)
    return NO_FINGERPRINT if array is None else Fingerprint(_digest(array), _sample(array))


def digest(image: Any) -> int | None:
    """Return a number from 0 to 2^63 - 1, the same for equal pictures and for no others.

    It covers every value, the shape and the type of the values.
    """
    array = _array(image)
    return None if array is None else _digest(array)


def signature(image: Any) -> bytes | None:
    """Return the brightness of 32 cells of a picture, which `distance` compares."""
    array = _array(image)
    return None if array is None else signatures([_sample(array)])[0]


def signatures(samples: Sequence[_Array | None]) -> list[bytes | None]:
    """Return the signatures of pictures, given the samples of their fingerprints."""
    first = samples[0]
    if first is not None and first.dtype == np.uint8 and len(samples) > 1:
        shape = first.shape
        alike = [each for each in samples if each is not None and each.shape == shape]
        if len(alike) == len(samples) and {each.dtype for each in alike} == {first.dtype}:
            return list(_signatures(np.stack(alike)))
    return [None if each is None else _signatures(each[None])[0] for each in samples]


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
        ValueError: One of them is not a signature.
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
    try:
        if isinstance(image, bytes | bytearray | memoryview):
            image = np.frombuffer(image, np.uint8)
        elif hasattr(image, "getchannel"):  # a PIL picture
            image = np.asarray(image)
    except Exception:  # a picture that cannot be read: the model will say why
        return None
    if isinstance(image, np.ndarray) and image.dtype.kind in "biuf" and image.size:
        # Masked arrays and other subclasses calculate in ways of their own.
        return np.asarray(image)
    return None


def _digest(array: _Array) -> int:
    seed = _seed(array.shape, array.dtype.str)
    # Without its lowest bit it fits the signed integers that every reader of Parquet has.
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(array).data, seed) >> 1


@lru_cache(maxsize=256)
def _seed(shape: tuple[int, ...], dtype: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{shape} {dtype}".encode())


def _sample(array: _Array) -> _Array | None:
    """Return pixels of a picture: all would take longer than the digest."""
    if array.ndim not in (2, 3):
        return None
    down, across = max(1, array.shape[0] // _LEAST_ROWS), max(1, array.shape[1] // _LEAST_COLUMNS)
    rows, columns = slice(down // 2, None, down), slice(across // 2, None, across)
    if array.ndim == 2:
        return array[rows, columns].copy()
    # The middle one of three is green, in RGB as in BGR.
    return array[rows, columns, 1 if array.shape[2] > 1 else 0].copy()


def _signatures(samples: _Array) -> list[bytes]:
    rows, columns, steps = _layout(samples.shape[1:])
    with np.errstate(all="ignore"):  # for floats that are not brightness
        levels = samples.astype(np.float32) * np.float32(_levels(samples))
        means = np.nan_to_num(rows @ levels @ columns * steps).clip(0, 255 * _STEPS)
    cells = (means + np.float32(0.5)).astype(_CELL)
    # High bytes first: they hardly change from frame to frame, and compress well together.
    planes = cells.view(np.uint8).reshape(len(samples), -1, _CELL.itemsize)[..., ::-1]
    return [each.T.tobytes() for each in planes]


@lru_cache(maxsize=256)
def _layout(shape: tuple[int, int]) -> tuple[_Array, _Array, _Array]:
    """Return the rows and columns of each cell as factors, and the factors from sums to steps."""
    rows, columns = _parts(shape[0], _ROWS), _parts(shape[1], _COLUMNS).T
    steps = _STEPS / np.outer(rows.sum(1), columns.sum(0))
    return rows, np.ascontiguousarray(columns), steps.astype(np.float32)


def _parts(size: int, count: int) -> _Array:
    """Return which of ``size`` items are in each of ``count`` parts; if few, one is in several."""
    starts = np.arange(count) * size // count
    ends = np.maximum(np.append(starts[1:], size), starts + 1)
    at = np.arange(size)
    is_in: _Array = (at >= starts[:, None]) & (at < ends[:, None])
    return is_in.astype(np.float32)


def _levels(samples: _Array) -> float:
    """Return how many levels of 255 a unit of the values is."""
    kind = samples.dtype
    if kind == np.bool_:
        return 255.0
    if kind.kind == "f":  # in [0, 1], or like bytes
        return 1.0 if samples.max() > 1 else 255.0
    return 1.0 if samples.max() <= 255 else 255 / float(np.iinfo(kind).max)
