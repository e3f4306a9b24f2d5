"""Damage a journal and a sealed session in many ways; what is read must be right or reported.

    python -m bench.journal_damage [--count 20000] [--seed 1]

The tests do the same a few hundred times. Exits with 1 at the first wrong row, at an error that is
not dgrec's own, and at damage that nothing reports; prints the seed and the case to repeat it.
"""

from __future__ import annotations

import argparse
import collections
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.dgrec.damage import read_all, wrong_rows
from tests.factory import make_row, smooth_boxes, write_journal, write_session

Damage = Callable[[random.Random, bytes], bytes]


def flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flips(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.randrange(2, 20)):
        data = flip(rng, data)
    return data


def cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def torn_end(rng: random.Random, data: bytes) -> bytes:
    """Cut, and what was on the disk before in the place of the rest."""
    size = rng.randrange(1, 9000)
    return cut(rng, data) + rng.choice([bytes(size), b"\xff" * size, rng.randbytes(size)])


def hole(rng: random.Random, data: bytes) -> bytes:
    """A block of the disk that never arrived."""
    start = rng.randrange(len(data)) // 512 * 512
    size = rng.choice([512, 4096])
    return data[:start] + bytes(len(data[start : start + size])) + data[start + size :]


def missing_block(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data)) // 8 * 8
    return data[:start] + data[start + rng.randrange(1, 512) * 8 :]


def moved_block(rng: random.Random, data: bytes) -> bytes:
    """A part of the file once more somewhere else in it."""
    start, to = (rng.randrange(len(data)) // 8 * 8 for _ in range(2))
    block = data[start : start + rng.randrange(1, 2048) * 8]
    return data[:to] + block + data[to + len(block) * rng.randrange(2) :]


KINDS: tuple[Damage, ...] = (flip, flips, cut, torn_end, hole, missing_block, moved_block)


def is_seen(rows: int, frames: int, damage: list[str], kind: Damage, sealed: bool) -> bool:
    """Return whether the damage is reported, or cannot be: nothing is missing, or only an end.

    A journal that ends between two batches is what a killed recorder leaves.
    """
    return bool(damage) or rows == frames or (kind is cut and not sealed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rows = [make_row(i, results) for i, results in enumerate(smooth_boxes(30, 3))]
    counts: dict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(
        collections.Counter
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        forms = {
            "journal": write_journal(folder / "journal.arrows", rows, batch=3),
            "sealed": write_session(folder / "sealed.parquet", rows, batch=3),
        }
        for case in range(arguments.count):
            rng = random.Random(arguments.seed * 1_000_003 + case)
            form, kind = rng.choice([*forms]), rng.choice(KINDS)
            whole = forms[form]
            outcome = damage_once(rng, whole, kind, folder, form == "sealed")
            counts[form, kind.__name__][outcome] += 1
            if outcome == "WRONG":
                print(f"seed {arguments.seed}, case {case}: {form}, {kind.__name__}")
                return 1
    outcomes = sorted({outcome for counter in counts.values() for outcome in counter})
    print(f"{'':26}" + "".join(f"{outcome:>22}" for outcome in outcomes))
    for (form, kind_name), counter in sorted(counts.items()):
        print(f"{form:9}{kind_name:17}" + "".join(f"{counter[o]:22,}" for o in outcomes))
    print(f"{arguments.count:,} cases, seed {arguments.seed}: no wrong row, no damage unseen")
    return 0


_EXPECTED: dict[Path, list[dict[str, Any]]] = {}


def damage_once(
    rng: random.Random, whole: Path, kind: Damage, folder: Path, is_sealed: bool
) -> str:
    if whole not in _EXPECTED:
        _EXPECTED[whole] = read_all(whole)[0]
    expected = _EXPECTED[whole]
    data = whole.read_bytes()
    changed = kind(rng, data)
    path = folder / f"damaged{whole.suffix}"
    path.write_bytes(changed)
    rows, damage = read_all(path)
    problems = wrong_rows(rows, expected)
    if problems or not is_seen(len(rows), len(expected), damage, kind, is_sealed):
        print(*problems[:3], f"{len(rows)} of {len(expected)} rows, damage: {damage}", sep="\n")
        return "WRONG"
    if not rows:
        return "refused"
    return "all rows" if len(rows) == len(expected) else "some rows, reported"


if __name__ == "__main__":
    sys.exit(main())
