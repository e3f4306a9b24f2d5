"""Values as text: JSON, cells for programs and for people, Markdown."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from dgrec.terminal import shown


def rows_of(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Any, ...]]:
    """Yield rows as Python values (`values_of`)."""
    for batch in batches:
        if batch.num_columns:
            yield from zip(*map(values_of, batch.columns), strict=True)


def values_of(column: pa.Array) -> list[Any]:
    """Return a column as Python values, stamps as texts and maps as dictionaries."""
    type_ = column.type
    if pa.types.is_timestamp(type_):
        return _stamps(column)
    values = column.to_pylist()
    if _has_map(type_):
        return [_with_dicts(value, type_) for value in values]
    return list(values)


def _stamps(column: pa.Array) -> list[str | None]:
    unit, zone = column.type.unit, "Z" if column.type.tz else ""
    texts = np.datetime_as_string(column.to_numpy(zero_copy_only=False), unit=unit)
    return [None if text == "NaT" else text + zone for text in texts.tolist()]


def _has_map(type_: pa.DataType) -> bool:
    if pa.types.is_map(type_):
        return True
    return any(_has_map(type_.field(i).type) for i in range(type_.num_fields))


def _with_dicts(value: Any, type_: pa.DataType) -> Any:
    """Return ``value`` with maps, which Arrow gives as lists of pairs, as dictionaries."""
    if value is None:
        return None
    if pa.types.is_map(type_):
        return {
            key if isinstance(key, str) else cell_text(key): _with_dicts(item, type_.item_type)
            for key, item in value
        }
    if pa.types.is_struct(type_):
        return {field.name: _with_dicts(value[field.name], field.type) for field in type_}
    if type_.num_fields == 1:
        return [_with_dicts(item, type_.field(0).type) for item in value]
    return value


def json_text(value: Any, indent: int | None = None) -> str:
    """Return ``value`` as JSON; NaN and the infinities become null."""
    encoder = _JSON_LINE if indent is None else _json_encoder(indent)
    try:
        return encoder.encode(value)
    except ValueError:
        return encoder.encode(_finite(value))


def _json_value(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return cell_text(value)


def _json_encoder(indent: int | None) -> json.JSONEncoder:
    return json.JSONEncoder(default=_json_value, allow_nan=False, ensure_ascii=False, indent=indent)


_JSON_LINE = _json_encoder(None)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def cell_text(value: Any) -> str:
    """Return a value as text, with all its digits; None as ``NULL``."""
    if isinstance(value, str):
        return value
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json_text(value)
    return str(value)


def person_text(value: Any) -> str:
    """Return a value as text; numbers that are not too small or large get six decimals."""
    if isinstance(value, float) and (value == 0 or 1e-3 <= abs(value) < 1e15):
        text = f"{value:.6f}".rstrip("0")
        return text + "0" if text.endswith(".") else text
    return cell_text(value)


def is_numeric(type_: pa.DataType) -> bool:
    """Return whether values of a type are numbers, which are aligned right."""
    return bool(
        pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)
    )


#: GitHub's markup; an underscore within a word, as in names of columns, is not markup.
_MARKUP = re.compile(r"[\[\]`*~]|(?<!\w)_|_(?!\w)|\\(?=[!-/:-@\[-`{-~])")
_ENTITY = re.compile(r"&(?=#?\w+;)")


def in_markdown(text: str) -> str:
    """Escape GitHub's markup: labels must not become tags, links or emphasis."""
    text = _MARKUP.sub(r"\\\g<0>", shown(text))
    return _ENTITY.sub("&amp;", text).replace("<", "&lt;").replace(">", "&gt;")
