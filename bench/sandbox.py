"""The hostile statements of the tests against `dgrec query`'s reader: what each ends in.

python -m bench.sandbox
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import dgrec
from dgrec import sample
from dgrec.errors import DgrecError
from dgrec.replay.limits import bounded_memory
from dgrec.replay.query import SqlReader
from tests.replay.hostile import STATEMENTS, files_in


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timeout", type=float, default=1.0, help="seconds for a statement")
    parser.add_argument("--memory", type=int, default=300, help="megabytes for a statement")
    options = parser.parse_args()
    memory = options.memory * 10**6
    count = succeeded = changed = 0
    with tempfile.TemporaryDirectory(prefix="dgrec-sandbox-") as name:
        folder = Path(name)
        given = folder / "given.parquet"
        for file in (given, folder / "other.parquet"):
            shutil.copy(sample.SESSION, file)
        os.chdir(folder)
        before = files_in(folder)
        with (
            dgrec.open(given) as session,
            bounded_memory(memory),
            SqlReader([session], f"{memory}B", timeout=options.timeout) as reader,
        ):
            for kind, statements in STATEMENTS.items():
                print(f"\n{len(statements)} left to {kind}")
                for text in statements:
                    statement = text.replace("{session}", str(given))
                    statement = statement.replace("{target}", str(folder / "written"))
                    started = time.perf_counter()
                    try:
                        rows = sum(batch.num_rows for batch in reader.answer(statement).batches)
                        outcome = f"SUCCEEDED: {rows} rows"
                        succeeded += 1
                    except DgrecError as error:
                        outcome = str(error)
                        succeeded += "\n" in outcome
                    seconds = time.perf_counter() - started
                    if files_in(folder) != before:
                        outcome = f"CHANGED FILES: {outcome}"
                        changed += 1
                        before = files_in(folder)
                    count += 1
                    print(f"  {text[:64]:64} {seconds:5.2f} s  {outcome[:90]}")
        os.chdir("/")
    print(f"\n{count} statements: {succeeded} succeeded, {changed} changed a file")
    raise SystemExit(1 if succeeded or changed else 0)


if __name__ == "__main__":
    main()
