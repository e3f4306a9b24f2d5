"""The recorded pace, and several users of one model."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.stand_in import run as run_module
from tests.dgrec.stand_in.scripted import OUTPUTS, ScriptedModel, pictures
from tests.dgrec.stand_in.test_equality import batch, check_same, recorded
from tests.factory import START_NS, make_row, new_metadata, write_session

#: Milliseconds from a frame to its result; the third is a stall.
LATENCIES = [10, 10, 200, 180, 10, 10]


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def time(self) -> float:
        return time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run_module, "time", clock)
    return clock


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Return a session with a frame each 40 ms and `LATENCIES`."""
    path = tmp_path / "s.parquet"
    rows = []
    for number, latency in enumerate(LATENCIES):
        captured = START_NS + number * 40_000_000
        rows.append(
            make_row(number, captured_ns=captured, completed_ns=captured + latency * 1_000_000)
        )
    metadata = {**new_metadata("s"), "model": {"result_type": "Detection", "labels": {"0": "x"}}}
    write_session(path, rows, metadata=metadata)
    return path


def come(path: Path, clock: Clock, interval_s: float, **properties: Any) -> list[int]:
    """Return after how many milliseconds each result comes from a source of that interval."""
    model = dgrec.model(path, match="order", pace="recorded", **properties)
    began = clock.now

    def source() -> Iterator[Any]:
        for number, image in enumerate(pictures(len(LATENCIES))):
            clock.now = max(clock.now, began + number * interval_s)
            yield image

    return [round((clock.now - began) * 1000) for _ in model.predict_batch(source())]


def test_results_come_after_their_latency_and_in_order(session: Path, clock: Clock) -> None:
    # A result is handed out when PySDK gets the next frame, 40 ms later, as it is live; the last
    # ones are waited for. The stall holds the results behind it back.
    assert come(session, clock, 0.04) == [40, 80, 280, 300, 300, 300]


def test_a_quick_source_waits_for_the_queue(session: Path, clock: Clock) -> None:
    assert come(session, clock, 0.0, frame_queue_depth=2)[-1] == 210
    assert come(session, clock, 0.0)[-1] == 200


def test_a_single_picture_takes_as_long(session: Path, clock: Clock) -> None:
    model = dgrec.model(session, match="order", pace="recorded")
    for latency in LATENCIES:
        began = clock.now
        model(pictures(1)[0])
        assert round((clock.now - began) * 1000) == latency


def test_by_default_nothing_waits(session: Path, clock: Clock) -> None:
    model = dgrec.model(session, match="order")
    assert len(list(model.predict_batch(pictures(6)))) == 6
    assert clock.now == 1000.0


def test_a_run_that_is_left_leaves_nothing_behind(session: Path, clock: Clock) -> None:
    before = threading.active_count()
    model = dgrec.model(session, match="order", pace="recorded")
    results = model.predict_batch(pictures(6))
    next(results)
    results.close()
    assert threading.active_count() == before

    def failing() -> Iterator[Any]:
        yield from pictures(3)
        raise RuntimeError("the camera is gone")

    given = model.predict_batch(failing())
    assert all(
        next(given) is not None for _ in range(3)
    )  # what was taken comes out, as it does live
    with pytest.raises(Exception, match="the camera is gone"):
        next(given)
    assert len(list(model.predict_batch(pictures(6)))) == 6


def test_ctrl_c_while_it_waits(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = dgrec.model(session, match="order", pace="recorded")

    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        list(model.predict_batch(pictures(6)))
    monkeypatch.undo()
    assert len(list(model.predict_batch(pictures(2)))) == 2


def test_without_waiting_at_the_recorded_pace(session: Path, clock: Clock) -> None:
    model = dgrec.model(session, match="order", pace="recorded")
    model.non_blocking_batch_predict = True
    given = iter([pictures(1)[0], *[None] * 3])

    def source() -> Iterator[Any]:
        for item in given:
            yield item
            clock.now += 0.004

    found = [result is not None for result in model.predict_batch(source())]
    assert found == [False, False, False, True]


# --- several users ---


def test_two_runs_at_once(tmp_path: Path) -> None:
    model = ScriptedModel(*OUTPUTS["faces"])
    live = recorded(model, tmp_path / "s.parquet", batch)
    stand_in = dgrec.model(tmp_path / "s.parquet", match="order")
    one, other = batch(stand_in), batch(stand_in)
    first = [next(one), next(one)]
    second = [next(other)]
    first += list(one)
    second += list(other)
    check_same(first, live)
    check_same(second, live)


@pytest.mark.slow
def test_threads(tmp_path: Path) -> None:
    model = ScriptedModel("FaceDetection", lambda n: OUTPUTS["faces"][1](n % 4))
    images = pictures(40)
    path = tmp_path / "s.parquet"
    live = [r.results for r in recorded(model, path, lambda model: model.predict_batch(images))]
    stand_in = dgrec.model(path)
    given: list[list[Any]] = []
    threads = [
        threading.Thread(
            target=lambda: given.append([r.results for r in stand_in.predict_batch(images * 5)])
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert given == [live * 5] * 4
    assert [stand_in(image).results for image in images] == live
