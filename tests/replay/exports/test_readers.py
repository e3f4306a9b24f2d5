"""Exports as datumaro and label_studio_sdk read them.

Both ask for other versions of NumPy, pyarrow and OpenCV than dgrec has, and work with these: they
are installed without what they ask for (tests/replay/exports/readers.txt), by CI as well.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import dgrec
from dgrec.format import Row
from tests.replay.exports.made import detections, tracked, with_masks
from tests.replay.exports.test_rows import whole_mask

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
def datumaro() -> Any:
    return pytest.importorskip("datumaro")


def _boxes(datumaro: Any, path: Path, form: str) -> list[tuple[int, str, list[float], Any]]:
    """Return (frame, label, corners, attributes) of every box that datumaro reads."""
    data = datumaro.Dataset.import_from(str(path), form)
    labels = data.categories()[datumaro.AnnotationType.label]
    found = []
    for item in data:
        frame = item.attributes.get("frame", item.attributes.get("id"))
        if frame is None:
            frame = int(item.id.rpartition("-")[2])
        for each in item.annotations:
            if each.type == datumaro.AnnotationType.bbox:
                found.append((frame, labels[each.label].name, list(each.points), each.attributes))
    return sorted(found, key=lambda each: (each[0], each[2]))


def _coco_folders(folder: Path) -> None:
    """Make the folders that datumaro wants of a COCO data set."""
    for name in ("annotations", "images"):
        (folder / "coco" / name).mkdir(parents=True)


def _expected(rows: list[Row]) -> list[tuple[int, str, list[float], dict[str, Any]]]:
    found = [(frame, each["label"], each["bbox"], each) for frame, each in detections(rows)]
    return sorted(found, key=lambda each: (each[0], each[2]))


def test_datumaro_reads_boxes_of_cvat_coco_mot_and_yolo(
    datumaro: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, rows = tracked(tmp_path)
    with dgrec.open(path) as session:
        session.export(tmp_path / "cvat.xml")
        _coco_folders(tmp_path)
        session.export(tmp_path / "coco/annotations/instances_all.json", "coco")
        session.export(tmp_path / "mot", "mot")
        session.export(tmp_path / "yolo", "yolo", images="none")
    blank = np.zeros((1080, 1920, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "blank.jpg"), blank)
    for number in range(len(rows)):
        name = tmp_path / f"yolo/images/train/frame-{number:06}.jpg"
        name.write_bytes((tmp_path / "blank.jpg").read_bytes())
    # datumaro rounds to two digits where it reads MOT, CVAT and COCO, and YOLO to a thousandth.
    for name, form, close in (
        ("cvat.xml", "cvat", 0.01),
        ("coco", "coco_instances", 0.01),
        ("mot", "mot_seq", 0.01),
        ("yolo", "yolo", 0.01),
    ):
        expected = _expected(rows)
        if form == "mot_seq":  # whose frames count from 1, and which has what has tracks
            expected = [(f + 1, *rest) for f, *rest in expected if "track_id" in rest[2]]
        found = _boxes(datumaro, tmp_path / name, form)
        if form == "cvat":  # a box that ends a track is one that is outside
            found = [each for each in found if not each[3].get("outside")]
        assert [each[:2] for each in found] == [each[:2] for each in expected], form
        for one, other in zip(found, expected, strict=True):
            assert np.allclose(one[2], other[2], atol=close), form
            if form == "cvat":
                assert float(one[3]["score"]) == other[3]["score"]
    assert [record.message for record in caplog.records] == []


def test_datumaro_reads_masks_of_coco(datumaro: Any, tmp_path: Path) -> None:
    path, rows = with_masks(tmp_path)
    _coco_folders(tmp_path)
    with dgrec.open(path) as session:
        session.export(
            tmp_path / "coco/annotations/instances_all.json",
            "coco",
            detections_where="mask IS NOT NULL",
        )
    data = datumaro.Dataset.import_from(str(tmp_path / "coco"), "coco_instances")
    found = {
        (item.attributes["id"], each.group): each.image
        for item in data
        for each in item.annotations
        if each.type == datumaro.AnnotationType.mask
    }
    masks = [each["mask"] for _, each in detections(rows) if "mask" in each]
    assert len(found) == len(masks) == 16
    for image, mask in zip(dict(sorted(found.items())).values(), masks, strict=True):
        assert np.array_equal(image, whole_mask(mask, 640, 480))


def test_label_studio_accepts_its_predictions(tmp_path: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    path, _ = tracked(tmp_path)
    with dgrec.open(path) as session:
        session.export(tmp_path / "tasks", "label-studio")
    config = interface.LabelInterface((tmp_path / "tasks/label_config.xml").read_text())
    (task,) = json.loads((tmp_path / "tasks/tasks.json").read_text())
    assert config.validate_task({"data": task["data"]})
    (prediction,) = task["predictions"]
    assert config.validate_prediction(prediction, return_errors=True) == []
    prediction["result"][0]["value"]["sequence"][0]["x"] = 101
    assert config.validate_prediction(prediction, return_errors=True)
