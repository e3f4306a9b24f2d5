"""Counts the people who look into a camera, and raises an alert while too many do.

python app.py [CAMERA]    (a number, a file or a stream; without it, camera 0)

It knows nothing of dgrec: test_app.py runs it against a recording.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import degirum_tools
from degirum_tools import ModelSpec

ZOO = "../../sample_data/zoo"
MODEL = "blazeface_short_range--128x128_float_tflite_cpu_1"


@dataclass
class Alert:
    """At most so many people may look into the camera, but for a moment."""

    most: int = 2
    #: How many pictures in a row it takes to begin, and to end.
    patience: int = 5

    def changes(self, counts: Iterator[int]) -> Iterator[tuple[int, bool]]:
        """Yield (number of the picture, whether the alert is on) at each change."""
        is_on, row = False, 0
        for number, count in enumerate(counts):
            row = row + 1 if (count > self.most) is not is_on else 0
            if row == self.patience:
                is_on, row = not is_on, 0
                yield number, is_on


def pictures(camera: Any) -> Iterator[Any]:
    while True:
        is_there, picture = camera.read()
        if not is_there:
            return
        yield picture


def results(model: Any, camera: Any) -> Iterator[Any]:
    tracker = degirum_tools.ObjectTracker(class_list=["face"], track_thresh=0.5)
    degirum_tools.attach_analyzers(model, [tracker])
    try:
        yield from model.predict_batch(pictures(camera))
    finally:
        degirum_tools.attach_analyzers(model, None)


def watch(model: Any, camera: Any, alert: Alert) -> Iterator[str]:
    """Yield a line at each change."""
    counts = (sum("track_id" in face for face in each.results) for each in results(model, camera))
    for number, is_on in alert.changes(counts):
        yield f"picture {number}: {'too many people' if is_on else 'all clear'}"


def main() -> None:
    source = sys.argv[1] if len(sys.argv) > 1 else "0"
    camera = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    model = ModelSpec(model_name=MODEL, zoo_url=ZOO, inference_host_address="@local").load_model()
    for line in watch(model, camera, Alert()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
