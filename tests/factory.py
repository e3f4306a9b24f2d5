"""Small typed factories for rows, journals and sessions: what every room's tests are built from.

Values look like those of PySDK's runtime: coordinates and scores are float32 numbers that stand
in Python floats, dictionaries keep the runtime's key order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dgrec.format import (
    Delivery,
    Journal,
    JournalWriter,
    MaskMode,
    Row,
    deliveries_as_note,
    seal,
    utc_text,
)
from dgrec.format import metadata as metadata_module
from dgrec.format.schema import METADATA_KEY

__all__ = [
    "CAMERA",
    "CLOSING",
    "LABELS",
    "START_NS",
    "edited",
    "later",
    "losses_of",
    "make_detection",
    "make_row",
    "make_rows",
    "new_metadata",
    "rate_of",
    "restart",
    "smooth_boxes",
    "without_column",
    "write_journal",
    "write_published",
    "write_session",
]

#: 2026-01-02 03:04:05.678901 UTC
START_NS = 1_767_323_045_678_901_000
#: ``source`` of a live session; only a live one loses frames while its model starts.
CAMERA: dict[str, Any] = {
    "given": "cam0",
    "kind": "camera",
    "name": "cam0",
    "live": True,
    "width": 640,
    "height": 480,
    "fps": 29.97,
}
LABELS = ("person", "car", "bicycle", "dog")
CLOSING: dict[str, Any] = {
    "ended_at": "2026-01-02T03:05:05.678901Z",
    "end_reason": "finished",
    "totals": {"frames": 0, "detections": 0, "skipped": 0, "dropped": 0},
}
#: Milliseconds, and one size in bytes, under PySDK's own names.
TIMING: dict[str, float] = {
    "CorePreprocessDuration_ms": 1.25,
    "CoreInferenceDuration_ms": 7.5,
    "CorePostprocessDuration_ms": 0.75,
    "CoreInputFrameSize_bytes": 49152.0,
}


def make_detection(index: int = 0, **overrides: Any) -> dict[str, Any]:
    """Return one box as a detection model yields it; an override of ``...`` drops the key."""
    left, top = 10.5 + index, 20.25 + index
    detection: dict[str, Any] = {
        "bbox": [left, top, left + 100.0, top + 50.0],
        "category_id": index % len(LABELS),
        "label": LABELS[index % len(LABELS)],
        "score": float(np.float32(0.9)),
        **overrides,
    }
    return {key: value for key, value in detection.items() if value is not ...}


class DraftRow(SimpleNamespace):
    """A row that a test may still change; whatever takes rows takes it."""

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, name) for name in Row._fields)

    def _replace(self, **changes: Any) -> DraftRow:
        return DraftRow(**{**vars(self), **changes})


def make_row(i: int, results: Any = ..., **overrides: Any) -> Row:
    """Return frame ``i`` of a 30 fps source; ``results`` is one detection unless given."""
    captured = START_NS + i * 33_366_700
    fields: dict[str, Any] = {
        "source_frame": i,
        "media_time_s": i * 1001 / 30000,
        "captured_ns": captured,
        "completed_ns": captured + 12_345_678 + i % 7 * 100_000,
        "read_ns": 2_000_000,
        "recorder_ns": 50_000,
        "width": 640,
        "height": 480,
        "results": [make_detection(i)] if results is ... else results,
        "timing": dict(TIMING),
    }
    return cast("Row", DraftRow(**Row(**{**fields, **overrides})._asdict()))


def make_rows(count: int, **overrides: Any) -> list[Row]:
    return [make_row(i, **overrides) for i in range(count)]


def later(row: Row, by_ns: int) -> Row:
    """Return a row as it would be if its frame had come later."""
    return row._replace(captured_ns=row.captured_ns + by_ns, completed_ns=row.completed_ns + by_ns)


def restart(row: Row) -> dict[str, Any]:
    """Return the event that ``row`` is the first of another run."""
    stamp = utc_text(row.captured_ns)
    return {
        "kind": "gap",
        "from": stamp,
        "to": stamp,
        "source_frame": row.source_frame,
        "ended": stamp,
    }


def smooth_boxes(frames: int, boxes: int, seed: int = 0) -> list[list[dict[str, Any]]]:
    """Return the results of ``frames`` frames in which ``boxes`` objects move smoothly.

    Positions are a drift, a sway and half a pixel of noise; scores wander with noise in every
    frame (an AR(1) process), as a detector's do. Everything is rounded to float32 first, which is
    what PySDK's C++ runtime hands to Python.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None]
    speed, phase = rng.uniform(-0.4, 0.4, (2, boxes)), rng.uniform(0, 6.28, (2, boxes))
    sway = rng.uniform(5, 60, (2, boxes))
    period = rng.uniform(60, 400, (2, boxes))
    start = np.stack([rng.uniform(200, 1500, boxes), rng.uniform(150, 800, boxes)])
    centre = [
        start[axis]
        + speed[axis] * t
        + sway[axis] * np.sin(t / period[axis] + phase[axis])
        + rng.normal(0, 0.5, (frames, boxes))
        for axis in (0, 1)
    ]
    half = [
        rng.uniform(15, 120, boxes) * (1 + 0.1 * np.sin(t / 90 + phase[axis]))
        + rng.normal(0, 0.5, (frames, boxes))
        for axis in (0, 1)
    ]
    corners = np.stack(
        [centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]], -1
    )
    noise = rng.normal(0, 0.02, (frames, boxes))
    wander = np.zeros((frames, boxes))
    for i in range(1, frames):
        wander[i] = 0.9 * wander[i - 1] + noise[i]
    scores = np.clip(0.75 + wander, 0.05, 0.999)
    bbox = corners.astype(np.float32).astype(np.float64).tolist()
    score = scores.astype(np.float32).astype(np.float64).tolist()
    ids = [box % len(LABELS) for box in range(boxes)]
    return [
        [
            {
                "bbox": bbox[frame][box],
                "category_id": ids[box],
                "label": LABELS[ids[box]],
                "score": score[frame][box],
            }
            for box in range(boxes)
        ]
        for frame in range(frames)
    ]


def new_metadata(name: str = "test", **overrides: Any) -> metadata_module.Metadata:
    """Return the metadata of a session of a file, with a model that has labels."""
    return {
        **metadata_module.new(name, START_NS),
        "source": {"given": "clip.mp4", "kind": "file", "width": 640, "height": 480, "fps": 29.97},
        "model": {
            "name": "tiny_model",
            "zoo": "zoo",
            "inference_host": "@local",
            "device": "TFLITE/CPU",
            "result_type": "DetectionYolo",
            "labels": {str(i): label for i, label in enumerate(LABELS)},
        },
        **overrides,
    }


def write_journal(
    path: Path,
    rows: Sequence[Row],
    metadata: metadata_module.Metadata | None = None,
    *,
    end: bool = True,
    batch: int = 10,
    masks: MaskMode = "exact",
    closing: metadata_module.Metadata | None = None,
) -> Path:
    """Write ``rows`` to a new journal, ``batch`` rows at a time.

    Without ``end`` it looks as if its writer had been killed.
    """
    writer = JournalWriter(
        path,
        new_metadata() if metadata is None else metadata,
        masks=masks,
        durability="never",
    )
    try:
        for start in range(0, len(rows), batch):
            writer.write(rows[start : start + batch])
        if end:
            writer.end(CLOSING if closing is None else closing)
    finally:
        writer.close()
    return path


def write_published(path: Path) -> Path:
    """Write 20 rows that were published to two targets, one of which did not get all of them."""
    targets = [{"target": name, "payload": "guide", "every": 1} for name in ("a.jsonl", "b.jsonl")]
    taken = [Delivery(0, n, 4096 * (20 + n)) for n in range(20)]
    taken += [Delivery(1, n, 4096 * (30 + n)) for n in range(15)]
    journal = path.with_suffix(".arrows")
    writer = JournalWriter(journal, {**new_metadata(), "targets": targets})
    writer.write(make_rows(20), deliveries=deliveries_as_note(taken))
    writer.end(CLOSING)
    writer.close()
    seal(Journal.open(journal), path)
    journal.unlink()
    return path


def write_session(
    path: Path,
    rows: Sequence[Row],
    metadata: metadata_module.Metadata | None = None,
    *,
    end: bool = True,
    batch: int = 10,
    masks: MaskMode = "exact",
    closing: metadata_module.Metadata | None = None,
) -> Path:
    """Write ``rows`` to a sealed session; without ``end`` it was recovered."""
    journal = path.with_suffix(".arrows")
    write_journal(journal, rows, metadata, end=end, batch=batch, masks=masks, closing=closing)
    seal(Journal.open(journal), path)
    journal.unlink()
    return path


def rate_of(rows: Sequence[Row]) -> float:
    """Return frames a second as docs/sql.md defines it, of rows in a row."""
    spans = [
        (max(stamps) - min(stamps)) / 1e6
        for stamps in (
            [row.captured_ns // 1000 for row in rows],
            [row.completed_ns // 1000 for row in rows],
        )
    ]
    return (len(rows) - 1) / max(spans)


def losses_of(rows: Sequence[Row], *, live: bool = True) -> dict[str, int]:
    """Return the frames that a recording lost once its model had started, and ``at_start``.

    Footage (not ``live``) waits for the model, and loses nothing while that starts.
    """
    first_result = min(row.completed_ns // 1000 for row in rows)
    counts = Counter({"total": 0, "camera": 0, "queue": 0, "writer": 0, "at_start": 0})
    for before, row in zip([None, *rows], rows, strict=False):
        for place in ("camera", "queue", "writer"):
            lost = getattr(row, f"dropped_{place}")
            if live and (before is None or before.captured_ns // 1000 <= first_result):
                counts["at_start"] += lost
            else:
                counts[place] += lost
                counts["total"] += lost
    return dict(counts)


def edited(path: Path, columns: Mapping[str, Sequence[Any]], **metadata: Any) -> Path:
    """Edit columns of a session in place, as any tool with pyarrow would; return its path.

    The file has no checksums then, columns may hold null, and floats have bounds, also with NaN in
    them. Stamps are microseconds since 1970. ``metadata`` replaces keys of the session's own.
    """
    file = pq.ParquetFile(path)
    table = file.read()
    for name, values in columns.items():
        field = table.schema.field(name).with_nullable(True)
        index = table.schema.get_field_index(name)
        table = table.set_column(index, field, pa.array(values, field.type))
    said = {**json.loads(file.metadata.metadata[METADATA_KEY]), **metadata}
    file.close()
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(said)})
    pq.write_table(table, path)
    return path


def without_column(path: Path, column: str) -> Path:
    """Write a copy of a session from which another tool has left out a column."""
    copy = path.with_name(f"no_{column}.parquet")
    file = pq.ParquetFile(path)
    table = file.read().drop_columns([column])
    with pq.ParquetWriter(copy, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({METADATA_KEY: file.metadata.metadata[METADATA_KEY]})
    return copy
