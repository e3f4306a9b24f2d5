"""Errors of means over autocorrelated frames, against slow and simple computations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import rankdata

from dgrec.comparison import blocks
from dgrec.comparison.blocks import (
    block_length,
    effective_size,
    mean_variance,
    politis_white,
    ranks,
)

Array = np.ndarray[Any, Any]


def autoregressive(correlation: float, frames: int, seed: int = 0) -> Array:
    noise = np.random.default_rng(seed).standard_normal(frames + 500)
    step = math.sqrt(1 - correlation**2)
    values: Array = lfilter([step], [1, -correlation], noise)[500:]
    return values


def plain_variance(values: Array, length: int) -> float:
    """Return the mean square of all circular block means, one block at a time."""
    n = len(values)
    twice = np.concatenate((values, values)) - values.mean()
    means = [twice[start : start + length].mean() for start in range(n)]
    return float(np.mean(np.square(means))) * length / n / (1 - length / n)


@pytest.mark.parametrize("length", [2, 5, 8, 40])
def test_variance_is_that_of_all_circular_blocks(length: int) -> None:
    values = autoregressive(0.8, 203)
    whole, half = plain_variance(values, length), plain_variance(values, length // 2)
    rest = length - length // 2
    expected = max(whole, whole + (whole - half) * (length // 2) / rest)
    assert mean_variance(values, length) == pytest.approx(expected, rel=1e-9)


def test_closed_form_is_what_drawing_blocks_comes_to() -> None:
    values = autoregressive(0.8, 400, seed=4)
    length, n = 20, 400
    rng = np.random.default_rng(5)
    starts = rng.integers(0, n, (20_000, n // length, 1))
    means = values[(starts + np.arange(length)) % n].mean(axis=(1, 2))
    drawn = float(means.var()) / (1 - length / n)
    assert plain_variance(values, length) == pytest.approx(drawn, rel=0.03)


def test_blocks_of_one_are_the_usual_variance() -> None:
    values = np.random.default_rng(1).gamma(2, size=500)
    assert mean_variance(values, 1) == pytest.approx(values.var(ddof=1) / 500)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_variance_is_near_the_true_one(correlation: float) -> None:
    """Over many series: the textbook's blocks fall short by a tenth at 0.9, these do not."""
    n, found = 1800, []
    for seed in range(150):
        values = autoregressive(correlation, n, seed)
        length = block_length(values, 30)
        assert length is not None
        found.append(mean_variance(values, length))
    true = (1 + correlation) / (1 - correlation) / n
    assert np.mean(found) == pytest.approx(true, rel=0.12)


def slow_politis_white(values: Array) -> float:
    """Return the rule as the papers write it, sum by sum."""
    n = len(values)
    centred = values - values.mean()
    in_a_row = max(5, math.ceil(math.sqrt(math.log10(n))))
    lags = math.ceil(math.sqrt(n)) + in_a_row
    r = [float(np.sum(centred[k:] * centred[: n - k])) / n for k in range(lags + 1)]
    limit = 2 * math.sqrt(math.log10(n) / n)
    m = next(
        k
        for k in range(lags)
        if all(abs(r[k + i] / r[0]) < limit for i in range(1, in_a_row + 1) if k + i <= lags)
    )
    bandwidth = min(2 * max(m, 1), lags)
    spread, long_run = 0.0, 0.0
    for k in range(-bandwidth, bandwidth + 1):
        t = abs(k) / bandwidth
        window = 1.0 if t <= 0.5 else 2 * (1 - t)
        spread += window * abs(k) * r[abs(k)]
        long_run += window * r[abs(k)]
    best = (2 * spread**2 / (4 / 3 * long_run**2)) ** (1 / 3) * n ** (1 / 3)
    return min(max(best, 1.0), math.ceil(min(3 * math.sqrt(n), n / 3)))


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7, 0.9])
def test_block_length_is_politis_and_whites(correlation: float) -> None:
    values = autoregressive(correlation, 1500, seed=7)
    assert politis_white(values) == pytest.approx(slow_politis_white(values), rel=1e-6)


def test_long_series_are_taken_a_stretch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values = autoregressive(0.7, 5000, seed=8)
    whole = blocks._autocovariance(values, 60)
    monkeypatch.setattr(blocks, "_CHUNK", 700)
    assert blocks._autocovariance(values, 60) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_effective_size(correlation: float) -> None:
    sizes = []
    for seed in range(40):
        values = autoregressive(correlation, 3000, seed)
        ranked = ranks(values)
        length = block_length(ranked, 1)
        assert length is not None
        sizes.append(effective_size(ranked, length))
    # The ranks of a normal process are a little less correlated than its values.
    assert np.median(sizes) == pytest.approx(3000 * (1 - correlation) / (1 + correlation), rel=0.2)


def test_a_block_is_a_second_or_longer_and_four_of_them_fit() -> None:
    values = autoregressive(0.0, 120)
    assert block_length(values, 30) == 30
    assert block_length(values, 31) is None
    assert (block_length(autoregressive(0.95, 2000), 30) or 0) > 30


def test_ranks_share_ties_like_scipy() -> None:
    values = np.random.default_rng(3).integers(0, 9, 200).astype(float)
    assert ranks(values) == pytest.approx(rankdata(values))


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [3.0] * 50, [1.0, 2.0, 1.0]])
def test_series_that_say_nothing_divide_by_nothing(values: list[float]) -> None:
    array = np.array(values)
    with np.errstate(all="raise"):
        assert politis_white(array) >= 1
        assert mean_variance(array, 1) >= 0
