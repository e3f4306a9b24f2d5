"""Rows back to results, equal to what `predict_stream` yielded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dgrec import exact
from dgrec.detections import BBOX
from dgrec.masks import unpack_array

__all__ = ["RestoredFrame", "restore"]


@dataclass(slots=True)
class RestoredFrame:
    """What a row gives back: equal to what `predict_stream` yielded for that frame."""

    results: Any
    timing: dict[str, Any]
    info: Any
    attributes: dict[str, Any]
    conversion: tuple[float, float, float, float] | None = None
    label_hashes: dict[str, int] = field(default_factory=dict)


def restore(row: Mapping[str, Any]) -> RestoredFrame:
    """Return what ``row`` (a row of `SCHEMA` as Python values) was made from."""
    note = json.loads(row["restore"]) if row.get("restore") else {}
    hashes: dict[str, int] = {}
    if "results" in note:
        results = exact.loads(note["results"])
    else:
        results = [_restore_detection(value, hashes) for value in row["detections"]]
    if "timing" in note:
        timing = exact.loads(note["timing"])
    else:
        timing = dict(row["timing"])
        for key in note.get("timing_int", ()):
            timing[key] = int(timing[key])
    attributes = exact.loads(row["attributes"]) if row.get("attributes") else {}
    return RestoredFrame(
        results=results,
        timing=timing,
        info=exact.loads(note["info"]) if "info" in note else "",
        attributes=attributes,
        conversion=tuple(note["conversion"]) if "conversion" in note else None,
        label_hashes=hashes,
    )


def _restore_detection(value: Mapping[str, Any], hashes: dict[str, int]) -> Any:
    extra = json.loads(value["extra"]) if value.get("extra") else {}
    if "$value" in extra:
        return exact.loads(json.dumps(extra["$value"]))
    detection: dict[str, Any] = {}
    for key in _key_order(value["keys"]):
        name = key if isinstance(key, str) else key[0]
        if name in extra:
            detection[name] = exact.loads(json.dumps(extra[name]))
        elif name == "bbox":
            detection[name] = [value[corner] for corner in BBOX]
        elif name == "landmarks":
            detection[name] = [{k: point[k] for k in key[1:]} for point in value[name]]
        elif name == "mask":
            mask = value["mask"]
            detection[name] = {
                "x_min": mask["x_min"],
                "y_min": mask["y_min"],
                "data": unpack_array(mask),
            }
        elif name == "data":
            detection[name] = unpack_array(value["mask"])
        else:
            detection[name] = value[name]
    if "$hash" in extra:
        hashes[detection["label"]] = extra["$hash"]
    return detection


_KEY_ORDERS: dict[str, list[Any]] = {}


def _key_order(text: str) -> list[Any]:
    order = _KEY_ORDERS.get(text)
    if order is None:
        if len(_KEY_ORDERS) > 4096:  # a file could name endlessly many
            _KEY_ORDERS.clear()
        order = _KEY_ORDERS[text] = json.loads(text)
    return order
