"""Redaction covers everything it should, on every frame, before anything is drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import dgrec
from dgrec.errors import VideoError
from dgrec.format import Row
from dgrec.replay.drawing import Redaction
from dgrec.replay.drawing import redaction as redaction_module
from tests.factory import START_NS, edited, make_detection, make_row, new_metadata, write_session
from tests.replay.clips import file_source, write_clip
from tests.replay.test_render import replay

WIDTH, HEIGHT = 640, 480
Box = list[float]


def noise() -> Any:
    return np.random.default_rng(5).integers(1, 255, (HEIGHT, WIDTH, 3), np.uint8)


def covered(path: Path, labels: list[str] | None = None, **options: Any) -> list[Any]:
    """Return for each frame a picture that is True where its pixels were covered."""
    with dgrec.open(path) as session:
        redaction = Redaction(session, labels, **options)
        return [(redaction.draw(result, noise()) == 0).all(2) for result in session]


def within(mask: Any, box: Box) -> Any:
    left, top, right, bottom = (int(v) for v in np.clip(box, 0, [WIDTH, HEIGHT] * 2))
    return mask[top:bottom, left:right]


def moving(frame: int) -> Box:
    return [50.0 + 9 * frame, 100.0, 110.0 + 9 * frame, 170.0]


def standing(frame: int) -> Box:
    return [400.0, 300.0, 450.0, 380.0]


def rows_of(
    count: int, seen: Callable[[int], list[Box]], label: str = "face", **detection: Any
) -> list[Row]:
    return [
        make_row(
            i,
            [
                make_detection(bbox=box, label=label, category_id=..., **detection)
                for box in seen(i)
            ],
        )
        for i in range(count)
    ]


def written(tmp_path: Path, rows: list[Row]) -> Path:
    return write_session(tmp_path / "s.parquet", rows, new_metadata())


@pytest.mark.slow
def test_every_box_is_covered_with_its_margin(tmp_path: Path) -> None:
    path = written(tmp_path, rows_of(10, lambda i: [moving(i), standing(i)]))
    for i, mask in enumerate(covered(path, ["face"], margin=0.1)):
        for box in (moving(i), standing(i)):
            grown = 0.1 * max(box[2] - box[0], box[3] - box[1])
            assert within(
                mask, [box[0] - grown, box[1] - grown, box[2] + grown, box[3] + grown]
            ).all()
        area = 75 * 85 * 1.4 + 67 * 97 * 1.4
        assert mask.sum() < area, "what lies elsewhere is left alone"


@pytest.mark.slow
def test_only_the_labels_that_are_named(tmp_path: Path) -> None:
    rows = rows_of(4, lambda i: [moving(i)])
    for row in rows:
        row.results.append(make_detection(bbox=standing(0), label="car"))
    path = written(tmp_path, rows)
    for i, mask in enumerate(covered(path, ["face"])):
        assert within(mask, moving(i)).all()
        assert not within(mask, standing(i)).any()
    for i, mask in enumerate(covered(path)):
        assert within(mask, moving(i)).all()
        assert within(mask, standing(i)).all()


@pytest.mark.slow
@pytest.mark.parametrize("track", [{}, {"track_id": 3}], ids=["no tracks", "tracks"])
@pytest.mark.parametrize("missed", [[10], [10, 11, 12], [5, 10, 15], list(range(8, 20))])
def test_what_the_model_misses_for_a_moment_stays_covered(
    tmp_path: Path, missed: list[int], track: dict[str, Any]
) -> None:
    """Also between: where it must have been, going from where it was to where it will be."""
    path = written(tmp_path, rows_of(30, lambda i: [] if i in missed else [moving(i)], **track))
    for i, mask in enumerate(covered(path, ["face"], hold_s=0.5)):
        assert within(mask, moving(i)).all(), f"frame {i} shows it"
    shown = covered(path, ["face"], hold_s=0)
    assert not within(shown[missed[0]], moving(missed[0])).any()


@pytest.mark.slow
def test_two_that_are_near_each_other_do_not_stand_in_for_each_other(tmp_path: Path) -> None:
    left, right = [100.0, 100.0, 160.0, 170.0], [125.0, 100.0, 185.0, 170.0]
    path = written(tmp_path, rows_of(20, lambda i: [right] if i in (8, 9) else [left, right]))
    for mask in covered(path, ["face"]):
        assert within(mask, left).all()
        assert within(mask, right).all()


@pytest.mark.slow
def test_before_it_is_first_seen_and_after_it_was_last_seen(tmp_path: Path) -> None:
    path = written(tmp_path, rows_of(60, lambda i: [standing(i)] if 20 <= i < 30 else []))
    masks = covered(path, ["face"], hold_s=0.2)  # 6 frames at 29.97 a second, less a little
    held = [i for i, mask in enumerate(masks) if within(mask, standing(i)).all()]
    assert held == list(range(20 - 5, 30 + 5))
    assert not any(mask.any() for i, mask in enumerate(masks) if i not in held)


@pytest.mark.slow
def test_the_gap_counts_in_time_not_in_frames(tmp_path: Path) -> None:
    rows = rows_of(5, lambda i: [standing(i)] if i == 0 else [])
    for row, at in zip(rows, [0.0, 0.4, 0.6, 5.0, 9.0], strict=True):
        row.media_time_s = at
    masks = covered(written(tmp_path, rows), ["face"], hold_s=0.5)
    assert [bool(mask.any()) for mask in masks] == [True, True, False, False, False]


def held(path: Path, frame: int, **options: Any) -> list[Any]:
    with dgrec.open(path) as session:
        return Redaction(session, ["face"], **options).regions(session[frame])


@pytest.mark.parametrize(
    "stamps",
    [
        {"media_time_s": {11: None}},
        {"media_time_s": {11: float("nan")}},
        {"media_time_s": {11: 1e308}},
        {"media_time_s": {11: 100.4}},
        {"media_time_s": {10: 100.4, 11: 100.5}},
        {"media_time_s": {11: -100.0}},
        {"media_time_s": {11: -100.0, 12: -99.9}},
        {"media_time_s": dict.fromkeys([9, 10, 12, 13])},
        {"media_time_s": {i: i / 30 - 1000 for i in range(11, 30)}},
        {"media_time_s": dict.fromkeys(range(30)), "captured_at": {11: START_NS // 1000 + 10**9}},
        {"media_time_s": dict.fromkeys(range(30)), "captured_at": dict.fromkeys(range(30))},
    ],
    ids=[
        "null",
        "NaN",
        "1e308",
        "later",
        "two later",
        "earlier",
        "two earlier",
        "null around",
        "restarted",
        "later capture",
        "none",
    ],
)
def test_an_odd_or_missing_stamp_does_not_end_the_hold(
    tmp_path: Path, stamps: dict[str, dict[int, Any]]
) -> None:
    """Neither after an object's last frame nor before the first of another one."""
    boxes = [[moving(0)]] * 10 + [[]] * 3 + [[standing(0)]] * 17
    path = written(tmp_path, rows_of(30, boxes.__getitem__))
    good = {
        "media_time_s": [i / 30 for i in range(30)],
        "captured_at": [START_NS // 1000 + i * 33_333 for i in range(30)],
    }
    for name, odd in stamps.items():
        edited(path, {name: [odd.get(i, value) for i, value in enumerate(good[name])]})
    with dgrec.open(path) as session:
        redaction = Redaction(session, ["face"])
        assert [len(redaction.regions(session[i])) for i in (10, 11, 12)] == [2, 2, 2]


@pytest.mark.parametrize(
    "odd",
    [
        lambda i: 0.1 if i == 0 else i / 30,
        lambda i: 0.0 if i == 4 else i / 30,
        lambda i: (i ^ 1) / 30,
        lambda i: None if i % 3 else i / 30,
    ],
    ids=["first", "fifth", "swapped", "missing"],
)
def test_a_file_that_was_inferred_slowly_is_held_as_it_is_shown(
    tmp_path: Path, odd: Callable[[int], float | None]
) -> None:
    path = written(tmp_path, rows_of(12, lambda i: [] if i == 2 else [standing(i)]))
    captured = [START_NS // 1000 + i * 1_000_000 for i in range(12)]
    edited(path, {"media_time_s": [odd(i) for i in range(12)], "captured_at": captured})
    with dgrec.open(path) as session:
        assert Redaction(session, ["face"]).regions(session[2])


def test_a_jump_of_a_clip_is_as_long_as_in_its_source(tmp_path: Path) -> None:
    rows = rows_of(10, lambda i: [standing(i)] if i < 5 else [])
    for row in rows[5:]:
        row.media_time_s += 10
    clip = {"ranges": [{"first_frame": 0}, {"first_frame": 5}]}
    path = write_session(tmp_path / "s.parquet", rows, new_metadata(clip=clip))
    with dgrec.open(path) as session:
        assert not Redaction(session, ["face"]).regions(session[5])


@pytest.mark.slow
def test_a_hold_is_kept_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends early would leave an object to be seen."""
    path = written(tmp_path, rows_of(650, lambda i: [] if i else [standing(i)]))
    with dgrec.open(path) as session:
        redaction = Redaction(session, ["face"], hold_s=30)
        assert redaction.regions(session[649])
        monkeypatch.setattr(redaction_module, "_FARTHEST", 600)
        with pytest.raises(VideoError) as caught:
            redaction.regions(session[649])
    assert str(caught.value) == (
        "--redact: over 600 frames lie within 30s of frame 649, too many to look for what the "
        "model missed (`dgrec replay` takes a shorter --redact-hold)"
    )


@pytest.mark.slow
def test_in_any_order(tmp_path: Path) -> None:
    path = written(tmp_path, rows_of(30, lambda i: [] if i % 4 == 0 else [moving(i)]))
    in_order = covered(path, ["face"])
    with dgrec.open(path) as session:
        redaction = Redaction(session, ["face"])
        for i in [29, 0, 16, 17, 4, 28, 3]:
            mask = (redaction.draw(session.result(i), noise()) == 0).all(2)
            assert np.array_equal(mask, in_order[i])


def test_rotated_boxes(tmp_path: Path) -> None:
    box = [200.0, 200.0, 320.0, 240.0]
    path = written(tmp_path, rows_of(1, lambda i: [box], angle=0.8))
    (mask,) = covered(path, ["face"])
    from degirum._draw_primitives import xywhr2xy_corners, xyxy2xywh

    corners = xywhr2xy_corners(np.array([*xyxy2xywh(np.array(box)).tolist(), 0.8]))
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(drawn, [corners.astype(int)], 1)
    assert mask[drawn > 0].all(), "it is turned as PySDK draws it"
    assert mask.sum() < 2.2 * drawn.sum(), "the box and its margin"


def test_masks_and_key_points_without_a_box(tmp_path: Path) -> None:
    mask = {"x_min": 30, "y_min": 40, "data": np.ones((20, 25), np.float32)}
    points = [
        {"label": "nose", "landmark": [300.0, 200.0]},
        {"label": "toe", "landmark": [320.0, 260.0]},
    ]
    rows = [
        make_row(0, [{"label": "face", "mask": mask}]),
        make_row(1, [{"label": "face", "score": 0.5, "landmarks": points}]),
        make_row(
            2,
            [
                {
                    "score": 0.9,
                    "landmarks": [
                        {"label": "w", "landmark": [50.0, 60.0, 9.0], "world_landmark": [0.0]}
                    ],
                }
            ],
        ),
    ]
    one, two, three = covered(written(tmp_path, rows), hold_s=0)
    assert within(one, [30, 40, 55, 60]).all()
    assert within(two, [300, 200, 320, 260]).all()
    assert within(three, [49, 59, 51, 61]).all()


@pytest.mark.parametrize(
    "results",
    [
        [{"data": np.zeros((4, 4), np.int64)}],
        [{"category_id": 0, "label": "face", "score": 0.9}],
        [make_detection(label="face", bbox=[float("nan")] * 4)],
        {"faces": [make_detection(label="face")]},
    ],
    ids=["class map", "classification", "box of NaN", "no list"],
)
def test_what_has_no_place_is_refused(tmp_path: Path, results: Any) -> None:
    metadata = new_metadata(source={"kind": "camera", "given": "cam0"})
    path = write_session(tmp_path / "s.parquet", [make_row(0, results)], metadata)
    outcome = replay(path, "--redact", "all", "--no-overlay")
    assert outcome.exit_code == 1
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith("Error: --redact: ")
    assert "frame 0" in last
    assert last.endswith("cannot be covered")
    assert [file.name for file in tmp_path.iterdir()] == ["s.parquet"]


def test_boxes_at_and_beyond_the_edges(tmp_path: Path) -> None:
    boxes = [
        [-40.0, -30, 50, 60],
        [600.0, 440, 900, 900],
        [2000.0, 10, 2100, 50],
        [90.0, 80, 20, 30],
    ]
    path = written(tmp_path, rows_of(1, lambda i: boxes))
    (mask,) = covered(path)
    assert within(mask, [0, 0, 50, 60]).all()
    assert within(mask, [600, 440, 640, 480]).all()
    assert within(mask, [20, 30, 90, 80]).all(), "corners may come in any order"


def test_a_mosaic_leaves_a_few_blocks(tmp_path: Path) -> None:
    path = written(tmp_path, rows_of(1, lambda i: [standing(i)]))
    with dgrec.open(path) as session:
        redaction = Redaction(session, None, style="mosaic")
        picture = redaction.draw(session.result(0), noise())
    box = picture[300:380, 400:450].reshape(-1, 3)
    assert len(np.unique(box, axis=0)) <= 25
    assert box.std() < 20, "noise is gone"
    assert np.array_equal(picture[:250], noise()[:250])


@pytest.mark.slow
def test_a_label_that_was_never_recorded_is_refused(tmp_path: Path) -> None:
    """A mistyped label would leave everything to be seen, and look as if it had been dealt with."""
    path = written(tmp_path, rows_of(2, lambda i: [moving(i)]))
    outcome = replay(path, "--redact", "faces", "-o", tmp_path / "a.mp4")
    assert outcome.exit_code == 1
    assert outcome.stderr.splitlines()[-1] == (
        "Error: --redact faces: no such label was recorded (there are: face)"
    )
    assert not (tmp_path / "a.mp4").exists()
    # A label of the model that was never seen is none of these.
    assert replay(path, "--redact", "dog", "-o", tmp_path / "a.mp4").exit_code == 0


@pytest.mark.parametrize("option", ["margin", "hold_s"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1])
def test_numbers_that_would_cover_nothing(tmp_path: Path, option: str, value: float) -> None:
    path = written(tmp_path, rows_of(1, lambda i: [standing(i)]))
    with dgrec.open(path) as session, pytest.raises(ValueError, match="must be numbers from 0 on"):
        Redaction(session, None, **{option: value})  # type: ignore[arg-type]


@pytest.mark.slow
def test_on_the_command_line(tmp_path: Path) -> None:
    """Covered in what is written, though --detections-where draws others, in every frame."""
    clip = write_clip(tmp_path / "clip.mp4", 12, size=(WIDTH, HEIGHT))
    rows = rows_of(12, lambda i: [] if i == 6 else [moving(i)])
    for row in rows:
        row.results.append(make_detection(bbox=standing(0), label="car"))
    metadata = new_metadata(source=file_source(clip), overlay={"color": [255, 255, 255]})
    path = write_session(tmp_path / "s.parquet", rows, metadata)
    options = ["--redact", "face", "--detections-where", "label = 'car'", "--frames", "png"]
    assert replay(path, *options, "-o", tmp_path / "out", "--hud", "--trails", 5).exit_code == 0
    for i in range(12):
        picture = cv2.imread(str(tmp_path / "out" / f"frame-{i:06}.png"))
        part = within(picture, moving(i))[80 if i < 12 else 0 :]
        assert not within(picture, [moving(i)[0], 172, moving(i)[2], 174]).any()
        assert part.size == 0 or not part.any()
        assert within(picture, standing(i)).any()
