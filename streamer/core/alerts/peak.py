"""
The peak, the highest rate within the next steps, and the chance that it passes a threshold.

The chance is read off the peak's quantiles: between two of them its logarithm is linear in the
logarithm of the rate, and beyond the last one it goes on falling as steeply, as a Pareto tail.
`Outlook.peak` is the one place that chooses quantiles of the peak. For a span that has its own
forecast it takes that one. For any other it takes the highest of each step's quantile, which is
exact if the steps are fully dependent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

RATE_LEAST = 1e-30  # rates below this are equivalent
TAIL_LEAST = 0.05  # least distance of the two highest quantiles in the tail, in log rates
SLOPE_BELOW = 1.0  # of the chance's complement below the lowest quantile


class Outlook(NamedTuple):
    """The forecasts of B rows after a closed step."""

    bands: Floats  # (B, horizons, quantiles)
    quantiles: tuple[float, ...]
    peaks: Floats | None = None  # (B, spans, peak_quantiles) of the highest rate in each span
    spans: tuple[int, ...] = ()  # in steps
    peak_quantiles: tuple[float, ...] = ()

    def peak(self, steps: int) -> tuple[Floats, tuple[float, ...]]:
        """The quantiles of the peak within *steps*, (B, levels), and their levels."""
        if self.peaks is not None and steps in self.spans:
            return self.peaks[:, self.spans.index(steps)], self.peak_quantiles
        return self.bands[:, :steps].max(axis=1), self.quantiles

    def take(self, index: NDArray[np.intp]) -> Outlook:
        """The rows at *index*."""
        peaks = None if self.peaks is None else self.peaks[index]
        return self._replace(bands=self.bands[index], peaks=peaks)

    @property
    def median(self) -> int:
        """The index of the quantile of *bands* that is nearest to the median."""
        return int(np.argmin(np.abs(np.array(self.quantiles) - 0.5)))


def chance(
    quantile_levels: Sequence[float],
    quantiles: NDArray[np.floating],
    threshold: NDArray[np.floating],
) -> Doubles:
    """
    The probability that a peak exceeds *threshold* (…), from its *quantiles* (…, R) in rates.

    *quantile_levels* (R,) ascend between 0 and 1. The probability is between 0 and 1 and does not
    rise with the threshold; quantiles out of order count as their running maximum. It is NaN where
    a quantile or the threshold is NaN; others are finite. A single quantile has no tail to go by,
    so the chance halves with each TAIL_LEAST above it.
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

    tail = np.maximum(at[..., -1] - at[..., -2], TAIL_LEAST) if last else TAIL_LEAST
    steep = (survival[-1] - survival[-2] if last else -np.log(2)) / tail
    beyond = np.exp(survival[-1] + steep * np.maximum(x - at[..., -1], 0))
    least = 1 - levels[0] * np.exp(SLOPE_BELOW * np.minimum(x - at[..., 0], 0))
    probability: Doubles = np.where(passed > last, beyond, np.where(passed == 0, least, inner))
    return np.where(np.isnan(at).any(axis=-1) | np.isnan(x), np.nan, probability)
