"""Rows back to results, equal to what `predict_stream` yielded.

Rows have the types of `SCHEMA` (`dgrec.format.casting`). Their JSON and mask columns are checked
here: any program may have written them.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dgrec.format import json_values
from dgrec.format.detections import CORNERS
from dgrec.format.masks import unpack_array
from dgrec.format.result_values import checked_description, conversion_from
from dgrec.format.untrusted import Allowance, DecodeError, parse_json

#: The keys of a detection that has no ``keys``, which another tool may have left out.
_USUAL_KEYS = ("bbox", "category_id", "label", "score", "angle", "track_id")
#: The longest text of keys that is kept, and how many: a file may have any number of them.
_LONGEST_KEPT = 1000
_MOST_KEPT = 4096


@dataclass(slots=True)
class RestoredFrame:
    """The values that `predict_stream` yielded for a frame."""

    results: Any
    timing: dict[str, Any]
    info: Any
    attributes: dict[str, Any]
    conversion: tuple[float, float, float, float] | None = None
    label_hashes: dict[str, int] = field(default_factory=dict)
    #: ``model`` and ``overlay`` of a result of another kind than the session's.
    described: dict[str, Any] = field(default_factory=dict)


def restore(row: Mapping[str, Any]) -> RestoredFrame:
    """Return the frame that ``row`` (a row of `SCHEMA` as Python values) was made from.

    Raises:
        DecodeError: dgrec did not write its JSON or a mask, or they decode to more than a frame of
            this size can hold.
    """
    # Among so many new lists, the garbage collector would take two thirds of the time.
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        return _restore(row, Allowance.for_frame(row.get("width"), row.get("height")))
    except DecodeError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise DecodeError(f"not what dgrec writes: {error}") from None
    finally:
        if is_collecting:
            gc.enable()


def _restore(row: Mapping[str, Any], allowance: Allowance) -> RestoredFrame:
    note = _json_object(row.get("restore"), "restore", allowance)
    hashes: dict[str, int] = {}
    if "results" in note:
        results = json_values.loads(note["results"], allowance)
    else:
        results = [_restore_detection(item, hashes, allowance) for item in row["detections"]]
    if "timing" in note:
        timing = json_values.loads(note["timing"], allowance)
        if not isinstance(timing, dict):
            raise DecodeError("its timing is not a dictionary")
    else:
        timing = dict(row["timing"])
        for key in note.get("timing_int", ()):
            timing[key] = int(timing[key])
    attributes = _json_object(row.get("attributes"), "attributes", allowance)
    attributes = json_values.decode(attributes, allowance)
    if isinstance(attributes, json_values.RecordedObject):  # they contained themselves: not kept
        attributes = {}
    names = attributes if isinstance(attributes, dict) else {"_": attributes}
    if not all(type(name) is str and not name.startswith("_") for name in names):
        raise DecodeError("its attributes have names that an analyzer cannot give")
    return RestoredFrame(
        results=results,
        timing=timing,
        info=json_values.loads(note["info"], allowance) if "info" in note else "",
        attributes=attributes,
        conversion=conversion_from(note["conversion"]) if "conversion" in note else None,
        label_hashes=hashes,
        described=checked_description(note) if "model" in note else {},
    )


def _json_object(text: str | None, column: str, allowance: Allowance) -> dict[str, Any]:
    if not text:
        return {}
    value = parse_json(text, allowance)
    if not isinstance(value, dict):
        raise DecodeError(f"{column!r} is not a JSON object")
    return value


def _restore_detection(
    value: Mapping[str, Any] | None, hashes: dict[str, int], allowance: Allowance
) -> Any:
    if value is None:
        return {}
    extra = _json_object(value["extra"], "extra", allowance)
    if "$value" in extra:
        return json_values.decode(extra["$value"], allowance)
    detection: dict[str, Any] = {}
    for name, *points in _keys(value, allowance):
        if name in extra:
            detection[name] = json_values.decode(extra[name], allowance)
            continue
        found = _field(name, points, value, allowance)
        if found is not None:
            detection[name] = found
    if "$hash" in extra:
        label, number = detection.get("label"), extra["$hash"]
        if not isinstance(label, str) or type(number) is not int:
            raise DecodeError("a label's hash is not a number")
        hashes[label] = number
    return detection


def _field(name: str, points: list[str], value: Mapping[str, Any], allowance: Allowance) -> Any:
    """Return the value of a key from the typed columns; None if it is absent."""
    if name == "bbox":
        box = [value[corner] for corner in CORNERS]
        return None if None in box else box
    if name == "landmarks":
        there = value[name]
        return None if there is None else [{key: item[key] for key in points} for item in there]
    if name in ("mask", "data"):
        mask = value["mask"]
        if mask is None:
            return None
        array = unpack_array(mask, allowance)
        if name == "data":
            return array
        return {"x_min": int(mask["x_min"]), "y_min": int(mask["y_min"]), "data": array}
    return value[name]


_KEY_ORDERS: dict[str, list[list[str]]] = {}


def _keys(value: Mapping[str, Any], allowance: Allowance) -> list[list[str]]:
    """Return a detection's keys in order, each in a list; ``landmarks`` with those of a point."""
    text = value["keys"]
    if text is None:
        return [[name] for name in _USUAL_KEYS]
    order = _KEY_ORDERS.get(text)
    if order is None:
        order = _parse_keys(text, allowance)
        if len(text) < _LONGEST_KEPT:
            if len(_KEY_ORDERS) > _MOST_KEPT:
                _KEY_ORDERS.clear()
            _KEY_ORDERS[text] = order
    return order


def _parse_keys(text: str, allowance: Allowance) -> list[list[str]]:
    parsed = parse_json(text, allowance)
    if not isinstance(parsed, list):
        raise DecodeError("'keys' is not a list")
    order = [[item] if isinstance(item, str) else item for item in parsed]
    for item in order:
        if type(item) is not list or not item or not all(type(name) is str for name in item):
            raise DecodeError("'keys' does not consist of names")
    return order
