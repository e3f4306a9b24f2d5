"""One run over the recorded results of a model.

PySDK keeps the state of an inference in its model object, so that two users of one object would get
each other's results. Here each run has its own, and takes everything else from the model.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from degirum.model import Model

from dgrec.stand_in.frames import RecordedFrame
from dgrec.stand_in.matching import Matcher

if TYPE_CHECKING:
    from dgrec.stand_in.session_model import SessionModel


def run(model: SessionModel, matcher: Matcher, sources: Callable[[], Iterator[Any]]) -> Any:
    """Return an iterator over the results of pictures, by PySDK's own loop.

    Args:
        matcher: Finds the frame of each picture.
        sources: PySDK's: yields pairs of a frame's info and its picture.
    """
    kind = Run if model.pace == "fast" else PacedRun
    return Model._predict_impl(kind(model, matcher), sources)


class Run:
    """The object that PySDK takes for a model, its runtime and its preprocessor during a run."""

    has_image_inputs = False  # of the preprocessor; if True, PySDK sets an option of it

    def __init__(self, model: SessionModel, matcher: Matcher) -> None:
        self._model = model
        self._matcher = matcher
        self._preprocessor = self
        self._runtime = self
        self._results: Any = []
        self._result_ready_cv: Any = threading.Condition()
        #: The frames whose results PySDK has not taken yet.
        self._taken: deque[RecordedFrame] = deque()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @contextmanager
    def _predict_handler(self) -> Iterator[None]:
        yield

    # --- as the preprocessor ---

    def forward(self, data: Any) -> tuple[Any, Any]:
        """Return a picture as the model's input: resizing it would be of no use."""
        model = self._model
        if not model.takes_pictures:
            return data, {}
        is_plain = isinstance(data, np.ndarray) and not model.save_model_image
        before = model._preprocessor
        if is_plain and data.ndim == 3 and before.image_backend == "opencv":
            return data, {"image_input": data, "image_result": None}
        if before.generate_image_result != model.save_model_image:
            before.generate_image_result = model.save_model_image
        info = before.forward(data)[1]
        first = info[0] if isinstance(info, list) else info
        # A frame has the digest of what the program gave, or of what PySDK read from a file.
        return first.get("image_input") if isinstance(data, str) else data, info

    # --- as the runtime ---

    def predict(self, picture: Any, info: str) -> None:
        """Take a picture, and give the time that its inference took."""
        frame = self._model.frame_of(picture, self._matcher)
        self._taken.append(frame)
        self._give(frame)

    def _give(self, frame: RecordedFrame) -> None:
        self._results.append(self._output_of(frame))

    def _output_of(self, frame: RecordedFrame) -> list[Any]:
        # The results themselves are in `_taken`: PySDK looks for errors in what it gets here.
        return [{"Timing": frame.restored.timing}] if self._model.measure_time else []

    # --- as the model ---

    def _create_postprocessor(self, output: Any, info: Mapping[str, Any]) -> Any:
        return self._model.result_of(self._taken.popleft(), info)


class PacedRun(Run):
    """A run whose results come as late as they did in the recording, in their order."""

    def __init__(self, model: SessionModel, matcher: Matcher) -> None:
        super().__init__(model, matcher)
        self._due = _Due()
        self._result_ready_cv = self._due

    @property
    def _results(self) -> _Due:
        return self._due

    @_results.setter
    def _results(self, value: Any) -> None:  # by PySDK, before it begins
        pass

    @contextmanager
    def _predict_handler(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._due.hurry()

    def _give(self, frame: RecordedFrame) -> None:
        now = time.monotonic()
        while (wait_s := self._due.until_below(self._model.frame_queue_depth)) > 0:
            time.sleep(wait_s)
        self._due.add(self._output_of(frame), now + (frame.latency_ms or 0.0) / 1000)


class _Due:
    """Results with the moments at which they come out.

    PySDK takes it for its list of results, and for the condition on which it waits for one. No
    further thread has to wait, and none is left when a program stops.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Any]] = deque()

    def add(self, output: Any, at: float) -> None:
        """Add a result, which does not come before those already waiting."""
        if self._waiting:
            at = max(at, self._waiting[-1][0])
        self._waiting.append((at, output))

    def hurry(self) -> None:
        """Have all results come at once: the run has ended."""
        self._waiting = deque((0.0, output) for _, output in self._waiting)

    def until_below(self, count: int) -> float:
        """Return the seconds until fewer than ``count`` results are not due yet."""
        if len(self._waiting) < count:
            return 0.0
        return self._waiting[-count][0] - time.monotonic()

    # --- as a list ---

    def __len__(self) -> int:
        return int(bool(self._waiting) and self._waiting[0][0] <= time.monotonic())

    def pop(self, index: int) -> Any:
        return self._waiting.popleft()[1]

    # --- as a condition ---

    def __enter__(self) -> _Due:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> None:
        if self._waiting:
            timeout = min(timeout, self._waiting[0][0] - time.monotonic())
        if timeout > 0:
            time.sleep(timeout)
