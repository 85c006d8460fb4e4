"""
The quantiles of a peak, and the chance that a peak exceeds a threshold.

A peak is the highest step rate within a span of steps. The chance that it exceeds a threshold is
read off its quantiles: between two of them the logarithm of the chance is linear in the logarithm
of the rate, and beyond the last one it goes on falling as steeply, as a Pareto tail.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

RATE_LEAST = 1e-30  # rates below this are equivalent
TAIL_LEAST = 0.05  # least distance of the two highest quantiles in the tail, in log rates
SLOPE_BELOW = 1.0  # of the chance's complement below the lowest quantile


def chance(
    quantile_levels: Sequence[float],
    quantiles: NDArray[np.floating],
    threshold: NDArray[np.floating],
) -> Doubles:
    """
    The probability that a peak exceeds *threshold* (…), from its *quantiles* (…, R) in rates.

    *quantile_levels* (R,) ascend, with at least two. The probability is between 0 and 1 and does
    not rise with the threshold; quantiles out of order count as their running maximum. It is NaN
    where a quantile or the threshold is NaN.
    """
    levels = np.asarray(quantile_levels, np.float64)
    at = np.log(np.maximum(np.asarray(quantiles, np.float64), RATE_LEAST))
    at = np.maximum.accumulate(at, axis=-1)
    x = np.log(np.maximum(np.asarray(threshold, np.float64), RATE_LEAST))
    at, x = np.broadcast_arrays(at, x[..., None])
    x = x[..., 0]
    passed = (at <= x[..., None]).sum(axis=-1)  # number of quantiles at or below the threshold
    last = len(levels) - 1
    low, high = np.clip(passed - 1, 0, last), np.clip(passed, 0, last)
    below = np.take_along_axis(at, low[..., None], -1)[..., 0]
    above = np.take_along_axis(at, high[..., None], -1)[..., 0]
    share = (x - below) / np.where(above > below, above - below, 1.0)
    survival = np.log1p(-levels)
    inner = np.exp(survival[low] + share * (survival[high] - survival[low]))

    tail = np.maximum(at[..., -1] - at[..., -2], TAIL_LEAST)
    steep = (survival[-1] - survival[-2]) / tail
    beyond = np.exp(survival[-1] + steep * np.maximum(x - at[..., -1], 0))
    least = 1 - levels[0] * np.exp(SLOPE_BELOW * np.minimum(x - at[..., 0], 0))
    probability: Doubles = np.where(passed > last, beyond, np.where(passed == 0, least, inner))
    return np.where(np.isnan(at).any(axis=-1) | np.isnan(x), np.nan, probability)
