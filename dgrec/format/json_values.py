"""Any Python value to JSON and back, without losing its type.

What the typed columns cannot hold (keys that an analyzer invented, NumPy values, tuples, sets) is
kept as JSON text. Plain JSON would turn a tuple into a list and refuse an array: such a value
becomes an object with one key that starts with ``$``. Objects of unknown classes come back as
`RecordedObject`, and named tuples, enumerations and results inside of results as what stands for
them in `dgrec.format.recorded_objects`: dgrec never imports or builds a class that a file names.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import json
import math
import pathlib
import re
import threading
import uuid
import zoneinfo
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from dgrec.format import array_values, result_values
from dgrec.format.recorded_objects import (
    InnerResult,
    RecordedMeta,
    RecordedObject,
    RecordedTuple,
    enum_member,
    is_result,
    is_stream_meta,
)
from dgrec.format.untrusted import Allowance, DecodeError, parse_json

__all__ = ["Losses", "RecordedObject", "decode", "dumps", "loads", "plain"]

_PLAIN = frozenset({type(None), bool, str})
# Deeper than any data, and far from Python's own limit, which depends on the caller.
_DEEPEST = 100
# Python refuses to turn longer integers into decimal digits (and back).
_LONGEST_DECIMAL_BITS = 10_000
#: Arrays of bytes in the notes of gizmos from this size on are pictures.
_PICTURE_BYTES = 1024
#: Ten characters can be a decimal number that takes minutes and gigabytes as an integer.
_MOST_DIGITS = 3_000
_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")


class Losses:
    """What could not be recorded: each once, by key and type. Threads may share it."""

    #: Keys may be made from data, without end.
    _MOST = 100

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], str] = {}

    def add(self, key: str, class_name: str, what: str) -> None:
        """Note that a value under ``key`` was not kept, and what was kept in its place."""
        with self._lock:
            if len(self._found) < self._MOST:
                self._found.setdefault((key[:80], class_name[:200]), what)

    @property
    def lines(self) -> list[str]:
        """What the user should know, a line each."""
        with self._lock:
            return [f"{key} ({name}): {what}" for (key, name), what in self._found.items()]


def dumps(value: Any, key: str = "", losses: Losses | None = None) -> str:
    """Return ``value`` as compact JSON text that `loads` turns back into an equal value.

    Args:
        key: What it is called, for ``losses``.
        losses: Gets what cannot be kept.
    """
    return json.dumps(encode(value, key, losses), separators=(",", ":"), allow_nan=False)


def encode(value: Any, key: str = "", losses: Losses | None = None) -> Any:
    """Return what `dumps` writes, as plain values of JSON."""
    encoder = _Encoder(key, losses)
    try:
        return encoder.encode(value, 0)
    except _TooDeepError:
        encoder.lose(value, "it is nested too deeply, and is not recorded")
        return {"$repr": [_class_name(value), "<too deeply nested>"]}


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


class _Encoder:
    """Encodes one value; a result that is in it more than once is written once."""

    def __init__(self, key: str, losses: Losses | None) -> None:
        self._key = key
        self._losses = losses
        #: By id, number of each result in order of their ends; None: it is being written.
        self._results: dict[int, int | None] = {}
        #: Kept so that no id is used again.
        self._alive: list[Any] = []
        self._is_in_notes = False

    def encode(self, value: Any, depth: int) -> Any:
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
            return self.items(value, depth)
        if kind is dict:
            return self._dict(value, depth)
        encoder = _ENCODERS.get(kind)
        if encoder is not None:
            key, encode_kind = encoder
            return {key: encode_kind(self, value, depth)}
        if isinstance(value, np.ndarray | np.generic):
            return self._array(value, depth)
        return self._object(value, depth)

    def items(self, values: Iterable[Any], depth: int) -> list[Any]:
        return [self.encode(item, depth) for item in values]

    def sorted_items(self, values: Iterable[Any], depth: int) -> list[Any]:
        # Sorted where that is possible, so that equal sets make equal text.
        return self.items(sorted(values, key=lambda item: (str(type(item)), _repr(item))), depth)

    def lose(self, value: Any, what: str) -> None:
        if self._losses is not None:
            self._losses.add(self._key, _class_name(value), what)

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        if not all(type(key) is str and not key.startswith("$") for key in value):
            return {"$dict": [self.items(pair, depth) for pair in value.items()]}
        outer, encoded = self._key, {}
        for key, item in value.items():
            self._key = key
            encoded[key] = self.encode(item, depth)
        self._key = outer
        return encoded

    def _array(self, value: Any, depth: int) -> Any:
        if self._is_in_notes and value.dtype == np.uint8 and value.nbytes >= _PICTURE_BYTES:
            size = "x".join(map(str, value.shape))
            self.lose(value, "pixels are not recorded here")
            return {"$repr": [_class_name(value), f"<{size} bytes, not recorded>"]}
        if value is np.ma.masked:
            return {"$masked": None}
        if isinstance(value, np.ma.MaskedArray):
            mask = None if value.mask is np.ma.nomask else np.asarray(value.mask)
            parts = [np.asarray(value.data), mask, np.asarray(value.fill_value)]
            return {"$masked": self.items(parts, depth)}
        if isinstance(value, np.ndarray):
            if array_values.is_kept(value.dtype):
                return {"$ndarray": array_values.array_spec(value)}
            if value.dtype.kind == "O":
                items = self.items(value.ravel().tolist(), depth)
                return {"$objects": [list(value.shape), items]}
        elif array_values.is_kept(value.dtype):
            return {"$scalar": array_values.scalar_spec(value)}
        return self._text(value)

    def _object(self, value: Any, depth: int) -> Any:
        """Encode an instance of a class that has no type of JSON."""
        if isinstance(value, RecordedObject):  # of a session that is written again
            return {"$object": [value._class_name, self.encode(value.to_dict(), depth)]}
        if isinstance(value, decimal.Decimal) and not _is_usual(value):
            return self._text(value)
        for kind, (key, encoder) in _ENCODERS_BY_BASE.items():
            if isinstance(value, kind):
                return {key: encoder(self, value, depth)}
        if is_result(value):
            return self._result(value, depth)
        if is_stream_meta(value):
            return self._meta(value, depth)
        if isinstance(value, tuple) and _has_names(value):
            names = list(type(value)._fields)  # type: ignore[attr-defined]
            return {"$namedtuple": [_class_name(value), names, self.items(value, depth)]}
        if callable(getattr(value, "to_dict", None)):
            # This is code of other people, whose failure must not end a recording.
            try:
                return {"$object": [_class_name(value), self.encode(value.to_dict(), depth)]}
            except _TooDeepError:
                raise
            except Exception:
                return self._text(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            state = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
            return {"$object": [_class_name(value), self.encode(state, depth)]}
        # Subclasses of plain types (defaultdict) become what they are equal to.
        for plain_type in (dict, list, tuple, str, int, float):
            if isinstance(value, plain_type):
                return self.encode(_as_plain(value, plain_type), depth)
        return self._text(value)

    def _text(self, value: Any) -> Any:
        """Encode a value that cannot be kept: its text, if that says more than where it was."""
        text = _repr(value)
        if hasattr(value, "getchannel") or _ADDRESS.search(text) or "..." in text:
            self.lose(value, "a value of this type is not recorded")
            return {"$repr": [_class_name(value), "<not recorded>"]}
        self.lose(value, "of a value of this type only the text is recorded")
        return {"$repr": [_class_name(value), text]}

    def _result(self, value: Any, depth: int) -> Any:
        """Encode a result inside of another, without pixels."""
        if id(value) in self._results:
            number = self._results[id(value)]
            return self._left_out(value) if number is None else {"$same": number}
        if self._is_in_notes and self._is_inside_result:
            # What the gizmos before it noted would be written again for each crop.
            return self._left_out(value)
        try:
            state = result_values.state_of(value)
        except Exception:  # a class of the program, with properties of its own
            return self._text(value)
        key, in_notes = self._key, self._is_in_notes
        self._is_in_notes = False
        self._results[id(value)] = None
        self._alive.append(value)
        try:
            encoded = {name: self.encode(part, depth) for name, part in state.items()}
        except BaseException:
            del self._results[id(value)]
            raise
        finally:
            self._key, self._is_in_notes = key, in_notes
        self._results[id(value)] = sum(number is not None for number in self._results.values())
        return {"$result": [_class_name(value), encoded]}

    @property
    def _is_inside_result(self) -> bool:
        return None in self._results.values()

    def _left_out(self, value: Any) -> Any:
        return {"$repr": [_class_name(value), "<a result that is left out here>"]}

    def _meta(self, value: Any, depth: int) -> Any:
        key, in_notes = self._key, self._is_in_notes
        self._is_in_notes = True
        items = self.items(value._meta_list, depth)
        tags = [[self.encode(tag, depth), list(at)] for tag, at in value._tags.items()]
        self._key, self._is_in_notes = key, in_notes
        return {"$meta": [items, tags]}

    # --- kinds with a type of their own ---

    def base64(self, value: bytes, depth: int) -> Any:
        return base64.b64encode(value).decode()

    def deque(self, value: deque[Any], depth: int) -> list[Any]:
        return [self.items(value, depth), value.maxlen]

    def complex(self, value: complex, depth: int) -> list[Any]:
        return self.items([value.real, value.imag], depth)

    def zoned(self, value: dt.datetime | dt.time, depth: int) -> Any:
        text = _as_standard(value).isoformat()
        zone = getattr(value.tzinfo, "key", None) or getattr(value.tzinfo, "zone", None)
        return [text, zone] if isinstance(zone, str) else text

    def timedelta(self, value: dt.timedelta, depth: int) -> list[int]:
        return [value.days, value.seconds, value.microseconds]

    def path(self, value: pathlib.PurePath, depth: int) -> list[str]:
        is_windows = isinstance(value, pathlib.PureWindowsPath)
        return ["windows" if is_windows else "posix", str(value)]

    def enum(self, value: enum.Enum, depth: int) -> list[Any]:
        is_plain = isinstance(value, int | str)
        inner = self.encode(value.value, depth)
        return [_class_name(value), value.name, inner, is_plain, _text_of(value)]


def _as_standard(value: Any) -> Any:
    """Return a date or time of a subclass (pandas') as one of the standard library."""
    if isinstance(value, dt.datetime):
        return dt.datetime.combine(value.date(), value.timetz())
    return value


def _is_usual(value: decimal.Decimal) -> bool:
    """Return whether it has no more digits than `_MOST_DIGITS`, with all zeros written out."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):  # infinite, or not a number
        return len(str(value)) <= _MOST_DIGITS
    return len(value.as_tuple().digits) + abs(exponent) <= _MOST_DIGITS


def _has_names(value: Any) -> bool:
    names = getattr(type(value), "_fields", None)
    return (
        isinstance(names, tuple)
        and len(names) == len(value)
        and all(type(name) is str for name in names)
    )


_Encode = Callable[[_Encoder, Any, int], Any]
_ENCODERS: dict[type, tuple[str, _Encode]] = {
    tuple: ("$tuple", _Encoder.items),
    set: ("$set", _Encoder.sorted_items),
    frozenset: ("$frozenset", _Encoder.sorted_items),
    deque: ("$deque", _Encoder.deque),
    bytes: ("$bytes", _Encoder.base64),
    bytearray: ("$bytearray", _Encoder.base64),
    complex: ("$complex", _Encoder.complex),
}
#: Looked for by `isinstance`, in this order: a datetime is a date as well.
_ENCODERS_BY_BASE: dict[type, tuple[str, _Encode]] = {
    enum.Enum: ("$enum", _Encoder.enum),
    dt.datetime: ("$datetime", _Encoder.zoned),
    dt.date: ("$date", lambda _, value, __: value.isoformat()),
    dt.time: ("$time", _Encoder.zoned),
    dt.timedelta: ("$timedelta", _Encoder.timedelta),
    decimal.Decimal: ("$decimal", lambda _, value, __: str(value)),
    uuid.UUID: ("$uuid", lambda _, value, __: str(value)),
    pathlib.PurePath: ("$path", _Encoder.path),
}


def _as_plain(value: Any, plain: type) -> Any:
    if plain is str:  # str() may be overridden
        return str.__str__(value)
    if plain is int:
        return int.__int__(value)
    return float.__float__(value) if plain is float else plain(value)


def _repr(value: Any) -> str:
    return _text_of(value, repr)


def _text_of(value: Any, text: Callable[[Any], str] = str) -> str:
    try:
        return text(value)
    except Exception as error:
        return f"<{text.__name__}() failed: {type(error).__name__}>"


# --- decoding ----------------------------------------------------------------------------------

#: A set compares all values of one hash with each other. `RECORDED` objects have the same; others
#: can be chosen so.
_MOST_OF_ONE_HASH = 1000
#: Names of time zones, which are looked up as files.
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,40}(?:/[A-Za-z0-9_+-]{1,40}){0,3}")
_PATHS = {"posix": pathlib.PurePosixPath, "windows": pathlib.PureWindowsPath}


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
            raise DecodeError("a named tuple has not a name for each value")
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
        # What prints or compares it goes through it each time.
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


def _decimal(text: Any) -> decimal.Decimal:
    value = decimal.Decimal(_text(text))
    if not _is_usual(value):
        raise DecodeError("a decimal number of too many digits")
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
    if depth > _DEEPEST:
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
