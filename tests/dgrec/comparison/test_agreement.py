"""Detections of two sessions of one file, held against each other."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.comparison import KINDS, Agreement
from dgrec.comparison import boxes as boxes_module
from dgrec.comparison import matching as matching_module
from dgrec.comparison.agreement import compare_detections
from dgrec.format import Row
from tests.factory import (
    edited,
    make_detection,
    make_row,
    smooth_boxes,
    write_journal,
    write_session,
)

Results = list[dict[str, Any]]


def box(left: float, label: str = "person", score: float = 0.9, **keys: Any) -> dict[str, Any]:
    """Return a box of 100 x 100 pixels."""
    return make_detection(bbox=[left, 50.0, left + 100, 150.0], label=label, score=score, **keys)


def rows_of(frames: list[Results], sources: list[int] | None = None) -> list[Row]:
    numbers = sources or list(range(len(frames)))
    return [
        make_row(i, results, source_frame=number)
        for i, (results, number) in enumerate(zip(frames, numbers, strict=True))
    ]


def agree(
    folder: Path,
    base: list[Results],
    new: list[Results],
    base_sources: list[int] | None = None,
    new_sources: list[int] | None = None,
) -> Agreement:
    folder.mkdir(exist_ok=True)
    with (
        dgrec.open(write_session(folder / "base.parquet", rows_of(base, base_sources))) as a,
        dgrec.open(write_session(folder / "new.parquet", rows_of(new, new_sources))) as b,
    ):
        return compare_detections(a, b)


def kinds_of(agreement: Agreement) -> dict[str, int]:
    return {kind: count for kind, count in agreement.counts.items() if count}


@pytest.mark.parametrize(
    ("base", "new", "kinds"),
    [
        ([box(0)], [box(0)], {"same": 1}),
        ([box(0)], [box(0, "car")], {"label_flip": 1}),
        ([box(0)], [box(50)], {"box_shift": 1}),  # IoU 1/3
        ([box(0)], [box(50, "car")], {"both": 1}),
        ([box(0)], [box(90)], {"only_base": 1, "only_new": 1}),  # IoU 1/19
        ([box(0)], [], {"only_base": 1}),
        ([], [box(0)], {"only_new": 1}),
        ([box(0)], [box(0), box(5)], {"same": 1, "duplicate_new": 1}),
        ([box(0), box(5)], [box(5)], {"same": 1, "duplicate_base": 1}),
        ([], [], {}),
        # The one whose label flipped is still the nearest.
        ([box(0), box(200)], [box(200, "car"), box(1)], {"same": 1, "label_flip": 1}),
        # Two labels in one place, in another order.
        ([box(0), box(0, "car")], [box(0, "car"), box(0)], {"same": 2}),
        # Not each its nearest, but the most in all: 0-20 and 30-50, not 30-20 and 0-50.
        ([box(30), box(0)], [box(20), box(50)], {"same": 2}),
    ],
)
def test_kinds(tmp_path: Path, base: Results, new: Results, kinds: dict[str, int]) -> None:
    found = agree(tmp_path, [base], [new])
    assert kinds_of(found) == kinds
    assert (found.base, found.new) == (len(base), len(new))
    assert found.f1 == pytest.approx(
        2 * kinds.get("same", 0) / (len(base) + len(new)) if base or new else 1.0
    )
    assert (found.changed == []) == (set(kinds) <= {"same"})


def test_a_pair_is_the_best_of_all_assignments() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        corners = [np.sort(rng.uniform(0, 100, (n, 2, 2)), axis=1) for n in rng.integers(1, 6, 2)]
        boxes = [c.reshape(-1, 4) for c in corners]
        overlap = boxes_module.overlaps(*boxes)
        for i, j in np.ndindex(*overlap.shape):
            assert overlap[i, j] == pytest.approx(slow_iou(boxes[0][i], boxes[1][j]))
        frames = [
            boxes_module.FrameBoxes(0, 0, ["a"] * len(b), np.full(len(b), 0.5), b, len(b), 0, 0)
            for b in boxes
        ]
        order = [list(range(len(b))) for b in boxes]
        pairs = matching_module._assign(overlap, frames[0], order[0], frames[1], order[1])
        found = sum(overlap[i, j] for i, j in pairs)
        useful = np.where(overlap >= boxes_module.NEAR_IOU, overlap, 0)
        if useful.shape[0] > useful.shape[1]:
            useful = useful.T
        columns = range(useful.shape[1])
        best = max(
            sum(useful[i, j] for i, j in enumerate(choice))
            for choice in itertools.permutations(columns, len(useful))
        )
        assert found == pytest.approx(best)


def slow_iou(a: Any, b: Any) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return float(width * height / (sum(areas) - width * height))


def test_counts_by_label_and_flips(tmp_path: Path) -> None:
    base = [[box(0), box(300, "car")], [box(0)], [box(0, "car")]]
    new = [[box(0), box(300, "dog")], [box(50)], [box(0, "dog"), box(300, "dog")]]
    found = agree(tmp_path, base, new)
    labels = {label.label: label for label in found.labels}
    assert [label.label for label in found.labels] == ["person", "dog", "car"]
    assert (labels["person"].base, labels["person"].new) == (2, 2)
    assert (labels["person"].precision, labels["person"].recall) == (0.5, 0.5)
    assert (labels["car"].base, labels["car"].new, labels["car"].recall) == (2, 0, 0.0)
    assert labels["car"].precision is None
    assert labels["car"].counts["label_flip"] == 2
    assert (labels["dog"].base, labels["dog"].new) == (0, 3)
    assert labels["dog"].counts["only_new"] == 1
    assert found.flips == [("car", "dog", 2)]
    assert (found.precision, found.recall) == (1 / 5, 1 / 4)
    assert found.f1 == pytest.approx(2 / 9)


def test_iou_and_scores(tmp_path: Path) -> None:
    base = [[box(0, score=0.5), box(300, score=0.8)], [box(0, score=0.5)]]
    new = [[box(50, score=0.7), box(300, score=0.7)], [box(0, "car", score=0.1)]]
    found = agree(tmp_path, base, new)
    assert found.mean_iou == pytest.approx((1 / 3 + 1 + 1) / 3)
    # Scores of two labels do not say the same thing.
    assert found.score_shift == pytest.approx((0.2 - 0.1) / 2)
    assert found.score_distance == pytest.approx((0.2 + 0.1) / 2)


def test_frames_are_paired_by_their_number_in_the_source(tmp_path: Path) -> None:
    base = [[box(i * 10)] for i in range(6)]
    new = [base[i] for i in (1, 2, 4, 5)] + [[box(0)]]
    found = agree(tmp_path, base, new, new_sources=[1, 2, 4, 5, 9])
    assert (found.frames, found.only_base_frames, found.only_new_frames) == (4, 2, 1)
    assert kinds_of(found) == {"same": 4}


def test_a_frame_that_the_source_gave_twice(tmp_path: Path) -> None:
    frames = [[box(0)], [box(50)], [box(100)]]
    found = agree(tmp_path, frames, frames, base_sources=[0, 1, 1], new_sources=[0, 1, 1])
    assert (found.frames, kinds_of(found)) == (3, {"same": 3})


def test_a_frame_that_only_one_side_gave_twice(tmp_path: Path) -> None:
    frames = [[box(0)], [box(50)], [box(100)], [box(150)]]
    once = [frames[0], frames[1], frames[3]]
    found = agree(tmp_path, frames, once, base_sources=[0, 1, 1, 2], new_sources=[0, 1, 2])
    assert (found.frames, found.only_base_frames, kinds_of(found)) == (3, 1, {"same": 3})


def test_the_frames_that_changed_most(tmp_path: Path) -> None:
    base = [[box(200.0 * j) for j in range(3)] for _ in range(40)]
    new = [list(frame) for frame in base]
    new[7] = []
    new[20] = new[20][:1]
    new[21] = [box(0, "car"), *new[21][1:]]
    for i in range(25, 40):
        new[i] = new[i][:2]
    found = agree(tmp_path, base, new)
    # One change each: the flipped label leaves less agreement (2 of 3) than a lost box (2 of 2.5).
    assert [frame.source_frame for frame in found.changed] == [7, 20, 21, *range(25, 32)]
    first = found.changed[0]
    assert (first.changes, first.f1, dict(first.kinds)) == (3, 0.0, {"only_base": 3})
    assert found.same_frames == 40 - 3 - 15


def test_classification_compares_the_best_label(tmp_path: Path) -> None:
    def classes(*labels: str) -> Results:
        return [
            {"category_id": i, "label": label, "score": 0.9 - 0.1 * i}
            for i, label in enumerate(labels)
        ]

    base = [classes("cat", "dog"), classes("cat", "dog"), classes("dog")]
    new = [classes("cat", "cow"), classes("dog", "cat"), []]
    found = agree(tmp_path, base, new)
    assert kinds_of(found) == {"same": 1, "label_flip": 1, "only_base": 1}
    assert found.classified == 3
    assert found.mean_iou is None
    assert found.flips == [("cat", "dog", 1)]


def test_what_is_not_compared_is_counted(tmp_path: Path) -> None:
    rotated = [make_detection(angle=0.5)]
    landmarks = [{"landmarks": [{"landmark": [1.0, 2.0]}]}]
    found = agree(tmp_path, [rotated, landmarks, []], [rotated, landmarks, []])
    assert (found.rotated, found.not_compared, kinds_of(found)) == (2, 2, {"same": 1})


def test_a_frame_with_too_many_boxes_is_not_compared(tmp_path: Path) -> None:
    """Each pair takes memory: a frame with 20,000 boxes on either side took 9 GB."""
    crowd = [make_detection(number) for number in range(2001)]
    found = agree(tmp_path, [crowd, crowd[:1]], [crowd, crowd[:1]])
    assert (found.frames, found.same_frames, found.not_compared) == (2, 1, 4002)
    assert kinds_of(found) == {"same": 1}


def test_boxes_without_area_and_with_odd_numbers(tmp_path: Path) -> None:
    flat = make_detection(bbox=[5.0, 5.0, 5.0, 5.0])
    endless = make_detection(bbox=[0.0, 0.0, float("inf"), 10.0])
    with np.errstate(all="raise"):
        found = agree(tmp_path, [[flat], [endless]], [[flat], [endless]])
    assert kinds_of(found) == {"same": 2}


def test_masks_are_not_read(tmp_path: Path) -> None:
    mask = {"x_min": 0, "y_min": 0, "data": np.ones((20, 20), np.float32)}
    frames = [[box(0, mask=mask)] for _ in range(3)]
    with dgrec.open(write_session(tmp_path / "s.parquet", rows_of(frames))) as session:
        (batch,) = boxes_module._batches(session, 0, None)
    masks = [detection["mask"] for (detection,) in batch.column("detections").to_pylist()]
    assert [(mask["width"], mask.get("data")) for mask in masks] == [(20, None)] * 3


@pytest.mark.parametrize("end", [True, False])
def test_what_is_not_compared_is_no_agreement(tmp_path: Path, end: bool) -> None:
    """Segmentation arrays and key points without boxes: nobody knows; beside boxes: it is said."""
    point = {"category_id": 0, "connect": [], "landmark": [1.0, 2.0], "score": 0.5}
    alone: list[Results] = [
        [{"data": np.zeros((4, 4), np.uint8)}],
        [{"landmarks": [point], "score": 0.9}],
        [],
    ]
    found = agree(tmp_path, alone, alone)
    assert (found.frames, found.same_frames, found.not_compared) == (3, 1, 4)
    assert found.f1 is None
    beside = [[box(0, landmarks=[point])], [box(0)]]
    path = write_journal(tmp_path / "b.arrows", rows_of(beside), end=end)
    with dgrec.open(path) as one, dgrec.open(path) as other:
        found = compare_detections(one, other)
    assert (found.f1, found.same_frames, found.shaped) == (1.0, 2, 2)
    # Results that can be compared count, whatever is beside them.
    mixed = [[*beside[0], *alone[0]]]
    assert agree(tmp_path / "m", mixed, mixed).f1 == 1.0


@pytest.mark.parametrize("end", [True, False])
def test_a_journal(tmp_path: Path, end: bool) -> None:
    frames = smooth_boxes(30, 4)
    with (
        dgrec.open(write_session(tmp_path / "a.parquet", rows_of(frames))) as a,
        dgrec.open(write_journal(tmp_path / "b.arrows", rows_of(frames), end=end)) as b,
    ):
        found = compare_detections(a, b)
    assert kinds_of(found) == {"same": 120}
    assert found.f1 == 1.0


def test_every_kind_is_counted_on_both_sides(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    labels = ["person", "car"]

    def frame() -> Results:
        return [
            box(float(rng.uniform(0, 300)), labels[int(rng.integers(2))])
            for _ in range(int(rng.integers(0, 5)))
        ]

    base, new = ([frame() for _ in range(200)] for _ in range(2))
    found = agree(tmp_path, base, new)
    matched = sum(found.counts[kind] for kind in KINDS[:4])
    assert found.base == sum(map(len, base))
    assert found.base == matched + found.counts["duplicate_base"] + found.counts["only_base"]
    assert found.new == sum(map(len, new))
    assert found.new == matched + found.counts["duplicate_new"] + found.counts["only_new"]
    assert min(found.counts.values()) > 0
    for kind in KINDS:
        assert sum(label.counts[kind] for label in found.labels) == found.counts[kind]
    assert sum(label.base for label in found.labels) == found.base
    assert sum(label.new for label in found.labels) == found.new


@pytest.mark.parametrize("noise", [0.0, 1.0, 4.0])
def test_objects_that_carry_two_labels_keep_them(tmp_path: Path, noise: float) -> None:
    """Boxes of a car and a truck in nearly one place: of the same label, each has its own."""
    rng = np.random.default_rng(3)

    def frame() -> Results:
        found = []
        for left, label in itertools.product((50.0, 400.0), ("car", "truck")):
            corners = np.array([left, 50.0, left + 100, 150.0]) + rng.normal(0, noise, 4)
            found.append(make_detection(bbox=corners.tolist(), label=label, score=0.9))
        return found

    frames = [(frame(), frame()) for _ in range(40)]
    found = agree(tmp_path, [a for a, _ in frames], [b[::-1] for _, b in frames])
    assert kinds_of(found) == {"same": 160}
    assert found.f1 == 1.0


def test_pairs_of_one_label_go_first_and_the_rest_is_matched_without_them(tmp_path: Path) -> None:
    # The car of BASE overlaps NEW's truck most, but NEW's car enough; what is left are the trucks.
    base = [box(0, "car"), box(30, "truck")]
    new = [box(2, "truck"), box(25, "car")]
    found = agree(tmp_path, [base], [new])
    # 75/125 and 72/128 overlap, which is enough for both; by IoU alone both would be flips.
    assert kinds_of(found) == {"same": 2}
    assert found.mean_iou == pytest.approx((75 / 125 + 72 / 128) / 2)
    # Below 0.5 a label is no reason to go first.
    far = agree(tmp_path / "far", [[box(0, "car")]], [[box(2, "truck"), box(60, "car")]])
    assert kinds_of(far) == {"label_flip": 1, "only_new": 1}


def test_frames_without_a_number_in_the_source_are_left_out(tmp_path: Path) -> None:
    frames = [[box(0)] for _ in range(5)]
    path = edited(
        write_session(tmp_path / "a.parquet", rows_of(frames)),
        {"source_frame": [0, None, 2, None, 4]},
    )
    with (
        dgrec.open(path) as a,
        dgrec.open(write_session(tmp_path / "b.parquet", rows_of(frames))) as b,
    ):
        found = compare_detections(a, b)
    assert (found.frames, found.only_base_frames, found.only_new_frames) == (3, 0, 2)
    assert found.f1 == 1.0
