"""The cost of recording for a program's loop: `dgrec.predict_stream` and PySDK's, in pairs.

    python -m bench.stream_rate [--pairs 7] [--frames 420] [--video none|raw|...]

The bundled model on the sample clip, both in turns in one process, on one TFLITE device (two of
them hinder each other on a small machine). The ratio of frames a second is taken pair by pair, in
an order that alternates; what a second bare run gives against the first is the noise.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import dgrec
from dgrec import sample


def _rate(stream: Callable[[], Iterable[Any]], frames: int) -> float:
    """Return frames a second from the first result to the last of so many."""
    seen, began = 0, 0.0
    for _ in itertools.islice(stream(), frames):
        began = began or time.perf_counter()
        seen += 1
    return (seen - 1) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--frames", type=int, default=420)
    parser.add_argument("--video", default="none")
    arguments = parser.parse_args()
    assert dgrec.predict_stream  # PySDK's worker is this Python from here on
    from degirum_tools import ModelSpec, predict_stream

    spec = ModelSpec(
        model_name=sample.MODEL_NAME, zoo_url=str(sample.ZOO), inference_host_address="@local"
    )
    with spec.load_model() as model, tempfile.TemporaryDirectory() as folder:
        model.devices_selected = [0]
        output = Path(folder) / "s.parquet"

        def bare() -> Iterable[Any]:
            return predict_stream(model, str(sample.CLIP))

        def recorded() -> Iterable[Any]:
            return dgrec.predict_stream(
                model, str(sample.CLIP), output=output, overwrite=True, video=arguments.video
            )

        _rate(bare, 50)
        ratios, noise, rates = [], [], []
        for pair in range(arguments.pairs):
            runs = [("bare", bare), ("recorded", recorded), ("again", bare)]
            found = {
                name: _rate(run, arguments.frames)
                for name, run in (runs if pair % 2 else reversed(runs))
            }
            ratios.append(found["recorded"] / found["bare"])
            noise.append(found["again"] / found["bare"])
            rates.append(found["bare"])
    print(f"bare: {statistics.median(rates):.0f} frames/s (median of {arguments.pairs})")
    for name, values in (("recorded / bare", ratios), ("bare / bare", noise)):
        middle = statistics.median(values)
        print(f"{name}: {middle:.3f} ({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
