"""COCO's instances and results, read back by pycocotools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import dgrec
from tests.factory import edited, make_detection, make_row, new_metadata, write_session
from tests.replay.exports.made import POINTS, detections, tracked, with_masks, with_points
from tests.replay.exports.test_rows import whole_mask

#: pycocotools has arrays of its own that NumPy 2 complains about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def _coco(path: Path, output: Path) -> COCO:
    with dgrec.open(path) as session:
        report = session.export(output)
    assert report.format == "coco"
    return COCO(str(output))


@pytest.mark.slow
def test_boxes_labels_and_scores_come_back(tmp_path: Path) -> None:
    path, rows = tracked(tmp_path)
    coco = _coco(path, tmp_path / "coco.json")
    assert sorted(coco.imgs) == list(range(30))  # the empty frames, too
    assert {(image["width"], image["height"]) for image in coco.imgs.values()} == {(1920, 1080)}
    annotations = coco.loadAnns(sorted(coco.anns))
    assert [each["id"] for each in annotations] == list(range(1, 132))
    for found, (frame, each) in zip(annotations, detections(rows), strict=True):
        x, y, width, height = found["bbox"]
        assert found["image_id"] == frame
        assert (x, y) == tuple(each["bbox"][:2])
        assert np.allclose((x + width, y + height), each["bbox"][2:], rtol=1e-15)
        assert found["score"] == each["score"]
        assert found["track_id"] == each.get("track_id")
        assert found["category_id"] == each["category_id"] + 1  # 0 is the background
        assert coco.cats[found["category_id"]]["name"] == each["label"]


@pytest.mark.slow
def test_results_are_a_perfect_score_against_the_instances(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for maker, kind in ((with_masks, "segm"), (tracked, "bbox")):
        path, _ = maker(tmp_path)
        has_mask = "mask IS NOT NULL" if kind == "segm" else None
        with dgrec.open(path) as session:
            session.export(tmp_path / f"{kind}.json", detections_where=has_mask)
            session.export(
                tmp_path / f"{kind}-results.json", "coco-results", detections_where=has_mask
            )
        truth = COCO(str(tmp_path / f"{kind}.json"))
        found = truth.loadRes(str(tmp_path / f"{kind}-results.json"))
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1.0)


def test_masks_come_back_pixel_for_pixel(tmp_path: Path) -> None:
    path, rows = with_masks(tmp_path)
    coco = _coco(path, tmp_path / "coco.json")
    compared = 0
    for found, (_, each) in zip(coco.loadAnns(sorted(coco.anns)), detections(rows), strict=True):
        if "mask" not in each:
            assert found["segmentation"] == []
            continue
        mask = whole_mask(each["mask"], 640, 480)
        assert np.array_equal(coco.annToMask(found), mask)
        assert found["area"] == mask.sum()
        compared += 1
    assert compared == 16


def test_key_points_come_back_with_their_names(tmp_path: Path) -> None:
    path, rows = with_points(tmp_path)
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "points.json")
    coco = COCO(str(tmp_path / "points.json"))
    (category,) = [each for each in coco.cats.values() if "keypoints" in each]
    assert category["keypoints"] == list(POINTS)
    assert category["skeleton"] == [[1, 2], [1, 3]]
    for found, (_, each) in zip(coco.loadAnns(sorted(coco.anns)), detections(rows), strict=True):
        expected = [value for point in each["landmarks"] for value in (*point["landmark"], 2)]
        assert found["keypoints"] == expected
        assert found["num_keypoints"] == 3
    assert report.notes == ["coco cannot hold scores of key points: 36 points"]


def test_hostile_values_give_valid_json_or_one_line(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    results = [
        make_detection(0, label='two\nlines "', score=nan),
        make_detection(0, bbox=[nan, 0.0, 1.0, 1.0]),
        make_detection(0, bbox=[-1e308, -1e308, 1e308, inf]),
        make_detection(0, bbox=..., label="a whole picture"),
        make_detection(0, landmarks=[{"label": "x", "landmark": [nan, 1.0]}]),
        make_detection(0, label=..., category_id=7),
        make_detection(0, label=..., category_id=...),
    ]
    path = write_session(tmp_path / "odd.parquet", [make_row(0, results)])
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "odd.json")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads((tmp_path / "odd.json").read_text(), parse_constant=refuse)
    assert len(found["annotations"]) == 4
    assert report.notes[0] == "left out what has no box in the picture: 3 detections"
    names = {each["id"]: each["name"] for each in found["categories"]}
    assert [names[each["category_id"]] for each in found["annotations"]] == [
        'two\nlines "',
        "person",
        "class 7",
        "object",
    ]
    assert found["annotations"][0]["score"] is None


@pytest.mark.slow
@pytest.mark.parametrize("form", ["coco", "csv", "jsonl", "supervision-json"])
def test_frames_keep_their_numbers_in_the_source(form: str, tmp_path: Path) -> None:
    """A clip, or the moments of alerts, begin anywhere: as ground truth they are still found."""
    rows = [
        make_row(number, [make_detection()])._replace(source_frame=165 + number)
        for number in range(4)
    ]
    path = write_session(tmp_path / "s.parquet", rows)
    labels = tmp_path / "labels"
    with dgrec.open(path) as session:
        session.export(labels, form)
        found = dgrec.accuracy(session, truth=labels)
    assert (found.frames, found.recall, found.precision, found.ap50) == (4, 1, 1, 1)
    dgrec.import_(labels, tmp_path / "back.parquet")
    with dgrec.open(tmp_path / "back.parquet") as back:
        assert back.frames.column("source_frame").to_pylist() == [165, 166, 167, 168]
    # A session is named without its suffix.
    assert dgrec.accuracy(path, truth=tmp_path / "back").recall == 1
    # Where they are unknown, a frame has its number in the session.
    edited(path, {"source_frame": [None] * 4})
    with dgrec.open(path) as session:
        session.export(labels, form, overwrite=True)
    dgrec.import_(labels, tmp_path / "back.parquet", overwrite=True)
    with dgrec.open(tmp_path / "back.parquet") as back:
        assert back.frames.column("source_frame").to_pylist() == [0, 1, 2, 3]


def test_classes_that_the_model_does_not_name_keep_their_ids(tmp_path: Path) -> None:
    """Two recordings that see them in another order agree, as instances and results."""
    metadata = new_metadata()
    metadata["model"] |= {"labels": {"2": "bus"}}
    found = [make_detection(label="car", category_id=7), make_detection(label="bus", category_id=2)]
    found += [make_detection(label="van", category_id=7), make_detection(label=..., category_id=4)]
    for name, order in (("s", found), ("t", [found[0], *found[:0:-1]])):
        path = write_session(tmp_path / f"{name}.parquet", [make_row(0, order)], metadata)
        with dgrec.open(path) as session:
            session.export(tmp_path / "c.json", overwrite=True)
            session.export(tmp_path / "r.json", "coco-results", overwrite=True)
        whole = json.loads((tmp_path / "c.json").read_text())
        names = {each["id"]: each["name"] for each in whole["categories"]}
        assert names == {3: "bus", 5: "class 4", 8: "car", 9: "van"}
        ids = [each["category_id"] for each in whole["annotations"]]
        results = json.loads((tmp_path / "r.json").read_text())
        assert ids == [each["category_id"] for each in results]
