"""Alerts of random recordings and rules: live, from the recording, and by a third evaluation.

    python -m bench.alerts [--recordings 1000]

Every start and end has to be the same. The third evaluation is that of tests/alert_cases.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from tests.alert_cases import outcome_of

RULES = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=1000)
    count = parser.parse_args().recordings
    found: Counter[str] = Counter()
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(count):
            outcome = outcome_of(Path(folder), seed, rules=RULES)
            found += outcome.alerts
            if outcome.problem:
                problems.append(outcome.problem)
    kinds = ", ".join(f"{kind} {number:,}" for kind, number in found.most_common())
    print(f"{count:,} recordings, {count * RULES:,} rules, {found.total():,} alerts: {kinds}")
    print(f"{len(problems):,} recordings differ")
    for problem in problems[:10]:
        print(problem[:1000])
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    main()
