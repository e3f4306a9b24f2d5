"""Analyzers of degirum_tools see, and draw, the same live and on a recording."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from degirum_tools import (
    EventDetector,
    EventNotifier,
    LineCounter,
    ObjectSelector,
    ObjectTracker,
    ResultAnalyzerBase,
    ZoneCounter,
    attach_analyzers,
)

import dgrec
from dgrec.analyzers import recorded_time
from dgrec.format import json_values, result_values
from tests.analyzed import LEFT, LINES, RIGHT, everything, moving
from tests.dgrec.stand_in.scripted import OUTPUTS, ScriptedModel, picture, pictures
from tests.dgrec.stand_in.test_equality import assert_equal, recorded

FRAMES = 30


class TimedModel(ScriptedModel):
    """A live model that gets its results at known moments."""

    stamps: list[int] | None = None

    def _create_postprocessor(self, output: Any, info: Any) -> Any:
        stamp = self.stamps[self._count - 1] if self.stamps else None
        with recorded_time(stamp):
            result = super()._create_postprocessor(output, info)
        result._stamp = stamp
        return result


def output_of(number: int) -> list[Any]:
    return OUTPUT[number]


#: In the pixels of the model's input, which is 48 x 48.
OUTPUT = [
    [{**found, "bbox": [value * 48 / 320 for value in found["bbox"]]} for found in result.results]
    for result in moving(FRAMES)
]


def frames() -> Iterator[Any]:
    for number in range(FRAMES):
        yield np.full((240, 320, 3), 40 + number, np.uint8)


def event(name: str, during: list[Any]) -> dict[str, Any]:
    return {
        "Trigger": name,
        "when": "ObjectCount",
        "with": {"classes": ["person"]},
        "is greater than": 0,
        "during": during,
    }


class Stamp(ResultAnalyzerBase):  # type: ignore[misc]
    """A user's own."""

    def __init__(self) -> None:
        self.count = 0

    def analyze(self, result: Any) -> None:
        self.count += 1
        result.stamp = self.count, len(result.results), result.timing
        for found in result.results:
            found["stamp"] = self.count

    def annotate(self, result: Any, image: Any) -> Any:
        image[:5, : result.stamp[0]] = 255
        return image


KINDS: dict[str, Callable[[], list[Any]]] = {
    "tracker": lambda: [ObjectTracker(class_list=["person"], trail_depth=6)],
    "lines": lambda: [ObjectTracker(trail_depth=6), LineCounter(LINES, per_class_display=True)],
    "zones": lambda: [ZoneCounter([LEFT, RIGHT])],
    "times in zones": lambda: [
        ObjectTracker(),
        ZoneCounter(
            {"left": LEFT, "right": RIGHT},
            use_tracking=True,
            enable_zone_events=True,
            show_inzone_counters="time",
        ),
    ],
    "events": lambda: [EventDetector(event("seen", [0.2, "second"]))],
    "messages": lambda: [
        EventDetector(event("seen", [1, "frame"])),
        EventNotifier(
            "note",
            "seen",
            message="seen at {time}",
            holdoff=0.3,
            notify_while_true=True,
            show_overlay=True,
            annotation_cool_down=0.15,
            annotation_color=(255, 0, 0),
            annotation_font_scale=0.5,
        ),
    ],
    "selected": lambda: [ObjectTracker(), ObjectSelector(top_k=1)],
    "own": lambda: [Stamp()],
    "everything": everything,
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a session without analyzers, with a frame each 40 ms."""
    path = tmp_path_factory.mktemp("bare") / "bare.parquet"
    recorded(TimedModel("Detection", output_of), path, lambda model: model.predict_batch(frames()))
    return path


def stamps(path: Path) -> list[int]:
    with dgrec.open(path) as session:
        return [frame.completed_ns for frame in session if frame.completed_ns]


def run(model: Any, analyzers: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield results with their overlays, drawn when they come as a program does."""
    attach_analyzers(model, analyzers)
    for result in model.predict_batch(frames()):
        with recorded_time(getattr(result, "_stamp", None)):
            yield result, result.image_overlay
    attach_analyzers(model, None)


def check_same(given: list[Any], live: list[Any]) -> None:
    assert len(given) == len(live) == FRAMES
    for (one, drawn), (other, as_live) in zip(given, live, strict=True):
        assert_equal(one.results, other.results)
        added, expected = map(result_values.added_values, (one, other))
        assert json_values.dumps(added) == json_values.dumps(expected)
        assert np.array_equal(drawn, as_live)
        assert str(one) == str(other)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_attached_to_a_recording_as_to_the_model(kind: str, bare: Path, tmp_path: Path) -> None:
    model = TimedModel("Detection", output_of)
    model.stamps = stamps(bare)
    live = list(run(model, KINDS[kind]()))
    stand_in = dgrec.model(bare, match="order")
    given = list(run(stand_in, KINDS[kind]()))
    check_same(given, live)
    assert stand_in.custom_postprocessor is None
    check_same(list(run(stand_in, KINDS[kind]())), live)  # new ones begin anew

    # Recorded with analyzers, and run without: what was recorded.
    path = tmp_path / "analyzed.parquet"
    attach_analyzers(model.rewind(), KINDS[kind]())
    again = recorded(model, path, lambda model: model.predict_batch(frames()))
    analyzed = dgrec.model(path, match="order")
    for one, other in zip(analyzed.predict_batch(frames()), again, strict=True):
        assert_equal(one.results, other.results)
        added, expected = map(result_values.added_values, (one, other))
        assert json_values.dumps(added) == json_values.dumps(expected)

    # Run with the program's own: they see what the model gave, as far as it is left. A tracker
    # moves boxes, and a selector removes them.
    if kind not in ("selected", "own"):
        own = list(run(analyzed, KINDS[kind]()))
        for (one, _), (other, _) in zip(own, live, strict=True):
            assert list(map(list, one.results)) == list(map(list, other.results))
            assert (
                result_values.added_values(one).keys() == result_values.added_values(other).keys()
            )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tracker", "lines", "zones"])
def test_what_analyzers_drew_is_drawn_again(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "analyzed.parquet"
    model = TimedModel("Detection", output_of)
    attach_analyzers(model, KINDS[kind]())
    live = [
        (result, result.image_overlay)
        for result in recorded(model, path, lambda model: model.predict_batch(frames()))
    ]
    stand_in = dgrec.model(path, match="order")
    for one, (_, drawn) in zip(stand_in.predict_batch(frames()), live, strict=True):
        assert np.array_equal(one.image_overlay, drawn)


class Clock(ResultAnalyzerBase):  # type: ignore[misc]
    def analyze(self, result: Any) -> None:
        result.seen_at = time.time()


def test_a_picture_that_was_not_recorded_has_the_time_of_the_frame_before(tmp_path: Path) -> None:
    """With the clock's, an event that holds for seconds would never end."""
    path = tmp_path / "s.parquet"
    recorded(ScriptedModel(*OUTPUTS["yolo"]), path, lambda model: model.predict_batch(pictures(2)))
    model = dgrec.model(path, missing="empty")
    attach_analyzers(model, [Clock()])
    first, second = (stamp / 1e9 for stamp in stamps(path))
    given = [picture(number) for number in (99, 0, 99, 1, 99, 98)]
    times = [result.seen_at for result in model.predict_batch(given)]
    assert times == [first, first, first, second, second, second]
    times = [result.seen_at for result in model.predict_batch(given[:1])]
    assert times == [first]  # a run begins anew
