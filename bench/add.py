"""The cost of recording for a program's own loop: `Recorder.add` and `log` in its thread.

    python -m bench.add [--detections 10] [--frames 3000]

Beside it, in the same run, what a line of JSON for each frame costs the same thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import dgrec


def detections(index: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "category_id": n % 3,
            "label": ("person", "car", "bicycle")[n % 3],
            "score": 0.5 + (index + n) % 50 / 100,
            "bbox": [n * 7.25, n * 3.5 + index % 10, n * 7.25 + 40.5, n * 3.5 + 80.75],
        }
        for n in range(count)
    ]


def results(frames: int, count: int) -> list[Any]:
    """Return PySDK results, as a model would have made them."""
    from degirum.postprocessor import DetectionResults

    made = []
    for index in range(frames):
        result = DetectionResults(inference_results=[], conversion=lambda x, y: (x, y))
        result._inference_results = detections(index, count)
        made.append(result)
    return made


def timed(call: Any, items: list[Any]) -> float:
    """Return the median of microseconds that a call takes, at a camera's pace in small bursts."""
    took = []
    for index, item in enumerate(items):
        began = time.perf_counter_ns()
        call(item)
        took.append((time.perf_counter_ns() - began) / 1000)
        if index % 15 == 14:
            time.sleep(0.005)
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detections", type=int, default=10)
    parser.add_argument("--frames", type=int, default=3000)
    arguments = parser.parse_args()
    lists = [detections(index, arguments.detections) for index in range(arguments.frames)]
    objects = results(arguments.frames, arguments.detections)
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "lines.jsonl").open("w") as file:
            line = timed(lambda item: file.write(json.dumps(item) + "\n"), lists)
        with dgrec.Recorder(Path(folder) / "lists.parquet") as recorder:
            of_lists = timed(recorder.add, lists)
        with dgrec.Recorder(Path(folder) / "results.parquet") as recorder:
            of_results = timed(recorder.add, objects)
            of_values = timed(lambda value: recorder.log("value", value), [1.5] * len(lists))
    print(f"add(detections)   {of_lists:6.1f} us (median of {arguments.frames:,})")
    print(f"add(result)       {of_results:6.1f} us")
    print(f"log(name, value)  {of_values:6.1f} us")
    print(f"a line of JSON    {line:6.1f} us")


if __name__ == "__main__":
    main()
