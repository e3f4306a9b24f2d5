"""The metrics of a comparison: a row for each, with both sides, the change and the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dgrec.comparison.blocks import Floats
from dgrec.comparison.changes import (
    Change,
    Estimate,
    Series,
    mean_estimate,
    quantile_estimate,
    rate_change,
    series_change,
    session_rate_change,
    welch_change,
)
from dgrec.comparison.samples import (
    STAGES,
    STALL_MS,
    Positions,
    Sample,
    count_stalls,
    stall_limit,
)
from dgrec.comparison.verdicts import Verdict, decide

#: Fewer frames that are the same on both sides may be the same by chance.
_MIN_PAIRS: Final = 10
_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_THROUGHPUT: Final = "throughput_fps"
STALLS: Final = "stalls_per_min"
#: Every row of a comparison, with its unit.
METRICS: Final = {
    _THROUGHPUT: "frames/s",
    **{f"{stage.removesuffix('_ms')}_{label}_ms": "ms" for stage in STAGES for label in _QUANTILES},
    STALLS: "1/min",
}


@dataclass(frozen=True)
class Value:
    """A metric of one side, with its interval (95%) where one can be given."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class MetricRow:
    """One metric. Changes are fractions of BASE: 0.1 is 10% more."""

    metric: str
    #: ``ms``, ``frames/s`` or ``1/min``.
    unit: str
    less_is_better: bool
    base: Value
    new: Value
    change: float | None
    change_low: float | None
    change_high: float | None
    p_value: float | None
    #: Whether the change is more than chance, all rows taken together (Holm).
    is_significant: bool
    verdict: Verdict
    #: Why the verdict is UNCLEAR, and how many sessions have a value, if not all do.
    reason: str | None


# --- one session a side ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    """A row before the verdicts, which take all rows."""

    metric: str
    unit: str
    less_is_better: bool
    base: Value
    new: Value
    change: Change
    #: How many sessions have a value, if not all do.
    note: str | None = None


@dataclass(frozen=True)
class Speed:
    """The result of `compare_samples`."""

    rows: tuple[MetricRow, ...]
    #: For each side: frames whose durations were compared, and the effective size of the latency.
    compared: tuple[tuple[int, float | None], ...]
    pairs: int = 0
    unpaired: tuple[int, int] = (0, 0)


def compare_samples(base: Sample, new: Sample, *, same_frames: bool = False) -> Speed:
    """Return a row for each metric of two recordings.

    Args:
        same_frames: Frames of both sides with the same ``source_frame`` are the same picture: they
            are compared in pairs. Results are counted over the same stretch of the source,
            whether or not the other side has each of them.
    """
    stretch = _stretch(base.numbered(), new.numbered()) if same_frames else None
    whole = stretch or (base, new)
    compared = whole if stretch is None else _pairs(*stretch)
    are_pairs = stretch is not None and _are_pairs(*whole)
    sizes, seconds = [len(sample) for sample in compared], [sample.second for sample in compared]
    unpaired = len(whole[0]) - sizes[0], len(whole[1]) - sizes[1]
    stages = [sample.stages for sample in compared]
    is_same = stretch is not None
    # For a day, numbers take 40 MB and times between results 60 MB: neither is needed for long.
    whole = whole[0].without_numbers(), whole[1].without_numbers()
    del base, new, stretch, compared
    measured = [_throughput(*whole, paired=are_pairs)]
    stalls = _stalls(*whole, paired=are_pairs)
    del whole
    effective: list[float | None] = []
    for name in STAGES:
        values = [of[name] for of in stages]
        # Frames without the duration are left out: what is left must still be the same frames.
        paired = is_same and np.array_equal(np.isnan(values[0]), np.isnan(values[1]))
        one, other = map(Series.of_known, values, seconds)
        del values
        measured += _stage(name, one, other, paired)
        if name == "latency_ms":
            effective = [one.effective, other.effective]
    measured.append(stalls)
    of_sides = tuple(zip(sizes, effective, strict=True))
    if not is_same:
        return Speed(_decided(measured), of_sides)
    return Speed(_decided(measured), of_sides, sizes[0], unpaired)


def _stretch(base: Sample, new: Sample) -> tuple[Sample, Sample] | None:
    """Return both sides from the first frame that both have to the last; None if there is none."""
    of_base, _ = _common(base, new)
    if not len(of_base):
        return None
    first, last = base.source_frame[of_base[[0, -1]]].tolist()
    return base.between(first, last), new.between(first, last)


def _pairs(base: Sample, new: Sample) -> tuple[Sample, Sample]:
    if base.is_ordered and np.array_equal(base.source_frame, new.source_frame):
        return base, new
    of_base, of_new = _common(base, new)
    return base.only(of_base), new.only(of_new)


def _common(base: Sample, new: Sample) -> tuple[Positions, Positions]:
    """Return the positions, on either side, of the frames that both have, by their numbers."""
    a, b = base.source_frame, new.source_frame
    if not (base.is_ordered and new.is_ordered):
        _, of_base, of_new = np.intersect1d(a, b, return_indices=True)
        return of_base, of_new
    # The same with a third of the memory, in a tenth of the time.
    at = np.searchsorted(b, a)
    is_common = at < len(b)
    is_common[is_common] = b[at[is_common]] == a[is_common]
    positions = np.uint32 if len(a) < 2**32 > len(b) else np.int64
    return np.flatnonzero(is_common).astype(positions), at[is_common].astype(positions)


def _are_pairs(base: Sample, new: Sample) -> bool:
    """Return whether the time before each result has a counterpart on the other side."""
    if not np.array_equal(base.source_frame, new.source_frame):
        return False
    return all(
        np.array_equal(np.isnan(base.times[name]), np.isnan(new.times[name]))
        for name in ("gap_ms", "step_ms")
    )


def _throughput(base: Sample, new: Sample, *, paired: bool) -> _Measured:
    gaps = base.steps, new.steps
    estimates = [_as_rate(mean_estimate(series)) for series in gaps]
    if _is_identical(*gaps, paired) and estimates[0].value is not None:
        change = Change(0.0, 0.0, 0.0)
    else:
        change = series_change(estimates[0], estimates[1], paired=paired)
    a, b = map(_value, estimates)
    return _Measured(_THROUGHPUT, "frames/s", False, a, b, change)


def _as_rate(interval: Estimate) -> Estimate:
    """Return frames a second, from the mean milliseconds from one to the next."""
    if interval.value is None:
        return Estimate(None, interval.problem)
    if interval.value <= 0:
        return Estimate(None, "no time passed from one frame to the next")
    return Estimate(
        1000 / interval.value,
        interval.problem,
        interval.influence,
        interval.variance,
        interval.block,
        up=interval.down,
        down=interval.up,
        low=None if interval.high is None else 1000 / interval.high,
        high=None if interval.low is None else 1000 / interval.low,
    )


def _stage(name: str, base: Series, new: Series, paired: bool) -> Iterator[_Measured]:
    series = base, new
    identical = _is_identical(base, new, paired)
    for label, p in _QUANTILES.items():
        estimates = [quantile_estimate(side, p) for side in series]
        values = [_value(estimate) for estimate in estimates]
        if identical:
            # Nothing is left to chance: even quantiles of too few frames did not change.
            values = [replace(v, value=s.quantile(p)) for v, s in zip(values, series, strict=True)]
            change = Change(0.0, 0.0, 0.0)
        else:
            change = series_change(estimates[0], estimates[1], paired=paired)
        metric = f"{name.removesuffix('_ms')}_{label}_ms"
        yield _Measured(metric, "ms", True, values[0], values[1], change)


def _is_identical(base: Series, new: Series, paired: bool) -> bool:
    return paired and len(base) >= _MIN_PAIRS and np.array_equal(base.values, new.values)


def _stalls(base: Sample, new: Sample, *, paired: bool) -> _Measured:
    gaps = base.gaps, new.gaps
    seconds = base.seconds, new.seconds
    usual = next((series.quantile(0.5) for series in gaps if len(series)), 0.0)
    counts = [count_stalls(series, stall_limit(usual)) for series in gaps]
    if _is_identical(*gaps, paired) and min(seconds) > 0:
        change = Change(0.0, 0.0, 0.0)
    else:
        change = rate_change(counts[0], seconds[0], counts[1], seconds[1])
    values = [
        Value(count / time * 60 if time > 0 else None)
        for (count, _), time in zip(counts, seconds, strict=True)
    ]
    return _Measured(STALLS, "1/min", True, values[0], values[1], change)


def _value(estimate: Estimate) -> Value:
    return Value(estimate.value, estimate.low, estimate.high)


def _decided(measured: Sequence[_Measured]) -> tuple[MetricRow, ...]:
    changes = [item.change for item in measured]
    decisions = decide(changes, [item.less_is_better for item in measured])
    return tuple(
        MetricRow(
            metric=item.metric,
            unit=item.unit,
            less_is_better=item.less_is_better,
            base=item.base,
            new=item.new,
            change=item.change.change,
            change_low=item.change.low,
            change_high=item.change.high,
            p_value=item.change.p_value,
            is_significant=decision.is_significant,
            verdict=decision.verdict,
            reason="; ".join(filter(None, (decision.reason, item.note))) or None,
        )
        for item, decision in zip(measured, decisions, strict=True)
    )


# --- several sessions a side -------------------------------------------------------------------


@dataclass(frozen=True)
class SessionValues:
    """One of several sessions: one value of each metric; None if it has none."""

    values: Mapping[str, float | None]
    #: Median time between two results; None if there are none.
    usual_gap_ms: float | None
    #: Times between results that may be stalls: few, unless there are few frames a second.
    long_gaps_ms: Floats
    seconds: float


def session_values(sample: Sample) -> SessionValues:
    gaps = sample.gaps
    values = {_THROUGHPUT: _as_rate(mean_estimate(sample.steps)).value}
    for name in STAGES:
        series = sample.stage(name)
        for label, p in _QUANTILES.items():
            metric = f"{name.removesuffix('_ms')}_{label}_ms"
            values[metric] = quantile_estimate(series, p).value
    return SessionValues(
        values,
        gaps.quantile(0.5) if len(gaps) else None,
        gaps.values[gaps.values > STALL_MS],
        sample.seconds,
    )


def compare_values(
    base: Sequence[SessionValues], new: Sequence[SessionValues]
) -> tuple[MetricRow, ...]:
    """Return a row for each metric of several sessions a side."""
    measured = []
    for metric, unit in METRICS.items():
        if metric == STALLS:
            continue
        a, b = (
            [value for one in side if (value := one.values[metric]) is not None]
            for side in (base, new)
        )
        parts = [
            f"of {len(values)} of {len(side)} sessions of {name}"
            for name, values, side in (("BASE", a, base), ("NEW", b, new))
            if 0 < len(values) < len(side)
        ]
        values = _side_value(a), _side_value(b)
        note = " and ".join(parts) or None
        less = metric != _THROUGHPUT
        measured.append(_Measured(metric, unit, less, *values, welch_change(a, b), note))
    return _decided([*measured, _session_stalls(base, new)])


def _session_stalls(base: Sequence[SessionValues], new: Sequence[SessionValues]) -> _Measured:
    usual = [one.usual_gap_ms for one in base if one.usual_gap_ms is not None]
    limit = stall_limit(float(np.median(usual)) if usual else 0.0)
    sides = [
        [(int(np.sum(one.long_gaps_ms > limit)), one.seconds) for one in side if one.seconds > 0]
        for side in (base, new)
    ]
    values = []
    for side in sides:
        rates = [count / seconds * 60 for count, seconds in side]
        values.append(
            Value(float(np.mean(rates)), min(rates), max(rates)) if rates else Value(None)
        )
    return _Measured(STALLS, "1/min", True, values[0], values[1], session_rate_change(*sides))


def _side_value(values: Sequence[float]) -> Value:
    """Return the geometric mean of the sessions' values, with their smallest and largest."""
    if not values:
        return Value(None)
    if min(values) <= 0:
        return Value(float(np.mean(values)), min(values), max(values))
    return Value(float(np.exp(np.mean(np.log(values)))), min(values), max(values))
