"""Alerts: live, on the recording, and by an independent evaluation, the same starts and ends."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgrec
from dgrec.alerts import Alert, AlertFrame, Evaluator, alerts_of, parse_rule
from dgrec.clock import Clock
from dgrec.errors import ConfigError
from dgrec.format import Row
from dgrec.recorder.outputs import Alerts
from tests.factory import START_NS, make_detection, make_row, new_metadata, write_session
from tests.waiting import wait_until

MS = 1_000_000
LABELS = ("person", "car", None)


def random_rows(seed: int, count: int = 150) -> list[Row]:
    """Return rows with gaps, losses, unknown latencies, and detections that come and go."""
    chance = random.Random(seed)
    rows, captured = [], START_NS
    for number in range(count):
        captured += chance.choice((20, 33, 33, 40, 300, 2500)) * MS + chance.randrange(1000)
        latency = chance.randrange(5 * MS, 60 * MS)
        found: list[Any] = []
        for _ in range(chance.choice((0, 1, 2, 3, 5))):
            score = chance.choice((chance.random(), np.float32(chance.random()), math.nan, None))
            item = make_detection(number, label=chance.choice(LABELS), score=score)
            found.append({key: value for key, value in item.items() if value is not None})
        found += chance.choice(([], [], ["no detection"]))
        lost = {"dropped_queue": chance.choice((0, 0, 0, 2)), "skipped_before": number % 3}
        rows.append(
            make_row(
                number,
                found,
                captured_ns=captured,
                completed_ns=captured + latency,
                is_capture_known=chance.random() < 0.9,
                **lost,
            )
        )
        captured += latency
    return rows


CONDITIONS: dict[str, Callable[[dict[str, Any]], bool | None]] = {
    "count('person') >= 2": lambda v: v["n"]("person") >= 2,
    "count() > 0 and latency_ms > 30": lambda v: both(v["n"](None) > 0, more(v["latency"], 30)),
    "not latency_ms <= 30": lambda v: negated(negated(more(v["latency"], 30))),
    "best('car') > 0.5 or dropped_before > 0": lambda v: either(
        more(v["best"]("car"), 0.5), v["dropped"] > 0
    ),
    "fps < 12": lambda v: more(12, v["fps"]),
    "latency_p95_ms > 52": lambda v: more(v["p95"], 52),
    "1 <= count('car') < 3": lambda v: 1 <= v["n"]("car") < 3,
    "(count('car') > 0) and not (skipped_before == 1)": lambda v: both(
        v["n"]("car") > 0, v["skipped"] != 1
    ),
}
TIMES = ("", " for 50ms", " for 1s")


def more(one: float | None, other: float | None) -> bool | None:
    return None if one is None or other is None else bool(one > other)


def negated(value: bool | None) -> bool | None:
    return None if value is None else not value


def both(one: bool | None, other: bool | None) -> bool | None:
    return False if one is False or other is False else (None if None in (one, other) else True)


def either(one: bool | None, other: bool | None) -> bool | None:
    return negated(both(negated(one), negated(other)))


def expected(session: dgrec.Session, condition: str, lasting_s: float) -> list[tuple[int, Any]]:
    """Return (fired, ended) of each alert, from the session's table by NumPy."""
    rows = [dict(result.row) for result in session]
    for row in rows:  # NaN is unknown, too
        is_known = row["latency_ms"] is not None and not math.isnan(row["latency_ms"])
        row["latency_ms"] = row["latency_ms"] if is_known else None
    stamps = [round(row["completed_at"].timestamp() * 1e6) for row in rows]
    holds = []
    for at, row in enumerate(rows):
        found = [item for item in session[at].results if isinstance(item, dict)]
        window = [i for i in range(at + 1) if stamps[at] - 10_000_000 < stamps[i]]
        latencies = [rows[i]["latency_ms"] for i in window if rows[i]["latency_ms"] is not None]
        span = stamps[at] - stamps[window[0]]

        def count(label: str | None, found: list[Any] = found) -> int:
            return sum(label is None or item.get("label") == label for item in found)

        def best(label: str, found: list[Any] = found) -> float | None:
            scores = [item.get("score") for item in found if item.get("label") == label]
            known = [float(s) for s in scores if s is not None and not math.isnan(s)]
            return max(known, default=None)

        values = {
            "n": count,
            "best": best,
            "latency": row["latency_ms"],
            "dropped": row["dropped_before"],
            "skipped": row["skipped_before"],
            "fps": (len(window) - 1) / span * 1e6 if span else None,
            "p95": np.quantile(latencies, 0.95) if latencies else None,
        }
        holds.append(CONDITIONS[condition](values) is True)
    alerts: list[tuple[int, Any]] = []
    since = fired = None
    for stamp, is_so in zip(stamps, holds, strict=True):
        if not is_so:
            if fired is not None:
                alerts.append((fired, stamp))
            since = fired = None
            continue
        since = stamp if since is None else since
        if fired is None and stamp - since >= lasting_s * 1e6:
            fired = stamp
    return alerts if fired is None else [*alerts, (fired, None)]


def run_live(rows: list[Row], rules: list[str]) -> tuple[list[Alert], list[dict[str, Any]]]:
    """Return the alerts of rows that are being recorded, and the events that they make."""
    events: list[dict[str, Any]] = []
    found: list[Alert] = []
    output = Alerts([parse_rule(rule) for rule in rules], events.append, Clock(), lambda line: None)
    changed = output._evaluator._on_change

    def take(alert: Alert) -> None:
        changed(alert)
        if alert.ended_us is None:
            found.append(alert)

    output._evaluator._on_change = take
    for row in rows:
        output.frame(row, None)
    output.close()
    return found, events


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_live_recorded_and_independent_agree(tmp_path: Path, seed: int) -> None:
    rows = random_rows(seed)
    rules = [
        f"r{number}-{index}={condition}{lasting}"
        for number, condition in enumerate(CONDITIONS)
        for index, lasting in enumerate(TIMES)
    ]
    live, _ = run_live(rows, rules)
    fired = 0
    with dgrec.open(write_session(tmp_path / "s.parquet", rows)) as session:
        recorded = alerts_of(session, [parse_rule(rule) for rule in rules])
        assert recorded == live
        for text in rules:
            rule = parse_rule(text)
            condition = rule.text.partition(" for ")[0]
            given = [(a.fired_us, a.ended_us) for a in recorded if a.name == rule.name]
            assert given == expected(session, condition, rule.lasting_s), text
            fired += len(given)
    assert fired > 100


@pytest.mark.parametrize("seconds", ["200ms", "2s"])
def test_missing_frames(tmp_path: Path, seconds: str) -> None:
    rows = random_rows(3)
    rule = f"silent=missing {seconds}"
    live, _ = run_live(rows, [rule])
    with dgrec.open(write_session(tmp_path / "s.parquet", rows)) as session:
        assert alerts_of(session, [parse_rule(rule)]) == live
    stamps = [row.completed_ns // 1000 for row in rows]
    limit = 200_000 if seconds == "200ms" else 2_000_000
    gaps = [(a + limit, b) for a, b in itertools.pairwise(stamps) if b - a >= limit]
    assert [(alert.fired_us, alert.ended_us) for alert in live] == gaps
    assert len(gaps) > 5


def test_silence_at_the_end_is_an_alert(tmp_path: Path) -> None:
    metadata = new_metadata()
    rows = random_rows(1, 5)
    path = write_session(tmp_path / "s.parquet", rows, metadata)
    with dgrec.open(path) as session:
        # The recording ended in the same moment as its last frame.
        assert alerts_of(session, [parse_rule("silent=missing 9999h")]) == []


@pytest.mark.slow
def test_a_recording_has_its_alerts(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    log = tmp_path / "log"
    clock = Clock()
    recorder: dgrec.Recorder

    def note(event: dict[str, Any]) -> None:
        assert recorder._main is not None
        recorder._main.writer.note(event)

    said: list[str] = []
    # No shell: the text after -c is one argument of this program.
    command = ["sh", "-c", f"echo $DGREC_ALERT >> {log}"]
    rules = [parse_rule("two=count('person') >= 2")]
    output = Alerts(rules, note, clock, said.append, command)
    with dgrec.Recorder(path, outputs=[output]) as recorder:
        for count in (0, 2, 3, 1, 0, 2):
            recorder.add([make_detection(0, label="person") for _ in range(count)])
    with dgrec.open(path) as session:
        alerts = session.sql(
            "SELECT name, rule, ended IS NULL, source_frame FROM alerts"
        ).fetchall()
        assert alerts == [
            ("two", "count('person') >= 2", False, 1),
            ("two", "count('person') >= 2", True, 5),
        ]
        assert [a.source_frame for a in alerts_of(session, rules)] == [1, 5]
    assert said == ["alert two: count('person') >= 2", "alert two: over", said[0]]
    wait_until(lambda: log.exists() and log.read_text().count("two\n") == 2)


@pytest.mark.slow
def test_the_command_shows_when_rules_fire(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from dgrec.replay.commands.alerts import alerts_command

    for seed in (1, 2):
        write_session(tmp_path / f"s{seed}.parquet", random_rows(seed))
    rules = ["--alert", "two=count('person') >= 2", "--alert", "never=count() > 99"]
    sessions = [str(tmp_path / f"s{seed}.parquet") for seed in (1, 2)]
    shown = CliRunner().invoke(alerts_command, [*sessions, *rules])
    assert shown.exit_code == 0, shown.output
    assert "How often each rule fires" in shown.output
    as_json = CliRunner().invoke(alerts_command, [*sessions, *rules, "--format", "json"])
    value = json.loads(as_json.output)
    for each, path in zip(value["sessions"], sessions, strict=True):
        with dgrec.open(path) as session:
            found = alerts_of(session, [parse_rule(rules[1])])
        assert [alert["source_frame"] for alert in each["alerts"]] == [
            a.source_frame for a in found
        ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "write NAME=CONDITION"),
        ("x", "write NAME=CONDITION"),
        ("x=", "write NAME=CONDITION"),
        ("x==1", "write NAME=CONDITION"),
        ("a/b=count() > 0", "write NAME=CONDITION"),
        ("x=count('a')", "is not a comparison"),
        ("x=count('a') + 1 > 2", "is not a value"),
        ("x=count('a', 'b') > 2", "is not a value"),
        ("x=count(label='a') > 2", "is not a value"),
        ("x=speed > 2", "'speed' is not a value"),
        ("x='a' > 2", "is not a value"),
        ("x=True > 2", "is not a value"),
        ("x=__import__('os').system('x') > 1", "is not a value"),
        ("x=[y for y in ()]", "is not a comparison"),
        ("x=count() in (1, 2)", "is not a comparison"),
        ("x=((((", "is not a condition"),
        ("x=" + "(" * 400 + "1" + ")" * 400 + " > 2", "x: "),
        ("x=" + "not " * 200 + "fps > 2 or", "is not a condition"),
        ("x=fps > 1 for ever", "'ever' is not a valid time"),
        ("x=fps > 1 for 0s", "is no time at all"),
        ("x=missing", "is not a comparison"),
        ("x=missing 0s", "is no time at all"),
        ("x=" + "fps > 1 or " * 200 + "fps > 1", "is longer than 1,000 characters"),
    ],
)  # fmt: skip
def test_bad_rules_are_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_rule(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_quantiles_are_those_of_numpy_and_sort_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    latencies = np.round(chance.gamma(3, 5, 300), 1)
    latencies[[100, 120]] = 1e300, -1e300
    stamps = np.cumsum(chance.integers(0, 90_000, len(latencies)))
    wanted = []
    for at, now in enumerate(stamps):
        window = latencies[: at + 1][stamps[: at + 1] > now - 10_000_000]
        wanted.append([np.quantile(window, quantile) for quantile in (0.5, 0.99)])
    # Thousands of values, in the window of a fast model, cannot be sorted for every frame.
    monkeypatch.delattr(np, "quantile")
    rules = [parse_rule("a=latency_p50_ms > 1"), parse_rule("b=latency_p99_ms > 1")]
    evaluator = Evaluator(rules, lambda alert: None)
    found = []
    for at, (stamp, latency) in enumerate(zip(stamps.tolist(), latencies.tolist(), strict=True)):
        frame = AlertFrame(stamp, {"latency_ms": latency}, [])
        evaluator.frame(frame, at)
        found.append([evaluator._value(value, frame) for value in evaluator._wanted])
    assert found == wanted
