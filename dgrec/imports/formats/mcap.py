"""MCAP with Foxglove's ImageAnnotations: a message for each frame, boxes as closed lines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dgrec.errors import ConfigError, first_line
from dgrec.imports import (
    MOST_DETECTIONS,
    Facts,
    Format,
    Frames,
    Head,
    ImportedFrame,
    Input,
    InvalidError,
    registered,
    too_many,
    values,
)

__all__ = ["Mcap"]

_MAGIC: Final = b"\x89MCAP0\r\n"
_SCHEMA: Final = "ImageAnnotations"
_LINE_LOOP: Final = (2, "LINE_LOOP")
#: "car 0.93", "car: 93%".
_SCORED: Final = re.compile(r"(?s)(.*?)[\s:]*\b(\d(?:\.\d+)?|\d{1,3}(?:\.\d+)?%)\s*\Z")
_LARGEST_MESSAGE: Final = 64 << 20


@registered
class Mcap(Format):
    name = "mcap"
    title = "MCAP with ImageAnnotations of Foxglove"

    def is_it(self, head: Head) -> bool:
        return head.data.startswith(_MAGIC)

    def read(self, given: Input, facts: Facts) -> Frames:
        """Yield a frame for each message of one topic, numbered from 0."""
        try:
            from mcap.reader import make_reader
            from mcap_protobuf.decoder import DecoderFactory
        except ImportError:
            raise ConfigError(
                "reading MCAP needs more libraries: `pip install 'dgrec[mcap]'`"
            ) from None
        number = -1
        try:
            reader = make_reader(given.file)
            topic = _topic(reader, given)
            decode: Any = None
            factory = DecoderFactory()
            for schema, channel, message in reader.iter_messages(topics=[topic]):
                number += 1
                where = f"message {number} of {topic[:60]}"
                if len(message.data) > _LARGEST_MESSAGE:
                    raise InvalidError(where, f"takes more than {_LARGEST_MESSAGE >> 20} MB")
                if channel.message_encoding == "json":
                    content = json.loads(message.data)
                else:
                    decode = decode or factory.decoder_for(channel.message_encoding, schema)
                    if decode is None:
                        raise InvalidError(
                            where,
                            f"its encoding is {channel.message_encoding[:20]!r}; expected protobuf "
                            "or json",
                        )
                    content = _plain(decode(message.data))
                yield _frame(values.objects(content, where), number, message.log_time, where, facts)
        except InvalidError:
            raise
        except Exception as error:  # whatever the libraries raise on damaged files
            raise InvalidError(
                "its beginning" if number < 0 else f"message {number + 1}",
                f"is damaged: {first_line(error)}",
            ) from None


def _topic(reader: Any, given: Input) -> str:
    summary = reader.get_summary()
    found: dict[str, str] = {}
    if summary is not None:
        found = {
            channel.topic: summary.schemas[channel.schema_id].name
            for channel in summary.channels.values()
            if channel.schema_id in summary.schemas
        }
    else:  # a recording that was cut off has no summary
        for schema, channel, _ in reader.iter_messages():
            if schema is not None:
                found.setdefault(channel.topic, schema.name)
    topics = sorted(t for t, name in found.items() if name.split(".")[-1] == _SCHEMA)
    wanted = given.options.field_name
    if wanted is not None:
        topics = [topic for topic in topics if topic == wanted]
    if not topics:
        names = ", ".join(sorted(found))[:200] or "no topics"
        raise InvalidError(wanted or "topics", f"no {_SCHEMA} there; the file has {names}")
    if len(topics) > 1:
        names = ", ".join(topics)[:200]
        raise InvalidError("topics", f"several have {_SCHEMA}: {names}; name one with --field")
    return topics[0]


def _plain(message: Any) -> dict[str, Any]:
    """Return what is used of a decoded protobuf message, as its JSON has it."""
    return {
        "timestamp": None,
        "points": [
            {
                "timestamp": {"sec": p.timestamp.seconds, "nsec": p.timestamp.nanos},
                "type": p.type,
                "points": [{"x": point.x, "y": point.y} for point in p.points],
                "metadata": [
                    {"key": pair.key, "value": pair.value} for pair in getattr(p, "metadata", ())
                ],
            }
            for p in message.points
        ],
        "texts": [
            {"position": {"x": t.position.x, "y": t.position.y}, "text": t.text}
            for t in message.texts
        ],
    }


def _frame(
    content: Mapping[str, Any], number: int, logged_ns: int, where: str, facts: Facts
) -> ImportedFrame:
    lines = [values.objects(item, where) for item in _list(content.get("points"), where)]
    texts = [values.objects(item, where) for item in _list(content.get("texts"), where)]
    loops = [line for line in lines if line.get("type") in _LINE_LOOP]
    if (others := len(lines) - len(loops)) or content.get("circles"):
        facts.notes["annotations other than closed lines are left out"] += others or 1
    if len(loops) > MOST_DETECTIONS:
        raise too_many(number)
    boxes = [_box(line, where) for line in loops]
    detections = []
    captured_us: int | None = None
    for index, (line, box) in enumerate(zip(loops, boxes, strict=True)):
        about = _metadata(line, where)
        if not about and (text := _text_of(index, box, texts, len(boxes), where)):
            about = _parsed(text)
        detections.append(_detection(box, about, where, facts))
        captured_us = _time(line.get("timestamp"), where) if captured_us is None else captured_us
    completed_us = logged_ns // 1000
    if not 0 < completed_us < 2**53:
        raise InvalidError(where, "its log time is not a time since 1970")
    # A stamp that is not earlier says nothing about the capture.
    is_known = captured_us is not None and 0 < captured_us < completed_us
    return ImportedFrame(
        number,
        detections,
        captured_us=captured_us if is_known else None,
        completed_us=completed_us,
    )


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise InvalidError(where, "'points' or 'texts' is not a list")


def _time(value: Any, where: str) -> int | None:
    if not isinstance(value, dict):
        return None
    seconds = values.count(value.get("sec", 0), "sec", where, 2**33)
    return seconds * 1_000_000 + values.count(value.get("nsec", 0), "nsec", where) // 1000


def _box(line: Mapping[str, Any], where: str) -> list[float]:
    points = [values.objects(point, where) for point in _list(line.get("points"), where)]
    x = [values.number(point.get("x"), "x", where) for point in points]
    y = [values.number(point.get("y"), "y", where) for point in points]
    if len(points) < 3:
        raise InvalidError(where, "a closed line has fewer than 3 points")
    return values.corners([min(x), min(y), max(x), max(y)], "points", where)


def _metadata(line: Mapping[str, Any], where: str) -> dict[str, str]:
    pairs = [values.objects(pair, where) for pair in _list(line.get("metadata"), where)]
    return {
        values.label(pair.get("key"), "key", where): values.label(pair.get("value"), "value", where)
        for pair in pairs[:100]
    }


def _text_of(
    index: int, box: list[float], texts: Sequence[Mapping[str, Any]], boxes: int, where: str
) -> str:
    """Return the text that belongs to a box: the one of its number, or the nearest to a corner."""
    if not texts:
        return ""
    if len(texts) == boxes:
        nearest = texts[index]
    else:
        nearest = min(texts, key=lambda item: _distance(item, box, where))
    return values.label(nearest.get("text"), "text", where)


def _distance(text: Mapping[str, Any], box: list[float], where: str) -> float:
    place = values.objects(text.get("position"), where)
    x, y = (values.number(place.get(axis, 0), axis, where) for axis in ("x", "y"))
    return abs(x - box[0]) + min(abs(y - box[1]), abs(y - box[3]))


def _parsed(text: str) -> dict[str, str]:
    """Return label and score of a text such as ``car 0.93``."""
    found = _SCORED.match(text)
    if found is None or not found[1].strip():
        return {"label": text.strip()}
    number = float(found[2].rstrip("%")) / (100 if found[2].endswith("%") else 1)
    return {"label": found[1].strip(), "score": str(number)}


def _detection(
    box: list[float], about: Mapping[str, str], where: str, facts: Facts
) -> dict[str, Any]:
    numbers: dict[str, float] = {}
    for key in ("score", "category_id", "track_id"):
        if about.get(key):
            try:
                numbers[key] = values.number(float(about[key]), key, where)
            except ValueError:
                raise InvalidError(where, f"{key!r} is not a number") from None
    whole = {
        key: values.count(numbers[key], key, where, most)
        for key, most in (("category_id", 2**31 - 1), ("track_id", values.LARGEST_FRAME))
        if key in numbers
    }
    label = about.get("label") or None
    if label is not None and "category_id" in whole and len(facts.labels) < 100_000:
        facts.labels.setdefault(whole["category_id"], label)
    return values.detection(
        box,
        label=label,
        category_id=whole.get("category_id"),
        score=numbers.get("score"),
        track_id=whole.get("track_id"),
    )
