"""Segmentation masks and class maps in the fields of the mask column."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from dgrec.format.untrusted import Allowance, DecodeError, inflate

MaskMode = Literal["exact", "bitmap"]

#: Types of arrays that `is_packable` accepts.
_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])")
_MOST_COLORS = 256


def is_packable(value: Any) -> bool:
    """Return whether `pack_array` accepts this value: a 2-D array of plain numbers."""
    # Numbers of more than 8 bytes have no integer type to compare their bits with.
    return (
        type(value) is np.ndarray
        and value.ndim == 2
        and value.dtype.kind in "biuf"
        and value.dtype.itemsize <= 8
    )


def pack_array(array: np.ndarray[Any, Any], mode: MaskMode) -> dict[str, Any]:
    """Pack a 2-D array as the fields width, height, encoding and data of the mask column.

    A mask that was resized from a coarse model output has a few dozen distinct values: a palette
    with one byte a pixel is exact and deflates well. Bits are compared, not values, so that -0.0
    and NaN come back as they were.
    """
    height, width = array.shape
    size = {"width": width, "height": height}
    if mode == "bitmap":
        bits = np.packbits(array > 0, axis=None)
        return {
            **size,
            "encoding": f"bitmap:{array.dtype.str}",
            "data": zlib.compress(bits.tobytes(), 6),
        }
    flat = np.ascontiguousarray(array).reshape(-1)
    bits = flat.view(f"u{flat.dtype.itemsize}")
    palette, indices = np.unique(bits, return_inverse=True)
    if 0 < len(palette) <= _MOST_COLORS:
        head = len(palette).to_bytes(2, "little") + palette.tobytes()
        data = zlib.compress(head + indices.astype(np.uint8).tobytes(), 6)
        return {**size, "encoding": f"palette:{array.dtype.str}", "data": data}
    return {
        **size,
        "encoding": f"array:{array.dtype.str}",
        "data": zlib.compress(flat.tobytes(), 6),
    }


def unpack_array(mask: Mapping[str, Any], allowance: Allowance) -> np.ndarray[Any, Any]:
    """Return the array, height x width, that `pack_array` packed.

    Raises:
        DecodeError: `pack_array` did not write it, or it takes more than ``allowance``.
    """
    width, height, data = mask["width"], mask["height"], mask["data"]
    kind, _, name = (mask["encoding"] or "").partition(":")
    if width is None or height is None or data is None or width < 0 or height < 0:
        raise DecodeError("a mask has no size, or no data")
    if _DTYPE.fullmatch(name) is None:
        raise DecodeError(f"a mask cannot have the encoding {mask['encoding']!r:.60}")
    shape, count, dtype = (height, width), height * width, np.dtype(name)
    allowance.take(count * dtype.itemsize)
    if kind == "bitmap":
        bits = np.frombuffer(_inflated(data, (count + 7) // 8), np.uint8)
        return np.unpackbits(bits, count=count).reshape(shape).astype(dtype)
    if kind == "palette":
        plain = inflate(data, 2 + _MOST_COLORS * dtype.itemsize + count)
        size = int.from_bytes(plain[:2], "little")
        start = 2 + size * dtype.itemsize
        if not 0 < size <= _MOST_COLORS or len(plain) != start + count:
            raise DecodeError("a mask's data is shorter or longer than its size")
        palette = np.frombuffer(plain, dtype, size, 2)
        indices = np.frombuffer(plain, np.uint8, count, start)
        if indices.max(initial=0) >= size:
            raise DecodeError("a mask has values that are not in its palette")
        return palette[indices].reshape(shape)
    if kind == "array":
        plain = _inflated(data, count * dtype.itemsize)
        return np.frombuffer(plain, dtype, count).reshape(shape).copy()
    raise DecodeError(f"a mask cannot have the encoding {mask['encoding']!r:.60}")


def _inflated(data: bytes, size: int) -> bytes:
    plain = inflate(data, size)
    if len(plain) != size:
        raise DecodeError("a mask's data is shorter than its size")
    return plain
