"""The change of one metric from BASE to NEW, with its interval.

Everything is computed on logarithms, where 'twice as long' and 'half as long' are the same step,
and returned as a fraction: 0.1 is 10% more.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dgrec.comparison.blocks import (
    Floats,
    Mask,
    block_length,
    degrees_of_freedom,
    effective_size,
    mean_variance,
    ranks,
)
from dgrec.units import counted

#: The confidence of every interval.
CONFIDENCE = 0.95
#: A change whose whole interval is within this counts as no change.
MARGIN = 0.02
#: Effective samples that must lie beyond a quantile for it to be judged.
_MIN_BEYOND = 10.0
#: Seconds without a stall that show, at this confidence, that there is less than one a minute.
_NONE_SECONDS = -60 * math.log((1 - CONFIDENCE) / 2)
#: Fewer sessions a side do not show their spread.
_MIN_SESSIONS = 3
#: Sessions a side that show changes that matter (bench.calibration).
GOOD_SESSIONS = 5


class Series:
    """One duration (or interval) of each frame, in milliseconds, in the order of the frames.

    Args:
        second: How many frames there were in a second.
    """

    def __init__(self, values: Floats, second: int) -> None:
        self.values = values
        self.second = second

    @classmethod
    def of_known(cls, values: Floats, second: int) -> Series:
        """Return a series of the values that are known: not NaN."""
        is_missing = np.isnan(values)
        return cls(values[~is_missing] if is_missing.any() else values, second)

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def ordered(self) -> Floats:
        return np.sort(self.values)

    @property
    def block(self) -> int | None:
        """Frames in a block; None if the series is too short for blocks."""
        return self._correlation[0]

    @property
    def effective(self) -> float | None:
        """Effective sample size."""
        return self._correlation[1]

    @cached_property
    def _correlation(self) -> tuple[int | None, float | None]:
        if len(self) < 2:
            return None, None
        ranked = ranks(self.values)
        block = block_length(ranked, self.second)
        return block, None if block is None else effective_size(ranked, block)

    def quantile(self, p: float) -> float:
        """Return the quantile as numpy and DuckDB's ``quantile_cont`` do: interpolated."""
        position = p * (len(self) - 1)
        low = math.floor(position)
        high = min(low + 1, len(self) - 1)
        a, b = float(self.ordered[low]), float(self.ordered[high])
        return a + (b - a) * (position - low)


@dataclass(frozen=True)
class Estimate:
    """A value of one side, and how the frames move it.

    The logarithm of the value moves ``up`` and ``down`` times as far as the mean of ``influence``,
    whose variance is ``variance``: a quantile does not move the same way in both directions where
    its neighbours lie closer on one side. In the gap between two modes, that is all the difference.
    """

    value: float | None
    #: Why no interval can be given; None if one can.
    problem: str | None = None
    influence: Floats | Mask | None = None
    variance: float = 0.0
    block: int = 1
    up: float = 1.0
    down: float = 1.0
    #: Ends of the interval; None if there is none.
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Change:
    """The change of one metric, as fractions of BASE; None where it is unknown."""

    change: float | None = None
    low: float | None = None
    high: float | None = None
    #: Probability of so large a change between equal sides; for this row alone.
    p_value: float | None = None
    #: Why there is no verdict.
    problem: str | None = None
    #: What it would take to show `MARGIN`; None: more of the same frames.
    takes: str | None = None


def quantile_estimate(series: Series, p: float) -> Estimate:
    """Return a quantile with its interval.

    The share of frames below the quantile is a mean, whose variance the blocks give; how far the
    quantile moves with that share is read off the sorted values (Woodruff, JASA 47, 1952).
    """
    if not len(series):
        return Estimate(None, "not measured")
    value = series.quantile(p)
    if series.block is None or series.effective is None:
        return Estimate(value if p == 0.5 else None, _too_short(series))
    if value <= 0:
        return Estimate(value, _no_ratio(value))
    beyond = series.effective * min(p, 1 - p)
    if beyond < _MIN_BEYOND:
        frames = math.ceil(len(series) * _MIN_BEYOND / beyond)
        return Estimate(
            value if p == 0.5 else None,
            f"{beyond:.1f} effective samples beyond it, not {_MIN_BEYOND:.0f}: takes about "
            f"{rounded_up(frames):,} frames",
        )
    below = series.values <= value
    variance = mean_variance(below, series.block)
    reach = _t_quantile(degrees_of_freedom(len(series), series.block)) * math.sqrt(variance)
    low, high = max(p - reach, 0.0), min(p + reach, 1.0)
    lower, upper = series.quantile(low), series.quantile(high)
    if lower <= 0:
        return Estimate(value, "close to 0 ms: a ratio needs more")
    both = _slope(lower, upper, high - low)
    return _with_interval(
        Estimate(
            value,
            None,
            below,
            variance,
            series.block,
            up=max(both, _slope(value, upper, high - p)),
            down=max(both, _slope(lower, value, p - low)),
        )
    )


def _slope(lower: float, upper: float, shares: float) -> float:
    """Return how far the logarithm of a quantile moves with the share of frames below it."""
    return math.log(upper / lower) / shares if shares > 0 else 0.0


def mean_estimate(series: Series) -> Estimate:
    """Return the mean with its interval."""
    if not len(series):
        return Estimate(None, "not measured")
    value = float(series.values.mean())
    if series.block is None:
        return Estimate(value, _too_short(series))
    if value <= 0:
        return Estimate(value, _no_ratio(value))
    variance = mean_variance(series.values, series.block)
    # The logarithm moves by the share of the value that the mean moves by.
    return _with_interval(
        Estimate(value, None, series.values, variance, series.block, up=1 / value, down=1 / value)
    )


def _no_ratio(value: float) -> str:
    return f"is {'0' if value == 0 else 'less than 0'} ms: a ratio needs more"


def _too_short(series: Series) -> str:
    frames = counted(len(series), "frame", "is", "are")
    return f"{frames} too few: not even four blocks of neighbouring frames"


def rounded_up(count: int) -> int:
    """Return a count rounded up to two digits."""
    unit = int(10 ** max(len(str(count)) - 2, 0))
    return int(math.ceil(count / unit) * unit)


def _with_interval(estimate: Estimate) -> Estimate:
    assert estimate.influence is not None
    assert estimate.value is not None
    freedom = degrees_of_freedom(len(estimate.influence), estimate.block)
    reach = _t_quantile(freedom) * math.sqrt(estimate.variance)
    return replace(
        estimate,
        low=estimate.value * math.exp(-reach * estimate.down),
        high=estimate.value * math.exp(reach * estimate.up),
    )


def series_change(base: Estimate, new: Estimate, *, paired: bool) -> Change:
    """Return the change between two values of frames.

    Args:
        paired: Both sides measured the same frames, in the same order. Blocks then hold pairs, and
            what the content of a frame does to both sides cancels.
    """
    problems = [
        (side, estimate.problem)
        for side, estimate in (("BASE", base), ("NEW", new))
        if estimate.problem is not None
    ]
    if base.value is None or new.value is None:
        return Change(problem=_by_side(problems))
    if problems:
        return Change(_relative(base.value, new.value), problem=_by_side(problems))
    assert base.influence is not None
    assert new.influence is not None
    log_ratio = math.log(new.value / base.value)
    # The change is less than measured where BASE is more and NEW is less (MOVER: Zou and Donner,
    # Statistics in Medicine 27, 2008), and the other way round.
    slopes = [(base.up, new.down), (base.down, new.up)]
    if paired:
        block = max(base.block, new.block)
        freedoms = [degrees_of_freedom(len(base.influence), block)] * 2
        errors = [math.sqrt(mean_variance(_apart(base, b, new, n), block)) for b, n in slopes]
    else:
        known = [
            (base.variance, degrees_of_freedom(len(base.influence), base.block)),
            (new.variance, degrees_of_freedom(len(new.influence), new.block)),
        ]
        weighted = [
            [(slope**2 * v, freedom) for slope, (v, freedom) in zip(pair, known, strict=True)]
            for pair in slopes
        ]
        freedoms = [_welch_satterthwaite(parts) for parts in weighted]
        errors = [math.sqrt(sum(part for part, _ in parts)) for parts in weighted]
    return _ratio_change(log_ratio, (errors[0], errors[1]), (freedoms[0], freedoms[1]))


def _apart(base: Estimate, slope: float, new: Estimate, new_slope: float) -> Floats:
    """Return how far each pair of frames moves the two values apart."""
    assert base.influence is not None
    assert new.influence is not None
    found: Floats = np.multiply(new.influence, new_slope, dtype=np.float64)
    found -= slope * base.influence
    return found


def _by_side(problems: Sequence[tuple[str, str]]) -> str:
    """Return what is wrong with each side; once, if it is the same."""
    sides: dict[str, list[str]] = {}
    for side, problem in problems:
        sides.setdefault(problem, []).append(side)
    return "; ".join(f"{' and '.join(names)}: {problem}" for problem, names in sides.items())


def welch_change(base: Sequence[float], new: Sequence[float]) -> Change:
    """Return the change between sessions: Welch's t-test on the logarithms of their values."""
    few = _too_few_sessions(len(base), len(new))
    if not base or not new:
        return Change(problem=few)
    if min(*base, *new) <= 0:
        return Change(problem="is 0 in one of the sessions: a ratio needs more")
    logs = [np.log(np.asarray(values, np.float64)) for values in (base, new)]
    difference = float(logs[1].mean() - logs[0].mean())
    if few is not None:
        return Change(math.expm1(difference), problem=few)
    parts = [(float(x.var(ddof=1)) / len(x), float(len(x) - 1)) for x in logs]
    error, freedom = math.sqrt(sum(v for v, _ in parts)), _welch_satterthwaite(parts)
    change = _ratio_change(difference, (error, error), (freedom, freedom))
    return replace(change, takes=_sessions_to_tell(logs))


def _too_few_sessions(base: int, new: int) -> str | None:
    problems = []
    for side, count in (("BASE", base), ("NEW", new)):
        if not count:
            problems.append((side, "no session has a value"))
        elif count < _MIN_SESSIONS:
            sessions = f"{counted(count, 'session')} with a value"
            problems.append((side, f"{sessions}, {_MIN_SESSIONS} are needed"))
    return _by_side(problems) if problems else None


def _sessions_to_tell(logs: Sequence[Floats]) -> str:
    """Return how many sessions a side would make the interval as narrow as `MARGIN`."""
    variance = float(np.mean([x.var(ddof=1) for x in logs]))

    def is_enough(count: int) -> bool:
        return _t_quantile(2 * count - 2) * math.sqrt(2 * variance / count) <= math.log1p(MARGIN)

    # As many as there are were not enough.
    counts = range(max(map(len, logs)) + 1, 1001)
    at = bisect_left(counts, True, key=is_enough)
    count = f"about {counts[at]:,}" if at < len(counts) else f"over {counts[-1]:,}"
    return f"{count} sessions a side"


def session_rate_change(
    base: Sequence[tuple[int, float]], new: Sequence[tuple[int, float]]
) -> Change:
    """Return the change between sessions in the rate of rare events, of which there may be none.

    Welch's t-test on the rates themselves, as 0 has no logarithm, and Fieller's interval of
    their ratio (1954), which says the same. Three sessions that happen to agree are no proof that
    all do: rates vary at least as much as chance alone makes them (Poisson, equal on both sides).

    Args:
        base: For each session, how many events there were, and in how many seconds.
    """
    few = _too_few_sessions(len(base), len(new))
    rates = [np.array([count / seconds for count, seconds in side]) for side in (base, new)]
    a, b = (float(x.mean()) if len(x) else 0.0 for x in rates)
    if few is not None:
        return Change(_relative(a, b) if base and new else None, problem=few)
    if not a and not b:
        return _none_happened(*(sum(seconds for _, seconds in side) for side in (base, new)))
    everything = [*base, *new]
    common = sum(count for count, _ in everything) / sum(seconds for _, seconds in everything)
    parts = []
    for side, x in zip((base, new), rates, strict=True):
        chance = common * float(np.mean([1 / seconds for _, seconds in side]))
        parts.append((max(float(x.var(ddof=1)), chance) / len(x), float(len(x) - 1)))
    from scipy.special import stdtr

    freedom = _welch_satterthwaite(parts)
    error = math.sqrt(sum(v for v, _ in parts))
    reach = _t_quantile(freedom) ** 2
    below, above = a * a - reach * parts[0][0], b * b - reach * parts[1][0]
    root = a * b + math.sqrt(max((a * b) ** 2 - below * above, 0.0))
    return Change(
        _relative(a, b),
        max(above / root, 0.0) - 1 if above > 0 else -1.0,
        root / below - 1 if below > 0 else None,
        2 * float(stdtr(freedom, -abs(b - a) / error)),
        takes="more sessions",
    )


def rate_change(
    base: tuple[int, float], base_seconds: float, new: tuple[int, float], new_seconds: float
) -> Change:
    """Return the change between two rates of rare events.

    Given their sum, the events of NEW are binomial: Clopper and Pearson's interval of that share
    is, as odds, one of the ratio of the rates, exact for any counts (Przyborowski and Wilenski
    1940). Events that come in clusters count as fewer.

    Args:
        base: How many events there were, and how many independent ones that counts for.
    """
    if base_seconds <= 0 or new_seconds <= 0:
        return Change(problem="no time was recorded in which they could happen")
    if not base[0] and not new[0]:
        return _none_happened(base_seconds, new_seconds)
    from scipy.special import betainc, betaincinv

    shrink = min(independent / count for count, independent in (base, new) if count)
    a, b = base[0] * shrink, new[0] * shrink
    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(b, a + 1, tail)) if b else 0.0
    high = float(betaincinv(b + 1, a, 1 - tail)) if a else 1.0
    scale = base_seconds / new_seconds
    expected = 1 / (1 + scale)
    at_most = float(betainc(a, b + 1, 1 - expected)) if a else 1.0
    at_least = float(betainc(b, a + 1, expected)) if b else 1.0
    return Change(
        new[0] / base[0] * scale - 1 if base[0] else None,
        low / (1 - low) * scale - 1,
        high / (1 - high) * scale - 1 if high < 1 else None,
        min(1.0, 2 * min(at_most, at_least)),
    )


def _none_happened(base_seconds: float, new_seconds: float) -> Change:
    """Return no change, if both sides are long enough to show that there are hardly any events."""
    if min(base_seconds, new_seconds) >= _NONE_SECONDS:
        return Change(0.0, 0.0, 0.0)
    return Change(
        0.0,
        problem=f"none in {base_seconds:,.0f} s and {new_seconds:,.0f} s: less than one a minute "
        f"takes {_NONE_SECONDS / 60:.1f} minutes a side to show",
    )


def _relative(base: float, new: float) -> float | None:
    return new / base - 1 if base > 0 else 0.0 if base == new else None


def _ratio_change(
    log_ratio: float, errors: tuple[float, float], freedoms: tuple[float, float]
) -> Change:
    """Return a change from its standard errors (and their degrees of freedom) below and above."""
    from scipy.special import stdtr

    low, high = (
        e * _t_quantile(f) if e > 0 else 0.0 for e, f in zip(errors, freedoms, strict=True)
    )
    towards_none = 0 if log_ratio > 0 else 1
    error, freedom = errors[towards_none], freedoms[towards_none]
    if log_ratio == 0:
        p_value = 1.0
    else:
        # Values that do not vary at all leave nothing to chance: they differ.
        p_value = 2 * float(stdtr(freedom, -abs(log_ratio) / error)) if error > 0 else 0.0
    return Change(
        math.expm1(log_ratio), math.expm1(log_ratio - low), math.expm1(log_ratio + high), p_value
    )


def _welch_satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Return the degrees of freedom of a sum of (variance, degrees of freedom)."""
    below = sum(part**2 / freedom for part, freedom in parts)
    return sum(part for part, _ in parts) ** 2 / below if below > 0 else 1.0


def _t_quantile(freedom: float) -> float:
    """Return how many standard errors an interval reaches to either side."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2))
