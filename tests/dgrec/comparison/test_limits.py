"""Conditions for CI: what they mean, and what is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.comparison import (
    Agreement,
    ComparedSession,
    Comparison,
    MetricRow,
    Outcome,
    Value,
    Verdict,
    check_limits,
    parse_limit,
)
from dgrec.errors import ConfigError
from tests.factory import make_rows, write_session


def row(
    metric: str,
    base: float | None,
    new: float | None,
    significant: bool = True,
    p_value: float | None = None,
) -> MetricRow:
    is_told = base is not None and new is not None
    if p_value is None:
        p_value = 0.01 if significant else 0.3
    return MetricRow(
        metric=metric,
        unit="ms",
        less_is_better=True,
        base=Value(base),
        new=Value(new),
        change=None,
        change_low=-0.1 if is_told else None,
        change_high=0.1 if is_told else None,
        p_value=p_value if is_told else None,
        is_significant=significant,
        verdict=Verdict.SLOWER if significant else Verdict.UNCLEAR,
        reason=None if significant else "it may be chance",
    )


def comparison(
    *rows: MetricRow, agreement: Agreement | None = None, dropped: int = 7
) -> Comparison:
    def recording(lost: int, frames: int) -> ComparedSession:
        return ComparedSession("x", "id", frames, 0, True, {"camera": lost}, lost, 0, 100, 100.0)

    return Comparison(
        base=(recording(2, 100),),
        new=(recording(dropped, 75),),
        differences=(),
        has_same_footage=agreement is not None,
        pairs=0,
        rows=rows,
        agreement=agreement,
    )


def outcome_of(text: str, found: Comparison) -> Outcome:
    (outcome,) = check_limits([parse_limit(text)], found)
    return outcome


SLOWER = comparison(row("latency_p95_ms", 20.0, 23.0), row("latency_p50_ms", 10.0, 9.0))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("latency_p95_ms > +10%", True),
        ("latency_p95_ms > +15%", False),
        ("latency_p95_ms >= +15%", True),
        ("latency_p95_ms > +2ms", True),
        ("latency_p95_ms>+2 ms", True),
        ("latency_p95_ms > +2500us", True),
        ("latency_p95_ms > +0.003s", False),
        ("latency_p95_ms > +3.5", False),
        ("latency_p95_ms > +10% and > +2ms", True),
        ("latency_p95_ms > +10% and > +5ms", False),
        ("latency_p95_ms > +50% or > +2ms", True),
        ("latency_p95_ms > +50% or latency_p50_ms < -5%", True),
        ("latency_p95_ms > +50% and > +2ms or latency_p50_ms > 8ms", True),
        ("latency_p50_ms > 8ms and > 9.5ms", False),
        ("latency_p95_ms > 22", True),
        ("latency_p95_ms > 1 AND < 30", True),
        ("dropped > +4", True),
        ("dropped > +5", False),
        ("dropped > +100%", True),
        ("dropped > 7", False),
        ("frames < -10%", True),
        ("frames < -30%", False),
        ("frames < 80", True),
        ("frames_compared < 100", False),
        ("latency_p95_ms > 2.2e1", True),
        ("latency_p95_ms > .5s", False),
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    outcome = outcome_of(text, SLOWER)
    assert (outcome.holds, outcome.doubtful) == (holds, ())


def test_chance_fails_nothing_and_is_said() -> None:
    unclear = comparison(row("latency_p95_ms", 20.0, 23.0, significant=False))
    outcome = outcome_of("latency_p95_ms > +10%", unclear)
    assert not outcome.holds
    assert outcome.doubtful == ("latency_p95_ms > +10%: +15%, but it may be chance",)
    assert outcome_of("latency_p95_ms > +20%", unclear).doubtful == ()
    # What NEW was is no question of chance.
    assert outcome_of("latency_p95_ms > 22ms", unclear).holds


def test_agreement() -> None:
    counts = {**dict.fromkeys(Agreement().counts, 0), "same": 9}
    found = comparison(agreement=Agreement(frames=5, base=10, new=12, counts=counts, mean_iou=0.9))
    assert outcome_of("agreement < 0.82", found).holds
    assert not outcome_of("agreement < 0.81", found).holds
    assert outcome_of("recall <= 0.9 and precision <= 0.75", found).holds
    assert outcome_of("mean_iou < 0.95", found).holds


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "nothing more where a metric should be"),
        ("latency > +1%", "'latency' is not a metric; there are throughput_fps, read_p50_ms,"),
        ("latency_p95_ms", "nothing more where < <= > >="),
        ("latency_p95_ms = 5", "'= 5' where a condition should be"),
        ("latency_p95_ms > fast", "'fast' where a number should be"),
        ("latency_p95_ms > 10%", "write +10% (or -10%)"),
        ("agreement < 99%", "write 0.99"),
        ("latency_p95 > +1%", "'latency_p95' is not a metric; did you mean latency_p95_ms"),
        ("latency_p95_ms > +2fps", "latency_p95_ms is not in 'fps'; write ms or us or s or %"),
        ("throughput_fps < 20ms", "throughput_fps is not in 'ms'; write frames/s or fps"),
        ("agreement < 0.9ms", "agreement is not in 'ms'; write a number without a unit"),
        ("latency_p95_ms > +1% xor > 5", "'xor' where 'and' or 'or' should be"),
        ("latency_p95_ms > +1% and", "nothing more where"),
        ("> +1%", "'>' where a metric should be"),
    ],
)
def test_what_is_no_condition(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_limit(text)
    message = str(error.value)
    assert complaint.replace("< <= > >=", "<, <=, > or >= should be") in message
    assert "\n" not in message


def test_a_condition_on_nothing_is_no_pass() -> None:
    missing = comparison(row("latency_p95_ms", None, 5.0, significant=False))
    outcome = outcome_of("latency_p95_ms > +5%", missing)
    assert not outcome.holds
    assert outcome.problem == "latency_p95_ms > +5%: unknown: it may be chance"
    outcome = outcome_of("agreement < 1", SLOWER)
    assert outcome.problem is not None
    assert "all sessions saw the same file" in outcome.problem
    # What is known decides where it can.
    known = outcome_of("agreement < 1 and latency_p95_ms > +90%", SLOWER)
    assert (known.holds, known.problem) == (False, None)
    known = outcome_of("agreement < 1 or latency_p95_ms > +1%", SLOWER)
    assert (known.holds, known.problem) == (True, None)


def test_too_few_frames_are_no_pass() -> None:
    """No interval, no answer: neither where the change looks large, nor where it looks small."""
    few = replace(
        row("latency_p95_ms", 20.0, 60.0, significant=False), change_low=None, p_value=None
    )
    for text in ("latency_p95_ms > +10%", "latency_p95_ms > +900%"):
        outcome = outcome_of(text, comparison(few))
        assert (outcome.holds, outcome.doubtful) == (False, ())
        assert outcome.problem == f"{text}: unknown: it may be chance"
    # The value of NEW is there, whatever the change.
    assert outcome_of("latency_p95_ms > 50", comparison(few)).holds


def test_holm_takes_the_metrics_asked_for() -> None:
    """0.02 is not told among 17 rows, but where a build asks for this one, or for two."""
    others = [row(m, 10.0, 10.0, False, 0.9) for m in ("latency_p50_ms", "read_p50_ms")]
    found = comparison(row("latency_p95_ms", 20.0, 23.0, False, 0.02), *others)
    asked = "latency_p95_ms > +10%"
    assert outcome_of(asked, found).holds
    assert outcome_of(f"{asked} or latency_p50_ms > +10%", found).holds
    third = "latency_p50_ms > +10% or read_p50_ms > +10%"
    outcomes = check_limits([parse_limit(asked), parse_limit(third)], found)
    assert not any(outcome.holds for outcome in outcomes)
    assert outcomes[0].doubtful == (
        f"{asked}: +15%, but may be chance, as one of 3 metrics asked for (Holm)",
    )
    # A value is no question of chance, and asks for no share.
    value = "latency_p50_ms > 90 or read_p50_ms > 90"
    outcomes = check_limits([parse_limit(asked), parse_limit(value)], found)
    assert [outcome.holds for outcome in outcomes] == [True, False]


def test_nothing_to_compare_is_no_agreement() -> None:
    def problem(text: str, **counts: Any) -> str | None:
        return outcome_of(text, comparison(agreement=Agreement(**counts))).problem

    arrays = {"frames": 5, "not_compared": 5}
    told = "agreement < 0.9: unknown: "
    assert problem("agreement < 0.9", **arrays) == told + "none of the results can be compared"
    assert problem("agreement < 0.9") == told + "no frame is in both"
    told = "precision < 0.9: unknown: "
    assert problem("precision < 0.9", frames=5, base=3) == told + "NEW has no detections"
    told = "recall < 0.9: unknown: "
    assert problem("recall < 0.9", frames=5, new=3) == told + "BASE has no detections"


@pytest.mark.slow
def test_every_metric_of_a_comparison_can_be_named(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(200))
    found = dgrec.compare(path, path)
    for one in found.rows:
        assert not outcome_of(f"{one.metric} > +1%", found).holds
    value: dict[str, Any] = found.to_dict()
    assert [entry["metric"] for entry in value["rows"]] == [one.metric for one in found.rows]
