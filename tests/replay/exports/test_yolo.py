"""YOLO data sets, read back by supervision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
import yaml

import dgrec
from dgrec.errors import DgrecError
from dgrec.replay.exports import corners_of
from tests.factory import make_detection, make_row, new_metadata, write_session
from tests.replay.clips import HEIGHT, WIDTH, number_in, numbered_results
from tests.replay.exports.made import NUMBERED, numbered, with_masks, with_points
from tests.replay.exports.test_rows import whole_mask


def _supervision(folder: Path, split: str = "train", **options: Any) -> sv.DetectionDataset:
    return sv.DetectionDataset.from_yolo(
        images_directory_path=str(folder / "images" / split),
        annotations_directory_path=str(folder / "labels" / split),
        data_yaml_path=str(folder / "data.yaml"),
        **options,
    )


def _with_blank_pictures(folder: Path, size: tuple[int, int], count: int) -> None:
    """Write what the tests of labels alone need for a reader."""
    for number in range(count):
        name = folder / "images" / "train" / f"frame-{number:06}.jpg"
        cv2.imwrite(str(name), np.zeros((size[1], size[0], 3), np.uint8))


def test_pictures_and_boxes_come_back_together(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "set", "yolo", split="train=0.75,val=0.25")
    assert report.pictures == report.frames == NUMBERED
    seen = []
    for split in ("train", "val"):
        data = _supervision(tmp_path / "set", split)
        assert data.classes == ["person", "car", "bicycle", "dog", "bit"]
        for name, image, found in data:
            number = int(Path(name).stem.removeprefix("frame-"))
            assert number_in(image) == 3 + 2 * number
            expected = [each["bbox"] for each in numbered_results(number)]
            assert np.allclose(found.xyxy, np.array(expected).reshape(-1, 4), atol=1e-4)
            assert set(found.class_id) <= {4}
            seen.append((split, number))
    assert sorted(seen) == [
        *[("train", number) for number in range(9)],
        *[("val", number) for number in range(9, NUMBERED)],
    ]
    assert not [note for note in report.notes if "val" in note]


def test_numbers_are_exact_and_odd_boxes_are_counted(tmp_path: Path) -> None:
    results = [
        make_detection(0, bbox=[10.1, 20.2, 100.7, 90.9], score=...),
        make_detection(1, bbox=[-5.0, 5.0, 20.0, 50.0], score=...),
        make_detection(2, bbox=[700.0, 5.0, 720.0, 50.0], score=...),
        make_detection(3, bbox=[float("nan"), 5.0, 20.0, 50.0], score=...),
    ]
    rows = [make_row(0, results), make_row(1, [])]
    path = write_session(tmp_path / "s.parquet", rows)
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "set", "yolo", images="none")
    lines = (tmp_path / "set/labels/train/frame-000000.txt").read_text().splitlines()
    x, y, width, height = map(float, lines[0].split()[1:])
    assert np.allclose(
        [(x - width / 2) * 640, (y - height / 2) * 480, (x + width / 2) * 640],
        [10.1, 20.2, 100.7],
        rtol=1e-14,
    )
    assert lines[1].split()[1:] == [
        repr(10 / 640),
        repr(27.5 / 480),
        repr(20 / 640),
        repr(45 / 480),
    ]
    assert len(lines) == 2
    assert (tmp_path / "set/labels/train/frame-000001.txt").read_text() == ""
    assert report.notes[:3] == [
        "left out what has no box in the picture: 1 detection",
        "cut boxes at the edge of the picture: 1 detection",
        "left out boxes that are not in the picture: 1 detection",
    ]


def test_outlines_cover_their_masks(tmp_path: Path) -> None:
    path, rows = with_masks(tmp_path)
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "set", "yolo-seg", images="none")
    assert "left out what has no mask in the picture: 8 detections" in report.notes
    _with_blank_pictures(tmp_path / "set", (640, 480), 8)
    for name, _, found in _supervision(tmp_path / "set", force_masks=True):
        row = rows[int(Path(name).stem.removeprefix("frame-"))]
        masks = [whole_mask(each["mask"], 640, 480) for each in row.results if "mask" in each]
        assert len(found) == len(masks) == 2
        for mask, back in zip(masks, found.mask, strict=True):
            common = np.count_nonzero(mask & back) / np.count_nonzero(mask | back)
            assert common > 0.97


def test_poses_and_turned_boxes_come_back(tmp_path: Path) -> None:
    path, rows = with_points(tmp_path)
    with dgrec.open(path) as session:
        session.export(tmp_path / "pose", "yolo-pose", images="none")
    assert yaml.safe_load((tmp_path / "pose/data.yaml").read_text())["kpt_shape"] == [3, 3]
    for number, row in enumerate(rows):
        text = (tmp_path / f"pose/labels/train/frame-{number:06}.txt").read_text()
        for line, each in zip(text.splitlines(), row.results, strict=True):
            places = np.array(line.split()[5:], float).reshape(-1, 3)
            expected = [point["landmark"] for point in each["landmarks"]]
            assert np.allclose(places[:, :2] * (640, 480), expected, rtol=1e-14)
            assert (places[:, 2] == 2).all()
    turned = make_detection(0, bbox=[100.0, 100.0, 200.0, 140.0], angle=0.5)
    path = write_session(tmp_path / "turned.parquet", [make_row(0, [turned])])
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "plain", "yolo", images="none")
        session.export(tmp_path / "turned", "yolo-obb", images="none")
    assert "yolo cannot hold angles: 1 detection" in report.notes
    _with_blank_pictures(tmp_path / "turned", (640, 480), 1)
    ((_, _, found),) = _supervision(tmp_path / "turned", is_obb=True)
    corners = found.data["xyxyxyxy"][0]
    centre, (wide, high), angle = cv2.minAreaRect(corners.astype(np.float32))
    assert np.allclose(centre, (150, 120), atol=0.01)
    assert np.allclose(sorted((wide, high)), (40, 100), atol=0.01)
    assert (
        min(abs(np.radians(angle) % (np.pi / 2) - each) for each in (0.5, 0.5 - np.pi / 2)) < 1e-3
    )
    with dgrec.open(path) as session, pytest.raises(DgrecError, match="no key points"):
        session.export(tmp_path / "none", "yolo-pose", images="none")


def test_only_turned_boxes_at_the_edge_are_left_out(tmp_path: Path) -> None:
    """A plain box is cut, as in the other formats of YOLO."""
    results = [
        make_detection(0, bbox=[-0.5, 10.0, 50.0, 60.0]),
        make_detection(0, bbox=[600.0, 440.0, 660.0, 500.0], angle=0.0),
        make_detection(0, bbox=[100.0, 100.0, 200.0, 140.0], angle=0.5),
        make_detection(0, bbox=[-0.5, 100.0, 90.0, 140.0], angle=0.5),
        make_detection(0, bbox=[700.0, 5.0, 720.0, 50.0]),
    ]
    path = write_session(tmp_path / "s.parquet", [make_row(0, []), make_row(1, results)])
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "set", "yolo-obb", images="none")
    assert report.detections == 3
    assert report.notes[-4:-1] == [
        "cut boxes at the edge of the picture: 2 detections",
        "left out boxes that are not in the picture: 1 detection",
        "left out turned boxes that reach over the picture's edge: 1 detection",
    ]
    text = (tmp_path / "set/labels/train/frame-000001.txt").read_text()
    places = [np.array(line.split()[1:], float).reshape(4, 2) for line in text.splitlines()]
    expected = [
        [(0, 10), (50, 10), (50, 60), (0, 60)],
        [(600, 440), (640, 440), (640, 480), (600, 480)],
        corners_of((100, 100, 200, 140), 0.5),
    ]
    assert np.allclose(np.array(places) * (640, 480), expected, rtol=1e-14)


def test_odd_labels_do_not_break_the_description(tmp_path: Path) -> None:
    labels = ["a: b", "two\nlines", "\x07 {", "\u202e", "null", "'", "1.5", "\U0001f600"]
    metadata = new_metadata()
    metadata["model"]["labels"] = {"0": labels[0], "900000000": "far", "x": "y", "-3": "z"}
    results = [make_detection(0, label=label, category_id=5) for label in labels]
    path = write_session(tmp_path / "s.parquet", [make_row(0, results)], metadata)
    with dgrec.open(path) as session:
        session.export(tmp_path / "set", "yolo", images="none")
    names = yaml.safe_load((tmp_path / "set/data.yaml").read_text())["names"]
    assert names == dict(enumerate(labels))


def test_the_size_of_the_numbered_pictures(tmp_path: Path) -> None:
    """Boxes that are parts of another size would be elsewhere."""
    path = numbered(tmp_path, 3)
    with dgrec.open(path) as session:
        session.export(tmp_path / "set", "yolo", images="png")
    for picture in (tmp_path / "set/images/train").iterdir():
        assert cv2.imread(str(picture)).shape == (HEIGHT, WIDTH, 3)


def test_a_detection_is_left_out_once(tmp_path: Path) -> None:
    """One that is beyond the picture and has no key points counted twice."""
    point = {"label": "nose", "category_id": 0, "score": 0.5, "landmark": [1.0, 2.0], "connect": []}
    beyond = [700.0, 10.0, 800.0, 20.0]
    results = [
        make_detection(0, landmarks=[point]),
        make_detection(1),
        make_detection(2, bbox=beyond),
        make_detection(3, bbox=beyond, landmarks=[point]),
    ]
    path = write_session(tmp_path / "s.parquet", [make_row(0, results)])
    with dgrec.open(path) as session:
        report = session.export(tmp_path / "pose", "yolo-pose", images="none")
    assert report.detections == 1
    lines = (tmp_path / "pose/labels/train/frame-000000.txt").read_text().splitlines()
    assert len(lines) == 1
    assert "left out boxes that are not in the picture: 2 detections" in report.notes
    left = "left out what has no key points, or another number of them: 1 detection"
    assert left in report.notes


def test_frames_without_a_size_are_refused(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", [make_row(0), make_row(1, width=0, height=0)])
    with dgrec.open(path) as session, pytest.raises(DgrecError) as raised:
        session.export(tmp_path / "yolo", "yolo", images="none")
    said = f"{path}: frame 1 has no recorded size, of which YOLO's numbers are parts"
    assert str(raised.value) == said
