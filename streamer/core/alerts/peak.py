"""
The peak, the highest rate within the next steps, and the chance that it passes a threshold.

`Outlook.peak` is the one place that chooses quantiles of the peak. For a span that has its own
forecast it takes that one. For any other it takes the highest of each step's quantile, which is
exact if the steps are fully dependent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

RATE_MIN = 1e-12  # so that the logarithm of silence is finite


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


def chance(levels: Floats, quantiles: tuple[float, ...], threshold: Floats) -> Floats:
    """
    The probability, (B,), that a rate with the given quantiles is above *threshold*, (B,).

    *levels*, (B, quantiles), must not decrease. Between two quantiles the distribution is linear
    in the logarithm of the rate. Beyond the last one the logarithm of the probability continues
    with the slope of the last interval (a Pareto tail); below the first one it is mirrored.
    The result does not increase with the threshold.
    """
    x = np.log(np.maximum(threshold.astype(np.float64), RATE_MIN))
    at = np.log(np.maximum(levels.astype(np.float64), RATE_MIN))
    q = np.array(quantiles, np.float64)
    last = len(q) - 1
    beyond = np.full(len(x), 1 - q[0])
    for k in range(last):  # from the lowest interval up: at most ten
        width = at[:, k + 1] - at[:, k]
        share = np.clip((x - at[:, k]) / np.where(width > 0, width, 1), 0, 1)
        share = np.where(width > 0, share, x >= at[:, k + 1])
        beyond -= (q[k + 1] - q[k]) * share
    above, below = x > at[:, last], x < at[:, 0]
    if last:
        tail = np.log((1 - q[last - 1]) / (1 - q[last]))
        beyond = np.where(above, _beyond(1 - q[last], tail, x - at[:, last], at[:, -2:]), beyond)
        tail = np.log(q[1] / q[0])
        beyond = np.where(below, 1 - _beyond(q[0], tail, at[:, 0] - x, at[:, :2]), beyond)
    else:
        beyond = np.where(above, 0, beyond)
        beyond = np.where(below, 1, beyond)
    return beyond.astype(np.float32)


def _beyond(
    share: float, tail: float, over: NDArray[np.float64], interval: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The probability beyond a point that is *over* past the *interval*'s end; *share* at it."""
    width = interval[:, 1] - interval[:, 0]
    slope = tail / np.where(width > 0, width, 1)
    beyond: NDArray[np.float64] = share * np.exp(-np.maximum(over, 0) * slope)
    return np.where(width > 0, beyond, 0.0)
