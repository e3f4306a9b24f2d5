"""Answers of `dgrec stats --why` for pipelines whose limit is known, because it was made.

    python -m bench.limits [--findings]

Each of `tests.pipeline_simulation.LIMITS` is simulated in all its variants: on a quiet and on a
busy machine, with a slow start, for a short time. The table has what limits it and what is said;
``-`` is "cannot be told". The exit code is 1 if anything that was said is wrong.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import dgrec
from dgrec.replay.query import SqlReader
from dgrec.replay.stats import explain
from dgrec.replay.stats.pipeline import Pipeline
from tests.pipeline_simulation import LIMITS, VARIANTS, Simulated, simulate, write


def explained(simulated: Simulated, folder: Path) -> Pipeline:
    path = write(folder / "s.parquet", simulated)
    with dgrec.open(path) as session, SqlReader([session]) as reader:
        (pipeline,) = explain([session], reader)
    path.unlink()
    return pipeline


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--findings", action="store_true", help="print all that is said, too")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    print(f"{'pipeline':34} {'limit':12}", *(f"{name:18}" for name in VARIANTS))
    with tempfile.TemporaryDirectory() as folder:
        for name, (limit, pipeline) in LIMITS.items():
            cells, findings = [], []
            for variant in VARIANTS.values():
                found = explained(simulate(variant(pipeline)), Path(folder))
                verdict = "right" if found.limit == limit else "wrong"
                if found.limit is None:
                    verdict = "right" if limit is None else "cannot tell"
                counts[verdict] += 1
                mark = " WRONG" if verdict == "wrong" else ""
                cells.append(f"{found.limit or '-'}{mark}")
                findings += [f"    {finding}" for finding in found.findings]
            print(f"{name:34} {limit or '(not timed)':12}", *(f"{cell:18}" for cell in cells))
            if options.findings:
                print("\n".join(findings))
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
