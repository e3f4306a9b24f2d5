"""The bundled model, recorded, and its recording in its place."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from degirum_tools import ObjectTracker, ZoneCounter, annotate_video, predict_stream

import dgrec
from tests.clips import FRAMES, short_clip
from tests.dgrec.stand_in.scripted import ScriptedModel, pictures
from tests.dgrec.stand_in.test_equality import assert_equal, check_same
from tests.recorder.test_program import load
from tests.recorder.test_program import pictures as frames_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(short_clip(tmp_path_factory.mktemp("clip") / "clip.mp4"))


@pytest.fixture(scope="module")
def live(clip: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Return a session of the real model, and its results."""
    path = tmp_path_factory.mktemp("live") / "faces.parquet"
    _ = dgrec.Recorder  # PySDK finds this Python for its worker from here on
    with load() as model:
        model.measure_time = True
        model.overlay_show_probabilities = True
        return path, list(dgrec.predict_stream(model, clip, output=path))


def analyzers() -> list[Any]:
    left = [[0, 0], [320, 0], [320, 359], [0, 359]]
    return [
        ObjectTracker(track_thresh=0.3, trail_depth=5),
        ZoneCounter({"left": left}, use_tracking=True, enable_zone_events=True),
    ]


def test_a_stream(live: tuple[Path, list[Any]], clip: str) -> None:
    path, results = live
    assert len(results) == FRAMES
    assert any(result.results for result in results)
    assert all("CoreInferenceDuration_ms" in result.timing for result in results)
    model = dgrec.model(path, measure_time=True)
    check_same(list(predict_stream(model, clip)), results)
    check_same(list(model.predict_batch(frames_of(clip))), results)
    check_same([model.predict(image) for image in frames_of(clip)], results)
    with dgrec.open(path) as session:
        assert model.device_type == session.metadata["model"]["device"]
        assert model.input_shape == [[1, 128, 128, 3]]


def test_frames_that_are_left_out(live: tuple[Path, list[Any]], clip: str) -> None:
    path, results = live
    model = dgrec.model(path, measure_time=True)
    check_same(list(model.predict_batch([*frames_of(clip)][2::3])), results[2::3])
    backwards = [*frames_of(clip)][::-1]
    check_same(list(model.predict_batch(backwards)), results[::-1])


def test_a_recording_of_the_recording(live: tuple[Path, list[Any]], clip: str) -> None:
    path, results = live
    second = path.with_name("second.parquet")
    model = dgrec.model(path, measure_time=True)
    check_same(list(dgrec.predict_stream(model, clip, output=second)), results)
    again = dgrec.model(second, measure_time=True)
    check_same(list(again.predict_batch(frames_of(clip))), results)


def test_analyzers_on_a_stream(live: tuple[Path, list[Any]], clip: str) -> None:
    """At the recorded times: each run of the recording counts the same seconds."""
    path, _ = live
    model = dgrec.model(path)

    def run() -> Iterator[tuple[Any, Any]]:
        for result in predict_stream(model, clip, analyzers=analyzers()):
            yield copy.deepcopy(result.results), result.image_overlay.tobytes()

    first, second = list(run()), list(run())
    assert first == second
    with dgrec.open(path) as session:
        stamps = [frame.completed_ns for frame in session if frame.completed_ns]
    longest = max(
        (time for found, _ in first for item in found for time in item.get("time_in_zone", [])),
        default=0.0,
    )
    assert 0 < longest <= (stamps[-1] - stamps[0]) / 1e9 + 1e-6


def test_an_annotated_video(live: tuple[Path, list[Any]], clip: str, tmp_path: Path) -> None:
    path, results = live
    output = tmp_path / "annotated.avi"
    annotate_video(dgrec.model(path), clip, str(output), show_progress=False, visual_display=False)
    capture = cv2.VideoCapture(str(output))
    try:
        count = 0
        while capture.read()[0]:
            count += 1
    finally:
        capture.release()
    assert count == len(results)


def test_results_of_other_kinds_in_one_session(tmp_path: Path) -> None:
    """Two models in one session: each row is of its own class, with its own labels and colors."""
    path = tmp_path / "s.parquet"
    first = ScriptedModel("Detection", lambda n: [_found(n)])
    second = ScriptedModel("Classification", lambda n: [_class(n)], labels={7: "dusk"})
    second.overlay_color = (9, 200, 30)
    live = []
    with dgrec.Recorder(path) as recorder:
        for image in pictures(3):
            for model in (first, second):
                result = model(image)
                recorder.add(result)
                live.append(result)
    given = dgrec.model(path, match="order")
    results = list(given.predict_batch([each for image in pictures(3) for each in (image, image)]))
    check_same(results, live)

    given.overlay_line_width = 1  # the program's own setting holds for all
    for one, other in zip(given.predict_batch(pictures(3) * 2), live, strict=True):
        assert one._line_width == 1
        assert_equal(one.results, other.results)


def _found(n: int) -> dict[str, Any]:
    return {"bbox": [3, 4, 20 + n, 30], "label": "car", "category_id": 1, "score": 0.5}


def _class(n: int) -> dict[str, Any]:
    return {"label": "dusk", "category_id": 7, "score": 0.25 + n / 8}
