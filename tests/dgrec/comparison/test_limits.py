"""Conditions for CI: what they mean, and what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.comparison.agreement import Agreement
from dgrec.comparison.changes import Verdict
from dgrec.comparison.comparison import Comparison, Recording, Row, Value
from dgrec.comparison.limits import parse_limit
from dgrec.errors import ConfigError
from tests.factory import make_rows, write_session


def row(metric: str, base: float | None, new: float | None, significant: bool = True) -> Row:
    return Row(
        metric=metric,
        unit="ms",
        less_is_better=True,
        base=Value(base),
        new=Value(new),
        change=None,
        change_low=None,
        change_high=None,
        p_value=0.01,
        is_significant=significant,
        verdict=Verdict.SLOWER if significant else Verdict.UNCLEAR,
        reason=None if significant else "it may be chance",
    )


def comparison(*rows: Row, agreement: Agreement | None = None, dropped: int = 7) -> Comparison:
    def recording(lost: int) -> Recording:
        return Recording("x", "id", 100, 0, True, {"camera": lost}, 0, 100.0)

    return Comparison(
        base=(recording(2),),
        new=(recording(dropped),),
        differences=(),
        has_same_footage=agreement is not None,
        is_paired=False,
        rows=rows,
        agreement=agreement,
    )


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
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    outcome = parse_limit(text).check(SLOWER)
    assert (outcome.holds, outcome.doubtful) == (holds, ())


def test_chance_fails_nothing_and_is_said() -> None:
    unclear = comparison(row("latency_p95_ms", 20.0, 23.0, significant=False))
    outcome = parse_limit("latency_p95_ms > +10%").check(unclear)
    assert not outcome.holds
    assert outcome.doubtful == ("latency_p95_ms > +10%: +15%, but it may be chance",)
    assert parse_limit("latency_p95_ms > +20%").check(unclear).doubtful == ()
    # What NEW was is no question of chance.
    assert parse_limit("latency_p95_ms > 22ms").check(unclear).holds


def test_agreement() -> None:
    counts = {**dict.fromkeys(Agreement().counts, 0), "same": 9}
    found = comparison(agreement=Agreement(frames=5, base=10, new=12, counts=counts, mean_iou=0.9))
    assert parse_limit("agreement < 0.82").check(found).holds
    assert not parse_limit("agreement < 0.81").check(found).holds
    assert parse_limit("recall <= 0.9 and precision <= 0.75").check(found).holds
    assert parse_limit("mean_iou < 0.95").check(found).holds


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "nothing more where a metric should be"),
        ("latency > +1%", "'latency' is no metric; there are throughput_fps, read_p50_ms,"),
        ("latency_p95_ms", "nothing more where < <= > >="),
        ("latency_p95_ms = 5", "'= 5' where a condition should be"),
        ("latency_p95_ms > fast", "'fast' where a number should be"),
        ("latency_p95_ms > 10%", "write +10% (or -10%)"),
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
    outcome = parse_limit("latency_p95_ms > +5%").check(missing)
    assert not outcome.holds
    assert outcome.problem == "latency_p95_ms > +5%: cannot be told: it may be chance"
    outcome = parse_limit("agreement < 1").check(SLOWER)
    assert outcome.problem is not None
    assert "both saw the same file" in outcome.problem
    # What is known decides where it can.
    known = parse_limit("agreement < 1 and latency_p95_ms > +90%").check(SLOWER)
    assert (known.holds, known.problem) == (False, None)
    known = parse_limit("agreement < 1 or latency_p95_ms > +1%").check(SLOWER)
    assert (known.holds, known.problem) == (True, None)


def test_every_metric_of_a_comparison_can_be_named(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(200))
    found = dgrec.compare(path, path)
    for one in found.rows:
        assert not parse_limit(f"{one.metric} > +1%").check(found).holds
    value: dict[str, Any] = found.to_dict()
    assert [entry["metric"] for entry in value["rows"]] == [one.metric for one in found.rows]
