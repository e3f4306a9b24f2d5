"""A source without a frame: what PySDK has finished comes out meanwhile, and is the same."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dgrec.clock import Clock
from dgrec.recorder.capture import Capture, Decimator
from dgrec.recorder.model import LoadedModel, ModelRequest, load_model
from dgrec.recorder.sources import Frame, LiveSource, SourceReader, open_source, parse_source
from dgrec.session import open_session
from tests.dgrec.compare import assert_same
from tests.recorder.doubles import PysdkDouble, ScriptedFrames, record
from tests.recorder.network_camera import MjpegCamera
from tests.waiting import PATIENCE_S, wait_until

FRAMES = 6


class HaltingFrames(ScriptedFrames):
    """Gives no frame before the results of those that it gave, but for ``held_back``, are out.

    Args:
        results: Counts the results that came out.
    """

    def __init__(self, images: list[Any], results: list[Any], held_back: int = 0) -> None:
        super().__init__(i / 30 for i in range(len(images)))
        self._images, self._results, self._held_back = images, results, held_back
        self.given = 0
        self.halts = 0

    def read(self) -> Frame | None:
        frame = super().read()
        if frame is not None:
            frame.image = self._images[frame.source_frame]
            frame.height, frame.width = frame.image.shape[:2]
            self.given += 1
            self._due = time.monotonic() + PATIENCE_S
        return frame

    def wait(self, timeout_s: float) -> bool:
        if len(self._results) >= self.given - self._held_back:
            return True
        assert time.monotonic() < self._due, "the results do not come"
        time.sleep(timeout_s)
        self.halts += 1
        return False


@pytest.fixture(scope="module")
def images() -> list[Any]:
    """Frames of the clip with no face, one, and several."""
    reader = open_source(parse_source("sample"))
    frames = [reader.read().image for _ in range(300)]
    reader.release()
    return frames[:: 300 // FRAMES][:FRAMES]


@pytest.fixture(scope="module")
def second() -> Iterator[LoadedModel]:
    loaded = load_model(ModelRequest())
    yield loaded
    loaded.model._release_runtime()


def model_of(kind: str, first: LoadedModel, second: LoadedModel) -> Any:
    from degirum_tools import CombiningCompoundModel, CroppingAndDetectingCompoundModel

    if kind == "combined":
        return CombiningCompoundModel(first.model, second.model)
    if kind == "cropped":
        return CroppingAndDetectingCompoundModel(first.model, second.model)
    return first.model


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "held_back"), [("plain", 0), ("combined", 0), ("cropped", 1)])
def test_results_come_out_while_there_is_no_frame(
    kind: str,
    held_back: int,
    loaded: LoadedModel,
    second: LoadedModel,
    images: list[Any],
    tmp_path: Path,
) -> None:
    """A compound model that puts crops together has to see the next frame's first."""
    model = model_of(kind, loaded, second)
    expected: list[Any] = [{}]
    while any(isinstance(each, dict) for each in expected):  # PySDK's first run may give such ones
        expected = [result.results for result in model.predict_batch(images)]

    results: list[Any] = []
    frames = HaltingFrames(images, results, held_back)
    described = {"model": loaded.description, "overlay": loaded.overlay}
    path = tmp_path / "s.parquet"
    watch = (lambda _, result: results.append(result),)
    seen, metadata = record(model, Capture(frames), path, described, watchers=watch)

    assert isinstance(metadata, dict), metadata
    assert frames.halts > 0
    assert len(seen) == len(expected) == FRAMES
    assert len({len(result) for result in expected}) > 1, "otherwise there is nothing to compare"
    assert not model.non_blocking_batch_predict, "as it was"
    with open_session(path) as session:
        for index, result in enumerate(expected):
            assert_same(result, seen[index].results)
            assert_same(result, session.result(index).results)


@pytest.mark.slow
def test_results_do_not_wait_for_frames_that_are_left_out(
    loaded: LoadedModel, images: list[Any], tmp_path: Path
) -> None:
    """The second frame for the model would come after half a minute."""
    results: list[int] = []
    capture: Capture
    read_at: list[int] = []

    class Endless(ScriptedFrames):
        def read(self) -> Frame | None:
            frame = super().read()
            assert frame is not None
            frame.image = images[0]
            time.sleep(0.001)
            if results:
                read_at.append(frame.source_frame)
                capture.stop()
            return frame

    count = int(PATIENCE_S * 1000)
    endless = Endless(i / 30 for i in range(count))
    capture = Capture(endless, decimator=Decimator(every=count))
    described = {"model": loaded.description, "overlay": loaded.overlay}
    watch = (lambda row, _: results.append(row.source_frame),)
    record(loaded.model, capture, tmp_path / "s.parquet", described, watchers=watch)
    assert results == [0]
    assert read_at, "the result came out only at the end"


def test_a_model_that_cannot_be_asked_gets_frames_only(tmp_path: Path) -> None:
    """Anything that has `predict_batch` may be given to `predict_stream`."""
    given: list[Any] = []

    class Plain(PysdkDouble):
        def predict_batch(self, frames: Iterator[Any]) -> Iterator[Any]:
            kept = itertools.chain.from_iterable((given.append(f), f)[1:] for f in frames)
            return super().predict_batch(kept)

    class Silent(ScriptedFrames):
        def wait(self, timeout_s: float) -> bool:
            return False

    model = Plain("Detection", lambda _: [])
    capture = Capture(Silent(i / 30 for i in range(5)))
    seen, _ = record(model, capture, tmp_path / "s.parquet", model.describe())
    assert len(seen) == len(given) == 5
    assert all(isinstance(frame, np.ndarray) for frame in given)


@pytest.mark.slow
def test_the_journal_has_every_frame_of_a_camera_that_fell_silent(
    loaded: LoadedModel, tmp_path: Path
) -> None:
    """Killed in an outage, a recording must not lose what was finished before it."""
    path = tmp_path / "s.parquet"
    clock = Clock()
    with MjpegCamera() as camera:
        source = parse_source(camera.url)

        def connect() -> SourceReader:
            return open_source(source, stall_timeout_s=PATIENCE_S)

        live = LiveSource(connect(), source, clock, reopen=connect, stall_timeout_s=PATIENCE_S)
        capture = Capture(live)
        described = {"model": loaded.description, "overlay": loaded.overlay}
        thread = threading.Thread(
            target=record, args=(loaded.model, capture, path, described), kwargs={"clock": clock}
        )
        thread.start()
        try:
            wait_for_rows(path, lambda rows: rows >= 10)
            camera.send_signal(signal.SIGSTOP)
            wait_for_rows(path, lambda rows: rows == capture.frames_given)
        finally:
            capture.stop()
            thread.join()


def wait_for_rows(path: Path, done: Any) -> None:
    journal = path.with_suffix(".arrows")

    def are_there() -> bool:
        if not journal.exists() or not journal.stat().st_size:
            return False
        with open_session(journal) as session:
            return bool(done(len(session)))

    wait_until(are_there)
