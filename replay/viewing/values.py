"""Values as JSON that browsers can read: no NaN, no whole numbers beyond 2^53."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from dgrec.replay.output import cell_text

#: JavaScript's numbers are exact up to here.
_LARGEST_WHOLE: Final = 2**53
#: Longer lists of numbers, such as a mask's pixels, are described instead of sent.
_LONGEST_ARRAY: Final = 4096
#: Longer whole numbers are described, too.
_MOST_BITS: Final = 4096
#: Deeper values are sent as text where a value is changed at all.
_DEEPEST: Final = 64
#: What `plain` changes and JSON does not refuse: whole numbers that may be too long, and keys that
#: were not texts.
_CHANGED: Final = re.compile(r'[\[:,]-?\d{16,}(?![\d.e])|"(?:null|true|false|-?\d[\d.e+-]*)":')


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON in UTF-8; see `plain`."""
    try:
        text = _encode(value)
        is_plain = _CHANGED.search(text) is None
    except (TypeError, ValueError, RecursionError):  # NaN, or keys that JSON does not have
        is_plain = False
    if not is_plain:
        text = _encode(plain(value))
    return text.encode(errors="backslashreplace")  # half of a surrogate pair, as JSON escapes it


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value for JSON.

    Numbers that are not finite become null; whole numbers that JavaScript cannot hold become text;
    whatever JSON does not know becomes what `dgrec query` writes for it.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int):
        if -_LARGEST_WHOLE <= value <= _LARGEST_WHOLE:
            return value
        # Python refuses to write the longest.
        bits = value.bit_length()
        return str(value) if bits < _MOST_BITS else f"a number of {bits:,} bits"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth > _DEEPEST:
        return str(value)
    if isinstance(value, np.ndarray):
        if value.size > _LONGEST_ARRAY:
            return f"array of {' x '.join(map(str, value.shape))} {value.dtype}"
        return plain(value.tolist(), depth + 1)
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else cell_text(key): plain(item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return [plain(item, depth + 1) for item in value]
    return cell_text(value)


def numbers(values: np.ndarray[Any, Any]) -> list[float | None]:
    """Return floats with None for those that are not finite."""
    found: list[float | None] = pa.array(values, mask=~np.isfinite(values)).to_pylist()
    return found


#: Fast: Python code runs only for what JSON does not know.
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain
).encode
