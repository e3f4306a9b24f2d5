"""The columns of a session, and their encodings in a sealed file (``docs/format.md``)."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from dgrec.format.leaves import leaves_of

#: Major version of the session format. A reader refuses anything newer.
FORMAT_VERSION: Final = 1

#: Key of the schema's metadata that holds the session's metadata as JSON.
METADATA_KEY: Final = b"dgrec"

#: Names of the duration of each stage in milliseconds: in PySDK 1.5, and in DeGirum's guide.
STAGE_KEYS: Final = {
    "preprocess_ms": ("CorePreprocessDuration_ms", "preprocess"),
    "inference_ms": ("CoreInferenceDuration_ms", "inference"),
    "postprocess_ms": ("CorePostprocessDuration_ms", "postprocess"),
}

#: Parts of detections that can be read alone: boxes and masks are most of a file.
LABEL_LEAF: Final = "detections.list.element.label"
SCORE_LEAF: Final = "detections.list.element.score"
#: The names in ``timing``, without the numbers.
TIMING_NAME_LEAF: Final = "timing.key_value.key"

LANDMARK: Final = pa.struct(
    [
        pa.field("label", pa.string()),
        pa.field("category_id", pa.int32()),
        pa.field("score", pa.float64()),
        pa.field("landmark", pa.list_(pa.float64())),
        pa.field("connect", pa.list_(pa.int32())),
    ]
)

MASK: Final = pa.struct(
    [
        pa.field("x_min", pa.int32()),
        pa.field("y_min", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("encoding", pa.string()),
        pa.field("data", pa.binary()),
    ]
)

DETECTION: Final = pa.struct(
    [
        pa.field("label", pa.string()),
        pa.field("category_id", pa.int32()),
        pa.field("score", pa.float64()),
        pa.field("x_min", pa.float64()),
        pa.field("y_min", pa.float64()),
        pa.field("x_max", pa.float64()),
        pa.field("y_max", pa.float64()),
        pa.field("angle", pa.float64()),
        pa.field("track_id", pa.int64()),
        pa.field("landmarks", pa.list_(LANDMARK)),
        pa.field("mask", MASK),
        pa.field("keys", pa.string()),
        pa.field("extra", pa.string()),
    ]
)

_UTC: Final = pa.timestamp("us", tz="UTC")

#: A value that was logged beside the frames.
SIGNAL: Final = pa.struct(
    [
        pa.field("name", pa.string()),
        pa.field("at", _UTC),
        pa.field("value", pa.float64()),
    ]
)

SCHEMA: Final = pa.schema(
    [
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("source_frame", pa.int64(), nullable=False),
        pa.field("media_time_s", pa.float64()),
        pa.field("captured_at", _UTC, nullable=False),
        pa.field("completed_at", _UTC, nullable=False),
        pa.field("read_ms", pa.float64(), nullable=False),
        pa.field("preprocess_ms", pa.float64()),
        pa.field("inference_ms", pa.float64()),
        pa.field("postprocess_ms", pa.float64()),
        pa.field("latency_ms", pa.float64()),
        pa.field("recorder_ms", pa.float64(), nullable=False),
        pa.field("timing", pa.map_(pa.string(), pa.float64()), nullable=False),
        pa.field("skipped_before", pa.int32(), nullable=False),
        pa.field("dropped_before", pa.int32(), nullable=False),
        pa.field("dropped_camera", pa.int32(), nullable=False),
        pa.field("dropped_queue", pa.int32(), nullable=False),
        pa.field("dropped_writer", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("video_frame", pa.int64()),
        pa.field("video_state", pa.string()),
        pa.field("detections", pa.list_(DETECTION), nullable=False),
        pa.field("attributes", pa.string()),
        pa.field("restore", pa.string()),
        pa.field("signals", pa.list_(SIGNAL)),
        pa.field("pixel_digest", pa.int64()),
        pa.field("pixel_signature", pa.binary()),
        pa.field("published_ms", pa.float64()),
    ]
)
#: The same for sessions that no recorder wrote: most columns may be unknown.
NULLABLE_SCHEMA: Final = pa.schema(
    [column.with_nullable(column.name not in ("frame", "detections")) for column in SCHEMA]
)
#: Columns that journals of earlier versions of dgrec do not have.
LATER_COLUMNS: Final = frozenset({"signals", "pixel_digest", "pixel_signature", "published_ms"})


def parquet_bounds(schema: pa.Schema) -> list[str]:
    """Return the columns of a sealed file that get bounds (the smallest and the largest value).

    Floats get none: bounds leave NaN out, and readers that skip by bounds (DuckDB) would miss it.
    """
    return [
        ".".join(leaf.path) for leaf in leaves_of(schema) if not pa.types.is_floating(leaf.type)
    ]


_COUNTERS: Final = (
    "frame",
    "source_frame",
    "video_frame",
    "captured_at",
    "completed_at",
    "signals.list.element.at",
)


def parquet_encodings(schema: pa.Schema) -> tuple[list[str], dict[str, str]]:
    """Return (columns with a dictionary, encoding of the others) for a sealed file.

    Floats are split into byte streams, with which zstd makes float64 hardly larger than float32;
    stamps and counters are stored as differences. Columns that hardly ever change (sizes, drop
    counts, category ids) have a dictionary: a run of one value takes no room.
    """
    dictionary: list[str] = []
    encodings: dict[str, str] = {}
    for leaf in leaves_of(schema):
        path = ".".join(leaf.path)
        if pa.types.is_floating(leaf.type):
            encodings[path] = "BYTE_STREAM_SPLIT"
        elif path in _COUNTERS:
            encodings[path] = "DELTA_BINARY_PACKED"
        elif pa.types.is_binary(leaf.type) or path == "pixel_digest":
            encodings[path] = "PLAIN"
        else:
            dictionary.append(path)
    return dictionary, encodings
