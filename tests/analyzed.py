"""Results of PySDK's own classes in which objects move, and what degirum_tools makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dgrec

__all__ = ["SIZE", "everything", "moving", "record_analyzed"]

#: Width and height of a frame.
SIZE = (320, 240)
LINES = [(160, 0, 160, 239), (100, 239, 100, 0)]
LEFT, RIGHT = [[0, 0], [150, 0], [150, 239], [0, 239]], [[170, 0], [319, 0], [319, 239], [170, 239]]


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


def everything(is_named: bool = True, absolute: bool = False) -> list[Any]:
    """Return analyzers of every kind that adds something."""
    from degirum_tools import (
        EventDetector,
        LineCounter,
        ObjectTracker,
        SceneCutDetector,
        ZoneCounter,
    )

    zones: Any = {"left": LEFT, "right": RIGHT} if is_named else [LEFT, RIGHT]
    event = {"Trigger": "car there", "when": "ObjectCount", "with": {"classes": ["car"]}}
    event |= {"is greater than": 0, "during": [1, "frame"]}
    return [
        SceneCutDetector(min_content_val=0.5, adaptive_threshold=1.01, min_scene_len=3),
        ObjectTracker(trail_depth=4),
        ZoneCounter(
            zones,
            class_list=["person", "car"],
            per_class_display=True,
            use_tracking=True,
            enable_zone_events=True,
        ),
        LineCounter(
            LINES,
            absolute_directions=absolute,
            per_class_display=True,
            return_direction_in_results=True,
        ),
        EventDetector(event),
        EventDetector({**event, "Trigger": "anything", "with": {}}),
    ]
