"""The cost of recording video for inference: recording with and without it, in turns.

    python -m bench.video_throughput [--pairs 7] [--size 1280x720] [--model-ms 33] [--accelerator]

Both record the same moving pictures through the real `predict_stream` with a stand-in model that
keeps one core busy, as a model on the CPU does, in native code and without Python's lock; the
others are for the encoder. With ``--accelerator`` it waits instead, as for a chip beside the CPU.
Frames come as fast as they are taken. ``--policy leave-out`` is that of a live source: the loop
never waits, and frames left out are counted.

Prints frames a second of each, and the median of the ratios of the pairs.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dgrec.clock import Clock
from dgrec.recorder.capture import Capture
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.sources import Frame
from dgrec.recorder.stream import Stream
from tests.factory import smooth_boxes
from tests.recorder.doubles import PysdkDouble, SourceDouble

__all__ = ["run"]


class MovingPictures(SourceDouble):
    """A natural-looking picture that moves, a new array for each frame, as a decoder gives."""

    def __init__(self, frames: int, size: tuple[int, int], clock: Clock) -> None:
        width, height = size
        rng = np.random.default_rng(1)
        small = rng.integers(0, 255, (height // 16, width // 8, 3), np.uint8)
        self._wide = cv2.resize(small, (2 * width, height), interpolation=cv2.INTER_CUBIC)
        self._frames, self._next = frames, 0
        self._size, self._clock = size, clock

    def read(self) -> Frame | None:
        index, self._next = self._next, self._next + 1
        if index >= self._frames:
            return None
        width, height = self._size
        left = index * 3 % width
        image = self._wide[:, left : left + width].copy()
        stamp = self._clock.now_ns()
        return Frame(image, index, index / 30, index / 30, stamp, 1000, width, height)


class BusyModel:
    """Keeps one core busy for so long a frame, outside of Python, or only waits that long."""

    def __init__(self, milliseconds: float, *, waits: bool = False) -> None:
        self._seconds = milliseconds / 1000 if waits else 0.0
        self._image = np.random.default_rng(2).integers(0, 255, (480, 640, 3), np.uint8)
        self._boxes = smooth_boxes(200, 5)
        cv2.setNumThreads(1)
        self._rounds = 1
        begun = time.perf_counter()
        for _ in range(10):
            self._work()
        self._rounds = max(1, round(milliseconds / 100 / (time.perf_counter() - begun)))

    def _work(self) -> None:
        if self._seconds:
            time.sleep(self._seconds)
            return
        for _ in range(self._rounds):
            cv2.GaussianBlur(self._image, (9, 9), 2)

    def __call__(self, index: int) -> list[Any]:
        self._work()
        return [dict(box) for box in self._boxes[index % 200]]


def run(
    infer: BusyModel, frames: int, size: tuple[int, int], options: RecordingOptions
) -> tuple[float, int]:
    """Record once; return frames a second and how many were left out of the video."""
    clock = Clock()
    model = PysdkDouble("Detection", infer)
    metadata = {**model.describe(), "source": {"given": "pictures", "kind": "camera"}}
    with tempfile.TemporaryDirectory() as folder:
        recorder = SessionWriter(
            Path(folder) / "s.parquet", options, metadata=metadata, clock=clock
        )
        capture = Capture(MovingPictures(frames, size, clock))
        Stream(model, capture, recorder, clock=clock).run()
    return recorder.progress.fps() or 0.0, recorder.video.left_out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--model-ms", type=float, default=33.0)
    parser.add_argument("--accelerator", action="store_true", help="the model only waits")
    parser.add_argument("--kind", choices=("raw", "annotated"), default="raw")
    parser.add_argument("--codec", default="h264")
    parser.add_argument("--policy", choices=("block", "leave-out"), default="leave-out")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    infer = BusyModel(arguments.model_ms, waits=arguments.accelerator)
    video = RecordingOptions(
        video=arguments.kind, codec=arguments.codec, video_policy=arguments.policy
    )
    rates: dict[bool, list[float]] = {False: [], True: []}
    left_out = 0
    for pair in range(arguments.pairs):
        for with_video in (False, True) if pair % 2 else (True, False):
            rate, lost = run(
                infer,
                arguments.frames,
                (width, height),
                video if with_video else RecordingOptions(video="none"),
            )
            rates[with_video].append(rate)
            left_out += lost
    ratios = [a / b for a, b in zip(rates[True], rates[False], strict=True)]
    for with_video, name in ((False, "rows only"), (True, f"with {arguments.kind} video")):
        print(f"{name:22} {statistics.median(rates[with_video]):6.1f} frames/s")
    print(f"left out of the video  {left_out} of {arguments.pairs * arguments.frames}")
    print(
        f"ratio, median of {arguments.pairs} pairs: {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
