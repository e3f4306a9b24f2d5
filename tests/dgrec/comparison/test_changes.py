"""One metric's change: intervals against scipy and a plain bootstrap, verdicts, calibration."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.stats

from bench.calibration import autoregressive, count_equal_runs, is_called, runs, sample
from dgrec.comparison import MetricRow, Verdict
from dgrec.comparison.changes import (
    Change,
    Series,
    mean_estimate,
    quantile_estimate,
    rate_change,
    series_change,
    session_rate_change,
    welch_change,
)
from dgrec.comparison.metrics import compare_samples
from dgrec.comparison.verdicts import decide

Array = np.ndarray[Any, Any]


def latencies(frames: int, seed: int, correlation: float = 0.0, median: float = 12.0) -> Array:
    rng = np.random.default_rng(seed)
    values: Array = median * np.exp(0.25 * autoregressive(correlation, rng, frames))
    return values


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.95, 0.99, 1.0])
def test_quantiles_are_numpys(p: float) -> None:
    values = latencies(997, 1)
    assert Series(values, 30).quantile(p) == pytest.approx(np.quantile(values, p), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.5, 0.95])
def test_interval_of_independent_frames_is_scipys(p: float) -> None:
    values = latencies(4000, 2)
    estimate = quantile_estimate(Series(values, 10), p)
    expected = scipy.stats.bootstrap(
        (values,),
        lambda x, axis: np.quantile(x, p, axis=axis),
        n_resamples=2000,
        rng=np.random.default_rng(3),
        batch=200,
    ).confidence_interval
    assert estimate.low is not None
    assert estimate.high is not None
    width = expected.high - expected.low
    assert estimate.low == pytest.approx(expected.low, abs=0.25 * width)
    assert estimate.high == pytest.approx(expected.high, abs=0.25 * width)


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_interval_of_a_change_is_that_of_drawn_blocks(correlation: float) -> None:
    """Against the bootstrap done: blocks drawn, quantiles of each draw, log ratio of the two."""
    p, draws, frames = 0.5, 1500, 3000
    rng = np.random.default_rng(9)
    series = [Series(latencies(frames, seed, correlation), 30) for seed in (11, 12)]
    logs = []
    for one in series:
        length = one.block
        assert length is not None
        starts = rng.integers(0, frames, (draws, math.ceil(frames / length), 1))
        drawn = one.values[(starts + np.arange(length)) % frames].reshape(draws, -1)[:, :frames]
        logs.append(np.log(np.quantile(drawn, p, axis=1)))
    expected = float((logs[1] - logs[0]).std())
    change = series_change(*(quantile_estimate(one, p) for one in series), paired=False)
    assert change.low is not None
    assert change.high is not None
    found = (math.log1p(change.high) - math.log1p(change.low)) / 2 / 1.96
    # The correction and Student's t make it wider, by no more than they should.
    assert 0.95 < found / expected < 1.35


def test_mean_interval_is_the_usual_one() -> None:
    values = np.random.default_rng(5).gamma(20, 1.0, 5000)
    estimate = mean_estimate(Series(values, 1))
    expected = scipy.stats.t.interval(0.95, 4999, values.mean(), scipy.stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx(expected, rel=0.002)


def test_sessions_are_compared_by_welchs_test() -> None:
    base, new = [10.0, 11.0, 10.5, 10.2], [12.0, 12.9, 11.5]
    change = welch_change(base, new)
    test = scipy.stats.ttest_ind(np.log(new), np.log(base), equal_var=False)
    interval = test.confidence_interval(0.95)
    assert change.p_value == pytest.approx(test.pvalue)
    assert change.low == pytest.approx(math.expm1(interval.low))
    assert change.high == pytest.approx(math.expm1(interval.high))


def test_two_sessions_a_side_tell_nothing() -> None:
    change = welch_change([1.0, 1.1, 1.2], [2.0, 2.1])
    assert change.p_value is None
    assert change.problem == "NEW: 2 sessions with a value, 3 are needed"
    assert change.change == pytest.approx(math.sqrt(2.0 * 2.1) / (1.0 * 1.1 * 1.2) ** (1 / 3) - 1)


@pytest.mark.parametrize(("base", "new"), [(10, 22), (0, 4), (5, 0), (3, 3), (40, 41)])
def test_rates_are_compared_by_the_exact_test(base: int, new: int) -> None:
    change = rate_change((base, float(base)), 60.0, (new, float(new)), 90.0)
    share = 90 / (60 + 90)
    low, high = scipy.stats.binomtest(new, base + new, share).proportion_ci(method="exact")
    assert change.low == pytest.approx(low / (1 - low) * 60 / 90 - 1)
    assert change.high == (pytest.approx(high / (1 - high) * 60 / 90 - 1) if base else None)
    less = scipy.stats.binomtest(new, base + new, share, "less").pvalue
    more = scipy.stats.binomtest(new, base + new, share, "greater").pvalue
    assert change.p_value == pytest.approx(min(1.0, 2 * min(less, more)))


def test_stalls_in_clusters_count_for_less() -> None:
    single = rate_change((10, 10.0), 60.0, (30, 30.0), 60.0)
    clustered = rate_change((10, 2.0), 60.0, (30, 15.0), 60.0)
    assert single.p_value is not None
    assert clustered.p_value is not None
    assert single.p_value < 0.01 < 0.1 < clustered.p_value


@pytest.mark.parametrize(
    ("low", "high", "p_value", "verdict"),
    [
        (-0.019, 0.019, 0.9, Verdict.SAME),
        (0.004, 0.012, 0.001, Verdict.SAME),
        (-0.019, 0.021, 0.9, Verdict.UNCLEAR),
        (0.05, 0.12, 0.0001, Verdict.SLOWER),
        (-0.12, -0.05, 0.0001, Verdict.FASTER),
        (0.001, 0.12, 0.04, Verdict.SLOWER),
    ],
)
def test_verdicts(low: float, high: float, p_value: float, verdict: Verdict) -> None:
    change = Change((low + high) / 2, low, high, p_value)
    (less_is_better,) = decide([change], [True])
    assert less_is_better.verdict is verdict
    assert (less_is_better.reason is None) == (verdict is not Verdict.UNCLEAR)
    (more_is_better,) = decide([change], [False])
    opposite = {Verdict.SLOWER: Verdict.FASTER, Verdict.FASTER: Verdict.SLOWER}
    assert more_is_better.verdict is opposite.get(verdict, verdict)


def test_holm_takes_all_rows_together() -> None:
    def changes(*p_values: float) -> list[Change]:
        return [Change(0.1, 0.01, 0.2, p) for p in p_values]

    def significant(*p_values: float) -> list[bool]:
        decisions = decide(changes(*p_values), [True] * len(p_values))
        return [decision.is_significant for decision in decisions]

    # 0.05 / 4, / 3, / 2, / 1
    assert significant(0.012, 0.016, 0.024, 0.049) == [True] * 4
    assert significant(0.049, 0.016, 0.026, 0.012) == [False, True, False, True]
    assert significant(0.013, 0.013, 0.013, 0.013) == [False] * 4
    reason = decide(changes(0.04, 0.04), [True] * 2)[0].reason
    assert reason == "may be chance, as one of 2 rows (Holm)"


def test_a_reason_says_how_much_more_would_tell() -> None:
    (decision,) = decide([Change(0.0, -0.04, 0.04, 1.0)], [True])
    # The interval has to become half as wide.
    assert decision.reason == ("there may be no change; to show 2%, record 4.1 times as much")


def test_no_p99_from_too_few_frames() -> None:
    estimate = quantile_estimate(Series(latencies(900, 4), 30), 0.99)
    assert estimate.value is None
    assert estimate.problem is not None
    assert "effective samples beyond it, not 10" in estimate.problem
    assert quantile_estimate(Series(latencies(1500, 4), 30), 0.99).problem is None
    # The frames are there, but not that much of them is independent.
    correlated = quantile_estimate(Series(latencies(1500, 4, 0.8), 30), 0.99)
    assert correlated.problem is not None


def test_pairs_cancel_what_both_sides_have() -> None:
    content, noise = latencies(1800, 6, 0.9), latencies(1800, 7, 0.0, 1.0) ** 0.1
    series = [Series(content, 30), Series(1.01 * content * noise, 30)]
    estimates = [quantile_estimate(one, 0.5) for one in series]
    apart = series_change(estimates[0], estimates[1], paired=False)
    paired = series_change(estimates[0], estimates[1], paired=True)
    assert apart.change == paired.change
    widths = [(c.high or 0) - (c.low or 0) for c in (apart, paired)]
    assert widths[1] < widths[0] / 4
    assert decide([paired], [True])[0].verdict is Verdict.SAME


def test_a_reason_names_its_side() -> None:
    whole, short, none = (Series(latencies(n, 5), 30) for n in (900, 20, 0))

    def reason(base: Series, new: Series) -> str | None:
        estimates = [quantile_estimate(one, 0.5) for one in (base, new)]
        return series_change(*estimates, paired=False).problem

    few = "20 frames are too few: not even four blocks of neighbouring frames"
    assert reason(whole, short) == f"NEW: {few}"
    assert reason(short, whole) == f"BASE: {few}"
    assert reason(short, short) == f"BASE and NEW: {few}"
    assert reason(short, none) == f"BASE: {few}; NEW: not measured"
    one = Series(np.ones(1), 30)
    assert (reason(whole, one) or "").startswith("NEW: 1 frame is too few")


# --- several sessions a side ---------------------------------------------------------------------


def test_advice_is_how_many_sessions() -> None:
    base, new = [10.0, 10.4, 9.7], [10.1, 10.5, 9.6]
    change = welch_change(base, new)
    (decision,) = decide([change], [True])
    spread = np.sqrt(np.mean([np.var(np.log(x), ddof=1) for x in (base, new)]))
    enough = next(
        n
        for n in range(3, 1000)
        if scipy.stats.t.ppf(0.975, 2 * n - 2) * spread * math.sqrt(2 / n) <= math.log(1.02)
    )
    assert decision.reason == (
        f"there may be no change; showing 2% takes about {enough} sessions a side"
    )


def minutes(*counts: int) -> list[tuple[int, float]]:
    return [(count, 60.0) for count in counts]


@pytest.mark.parametrize(
    ("base", "new", "verdict"),
    [
        ((0, 0, 0, 0), (0, 0, 0, 0), Verdict.SAME),
        ((0, 0, 0), (0, 0, 0), Verdict.UNCLEAR),  # 3 minutes may have none at one a minute
        ((0, 0, 0), (35, 36, 33), Verdict.SLOWER),
        ((35, 36, 33), (0, 0, 0), Verdict.FASTER),
        ((0, 0, 0), (1, 1, 1), Verdict.UNCLEAR),  # as many as chance makes alike
        ((0, 1, 0), (2, 0, 1), Verdict.UNCLEAR),
        ((0, 0, 0), (90, 0, 0), Verdict.UNCLEAR),  # one bad run
        ((10, 12, 11), (40, 43, 38), Verdict.SLOWER),
    ],
)
def test_rates_of_sessions(base: tuple[int, ...], new: tuple[int, ...], verdict: Verdict) -> None:
    change = session_rate_change(minutes(*base), minutes(*new))
    assert decide([change], [True])[0].verdict is verdict
    expected = sum(new) / sum(base) - 1 if sum(base) else None if sum(new) else 0.0
    assert change.change == (None if expected is None else pytest.approx(expected))
    # The interval says what the test says.
    if change.p_value is not None:
        low, high = change.low, math.inf if change.high is None else change.high
        assert low is not None
        assert (low <= 0 <= high) == (change.p_value >= 0.05)


def test_interval_of_a_rate_of_sessions_covers() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(300):
        base, new = rng.poisson(20, 5), rng.poisson(30, 5)
        change = session_rate_change(minutes(*base), minutes(*new))
        assert change.low is not None
        assert change.high is not None
        covered += change.low <= 0.5 <= change.high
    assert covered >= 280


@pytest.mark.slow
def test_runs_of_the_same_thing_are_hardly_ever_called_different() -> None:
    rng = np.random.default_rng(5)
    calls = count_equal_runs(300, partial(runs, rng, 5))
    assert calls.percent("any") <= 8
    assert calls.percent("stalls") <= 8


def test_values_that_never_vary() -> None:
    flat, more = Series(np.full(400, 10.0), 30), Series(np.full(400, 11.0), 30)
    for other, verdict in ((flat, Verdict.SAME), (more, Verdict.SLOWER)):
        change = series_change(
            quantile_estimate(flat, 0.5), quantile_estimate(other, 0.5), paired=False
        )
        assert decide([change], [True])[0].verdict is verdict


def test_zero_has_no_ratio() -> None:
    zero, some = Series(np.zeros(400), 30), Series(np.full(400, 1.0), 30)
    change = series_change(quantile_estimate(zero, 0.5), quantile_estimate(some, 0.5), paired=False)
    assert decide([change], [True])[0].reason == "BASE: is 0 ms: a ratio needs more"
    less = Series(np.full(400, -1000.0), 30)
    assert quantile_estimate(less, 0.5).problem == "is less than 0 ms: a ratio needs more"


def test_gap_between_two_modes_is_no_certainty() -> None:
    """The median of 10 ms and 20 ms in equal shares may be either: no verdict is possible."""
    rng = np.random.default_rng(2)
    called = 0
    for _ in range(60):
        sides = [
            Series(np.where(rng.random(600) < 0.5, 10.0, 20.0) + rng.random(600), 30)
            for _ in range(2)
        ]
        change = series_change(*(quantile_estimate(s, 0.5) for s in sides), paired=False)
        called += change.p_value is not None and change.p_value < 0.05
    assert called <= 6


@pytest.mark.parametrize("share", [0.48, 0.52])
def test_an_interval_reaches_into_the_other_mode(share: float) -> None:
    values = np.where(np.arange(600) * 7919 % 600 < share * 600, 20.0, 10.0)
    values = values + np.random.default_rng(3).random(600) / 100
    estimate = quantile_estimate(Series(values, 30), 0.5)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < 10.1 < 19.9 < estimate.high


# --- calibration, in short (bench.calibration has all of it) -------------------------------------


def rows_of(correlation: float, seed: int, factor: float = 1.0) -> tuple[MetricRow, ...]:
    rng = np.random.default_rng(seed)
    process = partial(autoregressive, correlation)
    sides = sample(process, rng, 1800), sample(process, rng, 1800, factor)
    return compare_samples(*sides).rows


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 0.97])
def test_equal_runs_are_hardly_ever_called_different(correlation: float) -> None:
    wrong = sum(any(map(is_called, rows_of(correlation, seed))) for seed in range(60))
    # 5% would be 3; an i.i.d. bootstrap calls 35 at 0.9.
    assert wrong <= 6


@pytest.mark.slow
def test_ten_percent_are_found() -> None:
    found = 0
    for seed in range(30):
        verdicts = {row.metric: row.verdict for row in rows_of(0.5, seed, 1.1)}
        found += verdicts["latency_p50_ms"] is Verdict.SLOWER
        assert verdicts["latency_p50_ms"] is not Verdict.FASTER
    assert found >= 27


@pytest.mark.parametrize(("base", "new"), [((0, 1, 2), (1, 2, 3)), ((1, 2, 3), (2, 0, 1))])
def test_a_value_of_zero_in_one_of_several_sessions_has_no_ratio(
    base: tuple[float, ...], new: tuple[float, ...]
) -> None:
    change = welch_change(base, new)
    assert change.problem == "is 0 in one of the sessions: a ratio needs more"
    assert (change.change, change.low, change.high) == (None, None, None)
