"""Kill recordings at random moments; no session may be unreadable, no second may be lost.

    python -m bench.kill9 [--count 1000] [--seed 1] [--jobs 8]

Each recording is a process of its own that hands known rows to the recorder's own writer at 60
frames a second, ends and seals, as `dgrec record` does; it is killed (SIGKILL) while it starts,
while it records, or while it seals. What it leaves is read as it is, recovered, and compared with
the rows it was given. Every row that it handed over more than a second before it was killed must
be there, unchanged. Exits with 1 at the first session of which that is not true.

The tests do the same a few dozen times.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import mmap
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import pyarrow as pa

from dgrec.errors import DgrecError
from dgrec.format import Row
from dgrec.format.encode import build_batch
from dgrec.recorder.recovery import recover
from dgrec.recorder.writing import RowWriter
from dgrec.session import open_session
from tests.factory import CLOSING, make_row, smooth_boxes
from tests.recorder.doubles import journal_of

__all__ = ["Outcome", "Phase", "look", "rows_of", "run_once"]

Phase = Literal["start", "record", "seal"]

_FPS = 60
_ROWS = 6000
#: Where the recording says in shared memory that it has come to the sealing; rows come after it.
_SEALING, _FIRST = 0, 8


@dataclass(frozen=True)
class Outcome:
    """What one killed recording left.

    ``lost_s`` is how long before the kill the oldest row that is missing had been handed over.
    """

    found: str
    given: int
    kept: int
    lost_s: float
    problem: str = ""


def rows_of(seed: int, count: int) -> list[Row]:
    found = smooth_boxes(200, 3, seed=seed % 7)
    return [make_row(i, found[i % 200], recorder_ns=seed) for i in range(count)]


def _record(folder: Path, shared: mmap.mmap, seed: int, backlog: int, frames: int) -> None:
    """Record ``backlog`` rows at once and ``frames`` at the pace of a camera; seal; say what when.

    The backlog makes sealing long enough to be hit.
    """
    rows = rows_of(seed, backlog + frames)
    journal = journal_of(folder / "s.parquet")
    writer = RowWriter(journal, policy="block")
    begun = time.monotonic()
    for i, row in enumerate(rows):
        if i >= backlog:
            time.sleep(max(0.0, begun + (i - backlog) / _FPS - time.monotonic()))
        # Before it is handed over: a row that was is never counted as not given.
        _put(shared, i, time.monotonic_ns())
        writer.put(row, journal.cutter.segment_of(row.completed_ns))
    shared[_SEALING] = 1
    writer.close()
    writer.end(CLOSING)
    journal.seal()


def _put(shared: mmap.mmap, index: int, stamp: int) -> None:
    at = _FIRST + 8 * index
    shared[at : at + 8] = stamp.to_bytes(8, "little")


def run_once(folder: Path, seed: int, phase: Phase, most_lost_s: float) -> Outcome:
    """Kill one recording in ``folder`` and look at what it leaves."""
    rng = random.Random(seed)
    frames = rng.randrange(30, 180) if phase == "record" else rng.randrange(1, 20)
    backlog = rng.randrange(500, 4000) if phase == "seal" else 0
    shared = mmap.mmap(-1, _FIRST + 8 * _ROWS)  # a child that is killed leaves what it wrote there
    child = os.fork()
    if child == 0:
        try:
            _record(folder, shared, seed, backlog, frames)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    while phase == "seal" and not shared[_SEALING] and not _has_ended(child):
        time.sleep(0.0005)
    longest = {"start": 0.03, "record": frames / _FPS, "seal": 0.15}[phase]
    time.sleep(rng.random() * longest)
    os.kill(child, signal.SIGKILL)
    killed = time.monotonic_ns()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        return Outcome("", 0, 0, 0.0, "the recording failed by itself")
    stamps = [
        int.from_bytes(shared[at : at + 8], "little") for at in range(_FIRST, _FIRST + 8 * _ROWS, 8)
    ]
    stamps = stamps[: stamps.index(0)]
    shared.close()
    return look(folder, rows_of(seed, len(stamps)), stamps, killed, most_lost_s)


def _has_ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def look(
    folder: Path, rows: list[Row], stamps: list[int], killed: int, most_lost_s: float = 1.0
) -> Outcome:
    journal, sealed = folder / "s.arrows", folder / "s.parquet"
    found = " and ".join(p.suffix[1:] for p in (journal, sealed) if p.exists()) or "nothing"
    if found == "nothing" or (not sealed.exists() and journal.stat().st_size == 0):
        # Killed before its first write: nothing was there to be lost.
        old = [stamp for stamp in stamps if killed - stamp > most_lost_s * 1e9]
        found = "an empty file" if journal.exists() else "nothing yet"
        return Outcome(found, len(rows), 0, 0.0, "rows without a file" if old else "")
    kept = -1
    try:
        for path in filter(Path.exists, (sealed, journal)):
            kept = max(kept, _check(path, rows))
        if journal.exists():
            recover(journal)
            if _check(sealed, rows) < kept:
                return Outcome(found, len(rows), kept, 0.0, "recovering lost rows")
            assert not [*folder.glob(".*")], "recovering left a temporary file"
    except (DgrecError, AssertionError) as error:
        return Outcome(found, len(rows), kept, 0.0, f"unreadable: {error}")
    lost_s = (killed - stamps[kept]) / 1e9 if kept < len(stamps) else 0.0
    problem = "too much lost" if lost_s > most_lost_s else ""
    return Outcome(found, len(rows), kept, lost_s, problem)


def _check(path: Path, rows: list[Row]) -> int:
    """Check that a session holds the first of ``rows``, unchanged; return how many."""
    with open_session(path) as session:
        table = pa.Table.from_batches(list(session.batches()), session.schema)
    kept = table.num_rows
    assert kept <= len(rows), f"{path.name}: {kept} rows of {len(rows)}"
    expected = pa.Table.from_batches([build_batch(rows[:kept], 0)]) if kept else table
    assert table.equals(expected.cast(table.schema)), f"{path.name}: rows are not those given"
    return kept


def _numbered(job: tuple[str, int, float]) -> tuple[int, Phase, Outcome]:
    folder, seed, most_lost_s = job
    phase: Phase = random.Random(-seed).choices(("start", "record", "seal"), (1, 5, 4))[0]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        return seed, phase, run_once(Path(place), seed, phase, most_lost_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=8, help="recordings at the same time")
    parser.add_argument("--most-lost", type=float, default=1.0, help="in seconds")
    arguments = parser.parse_args()
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    given = lost = 0
    lost_s: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        # A fresh process forks the recordings: it has no threads that a fork could break.
        ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool,
    ):
        first = arguments.seed * 1_000_000
        jobs = [(folder, first + i, arguments.most_lost) for i in range(arguments.count)]
        for seed, phase, outcome in pool.map(_numbered, jobs, chunksize=4):
            if outcome.problem:
                print(f"seed {seed}, {phase}: {outcome}")
                pool.shutdown(wait=False, cancel_futures=True)
                return 1
            counts[phase, outcome.found] += 1
            given += outcome.given
            lost += outcome.given - outcome.kept
            lost_s.append(outcome.lost_s)
    for (phase, found), number in sorted(counts.items()):
        print(f"killed at {phase:7} {number:5}  left {found}")
    print(f"{arguments.count} recordings killed, seed {arguments.seed}: none unreadable")
    print(f"{given:,} rows given, {lost:,} lost; the oldest lost row was {max(lost_s):.2f} s old")
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
