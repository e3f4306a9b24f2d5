"""Recordings in parts of which only those around alerts are kept (``--keep-only alerts``)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.alerts import parse_rule
from dgrec.clock import Clock
from dgrec.errors import ConfigError
from dgrec.format import Row, cuts_of
from dgrec.paths import part_path
from dgrec.recorder.options import RecordingOptions, Retention, Splitting
from dgrec.recorder.outputs import Alerts
from dgrec.recorder.writing import Moments
from dgrec.recorder.writing import sealer as sealer_module
from dgrec.replay.stats import caveats
from dgrec.replay.verify import verify
from dgrec.units import parse_share
from tests.factory import CLOSING, START_NS, make_detection, make_row, new_metadata
from tests.recorder.doubles import journal_of, write_rows
from tests.waiting import wait_until

SECOND = 1_000_000_000
RULE = "seen=count('person') > 0"
BEFORE_S, AFTER_S = 1.5, 2.0


def rows_of(seed: int, seconds: int = 50) -> list[Row]:
    """Return ten rows a second in which persons come and go, with losses."""
    chance = random.Random(seed)
    seen = {second for second in range(seconds) if chance.random() < 0.08}
    return [
        make_row(
            number,
            [make_detection(number, label="person" if number // 10 in seen else "car")],
            captured_ns=START_NS + number * SECOND // 10,
            completed_ns=START_NS + number * SECOND // 10 + chance.randrange(1, 90) * 1_000_000,
            skipped_before=number % 2,
            dropped_queue=number % 3,
        )
        for number in range(seconds * 10)
    ]


def alerts_in(rows: list[Row]) -> list[tuple[int, int | None]]:
    """Return when each stretch of rows with a person began, and the first row after it came."""
    found: list[tuple[int, int | None]] = []
    for row in rows:
        is_on = bool(found) and found[-1][1] is None
        if row.results[0]["label"] == "person":
            if not is_on:
                found.append((row.completed_ns, None))
        elif is_on:
            found[-1] = found[-1][0], row.completed_ns
    return found


def expected(rows: list[Row], share: float) -> tuple[list[int], int]:
    """Return the numbers of the parts of a second that stay, and how many parts there were."""
    parts: dict[int, list[Row]] = {}
    for row in rows:
        parts.setdefault((row.completed_ns - rows[0].completed_ns) // SECOND, []).append(row)
    others, kept = 0, []
    for number, part in enumerate(parts.values(), 1):
        start, end = part[0].captured_ns, part[-1].completed_ns
        if any(
            fired - BEFORE_S * SECOND <= end
            and (ended is None or ended + AFTER_S * SECOND >= start)
            for fired, ended in alerts_in(rows)
        ):
            kept.append(number)
        elif number < len(parts):
            others += 1
            if share and others % 4 == 2:
                kept.append(number)
    return sorted({*kept, len(parts)}), len(parts)


def record(
    output: Path, rows: list[Row], share: float = 0.0, *, moments: Moments | None = None
) -> Any:
    """Write rows in parts of a second, as a recording with `RULE` does."""
    moments = moments or Moments(BEFORE_S, AFTER_S)
    keep = Retention(only="alerts", sample=share)
    metadata = {**new_metadata("s"), "options": {"keep_only": "alerts"}}
    journal = journal_of(
        output,
        Splitting(every_s=1, keep=keep),
        moments=moments,
        metadata=metadata,
        durability="never",
    )
    alerts = Alerts([parse_rule(RULE)], lambda _: None, Clock(), print, listeners=[moments])
    for at in range(0, len(rows), 5):
        for row in rows[at : at + 5]:
            alerts.frame(row, None)
        write_rows(journal, rows[at : at + 5])
    alerts.close()
    journal.end(CLOSING)
    assert journal.seal() == []
    return journal


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.25])
def test_exactly_the_parts_of_a_moment_stay_and_the_sample(tmp_path: Path, share: float) -> None:
    for seed in range(3):
        rows, output = rows_of(seed), tmp_path / f"{seed}.parquet"
        journal = record(output, rows, share)
        numbers, count = expected(rows, share)
        assert 1 < len(numbers) < 50
        paths = [part_path(output, number) for number in numbers]
        assert sorted(tmp_path.glob(f"{seed}-*")) == paths == journal.sealed
        assert journal.removed == count - len(numbers)
        with dgrec.open(output) as session:
            assert session.damage == []
            assert [line for line in verify(output) if "steps back" not in line] == []
            assert len(session) == journal.kept_frames
            # Every row of every moment is there.
            there = set(session.frames.column("source_frame").to_pylist())
            for fired, ended in alerts_in(rows):
                for row in rows:
                    if row.completed_ns >= fired - BEFORE_S * SECOND and (
                        ended is None or row.captured_ns <= ended + AFTER_S * SECOND
                    ):
                        assert row.source_frame in there
            kept = [row for row in rows if row.source_frame in there]
            totals = session.sql_rows(
                "SELECT count(*), sum(skipped_before), sum(dropped_before) FROM frames"
            )
            sums = sum(row.skipped_before for row in kept), sum(row.dropped_queue for row in kept)
            assert totals == [(len(kept), *sums)]
            assert session.totals["skipped"] == sums[0]
            assert session.totals["dropped"] == sums[1]
            jumps = [n for n, m in zip(numbers[1:], numbers, strict=False) if n > m + 1]
            cuts = cuts_of(session.metadata)
            assert len(cuts) == len(jumps) > 0
            assert f"{len(jumps) + 1} stretches" in " ".join(caveats(session))


def test_a_part_is_not_removed_before_it_is_known_that_no_alert_needs_it(tmp_path: Path) -> None:
    output = tmp_path / "s.parquet"
    rows = [row for row in rows_of(0) if row.results[0]["label"] == "car"][:80]
    moments = Moments(before_s=3, after_s=0)
    keep = Retention(only="alerts")
    journal = journal_of(output, Splitting(every_s=1, keep=keep), moments=moments)
    write_rows(journal, rows)
    wait_until(lambda: len(journal.sealed) >= 6)
    end_us = rows[-1].completed_ns // 1000
    # Until then nothing of the alerts is known.
    assert journal.removed == 0
    moments.reached(end_us)
    wait_until(lambda: journal.removed >= 3)
    moments.fired("late", end_us)
    moments.finish()
    journal.end(CLOSING)
    assert journal.seal() == []
    with dgrec.open(output) as session:
        first = session.row(0)["completed_at"].timestamp()
        assert end_us / 1e6 - 5 < first <= end_us / 1e6 - 3


def test_where_the_rules_failed_nothing_more_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, rows = tmp_path / "s.parquet", rows_of(1, 8)
    alerts = Alerts(
        [parse_rule(RULE)], lambda _: None, Clock(), print, listeners=[moments := Moments(1, 1)]
    )
    monkeypatch.setattr(alerts._evaluator, "frame", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        alerts.frame(rows[0], None)
    alerts.close()
    journal = record(output, rows, moments=moments_of_failed(moments))
    assert journal.removed == 0


def moments_of_failed(moments: Moments) -> Moments:
    """Return the moments as they are, which nothing more is told."""
    for name in ("fired", "ended", "reached", "finish"):
        setattr(moments, name, lambda *_: None)
    return moments


@pytest.mark.slow
def test_what_was_not_decided_when_the_recorder_was_killed_stays(tmp_path: Path) -> None:
    # As after a kill: the journals are there, and nobody ends them.
    output, rows = tmp_path / "s.parquet", rows_of(2, 12)
    keep = Retention(only="alerts")
    journal = journal_of(output, Splitting(every_s=1, keep=keep), moments=Moments(60, 0))
    write_rows(journal, rows)
    wait_until(lambda: len(journal.sealed) == 11)
    with dgrec.open(output) as session:
        assert session.frames.column("source_frame").to_pylist() == list(range(120))
    journal.close()


def test_moments_that_overlap_are_one_and_others_are_told_apart() -> None:
    moments = Moments(2, 3)
    chance, spans, now = random.Random(5), [], 0
    for _ in range(300):
        now += chance.randrange(1, 9_000_000)
        moments.fired("a", now)
        start = now
        now += chance.randrange(0, 2_000_000)
        moments.ended("a", now)
        spans.append((start - 2_000_000, now + 3_000_000))
    moments.reached(now)
    for _ in range(3000):
        start = chance.randrange(-5_000_000, now)
        end = start + chance.randrange(0, 3_000_000)
        found = any(first <= end and last >= start for first, last in spans)
        assert moments.overlap(start, end) is (found or (None if end >= now - 2_000_000 else False))


@pytest.mark.parametrize(
    "options",
    [
        {"keep_only": "alerts"},
        {"keep_only": "all", "split_every": 5},
        {"keep_sample": 0.5, "split_every": 5},
        {"keep_only": "alerts", "split_every": 5, "keep_sample": 2.0},
    ],
)
def test_options_that_exclude_each_other(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"keep.(only|sample)"):
        RecordingOptions(**options)


def test_a_program_has_no_rules(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keep_only"):
        dgrec.Recorder(tmp_path / "s.parquet", keep_only="alerts", split_every=5)


@pytest.mark.parametrize("text", ["1", "101%", "-1%", "%", "one%", "1e-3%", "nan%"])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="percent"):
        parse_share(text)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealer_module, "_CHECK_SECONDS", 0.05)
