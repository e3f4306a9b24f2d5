"""Ultralytics' JSON: what ``Results.to_json()`` gives for a picture, and its web API."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dgrec.imports import (
    MOST_DETECTIONS,
    Facts,
    Frames,
    Head,
    ImportedFrame,
    ImportFormat,
    Input,
    InvalidError,
    JsonReader,
    too_many,
    values,
)

_KNOWN = frozenset("name class confidence box track_id segments keypoints".split())


class Ultralytics(ImportFormat):
    name = "ultralytics"
    title = "Results.to_json() of Ultralytics, or an answer of its web API"

    def is_it(self, head: Head) -> bool:
        if head.has_keys("[", "class", "confidence", without="image_id x_min"):
            return True
        return head.has_keys("{", "images", "results")

    def read(self, given: Input, facts: Facts) -> Frames:
        """Yield a frame for each picture, numbered from 0.

        The file has a list for each picture, one after the other or in a list; or it is an answer
        of the web API.
        """
        reader = JsonReader(given.file)
        if reader.peek() == "{":
            yield from _answer(reader, facts)
            return
        number = 0
        while reader.peek():
            nested: bool | None = None
            detections: list[dict[str, Any]] = []
            for _ in reader.rows():
                is_list = reader.peek() == "["
                where = reader.where
                if nested is not None and is_list is not nested:
                    raise InvalidError(where, "is neither a list of objects nor a list of lists")
                nested = is_list
                if is_list:
                    yield ImportedFrame(number, _detections(reader.value(), number, where, facts))
                    number += 1
                else:
                    detections += _detections([reader.value()], number, where, facts)
                    if len(detections) > MOST_DETECTIONS:
                        raise too_many(number)
            if not nested:
                yield ImportedFrame(number, detections)
                number += 1


def _answer(reader: JsonReader, facts: Facts) -> Frames:
    """Yield the pictures of an answer of the web API."""
    has_images = False
    for key in reader.members():
        if key != "images":
            reader.skip()
            continue
        has_images = True
        for number, item in enumerate(reader.elements()):
            where = f"images[{number}]"
            picture = values.objects(item, where)
            found = _detections(picture.get("results"), number, where, facts)
            yield ImportedFrame(number, found, size=_size(picture.get("shape"), where))
    reader.end()
    if not has_images:
        raise InvalidError("images", "is missing")


def _size(shape: Any, where: str) -> tuple[int, int] | None:
    if shape is None:
        return None
    if not isinstance(shape, list) or len(shape) < 2:
        raise InvalidError(where, "'shape' is not [height, width]")
    height, width = (values.count(n, "shape", where, values.INT32_MAX) for n in shape[:2])
    return width, height


def _detections(items: Any, number: int, where: str, facts: Facts) -> list[dict[str, Any]]:
    if not isinstance(items, list):
        raise InvalidError(where, "is not a list of results")
    if len(items) > MOST_DETECTIONS:
        raise too_many(number)
    return [_detection(values.objects(item, where), where, facts) for item in items]


def _detection(item: Mapping[str, Any], where: str, facts: Facts) -> dict[str, Any]:
    name = values.label(item.get("name"), "name", where)
    category = values.count(item.get("class"), "class", where, values.INT32_MAX)
    if len(facts.labels) < 100_000:
        facts.labels.setdefault(category, name)
    track, score = item.get("track_id"), item.get("confidence")
    more = values.plain_extras(item, where, _KNOWN)
    box, angle = (None, None) if item.get("box") is None else _box(item["box"], where)
    if angle is not None:
        more["angle"] = angle
    if item.get("segments") is not None:
        x, y = _columns(item["segments"], ("x", "y"), "segments", where)
        if x:  # a mask without a pixel has no outline
            more["segmentation"] = [[n for point in zip(x, y, strict=True) for n in point]]
            facts.notes["polygons are kept as they are, and not drawn"] += 1
    if item.get("keypoints") is not None:
        key_points = values.objects(item["keypoints"], f"{where}: keypoints")
        names = ("x", "y", "visible") if "visible" in key_points else ("x", "y")
        columns = _columns(key_points, names, "keypoints", where)
        points = [(*point, None)[:3] for point in zip(*columns, strict=True)]
        more["landmarks"] = values.key_points(points, (), "keypoints", where)
    return values.detection(
        box,
        more,
        category_id=category,
        label=name,
        score=None if score is None else values.number(score, "confidence", where),
        track_id=None if track is None else values.count(track, "track_id", where),
    )


def _columns(value: Any, names: tuple[str, ...], key: str, where: str) -> list[list[float]]:
    """Return an object's lists of numbers, which must be equally long."""
    columns = [value.get(name) if isinstance(value, dict) else None for name in names]
    if any(not isinstance(c, list) or len(c) != len(columns[0] or ()) for c in columns):
        raise InvalidError(where, f"{key!r} does not have lists {', '.join(names)} of one length")
    return [[values.number(n, key, where) for n in column or ()] for column in columns]


def _box(value: Any, where: str) -> tuple[list[float], float | None]:
    """Return the box, and its angle if it is rotated."""
    box = values.objects(value, where)
    names = [f"{axis}{corner}" for corner in range(1, 5) for axis in "xy"]
    if "x4" not in box:
        return values.corners([box.get(name) for name in names[:4]], "box", where), None
    flat = [values.number(box.get(name), "box", where) for name in names]
    if max(map(abs, flat)) > 1e9:
        raise InvalidError(where, "'box' is not in pixels")
    points = list(zip(flat[::2], flat[1::2], strict=True))
    # Ultralytics goes around a box that is not rotated from its lower right corner to the upper
    # right one, then left.
    (x1, y1), (x2, y2), (x3, y3), _ = points
    width, height = math.dist((x2, y2), (x3, y3)), math.dist((x1, y1), (x2, y2))
    x, y = (sum(values_) / 4 for values_ in zip(*points, strict=True))
    box_ = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    return box_, math.atan2(y2 - y3, x2 - x3)
