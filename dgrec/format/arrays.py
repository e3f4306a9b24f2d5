"""Arrow arrays from buffers.

At a camera's pace a batch has 15 rows, and calling Arrow takes longer than handling their values:
arrays are made from buffers, and those that are the same in every batch are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

_KEPT_NULLS = 4096
_ZEROS = pa.py_buffer(bytes(4 * (_KEPT_NULLS + 1)))
_from_buffers: Any = pa.Array.from_buffers  # the stubs lack ``children``


class NullColumns:
    """Columns of nulls. Making the nested ones anew would take longer than all other columns."""

    def __init__(self, fields: Iterable[pa.Field]) -> None:
        self._kept = {field.name: pa.nulls(_KEPT_NULLS, field.type) for field in fields}
        self._items = {
            name: pa.nulls(0, kept.type.value_type)
            for name, kept in self._kept.items()
            if pa.types.is_list(kept.type)
        }

        self.get = lru_cache(maxsize=1024)(self._get)

    def _get(self, name: str, size: int) -> pa.Array:
        kept = self._kept[name]
        # For an empty slice of texts, Arrow would write the whole kept column.
        if not 0 < size <= _KEPT_NULLS:
            return pa.nulls(size, kept.type)
        if name not in self._items:
            return kept.slice(0, size)
        # Likewise for any slice of lists.
        buffers = [_ZEROS.slice(0, size // 8 + 1), _ZEROS.slice(0, 4 * (size + 1))]
        return _from_buffers(kept.type, size, buffers, size, children=[self._items[name]])


def number_array(values: np.ndarray[Any, Any], type_: pa.DataType) -> pa.Array:
    """Return contiguous numbers as a column: the same bytes, no search for nulls and no cast."""
    return pa.Array.from_buffers(type_, len(values), [None, pa.py_buffer(values)], 0)


def nested_array(
    type_: pa.DataType,
    size: int,
    children: Sequence[pa.Array],
    offsets: np.ndarray[Any, np.dtype[np.int32]] | None = None,
) -> pa.Array:
    """Return structs or (with ``offsets``) lists, none of them null."""
    buffers = [None] if offsets is None else [None, pa.py_buffer(offsets)]
    return _from_buffers(type_, size, buffers, 0, children=list(children))


def repeated_text(text: str, size: int) -> pa.Array:
    data = text.encode()
    offsets = np.arange(size + 1, dtype=np.int32) * len(data)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data * size)]
    return pa.Array.from_buffers(pa.string(), size, buffers, 0)


#: Returns a value as JSON without spaces. (`json.dumps` would make an encoder at each call.)
compact = json.JSONEncoder(separators=(",", ":")).encode


def is_utf8(text: str) -> bool:
    """Return whether a text has no lone surrogates, which Arrow and files cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
