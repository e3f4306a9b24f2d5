"""FiftyOne's exports: samples.json and frames.json of a dataset, and labels.json of its detections.

Its exports in other formats (COCO, CVAT) are read as those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dgrec.imports import (
    Facts,
    Frames,
    Gathering,
    Head,
    ImportedFrame,
    ImportFormat,
    Input,
    InvalidError,
    JsonReader,
    values,
)

_DETECTION: Final = (
    "_id _cls id tags label bounding_box confidence index mask mask_path attributes".split()
)


class FiftyOne(ImportFormat):
    name = "fiftyone"
    title = "samples.json, frames.json or labels.json of FiftyOne"
    reads_options = frozenset(("field",))
    is_in_pixels = True

    def is_it(self, head: Head) -> bool:
        if head.has_keys("{", "classes", "labels"):
            return True
        return head.has_keys("{") and bool({"samples", "bounding_box", "_sample_id"} & head.keys)

    def read(self, given: Input, facts: Facts) -> Frames:
        """Yield the pictures, or the frames of one video."""
        reader = JsonReader(given.file)
        is_known = False
        classes: list[str] = []
        fields: set[str] = set()
        with Gathering() as gathering:
            for key in reader.members():
                if key in ("samples", "frames") and reader.peek() in ("[", "{"):
                    is_known = True
                    fields |= _add_samples(reader, key, gathering, given, facts)
                elif key == "labels" and reader.peek() == "{":
                    is_known = True
                    _add_labels(reader, gathering, given, facts)
                elif key == "classes" and reader.peek() == "[":
                    names = reader.elements()
                    classes = [values.label(name, "classes", "classes") for name in names]
                else:
                    reader.skip()
            reader.end()
            if not is_known:
                raise InvalidError("samples", "is missing: expected samples, frames or labels")
            if fields and given.options.field_name not in (None, *fields):
                there = ", ".join(sorted(fields))[:200]
                raise InvalidError(
                    "samples", f"none has the field {given.options.field_name!r}; there is {there}"
                )
            if (repeated := gathering.repeated("frame")) is not None:
                raise InvalidError(
                    f"samples[{repeated[0]}]", f"is frame {repeated[1]}, as one before it"
                )
            facts.labels.update(enumerate(classes))
            for number, picture, found in gathering.frames():
                size = picture.get("size")
                yield ImportedFrame(
                    number,
                    [_named(item, classes) for _, item in found],
                    size=None if size is None else tuple(size),
                )


def _named(item: dict[str, Any], classes: list[str]) -> dict[str, Any]:
    """Return a detection with the name of a class that was given as a number."""
    label = item.get("label")
    if isinstance(label, int):
        item["category_id"] = label
        item["label"] = classes[label] if label < len(classes) else str(label)
    elif label in classes:
        item = {"bbox": item["bbox"], "category_id": classes.index(label), **item}
    return item


def _samples(reader: JsonReader, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the samples of a list, or the frames of an object that has them by number."""
    if reader.peek() == "[":
        for index, item in enumerate(reader.elements()):
            where = f"{key}[{index}]"
            yield where, values.objects(item, where)
        return
    for name in reader.members():
        where = f"{key}[{name[:20]!r}]"
        if not name.isascii() or not name.isdecimal() or len(name) > 15:
            raise InvalidError(where, "its name is not the number of a frame")
        yield where, {**values.objects(reader.value(), where), "frame_number": int(name)}


def _add_samples(
    reader: JsonReader, key: str, gathering: Gathering, given: Input, facts: Facts
) -> set[str]:
    """Add the samples; return the names of their fields with detections."""
    video: Any = None
    fields: set[str] = set()
    for where, sample in _samples(reader, key):
        about = sample.get("metadata")
        size = (_size(about, where) if isinstance(about, dict) else None) or given.options.size
        if "frame_number" in sample:
            of = sample.get("_sample_id")
            if video is not None and of != video:
                raise InvalidError(where, "is of another video; export one video at a time")
            video = of
            number = values.count(sample["frame_number"], "frame_number", where) - 1
            if number < 0:
                raise InvalidError(where, "frames count from 1")
        else:
            name = values.label(sample.get("filepath"), "filepath", where)
            found = values.frame_of_name(name)
            if found is None:
                raise InvalidError(where, "no number in its filepath says which frame it is")
            number = found
        gathering.add_image(str(number), number, {"size": size})
        if given.options.field_name in sample:  # null where a sample has nothing in it
            fields.add(str(given.options.field_name))
        there = _fields(sample)
        fields.update(there)
        for place, detection in enumerate(_field(there, given, where)):
            inside = f"{where}: detections[{place}]"
            gathering.add(
                _detection(values.objects(detection, inside), size, inside, facts),
                image=str(number),
            )
    return fields


def _fields(sample: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the detections of a sample by their field."""
    return {
        name: value["detections"]
        for name, value in sample.items()
        if isinstance(value, dict) and isinstance(value.get("detections"), list)
    }


def _field(fields: Mapping[str, list[Any]], given: Input, where: str) -> list[Any]:
    """Return the detections of the only field that has some, or of the one that was asked for."""
    wanted = given.options.field_name
    if wanted is not None:
        return fields.get(wanted, [])
    if len(fields) > 1:
        names = ", ".join(sorted(fields))[:200]
        raise InvalidError(where, f"has detections in {names}; name one with --field")
    return next(iter(fields.values()), [])


def _add_labels(reader: JsonReader, gathering: Gathering, given: Input, facts: Facts) -> None:
    """Add the pictures of an object that has a list of detections for each name."""
    for name in reader.members():
        where = f"labels[{name[:100]!r}]"
        number = values.frame_of_name(name)
        if number is None:
            raise InvalidError(where, "no number in its name says which frame it is")
        size = given.options.size
        gathering.add_image(str(number), number, {"size": size})
        found = reader.value()
        if found is None:
            continue
        if not isinstance(found, list):
            raise InvalidError(where, "is not a list of detections")
        for place, detection in enumerate(found):
            inside = f"{where}[{place}]"
            gathering.add(
                _detection(values.objects(detection, inside), size, inside, facts),
                image=str(number),
            )


def _size(about: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    width = about.get("width", about.get("frame_width"))
    height = about.get("height", about.get("frame_height"))
    if not width or not height:  # null, or 0 where it was not determined
        return None
    return values.size(width, height, where)


def _detection(
    item: Mapping[str, Any], size: tuple[int, int] | None, where: str, facts: Facts
) -> dict[str, Any]:
    if size is None:
        raise InvalidError(
            where, "its box is a part of the picture, whose size is not known; say it with --size"
        )
    parts = values.box_of_size(item.get("bounding_box"), "bounding_box", where)
    box = [part * whole for part, whole in zip(parts, (*size, *size), strict=True)]
    label: Any = item.get("label")
    if type(label) is int:
        label = values.count(label, "label", where, values.INT32_MAX)
    elif label is not None:
        label = values.label(label, "label", where)
    if item.get("mask") is not None or item.get("mask_path") is not None:
        facts.notes["masks of FiftyOne are left out"] += 1
    score, index = item.get("confidence"), item.get("index")
    more = values.plain_extras(item, where, _DETECTION)
    if item.get("attributes"):
        more |= values.plain_extras({"attributes": item["attributes"]}, where)
    return values.detection(
        values.corners(box, "bounding_box", where),
        {key: value for key, value in more.items() if value is not None},
        label=label,
        score=None if score is None else values.number(score, "confidence", where),
        track_id=None if index is None else values.count(index, "index", where),
    )
