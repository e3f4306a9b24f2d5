"""Any Python value to JSON and back, without losing its type.

Sessions keep what the typed columns cannot hold (keys that an analyzer invented, NumPy values,
tuples, sets) as JSON text. Plain JSON would turn a tuple into a list and refuse an array, so
values that JSON has no form for become an object with one key that starts with ``$``.
Objects of unknown classes come back as `RecordedObject`: dgrec never imports or builds a class
that a file names.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import json
import math
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["RecordedObject", "dumps", "loads"]

_PLAIN = frozenset({type(None), bool, str})
# Deeper than anything that is data, and far from Python's own limit, which depends on the caller.
_DEEPEST = 100
# Python refuses to turn longer integers into decimal digits (and back).
_LONGEST_DECIMAL_BITS = 10_000
_ARRAY_KINDS = "biufcSUmM"


class RecordedObject:
    """Stands for an object whose class dgrec does not rebuild (a line counter's totals, say).

    `to_dict` gives the state it had when it was recorded, whose items can also be read as
    attributes. It is equal to any object whose ``to_dict()`` gives the same.
    """

    def __init__(self, class_name: str, state: Any) -> None:
        self._class_name = class_name
        self._state = state

    def to_dict(self) -> Any:
        return self._state

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__.get("_state")
        if isinstance(state, dict) and name in state:
            return state[name]
        raise AttributeError(f"recorded {self._class_name!r} has no attribute {name!r}")

    def __eq__(self, other: object) -> bool:
        to_dict = getattr(other, "to_dict", None)
        if not callable(to_dict):
            return NotImplemented
        state = to_dict()
        try:
            return bool(self._state == state)
        except ValueError:  # arrays do not compare to one truth value
            return dumps(self._state) == dumps(state)

    def __hash__(self) -> int:
        # The state may hold lists; a set of such objects must still come back as a set.
        return hash(RecordedObject)

    def __repr__(self) -> str:
        return f"<recorded {self._class_name}: {self._state!r}>"


def dumps(value: Any) -> str:
    """Return ``value`` as compact JSON text that `loads` turns back into an equal value."""
    try:
        encoded = _encode(value, 0)
    except _TooDeepError:
        encoded = {"$repr": [_class_name(value), "<too deeply nested>"]}
    return json.dumps(encoded, separators=(",", ":"), allow_nan=False)


def loads(text: str) -> Any:
    """Return the value that `dumps` wrote."""
    return _decode(json.loads(text))


def _class_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


class _TooDeepError(Exception):
    """A value holds itself, most likely."""


def _encode(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if value.bit_length() < _LONGEST_DECIMAL_BITS else {"$int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if depth > _DEEPEST:
        raise _TooDeepError
    depth += 1
    if kind is list:
        return [_encode(item, depth) for item in value]
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: _encode(item, depth) for key, item in value.items()}
        pairs = [[_encode(key, depth), _encode(item, depth)] for key, item in value.items()]
        return {"$dict": pairs}
    if kind is tuple:
        return {"$tuple": [_encode(item, depth) for item in value]}
    if kind in (set, frozenset):
        # Sorted where that is possible, so that equal sets make equal text.
        items = sorted(value, key=lambda item: (str(type(item)), _repr(item)))
        return {"$" + kind.__name__: [_encode(item, depth) for item in items]}
    if kind is deque:  # trails are often kept in one
        return {"$deque": [[_encode(item, depth) for item in value], value.maxlen]}
    if kind in (bytes, bytearray):
        return {"$" + kind.__name__: base64.b64encode(value).decode()}
    if kind is complex:
        return {"$complex": [_encode(value.real, depth), _encode(value.imag, depth)]}
    if kind is dt.datetime and value.tzinfo in (None, dt.UTC):
        return {"$datetime": value.isoformat()}
    if kind is np.ndarray and value.dtype.kind in _ARRAY_KINDS:
        packed = zlib.compress(np.ascontiguousarray(value).tobytes(), 3)
        return {"$ndarray": [value.dtype.str, list(value.shape), base64.b64encode(packed).decode()]}
    if isinstance(value, np.generic) and value.dtype.kind in _ARRAY_KINDS:
        return {"$scalar": [value.dtype.str, base64.b64encode(value.tobytes()).decode()]}
    return _encode_object(value, depth)


def _encode_object(value: Any, depth: int) -> Any:
    """Encode an instance of a class that `loads` does not rebuild."""
    if callable(getattr(value, "to_dict", None)):
        # Somebody else's code runs here: its failure must not end a recording.
        try:
            return {"$object": [_class_name(value), _encode(value.to_dict(), depth)]}
        except _TooDeepError:
            raise
        except Exception:
            return {"$repr": [_class_name(value), _repr(value)]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        state = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
        return {"$object": [_class_name(value), _encode(state, depth)]}
    # Subclasses of plain types (defaultdict, named tuple, IntEnum) become what they are equal to.
    for plain in (dict, list, tuple, str, int, float):
        if isinstance(value, plain):
            return _encode(_as_plain(value, plain), depth)
    return {"$repr": [_class_name(value), _repr(value)]}


def _as_plain(value: Any, plain: type) -> Any:
    if plain is str:  # str() may be overridden, as in an enumeration of strings
        return str.__str__(value)
    if plain is int:
        return int.__int__(value)
    return float.__float__(value) if plain is float else plain(value)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<repr() failed: {type(error).__name__}>"


def _array(spec: list[Any]) -> np.ndarray[Any, Any]:
    dtype, shape, data = spec
    # np.ndarray takes what np.frombuffer refuses: no elements, strings of no characters.
    flat = np.ndarray(shape, np.dtype(dtype), zlib.decompress(base64.b64decode(data)))
    return flat.copy()


def _scalar(spec: list[Any]) -> Any:
    return np.ndarray((1,), np.dtype(spec[0]), base64.b64decode(spec[1]))[0]


def _deque(spec: list[Any]) -> deque[Any]:
    return deque((_decode(item) for item in spec[0]), spec[1])


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "$int": lambda text: int(text, 16),
    "$float": float,
    "$dict": lambda pairs: {_decode(key): _decode(item) for key, item in pairs},
    "$tuple": lambda items: tuple(_decode(item) for item in items),
    "$set": lambda items: {_decode(item) for item in items},
    "$frozenset": lambda items: frozenset(_decode(item) for item in items),
    "$deque": _deque,
    "$bytes": base64.b64decode,
    "$bytearray": lambda text: bytearray(base64.b64decode(text)),
    "$complex": lambda parts: complex(_decode(parts[0]), _decode(parts[1])),
    "$datetime": dt.datetime.fromisoformat,
    "$ndarray": _array,
    "$scalar": _scalar,
    "$object": lambda spec: RecordedObject(spec[0], _decode(spec[1])),
    "$repr": lambda spec: RecordedObject(spec[0], spec[1]),
}


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if isinstance(value, dict):
        if len(value) == 1:
            (key, item), *_ = value.items()
            decoder = _DECODERS.get(key)
            if decoder is not None:
                return decoder(item)
        return {key: _decode(item) for key, item in value.items()}
    return value
