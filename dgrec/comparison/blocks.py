"""The error of a mean over frames of which each is like the one before it.

A frame's latency resembles its neighbours': 1,800 frames at a lag-one correlation of 0.9 say as
much as 95 independent ones. The circular block bootstrap (Politis and Romano 1992) allows for that
by drawing blocks of neighbouring frames instead of single ones. For a mean, the variance over all
possible draws has a closed form, the mean square of all circular block means: nothing is drawn
here, so the same two files give the same answer every time, at any length.

On its own, it calls too many equal runs different (12% instead of 5% at correlations of 0.9
and more). Three things correct that, and ``python -m bench.calibration`` shows that they do:

- the block length that Politis and White's rule gives (2004, as corrected in 2009) is best for the
  error of the variance, not for tests: half as much again leaves less bias;
- blocks cut off the correlation that reaches beyond them. What that takes away shrinks as one over
  the length, so twice the variance at one length minus the variance at half of it restores it
  (Politis and Romano 1995);
- a variance from few blocks is uncertain itself: Student's t replaces the normal distribution. For
  plain blocks the degrees of freedom would be 3 n / length (Priestley 1981); for corrected blocks
  from the same frames as everything else, n / length keeps the promise for a table of rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

#: How much longer blocks are than Politis and White's rule says.
_LONGER = 1.5
#: Fewer blocks than this do not show how much they vary.
_FEWEST_BLOCKS = 4
#: Values that go through one Fourier transform.
_CHUNK = 1 << 15


def block_length(ranked: Floats, second: int) -> int | None:
    """Return how many frames a block should have, or None if there are too few for four blocks.

    Args:
        ranked: The values' `ranks`, in the order of the frames: a single stall of ten seconds would
            hide the correlation of all other frames from the values themselves.
        second: Frames in a second: the fewest that a block has.
    """
    length = max(math.ceil(_LONGER * politis_white(ranked)), second, 1)
    return length if length * _FEWEST_BLOCKS <= len(ranked) else None


def politis_white(values: Floats) -> float:
    """Return the block length that is optimal for the circular block bootstrap of a mean.

    Politis and White, Econometric Reviews 23 (2004), with the correction of Patton, Politis and
    White, Econometric Reviews 28 (2009); the rule of section 3.2 finds the bandwidth.
    """
    n = len(values)
    if n < 3:
        return 1.0
    longest = math.ceil(min(3 * math.sqrt(n), n / 3))
    in_a_row = max(5, math.ceil(math.sqrt(math.log10(n))))
    lags = min(math.ceil(math.sqrt(n)) + in_a_row, n - 1)
    covariance = _autocovariance(values, lags)
    if covariance[0] <= 0:
        return 1.0
    small = np.abs(covariance[1:] / covariance[0]) < 2 * math.sqrt(math.log10(n) / n)
    bandwidth = min(2 * max(_last_large_lag(small, in_a_row), 1), lags)
    lag = np.arange(1, bandwidth + 1)
    # The flat-top lag window: 1 up to half of the bandwidth, then down to 0.
    weighted = np.minimum(1.0, 2 * (1 - lag / bandwidth)) * covariance[lag]
    spread = 2 * float(np.sum(lag * weighted))
    long_run = covariance[0] + 2 * float(np.sum(weighted))
    if long_run <= 0:
        return 1.0
    best = math.pow(1.5 * (spread / long_run) ** 2 * n, 1 / 3)
    return min(max(best, 1.0), float(longest))


def _last_large_lag(small: Mask, in_a_row: int) -> int:
    """Return the lag after which ``in_a_row`` lags have next to no correlation."""
    runs = np.lib.stride_tricks.sliding_window_view(small, min(in_a_row, len(small))).all(axis=1)
    if runs.any():
        return int(np.argmax(runs))
    large = np.flatnonzero(~small)
    return int(large[-1]) + 1 if len(large) else 0


def _autocovariance(values: Floats, lags: int) -> Floats:
    """Return the autocovariances at lags 0 to ``lags``, a stretch of the values at a time."""
    centred = values - values.mean()
    total = np.zeros(lags + 1)
    # A chunk, the ``lags`` values after it and as many zeros fill a transform whose size is a power
    # of two.
    step = max(_CHUNK, 8 << lags.bit_length()) - 2 * lags
    for start in range(0, len(centred), step):
        chunk = centred[start : start + step]
        ahead = centred[start : start + step + lags]
        size = 1 << (len(ahead) + lags - 1).bit_length()
        product = np.fft.rfft(ahead, size) * np.conj(np.fft.rfft(chunk, size))
        total += np.fft.irfft(product, size)[: lags + 1]
    return total / len(centred)


def mean_variance(values: Floats | Mask, length: int) -> float:
    """Return the variance of the mean of ``values``, from blocks of ``length`` frames."""
    # One running sum serves blocks of any length; they wrap around after the last frame.
    n = len(values)
    sums = np.zeros(n + max(length, 1))
    np.subtract(values, values.mean(), out=sums[1 : n + 1])
    np.cumsum(sums[1 : n + 1], out=sums[1 : n + 1])
    sums[n + 1 :] = sums[n] + sums[1:length]
    plain = _block_variance(sums, n, length)
    half = length // 2
    if half < 1 or n < 2:
        return plain
    # Bias falls as 1 / length: halving the blocks loses as much again as they lost before.
    return max(plain, plain + (plain - _block_variance(sums, n, half)) * half / (length - half))


def _block_variance(sums: Floats, n: int, length: int) -> float:
    of_blocks = sums[length : n + length] - sums[:n]
    variance = float(np.dot(of_blocks, of_blocks)) / (n * length * n)
    # The mean itself was taken from the same frames, which takes away one block's share.
    return variance / (1 - length / n) if length < n else variance


def degrees_of_freedom(n: int, length: int) -> float:
    """Return the degrees of freedom of a `mean_variance` of ``n`` values: how well it is known."""
    return n / length


def effective_size(ranked: Floats, length: int) -> float:
    """Return how many independent frames would say as much about the middle as these do."""
    n = len(ranked)
    variance = mean_variance(ranked, length)
    return float(n) if variance <= 0 else min(float(n), float(ranked.var()) / variance)


def ranks(values: Floats) -> Floats:
    """Return the rank of each value; equal ones share theirs."""
    order = np.argsort(values)
    ordered = values[order]
    is_first = np.concatenate(([True], ordered[1:] != ordered[:-1]))[: len(values)]
    del ordered  # for a day of frames, each of these takes 20 MB
    starts = np.flatnonzero(is_first)
    sizes = np.diff(starts, append=len(values))
    middles = (sizes + 1) / 2
    middles += starts
    del starts, is_first
    ranked = np.empty(len(values))
    ranked[order] = np.repeat(middles, sizes)
    return ranked
