"""Alerts of recordings that were killed, or continued: what was recorded is found again."""

from __future__ import annotations

import random
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.alerts import Alert, Rule, alerts_of, parse_rule, recorded_alerts
from dgrec.recorder.outputs import Alerts, Output
from dgrec.recorder.recovery import recover
from dgrec.recorder.writing import Moments
from dgrec.replay.merging import merge
from dgrec.session import restarts
from tests.factory import START_NS, make_detection
from tests.recorder.runs import Runs
from tests.waiting import PATIENCE_S, wait_until

S = 1_000_000_000
CAT = make_detection(0)
RULES = [
    parse_rule(text)
    for text in (
        "silent=missing 30s",
        "quiet=missing 10s",
        "busy=count() > 0",
        "long=count() > 0 for 3s",
    )
]


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
    runs = Runs(tmp_path / "s.parquet", lambda: [Alerts(RULES[:2])])
    runs.begin()
    runs.frame(1)
    runs.silence(25)
    runs.kill()
    if is_recovered:
        recover(runs.writer.journal)
    assert seconds(found_in(runs.path, RULES[:2])) == [("quiet", 11, None)]


def test_killed_while_a_condition_was_pending(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "s.parquet", lambda: [Alerts(RULES)])
    runs.begin()
    runs.frame(1, CAT)
    runs.frame(2, CAT)
    runs.kill()
    assert seconds(found_in(runs.path, RULES)) == [("busy", 1, None)]
    # The next run knows nothing of it: the condition has to hold for as long again.
    runs.begin()
    for _ in range(4):
        runs.frame(1, CAT)
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
    runs = Runs(tmp_path / "s.parquet", lambda: [Alerts(RULES)])
    runs.begin()
    runs.frame(1, CAT)
    runs.silence(12)
    if is_killed:
        runs.kill()
    else:
        runs.silence(20)  # which nobody has looked at, but for the first second of it
        runs.end()
    runs.now_ns += gap_s * S
    runs.begin()
    began = (runs.now_ns - START_NS) / S
    runs.frame(1, CAT)
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
    runs = Runs(tmp_path / "s.parquet", lambda: [stuck, Alerts(RULES[:2])])
    runs.begin()
    runs.frame(1)
    wait_until(lambda: runs.writer.outputs[0].depth == 0)
    runs.frame(1)
    third = threading.Thread(target=partial(runs.frame, 1, waits=False), daemon=True)
    third.start()
    wait_until(lambda: runs.writer.progress.frames == 3)
    runs.silence(100)
    stuck.goes_on.set()
    third.join(PATIENCE_S)
    runs.frame(1)
    runs.end()
    assert [name for name, *_ in found_in(runs.path, RULES[:2])] == ["quiet", "silent"]


def test_recordings_that_are_merged_are_runs(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.parquet" for name in "ab"]
    alone: list[tuple[Any, ...]] = []
    now_ns = START_NS
    for path in paths:
        runs = Runs(path, lambda: [Alerts(RULES)])
        runs.now_ns = now_ns
        runs.begin()
        for _ in range(3):
            runs.frame(1, CAT)
        runs.silence(12)
        runs.end()
        alone += found_in(path, RULES)
        now_ns = runs.now_ns + 100 * S
    merge(paths, tmp_path / "all.parquet")
    found = found_in(tmp_path / "all.parquet", RULES)
    # As they were, but for the numbers of frames; what held at the end of the first one is over.
    assert [each[:3] for each in found] == sorted(each[:3] for each in alone)
    ends = [each[3] for each in found]
    assert ends == [START_NS // 1000 + 15_000_000, None] * 2


@pytest.mark.slow
def test_parts_that_are_gone_are_no_silence(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "s.parquet", lambda: [Alerts(RULES[:2])], split_every=5.0)
    runs.begin()
    for _ in range(60):
        runs.frame(1)
    runs.end()
    for number in range(3, 10):
        (tmp_path / f"s-{number:04}.parquet").unlink()
    with dgrec.open(runs.path) as session:
        assert len(session) == 25
        assert alerts_of(session, RULES[:2]) == []


@pytest.mark.slow
def test_the_part_with_the_beginning_of_a_run_is_kept(tmp_path: Path) -> None:
    """--keep-only alerts: else nobody would know that there was no recorder for a time."""
    made: list[Moments] = []

    def outputs() -> list[Output]:
        made.append(Moments(2, 2))
        return [Alerts(RULES, listeners=[made[-1]])]

    runs = Runs(
        tmp_path / "s.parquet",
        outputs,
        moments=lambda: made[-1],
        split_every=5.0,
        keep_only="alerts",
        before=2.0,
        after=2.0,
    )
    for _ in range(2):
        runs.begin()
        for number in range(60):
            runs.frame(1, *([CAT] if 45 <= number < 48 else []))
        runs.end()
        runs.now_ns += 5 * S
    assert len(list(tmp_path.glob("s-*"))) < 12
    assert [each[0] for each in found_in(runs.path, RULES)] == ["busy", "busy"]
    with dgrec.open(runs.path) as session:
        assert len(restarts(session.metadata["events"])) == 1


@pytest.mark.slow
def test_what_is_between_moments_is_no_silence(tmp_path: Path) -> None:
    runs = Runs(
        tmp_path / "s.parquet",
        lambda: [Alerts(RULES)],
        only_on_alert=True,
        before=2.0,
        after=2.0,
    )
    runs.begin()
    for number in range(100):
        runs.frame(1, *([CAT] if number % 45 == 20 else []))
    runs.silence(20)
    runs.end()
    assert [each[0] for each in found_in(runs.path, RULES)] == ["busy", "busy", "quiet"]


@pytest.mark.slow
def test_random_runs_are_found_again(tmp_path: Path) -> None:
    fired = 0
    for seed in range(12):
        chance = random.Random(seed)
        runs = Runs(tmp_path / f"{seed}.parquet", lambda: [Alerts(RULES)])
        for _ in range(chance.randrange(1, 4)):
            runs.begin()
            for _ in range(chance.randrange(8)):
                runs.frame(
                    chance.choice((0.5, 2, 9.9, 10, 31)), *([CAT] if chance.random() < 0.6 else [])
                )
            runs.silence(chance.choice((0.1, 2, 10.5, 40)))
            chance.choice((runs.kill, runs.end))()
            runs.now_ns += chance.choice((1, 20, 3000)) * S
        fired += len(found_in(runs.path, RULES))
    assert fired > 60
