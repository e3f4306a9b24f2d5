"""CPU time of a recording in the place of a model, beside a runtime without results.

    python -m bench.stand_in [--frames 2000] [--detections 10]

Both run PySDK's own loop over the same pictures, in turn; the time is that of the process, and the
least of the rounds. The difference is the share of the recorded results.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import dgrec
from tests.factory import make_detection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--detections", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.parquet"
        images = [np.full((360, 640, 3), n, np.uint8) for n in range(16)]
        with dgrec.Recorder(path, metadata=_metadata()) as recorder:
            for n in range(options.frames):
                found = [make_detection(index) for index in range(options.detections)]
                recorder.add(found, images[n % 16])
        models = {
            "empty results": _empty(path),
            "recorded, in order": dgrec.model(path, match="order"),
            "recorded, by pixels": dgrec.model(path, match="pixels"),
        }
        best: dict[str, float] = {}
        for _ in range(options.rounds):
            for name, each in models.items():
                given = (images[n % 16] for n in range(options.frames))
                began = time.process_time()
                count = sum(len(result.results) for result in each.predict_batch(given))
                took = (time.process_time() - began) / options.frames * 1000
                best[name] = min(best.get(name, took), took)
                expected = 0 if name == "empty results" else options.frames * options.detections
                assert count == expected
        for name, took in best.items():
            share = took - best["empty results"]
            print(f"{name:20} {took:7.3f} ms a frame, {share:7.3f} more (at most 0.2)")


def _metadata() -> dict[str, Any]:
    return {"model": {"result_type": "Detection", "input_shape": [[1, 128, 128, 3]]}}


def _empty(path: Path) -> Any:
    """Return a model of PySDK's whose runtime answers at once that there is nothing."""
    from degirum._ext_zoo_accessor import ExtModelBase

    from dgrec.session import Session
    from dgrec.stand_in.zoo import parameters_of

    class Runtime:
        def __init__(self, callback: Any) -> None:
            self.callback = callback

        def predict(self, data: Any, info: str) -> None:
            self.callback([])

    class Empty(ExtModelBase):  # type: ignore[misc]
        label_dictionary: Any = {}

        @contextmanager
        def _predict_handler(self) -> Iterator[None]:
            self._runtime = Runtime(self._result_callback)
            self._preprocessor.forward = lambda data: (data, {"image_input": data})
            yield

    with Session(path) as session:
        return Empty("empty", parameters_of(session), "DGREC/SESSION")


if __name__ == "__main__":
    main()
