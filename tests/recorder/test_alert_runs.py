"""Alerts of recordings that were killed, or continued: what was recorded is found again."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.alerts import Alert, Rule, alerts_of, parse_rule, recorded_alerts
from dgrec.clock import Clock
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.outputs import Alerts, Output, OutputQueue
from dgrec.recorder.recovery import recover
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.sources import Frame
from dgrec.recorder.writing import find_earlier, recover_parts
from tests.factory import START_NS, make_detection, new_metadata
from tests.recorder.doubles import PysdkDouble
from tests.waiting import PATIENCE_S, wait_until

S = 1_000_000_000
IMAGE = np.zeros((48, 64, 3), np.uint8)
RULES = [
    parse_rule(text)
    for text in (
        "silent=missing 30s",
        "quiet=missing 10s",
        "busy=count() > 0",
        "long=count() > 0 for 3s",
    )
]


class Runs:
    """Makes the runs of a recording, by a clock that goes on only where it is told to."""

    def __init__(self, path: Path, rules: list[Rule], *others: Output) -> None:
        self.path = path
        self._others = others
        self.now_ns = START_NS
        self._rules = rules

    def begin(self) -> None:
        """Begin a run, as `dgrec record --continue` does."""
        recover_parts(self.path, lambda *_: None)
        clock = Clock(lambda: self.now_ns, lambda: self.now_ns)
        self.alerts = Alerts(self._rules, clock=clock)
        self.writer = SessionWriter(
            self.path,
            RecordingOptions(split_every=3600.0),
            metadata=new_metadata("s"),
            clock=clock,
            earlier=find_earlier(self.path),
            outputs=[OutputQueue(each, "block") for each in (*self._others, self.alerts)],
        )
        self._count = 0

    def frame(self, seconds: float, *, busy: bool = False) -> None:
        """Let time pass, and record a frame."""
        self.silence(seconds)
        items = [make_detection(0)] if busy else []
        (result,) = PysdkDouble("DetectionYolo", lambda _: items).predict_batch(iter([IMAGE]))
        captured_ns = self.now_ns - 5_000_000
        frame = Frame(IMAGE, self._count, 0.0, 0.0, captured_ns, 1000, 64, 48, 0, 0, 0)
        self.writer.record(frame, result, self.now_ns)
        self._count += 1
        wait_until(lambda: self.writer.outputs[-1].taken >= self._count)

    def silence(self, seconds: float) -> None:
        self.now_ns += round(seconds * S)
        self.alerts._look()

    def end(self) -> None:
        self.writer.close()

    def kill(self) -> None:
        """End the run as kill -9 does, half a second after its last event."""
        self.writer._writer.close()
        self.writer._journal.close()
        self.alerts._is_closing.set()
        self.writer.ended_ns, self.alerts._note = None, lambda event: None
        self.writer.outputs[-1].close()


def found_in(path: Path, rules: list[Rule]) -> list[tuple[Any, ...]]:
    """Return the alerts of a recording as it has them, and check that its rules give the same."""
    with dgrec.open(path) as session:
        recorded = session.sql(
            "SELECT name, epoch_us(since), epoch_us(fired), epoch_us(ended), source_frame "
            "FROM alerts ORDER BY ALL"
        ).fetchall()
        again = [_facts(each) for each in alerts_of(session, rules)]
        events = recorded_alerts(session.metadata.get("events", []))
    assert sorted(again, key=repr) == sorted(recorded, key=repr)
    spans = [(each.name, each.fired_us, each.ended_us) for each in events]
    assert sorted(spans, key=repr) == sorted(((r[0], r[2], r[3]) for r in recorded), key=repr)
    return recorded


def _facts(alert: Alert) -> tuple[Any, ...]:
    return alert.name, alert.since_us, alert.fired_us, alert.ended_us, alert.source_frame


def seconds(alerts: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return (name, fired, ended) of alerts, in seconds since the beginning."""
    return [
        (name, (fired - START_NS // 1000) / 1e6, ended and (ended - START_NS // 1000) / 1e6)
        for name, _, fired, ended, _ in alerts
    ]


@pytest.mark.parametrize("is_recovered", [True, False])
def test_killed_while_a_silence_was_an_alert(tmp_path: Path, is_recovered: bool) -> None:
    runs = Runs(tmp_path / "s.parquet", RULES[:2])
    runs.begin()
    runs.frame(1)
    runs.silence(25)
    runs.kill()
    if is_recovered:
        recover(runs.writer.journal)
    assert seconds(found_in(runs.path, RULES[:2])) == [("quiet", 11, None)]


def test_killed_while_a_condition_was_pending(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "s.parquet", RULES)
    runs.begin()
    runs.frame(1, busy=True)
    runs.frame(2, busy=True)
    runs.kill()
    assert seconds(found_in(runs.path, RULES)) == [("busy", 1, None)]
    # The next run knows nothing of it: the condition has to hold for as long again.
    runs.begin()
    for _ in range(4):
        runs.frame(1, busy=True)
    runs.end()
    assert seconds(found_in(runs.path, RULES)) == [
        ("busy", 1, 3),
        ("busy", 4, None),
        ("long", 7, None),
    ]


@pytest.mark.parametrize("is_killed", [True, False])
@pytest.mark.parametrize("gap_s", [4, 400])
def test_no_time_between_runs_counts(tmp_path: Path, gap_s: float, is_killed: bool) -> None:
    """Nor does an alert that holds at the end of a run have the end of one of a later run."""
    runs = Runs(tmp_path / "s.parquet", RULES)
    runs.begin()
    runs.frame(1, busy=True)
    runs.silence(12)
    if is_killed:
        runs.kill()
    else:
        runs.silence(20)  # which nobody has looked at, but for the first second of it
        runs.end()
    runs.now_ns += gap_s * S
    runs.begin()
    began = (runs.now_ns - START_NS) / S
    runs.frame(1, busy=True)
    runs.frame(15)
    runs.end()
    ended = 11 if is_killed else 33
    first = [("busy", 1, ended), ("quiet", 11, ended)]
    if not is_killed:
        first.append(("silent", 31, ended))
    second = [("busy", began + 1, began + 16), ("quiet", began + 11, began + 16)]
    assert seconds(found_in(runs.path, RULES)) == sorted(first + second)


class Stuck(Output):
    """Takes the first frame, and no more for a while."""

    capacity = 1

    def __init__(self) -> None:
        self.goes_on = threading.Event()

    def frame(self, row: Any, result: Any) -> None:
        self.goes_on.wait(PATIENCE_S)


def test_a_frame_that_waits_for_another_output_is_no_silence(tmp_path: Path) -> None:
    stuck = Stuck()
    runs = Runs(tmp_path / "s.parquet", RULES[:2], stuck)
    runs.begin()
    runs.frame(1)
    wait_until(lambda: runs.writer.outputs[0].depth == 0)
    runs.frame(1)
    third = threading.Thread(target=runs.frame, args=(1,), daemon=True)
    third.start()
    wait_until(lambda: runs.writer.progress.frames == 3)
    runs.silence(100)
    stuck.goes_on.set()
    third.join(PATIENCE_S)
    runs.frame(1)
    runs.end()
    assert [name for name, *_ in found_in(runs.path, RULES[:2])] == ["quiet", "silent"]


@pytest.mark.slow
def test_random_runs_are_found_again(tmp_path: Path) -> None:
    fired = 0
    for seed in range(12):
        chance = random.Random(seed)
        runs = Runs(tmp_path / f"{seed}.parquet", RULES)
        for _ in range(chance.randrange(1, 4)):
            runs.begin()
            for _ in range(chance.randrange(8)):
                runs.frame(chance.choice((0.5, 2, 9.9, 10, 31)), busy=chance.random() < 0.6)
            runs.silence(chance.choice((0.1, 2, 10.5, 40)))
            chance.choice((runs.kill, runs.end))()
            runs.now_ns += chance.choice((1, 20, 3000)) * S
        fired += len(found_in(runs.path, RULES))
    assert fired > 60
