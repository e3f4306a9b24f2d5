"""What a row says of the pixels that were inferred: an exact digest, and a small signature.

By the digest a picture is found again among the recorded ones; by the signature the recorded
picture that is most like it, such as the original of a re-encoded copy.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import xxhash

__all__ = ["NO_FINGERPRINT", "Fingerprint", "digest", "distance", "fingerprint", "signature"]

#: Cells of a signature, down and across.
_ROWS, _COLUMNS = 4, 8
#: A pixel of as many is looked at, down and across.
_STEP = 16


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
    if isinstance(image, bytes | bytearray | memoryview):
        image = np.frombuffer(image, np.uint8)
    elif hasattr(image, "getchannel"):  # of PIL
        image = np.asarray(image)
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "biuf" or not image.size:
        return NO_FINGERPRINT
    return Fingerprint(_digest(image), _signature(image))


def digest(image: Any) -> int | None:
    """Return a number from 0 to 2^63 - 1 that equal pictures have in common, and no others.

    It covers every value, the shape and the type: XXH3, seeded by the latter two.
    """
    return fingerprint(image).digest


def signature(image: Any) -> bytes | None:
    """Return the mean brightness of the cells of a picture; see `distance`."""
    return fingerprint(image).signature


def distance(first: bytes, second: bytes) -> float:
    """Return how unlike the pictures of two signatures are, from 0; `math.inf`: not comparable."""
    if len(first) != len(second) or not first:
        return np.inf
    a, b = (np.frombuffer(each, np.uint16).astype(np.float64) for each in (first, second))
    return float(np.abs(a - b).mean() / 256)


def _digest(image: np.ndarray[Any, Any]) -> int:
    values = np.ascontiguousarray(image).reshape(-1).view(np.uint8)
    seed = _seed(image.shape, image.dtype.str)
    # Without its lowest bit it fits the signed integers of every reader of Parquet.
    return xxhash.xxh3_64_intdigest(values.data, seed) >> 1


@lru_cache(maxsize=64)
def _seed(shape: tuple[int, ...], type_: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{shape}{type_}".encode())


def _signature(image: np.ndarray[Any, Any]) -> bytes | None:
    if image.ndim not in (2, 3):
        return None
    # The middle of three is green in RGB and BGR alike.
    plane = image if image.ndim == 2 else image[..., min(1, image.shape[2] - 1)]
    points = plane[_STEP // 2 :: _STEP, _STEP // 2 :: _STEP]
    if min(points.shape) < _COLUMNS:
        points = plane
    return _means(points)


def _means(points: np.ndarray[Any, Any]) -> bytes:
    rows = np.linspace(0, points.shape[0], _ROWS + 1).astype(int)[:-1]
    columns = np.linspace(0, points.shape[1], _COLUMNS + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(points.astype(np.float32), rows, 0), columns, 1)
    counts = np.outer(np.diff([*rows, points.shape[0]]), np.diff([*columns, points.shape[1]]))
    means = sums / np.maximum(counts, 1) * 256
    encoded: np.ndarray[Any, Any] = np.clip(np.nan_to_num(means), 0, 65535).astype(np.uint16)
    return encoded.tobytes()
