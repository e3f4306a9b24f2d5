"""JSON that dgrec wrote for a Python value, back into that value. The text may be hostile."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import functools
import math
import pathlib
import re
import uuid
import zoneinfo
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from dgrec.format import array_values, result_values
from dgrec.format.recorded_objects import (
    InnerResult,
    RecordedMeta,
    RecordedObject,
    RecordedTuple,
    enum_member,
)
from dgrec.format.untrusted import Allowance, DecodeError

#: Deeper than any data, and far from Python's own limit, which depends on the caller.
DEEPEST = 100
#: A set compares all values of one hash with each other. Stand-ins for objects share one hash;
#: other values can be chosen to.
_MOST_OF_ONE_HASH = 1000
#: Ten characters can be a decimal number that takes minutes and gigabytes as an integer.
_MOST_DIGITS = 3_000
#: Names of time zones, which are looked up as files.
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,40}(?:/[A-Za-z0-9_+-]{1,40}){0,3}")
_PATHS = {"posix": pathlib.PurePosixPath, "windows": pathlib.PureWindowsPath}


def decode(value: Any, allowance: Allowance) -> Any:
    """Return the value that was encoded, from its parsed JSON; see `dgrec.format.json_values`."""
    try:
        return _Decoder(allowance).decode(value, 0)
    except DecodeError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise DecodeError(f"not what dgrec writes: {error}") from None


class _Decoder:
    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._results: list[tuple[InnerResult, int]] = []
        #: Values so far, those of repeated results counted each time.
        self._weight = 0

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
            self._weight += len(value) + 1
            return {key: self.decode(item, depth) for key, item in value.items()}
        return value

    def _items(self, values: Any, depth: int) -> list[Any]:
        if type(values) is not list:
            raise DecodeError(f"expected a list, not {type(values).__name__}")
        depth = _deeper(depth)
        self._weight += len(values) + 1
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
        return array_values.array_from(spec, self._allowance)

    def _scalar(self, spec: Any, depth: int) -> Any:
        return array_values.scalar_from(spec, self._allowance)

    def _objects(self, spec: Any, depth: int) -> np.ndarray[Any, Any]:
        shape, values = spec
        if type(shape) is not list or not all(type(n) is int and n >= 0 for n in shape):
            raise DecodeError("an array's shape is not a list of sizes")
        items = self._items(values, depth)
        if math.prod(shape) != len(items):
            raise DecodeError("an array is shorter or longer than its shape says")
        array = np.empty(len(items), object)
        for index, item in enumerate(items):
            array[index] = item
        return array.reshape(shape)

    def _masked(self, spec: Any, depth: int) -> Any:
        if spec is None:
            return np.ma.masked
        data, mask, fill = self._items(spec, depth)
        arrays = [data, fill] if mask is None else [data, fill, mask]
        if not all(type(array) is np.ndarray for array in arrays):
            raise DecodeError("a masked array is not made of arrays")
        if fill.shape != () or fill.dtype.kind != data.dtype.kind:
            raise DecodeError("a masked array's fill value is not one of its values")
        if mask is None:
            return np.ma.MaskedArray(data, fill_value=fill[()])
        if mask.shape != data.shape or mask.dtype != np.ma.make_mask_descr(data.dtype):
            raise DecodeError("a masked array's mask does not fit it")
        return np.ma.MaskedArray(data, mask, fill_value=fill[()])

    def _namedtuple(self, spec: Any, depth: int) -> RecordedTuple:
        name, fields, values = spec
        items = self._items(values, depth)
        if type(fields) is not list or len(fields) != len(items):
            raise DecodeError("a named tuple does not have a name for each value")
        return RecordedTuple.of(_text(name), list(map(_text, fields)), items)

    def _enum(self, spec: Any, depth: int) -> Any:
        class_name, name, value, is_plain, text = spec
        if type(is_plain) is not bool:
            raise DecodeError("a member of an enumeration is not what dgrec writes")
        inner = self.decode(value, _deeper(depth))
        name = None if name is None else _text(name)
        return enum_member(_text(class_name), name, inner, _text(text), is_plain)

    def _path(self, spec: Any, depth: int) -> pathlib.PurePath:
        kind, text = spec
        return _PATHS[_text(kind)](_text(text))

    def _timedelta(self, spec: Any, depth: int) -> dt.timedelta:
        if type(spec) is not list or len(spec) != 3 or not all(type(n) is int for n in spec):
            raise DecodeError("a duration is not three whole numbers")
        return dt.timedelta(*spec)

    def _result(self, spec: Any, depth: int) -> InnerResult:
        name, state = spec
        if type(state) is not dict:
            raise DecodeError("a result is not an object")
        before = self._weight
        depth = _deeper(depth)
        parts = {key: self.decode(item, depth) for key, item in state.items()}
        result = result_values.result_from(_text(name), parts)
        self._results.append((result, self._weight - before + 1))
        return result

    def _same(self, number: Any, depth: int) -> InnerResult:
        if type(number) is not int or not 0 <= number < len(self._results):
            raise DecodeError("refers to a result that is not there")
        result, weight = self._results[number]
        self._weight += weight
        # Printing or comparing goes through the result each time.
        self._allowance.values_left -= weight
        if self._allowance.values_left < 0:
            raise DecodeError("its results refer to one another too often")
        return result

    def _meta(self, spec: Any, depth: int) -> RecordedMeta:
        notes, tags = spec
        items = self._items(notes, depth)
        found: dict[str, list[int]] = {}
        for tag, places in tags:
            if type(places) is not list or not all(
                type(at) is int and 0 <= at < len(items) for at in places
            ):
                raise DecodeError("a tag refers to a note that is not there")
            found[_text(tag)] = places
        return RecordedMeta(items, found)


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
    "$datetime": lambda _, spec, __: _datetime(spec),
    "$date": lambda _, text, __: dt.date.fromisoformat(_text(text)),
    "$time": lambda _, spec, __: _time(spec),
    "$timedelta": _Decoder._timedelta,
    "$decimal": lambda _, text, __: _decimal(text),
    "$uuid": lambda _, text, __: uuid.UUID(_text(text)),
    "$path": _Decoder._path,
    "$enum": _Decoder._enum,
    "$namedtuple": _Decoder._namedtuple,
    "$ndarray": _Decoder._array,
    "$scalar": _Decoder._scalar,
    "$objects": _Decoder._objects,
    "$masked": _Decoder._masked,
    "$object": _Decoder._object,
    "$repr": _Decoder._repr,
    "$result": _Decoder._result,
    "$same": _Decoder._same,
    "$meta": _Decoder._meta,
}


def has_usual_length(value: decimal.Decimal) -> bool:
    """Return whether a number has no more digits than `_MOST_DIGITS`, all zeros written out."""
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):  # infinite, or not a number
        return len(digits) <= _MOST_DIGITS
    return len(digits) + abs(exponent) <= _MOST_DIGITS


def _decimal(text: Any) -> decimal.Decimal:
    value = decimal.Decimal(_text(text))
    if not has_usual_length(value):
        raise DecodeError("a decimal number with too many digits")
    return value


def _datetime(spec: Any) -> dt.datetime:
    """Return a moment; its zone is a fixed offset if this machine does not know the zone."""
    if type(spec) is str:
        return dt.datetime.fromisoformat(spec)
    text, name = spec
    moment, zone = dt.datetime.fromisoformat(_text(text)), _zone(_text(name))
    return moment if zone is None or moment.tzinfo is None else moment.astimezone(zone)


def _time(spec: Any) -> dt.time:
    if type(spec) is str:
        return dt.time.fromisoformat(spec)
    text, name = spec
    return dt.time.fromisoformat(_text(text)).replace(tzinfo=_zone(_text(name)))


@functools.lru_cache(maxsize=64)
def _zone(name: str) -> dt.tzinfo | None:
    if _ZONE.fullmatch(name) is None:
        raise DecodeError("not the name of a time zone")
    try:
        return zoneinfo.ZoneInfo(name)
    except (LookupError, OSError, ValueError):  # not known, or a folder of zones
        return None


def _deeper(depth: int) -> int:
    if depth > DEEPEST:
        raise DecodeError("nested too deeply")
    return depth + 1


def _text(value: Any) -> str:
    if type(value) is not str:
        raise DecodeError(f"expected a text, not {type(value).__name__}")
    return value


def _hashable(items: list[Any]) -> list[Any]:
    if len(items) > _MOST_OF_ONE_HASH:
        ((_, most),) = Counter(map(hash, items)).most_common(1)
        if most > _MOST_OF_ONE_HASH:
            raise DecodeError("a set of too many objects")
    return items
