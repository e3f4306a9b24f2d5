"""NumPy's arrays and scalars as JSON, and back without building anything but numbers and text."""

from __future__ import annotations

import base64
import math
import re
import zlib
from typing import Any

import numpy as np

from dgrec.format.untrusted import Allowance, DecodeError, inflate

_KINDS = "biufcSUmMV"
#: The types of arrays and scalars that are rebuilt: numbers, truth values, text, stamps, and raw
#: bytes. Never objects: NumPy would take their bytes for addresses.
_DTYPE = re.compile(
    r"[<>|=]?(?:b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SUV]\d{1,7}"
    r"|[mM]8(?:\[(?:[1-9]\d{0,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)"
)
_LAST_CODE_POINT = 0x10FFFF
_MOST_FIELDS = 1000
#: Levels of structures in structures.
_DEEPEST = 8


def is_kept(dtype: np.dtype[Any]) -> bool:
    """Return whether values of this type can be kept: anything but objects and unions."""
    if dtype.hasobject or dtype.kind not in _KINDS:
        return False
    try:
        return _dtype(_dtype_spec(dtype)) == dtype
    except DecodeError:
        return False


def array_spec(array: np.ndarray[Any, Any]) -> list[Any]:
    """Return an array as `array_from` reads it: type, shape, deflated data."""
    packed = zlib.compress(np.ascontiguousarray(array).tobytes(), 3)
    return [_dtype_spec(array.dtype), list(array.shape), base64.b64encode(packed).decode()]


def scalar_spec(value: Any) -> list[Any]:
    """Return a NumPy scalar as `scalar_from` reads it."""
    return [_dtype_spec(value.dtype), base64.b64encode(value.tobytes()).decode()]


def _dtype_spec(dtype: np.dtype[Any]) -> Any:
    if dtype.names is None:
        return dtype.str
    fields: Any = dtype.fields
    return {
        "names": list(dtype.names),
        "formats": [_field_spec(fields[name][0]) for name in dtype.names],
        "offsets": [fields[name][1] for name in dtype.names],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }


def _field_spec(dtype: np.dtype[Any]) -> Any:
    spec = _dtype_spec(dtype.base)
    return [spec, list(dtype.shape)] if dtype.shape else spec


def array_from(spec: Any, allowance: Allowance) -> np.ndarray[Any, Any]:
    """Return the array that `array_spec` described.

    Raises:
        DecodeError: It is not what `array_spec` returns, or the array takes too much memory.
    """
    name, shape, text = spec
    dtype = _dtype(name)
    if not _is_shape(shape):
        raise DecodeError("an array's shape is not a list of sizes")
    size = math.prod(shape) * dtype.itemsize
    # Items of no bytes (empty texts) also take memory once they are used.
    allowance.take(max(size, math.prod(shape)))
    return _elements(dtype, shape, inflate(_bytes(text), size))


def scalar_from(spec: Any, allowance: Allowance) -> Any:
    """Return the scalar that `scalar_spec` described.

    Raises:
        DecodeError: It is not what `scalar_spec` returns, or it takes too much memory.
    """
    name, text = spec
    dtype = _dtype(name)
    allowance.take(dtype.itemsize)
    # NumPy stores an empty text as one zero character.
    return _elements(dtype, [1], _bytes(text)[: dtype.itemsize])[0]


def _bytes(text: Any) -> bytes:
    if type(text) is not str:
        raise DecodeError(f"expected a text, not {type(text).__name__}")
    return base64.b64decode(text, validate=True)


def _is_shape(shape: Any) -> bool:
    return type(shape) is list and all(type(n) is int and n >= 0 for n in shape)


def _dtype(spec: Any, depth: int = 0) -> np.dtype[Any]:
    dtype: np.dtype[Any]
    if type(spec) is dict:
        return _structure(spec, depth)
    if type(spec) is not str:
        raise DecodeError(f"expected a text, not {type(spec).__name__}")
    if _DTYPE.fullmatch(spec) is None:
        raise DecodeError(f"dgrec does not rebuild the type {spec[:40]!r}")
    dtype = np.dtype(spec)
    return dtype


def _structure(spec: dict[str, Any], depth: int) -> np.dtype[Any]:
    """Return the type of a structured array."""
    names, formats, offsets = spec["names"], spec["formats"], spec["offsets"]
    itemsize, aligned = spec["itemsize"], spec["aligned"]
    lists = type(names) is list and type(formats) is list and _is_shape(offsets)
    if not lists or not len(names) == len(formats) == len(offsets) <= _MOST_FIELDS:
        raise DecodeError("the fields of an array are not lists of one length")
    if depth > _DEEPEST or not all(type(name) is str for name in names):
        raise DecodeError("an array's field names are not texts, or nested too deeply")
    if not _is_shape([itemsize]) or type(aligned) is not bool:
        raise DecodeError("the size of an array's elements is not a number")
    types = [_field(item, depth + 1) for item in formats]
    # Fields that overlap could turn the bytes of one, which are checked, into those of another.
    end = 0
    for offset, size in sorted(zip(offsets, (item.itemsize for item in types), strict=True)):
        if offset < end:
            raise DecodeError("the fields of an array overlap")
        end = offset + size
    if end > itemsize or itemsize > np.iinfo(np.int32).max:
        raise DecodeError("the fields of an array are longer than its elements")
    dtype: np.dtype[Any] = np.dtype(
        {"names": names, "formats": types, "offsets": offsets, "itemsize": itemsize},
        align=aligned,
    )
    return dtype


def _field(spec: Any, depth: int) -> np.dtype[Any]:
    if type(spec) is not list:
        return _dtype(spec, depth)
    base, shape = spec
    inner = _dtype(base, depth)
    if not _is_shape(shape) or math.prod(shape) * inner.itemsize > np.iinfo(np.int32).max:
        raise DecodeError("the shape of an array's field is not a list of sizes")
    return np.dtype((inner, tuple(shape)))


def _elements(dtype: np.dtype[Any], shape: list[int], data: bytes) -> np.ndarray[Any, Any]:
    """Return the array in ``data``, whose length must fit exactly."""
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise DecodeError("an array is shorter or longer than its shape says")
    if dtype.kind == "b":
        return np.asarray(np.ndarray(shape, np.uint8, data) != 0)
    # np.ndarray takes what np.frombuffer refuses: no elements, strings of no characters.
    array = np.ndarray(shape, dtype, data).copy()
    _check(array)
    return array


def _check(array: np.ndarray[Any, Any]) -> None:
    """Check characters, and set truth values to 0 or 1: NumPy relies on both."""
    dtype = array.dtype
    for name in dtype.names or ():
        _check(array[name])
    if dtype.kind == "b":
        array[...] = array.view(np.uint8) != 0
    if dtype.kind == "U" and array.size and dtype.itemsize:
        points = np.ascontiguousarray(array).view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if points.max(initial=0) > _LAST_CODE_POINT:
            raise DecodeError("a text has characters that do not exist")
