"""Labels of many frames at once, against counting them one by one."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from typing import Any

import pyarrow as pa
import pytest

from dgrec.format import SCHEMA, frame_labels, label_counts
from dgrec.format import labels as labels_module

FRAMES = 200


@pytest.fixture(params=["marked", "sorted"])
def detections(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Detections of each frame: without any, without label, without a score, with one of NaN."""
    if request.param == "sorted":
        monkeypatch.setattr(labels_module, "_MOST_PAIRS", 0)
    some = random.Random(7)
    return [
        [
            {
                "label": some.choice(["cat", "dog", "a very rare one", None]),
                "score": some.choice([None, math.nan, some.random(), some.random()]),
            }
            for _ in range(some.choice([0, 0, 1, 2, 9]))
        ]
        for _ in range(FRAMES)
    ]


def batch_of(detections: list[Any]) -> pa.RecordBatch:
    label = pa.dictionary(pa.int32(), pa.string())
    item = pa.struct([("label", label), ("score", pa.float64())])
    captured = pa.array(range(len(detections)), pa.int64())
    return pa.record_batch(
        {
            "frame": pa.array(range(1000, 1000 + len(detections)), pa.int64()),
            "captured_at": captured.cast(SCHEMA.field("captured_at").type),
            "detections": pa.array(detections, pa.list_(item)),
        }
    )


def test_labels_of_each_frame(detections: list[Any]) -> None:
    expected = defaultdict(list)
    for frame, found in enumerate(detections, 1000):
        for item in found:
            expected[item["label"], frame].append(item["score"])
    rows = frame_labels(batch_of(detections)).to_pylist()
    assert len(rows) == len(expected) > FRAMES
    for row in rows:
        check(row, expected[row["label"], row["frame"]])


def test_labels_in_all(detections: list[Any]) -> None:
    expected = defaultdict(list)
    frames = defaultdict(set)
    for frame, found in enumerate(detections):
        for item in found:
            expected[item["label"]].append(item["score"])
            frames[item["label"]].add(frame)
    rows = label_counts(batch_of(detections)).to_pylist()
    assert {row["label"] for row in rows} == set(expected)
    assert len(rows) == 4
    for row in rows:
        assert row["frames"] == len(frames[row["label"]])
        check(row, expected[row["label"]])


def test_no_detections() -> None:
    for batch in (batch_of([]), batch_of([[], []])):
        assert frame_labels(batch).num_rows == label_counts(batch).num_rows == 0


def check(row: dict[str, Any], scores: list[float | None]) -> None:
    scored = [score for score in scores if score is not None and math.isfinite(score)]
    assert (row["detections"], row["scored"]) == (len(scores), len(scored))
    assert row["score"] == (pytest.approx(sum(scored)) if scored else None)
