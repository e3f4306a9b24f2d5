"""Exports with a row for each detection, read back by DuckDB and supervision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import supervision as sv
from pycocotools import mask as coco_mask

import dgrec
from dgrec.format import Row
from dgrec.replay.exports import Mask
from tests.factory import make_detection, make_row, write_session
from tests.replay.exports.made import detections, disc, tracked, with_masks, with_points

CORNERS = ("x_min", "y_min", "x_max", "y_max")
READERS = {
    "csv": "read_csv('{}', all_varchar = false)",
    "jsonl": "read_json('{}', format = 'newline_delimited')",
    "parquet-flat": "read_parquet('{}')",
}


def _read(path: Path, form: str) -> list[dict[str, Any]]:
    connection = duckdb.connect()
    try:
        query = f"SELECT * FROM {READERS[form].format(path)}"
        return connection.sql(query).to_arrow_table().to_pylist()
    finally:
        connection.close()


def _expected(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [
        (
            frame,
            each["label"],
            each["category_id"],
            each["score"],
            *each["bbox"],
            each.get("track_id"),
        )
        for frame, each in detections(rows)
    ]


def _found(values: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("frame", "label", "category_id", "score", *CORNERS, "track_id")
    return [tuple(row[name] for name in names) for row in values]


@pytest.mark.parametrize("form", READERS)
def test_rows_come_back_exactly(form: str, tmp_path: Path) -> None:
    path, rows = tracked(tmp_path)
    output = tmp_path / "out.data"
    with dgrec.open(path) as session:
        report = session.export(output, form)
        times = [row["captured_at"] for row in map(session.row, range(len(session)))]
    values = _read(output, form)
    assert _found(values) == _expected(rows)
    assert report.detections == len(values) == 131
    assert report.frames == len({row["frame"] for row in values}) == 27
    assert report.notes == [f"{form} cannot hold frames without detections: 3 frames"]
    assert [row["captured_at"] for row in values] == [times[row["frame"]] for row in values]


@pytest.mark.slow
@pytest.mark.parametrize("form", READERS)
def test_odd_labels_and_values_stay_in_their_place(form: str, tmp_path: Path) -> None:
    labels = ['a "quoted", one', "two\nlines", "\x1b[31m\x00", "\u202emirror", "", "ok"]
    results = [
        make_detection(index, label=label, score=float("nan") if index else 0.5, note={"a": 1})
        for index, label in enumerate(labels)
    ]
    results.append(make_detection(1, bbox=[1e308, -1e308, float("inf"), float("nan")]))
    path = write_session(tmp_path / "odd.parquet", [make_row(0, results)])
    output = tmp_path / "out.data"
    with dgrec.open(path) as session:
        session.export(output, form)
    values = _read(output, form)
    assert len(values) == 7
    if form == "csv":
        labels = [label or None for label in labels]  # DuckDB reads "" as null
    assert [row["label"] for row in values[:6]] == labels
    assert values[0]["score"] == 0.5
    assert all(row["score"] is None or np.isnan(row["score"]) for row in values[1:6])
    assert values[6]["x_min"] == 1e308
    extra = values[0]["extra"]
    assert (json.loads(extra) if isinstance(extra, str) else extra) == {"note": {"a": 1}}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_and_key_points_are_in_every_row(tmp_path: Path) -> None:
    path, rows = with_masks(tmp_path)
    with dgrec.open(path) as session:
        session.export(tmp_path / "masks.csv")
    values = _read(tmp_path / "masks.csv", "csv")
    for value, (_, each) in zip(values, detections(rows), strict=True):
        if "mask" not in each:
            assert value["mask_rle"] is None
            continue
        packed = {"size": [480, 640], "counts": value["mask_rle"].encode()}
        assert np.array_equal(coco_mask.decode(packed), whole_mask(each["mask"], 640, 480))
    path, rows = with_points(tmp_path)
    with dgrec.open(path) as session:
        session.export(tmp_path / "points.parquet.flat", "parquet-flat")
    found = _read(tmp_path / "points.parquet.flat", "parquet-flat")
    for value, (_, each) in zip(found, detections(rows), strict=True):
        assert [point["landmark"] for point in value["landmarks"]] == [
            point["landmark"] for point in each["landmarks"]
        ]
        assert value["extra"] is None


def whole_mask(mask: dict[str, Any], width: int, height: int) -> np.ndarray[Any, Any]:
    """Return a recorded mask in the whole picture."""
    whole = np.zeros((height, width), np.uint8)
    data = mask["data"][: height - mask["y_min"], : width - mask["x_min"]] > 0
    rows, columns = data.shape
    left, top = mask["x_min"], mask["y_min"]
    whole[top : top + rows, left : left + columns] = data
    return whole


def test_run_lengths_are_those_of_pycocotools() -> None:
    rng = np.random.default_rng(1)
    for size in ((1, 1), (7, 5), (300, 200)):
        for share in (0.02, 0.5, 1.0):
            pixels = rng.random(size[::-1]) < share
            pixels[0, 0] = True
            theirs = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"]
            assert Mask(pixels, 0, 0, size).run_lengths() == theirs.decode()
    round_one = disc(40, 30) > 0
    whole = np.zeros((100, 120), np.uint8)
    whole[50:80, 60:100] = round_one
    theirs = coco_mask.encode(np.asfortranarray(whole))["counts"].decode()
    assert Mask(round_one, 60, 50, (120, 100)).run_lengths() == theirs


def test_supervision_json_is_what_its_own_sink_writes(tmp_path: Path) -> None:
    path, rows = tracked(tmp_path)
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "ours.json", "supervision-json")
    with sv.JSONSink(str(tmp_path / "theirs.json")) as sink:
        for number, row in enumerate(rows):
            for each in row.results:
                track = each.get("track_id")
                found = sv.Detections(
                    xyxy=np.array([each["bbox"]]),
                    class_id=np.array([each["category_id"]]),
                    confidence=np.array([each["score"]]),
                    tracker_id=None if track is None else np.array([track]),
                    data={"class_name": [each["label"]]},
                )
                time_s = round(number * 33_366_700 / 1000) / 1e6
                numbers = {"frame_index": number, "frame": number, "source_frame": number}
                sink.append(found, {**numbers, "time_s": time_s})
    ours = json.loads((tmp_path / "ours.json").read_text())
    theirs = json.loads((tmp_path / "theirs.json").read_text())
    for values in (ours, theirs):
        for value in values:
            assert abs(value.pop("time_s") - value["frame"] * 0.0333667) < 2e-6
    assert ours == theirs
    assert len(ours) == report.detections
    # An export without detections is a list, too.
    with dgrec.open(path) as session:
        session.export(tmp_path / "none.json", "supervision-json", min_score=2.0)
    assert json.loads((tmp_path / "none.json").read_text()) == []
