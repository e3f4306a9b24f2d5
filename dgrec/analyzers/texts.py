"""Texts that can be drawn.

OpenCV ends the process at half a character (a lone surrogate, which JSON can hold).
"""

from __future__ import annotations

import copy
import marshal
import re
from typing import Any, Final

from dgrec.format import is_utf8

#: The parts of a result that are drawn are not nested deeper.
_DEEPEST: Final = 6
#: How half a character is written by `marshal`, which goes through values in C.
_HALF: Final = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
#: The first version that writes numbers as they are, not as texts.
_VERSION: Final = 2
_NUMBERS: Final = frozenset((float, int, bool, type(None)))
#: The usual types of a detection's values.
_SMALL: Final = _NUMBERS | {str, list, tuple}


def drawable(value: Any) -> Any:
    """Return a value with a question mark for each half character in its texts.

    A value without any, as nearly all are, is returned as it is.
    """
    return _without(value, 0) if _may_have_halves(value) and _has_halves(value, 0) else value


def drawable_result(result: Any) -> Any:
    """Return a result of PySDK with texts that can be drawn."""
    odd = {
        name: value
        for name, value in vars(result).items()
        if _may_have_halves(value) and _has_halves(value, 0)
    }
    if not odd:
        return result
    result = copy.copy(result)
    vars(result).update({name: _without(value, 0) for name, value in odd.items()})
    return result


def _may_have_halves(value: Any) -> bool:
    """Return False, quickly, for nearly all values that have none."""
    if isinstance(value, str):
        return not value.isascii()
    if not isinstance(value, dict | list | tuple):
        return False
    first = value[0] if isinstance(value, list) and value else value
    # `marshal` would copy all pixels of a mask, and it writes NumPy's texts like pixels.
    if isinstance(first, dict) and not _SMALL.issuperset(map(type, first.values())):
        return True
    try:
        return _HALF.search(marshal.dumps(value, _VERSION)) is not None
    except ValueError:  # there is a type in it that `marshal` does not know
        return True


def _has_halves(value: Any, depth: int) -> bool:
    if isinstance(value, str):
        return not value.isascii() and not is_utf8(value)
    if depth < _DEEPEST:
        if isinstance(value, dict):
            return any(_has_halves(each, depth + 1) for pair in value.items() for each in pair)
        if isinstance(value, list | tuple) and not set(map(type, value)) <= _NUMBERS:
            return any(_has_halves(each, depth + 1) for each in value)
    return False


def _without(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if depth < _DEEPEST:
        if isinstance(value, dict):
            return {
                _without(key, depth + 1): _without(each, depth + 1) for key, each in value.items()
            }
        if isinstance(value, list):
            return [_without(each, depth + 1) for each in value]
        if isinstance(value, tuple):
            return tuple(_without(each, depth + 1) for each in value)
    return value
