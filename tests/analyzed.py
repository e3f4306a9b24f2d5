"""Results of PySDK's own classes in which objects move, and what degirum_tools makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dgrec

__all__ = ["SIZE", "moving", "record_analyzed"]

#: Width and height of a frame.
SIZE = (320, 240)


def moving(frames: int = 30) -> Iterator[Any]:
    """Yield PySDK results: a person goes to the right, a car to the left and back."""
    from degirum.postprocessor import class_from_type_string

    result_class = class_from_type_string("Detection")
    for number in range(frames):
        x = 10 + 8 * number
        back = 250 - 12 * number if number < frames // 2 else 250 - 12 * (frames - number)
        found = [("person", 0, [x, 60, x + 40, 160]), ("car", 1, [back, 120, back + 60, 200])]
        if number % 11 == 7:  # not seen for once
            found = found[1:]
        result = result_class(
            inference_results=[],
            conversion=lambda a, b: (a, b),
            input_image=np.full((SIZE[1], SIZE[0], 3), 40 + number, np.uint8),
            label_dictionary={0: "person", 1: "car"},
            line_width=2,
            show_labels=True,
            draw_color=(255, 255, 0),
        )
        result._inference_results = [
            {"label": label, "category_id": category, "score": 0.9, "bbox": list(map(float, box))}
            for label, category, box in found
        ]
        result.timing = {}
        yield result


def record_analyzed(
    path: Path, analyzers: Sequence[Any], frames: int = 30, **options: Any
) -> list[Any]:
    """Record `moving` results after the analyzers have seen them; return the results."""
    from degirum_tools.analyzers.result_analyzer_base import image_overlay_substitute

    results = []
    with dgrec.Recorder(path, **options) as recorder:
        for result in moving(frames):
            for each in analyzers:
                each.analyze(result)
            image_overlay_substitute(result, list(analyzers))
            recorder.add(result)
            results.append(result)
    return results
