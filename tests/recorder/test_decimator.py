"""The frames that are left out for a lower rate."""

from __future__ import annotations

import itertools
import random

import pytest

from dgrec.recorder.capture import Capture, Decimator
from tests.recorder.doubles import ScriptedFrames

NTSC = 30000 / 1001


def kept(times: list[float], **options: float) -> list[int]:
    decimator = Decimator(**options)  # type: ignore[arg-type]
    return [index for index, time_s in enumerate(times) if decimator.keeps(index, time_s)]


def stamps(fps: float, count: int) -> list[float]:
    return [index / fps for index in range(count)]


@pytest.mark.parametrize(
    ("source_fps", "fps", "count", "expected"),
    [
        (NTSC, 15, 300, {150, 151}),
        (30, 15, 300, {150}),
        (25, 10, 250, {100}),
        (30, 29.97, 3000, {2997}),
        (30, 1, 300, {10}),
        (60, 0.5, 600, {5}),
        (50, 30, 500, {300}),
    ],
)
def test_the_rate_is_right(source_fps: float, fps: float, count: int, expected: set[int]) -> None:
    assert len(kept(stamps(source_fps, count), fps=fps)) in expected


@pytest.mark.parametrize(("source_fps", "fps"), [(NTSC, 15), (30, 15), (25, 10), (30, 7)])
def test_what_is_kept_is_spread_evenly(source_fps: float, fps: float) -> None:
    frames = kept(stamps(source_fps, 600), fps=fps)
    assert frames[0] == 0
    gaps = {after - before for before, after in itertools.pairwise(frames)}
    assert gaps <= {int(source_fps / fps), int(source_fps / fps) + 1}


@pytest.mark.parametrize("fps", [30, NTSC, 60, 1000])
def test_a_rate_that_the_source_does_not_have_keeps_all(fps: float) -> None:
    assert len(kept(stamps(NTSC, 900), fps=fps)) == 900


def test_stamps_that_are_rounded_to_milliseconds_keep_the_rate() -> None:
    """Containers such as Matroska store them so: 33, 67, 100 ms."""
    times = [round(time_s, 3) for time_s in stamps(30, 900)]
    assert len(kept(times, fps=15)) == pytest.approx(450, abs=1)


def test_variable_rate() -> None:
    """A camera in the dark: 30 fps, then 8 fps, then 30 again. Slow frames are all kept."""
    times = list(itertools.accumulate([1 / 30] * 300 + [1 / 8] * 80 + [1 / 30] * 300, initial=0.0))
    frames = kept(times, fps=10)
    by_part = [sum(start <= times[i] < start + 10 for i in frames) for start in (0, 10, 20)]
    assert by_part == [pytest.approx(100, abs=1), 80, pytest.approx(100, abs=1)]


def test_jittery_stamps_keep_the_rate_on_average() -> None:
    rng = random.Random(7)
    times = [index / 30 + rng.uniform(-0.01, 0.01) for index in range(1, 3001)]
    assert len(kept(times, fps=15)) == pytest.approx(1500, rel=0.01)


def test_every() -> None:
    assert kept(stamps(30, 10), every=3) == [0, 3, 6, 9]
    assert kept(stamps(30, 10), every=1) == list(range(10))


@pytest.mark.parametrize("options", [{"fps": 11.0}, {"every": 4}, {}])
def test_what_was_skipped_is_counted_where_it_was(options: dict[str, float]) -> None:
    capture = Capture(
        ScriptedFrames(stamps(30, 100)),
        decimator=Decimator(**options),  # type: ignore[arg-type]
    )
    frames = []
    while (answer := capture.read())[0]:
        frames.append(capture.take(answer[1]))

    gaps = [b.source_frame - a.source_frame for a, b in itertools.pairwise(frames)]
    assert [frame.skipped_before + 1 for frame in frames[1:]] == gaps
    after_the_last = 99 - frames[-1].source_frame
    assert capture.counts.skipped == sum(f.skipped_before for f in frames) + after_the_last
    assert capture.counts.read == 100 == len(frames) + capture.counts.skipped
