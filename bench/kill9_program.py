"""Kill programs that record themselves at random moments; no second may be lost.

    python -m bench.kill9_program [--count 300] [--seed 1] [--jobs 4]

Each program runs a model under `Recorder.watch`, in an own loop that adds a number to each result,
or adds its results itself; at 60 frames a second, with pauses. It is killed (SIGKILL) at a random
moment: while it starts, records, pauses or seals. What it leaves is read as it is and recovered.
Results must be those that the model gave, in order, each with the number that the loop added, and
every one that the program had more than a second before it was killed must be there.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import dgrec
from dgrec.errors import NotASessionError
from dgrec.recorder.recovery import recover
from tests.factory import make_detection
from tests.recorder.doubles import PysdkDouble

_FPS = 60
_MOST = 4000


class Outcome(NamedTuple):
    way: str
    given: int
    kept: int
    lost_s: float
    problem: str


def _frames(count: int, pause_at: int, pause_s: float) -> Iterator[Any]:
    begun = time.monotonic()
    picture = np.zeros((48, 64, 3), np.uint8)
    for number in range(count):
        time.sleep(max(0.0, begun + number / _FPS - time.monotonic()))
        if number == pause_at:
            time.sleep(pause_s)
            begun += pause_s
        yield picture


def _program(output: Path, shared: mmap.mmap, way: str, rng: random.Random) -> None:
    model = PysdkDouble("Detection", lambda index: [make_detection(index)])
    count = rng.randrange(30, 200)
    frames = _frames(count, rng.randrange(count), rng.random() * 2)
    with dgrec.Recorder(output) as recorder:
        if way == "watch":
            with recorder.watch(model):
                for number, result in enumerate(model.predict_batch(frames)):
                    result.results.append({"number": number})
                    shared[8 * number : 8 * number + 8] = time.monotonic_ns().to_bytes(8, "little")
        else:
            for number, result in enumerate(model.predict_batch(frames)):
                result.results.append({"number": number})
                recorder.add(result)
                shared[8 * number : 8 * number + 8] = time.monotonic_ns().to_bytes(8, "little")


def _run(job: tuple[str, int]) -> Outcome:
    folder, seed = job
    rng = random.Random(seed)
    way = rng.choice(("watch", "add"))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        output = Path(place) / "s.parquet"
        shared = mmap.mmap(-1, 8 * _MOST)
        child = os.fork()
        if child == 0:
            try:
                _program(output, shared, way, random.Random(seed))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        time.sleep(rng.random() * 5)
        os.kill(child, signal.SIGKILL)
        killed = time.monotonic_ns()
        os.waitpid(child, 0)
        stamps = np.frombuffer(shared, np.int64)
        stamps = stamps[: int(np.argmin(stamps != 0))].copy()
        try:
            kept = _kept(output)
        except (dgrec.DgrecError, AssertionError) as error:
            return Outcome(way, len(stamps), 0, 0.0, repr(error))
    lost_s = (killed - int(stamps[kept])) / 1e9 if kept < len(stamps) else 0.0
    return Outcome(way, len(stamps), kept, lost_s, "too much lost" if lost_s > 1 else "")


def _kept(output: Path) -> int:
    """Check what is there, as it is and recovered; return how many rows were kept."""
    journal = output.with_suffix(".arrows")
    if not output.exists():
        if not journal.exists():
            return 0
        try:
            recover(journal)
        except NotASessionError:
            assert journal.stat().st_size == 0, "a journal cannot be read"
            return 0
    with dgrec.open(output) as session:
        for number, frame in enumerate(session):
            expected = [make_detection(number), {"number": number}]
            if number == len(session) - 1 and frame.results == expected[:1]:
                continue  # killed between the result and what the loop adds
            assert frame.results == expected, f"frame {number}: {frame.results}"
        return len(session)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=4, help="programs at the same time")
    arguments = parser.parse_args()
    first = arguments.seed * 1_000_000
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool,
    ):
        jobs = [(folder, first + number) for number in range(arguments.count)]
        outcomes = list(pool.map(_run, jobs))
    for way in ("watch", "add"):
        found = [each for each in outcomes if each.way == way]
        lost = [each.lost_s for each in found if each.lost_s]
        print(
            f"{way}: {len(found)} programs, {sum(each.given for each in found):,} results, "
            f"{sum(each.given - each.kept for each in found):,} not on disk yet, "
            f"the oldest of them for {max(lost, default=0):.2f} s"
        )
    problems = [each for each in outcomes if each.problem]
    for each in problems[:10]:
        print(each)
    print(f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
