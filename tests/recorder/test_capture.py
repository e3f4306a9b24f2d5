"""Frames for `predict_stream`: order, stamps, limits, and every way in which it may end."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec import sample
from dgrec.clock import Clock
from dgrec.errors import DgrecError, ModelError, SourceError
from dgrec.recorder.capture import Capture
from dgrec.recorder.model import LoadedModel
from dgrec.recorder.sources import Frame
from tests.recorder.doubles import PysdkDouble, ScriptedFrames, clip, record

CLIP_FRAMES = 420
FRAME_S = 1001 / 30000


def drain(capture: Capture) -> list[Frame]:
    """Read to the end, as `predict_stream` does, with each result taken at once."""
    frames = []
    while (answer := capture.read())[0]:
        frames.append(capture.take(answer[1]))
    assert answer == (False, None)
    assert capture.read() == (False, None)
    return frames


def boxes(frame: int) -> list[dict[str, Any]]:
    return [{"bbox": [1.0, 2.0, 30.0, 40.0], "label": "person", "category_id": 0, "score": 0.5}]


# --- footage ---


def test_frames_of_a_clip_are_stamped() -> None:
    clock = Clock()
    before = clock.now_ns()
    capture = Capture(clip(clock), max_frames=50)
    frames = drain(capture)

    assert [frame.source_frame for frame in frames] == list(range(50))
    times = [frame.media_time_s for frame in frames]
    assert times == pytest.approx([i * FRAME_S for i in range(50)], abs=1e-4)
    assert [frame.time_s for frame in frames] == pytest.approx(times, abs=1e-8)
    captured = [before, *(frame.captured_ns for frame in frames), clock.now_ns()]
    assert captured == sorted(captured)
    assert all(0 <= frame.read_ns < 10_000_000_000 for frame in frames)
    assert {(frame.width, frame.height) for frame in frames} == {(640, 360)}
    assert all(frame.image.shape == (360, 640, 3) for frame in frames), "for the video"


def test_the_first_frame_is_the_first_of_the_file() -> None:
    """Opening a file tries whether it can be decoded: that must not cost a frame."""
    import cv2

    reader = cv2.VideoCapture(str(sample.CLIP))
    footage = clip(Clock())
    for _ in range(3):
        frame = footage.read()
        assert frame is not None
        assert np.array_equal(frame.image, reader.read()[1])
    reader.release()
    footage.release()


@pytest.mark.slow
def test_the_whole_clip() -> None:
    capture = Capture(clip(Clock()))
    assert len(drain(capture)) == CLIP_FRAMES == capture.counts.read
    assert capture.end_reason == "finished"
    assert capture.error is None


def test_a_duration_is_one_of_footage() -> None:
    capture = Capture(clip(Clock()), max_duration_s=2.0)
    frames = drain(capture)
    assert len(frames) == 60 == capture.counts.read  # 59 * 1001 / 30000 s is the last below 2 s
    assert capture.end_reason == "limit"


@pytest.mark.slow
def test_a_loop_goes_on_counting() -> None:
    footage = clip(Clock(), skip=CLIP_FRAMES - 5, loop=True)
    capture = Capture(footage, max_frames=5 + CLIP_FRAMES + 5)
    frames = drain(capture)

    assert [frame.source_frame for frame in frames] == list(range(CLIP_FRAMES + 10))
    times = [frame.media_time_s or 0.0 for frame in frames]
    steps = [after - before for before, after in itertools.pairwise(times)]
    assert steps == pytest.approx([FRAME_S] * len(steps), abs=2e-3)


# --- limits and counters ---


def test_frames_are_limited_without_reading_one_more() -> None:
    capture = Capture(ScriptedFrames(i / 30 for i in range(100)), max_frames=7)
    assert len(drain(capture)) == 7
    assert capture.counts.read == 7
    assert capture.end_reason == "limit"


def test_a_frame_past_the_duration_does_not_count() -> None:
    capture = Capture(ScriptedFrames(i / 10 for i in range(100)), max_duration_s=1.0)
    assert len(drain(capture)) == 10 == capture.counts.read
    assert capture.counts.skipped == 0


def test_losses_are_carried_to_the_next_frame_that_is_kept() -> None:
    from dgrec.recorder.capture import Decimator

    frames = ScriptedFrames((i / 30 for i in range(7)), dropped_queue=[0, 2, 0, 0, 1, 4, 0])
    capture = Capture(frames, decimator=Decimator(every=3))
    kept = drain(capture)
    assert [frame.source_frame for frame in kept] == [0, 3, 6]
    assert [frame.dropped_queue for frame in kept] == [0, 2, 5]
    assert capture.counts.dropped == 7


# --- what it is to PySDK ---


def test_it_has_the_face_of_an_opencv_capture() -> None:
    import cv2

    frames = ScriptedFrames([0.0])
    capture = Capture(frames)
    assert capture.isOpened()
    # Anything else would make `predict_stream` raise at the end of a live source.
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
    assert capture.set(cv2.CAP_PROP_POS_FRAMES, 0) is False
    capture.release()
    assert frames.released


def test_results_find_their_frame_by_its_pixels() -> None:
    capture = Capture(ScriptedFrames(i / 30 for i in range(4)))
    images = [capture.read()[1] for _ in range(4)]
    assert [capture.take(images[i]).source_frame for i in (0, 2, 1)] == [0, 2, 1]
    assert capture.take(None).source_frame == 3


def test_a_result_of_no_frame_is_refused() -> None:
    capture = Capture(ScriptedFrames(i / 30 for i in range(4)))
    capture.read()
    with pytest.raises(SourceError, match="not given"):
        capture.take(np.zeros((4, 4, 3), np.uint8))
    assert capture.take(None).source_frame == 0
    with pytest.raises(SourceError, match="not given"):
        capture.take(None)


def test_stop_ends_the_stream_and_wakes_the_source() -> None:
    frames = ScriptedFrames(i / 30 for i in range(100))
    capture = Capture(frames)
    capture.read()
    capture.stop()
    capture.stop("limit")  # the first reason is the reason
    assert capture.read() == (False, None)
    assert frames.interrupted
    assert capture.end_reason == "interrupted"
    assert capture.counts.read == 1


# --- through the real pipeline ---


@pytest.mark.slow
def test_stopping_brings_out_every_frame_that_was_read(loaded: LoadedModel, tmp_path: Path) -> None:
    clock = Clock()
    capture = Capture(clip(clock))
    path = tmp_path / "stopped.parquet"
    results = itertools.count(1)

    def stop_at_70(row: Any, result: Any) -> None:
        if next(results) == 70:
            capture.stop()

    seen, metadata = record(
        loaded.model,
        capture,
        path,
        {"model": loaded.description, "overlay": loaded.overlay},
        clock=clock,
        watchers=(stop_at_70,),
    )
    assert isinstance(metadata, dict), metadata
    assert metadata["end_reason"] == "interrupted"
    assert 70 <= capture.frames_given < 100
    assert len(seen) == capture.frames_given
    with dgrec.open(path) as session:
        rows = session.frames
        assert rows["source_frame"].to_pylist() == list(range(capture.frames_given))
        assert rows["frame"].to_pylist() == list(range(capture.frames_given))
        assert metadata["totals"]["source_frames"] == capture.frames_given == len(session)


@pytest.mark.slow
def test_a_source_that_fails_in_the_middle(loaded: LoadedModel, tmp_path: Path) -> None:
    clock = Clock()
    footage = clip(clock)
    lost = SourceError("cam0: unplugged")

    class Unplugged(ScriptedFrames):
        def read(self) -> Frame | None:
            frame = footage.read()
            if frame is not None and frame.source_frame == 25:
                raise lost
            return frame

    capture = Capture(Unplugged([]))
    path = tmp_path / "lost.parquet"
    described = {"model": loaded.description, "overlay": loaded.overlay}
    seen, error = record(loaded.model, capture, path, described, clock=clock)

    assert type(error) is SourceError
    assert str(error) == f"cam0: unplugged; the 25 frames before are in {path}"
    assert not path.with_suffix(".arrows").exists()
    with dgrec.open(path) as session:
        assert session.sealed
        assert len(session) == len(seen) == 25
        assert session.metadata["end_reason"] == "source_lost"
        assert session.metadata["end_detail"] == "cam0: unplugged"


def test_a_model_that_fails_at_one_of_the_last_frames(tmp_path: Path) -> None:
    """The source has come to its end by then: that is not what ended the recording."""
    from degirum.exceptions import DegirumException

    class Broken(PysdkDouble):
        def predict_batch(self, frames: Any) -> Any:
            results = list(super().predict_batch(frames))
            yield from results[:-2]
            raise DegirumException(
                "Operation failed\nPython postprocessor: no memory\nclient.cpp: 9 [f]"
            )

    path = tmp_path / "failed.parquet"
    model = Broken("Detection", boxes)
    capture = Capture(ScriptedFrames(i / 30 for i in range(12)))
    _, error = record(model, capture, path, model.describe())

    assert type(error) is ModelError
    assert str(error) == (
        "the model failed: Operation failed: Python postprocessor: no memory; "
        f"the 10 frames before are in {path}"
    )
    with dgrec.open(path) as session:
        assert len(session) == 10
        assert session.metadata["end_reason"] == "failed"
        assert session.metadata["totals"]["source_frames"] == 12


def test_a_defect_in_the_loop_costs_no_frame(tmp_path: Path) -> None:
    calls = itertools.count()

    def breaks_at_5(row: Any, result: Any) -> None:
        if next(calls) == 5:
            raise ZeroDivisionError("division by zero")

    path = tmp_path / "watched.parquet"
    model = PysdkDouble("Detection", boxes)
    capture = Capture(ScriptedFrames(i / 30 for i in range(12)))
    _, error = record(model, capture, path, model.describe(), watchers=(breaks_at_5,))

    assert isinstance(error, DgrecError)
    assert "ZeroDivisionError: division by zero" in str(error)
    with dgrec.open(path) as session:
        assert session.sealed
        assert len(session) == 6  # the sixth was handed over when it came to that
        assert session.metadata["end_reason"] == "failed"


def test_a_recording_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    model = PysdkDouble("Detection", boxes)
    capture = Capture(ScriptedFrames(i / 30 for i in range(5)))
    _, metadata = record(model, capture, tmp_path / "s.parquet", model.describe())
    assert isinstance(metadata, dict)
    assert set(threading.enumerate()) <= before
