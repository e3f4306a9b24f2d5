"""Any Python value to JSON and back, without losing its type.

What the typed columns cannot hold (keys that an analyzer invented, NumPy values, tuples, sets) is
kept as JSON text. Plain JSON would turn a tuple into a list and refuse an array: such a value
becomes an object with one key that starts with ``$``. Objects of unknown classes come back as
`RecordedObject`, and named tuples, enumerations and results inside of results as their stand-ins in
`dgrec.format.recorded_objects`: dgrec never imports or builds a class that a file names.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import pathlib
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from dgrec.format import array_values, result_values
from dgrec.format.json_decoder import DEEPEST, decode, has_usual_length
from dgrec.format.recorded_objects import RecordedObject, is_result, is_stream_meta
from dgrec.format.untrusted import Allowance, parse_json

__all__ = ["Losses", "RecordedObject", "decode", "dumps", "loads", "plain"]

_PLAIN = frozenset({type(None), bool, str})
# Python refuses to turn longer integers into decimal digits (and back).
_LONGEST_DECIMAL_BITS = 10_000
#: Byte arrays of this size or more in the notes of gizmos are pictures.
_PICTURE_BYTES = 1024
_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")


class Losses:
    """The values that could not be recorded, each once, by key and type. Threads may share it."""

    #: Keys may be made from data: their number is not limited.
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
        """The losses for the user to read, a line each."""
        with self._lock:
            return [f"{key} ({name}): {what}" for (key, name), what in self._found.items()]


def dumps(value: Any, key: str = "", losses: Losses | None = None) -> str:
    """Return ``value`` as compact JSON text that `loads` turns back into an equal value.

    Args:
        key: Its name in ``losses``.
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
    """Return ``value`` as metadata has it: tuples and sets as lists, what JSON lacks as text."""
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
        #: The number of each result by id, in the order they ended; None: it is being written.
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
        if depth > DEEPEST:
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
        """Encode an instance of a class without a JSON type."""
        if isinstance(value, RecordedObject):  # of a session that is written again
            return {"$object": [value._class_name, self.encode(value.to_dict(), depth)]}
        if isinstance(value, decimal.Decimal) and not has_usual_length(value):
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
            # This is other people's code, whose failure must not end a recording.
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
        """Encode a value that cannot be kept: its text, unless that has an address or is cut."""
        text = _repr(value)
        if hasattr(value, "getchannel") or _ADDRESS.search(text) or "..." in text:
            self.lose(value, "a value of this type is not recorded")
            return {"$repr": [_class_name(value), "<not recorded>"]}
        self.lose(value, "only the text of a value of this type is recorded")
        return {"$repr": [_class_name(value), text]}

    def _result(self, value: Any, depth: int) -> Any:
        """Encode a result inside of another one, without pixels."""
        if id(value) in self._results:
            number = self._results[id(value)]
            return self._left_out(value) if number is None else {"$same": number}
        if self._is_in_notes and self._is_inside_result:
            # The notes of the gizmos before it would be written again for each crop.
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
