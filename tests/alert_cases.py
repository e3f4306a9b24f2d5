"""Random recordings and rules of alerts, and when each has to fire: by an evaluation of its own.

The evaluation reads a session's table, and shares no code with `dgrec.alerts`: conditions are
trees of plain Python, events are counted from what degirum_tools' documentation says of them.
"""

from __future__ import annotations

import json
import math
import operator
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

import dgrec
from dgrec.alerts import Alert, Rule, alerts_of, parse_rules
from dgrec.clock import Clock
from dgrec.format import Row, json_values, utc_text
from dgrec.recorder.outputs import Alerts
from tests.factory import START_NS, make_detection, make_row, write_session

__all__ = ["Outcome", "live_alerts", "outcome_of", "random_rows"]

MS = 1_000_000
LABELS = ("person", "car", None)
ZONES = ("door", "yard")
NUMBERS = ("latency_ms", "read_ms", "inference_ms", "dropped_before", "skipped_before")
#: Of inference; what a column of numbers does not hold is unknown.
DURATIONS = (7.5, 12, 31.0, 80.5, math.nan, "9", np.float32(9), 10**400, True)
LASTING = ("", " for 50ms", " for 1s")
SECONDS = {"": 0.0, " for 50ms": 0.05, " for 1s": 1.0}
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
EVENT_COMPARISONS = {
    "is less than": "<",
    "is less than or equal to": "<=",
    "is greater than": ">",
    "is greater than or equal to": ">=",
    "is equal to": "==",
    "is not equal to": "!=",
}


class Fired(NamedTuple):
    """When a rule fired and ended, in microseconds since 1970; None: not until the end."""

    fired_us: int
    ended_us: int | None


# --- recordings --------------------------------------------------------------------------------


def random_rows(chance: random.Random, count: int = 150) -> list[Row]:
    """Return rows with gaps, losses, unknown latencies, and detections that come and go."""
    rows, captured = [], START_NS
    has_zones, is_text = chance.random() < 0.7, chance.random() < 0.5
    for number in range(count):
        captured += chance.choice((20, 33, 33, 40, 300, 2500)) * MS + chance.randrange(1000)
        latency = chance.randrange(5 * MS, 60 * MS)
        found: list[Any] = []
        for _ in range(chance.choice((0, 1, 2, 3, 5))):
            score = chance.choice((chance.random(), np.float32(chance.random()), math.nan, None))
            item = make_detection(number, label=chance.choice(LABELS), score=score)
            found.append({key: value for key, value in item.items() if value is not None})
        found += chance.choice(([], [], ["no detection"]))
        added = _added(chance) if has_zones and chance.random() < 0.95 else None
        rows.append(
            make_row(
                number,
                found,
                captured_ns=captured,
                completed_ns=captured + latency,
                is_capture_known=chance.random() < 0.9,
                timing={"CoreInferenceDuration_ms": chance.choice(DURATIONS)},
                # A recorder has the text, `dgrec.alerts` takes both.
                attributes=json_values.dumps(added) if added and is_text else added,
                dropped_queue=chance.choice((0, 0, 0, 2)),
                skipped_before=number % 3,
            )
        )
        captured += latency
    return rows


def _added(chance: random.Random) -> dict[str, Any]:
    """Return what a ZoneCounter and a LineCounter might say of a frame."""
    from degirum_tools.analyzers.line_count import LineCounts, SingleLineCounts

    zones = [{label: chance.randrange(3) for label in ("person", "car")} for _ in ZONES]
    line = LineCounts()
    line.left, line.right, line.top = (chance.randrange(4) for _ in range(3))
    line.for_class["car"] = SingleLineCounts()
    line.for_class["car"].left = line.left
    return {"zone_counts": dict(zip(ZONES, zones, strict=True)), "line_counts": [line]}


# --- rules -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RandomRule:
    """A rule as `--alert` takes it, and when it has to fire.

    Args:
        text: NAME=RULE; "" for an event.
        event: Of an EventDetector.
        kind: What is counted together.
        expected: Returns when it fires in the frames of a session, which ended at a time.
    """

    name: str
    text: str
    event: dict[str, Any] | None
    kind: str
    expected: Callable[[Sequence[Frame], int], list[Fired]]


@dataclass(frozen=True)
class Frame:
    """A frame, as the session's table has it."""

    at_us: int
    numbers: dict[str, float | None]
    #: (label, score) of each result; None where there is none.
    found: list[tuple[str | None, float | None]]
    zones: dict[str, dict[str, int]] | None
    lines: list[dict[str, Any]] | None
    window: Sequence[Frame] = ()


#: Returns whether a condition holds; None: nobody knows.
Condition = Callable[[Frame], bool | None]


def random_rules(chance: random.Random, count: int) -> list[RandomRule]:
    kinds = (_condition_rule, _condition_rule, _event_rule, _missing_rule)
    return [chance.choice(kinds)(chance, f"rule {number}") for number in range(count)]


def _missing_rule(chance: random.Random, name: str) -> RandomRule:
    limit_ms = chance.choice((50, 100, 350, 2500))

    def expected(frames: Sequence[Frame], ended_us: int) -> list[Fired]:
        stamps: list[int | None] = [frame.at_us for frame in frames]
        ends = [*stamps[1:], None]
        return [
            Fired(at + limit_ms * 1000, end)
            for at, end in zip(stamps, ends, strict=True)
            if at is not None and (ended_us if end is None else end) - at >= limit_ms * 1000
        ]

    return RandomRule(name, f"{name}=missing {limit_ms}ms", None, "silence", expected)


def _condition_rule(chance: random.Random, name: str) -> RandomRule:
    text, holds = _condition(chance, 3)
    lasting = chance.choice(LASTING)

    def expected(frames: Sequence[Frame], _: int) -> list[Fired]:
        truths = [(frame.at_us, holds(frame) is True) for frame in frames]
        return _stretches(truths, SECONDS[lasting] * 1e6)

    return RandomRule(name, f"{name}={text}{lasting}", None, "condition", expected)


def _stretches(truths: Sequence[tuple[int, bool]], lasting_us: float) -> list[Fired]:
    alerts: list[Fired] = []
    since = fired = None
    for stamp, is_so in truths:
        if not is_so:
            if fired is not None:
                alerts.append(Fired(fired, stamp))
            since = fired = None
            continue
        since = stamp if since is None else since
        if fired is None and stamp - since >= lasting_us:
            fired = stamp
    return alerts if fired is None else [*alerts, Fired(fired, None)]


def _condition(chance: random.Random, depth: int) -> tuple[str, Condition]:
    kind = chance.choice(
        ("and", "or", "not", "compare", "compare", "chain") if depth else ("chain",)
    )
    if kind in ("and", "or"):
        (one, holds), (other, also) = (_condition(chance, depth - 1) for _ in range(2))
        joined = _both if kind == "and" else _either
        return f"({one}) {kind} ({other})", lambda frame: joined(holds(frame), also(frame))
    if kind == "not":
        one, holds = _condition(chance, depth - 1)
        return f"not ({one})", lambda frame: _opposite(holds(frame))
    left, value = _number(chance)
    symbol, limit = chance.choice([*COMPARISONS]), chance.choice((0, 1, 2, 0.5, 12, 30, 52))
    if kind == "compare":
        return f"{left} {symbol} {limit}", lambda frame: _compared(symbol, value(frame), limit)
    second, last = chance.choice([*COMPARISONS]), chance.choice((3, 0.9, 40, 1e3))
    return (
        f"{limit} {symbol} {left} {second} {last}",
        lambda frame: _both(
            _compared(symbol, limit, value(frame)), _compared(second, value(frame), last)
        ),
    )


def _compared(symbol: str, one: float | None, other: float | None) -> bool | None:
    return None if one is None or other is None else bool(COMPARISONS[symbol](one, other))


def _opposite(value: bool | None) -> bool | None:
    return None if value is None else not value


def _both(one: bool | None, other: bool | None) -> bool | None:
    return False if one is False or other is False else (None if None in (one, other) else True)


def _either(one: bool | None, other: bool | None) -> bool | None:
    return _opposite(_both(_opposite(one), _opposite(other)))


def _number(chance: random.Random) -> tuple[str, Callable[[Frame], float | None]]:
    kind = chance.choice(("count", "best", "row", "quantile", "fps"))
    if kind in ("count", "best"):
        label = chance.choice(("person", "car", None))
        text = f"{kind}({'' if label is None else repr(label)})"
        return text, lambda frame: (_count if kind == "count" else _best)(frame, label)
    if kind == "row":
        name = chance.choice(NUMBERS)
        return name, lambda frame: frame.numbers[name]
    if kind == "fps":
        return "fps", _rate
    stage, quantile = chance.choice(("latency", "inference")), chance.choice((50, 90, 95, 99))

    def of_window(frame: Frame) -> float | None:
        values = [each.numbers[f"{stage}_ms"] for each in frame.window]
        known = [value for value in values if value is not None]
        return float(np.quantile(known, quantile / 100)) if known else None

    return f"{stage}_p{quantile}_ms", of_window


def _count(frame: Frame, label: str | None) -> float:
    found = [each for each in frame.found if each is not NO_DETECTION]
    return sum(label is None or each[0] == label for each in found)


def _best(frame: Frame, label: str | None) -> float | None:
    scores = [score for each, score in frame.found if label is None or each == label]
    return max((score for score in scores if score is not None), default=None)


def _rate(frame: Frame) -> float | None:
    span = frame.window[-1].at_us - frame.window[0].at_us
    return (len(frame.window) - 1) / span * 1e6 if span else None


# --- events ------------------------------------------------------------------------------------


def _event_rule(chance: random.Random, name: str) -> RandomRule:
    metric = chance.choice(("ObjectCount", "ZoneCount", "LineCount"))
    classes = chance.choice((None, ["person"], ["car", "person"], ["bird"]))
    settings: dict[str, Any] = {} if classes is None else {"classes": classes}
    if metric == "ObjectCount" and chance.random() < 0.5:
        settings["min score"] = chance.choice((0.25, 0.5, 0.9))
    if metric == "ZoneCount":
        settings |= chance.choice(({}, {"index": 1}, {"index": "door"}, {"index": "no such"}))
        settings |= chance.choice(({}, {"aggregation": "max"}, {"aggregation": "min"}))
    if metric == "LineCount":
        settings |= chance.choice(({}, {"directions": ["left"]}, {"directions": ["right", "top"]}))
    words = chance.choice([*EVENT_COMPARISONS])
    limit, during = (
        chance.choice((0, 1, 2, 3.5)),
        chance.choice(([1, "frame"], [4, "frames"], [1, "second"], [2.5, "seconds"])),
    )
    event = {"Trigger": name, "when": metric, words: limit, "during": during}
    event |= {"with": settings} if settings or chance.random() < 0.5 else {}
    portion = chance.choice((None, ("for at least", 50, "percent"), ("for at most", 2, "frames")))
    if portion is not None:
        event[portion[0]] = [portion[1], portion[2]]

    def expected(frames: Sequence[Frame], _: int) -> list[Fired]:
        seen: list[tuple[int, bool]] = []
        truths = []
        for frame in frames:
            value = _metric(frame, metric, settings)
            if value is None:  # the detector has not seen this frame
                truths.append((frame.at_us, False))
                continue
            seen.append((frame.at_us, COMPARISONS[EVENT_COMPARISONS[words]](value, limit)))
            truths.append((frame.at_us, _is_detected(seen, during, portion)))
        return _stretches(truths, 0)

    return RandomRule(name, "", event, metric, expected)


def _metric(frame: Frame, metric: str, settings: dict[str, Any]) -> float | None:
    classes = settings.get("classes")
    if metric == "ObjectCount":
        least = settings.get("min score")
        return sum(
            (classes is None or label in classes)
            and (least is None or (score is not None and score >= least))
            for label, score in frame.found
        )
    if metric == "LineCount":
        if frame.lines is None:
            return None
        named = settings.get("directions", ("left", "right", "top", "bottom"))
        counts = [
            line if classes is None else line["for_class"].get(label, {})
            for line in frame.lines
            for label in classes or ("any",)
        ]
        return sum(each.get(direction, 0) for each in counts for direction in named)
    index = settings.get("index")
    if frame.zones is None or (isinstance(index, str) and index not in frame.zones):
        return None
    chosen = [
        sum(count for label, count in zone.items() if classes is None or label in classes)
        for number, (zone_name, zone) in enumerate(frame.zones.items())
        if index is None or index in (number, zone_name)
    ]
    return {"sum": sum, "max": max, "min": min}[settings.get("aggregation", "sum")](chosen)


def _is_detected(
    seen: list[tuple[int, bool]], during: list[Any], portion: tuple[str, int, str] | None
) -> bool:
    length, unit = during
    kind, amount, of = portion or ("for at least", 100, "percent")
    if unit.startswith("second"):
        # degirum_tools compares seconds since 1970, as floating-point numbers.
        since = seen[-1][0] * 1000 / 1e9 - length
        window = [is_so for at, is_so in seen if at * 1000 / 1e9 >= since]
        is_full = len(window) < len(seen)
    else:
        window = [is_so for _, is_so in seen[-length:]]
        is_full = len(seen) >= length
    if of == "percent" and not is_full:
        return False
    quota = amount * len(window) / 100 if of == "percent" else amount
    return sum(window) >= quota if kind == "for at least" else sum(window) <= quota


# --- both ways, and the third ------------------------------------------------------------------

NO_DETECTION = (None, None)


def frames_of(session: dgrec.Session) -> list[Frame]:
    """Return the frames of a session from its table."""
    frames: list[Frame] = []
    for result in session:
        row = result.row
        found: list[Any] = [
            (each.get("label"), _known(each.get("score")))
            if isinstance(each, dict)
            else NO_DETECTION
            for each in result.results
        ]
        attributes = json.loads(row["attributes"]) if row["attributes"] else {}
        lines = attributes.get("line_counts")
        frames.append(
            Frame(
                round(row["completed_at"].timestamp() * 1e6),
                {name: _known(row[name]) for name in NUMBERS},
                found,
                attributes.get("zone_counts"),
                None if lines is None else [_line(line) for line in lines],
            )
        )
    for index, frame in enumerate(frames):
        window = [each for each in frames[: index + 1] if each.at_us > frame.at_us - 10_000_000]
        object.__setattr__(frame, "window", window)
    return frames


def _line(written: dict[str, Any]) -> dict[str, Any]:
    """Return the counts of a line as JSON has them, wherever its class stands."""
    (value,) = written.values()
    return (
        next(each for each in value if isinstance(each, dict)) if isinstance(value, list) else value
    )


def _known(number: float | None) -> float | None:
    return None if number is None or math.isnan(number) else float(number)


def live_alerts(
    rows: Sequence[Row], rules: Sequence[Rule], ended_us: int, chance: random.Random
) -> list[Alert]:
    """Return the alerts of rows that are being recorded, from the events that they make."""
    found: list[Alert] = []
    events: list[dict[str, Any]] = []
    output = Alerts(rules, events.append, Clock(), lambda line: None)
    changed = output._evaluator._on_change

    def take(alert: Alert) -> None:
        changed(alert)
        if alert.ended_us is None:
            found.append(alert)

    output._evaluator._on_change = take
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        output.frame(row, None)
        until = ended_us if following is None else following.completed_ns // 1000
        for _ in range(chance.randrange(3)):  # as its clock does
            output._evaluator.until(chance.randint(row.completed_ns // 1000, until))
    output._evaluator.until(ended_us)
    output.close()
    starts = [(each["text"], each["at"]) for each in events if each["kind"] == "alert"]
    assert starts == [(alert.name, utc_text(alert.fired_us * 1000)) for alert in found]
    return found


@dataclass(frozen=True)
class Outcome:
    """What the three ways gave for a recording.

    Args:
        problem: In what they differ; "" if they agree.
        alerts: How many there were, by the kind of their rule.
    """

    problem: str
    alerts: Counter[str]


def outcome_of(folder: Path, seed: int, rows: int = 40, rules: int = 8) -> Outcome:
    """Return what a random recording and random rules give."""
    chance = random.Random(seed)
    recorded, chosen = random_rows(chance, rows), random_rules(chance, rules)
    ended_ns = recorded[-1].completed_ns + chance.choice((0, 60, 400, 3000)) * MS
    texts = [each.text for each in chosen if each.text]
    if events := [each.event for each in chosen if each.event]:
        file = folder / "events.yaml"
        file.write_text(yaml.safe_dump_all(events))
        texts.append(str(file))
    parsed = parse_rules(texts)
    live = live_alerts(recorded, parsed, ended_ns // 1000, chance)
    closing = {"ended_at": utc_text(ended_ns), "end_reason": "finished"}
    path = write_session(folder / "session.parquet", recorded, closing=closing)
    with dgrec.open(path) as session:
        offline = alerts_of(session, parsed)
        frames = frames_of(session)
    path.unlink()
    problem = "" if live == offline else f"seed {seed}: live {live}, offline {offline}"
    counts: Counter[str] = Counter()
    for rule in chosen:
        given = [Fired(each.fired_us, each.ended_us) for each in live if each.name == rule.name]
        wanted = rule.expected(frames, ended_ns // 1000)
        if given != wanted:
            problem = f"seed {seed}: {rule.text or rule.event}: {given} instead of {wanted}"
        counts[rule.kind] += len(given)
    return Outcome(problem, counts)
