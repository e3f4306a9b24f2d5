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
import re
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dgrec.format.untrusted import Allowance, DecodeError, inflate, parse_json

__all__ = ["RecordedObject", "decode", "dumps", "loads", "plain"]

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


def loads(text: str, allowance: Allowance | None = None) -> Any:
    """Return the value that `dumps` wrote.

    Args:
        allowance: What it may take in memory; it is counted down.

    Raises:
        DecodeError: `dumps` did not write it, or it takes more.
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
    if isinstance(value, RecordedObject):  # again
        return {"$object": [value._class_name, _encode(value._state, depth)]}
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


# --- decoding ----------------------------------------------------------------------------------

#: The types of arrays and scalars that are rebuilt: numbers, truth values, text, stamps. Of others
#: (objects above all, whose bytes NumPy takes for addresses) none ever is.
_DTYPE = re.compile(
    r"[<>|=]?(?:b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SU]\d{1,7}"
    r"|[mM]8(?:\[\d{0,9}(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)"
)
_LAST_CODE_POINT = 0x10FFFF
#: Objects that dgrec does not rebuild all have one hash: a set of them compares each with each.
_MOST_OBJECTS_IN_SET = 1000


def decode(value: Any, allowance: Allowance) -> Any:
    """Return the value that `dumps` wrote, from its text as JSON was parsed.

    Args:
        allowance: What it may take in memory; it is counted down.

    Raises:
        DecodeError: `dumps` did not write it, or it takes more.
    """
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
            raise DecodeError(f"a list is missing: {type(values).__name__}")
        depth = _deeper(depth)
        return [self.decode(item, depth) for item in values]

    def _tuple(self, items: Any, depth: int) -> tuple[Any, ...]:
        return tuple(self._items(items, depth))

    def _set(self, items: Any, depth: int) -> set[Any]:
        return set(_hashable(self._items(items, depth)))

    def _frozenset(self, items: Any, depth: int) -> frozenset[Any]:
        return frozenset(_hashable(self._items(items, depth)))

    def _dict(self, pairs: Any, depth: int) -> dict[Any, Any]:
        items = self._items(pairs, depth)
        _hashable([key for key, _ in items])
        return dict(items)

    def _deque(self, spec: Any, depth: int) -> deque[Any]:
        items, longest = spec
        if longest is not None and type(longest) is not int:
            raise DecodeError("a deque's length is no number")
        return deque(self._items(items, depth), longest)

    def _complex(self, parts: Any, depth: int) -> complex:
        real, imaginary = self._items(parts, depth)
        return complex(real, imaginary)

    def _object(self, spec: Any, depth: int) -> RecordedObject:
        name, state = spec
        return RecordedObject(_text(name), self.decode(state, _deeper(depth)))

    def _repr(self, spec: Any, depth: int) -> RecordedObject:
        name, text = spec
        return RecordedObject(_text(name), _text(text))

    def _bytes(self, text: Any, depth: int) -> bytes:
        return base64.b64decode(_text(text), validate=True)

    def _bytearray(self, text: Any, depth: int) -> bytearray:
        return bytearray(self._bytes(text, depth))

    def _array(self, spec: Any, depth: int) -> np.ndarray[Any, Any]:
        name, shape, text = spec
        dtype = _dtype(name)
        if type(shape) is not list or not all(type(n) is int and n >= 0 for n in shape):
            raise DecodeError("an array's shape is not a list of sizes")
        size = math.prod(shape) * dtype.itemsize
        # Items of no bytes (texts without characters) take memory, too, once they are used.
        self._allowance.take(max(size, math.prod(shape)))
        data = inflate(self._bytes(text, depth), size)
        return _elements(dtype, shape, data)

    def _scalar(self, spec: Any, depth: int) -> Any:
        name, text = spec
        dtype = _dtype(name)
        self._allowance.take(dtype.itemsize)
        # NumPy gives a text without characters one of zeros.
        return _elements(dtype, [1], self._bytes(text, depth)[: dtype.itemsize])[0]


_DECODERS: dict[str, Callable[[_Decoder, Any, int], Any]] = {
    "$int": lambda _, text, __: int(_text(text), 16),
    "$float": lambda _, text, __: float(_text(text)),
    "$dict": _Decoder._dict,
    "$tuple": _Decoder._tuple,
    "$set": _Decoder._set,
    "$frozenset": _Decoder._frozenset,
    "$deque": _Decoder._deque,
    "$bytes": _Decoder._bytes,
    "$bytearray": _Decoder._bytearray,
    "$complex": _Decoder._complex,
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
        raise DecodeError(f"a text is missing: {type(value).__name__}")
    return value


def _hashable(items: list[Any]) -> list[Any]:
    if sum(isinstance(item, RecordedObject) for item in items) > _MOST_OBJECTS_IN_SET:
        raise DecodeError("a set of too many objects")
    return items


def _dtype(name: Any) -> np.dtype[Any]:
    if _DTYPE.fullmatch(_text(name)) is None:
        raise DecodeError(f"type {name[:40]!r} is none that dgrec rebuilds")
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def _elements(dtype: np.dtype[Any], shape: list[int], data: bytes) -> np.ndarray[Any, Any]:
    """Return the array in ``data``, which is exactly as long as it has to be."""
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise DecodeError("an array is shorter or longer than its shape says")
    if dtype.kind == "b":
        return np.asarray(np.ndarray(shape, np.uint8, data) != 0)
    if dtype.kind == "U":
        points = np.frombuffer(data, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if points.max(initial=0) > _LAST_CODE_POINT:
            raise DecodeError("a text has characters that there are not")
    # np.ndarray takes what np.frombuffer refuses: no elements, strings of no characters.
    return np.ndarray(shape, dtype, data).copy()
