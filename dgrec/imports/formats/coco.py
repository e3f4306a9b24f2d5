"""COCO: annotations (images, annotations, categories) and results (a list of detections)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from dgrec.imports import (
    Facts,
    Format,
    Frames,
    Gathering,
    Head,
    ImportedFrame,
    Input,
    InvalidError,
    JsonReader,
    registered,
    values,
)

__all__ = ["Coco", "read_labels"]

#: Under these names, tools write the number of a picture's frame.
_FRAME_KEYS: Final = ("frame", "frame_id", "frame_index")
_ANNOTATION: Final = (
    "id image_id category_id bbox score iscrowd segmentation keypoints num_keypoints area "
    "track_id".split()
)
_MOST_CATEGORIES: Final = 100_000


@registered
class Coco(Format):
    name = "coco"
    title = "COCO annotations or results"

    def is_it(self, head: Head) -> bool:
        if head.has_keys("[{", "image_id", "category_id"):
            return True
        keys = {"images", "annotations", "categories"}
        others = "results samples bounding_box detections"
        return head.has_keys("{", without=others) and bool(keys & head.keys)

    def read(self, given: Input, facts: Facts) -> Frames:
        """Yield the pictures of annotations, or those that results name."""
        reader = JsonReader(given.file)
        with Gathering() as gathering:
            if reader.peek() == "[":
                yield from _results(reader, gathering, given, facts)
            else:
                yield from _annotations(reader, gathering, facts)


def read_labels(
    reader: JsonReader,
) -> tuple[dict[int, str], dict[str, tuple[int, tuple[int, int] | None]]]:
    """Return the categories of annotations, and their pictures by id."""
    labels: dict[int, str] = {}
    images: dict[str, tuple[int, tuple[int, int] | None]] = {}
    for key in reader.members():
        if key == "categories":
            labels = {number: name for number, (name, _) in _categories(reader).items()}
        elif key == "images":
            for index, item in enumerate(reader.elements()):
                name, frame, size = _image(item, f"images[{index}]")
                images[name] = frame, size
        else:
            reader.skip()
    reader.end()
    return labels, images


_Categories = dict[int, tuple[str, list[str]]]


def _annotations(reader: JsonReader, gathering: Gathering, facts: Facts) -> Frames:
    categories: _Categories = {}
    seen: set[str] = set()
    for key in reader.members():
        if key == "categories":
            categories = _categories(reader)
        elif key == "images":
            for index, item in enumerate(reader.elements()):
                name, frame, size = _image(item, f"images[{index}]")
                gathering.add_image(name, frame, {"size": size})
        elif key == "annotations":
            for index, item in enumerate(reader.elements()):
                _add(gathering, item, f"annotations[{index}]", facts)
        else:
            reader.skip()
        seen.add(key)
    reader.end()
    for key in ("images", "annotations", "categories"):
        if key not in seen:
            raise InvalidError(
                key, "is missing: COCO annotations have images, annotations, categories"
            )
    for column, what in (("image", "has the id"), ("frame", "is frame")):
        if (repeated := gathering.repeated(column)) is not None:
            raise InvalidError(
                f"images[{repeated[0]}]", f"{what} {repeated[1]}, as an image before it"
            )
    if gathering.images and (lost := gathering.without_image()) is not None:
        raise InvalidError(f"annotations[{lost[0]}]", f"there is no image {lost[1]}")
    if not gathering.images:
        raise InvalidError("images", "there are none")
    facts.labels.update((number, name) for number, (name, _) in categories.items())
    for number, picture, found in gathering.frames():
        size = picture["size"]
        detections = [
            _detection(item, f"annotations[{seq}]", categories, facts) for seq, item in found
        ]
        yield ImportedFrame(number, detections, size=None if size is None else tuple(size))


def _results(reader: JsonReader, gathering: Gathering, given: Input, facts: Facts) -> Frames:
    images, labels = given.options.images, given.options.labels
    for name, (frame, size) in images.items():
        gathering.add_image(name, frame, {"size": size})
    for index, item in enumerate(reader.elements()):
        where = f"results[{index}]"
        _add(gathering, item, where, facts, None if images else _frame_of_id(item, where))
    reader.end()
    if images and (lost := gathering.without_image()) is not None:
        raise InvalidError(f"results[{lost[0]}]", f"there is no image {lost[1]}")
    facts.is_sparse = not images
    facts.labels.update(labels)
    categories = {number: (name, list[str]()) for number, name in labels.items()}
    for number, picture, found in gathering.frames():
        size = picture.get("size")
        detections = [_detection(item, f"results[{seq}]", categories, facts) for seq, item in found]
        yield ImportedFrame(number, detections, size=None if size is None else tuple(size))


def _categories(reader: JsonReader) -> _Categories:
    """Return name and names of key points of each category."""
    found: _Categories = {}
    for index, item in enumerate(reader.elements()):
        where = f"categories[{index}]"
        category = values.objects(item, where)
        number = values.count(category.get("id"), "id", where, 2**31 - 1)
        if number in found:
            raise InvalidError(where, f"has the id {number}, as one before it")
        if len(found) >= _MOST_CATEGORIES:
            raise InvalidError(where, f"there are more than {_MOST_CATEGORIES:,}")
        points = category.get("keypoints")
        names = points if isinstance(points, list) else []
        found[number] = (
            values.label(category.get("name"), "name", where),
            [values.label(name, "keypoints", where) for name in names],
        )
    return found


def _image(item: Any, where: str) -> tuple[str, int, tuple[int, int] | None]:
    """Return the id of a picture as JSON, the number of its frame, and its size."""
    image = values.objects(item, where)
    name = _image_id(image.get("id"), "id", where)
    size = None
    width, height = image.get("width"), image.get("height")
    if type(width) is int and type(height) is int and 0 < width < 2**31 and 0 < height < 2**31:
        size = width, height
    for key in _FRAME_KEYS:
        if image.get(key) is not None:  # dgrec writes null where it is unknown
            return name, values.count(image[key], key, where), size
    frame = values.frame_of_name(values.label(image.get("file_name"), "file_name", where))
    if frame is None:
        raise InvalidError(where, "neither 'frame' nor a number in its file name says its frame")
    return name, frame, size


def _image_id(value: Any, name: str, where: str) -> str:
    if (type(value) is int and abs(value) < 2**63) or (
        isinstance(value, str) and len(value) < 1000
    ):
        return json.dumps(value)
    raise InvalidError(where, f"{name!r} is neither a whole number nor a text")


def _frame_of_id(item: Any, where: str) -> int:
    """Return the frame that results without annotations mean: the id of the picture, or the last
    number in it."""
    value = values.objects(item, where).get("image_id")
    if isinstance(value, str) and (frame := values.frame_of_name(value)) is not None:
        return frame
    if isinstance(value, str):
        raise InvalidError(where, f"no number in the image_id {value[:60]!r} says its frame")
    return values.count(value, "image_id", where)


def _add(
    gathering: Gathering, item: Any, where: str, facts: Facts, frame: int | None = None
) -> None:
    """Check an annotation or a result, as far as it can be without the categories."""
    annotation = values.objects(item, where)
    found: dict[str, Any] = {
        "bbox": values.box_of_size(annotation.get("bbox"), "bbox", where),
        "category_id": values.count(annotation.get("category_id"), "category_id", where, 2**31 - 1),
    }
    if annotation.get("score") is not None:
        found["score"] = values.number(annotation["score"], "score", where)
    if annotation.get("track_id") is not None:
        found["track_id"] = values.count(annotation["track_id"], "track_id", where)
    for key in ("segmentation", "keypoints"):
        if annotation.get(key):
            found[key] = annotation[key]
    found["more"] = values.plain_extras(annotation, where, _ANNOTATION)
    if annotation.get("iscrowd"):
        found["more"]["iscrowd"] = 1
    if frame is None:
        gathering.add(found, image=_image_id(annotation.get("image_id"), "image_id", where))
    else:
        gathering.add(found, frame=frame)


def _detection(
    found: Mapping[str, Any], where: str, categories: _Categories, facts: Facts
) -> dict[str, Any]:
    number = found["category_id"]
    if categories and number not in categories:
        raise InvalidError(where, f"there is no category {number}")
    name, names = categories.get(number, (None, []))
    more = dict(found["more"])
    shape = found.get("segmentation")
    if isinstance(shape, dict):
        more["mask"] = values.coco_mask(shape, where)
    elif shape is not None:
        more |= values.plain_extras({"segmentation": shape}, where)
        facts.notes["polygons are kept as they are, and not drawn"] += 1
    if "keypoints" in found:
        more["landmarks"] = _points(found, names, where, facts)
    return values.detection(
        found["bbox"],
        more,
        category_id=number,
        label=name,
        score=found.get("score"),
        track_id=found.get("track_id"),
    )


def _points(
    found: Mapping[str, Any], names: list[str], where: str, facts: Facts
) -> list[dict[str, Any]]:
    flat = found["keypoints"]
    if not isinstance(flat, list) or len(flat) % 3:
        raise InvalidError(where, "'keypoints' is not [x, y, visibility, ...]")
    points = [flat[at : at + 3] for at in range(0, len(flat), 3)]
    if "score" in found:  # of results, the third number is a score
        return values.key_points(points, names, "keypoints", where)
    if any(type(v) not in (int, float) for _, _, v in points):
        raise InvalidError(where, "'keypoints' is not [x, y, visibility, ...]")
    there = [([x, y, None] if v > 0 else None) for x, y, v in points]
    facts.notes["key points that are not marked are left out"] += there.count(None)
    placed = values.key_points(
        [point or [0, 0, None] for point in there], names, "keypoints", where
    )
    return [point for point, kept in zip(placed, there, strict=True) if kept is not None]
