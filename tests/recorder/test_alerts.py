"""Alerts: live, on the recording, and by an independent evaluation, the same starts and ends."""

from __future__ import annotations

import contextlib
import enum
import itertools
import json
import math
import os
import random
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import dgrec
from dgrec.alerts import Evaluator, Rule, alerts_of, parse_rule, parse_rules
from dgrec.alerts.evaluator import AlertFrame
from dgrec.clock import Clock
from dgrec.errors import ConfigError
from dgrec.recorder.cli import record_command
from dgrec.recorder.outputs import Alerts
from dgrec.recorder.signals import StopSignals
from dgrec.replay.clip import Span, write_clip
from dgrec.replay.commands.alerts import alerts_command
from tests.alert_cases import outcome_of, random_rows
from tests.analyzed import everything, moving
from tests.factory import (
    later,
    make_detection,
    make_row,
    make_rows,
    new_metadata,
    write_session,
)
from tests.test_architecture import ROOT
from tests.waiting import PATIENCE_S, wait_until

MS = 1_000_000


@pytest.mark.slow
def test_live_recorded_and_independent_agree(tmp_path: Path) -> None:
    """See bench/alerts.py for a thousand."""
    found: Counter[str] = Counter()
    for seed in range(40):
        outcome = outcome_of(tmp_path, seed)
        assert outcome.problem == ""
        found += outcome.alerts
    assert {*found} == {"condition", "silence", "ObjectCount", "ZoneCount", "LineCount"}
    assert min(found.values()) > 20


def as_recorded(path: Path, *rules: Rule) -> list[tuple[Any, ...]]:
    """Return the alerts that a session has, and check that its rules give the same again."""
    with dgrec.open(path) as session:
        found = session.sql(
            "SELECT name, epoch_us(since), epoch_us(fired), epoch_us(ended), source_frame "
            "FROM alerts ORDER BY ALL"
        ).fetchall()
        again = [
            (each.name, each.since_us, each.fired_us, each.ended_us, each.source_frame)
            for each in alerts_of(session, list(rules))
        ]
    assert sorted(again, key=repr) == sorted(found, key=repr)
    return found


def test_a_label_that_the_model_does_not_have_is_said(tmp_path: Path) -> None:
    """A misspelt label never fires, which looks like a quiet day: live, and on recordings."""
    (tmp_path / "e.yaml").write_text(
        "Trigger: crowd\nwhen: ObjectCount\nwith: {classes: [car, lorry]}\nis greater than: 1\n"
        "during: [1, frame]\nfor at least: [1, frame]\n"
    )
    texts = ["a=count('cra') > 0 or best('car') > 2", "b=count() > 3", str(tmp_path / "e.yaml")]
    metadata = new_metadata()
    metadata["model"]["labels"] = {"0": "car", "1": "bus"}
    expected = [
        "alert a: the model has no label 'cra'; it has car, bus",
        "alert crowd: the model has no label 'lorry'; it has car, bus",
    ]
    said: list[str] = []
    Alerts(parse_rules(texts), say=said.append).start(metadata)
    assert said == expected
    path = write_session(tmp_path / "s.parquet", make_rows(3), metadata)
    done = CliRunner().invoke(
        alerts_command, [str(path), *itertools.chain(*(("--alert", text) for text in texts))]
    )
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines() == [f"{path}: {line}" for line in expected]
    # Of a program's recording, labels are unknown.
    metadata["model"]["labels"] = {}
    Alerts(parse_rules(texts), say=said.append).start(metadata)
    assert said == expected


class Kind(str, enum.Enum):  # noqa: UP042 - the text of a StrEnum is its value
    CAR = "car"


class Text(str):
    pass


class OfSomeLibrary:
    """A number that is not kept as such, as a tensor is."""

    def __float__(self) -> float:
        return 0.75


NUMBERS = (
    1,
    np.float32(0.75),
    np.array(0.75),
    Decimal("0.75"),
    Fraction(3, 4),
    OfSomeLibrary(),
    math.inf,
)
NO_NUMBERS = (
    True,
    np.True_,
    "0.9",
    b"0.9",
    Text("0.9"),
    np.str_("0.9"),
    None,
    math.nan,
    10**400,
    [0.9],
    np.array([0.9, 0.9]),
)
CARS = (Kind.CAR, Text("car"), np.str_("car"))
NO_CARS = (None, 5, b"car", ("car",), "car\ud800", np.array("car"), np.array(["car", "bus"]))


@pytest.mark.slow
def test_odd_labels_and_scores_mean_the_same_live_and_recorded(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(
        "---\n".join(
            f"Trigger: {name}\nwhen: ObjectCount\nwith: {{{chosen}}}\nis greater than: 0\n"
            "during: [1, frame]\nfor at least: [1, frame]\n"
            for name, chosen in (("event", "min score: 0.5"), ("car event", "classes: [car]"))
        )
    )
    texts = ["car=count('car') > 0", "best=best() >= 0.75", "low=best() < 0.75"]
    rules = parse_rules([*texts, str(tmp_path / "e.yaml")])
    of_cars = {"car", "car event"}
    odd: list[tuple[Any, Any, set[str]]] = [
        *(("car", score, {*of_cars, "best", "event"}) for score in NUMBERS),
        *(("car", score, of_cars) for score in NO_NUMBERS),
        *((label, 0.75, {*of_cars, "best", "event"}) for label in CARS),
        *((label, 0.75, {"best", "event"}) for label in NO_CARS),
    ]
    with watched(tmp_path / "s.parquet", *rules) as (recorder, _):
        for label, score, _ in odd:
            recorder.add([{"label": label, "score": score, "bbox": [1.0, 2.0, 3.0, 4.0]}])
            recorder.add([])  # ends the alerts
    found = {(name, frame) for name, *_, frame in as_recorded(tmp_path / "s.parquet", *rules)}
    for number, (label, score, fired) in enumerate(odd):
        assert {name for name, frame in found if frame == 2 * number} == fired, (label, score)


@contextlib.contextmanager
def watched(path: Path, *rules: Rule) -> Iterator[tuple[dgrec.Recorder, list[str]]]:
    """Record with alerts; the list gets what they say."""
    said: list[str] = []

    def note(event: dict[str, Any]) -> None:
        assert recorder._main is not None
        recorder._main.writer.note(event)

    output = Alerts(rules, note, Clock(), said.append)
    with dgrec.Recorder(path, outputs=[output]) as recorder:
        yield recorder, said


@pytest.mark.slow
def test_silence_at_the_end_is_an_alert(tmp_path: Path) -> None:
    rule = parse_rule("silent=missing 1ms")
    clock = Clock()
    with watched(tmp_path / "s.parquet", rule) as (recorder, _):
        recorder.add([make_detection(0)])
        added_ns = clock.now_ns()
        wait_until(lambda: clock.now_ns() > added_ns + 2 * MS)
    assert [each[0] for each in as_recorded(tmp_path / "s.parquet", rule)] == ["silent"]


def test_the_time_between_the_moments_of_a_clip_is_no_silence(tmp_path: Path) -> None:
    rows = [later(row, 5_000 * MS if i >= 430 else 0) for i, row in enumerate(make_rows(500))]
    rule = parse_rule("gone=missing 3s")
    with dgrec.open(write_session(tmp_path / "s.parquet", rows)) as session:
        recorded = [alert for alert in alerts_of(session, [rule]) if alert.ended_us is not None]
        write_clip(session, [Span(0, 60), Span(400, 460)], tmp_path / "clip.parquet")
    with dgrec.open(tmp_path / "clip.parquet") as clip:
        assert alerts_of(clip, [rule]) == recorded
        write_clip(clip, [Span(50, 120)], tmp_path / "again.parquet")
    with dgrec.open(tmp_path / "again.parquet") as clip:
        assert alerts_of(clip, [rule]) == recorded
    assert len(recorded) == 1


def test_a_frame_that_is_on_its_way_is_no_silence() -> None:
    clock = Clock()
    events: list[dict[str, Any]] = []
    output = Alerts([parse_rule("silent=missing 200ms")], events.append, clock, print)
    now = clock.now_ns()
    output.frame(make_row(0, completed_ns=now - 500 * MS), None)
    output._look()
    output.frame(make_row(1, completed_ns=now - 450 * MS), None)
    assert events == []
    output.frame(make_row(2, completed_ns=now - 100 * MS), None)
    assert [each["kind"] for each in events] == ["alert", "alert_end"]


# --- events of degirum_tools ---

BUSY = """
Trigger: busy
when: ZoneCount
with: {index: right, classes: [person]}
is greater than or equal to: 1
during: [3, frames]
for at least: [2, frames]
"""
MANY = """
- Trigger: crossed
  when: LineCount
  with: {classes: [person]}
  is greater than: 0
  during: [1, frame]
- Trigger: a car, for a while
  when: ObjectCount
  with: {classes: [car], min score: 0.9}
  is greater than: 0
  during: [1, microsecond]
""".replace("microsecond", "frame")


@pytest.mark.slow
def test_events_agree_with_an_event_detector_of_the_pipeline(tmp_path: Path) -> None:
    """What zones and lines said of real results is counted, live and from the recording."""
    from degirum_tools import EventDetector

    one, several = tmp_path / "busy.yaml", tmp_path / "many.yml"
    one.write_text(BUSY)
    several.write_text(MANY)
    rules = parse_rules([str(one), str(several)])
    assert [rule.name for rule in rules] == ["busy", "crossed", "a car, for a while"]
    descriptions = [yaml.safe_load(BUSY), *yaml.safe_load(MANY)]
    analyzers = [*everything()[:4], *map(EventDetector, descriptions)]
    path, seen = tmp_path / "s.parquet", []
    with watched(path, *rules) as (recorder, said):
        for result in moving(30):
            for each in analyzers:
                each.analyze(result)
            recorder.add(result)
            seen.append(set(result.events_detected))
    wanted = []
    for rule in rules:
        detected = [False, *(rule.name in each for each in seen), False]
        wanted += [
            (rule.name, frame)
            for frame, (before, now) in enumerate(itertools.pairwise(detected))
            if now and not before
        ]
    found = as_recorded(path, *rules)
    assert sorted((each[0], each[4]) for each in found) == sorted(wanted)
    assert {name for name, _ in wanted} == {rule.name for rule in rules}
    assert f"alert busy: {rules[0].text}" in said
    # What is recorded of a rule describes it.
    assert {"Trigger": "busy", **yaml.safe_load(rules[0].text)} == yaml.safe_load(BUSY)


def test_what_no_analyzer_counted_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(BUSY)
    rules = parse_rules([str(tmp_path / "r.yaml")])
    rows = [make_row(number) for number in range(3)]
    said: list[str] = []
    output = Alerts(rules, lambda event: None, Clock(), said.append)
    for row in rows:
        output.frame(row, None)
    reason = "frame 0: ZoneCounter has not seen the frame (--analyzers; docs/alerts.md)"
    assert said == [f"alert busy: {reason}"]
    failed: list[tuple[str, str]] = []
    with dgrec.open(write_session(tmp_path / "s.parquet", rows)) as session:
        assert alerts_of(session, rules, lambda *each: failed.append(each)) == []
    assert failed == [("busy", reason)]


OBJECTS = "when: ObjectCount\nis greater than: 0\nduring: [1, frame]\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file or directory"),
        ("", "describes no event"),
        ("[]", "describes no event"),
        ("x: [", "line 1: not YAML"),
        ("a: 1\n b: 2", "line 2: not YAML"),
        ("x: !!python/object:os.system {}", "line 1: not YAML"),
        ("- " * 3000, "not YAML"),
        ("\x01", "not YAML"),
        (b"\xff\xfe\xfa", "is not text in UTF-8"),
        ("#" * 2_000_000, "is larger than a file of rules"),
        ("just text", "event 1: expected an event"),
        ("[3]", "event 1: expected an event"),
        (OBJECTS, "event 1: Trigger: expected a name"),
        ("Trigger: 5\n" + OBJECTS, "event 1: Trigger: expected a name"),
        ('Trigger: "a\\nb"\n' + OBJECTS, "event 1: Trigger: expected a name"),
        ("Trigger: a", "a: needs one comparison"),
        ("Trigger: a\nis equal to: 1\n" + OBJECTS, "a: needs one comparison"),
        ("Trigger: a\nis equal to: 1\nduring: [1, frame]", "a: 'when' is a required property"),
        ("Trigger: a\nwhen: [1]\nis equal to: 1\nduring: [1, frame]", "a: [1] is not"),
        ("Trigger: a\nwhen: ObjectCount\nis equal to: 1", "a: 'during' is a required property"),
        ("Trigger: a\nwhen: ObjectCount\nis equal to: 1\nduring: [1]", "a: during: expected a"),
        ("Trigger: a\nwhen: ObjectCount\nis equal to: 1\nduring: [0, frame]", "a: Duration"),
        ("Trigger: a\nwhen: ObjectCount\nis equal to: 1\nduring: [.inf, frame]", "a: "),
        ("Trigger: a\nwhen: ObjectCount\nis equal to: 1\nduring: [1, hour]", "a: 'hour' is not"),
        ("Trigger: a\nwith: [1]\n" + OBJECTS, "a: [1] is not of type 'object'"),
        ("Trigger: a\nfor at least: 3\n" + OBJECTS, "a: for at least: expected a number"),
        ("Trigger: a\nlonger: 3\n" + OBJECTS, "('longer' was unexpected)"),
        ("Trigger: a\n2024-01-01: 3\n" + OBJECTS, "a: "),
        (OBJECTS.replace("ObjectCount", "CustomMetric") + "Trigger: a", "a: CustomMetric is"),
        (f"Trigger: a\nwith: {{classes: [{'x' * 2000}]}}\n" + OBJECTS, "a: is longer than 1,000"),
        ("Trigger: a\n" + OBJECTS + "---\nTrigger: a\n" + OBJECTS, "two rules have the name 'a'"),
    ],
)  # fmt: skip
def test_bad_files_of_events_are_refused_in_one_line(
    tmp_path: Path, content: str | bytes | None, words: str
) -> None:
    file = tmp_path / "rules.yaml"
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        parse_rules([str(file)])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_counts_of_zones_need_an_analyzer_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(BUSY)
    output = tmp_path / "s.parquet"
    shown = CliRunner().invoke(
        record_command, ["--source", "sample", "--alert", str(file), "--output", str(output)]
    )
    assert isinstance(shown.exception, ConfigError)
    assert "--alert busy: ZoneCount needs a ZoneCounter" in str(shown.exception)
    assert [each.name for each in tmp_path.iterdir()] == ["rules.yaml"]


# --- recordings ---


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
def test_commands_get_signals_and_print_beside_what_is_published(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the signals blocked of which the recorder takes note itself, only SIGKILL ended them."""
    log = tmp_path / "log"
    program = (
        "import os, pathlib, signal; print('a command', flush=True); "
        "blocked = signal.pthread_sigmask(signal.SIG_BLOCK, []); "
        f"new = pathlib.Path({str(log)!r} + '.new'); "
        "new.write_text(f'{sorted(blocked)} {os.getsid(0) == os.getpid()}'); "
        f"new.rename({str(log)!r})"
    )
    usual = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    rules = [parse_rule("any=count() >= 0")]
    output = Alerts(rules, command=[sys.executable, "-c", program])
    with StopSignals(), dgrec.Recorder(tmp_path / "s.parquet", outputs=[output]) as recorder:
        recorder.add([])
        wait_until(log.exists)
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    # A session of its own: Ctrl-C in the terminal is not for it.
    assert log.read_text() == f"{usual} True"
    printed = capfd.readouterr()
    assert "a command" not in printed.out
    assert "a command" in printed.err


_CLOSED = """
import sys, time
from pathlib import Path
import dgrec
from dgrec.alerts import parse_rule
from dgrec.recorder.outputs import Alerts
command = ["sh", "-c", "echo a command; echo > log"]
output = Alerts([parse_rule("any=count() >= 0")], command=command)
with open("file", "w+") as file, dgrec.Recorder("s.parquet", outputs=[output]) as recorder:
    assert file.fileno() == 2
    recorder.add([])
    while not Path("log").exists():
        time.sleep(0.01)
    assert Path("file").read_text() == ""
"""


@pytest.mark.slow
def test_a_command_prints_into_no_file_that_has_the_number_of_a_closed_stream(
    tmp_path: Path,
) -> None:
    program = shlex.join([sys.executable, "-c", _CLOSED])
    done = subprocess.run(
        ["sh", "-c", f"{program} 2>&-"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.slow
def test_the_command_shows_when_rules_fire(tmp_path: Path) -> None:
    from dgrec.replay.commands.alerts import alerts_command

    for seed in (1, 2):
        write_session(tmp_path / f"s{seed}.parquet", random_rows(random.Random(seed)))
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
        ("x=fps > 1 for 0s", "the time must be more than 0, not"),
        ("x=missing", "is not a comparison"),
        ("x=missing 0s", "the time must be more than 0, not"),
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
