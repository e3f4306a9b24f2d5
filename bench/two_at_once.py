"""Start the same command twice at one moment: one wins, the other says so, and nothing is lost.

    python -m bench.two_at_once [--pairs 200] [--only recover]

Each pair are two processes that a barrier lets go together: `recover` of one journal; `query -o`,
`clip -o` and `record -o` to one name, where the two write different things. Exits with 1 at the
first pair of which both or none won, whose loser did not say why in one line, that left anything
else behind, or whose file is not exactly what the winner wrote.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from dgrec.errors import DgrecError
from dgrec.format import verify_checksums
from dgrec.recorder.cli import recover_command
from dgrec.replay.commands.clip import clip_command
from dgrec.replay.commands.query import query_command
from tests.dgrec.damage import read_all
from tests.factory import make_rows, write_journal, write_session
from tests.recorder.test_faults import FRAMES, new_recording

_FORK = multiprocessing.get_context("fork")
ROWS = 1000


@dataclass(frozen=True)
class Kind:
    """A command of which two are started: what it needs, what each does, and what is right."""

    prepare: Callable[[Path], Any]
    run: Callable[[Path, int], tuple[int, str]]
    #: What is in the folder afterwards, and whether that is what process ``winner`` wrote.
    left: set[str]
    is_right: Callable[[Path, int], bool]


def command(program: click.Command, *arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(program, [str(argument) for argument in arguments])
    error = done.exception
    if isinstance(error, DgrecError):
        return error.exit_code, str(error)
    return done.exit_code, done.output if error is None else repr(error)


def frames_of(path: Path) -> list[int]:
    rows, damage = read_all(path)
    assert damage == [], damage
    return [row["source_frame"] for row in rows]


def record(folder: Path, _: int) -> tuple[int, str]:
    try:
        new_recording(folder).run()
    except DgrecError as error:
        return error.exit_code, str(error)
    return 0, ""


KINDS = {
    "recover": Kind(
        lambda folder: write_journal(folder / "s.arrows", make_rows(ROWS), batch=30, end=False),
        lambda folder, _: command(recover_command, folder / "s.arrows"),
        {"s.parquet"},
        lambda folder, _: (
            verify_checksums(folder / "s.parquet")
            and frames_of(folder / "s.parquet") == list(range(ROWS))
        ),
    ),
    "query": Kind(
        lambda folder: write_session(folder / "s.parquet", make_rows(ROWS)),
        lambda folder, number: command(
            query_command,
            folder / "s.parquet",
            f"SELECT frame, {number} AS me FROM frames ORDER BY frame",
            "--format",
            "csv",
            "-o",
            folder / "out.csv",
        ),
        {"s.parquet", "out.csv"},
        lambda folder, winner: (
            (folder / "out.csv").read_text().splitlines()
            == ["frame,me", *(f"{frame},{winner}" for frame in range(ROWS))]
        ),
    ),
    "clip": Kind(
        lambda folder: write_session(folder / "s.parquet", make_rows(ROWS)),
        lambda folder, number: command(
            clip_command,
            folder / "s.parquet",
            "--start",
            100 * number,
            "--end",
            100 * number + 50,
            "-o",
            folder / "part.parquet",
        ),
        {"s.parquet", "part.parquet"},
        lambda folder, winner: (
            verify_checksums(folder / "part.parquet")
            and frames_of(folder / "part.parquet") == list(range(100 * winner, 100 * winner + 50))
        ),
    ),
    "record": Kind(
        lambda folder: None,
        record,
        {"s.parquet"},
        lambda folder, _: (
            verify_checksums(folder / "s.parquet")
            and frames_of(folder / "s.parquet") == list(range(FRAMES))
        ),
    ),
}


def pair(kind: Kind, folder: Path) -> str:
    """Start two at once; return what the loser said.

    Raises:
        AssertionError: Something is not right.
    """
    kind.prepare(folder)
    barrier, answers = _FORK.Barrier(2), _FORK.SimpleQueue()

    def run(number: int) -> None:
        barrier.wait(120)
        try:
            answers.put((number, *kind.run(folder, number)))
        except BaseException as error:
            answers.put((number, -1, repr(error)))
        os._exit(0)

    processes = [_FORK.Process(target=run, args=(number,)) for number in range(2)]
    for process in processes:
        process.start()
    said = sorted((answers.get() for _ in processes), key=lambda answer: answer[1])
    for process in processes:
        process.join()
    (winner, won, _), (_, lost, why) = said
    assert (won, lost) == (0, 1), said
    assert why, said
    assert "\n" not in why.strip(), said
    left = {path.name for path in folder.iterdir()}
    assert left == kind.left, left
    assert kind.is_right(folder, winner), said
    return str(why).replace(str(folder), "")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--only", choices=KINDS)
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else KINDS:
        if name == "record":
            import degirum_tools  # noqa: F401 - once, not in every process

        reasons: collections.Counter[str] = collections.Counter()
        started = time.monotonic()
        for number in range(arguments.pairs):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    reasons[pair(KINDS[name], Path(folder))] += 1
                except AssertionError as error:
                    print(f"{name}, pair {number}: {error}")
                    return 1
        seconds = time.monotonic() - started
        print(f"{name}: {arguments.pairs} pairs, one won in each ({seconds:.0f} s)")
        for reason, count in reasons.most_common():
            print(f"  {count:4} lost: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
