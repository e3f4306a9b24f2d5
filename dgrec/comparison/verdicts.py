"""The verdict on a change: faster, slower, the same, or why that is unclear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dgrec.comparison.changes import CONFIDENCE, MARGIN, Change, rounded_up


class Verdict(StrEnum):
    FASTER = "FASTER"
    SLOWER = "SLOWER"
    SAME = "SAME"
    UNCLEAR = "UNCLEAR"


@dataclass(frozen=True)
class Decision:
    """A verdict; ``reason`` says why it is UNCLEAR."""

    verdict: Verdict
    reason: str | None
    #: Whether the change is more than chance by Holm's procedure.
    is_significant: bool


def decide(changes: Sequence[Change], less_is_better: Sequence[bool]) -> list[Decision]:
    """Return the verdict on each row of a comparison.

    SAME must be shown: the whole interval is within 2% (equivalence), whatever its sign. FASTER and
    SLOWER must pass Holm's correction: over all rows together the chance of one false call is 5%.
    """
    passed = holm([change.p_value for change in changes])
    rows = len([change for change in changes if change.p_value is not None])
    return [
        Decision(*_verdict(change, less, is_significant, rows), is_significant)
        for change, less, is_significant in zip(changes, less_is_better, passed, strict=True)
    ]


def _verdict(
    change: Change, less_is_better: bool, is_significant: bool, rows: int
) -> tuple[Verdict, str | None]:
    if change.problem is not None:
        return Verdict.UNCLEAR, change.problem
    low = -1.0 if change.low is None else change.low
    high = math.inf if change.high is None else change.high
    if low >= -MARGIN and high <= MARGIN:
        return Verdict.SAME, None
    if is_significant:
        is_less = change.change is not None and change.change < 0
        return (Verdict.FASTER if is_less == less_is_better else Verdict.SLOWER), None
    if low > 0 or high < 0:
        return Verdict.UNCLEAR, f"may be chance, as one of {rows} rows (Holm)"
    return Verdict.UNCLEAR, _too_wide(low, high, change.takes)


def _too_wide(low: float, high: float, takes: str | None) -> str:
    if low <= -1 or high == math.inf:
        return "too few happened"
    if takes is not None:
        return f"there may be no change; showing {MARGIN:.0%} takes {takes}"
    # Intervals shrink with the square root of how much was recorded.
    times = (math.log((1 + high) / (1 + low)) / 2 / math.log1p(MARGIN)) ** 2
    if times <= 1:
        return "more than 2% is possible, and so is none"
    return f"there may be no change; to show 2%, record {_times(times)} as much"


def _times(factor: float) -> str:
    if factor > 1000:
        return "over 1,000 times"
    return f"{factor:.1f} times" if factor < 10 else f"{rounded_up(math.ceil(factor)):,} times"


def holm(p_values: Sequence[float | None]) -> list[bool]:
    """Return which hypotheses Holm's step-down procedure (1979) rejects, all taken together."""
    given = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    rejected = [False] * len(p_values)
    for step, (p, index) in enumerate(given):
        if p > (1 - CONFIDENCE) / (len(given) - step):
            break
        rejected[index] = True
    return rejected
