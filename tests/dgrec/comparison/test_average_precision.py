"""Precision, recall, AP50 and AP50:95 are those of pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import dgrec
from dgrec.cli import gather
from dgrec.comparison.truth import TruthError
from tests.factory import make_detection, make_rows, write_session

LABELS = ("person", "car", "bicycle", "dog")
FRAMES = 40


def _scene(seed: int) -> tuple[dict[str, Any], list[list[dict[str, Any]]]]:
    """Return COCO annotations, and the detections of each frame: near them, twice, or elsewhere."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    found: list[list[dict[str, Any]]] = []
    for frame in range(FRAMES):
        results = []
        for _ in range(int(rng.integers(0, 9))):
            corner, size = rng.uniform(0, (500, 400)), rng.uniform(8, (120, 80))
            x, y, width, height = map(float, (*corner, *size))
            category = int(rng.integers(0, 3))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": frame,
                    "category_id": category + 1,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
            for _ in range(
                int(rng.choice([0, 1, 1, 1, 2, 120], p=[0.1, 0.3, 0.3, 0.1, 0.19, 0.01]))
            ):
                shift = rng.normal(0, rng.choice([0.01, 0.1, 0.3]), 3) * (width, height, width)
                box = [x + shift[0], y + shift[1]]
                box += [box[0] + max(2.0, width + shift[2]), box[1] + height]
                wrong = rng.random() < 0.1
                results.append(_found(box, (category + wrong) % 3, rng))
        for _ in range(int(rng.integers(0, 3))):
            x, y = rng.uniform(0, 400, 2)
            results.append(_found([x, y, x + 50, y + 40], int(rng.integers(0, 3)), rng))
        found.append(results)
    images = [{"id": n, "file_name": f"{n:06}.jpg"} for n in range(FRAMES)]
    # A category of which there is no object.
    categories = [{"id": n + 1, "name": name} for n, name in enumerate(LABELS)]
    return {"images": images, "annotations": annotations, "categories": categories}, found


def _found(box: list[Any], category: int, rng: np.random.Generator) -> dict[str, Any]:
    return make_detection(
        category,
        bbox=[float(n) for n in box],
        category_id=category,
        label=LABELS[category],
        score=float(rng.integers(1, 40)) / 40,  # many alike
    )


def _by_pycocotools(path: Path, found: list[list[dict[str, Any]]]) -> list[tuple[float, float]]:
    """Return AP50 and AP50:95, of all labels and of each."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = [
        {
            "image_id": frame,
            "category_id": item["category_id"] + 1,
            "bbox": [x, y, x_max - x, y_max - y],
            "score": item["score"],
        }
        for frame, items in enumerate(found)
        for item in items
        for x, y, x_max, y_max in [item["bbox"]]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    each = [(precision[0, :, label].mean(), precision[:, :, label].mean()) for label in range(3)]
    assert (precision[:, :, 3] == -1).all()
    return [(evaluation.stats[1], evaluation.stats[0]), *each]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(gather(), [str(argument) for argument in arguments])


@pytest.mark.slow
def test_numbers_are_those_of_pycocotools(tmp_path: Path) -> None:
    crowds = 0
    for seed in range(4):
        truth, found = _scene(seed)
        crowds += sum(each["iscrowd"] for each in truth["annotations"])
        path = tmp_path / "truth.json"
        path.write_text(json.dumps(truth))
        rows = [
            row._replace(results=results)
            for row, results in zip(make_rows(FRAMES), found, strict=True)
        ]
        session = write_session(tmp_path / f"{seed}.parquet", rows)
        answer = dgrec.accuracy(session, path)
        wanted = _by_pycocotools(path, found)
        got = [(answer.ap50, answer.ap), *((each.ap50, each.ap) for each in answer.labels[:3])]
        np.testing.assert_allclose(np.array(got, float), wanted, rtol=0, atol=1e-12)
        assert 0.1 < wanted[0][1] < wanted[0][0] < 0.95
        assert (answer.labels[3].label, answer.labels[3].ap50) == ("dog", None)
        assert answer.frames == FRAMES
    assert crowds > 20


@pytest.mark.slow
def test_truth_may_be_a_session_or_any_format(tmp_path: Path) -> None:
    """The same boxes as COCO, imported, and with crowds, give the same numbers."""
    truth, found = _scene(1)
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    rows = [r._replace(results=f) for r, f in zip(make_rows(FRAMES), found, strict=True)]
    session = write_session(tmp_path / "found.parquet", rows)
    imported = tmp_path / "truth.parquet"
    dgrec.import_(path, imported)
    by_file, by_session = (dgrec.accuracy(session, each) for each in (path, imported))
    assert by_file == by_session
    assert by_file.wrong > 0 < by_file.right
    lines = tmp_path / "truth.csv"
    lines.write_text(
        "frame,label,x_min,y_min,x_max,y_max\n"
        + "".join(
            f"{item['image_id']},{LABELS[item['category_id'] - 1]},{x},{y},{x + w},{y + h}\n"
            for item in truth["annotations"]
            if not item["iscrowd"]
            for x, y, w, h in [item["bbox"]]
        )
    )
    table = dgrec.accuracy(session, lines)
    assert table.objects == by_file.objects


@pytest.mark.slow
def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    rows = make_rows(8)  # of four labels in turn
    session = write_session(tmp_path / "found.parquet", rows)
    path = tmp_path / "truth.csv"
    head = "frame,label,x_min,y_min,x_max,y_max\n"
    path.write_text(head + "0,person,10.5,20.25,110.5,70.25\n99,person,1,2,3,4\n")
    answer = dgrec.accuracy(session, path)
    assert (answer.right, answer.wrong, answer.objects, answer.ap50) == (1, 0, 1, 1.0)
    assert [note.split(": ", 1)[-1] for note in answer.notes] == [
        "1 of 2 annotated frames were not recorded, and are left out."
    ]
    path.write_text(head + "1,person,1,2,3,4\n1,car,1,2,3,4\n2,person,1,2,3,4\n")
    answer = dgrec.accuracy(session, path)
    assert answer.notes == (
        "1 detection of labels that the ground truth does not have (bicycle) left out.",
    )
    for content, message in (
        ("99,person,1,2,3,4", "none of its frames was recorded (its first is 99)"),
        ("0,zebra,1,2,3,4", "has none of the labels that were found: zebra"),
        ("0,zebra,1,2,3", "truth.csv: line 2: has 5 values for 6 columns"),
    ):
        path.write_text(f"{head}{content}\n")
        with pytest.raises(TruthError, match=message.replace("(", r"\(").replace(")", r"\)")):
            dgrec.accuracy(session, path)


@pytest.mark.slow
def test_the_command_shows_it(tmp_path: Path) -> None:
    truth, found = _scene(2)
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    rows = [r._replace(results=f) for r, f in zip(make_rows(FRAMES), found, strict=True)]
    session = write_session(tmp_path / "found.parquet", rows)
    answer = dgrec.accuracy(session, path)
    said = run("compare", "--truth", path, session)
    assert said.exit_code == 0, said.output
    assert re.search(rf"{answer.ap50:.4f} +{answer.ap:.4f}\n", said.output)
    value = json.loads(run("compare", "--truth", path, session, "--format", "json").output)
    assert value["sessions"][0]["ap"] == answer.ap
    assert value["sessions"][0]["labels"][1]["recall"] == answer.labels[1].recall
    assert run("compare", "--truth", path).exit_code == 2
    assert run("compare", "--truth", path, session, "--fail-on", "frames > 1").exit_code == 2


def test_a_box_of_which_half_is_in_a_crowd(tmp_path: Path) -> None:
    """The share is exactly 0.5, which an IoU and back is not: pycocotools takes it for inside."""
    sizes = ((20, 27, 90, 97), (20, 34, 90, 83), (20, 41, 110, 83))  # of the box, of the crowd
    annotations, found = [], []
    for frame, (width, height, *crowd) in enumerate(sizes):
        for box, is_crowd in (([400, 10, 50, 40], 0), ([0, 0, *crowd], 1)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": frame,
                    "category_id": 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": is_crowd,
                }
            )
        left = float(crowd[0] - width // 2)
        found.append(
            [
                make_detection(0, bbox=[400.0, 10.0, 450.0, 50.0], score=0.5),
                make_detection(0, bbox=[left, 3.0, left + width, 3.0 + height], score=0.75),
            ]
        )
    images = [{"id": n, "file_name": f"{n:06}.jpg"} for n in range(len(sizes))]
    # A category of which there is no object, and as many as the function below looks at.
    categories = [{"id": n + 1, "name": name} for n, name in enumerate(LABELS)]
    path = tmp_path / "truth.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    rows = [r._replace(results=f) for r, f in zip(make_rows(len(sizes)), found, strict=True)]
    session = write_session(tmp_path / "found.parquet", rows)
    answer = dgrec.accuracy(session, path)
    assert (answer.right, answer.wrong) == (3, 0)
    assert (answer.ap50, answer.ap) == pytest.approx(_by_pycocotools(path, found)[0], abs=1e-12)
    outcome = dgrec.whatif(session, truth=path).outcomes[0]
    assert (outcome.true_positives, outcome.false_positives) == (3, 0)


def test_what_was_imported_is_the_same_truth(tmp_path: Path) -> None:
    """Boxes that MOTChallenge does not evaluate are no objects in a session of it, either."""
    path = tmp_path / "gt.txt"
    path.write_text("1,1,10,20,100,50,1,1,1\n1,2,300,20,100,50,0,1,1\n")
    (tmp_path / "labels.txt").write_text("person\n")
    dgrec.import_(path, tmp_path / "truth.parquet")
    row = make_rows(1)[0]._replace(results=[make_detection(0, bbox=[10.0, 20.0, 110.0, 70.0])])
    session = write_session(tmp_path / "found.parquet", [row])
    by_file, by_session = (
        dgrec.accuracy(session, truth=tmp_path / name) for name in ("gt.txt", "truth.parquet")
    )
    assert by_file.objects == by_file.right == 1
    assert by_session == by_file


def test_the_first_of_several_results_of_a_frame_counts(tmp_path: Path) -> None:
    """A session compared with itself is right, and `whatif` gives the numbers of `compare`."""
    rows = [make_rows(2)[n]._replace(results=[make_detection(n)], source_frame=7) for n in range(2)]
    session = write_session(tmp_path / "two.parquet", rows)
    answer = dgrec.accuracy(session, truth=session)
    assert (answer.right, answer.wrong, answer.objects) == (1, 0, 1)
    outcome = dgrec.whatif(session, truth=session).outcomes[0]
    assert (outcome.true_positives, outcome.false_positives, outcome.false_negatives) == (1, 0, 0)


def test_whatif_leaves_out_the_labels_that_compare_leaves_out(tmp_path: Path) -> None:
    session = write_session(tmp_path / "found.parquet", make_rows(8))  # of four labels in turn
    path = tmp_path / "truth.csv"
    lines = "".join(
        f"{n},person,{10.5 + n},{20.25 + n},{110.5 + n},{70.25 + n}\n" for n in range(8)
    )
    path.write_text(f"frame,label,x_min,y_min,x_max,y_max\n{lines}")
    answer = dgrec.accuracy(session, path)
    assert (answer.right, answer.wrong, answer.precision) == (2, 0, 1.0)
    found = dgrec.whatif(session, truth=path)
    outcome = found.outcomes[0]
    assert (outcome.true_positives, outcome.false_positives, outcome.false_negatives) == (2, 0, 6)
    assert answer.notes[0] in found.notes
    assert answer.notes[0].startswith("6 detections of labels that the ground truth does not have")
