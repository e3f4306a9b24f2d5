"""JSON lines of DeGirum's payload, as guides publish it and `dgrec publish` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dgrec.format import STAGE_KEYS
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

#: Keys of a detection that are checked; any others are kept as they are.
_TYPED: Final = frozenset("bbox category_id label score track_id angle landmarks".split())


class Payload(ImportFormat):
    name = "payload"
    title = "JSON lines of DeGirum's payload, guide or full"
    reads_options = frozenset(("labels",))
    repeats_frames = True

    def is_it(self, head: Head) -> bool:
        return head.has_keys("{", "detections", without="samples frames bounding_box")

    def read(self, given: Input, facts: Facts) -> Frames:
        """Yield a frame for each line, numbered by ``source_frame``, or from 0."""
        reader = JsonReader(given.file)
        last = -1
        index = 0
        while reader.peek():
            where = reader.where
            frame = _frame(values.objects(reader.value(), where), index, where, given, facts)
            if frame.number < last:
                raise InvalidError(where, f"frame {frame.number:,} comes after frame {last:,}")
            last = frame.number
            index += 1
            yield frame


def _frame(
    item: Mapping[str, Any], index: int, where: str, given: Input, facts: Facts
) -> ImportedFrame:
    found = item.get("detections")
    if not isinstance(found, list):
        raise InvalidError(where, "'detections' is not a list")
    number = item.get("source_frame")
    number = index if number is None else values.count(number, "source_frame", where)
    if len(found) > MOST_DETECTIONS:
        raise too_many(number)
    detections = [
        _detection(
            values.objects(each, f"{where}: detections[{place}]"),
            f"{where}: detections[{place}]",
            given,
            facts,
        )
        for place, each in enumerate(found)
    ]
    captured_us = _stamp(item, "captured_at", where)
    completed_us = _stamp(item, "completed_at" if "completed_at" in item else "timestamp", where)
    if captured_us is not None and completed_us is not None and completed_us < captured_us:
        raise InvalidError(where, "its result is from before 'captured_at'")
    width, height = item.get("width"), item.get("height")
    media_time_s = item.get("media_time_s")
    return ImportedFrame(
        number,
        detections,
        size=values.size(width, height, where) if width or height else None,
        media_time_s=(
            None if media_time_s is None else values.number(media_time_s, "media_time_s", where)
        ),
        captured_us=captured_us,
        completed_us=completed_us,
        timing={
            keys[0]: values.number(item[stage], stage, where)
            for stage, keys in STAGE_KEYS.items()
            if item.get(stage) is not None
        },
        attributes=values.plain_extras(
            values.objects(item.get("attributes") or {}, f"{where}: attributes"), where
        ),
    )


def _stamp(item: Mapping[str, Any], name: str, where: str) -> int | None:
    return None if item.get(name) is None else values.stamp(item[name], name, where)


def _detection(item: Mapping[str, Any], where: str, given: Input, facts: Facts) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in item.items():  # in the order of the file
        if value is None:
            continue
        if key == "bbox":
            found[key] = values.corners(value, key, where)
        elif key == "label":
            found[key] = values.label(value, key, where)
        elif key in ("score", "angle"):
            found[key] = values.number(value, key, where)
        elif key == "category_id":
            found[key] = values.whole(value, key, where)
        elif key == "track_id":
            found[key] = values.whole(value, key, where, 64)
        elif key == "landmarks":
            found[key] = values.landmarks(value, where, facts.notes)
        else:
            found |= values.plain_extras({key: value}, where)
    category = found.get("category_id")
    if category is not None and "label" not in found and category in given.options.labels:
        found["label"] = given.options.labels[category]
    if "label" in found:
        facts.name(category, found["label"])
    return found
