"""The payload of a published frame, as JSON.

Frames published while recording or later give the same bytes: both are made from what a row holds,
with stamps in whole microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dgrec.alerts import DetectionCondition
from dgrec.format import STAGE_KEYS, Row, json_values, milliseconds, restore, utc_text, utc_us
from dgrec.publishing.plain_values import PIXELS, plain

PayloadForm = Literal["guide", "full"]

#: Keys of a detection that DeGirum's guide publishes.
_GUIDE_KEYS = ("label", "score", "bbox")


@dataclass(frozen=True, slots=True)
class PublishedFrame:
    """A recorded frame, from the recorder or from a session."""

    session: str
    #: Another tool may have left it out, and stamps.
    source_frame: int | None
    media_time_s: float | None
    captured_us: int | None
    completed_us: int | None
    latency_ms: float | None
    size: tuple[int, int]
    results: Any
    timing: Mapping[str, Any]
    #: What analyzers added, as rows hold it.
    attributes: str | None
    #: Its number in the session; None while it is being recorded, when ``source_frame`` is known.
    frame: int | None = None

    @property
    def timestamp(self) -> float | None:
        """When the result came out, in seconds since 1970."""
        return None if self.completed_us is None else self.completed_us / 1e6

    def detections(self, where: DetectionCondition | None = None) -> list[Mapping[Any, Any]]:
        """Return its detections, or those for which a condition holds."""
        items = self.results if isinstance(self.results, list) else []
        found = [item for item in items if isinstance(item, Mapping)]
        return found if where is None else [item for item in found if where.holds(item)]

    @classmethod
    def of_row(cls, row: Row, session: str) -> PublishedFrame:
        """Return a frame that is being recorded."""
        attributes = row.attributes
        if attributes is not None and not isinstance(attributes, str):
            attributes = json_values.dumps(attributes)
        captured, completed = row.captured_ns // 1000, row.completed_ns // 1000
        return cls(
            session,
            row.source_frame,
            row.media_time_s,
            captured,
            completed,
            milliseconds(row.completed_ns - row.captured_ns) if row.is_capture_known else None,
            (row.width, row.height),
            row.results,
            row.timing,
            attributes,
        )

    @classmethod
    def of_recorded(cls, row: Mapping[str, Any], session: str) -> PublishedFrame:
        """Return a frame of a session.

        Raises:
            DecodeError: The row does not hold what dgrec writes.
        """
        restored = restore(row)
        return cls(
            session,
            row["source_frame"],
            row["media_time_s"],
            utc_us(row["captured_at"]),
            utc_us(row["completed_at"]),
            row["latency_ms"],
            (row["width"] or 0, row["height"] or 0),
            restored.results,
            restored.timing,
            row["attributes"],
            row["frame"],
        )


def _text(stamp_us: int | None) -> str | None:
    return None if stamp_us is None else utc_text(stamp_us * 1000)


def payload(
    frame: PublishedFrame, form: PayloadForm = "guide", where: DetectionCondition | None = None
) -> dict[str, Any]:
    """Return the payload of a frame.

    ``timestamp`` is when the result came out, in seconds since 1970 (UTC).

    Args:
        form: "guide": that of DeGirum's guide, ``timestamp`` and ``detections`` with ``label``,
            ``score`` and ``bbox``; "full": all of the row but pixels.
        where: Condition for detections; None: all.
    """
    found = frame.detections(where)
    if form == "guide":
        return {
            "timestamp": frame.timestamp,
            "detections": [
                {key: plain(item[key]) for key in _GUIDE_KEYS if key in item} for item in found
            ],
        }
    timing = frame.timing
    return {
        "timestamp": frame.timestamp,
        "session": frame.session,
        "source_frame": frame.source_frame,
        "media_time_s": plain(frame.media_time_s),
        "captured_at": _text(frame.captured_us),
        "completed_at": _text(frame.completed_us),
        "latency_ms": plain(frame.latency_ms),
        **{
            name: next((plain(timing[key]) for key in keys if key in timing), None)
            for name, keys in STAGE_KEYS.items()
        },
        "width": frame.size[0],
        "height": frame.size[1],
        "detections": [
            {str(key): plain(value) for key, value in item.items() if key not in PIXELS}
            for item in found
        ],
        "attributes": plain(json_values.loads(frame.attributes)) if frame.attributes else {},
    }


def message_of(
    frame: PublishedFrame, form: PayloadForm = "guide", where: DetectionCondition | None = None
) -> bytes:
    """Return a frame's `payload` as a `json_message`."""
    return json_message(payload(frame, form, where))


def json_message(value: Mapping[str, Any]) -> bytes:
    """Return JSON text, UTF-8, in one line without a line end."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
