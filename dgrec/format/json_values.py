"""Any Python value to JSON and back, without losing its type.

What the typed columns cannot hold (keys that an analyzer invented, NumPy values, tuples, sets) is
kept as JSON text. Plain JSON would turn a tuple into a list and refuse an array: such a value
becomes an object with one key that starts with ``$``. Objects of unknown classes come back as
`RecordedObject`: dgrec never imports or builds a class that a file names.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import json
import math
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from dgrec.format.untrusted import Allowance, DecodeError, inflate, parse_json

__all__ = ["RecordedObject", "decode", "dumps", "loads", "plain"]

_PLAIN = frozenset({type(None), bool, str})
# Deeper than any data, and far from Python's own limit, which depends on the caller.
_DEEPEST = 100
# Python refuses to turn longer integers into decimal digits (and back).
_LONGEST_DECIMAL_BITS = 10_000
_ARRAY_KINDS = "biufcSUmM"


class RecordedObject:
    """An object whose class dgrec does not rebuild, such as a line counter's totals.

    `to_dict` returns its state when it was recorded; the items of a dictionary can also be read as
    attributes. It is equal to any object whose ``to_dict()`` returns the same.
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
        except ValueError:  # comparing arrays gives an array
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


def loads(text: str, allowance: Allowance | None = None) -> Any:
    """Return the value that `dumps` wrote.

    Args:
        allowance: How much memory it may take; it is counted down.

    Raises:
        DecodeError: `dumps` did not write it, or it takes more memory.
    """
    allowance = Allowance() if allowance is None else allowance
    return decode(parse_json(text, allowance), allowance)


def plain(value: Any) -> Any:
    """Return ``value`` as metadata has it: tuples and sets as lists, what JSON has not as text."""
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.loads(dumps(value))


def _class_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


class _TooDeepError(Exception):
    """A value is nested too deeply: most likely it holds itself."""


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
        return _items(value, depth)
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: _encode(item, depth) for key, item in value.items()}
        return {"$dict": [_items(pair, depth) for pair in value.items()]}
    if kind in _ENCODERS:
        key, encoder = _ENCODERS[kind]
        return {key: encoder(value, depth)}
    if kind is dt.datetime and value.tzinfo in (None, dt.UTC):
        return {"$datetime": value.isoformat()}
    if kind is np.ndarray and value.dtype.kind in _ARRAY_KINDS:
        packed = zlib.compress(np.ascontiguousarray(value).tobytes(), 3)
        return {"$ndarray": [value.dtype.str, list(value.shape), _base64(packed, depth)]}
    if isinstance(value, np.generic) and value.dtype.kind in _ARRAY_KINDS:
        return {"$scalar": [value.dtype.str, _base64(value.tobytes(), depth)]}
    return _encode_object(value, depth)


def _items(values: Iterable[Any], depth: int) -> list[Any]:
    return [_encode(item, depth) for item in values]


def _sorted_items(values: Iterable[Any], depth: int) -> list[Any]:
    # Sorted where that is possible, so that equal sets make equal text.
    return _items(sorted(values, key=lambda item: (str(type(item)), _repr(item))), depth)


def _base64(value: bytes, depth: int) -> str:
    return base64.b64encode(value).decode()


_ENCODERS: dict[type, tuple[str, Callable[[Any, int], Any]]] = {
    tuple: ("$tuple", _items),
    set: ("$set", _sorted_items),
    frozenset: ("$frozenset", _sorted_items),
    deque: ("$deque", lambda value, depth: [_items(value, depth), value.maxlen]),
    bytes: ("$bytes", _base64),
    bytearray: ("$bytearray", _base64),
    complex: ("$complex", lambda value, depth: _items([value.real, value.imag], depth)),
}


def _encode_object(value: Any, depth: int) -> Any:
    """Encode an instance of a class that `loads` does not rebuild."""
    if callable(getattr(value, "to_dict", None)):
        # This is code of other people, whose failure must not end a recording.
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


# --- decoding ----------------------------------------------------------------------------------

#: The types of arrays and scalars that are rebuilt: numbers, truth values, text, stamps. Never
#: objects: NumPy would take their bytes for addresses.
_DTYPE = re.compile(
    r"[<>|=]?(?:b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SU]\d{1,7}"
    r"|[mM]8(?:\[\d{0,9}(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)"
)
_LAST_CODE_POINT = 0x10FFFF
#: `RecordedObject`s all have the same hash: a set of them compares each with each.
_MOST_OBJECTS_IN_SET = 1000


def decode(value: Any, allowance: Allowance) -> Any:
    """Return the value that `dumps` wrote, from its parsed JSON, as `loads` does."""
    try:
        return _Decoder(allowance).decode(value, 0)
    except DecodeError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise DecodeError(f"not what dgrec writes: {error}") from None


class _Decoder:
    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance

    def decode(self, value: Any, depth: int) -> Any:
        if isinstance(value, list):
            return self._items(value, depth)
        if isinstance(value, dict):
            if len(value) == 1:
                (key, item), *_ = value.items()
                decoder = _DECODERS.get(key)
                if decoder is not None:
                    return decoder(self, item, depth)
            depth = _deeper(depth)
            return {key: self.decode(item, depth) for key, item in value.items()}
        return value

    def _items(self, values: Any, depth: int) -> list[Any]:
        if type(values) is not list:
            raise DecodeError(f"expected a list, not {type(values).__name__}")
        depth = _deeper(depth)
        return [self.decode(item, depth) for item in values]

    def _unique(self, items: Any, depth: int) -> list[Any]:
        return _hashable(self._items(items, depth))

    def _dict(self, pairs: Any, depth: int) -> dict[Any, Any]:
        items = self._items(pairs, depth)
        _hashable([key for key, _ in items])
        return dict(items)

    def _deque(self, spec: Any, depth: int) -> deque[Any]:
        items, longest = spec
        if longest is not None and type(longest) is not int:
            raise DecodeError("a deque's length is not a number")
        return deque(self._items(items, depth), longest)

    def _object(self, spec: Any, depth: int) -> RecordedObject:
        name, state = spec
        return RecordedObject(_text(name), self.decode(state, _deeper(depth)))

    def _repr(self, spec: Any, depth: int) -> RecordedObject:
        name, text = spec
        return RecordedObject(_text(name), _text(text))

    def _bytes(self, text: Any, depth: int) -> bytes:
        return base64.b64decode(_text(text), validate=True)

    def _array(self, spec: Any, depth: int) -> np.ndarray[Any, Any]:
        name, shape, text = spec
        dtype = _dtype(name)
        if type(shape) is not list or not all(type(n) is int and n >= 0 for n in shape):
            raise DecodeError("an array's shape is not a list of sizes")
        size = math.prod(shape) * dtype.itemsize
        # Items of no bytes (empty texts) also take memory once they are used.
        self._allowance.take(max(size, math.prod(shape)))
        data = inflate(self._bytes(text, depth), size)
        return _elements(dtype, shape, data)

    def _scalar(self, spec: Any, depth: int) -> Any:
        name, text = spec
        dtype = _dtype(name)
        self._allowance.take(dtype.itemsize)
        # NumPy stores an empty text as one zero character.
        return _elements(dtype, [1], self._bytes(text, depth)[: dtype.itemsize])[0]


_DECODERS: dict[str, Callable[[_Decoder, Any, int], Any]] = {
    "$int": lambda _, text, __: int(_text(text), 16),
    "$float": lambda _, text, __: float(_text(text)),
    "$dict": _Decoder._dict,
    "$tuple": lambda decoder, items, depth: tuple(decoder._items(items, depth)),
    "$set": lambda decoder, items, depth: set(decoder._unique(items, depth)),
    "$frozenset": lambda decoder, items, depth: frozenset(decoder._unique(items, depth)),
    "$deque": _Decoder._deque,
    "$bytes": _Decoder._bytes,
    "$bytearray": lambda decoder, text, depth: bytearray(decoder._bytes(text, depth)),
    "$complex": lambda decoder, parts, depth: complex(*decoder._items(parts, depth)),
    "$datetime": lambda _, text, __: dt.datetime.fromisoformat(_text(text)),
    "$ndarray": _Decoder._array,
    "$scalar": _Decoder._scalar,
    "$object": _Decoder._object,
    "$repr": _Decoder._repr,
}


def _deeper(depth: int) -> int:
    if depth > _DEEPEST:
        raise DecodeError("nested too deeply")
    return depth + 1


def _text(value: Any) -> str:
    if type(value) is not str:
        raise DecodeError(f"expected a text, not {type(value).__name__}")
    return value


def _hashable(items: list[Any]) -> list[Any]:
    if sum(isinstance(item, RecordedObject) for item in items) > _MOST_OBJECTS_IN_SET:
        raise DecodeError("a set of too many objects")
    return items


def _dtype(name: Any) -> np.dtype[Any]:
    if _DTYPE.fullmatch(_text(name)) is None:
        raise DecodeError(f"dgrec does not rebuild the type {name[:40]!r}")
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def _elements(dtype: np.dtype[Any], shape: list[int], data: bytes) -> np.ndarray[Any, Any]:
    """Return the array in ``data``, whose length must fit exactly."""
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise DecodeError("an array is shorter or longer than its shape says")
    if dtype.kind == "b":
        return np.asarray(np.ndarray(shape, np.uint8, data) != 0)
    if dtype.kind == "U":
        points = np.frombuffer(data, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if points.max(initial=0) > _LAST_CODE_POINT:
            raise DecodeError("a text has characters that do not exist")
    # np.ndarray takes what np.frombuffer refuses: no elements, strings of no characters.
    return np.ndarray(shape, dtype, data).copy()
