"""Tests of the kinds that DeGirum has for models, and the script that runs them on recordings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dgrec import sample
from tests.clips import short_clip
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[3]

_CONFTEST = """
import degirum as dg
import pytest

ZOO = {zoo!r}
NAME = {name!r}


@pytest.fixture
def clip():
    return {clip!r}


@pytest.fixture
def detector():
    with dg.load_model(NAME, dg.LOCAL, ZOO) as model:
        model.devices_selected = [0]
        yield model


@pytest.fixture
def second():
    with dg.load_model(NAME, dg.LOCAL, ZOO, measure_time=True) as model:
        model.devices_selected = [0]
        yield model
"""

_TESTS = """
import degirum as dg
import degirum_tools
import numpy as np
from degirum_tools import streams


def frames(clip):
    with degirum_tools.open_video_stream(clip) as stream:
        yield from degirum_tools.video_source(stream)


def test_nothing():
    assert True


def test_wrong():
    assert False


def test_properties_of_compound_models(detector, second):
    compound = degirum_tools.CroppingAndDetectingCompoundModel(detector, second)
    names = {
        name
        for kind in type(detector).__mro__
        for name, value in vars(kind).items()
        if isinstance(value, property) and name[:2] != "__"
    }
    assert len(names) > 30
    for name in names:
        value = getattr(detector, name)
        if not isinstance(value, dg.aiclient.ModelParams):
            assert getattr(compound, name) == value
    assert not detector.measure_time
    compound.measure_time = True
    assert detector.measure_time
    assert detector.input_pad_method == "letterbox"
    compound.input_pad_method = "stretch"
    assert detector.input_pad_method == "stretch"
    assert second.input_pad_method == "letterbox"


def test_combining(detector, clip):
    regions = degirum_tools.RegionExtractionPseudoModel([[1, 2, 30, 40]], detector)
    compound = degirum_tools.CombiningCompoundModel(regions, detector)
    labels = set()
    for result in compound.predict_batch(frames(clip)):
        assert result.results[0]["bbox"] == [1, 2, 30, 40]
        labels |= {found["label"] for found in result.results}
    assert labels == {"ROI0", "face"}


def test_cropping(detector, second, clip):
    alone = list(detector.predict_batch(frames(clip)))
    compound = degirum_tools.CroppingAndDetectingCompoundModel(detector, second, crop_extent=60)
    results = list(compound.predict_batch(frames(clip)))
    assert len(results) == len(alone)
    halves = [[0, 0, 320, 360], [320, 0, 640, 360]]
    tiles = degirum_tools.RegionExtractionPseudoModel(halves, second)
    tiled = degirum_tools.CroppingAndDetectingCompoundModel(tiles, second)
    assert len(list(tiled.predict_batch(frames(clip)))) == len(alone)


def test_analyzers(detector, clip):
    tracker = degirum_tools.ObjectTracker(track_thresh=0.3, trail_depth=5)
    results = list(degirum_tools.predict_stream(detector, clip, analyzers=tracker))
    assert any("track_id" in found for result in results for found in result.results)
    assert all(hasattr(result, "trails") for result in results)
    assert detector._custom_postprocessor is None


def test_streams(detector, second, clip):
    source, sink = streams.VideoSourceGizmo(clip), streams.SinkGizmo(stream_depth=1000)
    ai, inner = streams.AiSimpleGizmo(detector), streams.AiSimpleGizmo(second)
    cropper = streams.AiObjectDetectionCroppingGizmo(["face"], crop_extent=50)
    combiner = streams.CropCombiningGizmo()
    composition = streams.Composition(
        source >> combiner[0], source >> ai >> cropper >> inner >> combiner[1] >> sink
    )
    composition.start(wait=False)
    data = list(sink())
    composition.wait()
    for item in data:
        result = item.meta.find_last(streams.tag_inference)
        assert isinstance(result, dg.postprocessor.DetectionResults)
        assert all("extra_results" in found for found in result.results)
    assert len(data) == 16


def test_preprocessing(detector, clip):
    source, sink = streams.VideoSourceGizmo(clip), streams.SinkGizmo(stream_depth=1000)
    composition = streams.Composition(source >> streams.AiPreprocessGizmo(detector) >> sink)
    composition.start(wait=False)
    items = list(sink())
    composition.wait()
    for item in items:
        meta = item.meta.find_last(streams.tag_preprocess)
        assert meta is not None
    assert len(items) == 16
"""


@pytest.mark.slow
def test_tests_of_a_checkout_run_with_recordings(tmp_path: Path) -> None:
    clip = short_clip(tmp_path / "clip.mp4")
    folder = tmp_path / "test"
    folder.mkdir()
    settings = {"zoo": str(sample.ZOO), "name": sample.MODEL_NAME, "clip": str(clip)}
    (folder / "conftest.py").write_text(_CONFTEST.format(**settings))
    (folder / "test_compound_models.py").write_text(_TESTS)
    run = subprocess.run(
        [sys.executable, "-m", "bench.degirum_tests", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    found = {line.rpartition("::")[2]: line.partition("   ")[0] for line in run.stdout.splitlines()}
    assert found == {
        "test_nothing": "-",
        "test_wrong": "failed",
        **dict.fromkeys(
            [
                "test_properties_of_compound_models",
                "test_combining",
                "test_cropping",
                "test_analyzers",
                "test_streams",
                "test_preprocessing",
            ],
            "passed",
        ),
    }, run.stdout + run.stderr
    assert run.returncode == 0
