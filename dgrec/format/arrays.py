"""What columns of every kind are made with."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["compact", "is_utf8", "number_array"]


def number_array(values: np.ndarray[Any, Any], type_: pa.DataType) -> pa.Array:
    """Return numbers as a column: the same bytes, without the search for nulls or a cast."""
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(type_, len(values), [None, buffer])


def compact(value: Any) -> str:
    """Return a value as JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


def is_utf8(text: str) -> bool:
    """Return whether a text has no lone surrogates, which Arrow and files cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
