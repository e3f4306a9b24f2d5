"""Rows have the digests of the pixels that the model was given, whichever way they were recorded.

(Programs that run a model: tests/recorder/test_program.py.)
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import dgrec
from dgrec import sample
from dgrec.clock import Clock
from dgrec.format import digest, signature
from dgrec.recorder.capture import Capture, Decimator
from dgrec.recorder.options import Splitting
from dgrec.recorder.recovery import recover
from dgrec.recorder.sources import Frame
from tests.factory import make_detection
from tests.recorder.doubles import PysdkDouble, clip, new_stream, record
from tests.waiting import wait_until

MODEL = PysdkDouble("Detection", lambda index: [make_detection(index % 3)])
FRAMES = 30


def opencv(path: Path) -> Iterator[np.ndarray[Any, Any]]:
    """Yield what `cv2.VideoCapture` reads, and so degirum_tools' own `predict_stream`."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    while True:
        ok, image = capture.read()
        if not ok:
            return
        yield image


def rows_so_far(path: Path) -> list[Any]:
    with dgrec.open(path) as session:
        return list(session)


def recorded(path: Path) -> list[tuple[int, int, bytes]]:
    with dgrec.open(path) as session:
        columns = session.frames.select(["source_frame", "pixel_digest", "pixel_signature"])
    return [tuple(row.values()) for row in columns.to_pylist()]


@pytest.fixture(scope="module")
def frames() -> list[tuple[int, bytes]]:
    """Digest and signature of the first frames of the sample clip, as OpenCV reads it."""
    found = []
    for image in itertools.islice(opencv(sample.CLIP), FRAMES):
        found.append((digest(image), signature(image)))
    return found


def test_frames_that_are_left_out_shift_nothing(
    tmp_path: Path, frames: list[tuple[int, bytes]]
) -> None:
    path = tmp_path / "s.parquet"
    clock = Clock()
    capture = Capture(clip(clock), decimator=Decimator(every=4), max_frames=7)
    _, metadata = record(MODEL, capture, path, MODEL.describe(), clock=clock)
    assert isinstance(metadata, dict), metadata
    assert recorded(path) == [(n, *frames[n]) for n in range(0, 28, 4)]


def test_of_a_recording_in_parts(tmp_path: Path, frames: list[tuple[int, bytes]]) -> None:
    path = tmp_path / "s.parquet"
    clock = Clock()
    capture = Capture(clip(clock), max_frames=FRAMES)
    parts = Splitting(size=10_000)
    _, metadata = record(MODEL, capture, path, MODEL.describe(), clock=clock, splitting=parts)
    assert isinstance(metadata, dict), metadata
    with dgrec.open(path) as session:
        assert len(session.parts) > 2
    assert recorded(path) == [(n, *frames[n]) for n in range(FRAMES)]


def test_a_frame_that_is_given_again_has_its_digest(
    tmp_path: Path, frames: list[tuple[int, bytes]]
) -> None:
    """As after an AI server was lost: the model gets what it gave no result for once more."""
    capture = Capture(clip(Clock()), max_frames=3)
    given = [capture.read()[1] for _ in range(2)]
    assert capture.take_back() == 2
    taken = []
    for image in given:
        assert capture.read()[1] is image
        image[:] = 0  # what the program draws
        taken.append(capture.take(image).fingerprint.digest)
    assert taken == [each for each, _ in frames[:2]]


def test_what_watches_a_recording_may_draw_on_the_picture(
    tmp_path: Path, frames: list[tuple[int, bytes]]
) -> None:
    path = tmp_path / "s.parquet"
    clock = Clock()
    capture = Capture(clip(clock), max_frames=5)

    def draws(frame: Frame, result: Any) -> None:
        result.image[:] = 0

    record(MODEL, capture, path, MODEL.describe(), clock=clock, watchers=(draws,))
    assert recorded(path) == [(n, *frames[n]) for n in range(5)]


@pytest.mark.slow
def test_a_journal_that_was_cut_off_keeps_them(
    tmp_path: Path, frames: list[tuple[int, bytes]]
) -> None:
    path = tmp_path / "s.parquet"
    clock = Clock()
    capture = Capture(clip(clock), max_frames=8)
    cut = tmp_path / "cut.arrows"

    def copies(frame: Frame, result: Any) -> None:
        if frame.source_frame == 5:
            wait_until(lambda: len(rows_so_far(stream.recorder.journal)) >= 3)
            shutil.copyfile(stream.recorder.journal, cut)

    stream = new_stream(MODEL, capture, path, MODEL.describe(), clock=clock, watchers=(copies,))
    stream.run()
    count = len(rows_so_far(cut))
    assert count >= 3
    recover(cut)
    assert recorded(cut.with_suffix(".parquet")) == [(n, *frames[n]) for n in range(count)]
    assert recorded(path) == [(n, *frames[n]) for n in range(8)]


# --- Recorder.add ---


def test_an_image_that_is_added(tmp_path: Path) -> None:
    from degirum.postprocessor import DetectionResults

    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (90, 160, 3), np.uint8) for _ in range(4)]
    result = DetectionResults(
        inference_results=[], conversion=lambda x, y: (x, y), input_image=images[2]
    )
    with dgrec.Recorder(tmp_path / "s.parquet") as recorder:
        recorder.add([], images[0])
        recorder.add([], Image.fromarray(images[1]))
        recorder.add(result)
        recorder.add(result, images[3])
        recorder.add([])
        recorder.add([], images[0][10:50, 20:70])
        for image in images:
            image[:] = 0
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (90, 160, 3), np.uint8) for _ in range(4)]
    expected = [*images, None, images[0][10:50, 20:70].copy()]
    found = [(each, kept) for _, each, kept in recorded(tmp_path / "s.parquet")]
    assert found == [(digest(image), signature(image)) for image in expected]
