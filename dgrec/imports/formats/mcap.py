"""MCAP with Foxglove's ImageAnnotations: a message for each frame, boxes as closed lines."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from dgrec.errors import ConfigError, first_line
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
    too_many,
    values,
)

_MAGIC: Final = b"\x89MCAP0\r\n"
_SCHEMA: Final = "ImageAnnotations"
_LINE_LOOP: Final = (2, "LINE_LOOP")
#: "car 0.93", "car: 93%".
_SCORED: Final = re.compile(r"(?s)(.*?)[\s:]*\b(\d(?:\.\d+)?|\d{1,3}(?:\.\d+)?%)\s*\Z")
_LARGEST_MESSAGE: Final = 64 << 20
#: 1,000 key points as JSON take 200,000 characters.
_LONGEST_TEXT: Final = 1 << 20
#: The topic and the schema of the facts about each frame in dgrec's exports.
_METRICS, _METRICS_SCHEMA = "/metrics", "dgrec.FrameMetrics"


class Mcap(ImportFormat):
    name = "mcap"
    title = "MCAP with ImageAnnotations of Foxglove"
    reads_options = frozenset(("field",))
    repeats_frames = True

    def is_it(self, head: Head) -> bool:
        return head.data.startswith(_MAGIC)

    def read(self, given: Input, facts: Facts) -> Frames:
        """Yield a frame for each message of one topic.

        Frames are numbered from 0, or as the metrics of dgrec's exports say.
        """
        try:
            from mcap.reader import NonSeekingReader, make_reader
            from mcap_protobuf.decoder import DecoderFactory
        except ImportError:
            raise ConfigError(
                "reading MCAP needs more libraries: `pip install 'dgrec[mcap]'`"
            ) from None
        at = "its beginning"
        last = -1
        try:
            reader = make_reader(given.file)
            topics = _topics(reader)
            topic = _topic(topics, given)
            has_metrics = topics.get(_METRICS) == _METRICS_SCHEMA
            if has_metrics:
                # dgrec's exports are in the order of frames, which is not that of time if a clock
                # was set back.
                given.file.seek(0)
                reader = NonSeekingReader(given.file)
            messages = _Messages(reader, topic, has_metrics)
            for index, (content, metrics, logged_ns) in enumerate(messages.pairs(DecoderFactory())):
                at = f"message {index + 1}"
                where = f"message {index} of {topic[:60]}"
                frame = _frame(content, last + 1, logged_ns, where, facts)
                if metrics is not None:
                    _add_metrics(frame, metrics, logged_ns, f"{where}: {_METRICS}")
                if frame.number < last:
                    raise InvalidError(where, f"frame {frame.number:,} comes after frame {last:,}")
                last = frame.number
                yield frame
        except InvalidError:
            raise
        except Exception as error:  # whatever the libraries raise on damaged files
            raise InvalidError(at, f"is damaged: {first_line(error)}") from None


class _Messages:
    """The annotations of a topic, each with the metrics of its frame.

    Args:
        has_metrics: Whether there are metrics.
    """

    def __init__(self, reader: Any, topic: str, has_metrics: bool) -> None:
        self._topic = topic
        self._reader, self._has_metrics = reader, has_metrics
        self._topics = [topic, _METRICS] if has_metrics else [topic]
        self._decode: Any = None

    def pairs(
        self, factory: Any
    ) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any] | None, int]]:
        """Yield annotations, metrics (or None), and when both were logged."""
        waiting: tuple[Mapping[str, Any], int] | None = None
        count = 0
        for schema, channel, message in self._reader.iter_messages(
            topics=self._topics, log_time_order=not self._has_metrics
        ):
            where = f"message {count} of {channel.topic[:60]}"
            if len(message.data) > _LARGEST_MESSAGE:
                raise InvalidError(where, f"takes more than {_LARGEST_MESSAGE >> 20} MB")
            is_metrics = channel.topic != self._topic
            if waiting is not None:
                content, logged_ns = waiting
                if not is_metrics:
                    yield content, None, logged_ns
                elif message.log_time == logged_ns:
                    metrics = values.objects(json.loads(message.data), f"{where}: {_METRICS}")
                    yield content, metrics, logged_ns
                    waiting = None
            if not is_metrics:
                found = self._decoded(factory, schema, channel, message, where)
                waiting = values.objects(found, where), message.log_time
                count += 1
        if waiting is not None:
            yield waiting[0], None, waiting[1]

    def _decoded(self, factory: Any, schema: Any, channel: Any, message: Any, where: str) -> Any:
        if channel.message_encoding == "json":
            return json.loads(message.data)
        self._decode = self._decode or factory.decoder_for(channel.message_encoding, schema)
        if self._decode is None:
            raise InvalidError(
                where,
                f"its encoding is {channel.message_encoding[:20]!r}; expected protobuf or json",
            )
        return _plain(self._decode(message.data))


def _topics(reader: Any) -> dict[str, str]:
    """Return the names of the topics' schemas."""
    summary = reader.get_summary()
    if summary is not None:
        return {
            channel.topic: summary.schemas[channel.schema_id].name
            for channel in summary.channels.values()
            if channel.schema_id in summary.schemas
        }
    found: dict[str, str] = {}
    for schema, channel, _ in reader.iter_messages():  # a file cut off has no summary
        if schema is not None:
            found.setdefault(channel.topic, schema.name)
    return found


def _topic(found: Mapping[str, str], given: Input) -> str:
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
    """Return the parts of a decoded protobuf message that are used, as its JSON has them."""
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
    loops, points, others = _sorted(lines, where, facts.notes)
    if others or content.get("circles"):
        facts.notes["annotations other than closed lines are left out"] += others or 1
    if len(loops) > MOST_DETECTIONS:
        raise too_many(number)
    abouts = [_metadata(line, where) for line in loops]
    boxes = [_box(*pair, where) for pair in zip(loops, abouts, strict=True)]
    detections = []
    captured_us: int | None = None
    for index, (line, box, about) in enumerate(zip(loops, boxes, abouts, strict=True)):
        if not about and (text := _text_of(index, box, texts, len(boxes), where).strip()):
            about = _parsed(text)
        found = _detection(box, about, where, facts)
        if index in points:
            found["landmarks"] = points[index]
        detections.append(found)
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


def _add_metrics(
    frame: ImportedFrame, metrics: Mapping[str, Any], logged_ns: int, where: str
) -> None:
    """Add the metrics of a frame in dgrec's exports, which are logged at the time of capture."""
    if metrics.get("source_frame") is not None:
        frame.number = values.count(metrics["source_frame"], "source_frame", where)
    known = {
        name: values.number(metrics[name], name, where)
        for name in ("latency_ms", "media_time_s", *STAGE_KEYS)
        if metrics.get(name) is not None
    }
    frame.media_time_s = known.get("media_time_s")
    frame.captured_us, frame.completed_us = logged_ns // 1000, None
    if "latency_ms" in known and abs(known["latency_ms"]) < 1e12:
        frame.completed_us = frame.captured_us + round(known["latency_ms"] * 1000)
    frame.timing = {keys[0]: known[name] for name, keys in STAGE_KEYS.items() if name in known}
    if {"width", "height"} <= metrics.keys():
        frame.size = values.size(metrics["width"], metrics["height"], where)


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


def _sorted(
    lines: Sequence[Mapping[str, Any]], where: str, notes: Counter[str]
) -> tuple[list[Mapping[str, Any]], dict[int, list[dict[str, Any]]], int]:
    """Return closed lines, key points by their index, and how many annotations are neither.

    dgrec's exports write key points after the box that they belong to.
    """
    loops: list[Mapping[str, Any]] = []
    points: dict[int, list[dict[str, Any]]] = {}
    others = 0
    for line in lines:
        if line.get("type") in _LINE_LOOP:
            loops.append(line)
        elif loops and (text := _metadata(line, where).get("landmarks")):
            points[len(loops) - 1] = values.landmarks(json.loads(text), where, notes)
        else:
            others += 1
    return loops, points, others


def _box(line: Mapping[str, Any], about: Mapping[str, str], where: str) -> list[float]:
    """Return the box of a closed line; of a rotated one, the box before its rotation."""
    if about.get("angle") and about.get("bbox"):
        return values.corners(json.loads(about["bbox"]), "bbox", where)
    points = [values.objects(point, where) for point in _list(line.get("points"), where)]
    x = [values.number(point.get("x"), "x", where) for point in points]
    y = [values.number(point.get("y"), "y", where) for point in points]
    if len(points) < 3:
        raise InvalidError(where, "a closed line has fewer than 3 points")
    return values.corners([min(x), min(y), max(x), max(y)], "points", where)


def _metadata(line: Mapping[str, Any], where: str) -> dict[str, str]:
    pairs = [values.objects(pair, where) for pair in _list(line.get("metadata"), where)]
    return {
        values.label(pair.get("key"), "key", where): _text(pair.get("value"), where)
        for pair in pairs[:100]
    }


def _text(value: Any, where: str) -> str:
    if isinstance(value, str) and len(value) <= _LONGEST_TEXT:
        return value
    raise InvalidError(where, f"'value' is not a text of up to {_LONGEST_TEXT:,} characters")


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
    if number > 1:  # such as the number of a gate
        return {"label": text.strip()}
    return {"label": found[1].strip(), "score": str(number)}


def _detection(
    box: list[float], about: Mapping[str, str], where: str, facts: Facts
) -> dict[str, Any]:
    numbers: dict[str, float] = {}
    whole: dict[str, int] = {}
    try:
        for key in ("score", "angle"):
            if about.get(key):
                numbers[key] = values.number(values.exact(about[key]), key, where)
        for key, bits in (("category_id", 32), ("track_id", 64)):
            if about.get(key):
                whole[key] = values.whole(values.exact(about[key]), key, where, bits)
    except ValueError:
        raise InvalidError(where, f"{key!r} is not a number") from None
    label = values.label(about["label"], "label", where) if "label" in about else None
    if label is not None:
        facts.name(whole.get("category_id"), label)
    # Without the box before its rotation, the box around the line is the best there is.
    angle = numbers.get("angle") if about.get("bbox") else None
    return values.detection(
        box,
        None if angle is None else {"angle": angle},
        label=label,
        category_id=whole.get("category_id"),
        score=numbers.get("score"),
        track_id=whole.get("track_id"),
    )
