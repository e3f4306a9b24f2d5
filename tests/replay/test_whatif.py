"""Other thresholds, against numpy, `dgrec compare`, PySDK and pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

import dgrec
from dgrec.comparison import thresholds, whatif
from dgrec.stand_in import settings
from dgrec.units import parse_steps
from tests.factory import make_detection, make_row, new_metadata, restart, write_session

LABELS = ("car", "bus", "person")

FRAMES = 40
THRESHOLD = 0.25


def detections_of(frame: int) -> list[dict[str, Any]]:
    """Return boxes that move, overlap and flicker, the same at every call."""
    random = np.random.default_rng(frame)
    found = []
    for number in range(12):
        x, y = 40.0 * number + frame, 30.0 + 4 * (number % 3)
        jitter = random.uniform(-3, 3, 4)
        box = [x + jitter[0], y + jitter[1], x + 50 + jitter[2], y + 60 + jitter[3]]
        found.append(
            {
                "label": LABELS[number % 3],
                "category_id": number % 3,
                "score": float(random.uniform(THRESHOLD, 1.0)),
                "bbox": [float(value) for value in box],
            }
        )
        if random.uniform() < 0.4:  # the same object again, a little beside
            shifted = [value + 6.0 for value in box]
            score = float(random.uniform(THRESHOLD, 1.0))
            found.append({**found[-1], "score": score, "bbox": shifted})
    return sorted(found, key=lambda item: -item["score"])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("whatif") / "recorded.parquet", detections_of)


def write(path: Path, found: Callable[[int], list[dict[str, Any]]]) -> Path:
    metadata = new_metadata(path.stem)
    metadata["model"] |= {
        "result_type": "Detection",
        "labels": {str(number): label for number, label in enumerate(LABELS)},
        "parameters": {"output_confidence_threshold": THRESHOLD, "output_nms_threshold": 0.9},
    }
    metadata["source"] |= {"file": "clip.mp4", "size": 1, "sha256": "ab" * 32}
    rows = [make_row(frame, source_frame=frame, results=found(frame)) for frame in range(FRAMES)]
    return write_session(path, rows, metadata)


def kept_of(frame: int, threshold: float = 0.0, nms: float = 1.0) -> list[dict[str, Any]]:
    """Return a frame's detections with other settings, in plain Python."""
    kept: list[dict[str, Any]] = []
    for found in detections_of(frame):
        rivals = [other for other in kept if other["label"] == found["label"]]
        if all(iou(found["bbox"], other["bbox"]) <= nms for other in rivals):
            kept.append(found)
    return [found for found in kept if found["score"] >= threshold]


def iou(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    inside = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return inside / (sum(areas) - inside)


@pytest.mark.parametrize("at_once", [3, 4, 7, 1000])
@pytest.mark.parametrize(("threshold", "nms"), [(0.25, 0.9), (0.5, 0.9), (0.25, 0.4), (0.7, 0.3)])
def test_counts_are_those_of_plain_python(
    recorded: Path,
    threshold: float,
    nms: float,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(thresholds, "most_frames", lambda boxes: at_once)
    with dgrec.open(recorded) as session:
        answer = whatif(session, [threshold], nms=[nms])
    found = [kept_of(frame, threshold, nms) for frame in range(FRAMES)]
    outcome = answer.outcomes[0]
    assert outcome.detections == sum(map(len, found)) > 0
    assert outcome.labels == Counter(item["label"] for frame in found for item in frame)
    assert outcome.frames_with_detections == sum(bool(frame) for frame in found)
    single = gaps = 0

    def has(item: dict[str, Any], frame: int) -> bool:
        others = found[frame] if 0 <= frame < FRAMES else []
        alike = [other for other in others if other["label"] == item["label"]]
        return any(iou(item["bbox"], other["bbox"]) >= 0.1 for other in alike)

    for frame, items in enumerate(found):
        for item in items:
            single += not has(item, frame - 1) and not has(item, frame + 1)
            gaps += frame + 2 < FRAMES and not has(item, frame + 1) and has(item, frame + 2)
    assert (outcome.single, outcome.gaps) == (single, gaps)
    assert outcome.flicker == (single + gaps) / outcome.detections


@pytest.mark.slow
def test_agreement_is_that_of_compare(recorded: Path, tmp_path: Path) -> None:
    stricter = write(tmp_path / "stricter.parquet", lambda frame: kept_of(frame, 0.6))
    with dgrec.open(recorded) as session:
        answer = whatif(session, [0.6])
    compared = dgrec.compare(recorded, stricter).agreement
    assert compared is not None
    assert answer.outcomes[0].agreement == compared.f1
    assert 0 < answer.outcomes[0].agreement < 1


def test_tracks_are_those_of_a_tracker_behind_the_model(recorded: Path) -> None:
    from degirum_tools import ObjectTracker

    class Result:
        def __init__(self, results: list[dict[str, Any]]) -> None:
            self.results = results

    tracker, ids = ObjectTracker(track_thresh=0.4), set()
    for frame in range(FRAMES):
        result = Result(kept_of(frame, 0.5))
        tracker.analyze(result)
        ids |= {item["track_id"] for item in result.results if "track_id" in item}
    text = "track_thresh=0.4"
    with dgrec.open(recorded) as session:
        answer = whatif(session, [0.5], trackers=[text])
    assert answer.outcomes[0].tracks == len(ids) > 5


def test_trackers_begin_anew_in_each_run(tmp_path: Path) -> None:
    rows = [
        make_row(i, [make_detection(score=0.9, bbox=[10.0, 10.0, 90.0, 90.0])]) for i in range(20)
    ]
    metadata = new_metadata(events=[restart(rows[10])])
    with dgrec.open(write_session(tmp_path / "s.parquet", rows, metadata)) as session:
        answer = whatif(session, trackers=["track_thresh=0.4"])
    assert answer.outcomes[0].tracks == 2


def truth_of(path: Path) -> Path:
    """Write COCO annotations of every second frame, with crowds, and objects that are missed."""
    images, annotations = [], []
    for frame in range(0, FRAMES, 2):
        images.append({"id": 1000 + frame, "file_name": f"images/frame_{frame:06d}.jpg"})
        for number in range(14):
            box = [40.0 * number + frame, 30.0 + 4 * (number % 3), 50.0, 60.0]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 1000 + frame,
                    "category_id": number % 3 + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(number == 4),
                }
            )
    categories = [{"id": number + 1, "name": label} for number, label in enumerate(LABELS)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.8])
def test_precision_and_recall_are_those_of_pycocotools(
    recorded: Path, tmp_path: Path, threshold: float
) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    path = truth_of(tmp_path / "truth.json")
    found = [
        {
            "image_id": 1000 + frame,
            "category_id": item["category_id"] + 1,
            "bbox": [x, y, x_max - x, y_max - y],
            "score": item["score"],
        }
        for frame in range(0, FRAMES, 2)
        for item in kept_of(frame, threshold)
        for x, y, x_max, y_max in [item["bbox"]]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
    right = wrong = objects = 0
    for image in evaluation.evalImgs:
        if image is None or image["aRng"] != evaluation.params.areaRng[0]:
            continue
        is_matched, is_ignored = image["dtMatches"][0] > 0, image["dtIgnore"][0].astype(bool)
        right += int((is_matched & ~is_ignored).sum())
        wrong += int((~is_matched & ~is_ignored).sum())
        objects += int((~np.array(image["gtIgnore"], bool)).sum())
    with dgrec.open(recorded) as session:
        outcome = whatif(session, [threshold], truth=path).outcomes[0]
    assert (outcome.true_positives, outcome.false_positives) == (right, wrong)
    assert outcome.false_negatives == objects - right
    assert right > 20 < objects - right
    assert outcome.precision == right / (right + wrong)
    assert outcome.recall == right / objects


def test_settings_take_what_pysdk_takes() -> None:
    """The order and the rules are PySDK's: score, overlap within a class, of each class, of all."""
    found = detections_of(3)
    values = {
        "output_confidence_threshold": 0.4,
        "output_nms_threshold": 0.5,
        "output_max_detections_per_class": 3,
        "output_max_detections": 7,
    }
    expected: list[dict[str, Any]] = []
    for item in kept_of(3, 0.4, 0.5):
        if sum(other["label"] == item["label"] for other in expected) < 3:
            expected.append(item)
    kept = settings.kept(found, values, {})
    assert [found[index] for index in kept] == expected[:7]
    assert len(expected) > 7 < len(found)


def test_classes_are_the_best_k_or_those_above_the_threshold() -> None:
    found = [
        {"label": name, "score": score}
        for name, score in zip("abcd", (0.5, 0.3, 0.1, 0.1), strict=True)
    ]
    assert [*settings.kept(found, {"output_top_k": 2}, {"output_top_k": 4})] == [0, 1]
    assert [*settings.kept(found, {"output_confidence_threshold": 0.3}, {})] == [0, 1]
    # PySDK reports the best k whatever the threshold is.
    both = {"output_top_k": 4, "output_confidence_threshold": 0.3}
    assert [*settings.kept(found, both, {"output_top_k": 4})] == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.longdouble, np.int64])
def test_settings_take_the_numbers_of_numpy(kind: Any) -> None:
    found = [{"score": kind(score), "bbox": [0, 0, 1, 1]} for score in (1, 0)]
    assert [*settings.kept(found, {"output_confidence_threshold": 0.3}, {})] == [0]


@pytest.fixture(name="run")
def run_whatif(dgrec: Callable[..., Result]) -> Callable[..., Result]:
    return lambda *arguments: dgrec("whatif", *arguments)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "say what to try"),
        (("--threshold", "0.1"), 1, "0.1 is lower than 0.25, at which the session was recorded"),
        (("--nms", "0.95"), 1, "0.95 is higher than 0.9"),
        (("--threshold", "0.9:0.3:0.1"), 2, "'0.9:0.3:0.1' is not a valid range"),
        (("--threshold", "0:1:0.0001"), 2, "is not a valid range"),
        (("--threshold", "0.3:0.9:0.01", "--nms", "0:0.9:0.05"), 1, "settings; at most 1,000"),
        (("--tracker", "nonsense=1"), 2, "no setting 'nonsense'"),
        (("--tracker", "reset_at_scene_cut=yes"), 1, "needs the pictures, which are not read here"),
        (("--truth", "missing.json"), 1, "missing.json: cannot be read: No such file"),
        (("--threshold", "0.5", "--plot", "plot.svg"), 2, "a plot is a PNG"),
        (("--threshold", "0.5", "--plot", "plot.png"), 2, "--plot takes two thresholds"),
    ],
)
def test_bad_input_gets_one_line(
    run: Callable[..., Result],
    recorded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(recorded, *arguments)
    assert result.exit_code == code
    assert message in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "truth.json: its beginning: is of no format that dgrec imports"),
        ('{"images": ' + "[" * 100_000, "truth.json: line 1, column 13: is nested too deeply"),
        ("[]", "its beginning: is of no format that dgrec imports"),
        ('{"images": [], "annotations": [], "categories": []}', "images: there are none"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []}',
         "images[0]: has no 'frame', and no number in its file name"),
        ('{"images": [{"id": 1, "frame": 0}], "annotations": [{"image_id": 2, "category_id": 1, '
         '"bbox": [0, 0, 1, 1]}], "categories": [{"id": 1, "name": "car"}]}',
         "annotations[0]: there is no image 2"),
        ('{"images": [{"id": 1, "frame": 0}], "annotations": [{"image_id": 1, "category_id": 1,'
         ' "bbox": [0, 0, 1e999, 1]}], "categories": [{"id": 1, "name": "car"}]}',
         "annotations[0]: 'bbox' is not [x, y, width, height]"),
        ('{"images": [{"id": 1, "frame": 0}, {"id": 1, "frame": 1}], "annotations": [],'
         ' "categories": [{"id": 1, "name": "car"}]}',
         "images[1]: has the id 1, as an image before it"),
        ('{"images": [{"id": 1, "frame": 0}], "annotations": [], "categories":'
         ' [{"id": 1, "name": "car"}, {"id": 1, "name": "bus"}]}',
         "categories[1]: has the id 1, as one before it"),
        ('{"images": [{"id": 1, "frame": 0}], "annotations": [], "categories": []}',
         "truth.json: has no boxes with labels"),
        ('{"images": [{"id": 1, "frame": 3, "width": 320, "height": 240}], "annotations": [],'
         ' "categories": [{"id": 1, "name": "car"}]}',
         "the picture of frame 3 is 320x240, and the recorded one 640x480: boxes must be"),
        ('{"images": [{"id": 1, "frame": 0}], "annotations": [], "categories": [{"id": 1, "name":'
         ' "zebra"}]}', "has none of the model's labels: zebra"),
        ('{"images": [{"id": 1, "frame": 999}], "annotations": [], "categories": [{"id": 1, '
         '"name": "car"}]}', "none of its frames was recorded (its first is 999)"),
    ],
)  # fmt: skip
def test_bad_ground_truth_gets_one_line(
    run: Callable[..., Result], recorded: Path, tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "truth.json"
    path.write_text(content)
    result = run(recorded, "--threshold", "0.5", "--truth", path)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), pytest.param(10**400, id="huge"), "0.5", None]
)
def test_settings_of_a_program_that_are_no_numbers_are_refused(recorded: Path, value: Any) -> None:
    """NaN is below no score: it counted no detections at all."""
    with pytest.raises(dgrec.ConfigError, match=r"output_confidence_threshold: .* finite number"):
        whatif(recorded, [value])
    with pytest.raises(dgrec.ConfigError, match=r"output_nms_threshold: .* finite number"):
        whatif(recorded, nms=[value])
    numbers = whatif(recorded, list(np.float32([0.5, 0.75])))
    assert [each.detections for each in numbers.outcomes] == [
        each.detections for each in whatif(recorded, [0.5, 0.75]).outcomes
    ]


def test_labels_that_the_model_lacks_are_said(
    run: Callable[..., Result], recorded: Path, tmp_path: Path
) -> None:
    path = truth_of(tmp_path / "truth.json")
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "Car"
    content["images"][0] |= {"width": 640, "height": 480}
    path.write_text(json.dumps(content))
    result = run(recorded, "--threshold", "0.5", "--truth", path)
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    assert "truth.json: 100 objects of labels that the model does not have (Car) cannot" in said


def test_the_best_classes_are_reported_at_any_threshold(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    metadata = new_metadata("classes")
    metadata["model"] |= {"result_type": "Classification", "parameters": {"output_top_k": 2}}
    found = [{"label": "car", "score": 0.7}, {"label": "bus", "score": 0.2}]
    rows = [make_row(frame, results=found) for frame in range(3)]
    session = write_session(tmp_path / "classes.parquet", rows, metadata)
    result = run(session, "--threshold", "0.5")
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    assert "with output_top_k=2, with which PySDK reports as many classes at any" in said
    assert "output_top_k" not in run(session, "--nms", "0.5").output


def test_boxes_without_a_score_or_with_an_angle_are_refused(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    def no_score(frame: int) -> list[dict[str, Any]]:
        return [{"label": "car", "bbox": [0.0, 0.0, 9.0, 9.0]}]

    def turned(frame: int) -> list[dict[str, Any]]:
        return [{**no_score(frame)[0], "score": 0.9, "angle": 0.5}]

    result = run(write(tmp_path / "a.parquet", no_score), "--threshold", "0.5")
    assert result.exit_code == 1
    assert "frame 0 has detections without a score" in result.output
    result = run(write(tmp_path / "b.parquet", turned), "--nms", "0.5")
    assert result.exit_code == 1
    assert "frame 0 has boxes with an angle" in result.output


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("box", [[float("-inf"), 20.0, 30.0, 40.0], [30.0, 40.0, 30.0, 40.0]])
def test_a_box_that_no_tracker_can_follow_gets_one_line(
    run: Callable[..., Result], tmp_path: Path, box: list[float]
) -> None:
    item = {"label": "car", "category_id": 0, "score": 0.9, "bbox": box}
    path = write(tmp_path / "odd.parquet", lambda frame: [item])
    result = run(path, "--tracker", "track_thresh=0.3")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ObjectTracker failed at frame ")
    assert f" of {path}: ValueError: " in result.stderr
    assert "Traceback" not in result.output
    assert run(path, "--tracker", "reset_at_scene_cut=no", "--threshold", "0.95").exit_code == 0


@pytest.mark.slow
def test_crowded_frames_are_counted_without_flicker(tmp_path: Path) -> None:
    def crowd(frame: int) -> list[dict[str, Any]]:
        box = [0.0, 0.0, 9.0, 9.0]
        return [{"label": "car", "score": i / 600, "bbox": box} for i in range(600)]

    with dgrec.open(write(tmp_path / "s.parquet", crowd)) as session:
        answer = whatif(session, [0.5])
    assert answer.outcomes[0].detections == 300 * FRAMES
    assert answer.outcomes[0].single == 0
    assert "more than 500 detections" in answer.notes[0]


@pytest.mark.slow
def test_every_form(run: Callable[..., Result], recorded: Path, tmp_path: Path) -> None:
    path = truth_of(tmp_path / "truth.json")
    options = ("--threshold", "0.3:0.9:0.3", "--nms", "0.9,0.5", "--tracker", "", "--truth", path)
    plain = run(recorded, *options, "--plot", tmp_path / "plot.png")
    assert plain.exit_code == 0
    assert plain.output.count("% best") == 1
    assert "Recorded with a threshold of 0.25" in plain.output
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    value = json.loads(run(recorded, *options, "--format", "json").output)
    assert [item["output_confidence_threshold"] for item in value["settings"]] == [
        threshold for threshold in (0.3, 0.6, 0.9) for _ in range(2)
    ]
    assert value["best"]["output_nms_threshold"] in (0.9, 0.5)
    assert "## With other thresholds" in run(recorded, *options, "--format", "markdown").output


def test_ranges_hold_their_ends() -> None:
    assert parse_steps("0.3:0.9:0.05")[-1] == 0.9
    assert len(parse_steps("0.3:0.9:0.05")) == 13
    assert parse_steps("0.5,0.25,0.5") == (0.5, 0.25)
