"""The image backend PIL: results whose picture is not the array that PySDK was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dgrec.clock import Clock
from dgrec.footage import Pixels, find_footage
from dgrec.format import Row
from dgrec.recorder.capture import Capture
from dgrec.recorder.model import LoadedModel, ModelRequest, load_model
from dgrec.session import open_session
from tests.dgrec.compare import assert_same
from tests.recorder.command import Command
from tests.recorder.doubles import clip, record

FRAMES = range(60, 90)


@pytest.fixture(scope="module", params=["auto", "BGR"])
def pil(request: pytest.FixtureRequest) -> LoadedModel:
    properties = {"image_backend": "pil", "input_numpy_colorspace": request.param}
    return load_model(ModelRequest(properties=properties))


class Kept:
    """What PySDK yielded, beside what was recorded of it."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.overlays: list[Any] = []

    def __call__(self, row: Row, result: Any) -> None:
        assert isinstance(result.image, Image.Image)
        self.results.append(result.results)
        self.overlays.append(np.asarray(result.image_overlay)[..., ::-1])


@pytest.mark.slow
def test_every_frame_and_its_result(pil: LoadedModel, tmp_path: Path) -> None:
    frames = clip(Clock(), skip=FRAMES.start)
    images = [frame.image for _ in FRAMES if (frame := frames.read())]
    expected = [result.results for result in pil.model.predict_batch(images)]
    assert sum(map(len, expected)) > 10

    path = tmp_path / "s.parquet"
    clock, kept = Clock(), Kept()
    capture = Capture(clip(clock, skip=FRAMES.start), max_frames=len(FRAMES))
    described = {"model": pil.description, "overlay": pil.overlay}
    record(pil.model, capture, path, described, clock=clock, watchers=(kept,))
    with open_session(path) as session:
        assert len(session) == len(FRAMES)
        assert session.frames.column("source_frame").to_pylist() == list(range(30)), "by order"
        for index, results in enumerate(expected):
            assert_same(results, session.result(index).results)
            assert_same(results, kept.results[index])
        if pil.description["input_numpy_colorspace"] == "BGR":
            for index, image in enumerate(images):
                assert np.array_equal(session.result(index).overlay(image), kept.overlays[index])


@pytest.mark.slow
def test_videos_have_the_colors_of_the_source(dgrec: Command) -> None:
    """Unless it is said otherwise, PySDK takes a frame of OpenCV for RGB there."""
    done = dgrec.record(
        "--source",
        "sample",
        "--output",
        "s.parquet",
        "--max-frames",
        "110",
        "--property",
        "image_backend=pil",
        "--video",
        "both",
    )
    assert done.returncode == 0, done.stderr
    assert "--property input_numpy_colorspace=BGR" in done.stderr
    frames = clip(Clock())
    source = [frame.image for _ in range(110) if (frame := frames.read())]
    path = dgrec.folder / "s.parquet"
    with open_session(path) as session, Pixels(find_footage(session)) as pixels:
        for index in (70, 100):
            picture = pixels.frame(session.result(index).row)
            assert picture is not None
            assert np.abs(picture.astype(int) - source[index]).mean() < 4
        with_face = session.result(100)
        assert with_face.results
        drawn = with_face.overlay(source[100])
        annotated = list(_decoded(dgrec.folder / "s.annotated.mp4"))[100]
        assert np.abs(annotated.astype(int) - drawn).mean() < 4
        assert not np.array_equal(drawn, source[100])


@pytest.mark.slow
def test_a_model_told_that_frames_are_bgr_is_not_warned_about(dgrec: Command) -> None:
    for colors, warned in (("BGR", False), ("RGB", True)):
        done = dgrec.record(
            "--source",
            "sample",
            "--output",
            f"{colors}.parquet",
            "--max-frames",
            "1",
            "--property",
            f"input_numpy_colorspace={colors}",
        )
        assert done.returncode == 0, done.stderr
        assert ("input_numpy_colorspace" in done.stderr) is warned


def _decoded(path: Path) -> Any:
    import av

    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="bgr24")
