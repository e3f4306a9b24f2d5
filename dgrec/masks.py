"""Segmentation masks and class maps, packed into the fields of the mask column and back."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

__all__ = ["MaskMode", "is_packable", "pack_array", "unpack_array"]

MaskMode = Literal["exact", "bitmap"]


def is_packable(value: Any) -> bool:
    """Return whether `pack_array` takes this value: a 2-D array of plain numbers."""
    # Wider than 8 bytes (long double) has no integer type to compare bit patterns with.
    return (
        type(value) is np.ndarray
        and value.ndim == 2
        and value.dtype.kind in "biuf"
        and value.dtype.itemsize <= 8
    )


def pack_array(array: np.ndarray[Any, Any], mode: MaskMode) -> dict[str, Any]:
    """Pack a 2-D array as the fields width, height, encoding and data of the mask column.

    A mask that was resized from a coarse model output has a few dozen distinct values, so one
    byte a pixel into a palette of them is exact and deflates well. Bit patterns are compared
    rather than values: -0.0 and NaN come back as they were.
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
    if 0 < len(palette) <= 256:
        head = len(palette).to_bytes(2, "little") + palette.tobytes()
        data = zlib.compress(head + indices.astype(np.uint8).tobytes(), 6)
        return {**size, "encoding": f"palette:{array.dtype.str}", "data": data}
    return {
        **size,
        "encoding": f"array:{array.dtype.str}",
        "data": zlib.compress(flat.tobytes(), 6),
    }


def unpack_array(mask: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Return the array, height x width, that `pack_array` packed."""
    kind, _, dtype_name = mask["encoding"].partition(":")
    shape = (mask["height"], mask["width"])
    count = shape[0] * shape[1]
    dtype = np.dtype(dtype_name)
    data = zlib.decompress(mask["data"])
    if kind == "bitmap":
        bits = np.frombuffer(data, np.uint8)
        return np.unpackbits(bits, count=count).reshape(shape).astype(dtype)
    if kind == "palette":
        size = int.from_bytes(data[:2], "little")
        palette = np.frombuffer(data, dtype, size, 2)
        indices = np.frombuffer(data, np.uint8, count, 2 + size * dtype.itemsize)
        return palette[indices].reshape(shape)
    if kind == "array":
        return np.frombuffer(data, dtype, count).reshape(shape).copy()
    raise ValueError(f"unknown mask encoding {mask['encoding']!r}")
