"""The promise: a session gives back what `predict_stream` yielded, and draws the same overlay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.clock import Clock
from dgrec.recorder.capture import Capture, Decimator
from dgrec.recorder.model import LoadedModel
from tests.dgrec.compare import assert_same
from tests.recorder.doubles import PysdkDouble, ScriptedFrames, Seen, clip, record, run_length

#: The clip has two and three faces from here on, then one, then none.
CROWDED = 180


def assert_recorded(path: Path, seen: list[Seen]) -> None:
    """Check every frame of a session against the copies: values, types, key order, pixels."""
    with dgrec.open(path) as session:
        assert session.sealed
        assert session.damage == []
        assert len(session) == len(seen) > 0
        for index, expected in enumerate(seen):
            result = session.result(index)
            assert_same(expected.results, result.results)
            assert_same(expected.timing, result.timing)
            assert_same(expected.info, result.info)
            overlay = result.overlay(expected.image)
            assert np.array_equal(overlay, expected.overlay), f"overlay of frame {index}"


@pytest.mark.slow
def test_faces(loaded: LoadedModel, tmp_path: Path) -> None:
    clock = Clock()
    capture = Capture(clip(clock, skip=CROWDED), decimator=Decimator(every=3), max_frames=60)
    described = {"model": loaded.description, "overlay": loaded.overlay}
    path = tmp_path / "faces.parquet"
    seen, metadata = record(loaded.model, capture, path, described, clock=clock)

    assert isinstance(metadata, dict)
    assert metadata["totals"]["frames"] == len(seen) == 60
    # Otherwise there was nothing to compare.
    assert {len(one.results) for one in seen} >= {0, 1, 2, 3}
    assert all("landmarks" in face for one in seen for face in one.results)
    assert all(one.timing["CoreInferenceDuration_ms"] > 0 for one in seen)
    assert any(not np.array_equal(one.image, one.overlay) for one in seen)
    assert_recorded(path, seen)


@pytest.fixture
def analyzers(loaded: LoadedModel) -> Any:
    """Give a function that attaches analyzers to the model; they are detached afterwards."""
    from degirum_tools import attach_analyzers

    yield lambda *wanted: attach_analyzers(loaded.model, list(wanted))
    attach_analyzers(loaded.model, None)


@pytest.mark.slow
def test_analyzers(loaded: LoadedModel, analyzers: Any, tmp_path: Path) -> None:
    from degirum_tools import LineCounter, ObjectTracker, ZoneCounter

    left_half = np.array([[0, 0], [320, 0], [320, 360], [0, 360]])
    analyzers(
        ObjectTracker(track_thresh=0.35, trail_depth=8),
        LineCounter([(0, 190, 640, 190)], per_class_display=True, return_direction_in_results=True),
        ZoneCounter(
            {"left": left_half},
            use_tracking=True,
            enable_zone_events=True,
            per_class_display=True,
            class_list=["face"],
        ),
    )
    clock = Clock()
    capture = Capture(clip(clock, skip=CROWDED), max_frames=60)
    described = {"model": loaded.description, "overlay": loaded.overlay}
    path = tmp_path / "analyzed.parquet"
    seen, metadata = record(loaded.model, capture, path, described, clock=clock)

    assert isinstance(metadata, dict), metadata
    assert len(seen) == 60
    own = {"timing", "mask_result", "masks_present"}
    added = {"trails", "trail_classes", "line_counts", "zone_counts", "zone_events"}
    assert set().union(*(one.attributes.keys() - own for one in seen)) == added
    # Otherwise there was nothing to compare.
    assert any(face.get("track_id") for one in seen for face in one.results)
    assert any(any(face.get("cross_line", ())) for one in seen for face in one.results)
    assert any(any(face.get("in_zone", ())) for one in seen for face in one.results)
    assert any(one.attributes["zone_events"] for one in seen)
    assert max(len(trail) for one in seen for trail in one.attributes["trails"].values()) > 1
    counts = [one.attributes["line_counts"][0].to_dict() for one in seen]
    assert counts[0] != counts[-1]

    with dgrec.open(path) as session:
        for index, expected in enumerate(seen):
            result = session.result(index)
            assert_same(expected.results, result.results)
            assert_same(expected.timing, result.timing)
            assert result.attributes.keys() == expected.attributes.keys() - own
            for name in added - {"line_counts"}:
                assert_same(expected.attributes[name], getattr(result, name))
            # The counters' own class is not rebuilt, but both ways of asking it work.
            (counter,) = result.line_counts
            assert_same(counts[index], counter.to_dict())
            assert counter.left == counts[index]["left"]
            assert result.line_counts == expected.attributes["line_counts"]


@pytest.mark.slow
def test_an_analyzer_that_keeps_adding_to_one_object(
    loaded: LoadedModel, analyzers: Any, tmp_path: Path
) -> None:
    """Rows are written half a second later: by then the object has been changed many times."""
    from degirum_tools import ResultAnalyzerBase

    class RunningTotals(ResultAnalyzerBase):
        def __init__(self) -> None:
            self.totals: dict[str, Any] = {"frames": 0, "faces": []}

        def analyze(self, result: Any) -> None:
            self.totals["frames"] += 1
            self.totals["faces"].append(len(result.results))
            result.totals = self.totals

    analyzers(RunningTotals())
    clock = Clock()
    capture = Capture(clip(clock, skip=CROWDED), max_frames=20)
    described = {"model": loaded.description, "overlay": loaded.overlay}
    seen, _ = record(loaded.model, capture, tmp_path / "totals.parquet", described, clock=clock)

    assert [one.attributes["totals"]["frames"] for one in seen] == list(range(1, 21))
    with dgrec.open(tmp_path / "totals.parquet") as session:
        for index, expected in enumerate(seen):
            assert_same(expected.attributes["totals"], session.result(index).totals)


def discs(frame: int) -> list[dict[str, Any]]:
    """Return two instances with masks, the second cropped to its box, moving with ``frame``."""
    y, x = np.mgrid[0:48, 0:64]
    whole = (x - 20 - frame) ** 2 + (y - 24) ** 2 < 12**2
    crop = np.ones((16, 20), bool)
    crop[:4, : 3 + frame] = False
    return [
        {
            "bbox": [8.25 + frame, 12.0, 32.5 + frame, 36.75],
            "category_id": 0,
            "label": "person",
            "score": 0.875,
            "mask": run_length(whole),
        },
        {
            "bbox": [36.0, 20.0, 56.0, 36.0],
            "category_id": 1,
            "label": "car",
            "score": 0.75 - frame / 100,
            "mask": run_length(crop, 36, 20),
        },
    ][: 2 - (frame == 3)]


@pytest.mark.parametrize("scale", [1.0, 2.37])
def test_instance_masks(scale: float, tmp_path: Path) -> None:
    model = PysdkDouble("SegmentationYoloV8", discs, scale=scale)
    size = (round(64 * scale), round(48 * scale))
    frames = ScriptedFrames((i / 30 for i in range(6)), size=size)
    path = tmp_path / "masks.parquet"
    seen, metadata = record(model, Capture(frames), path, model.describe())

    assert isinstance(metadata, dict), metadata
    masks = [item["mask"]["data"] for one in seen for item in one.results]
    assert len(masks) == 11
    assert all(mask.any() and not mask.all() for mask in masks)
    assert_recorded(path, seen)


def test_masks_as_bitmaps_draw_the_same_overlay(tmp_path: Path) -> None:
    model = PysdkDouble("SegmentationYoloV8", discs, scale=2.37)
    frames = ScriptedFrames((i / 30 for i in range(6)), size=(152, 114))
    path = tmp_path / "bitmaps.parquet"
    seen, _ = record(model, Capture(frames), path, model.describe(), masks="bitmap")

    with dgrec.open(path) as session:
        for index, expected in enumerate(seen):
            overlay = session.result(index).overlay(expected.image)
            assert np.array_equal(overlay, expected.overlay), f"overlay of frame {index}"


def test_class_map(tmp_path: Path) -> None:
    """Its overlay asks the result for the conversion to image pixels, which is recorded too."""

    def infer(frame: int) -> list[dict[str, Any]]:
        y, x = np.mgrid[0:48, 0:64]
        return [{"data": ((x + y + 5 * frame) // 30 % 3).astype(np.int64)[None]}]

    model = PysdkDouble("Segmentation", infer, scale=2.5)
    frames = ScriptedFrames((i / 30 for i in range(4)), size=(160, 120))
    path = tmp_path / "classes.parquet"
    seen, _ = record(model, Capture(frames), path, model.describe())

    assert any(not np.array_equal(one.image, one.overlay) for one in seen)
    assert_recorded(path, seen)


def test_labels_that_the_model_does_not_know(tmp_path: Path) -> None:
    """Their colour depends on the order in which PySDK met them, their hash on the process."""

    def infer(frame: int) -> list[dict[str, Any]]:
        names = [("anna", "ben"), ("ben",), ("carla", "anna")][frame % 3]
        return [
            {"bbox": [4.0 + 20 * i, 5.0, 20.0 + 20 * i, 40.0], "label": name, "score": 0.5}
            for i, name in enumerate(names)
        ]

    model = PysdkDouble("Detection", infer, scale=4.0)
    frames = ScriptedFrames((i / 30 for i in range(6)), size=(256, 192))
    path = tmp_path / "names.parquet"
    seen, _ = record(model, Capture(frames), path, model.describe())
    assert_recorded(path, seen)
