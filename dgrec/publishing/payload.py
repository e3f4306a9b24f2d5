"""What is published of a frame, as JSON.

A recording and the same recording published later give the same bytes: both are made from what a
row holds, stamps in whole microseconds.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dgrec.format import STAGE_KEYS, Row, json_values, milliseconds, restore, utc_ns, utc_text

__all__ = ["PayloadForm", "PublishedFrame", "message_of", "payload"]

PayloadForm = Literal["guide", "full"]

#: What DeGirum's guide publishes of a detection.
_GUIDE_KEYS = ("label", "score", "bbox")
_LONGEST_BITS = 10_000
#: Keys of detections that are pictures.
_PIXELS = ("mask", "data")


@dataclass(frozen=True, slots=True)
class PublishedFrame:
    """A recorded frame, from the recorder or from a session."""

    session: str
    source_frame: int
    media_time_s: float | None
    captured_us: int | None
    completed_us: int | None
    latency_ms: float | None
    size: tuple[int, int]
    results: Any
    timing: Mapping[str, Any]
    #: What analyzers added, as rows hold it.
    attributes: str | None

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
            _microseconds(row["captured_at"]),
            _microseconds(row["completed_at"]),
            row["latency_ms"],
            (row["width"] or 0, row["height"] or 0),
            restored.results,
            restored.timing,
            row["attributes"],
        )


def _microseconds(stamp: dt.datetime | None) -> int | None:
    return None if stamp is None else utc_ns(stamp) // 1000


def _text(stamp_us: int | None) -> str | None:
    return None if stamp_us is None else utc_text(stamp_us * 1000)


def payload(frame: PublishedFrame, form: PayloadForm = "guide") -> dict[str, Any]:
    """Return what is published of a frame.

    ``timestamp`` is when the result came out, in seconds since 1970 (UTC).

    Args:
        form: "guide": that of DeGirum's guide, ``timestamp`` and ``detections`` with ``label``,
            ``score`` and ``bbox``; "full": all of the row but pixels.
    """
    items = frame.results if isinstance(frame.results, list) else []
    found = [item for item in items if isinstance(item, Mapping)]
    # Another tool may have left stamps out.
    timestamp = None if frame.completed_us is None else frame.completed_us / 1e6
    if form == "guide":
        return {
            "timestamp": timestamp,
            "detections": [
                {key: _plain(item[key]) for key in _GUIDE_KEYS if key in item} for item in found
            ],
        }
    timing = frame.timing
    return {
        "timestamp": timestamp,
        "session": frame.session,
        "source_frame": frame.source_frame,
        "media_time_s": _plain(frame.media_time_s),
        "captured_at": _text(frame.captured_us),
        "completed_at": _text(frame.completed_us),
        "latency_ms": _plain(frame.latency_ms),
        **{
            name: next((_plain(timing[key]) for key in keys if key in timing), None)
            for name, keys in STAGE_KEYS.items()
        },
        "width": frame.size[0],
        "height": frame.size[1],
        "detections": [
            {str(key): _plain(value) for key, value in item.items() if key not in _PIXELS}
            for item in found
        ],
        "attributes": _plain(json_values.loads(frame.attributes)) if frame.attributes else {},
    }


def message_of(frame: PublishedFrame, form: PayloadForm = "guide") -> bytes:
    """Return a frame's `payload` as JSON text, UTF-8, in one line without its end."""
    return json.dumps(payload(frame, form), separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it; NaN and infinity become null, pixels are left out."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and value.bit_length() > _LONGEST_BITS:
        return None  # Python writes no number of so many digits
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if key not in _PIXELS}
    return _plain_object(value)


def _plain_object(value: Any) -> Any:
    """Return the state of an object (counts of zones, say), or its text."""
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict())
    state = getattr(value, "state", None)
    return _plain(state) if isinstance(state, Mapping) else str(value)
