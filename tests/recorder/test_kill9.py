"""kill -9 at any moment: what had reached the disk is there, unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.kill9 import look, rows_of
from tests.factory import write_journal, write_session
from tests.waiting import PATIENCE_S

_ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_few_dozen_killed_recordings() -> None:
    # In a process of its own: recordings are forked, and this one may have threads by now. A second
    # holds where a thread that wakes up every half a second gets its turn: not on a busy machine.
    options = "--count 30 --jobs 4 --seed 7 --most-lost 30"
    done = subprocess.run(
        [sys.executable, "-m", "bench.kill9", *options.split()],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 recordings killed, seed 7: none unreadable" in done.stdout
    assert "killed at record" in done.stdout
    assert "killed at seal" in done.stdout


# --- the bench itself must notice ---

SECOND = 10**9


@pytest.mark.parametrize(
    ("age_s", "problem"), [(0.6, ""), (1.5, "too much lost")], ids=["in time", "too old"]
)
def test_it_notices_rows_that_are_missing(tmp_path: Path, age_s: float, problem: str) -> None:
    rows = rows_of(1, 20)
    write_journal(tmp_path / "s.arrows", rows[:10], batch=5, end=False)
    # A row every 10 ms, the first missing one handed over `age_s` before the kill.
    stamps = [i * 10_000_000 for i in range(20)]
    outcome = look(tmp_path, rows, stamps, stamps[10] + int(age_s * SECOND))
    assert (outcome.kept, outcome.problem) == (10, problem)
    assert outcome.lost_s == pytest.approx(age_s)


def test_it_notices_rows_that_are_altered(tmp_path: Path) -> None:
    given, written = rows_of(1, 20), rows_of(1, 20)
    written[7].results[0]["score"] += 1e-9
    write_session(tmp_path / "s.parquet", written)
    outcome = look(tmp_path, given, [1] * 20, SECOND)
    assert "rows are not those given" in outcome.problem


def test_it_notices_a_session_that_cannot_be_read(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", rows_of(1, 20))
    path.write_bytes(path.read_bytes()[:-1])
    outcome = look(tmp_path, rows_of(1, 20), [1] * 20, SECOND)
    assert outcome.problem.startswith("unreadable")
