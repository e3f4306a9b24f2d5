"""A recording in runs: one after the other is killed, or ends and is continued."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dgrec.clock import Clock
from dgrec.recorder.options import QueuePolicy, RecordingOptions
from dgrec.recorder.outputs import Alerts, Output, OutputQueue, Publisher
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.sources import Frame
from dgrec.recorder.writing import Moments, find_earlier, recover_parts
from tests.factory import START_NS, new_metadata
from tests.recorder.doubles import PysdkDouble
from tests.waiting import wait_until

__all__ = ["IMAGE", "Runs"]

S = 1_000_000_000
IMAGE = np.zeros((48, 64, 3), np.uint8)


class Runs:
    """Makes the runs of a recording, by a clock that goes on only where it is asked to.

    Args:
        outputs: Returns those of a run.
        moments: Returns what decides which of its parts are kept; called after ``outputs``.
    """

    def __init__(
        self,
        path: Path,
        outputs: Callable[[], Sequence[Output]],
        policy: QueuePolicy = "block",
        moments: Callable[[], Moments | None] = lambda: None,
        **options: Any,
    ) -> None:
        self.path = path
        self.now_ns = START_NS
        self._outputs = outputs
        self._policy, self._moments = policy, moments
        self._options = {"split_every": 3600.0, **options}

    def begin(self) -> None:
        """Begin a run, as `dgrec record --continue` does."""
        recover_parts(self.path, lambda *_: None)
        outputs = self._outputs()
        clock = Clock(lambda: self.now_ns, lambda: self.now_ns)
        self.alerts = [each for each in outputs if isinstance(each, Alerts)]
        for each in self.alerts:
            each._clock = clock
        self.writer = SessionWriter(
            self.path,
            RecordingOptions(**self._options),
            metadata=new_metadata("s"),
            clock=clock,
            earlier=find_earlier(self.path),
            moments=self._moments(),
            outputs=[OutputQueue(each, self._policy) for each in outputs],
        )
        self._count = 0

    def frame(self, seconds: float, *detections: dict[str, Any], waits: bool = True) -> None:
        """Let time pass, and record a frame."""
        self.silence(seconds)
        model = PysdkDouble("DetectionYolo", lambda _: list(detections))
        (result,) = model.predict_batch(iter([IMAGE]))
        captured_ns = self.now_ns - 5_000_000
        frame = Frame(IMAGE, self._count, 0.0, 0.0, captured_ns, 1000, 64, 48, 0, 0, 0)
        self.writer.record(frame, result, self.now_ns)
        self._count += 1
        for queue in self.writer.outputs if waits else []:
            if isinstance(queue.output, Alerts):
                wait_until(partial(self._has_taken, queue))

    def silence(self, seconds: float) -> None:
        self.now_ns += round(seconds * S)
        for each in self.alerts:
            each._look()

    def _has_taken(self, queue: OutputQueue) -> bool:
        return queue.taken >= self._count

    def end(self) -> None:
        self.writer.close()

    def kill(self) -> None:
        """End the run as kill -9 does, half a second after its last event."""
        self.writer._writer.close()
        self.writer._journal.close()
        for output in (queue.output for queue in self.writer.outputs):
            if isinstance(output, Alerts):
                output._note = lambda event: None
            elif isinstance(output, Publisher):
                output._has_failed = True
        for queue in self.writer.outputs:
            queue.close()
