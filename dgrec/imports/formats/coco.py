"""COCO: annotations (images, annotations, categories) and results (a list of detections)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from dgrec.imports import (
    Category,
    Facts,
    Frames,
    Gathering,
    Head,
    Images,
    ImportedFrame,
    ImportFormat,
    Input,
    InvalidError,
    JsonReader,
    values,
)

#: Names under which tools write the frame number of a picture.
_FRAME_KEYS: Final = ("frame", "frame_id", "frame_index")
_ANNOTATION: Final = (
    "id image_id category_id bbox score iscrowd segmentation keypoints num_keypoints area "
    "track_id".split()
)
_MOST_CATEGORIES: Final = 100_000
_Categories = Mapping[int, Category]


class Coco(ImportFormat):
    name = "coco"
    title = "COCO annotations or results"
    reads_options = frozenset(("labels",))

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


def read_labels(reader: JsonReader) -> tuple[_Categories, Images]:
    """Return the categories of annotations, and their pictures by id."""
    categories: _Categories = {}
    images: dict[str, tuple[int, tuple[int, int] | None]] = {}
    for key in reader.members():
        if key == "categories":
            categories = _categories(reader)
        elif key == "images":
            for index, item in enumerate(reader.elements()):
                name, frame, size = _image(item, f"images[{index}]")
                if name in images:
                    raise InvalidError(
                        f"images[{index}]", f"has the id {name}, as an image before it"
                    )
                images[name] = frame, size
        else:
            reader.skip()
    reader.end()
    return categories, images


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
    _check_images(gathering, "images")
    if gathering.images and (lost := gathering.without_image()) is not None:
        raise InvalidError(f"annotations[{lost[0]}]", f"there is no image {lost[1]}")
    if not gathering.images:
        raise InvalidError("images", "there are none")
    facts.labels.update((each.number, each.name) for each in categories.values())
    for number, picture, found in gathering.frames():
        size = picture["size"]
        detections = [
            _detection(item, f"annotations[{seq}]", categories, facts) for seq, item in found
        ]
        yield ImportedFrame(number, detections, size=None if size is None else tuple(size))


def _check_images(gathering: Gathering, where: str) -> None:
    """Refuse pictures that have the id or the frame of another one."""
    for column, what in (("image", "has the id"), ("frame", "is frame")):
        if (repeated := gathering.repeated(column)) is not None:
            raise InvalidError(
                f"{where}[{repeated[0]}]", f"{what} {repeated[1]}, as an image before it"
            )


def _results(reader: JsonReader, gathering: Gathering, given: Input, facts: Facts) -> Frames:
    images, labels = given.options.images, given.options.labels
    categories = given.options.categories or {
        number: Category(name, number) for number, name in labels.items()
    }
    for name, (frame, size) in images.items():
        gathering.add_image(name, frame, {"size": size})
    _check_images(gathering, "--labels: images")
    for index, item in enumerate(reader.elements()):
        where = f"results[{index}]"
        _add(gathering, item, where, facts, None if images else _frame_of_id(item, where))
    reader.end()
    if images and (lost := gathering.without_image()) is not None:
        raise InvalidError(f"results[{lost[0]}]", f"there is no image {lost[1]}")
    if not images and (mixed := gathering.mixed()) is not None:
        index, frame, image = mixed
        raise InvalidError(
            f"results[{index}]",
            f"its image_id is frame {frame}, as is {image[:60]}; --labels with the annotations "
            "says which frames they are",
        )
    facts.is_sparse = not images
    facts.labels.update((each.number, each.name) for each in categories.values())
    for number, picture, found in gathering.frames():
        size = picture.get("size")
        detections = [_detection(item, f"results[{seq}]", categories, facts) for seq, item in found]
        yield ImportedFrame(number, detections, size=None if size is None else tuple(size))


def _categories(reader: JsonReader) -> _Categories:
    """Return the categories by their id.

    Ids count from 1; dgrec's exports also have the model's own number, which counts from 0.
    """
    found: dict[int, Category] = {}
    for index, item in enumerate(reader.elements()):
        where = f"categories[{index}]"
        category = values.objects(item, where)
        number = values.count(category.get("id"), "id", where, values.INT32_MAX)
        if number in found:
            raise InvalidError(where, f"has the id {number}, as one before it")
        if len(found) >= _MOST_CATEGORIES:
            raise InvalidError(where, f"there are more than {_MOST_CATEGORIES:,}")
        own = category.get("model_category_id", number)
        points = category.get("keypoints")
        names = points if isinstance(points, list) else []
        found[number] = Category(
            values.label(category.get("name"), "name", where),
            values.count(own, "model_category_id", where, values.INT32_MAX),
            [values.label(name, "keypoints", where) for name in names],
            _pairs(category.get("skeleton"), len(names)),
        )
    if len({each.number for each in found.values()}) < len(found):
        return {number: each._replace(number=number) for number, each in found.items()}
    return found


def _pairs(skeleton: Any, points: int) -> list[tuple[int, int]]:
    """Return the pairs of connected key points that are valid."""
    pairs = skeleton[:1000] if isinstance(skeleton, list) else []
    return [
        (pair[0], pair[1])
        for pair in pairs
        if isinstance(pair, list)
        and len(pair) == 2
        and all(type(end) is int and 1 <= end <= points for end in pair)
    ]


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
        raise InvalidError(where, "has no 'frame', and no number in its file name")
    return name, frame, size


def _image_id(value: Any, name: str, where: str) -> str:
    if (type(value) is int and abs(value) < 2**63) or (
        isinstance(value, str) and len(value) < 1000
    ):
        return json.dumps(value)
    raise InvalidError(where, f"{name!r} is neither a whole number nor a text")


def _frame_of_id(item: Any, where: str) -> int:
    """Return a result's frame without annotations: the picture's id, or the last number in it."""
    value = values.objects(item, where).get("image_id")
    if isinstance(value, str) and (frame := values.frame_of_name(value)) is not None:
        return frame
    if isinstance(value, str):
        raise InvalidError(where, f"no number in the image_id {value[:60]!r} says its frame")
    return values.count(value, "image_id", where)


def _add(
    gathering: Gathering, item: Any, where: str, facts: Facts, frame: int | None = None
) -> None:
    """Check and add an annotation or a result, as far as possible without the categories."""
    annotation = values.objects(item, where)
    found: dict[str, Any] = {
        "bbox": values.box_of_size(annotation.get("bbox"), "bbox", where),
        "category_id": values.count(
            annotation.get("category_id"), "category_id", where, values.INT32_MAX
        ),
    }
    if annotation.get("score") is not None:
        found["score"] = values.number(annotation["score"], "score", where)
    if annotation.get("track_id") is not None:
        found["track_id"] = values.whole(annotation["track_id"], "track_id", where, 64)
    for key in ("segmentation", "keypoints"):
        if annotation.get(key):
            found[key] = annotation[key]
    found["more"] = values.plain_extras(annotation, where, _ANNOTATION)
    if (is_crowd := annotation.get("iscrowd")) not in (None, 0, 1):
        raise InvalidError(where, "'iscrowd' is neither 0 nor 1")
    if is_crowd:
        found["more"]["iscrowd"] = 1
    image = annotation.get("image_id")
    if frame is None:
        gathering.add(found, image=_image_id(image, "image_id", where))
    else:
        gathering.add(
            found, frame=frame, image=json.dumps(image) if isinstance(image, str) else None
        )


def _detection(
    found: Mapping[str, Any], where: str, categories: _Categories, facts: Facts
) -> dict[str, Any]:
    number = found["category_id"]
    if categories and number not in categories:
        raise InvalidError(where, f"there is no category {number}")
    category = categories.get(number)
    more = dict(found["more"])
    shape = found.get("segmentation")
    if isinstance(shape, dict):
        more["mask"] = values.coco_mask(shape, where)
    elif shape is not None:
        more |= values.plain_extras({"segmentation": shape}, where)
        facts.notes["polygons are kept as they are, and not drawn"] += 1
    if "keypoints" in found:
        more["landmarks"] = _points(found["keypoints"], category, where, facts)
    return values.detection(
        found["bbox"],
        more,
        category_id=number if category is None else category.number,
        label=None if category is None else category.name,
        score=found.get("score"),
        track_id=found.get("track_id"),
    )


def _points(flat: Any, category: Category | None, where: str, facts: Facts) -> list[dict[str, Any]]:
    """Return key points. The third number of each is COCO's visibility, or in results a score."""
    if not isinstance(flat, list) or len(flat) % 3:
        raise InvalidError(where, "'keypoints' is not [x, y, visibility, ...]")
    points = [flat[at : at + 3] for at in range(0, len(flat), 3)]
    if any(type(v) not in (int, float) for _, _, v in points):
        raise InvalidError(where, "'keypoints' is not [x, y, visibility, ...]")
    names = [] if category is None else category.points
    if any(v not in (0, 1, 2) for _, _, v in points):
        return _connected(values.key_points(points, names, "keypoints", where), category)
    there = [([x, y, None] if v > 0 else None) for x, y, v in points]
    facts.notes[values.LACKING_POINTS] += there.count(None)
    placed = values.key_points(
        [point or [0, 0, None] for point in there], names, "keypoints", where
    )
    found = _connected(placed, category)
    return [point for point, kept in zip(found, there, strict=True) if kept is not None]


def _connected(points: list[dict[str, Any]], category: Category | None) -> list[dict[str, Any]]:
    """Return key points with their connections, each at the first of its two ends."""
    for pair in () if category is None else category.skeleton:
        first, last = sorted(end - 1 for end in pair)
        if last < len(points):
            points[first]["connect"].append(last)
    return points
