"""A discrete-event simulation of a PySDK pipeline under dgrec: recordings whose limit is known.

It is written from how PySDK works, and knows nothing of how a recording is explained:

- One thread runs the loop of `predict_stream`: it reads a frame (a file is decoded there; a camera
  has a thread of its own, and only its newest frame waits), resizes it (not timed), puts it into a
  queue of 8, takes the results that are ready, and works on each (display, publishing, the queue in
  front of the disk). While a camera has no frame, it asks for results every 5 ms.
- Behind the queue a preprocessor (one at a time) fills the threads of the runtime, two for each
  device. A thread waits for its device (not timed), infers, and postprocesses. A postprocessor in
  Python runs in one worker for all threads, and waiting for it is part of the time that the runtime
  reports.
- Results come out in the order of the frames.
- A writer puts rows on the disk. Its queue is full at some point: the loop waits, or the oldest row
  is dropped.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from dgrec.format import Row
from tests.factory import START_NS, make_row, new_metadata, write_session

__all__ = [
    "LIMITS",
    "VARIANTS",
    "Pipeline",
    "Simulated",
    "capacities",
    "simulate",
    "without",
    "write",
]

_QUEUE = 8
_ASK_MS = 5.0
_THREADS_A_DEVICE = 2


@dataclass(frozen=True)
class Pipeline:
    """What a pipeline consists of; times are milliseconds a frame."""

    #: Between two frames of a camera; None: a file.
    camera_ms: float | None = None
    decode_ms: float = 2.0
    resize_ms: float = 0.2
    preprocess_ms: float = 0.5
    inference_ms: float = 10.0
    devices: int = 1
    postprocess_ms: float = 1.0
    python_postprocessor: bool = True
    consumer_ms: float = 0.2
    writer_ms: float = 0.1
    drops_rows: bool = False
    fps: float | None = None
    every: int = 1
    #: How long the first inference of each device, and the worker's first frame, take longer.
    start_ms: float = 0.0
    #: A share by which every time may be longer, at random.
    spread: float = 0.1
    #: Whether other processes take the processor now and then.
    is_busy: bool = False
    #: Share of the camera's frames that never reach the reader.
    camera_loss: float = 0.0
    host: str = "@local"
    frames: int = 300
    seed: int = 1


@dataclass
class Simulated:
    """A recording, and what is true of it."""

    pipeline: Pipeline
    rows: list[Row] = field(default_factory=list)
    #: Milliseconds that each part really worked, waiting left out.
    worked_ms: dict[str, float] = field(default_factory=dict)


def capacities(p: Pipeline) -> dict[str, float]:
    """Return what each part can do at most, in results a second."""
    mean = 1 + p.spread / 2
    reads = p.every if p.fps is None or p.camera_ms is None else 1.0
    thread = p.resize_ms + p.consumer_ms
    made = {
        "preprocess": 1e3 / p.preprocess_ms / mean,
        "inference": 1e3 * p.devices / p.inference_ms / mean,
        "recorder": 1e3 / p.consumer_ms / mean,
    }
    if p.python_postprocessor:
        made["postprocess"] = 1e3 / p.postprocess_ms / mean
    threads = _THREADS_A_DEVICE * p.devices
    made["runtime threads"] = 1e3 * threads / (p.inference_ms + p.postprocess_ms) / mean
    if p.camera_ms is None:
        made["read"] = 1e3 / (p.decode_ms * reads) / mean
        thread += p.decode_ms * reads
    else:
        made["read"] = 1e3 / p.camera_ms * (1 - p.camera_loss)
        if p.fps is not None:
            made["asked"] = p.fps
        elif p.every > 1:
            made["asked"] = made.pop("read") / p.every
    made["loop"] = 1e3 / thread / mean
    made["writer"] = 1e3 / p.writer_ms / mean
    return made


def simulate(p: Pipeline) -> Simulated:
    """Run the pipeline over its frames."""
    return _Simulation(p).run()


def write(path: Path, simulated: Simulated) -> Path:
    """Write it as a session, which has the file's name."""
    p = simulated.pipeline
    metadata = new_metadata(
        path.stem,
        source={"kind": "file" if p.camera_ms is None else "camera"},
        model={
            "name": "m",
            "inference_host": p.host,
            "device": "TFLITE/CPU",
            "devices": list(range(p.devices)),
            "python_postprocessor": p.python_postprocessor,
        },
        options={"fps": p.fps, "every": p.every if p.every > 1 else None},
    )
    return write_session(path, simulated.rows, metadata)


class _Simulation:
    def __init__(self, p: Pipeline) -> None:
        self.p = p
        self.random = random.Random(p.seed)
        self.made = Simulated(p)
        self.now = 0.0
        # The runtime.
        self.taken: list[float] = []  # from the queue, by frame
        self.preprocessed_at = 0.0
        self.threads = [0.0] * (_THREADS_A_DEVICE * p.devices)
        self.devices = [0.0] * p.devices
        self.starting = [p.start_ms] * p.devices
        self.worker_at = 0.0
        self.worker_starting = p.start_ms / 2
        self.ready_at = 0.0
        self.on_their_way: deque[tuple[float, Row]] = deque()
        # The camera.
        self.sent = 0
        self.next_sent_at = self._after_next_frame(0.0)
        self.source_frame = -1
        self.skipped = self.replaced = self.lost = 0
        self.camera_losses = 0
        self.period: int | None = None
        # The writer: rows that wait, and when it is free.
        self.waiting_rows: deque[Row] = deque()
        self.writer_at = 0.0
        self.writer_queue = 20
        self.carried_ms = 0.0

    def time(self, mean_ms: float, part: str | None = None) -> float:
        """Return how long a piece of work takes this time."""
        took = mean_ms * (1 + self.p.spread * self.random.random())
        if self.p.is_busy:
            took *= self.random.choice((1.0, 1.0, 1.2, 1.6))
        if part is not None:
            worked = self.made.worked_ms
            worked[part] = worked.get(part, 0.0) + took
        return took

    def run(self) -> Simulated:
        for i in range(self.p.frames):
            row = self._read(i)
            self.now += self.time(self.p.resize_ms)
            self._push(i, row)
            self._take_results()
        while self.on_their_way:
            self.now = max(self.now, self.on_their_way[0][0])
            self._take_results()
        while self.waiting_rows:
            self._write_until(self.writer_at + 1e9)
        return self.made

    # --- the source ---

    def _read(self, i: int) -> Row:
        while True:
            row = self._read_file() if self.p.camera_ms is None else self._read_camera()
            if self._keeps(row):
                row.skipped_before, self.skipped = self.skipped, 0
                row.dropped_queue, self.replaced = self.replaced, 0
                row.dropped_camera, self.lost = self.lost, 0
                return row
            self.skipped += 1
            if self.p.camera_ms is not None:
                self._take_results()

    def _keeps(self, row: Row) -> bool:
        if row.source_frame % self.p.every:
            return False
        if self.p.fps is None:
            return True
        period = int((row.captured_ns - START_NS) / 1e9 * self.p.fps + 1e-6)
        is_new, self.period = period != self.period, period
        return is_new

    def _read_file(self) -> Row:
        took = self.time(self.p.decode_ms, "read")
        self.now += took
        self.source_frame += 1
        return self._row(self.now, took)

    def _read_camera(self) -> Row:
        while self.next_sent_at > self.now:
            # There is no frame: the loop asks for results meanwhile.
            waited_until = min(self.next_sent_at, self.now + _ASK_MS)
            self.now = max(self.now, waited_until)
            self._take_results()
        newest = self.next_sent_at
        self._camera_sends()
        while self.next_sent_at <= self.now:
            self.replaced += 1
            newest = self.next_sent_at
            self._camera_sends()
        return self._row(newest, self.p.camera_ms or 0.0)

    def _camera_sends(self) -> None:
        self.source_frame += 1
        self.lost += self.camera_losses
        self.next_sent_at = self._after_next_frame(self.next_sent_at)

    def _after_next_frame(self, at: float) -> float:
        self.camera_losses = 0
        while self.random.random() < self.p.camera_loss:
            self.camera_losses += 1
        self.sent += 1 + self.camera_losses
        # A camera keeps its beat: what is late does not make the next one later.
        return self.sent * (self.p.camera_ms or 0.0) + self.random.random() * 0.5

    def _row(self, captured_ms: float, read_ms: float) -> Row:
        return make_row(
            0,
            [],
            source_frame=self.source_frame,
            captured_ns=START_NS + int(captured_ms * 1e6),
            completed_ns=0,
            read_ns=int(read_ms * 1e6),
            recorder_ns=0,
        )

    # --- the runtime ---

    def _push(self, i: int, row: Row) -> None:
        if i >= _QUEUE:
            self.now = max(self.now, self.taken[i - _QUEUE])
        taken = max(self.now, self.preprocessed_at)
        self.taken.append(taken)
        preprocess = self.time(self.p.preprocess_ms, "preprocess")
        thread = heapq.heappop(self.threads)
        # A preprocessed frame is handed to a thread; there is no other place for it.
        handed = self.preprocessed_at = max(taken + preprocess, thread)
        number = min(range(self.p.devices), key=lambda n: self.devices[n])
        begun = max(handed, self.devices[number])
        inference = self.time(self.p.inference_ms, "inference") + self.starting[number]
        self.starting[number] = 0.0
        inferred = self.devices[number] = begun + inference
        postprocess = self.time(self.p.postprocess_ms, "postprocess")
        if self.p.python_postprocessor:
            postprocess += self.worker_starting
            self.worker_starting = 0.0
            done = self.worker_at = max(inferred, self.worker_at) + postprocess
        else:
            done = inferred + postprocess
        heapq.heappush(self.threads, done)
        self.ready_at = max(self.ready_at, done)
        row.timing = {
            "CorePreprocessDuration_ms": preprocess,
            "CoreInferenceDuration_ms": inference,
            "CorePostprocessDuration_ms": done - inferred,
        }
        self.on_their_way.append((self.ready_at, row))

    # --- the loop's work with a result ---

    def _take_results(self) -> None:
        while self.on_their_way and self.on_their_way[0][0] <= self.now:
            _, row = self.on_their_way.popleft()
            row.completed_ns = START_NS + int(self.now * 1e6)
            worked = self.time(self.p.consumer_ms, "recorder")
            self.now += worked
            row.recorder_ns = int((worked + self.carried_ms) * 1e6)
            before = self.now
            self._put(row)
            self.carried_ms = self.now - before

    def _put(self, row: Row) -> None:
        self._write_until(self.now)
        if len(self.waiting_rows) >= self.writer_queue:
            if self.p.drops_rows:
                gone = self.waiting_rows.popleft()
                following = self.waiting_rows[0] if self.waiting_rows else row
                following.dropped_writer += 1 + gone.dropped_writer
                following.dropped_queue += gone.dropped_queue
                following.dropped_camera += gone.dropped_camera
                following.skipped_before += gone.skipped_before
            else:
                self.now = max(self.now, self.writer_at)
                self._write_until(self.now)
        if not self.waiting_rows:
            self.writer_at = max(self.writer_at, self.now)
        self.waiting_rows.append(row)

    def _write_until(self, at: float) -> None:
        """Write what waits, as far as the writer comes."""
        while self.waiting_rows and self.writer_at <= at:
            self.made.rows.append(self.waiting_rows.popleft())
            self.writer_at += self.time(self.p.writer_ms, "writer")


def without(p: Pipeline, part: str) -> Pipeline:
    """Return the pipeline in which ``part`` takes next to no time."""
    faster: dict[str, Callable[[], Pipeline]] = {
        "read": lambda: replace(p, camera_ms=None, decode_ms=0.001, every=1, fps=None),
        "asked": lambda: replace(p, fps=None, every=1),
        "preprocess": lambda: replace(p, preprocess_ms=0.001),
        "inference": lambda: replace(p, inference_ms=0.001),
        "postprocess": lambda: replace(p, postprocess_ms=0.001),
        "recorder": lambda: replace(p, consumer_ms=0.001),
        "writer": lambda: replace(p, writer_ms=0.001),
        "thread": lambda: replace(p, consumer_ms=0.001, decode_ms=0.001),
    }
    return faster[part]()


#: Pipelines by name, with what limits each: its capacity is well below all others.
LIMITS: dict[str, tuple[str | None, Pipeline]] = {
    "a camera of 15 fps": ("read", Pipeline(camera_ms=1000 / 15)),
    "a camera of 5 fps": ("read", Pipeline(camera_ms=200, inference_ms=50, frames=200)),
    "a camera of 0.5 fps": ("read", Pipeline(camera_ms=2000, inference_ms=50, frames=60)),
    "a camera that loses frames": ("read", Pipeline(camera_ms=40, camera_loss=0.2)),
    "a camera, two devices": ("read", Pipeline(camera_ms=40, inference_ms=50, devices=2)),
    "decoding": ("read", Pipeline(decode_ms=30)),
    "decoding, a slow consumer": ("read", Pipeline(decode_ms=30, consumer_ms=1.5)),
    "decoding for --every 10": ("read", Pipeline(decode_ms=4, every=10, frames=200)),
    "preprocessing, file": ("preprocess", Pipeline(preprocess_ms=25)),
    "preprocessing, camera": ("preprocess", Pipeline(preprocess_ms=60, camera_ms=33)),
    "inference, file": ("inference", Pipeline(inference_ms=30)),
    "inference, camera": ("inference", Pipeline(inference_ms=50, camera_ms=33)),
    "inference, a fast camera": ("inference", Pipeline(inference_ms=100, camera_ms=10)),
    "two devices, file": ("inference", Pipeline(inference_ms=60, devices=2)),
    "four devices, camera": (
        "inference",
        Pipeline(inference_ms=200, devices=4, camera_ms=33, postprocess_ms=5),
    ),
    "inference, wide": ("inference", Pipeline(inference_ms=30, spread=2.0)),
    "inference, --fps 25": ("inference", Pipeline(inference_ms=70, camera_ms=33, fps=25)),
    "inference, --every 2": ("inference", Pipeline(inference_ms=100, camera_ms=33, every=2)),
    "inference, C++ postprocessor": (
        "inference",
        Pipeline(inference_ms=30, devices=2, python_postprocessor=False, postprocess_ms=3),
    ),
    "one worker, file": ("postprocess", Pipeline(postprocess_ms=30)),
    "one worker, two devices": ("postprocess", Pipeline(postprocess_ms=30, devices=2)),
    "one worker, four devices": (
        "postprocess",
        Pipeline(postprocess_ms=20, devices=4, inference_ms=50),
    ),
    "one worker, camera": ("postprocess", Pipeline(postprocess_ms=60, camera_ms=33, devices=2)),
    "one worker, wide": ("postprocess", Pipeline(postprocess_ms=30, devices=2, spread=1.5)),
    "threads with a C++ postprocessor": (
        None,
        Pipeline(postprocess_ms=60, inference_ms=10, python_postprocessor=False),
    ),
    "display, file": ("recorder", Pipeline(consumer_ms=30)),
    "display, camera": ("recorder", Pipeline(consumer_ms=50, camera_ms=33)),
    "own code, fast camera": ("recorder", Pipeline(consumer_ms=50, camera_ms=10)),
    "reading and display in turns": ("thread", Pipeline(decode_ms=20, consumer_ms=20)),
    "a slow disk, waiting": ("recorder", Pipeline(writer_ms=40)),
    "a slow disk, waiting, camera": ("recorder", Pipeline(writer_ms=60, camera_ms=33)),
    "a slow disk, dropping": ("writer", Pipeline(writer_ms=40, drops_rows=True)),
    "a slow disk, dropping, camera": (
        "writer",
        Pipeline(writer_ms=60, camera_ms=33, drops_rows=True),
    ),
    "--fps 5": ("asked", Pipeline(camera_ms=33, fps=5, frames=200)),
    "--fps 12.5": ("asked", Pipeline(camera_ms=33, fps=12.5, frames=200)),
    "--every 3": ("asked", Pipeline(camera_ms=33, every=3)),
    "resizing, file": (None, Pipeline(resize_ms=30)),
    "resizing, camera": (None, Pipeline(resize_ms=60, camera_ms=33)),
}

#: What may come on top of each.
VARIANTS: dict[str, Callable[[Pipeline], Pipeline]] = {
    "quiet": lambda p: p,
    "slow start": lambda p: replace(p, start_ms=1500),
    "busy": lambda p: replace(p, is_busy=True, seed=2),
    "busy, slow start": lambda p: replace(p, is_busy=True, start_ms=3000, seed=3),
    "short": lambda p: replace(p, frames=min(p.frames, 60), seed=4),
}
