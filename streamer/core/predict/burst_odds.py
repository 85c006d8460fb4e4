"""
How readily a flow's bursts return, learned for each flow: the calibration of peaks.

The head of peaks is fitted to generated traffic, so the chance it gives to the return of a burst is
right on average, not for each flow. A row therefore has log odds that the head adds to its own.
They follow an online logistic regression with an intercept only: every span of steps, one forecast
is compared with what came, and the log odds move by GAIN times the difference between the outcome
and the forecast chance. With each comparison they fade a little, because schedules change.

Only forecasts for which the memory shows a burst are compared. The event is that the peak goes
SHARE of the way, in compressed space, from the highest median of the steps to the burst that the
head expects.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts.peak import chance
from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.features import scale
from streamer.core.features.scale import Floats, Steps
from streamer.core.types import PEAK_QUANTILES

SHARE = np.float32(0.7)
BURST_LEAST = 0.7  # compressed: a burst is at least so far above the highest median
GAIN = np.float32(0.4)
FADES = np.float32(0.02)  # share of the log odds that is lost with each comparison
ODDS_MAX = 6.0

PENDING: list[tuple[str, str]] = [
    ("burst_rate", "f4"),  # the rate that the peak of the pending forecast must pass; 0: none
    ("burst_chance", "f4"),  # the chance that the pending forecast gave to it
    ("burst_until", "u4"),  # the last step of that peak
    ("burst_came", "u1"),  # whether the peak has passed it
    ("burst_missing", "u1"),  # steps without a rate since then, up to 255
]
COLUMNS: Columns = [("burst_odds", "f4"), *PENDING]  # log odds, added to those of the head
BOUNDS: Bounds = {
    "burst_odds": (-ODDS_MAX, ODDS_MAX),
    "burst_rate": (0, scale.RATE_MAX),
    "burst_chance": (0, 1),
    "burst_came": (0, 1),
}


def settle(rows: Rows, rates: NDArray[np.float64], steps: Steps, span: int) -> None:
    """
    Compare pending forecasts with the closed *steps* and their *rates* (B,), NaN: missing.

    A forecast is left out if more than half of the steps of its *span* are missing, whether the
    burst came or not: the outcome must not decide what is compared. It is dropped if its end is not
    within the span: the flow's clock was moved, or the span is another one now.
    """
    pending = np.flatnonzero(rows["burst_rate"])
    if not pending.size:
        return
    rate = rates[pending]
    left = rows["burst_until"][pending].astype(np.int64) - steps[pending]
    rows["burst_came"][pending] |= rate > rows["burst_rate"][pending]
    missing = np.minimum(rows["burst_missing"][pending].astype(np.int64) + np.isnan(rate), 255)
    rows["burst_missing"][pending] = missing
    index = pending[(left == 0) & (2 * missing <= span)]
    odds = rows["burst_odds"][index] * (1 - FADES)
    odds += GAIN * (rows["burst_came"][index] - rows["burst_chance"][index])
    rows["burst_odds"][index] = np.clip(odds, -ODDS_MAX, ODDS_MAX)
    restart(rows, pending[(left <= 0) | (left >= span)])


def begin(  # noqa: PLR0913 - a forecast of the peak, and what it is made of
    rows: Rows,
    quantiles: Floats,
    median: Floats,
    burst: Floats,
    by: Floats,
    steps: Steps,
    span: int,
) -> None:
    """
    Make the forecast of the longest *span* pending after *steps* that are multiples of the span.

    *quantiles* (PEAK_QUANTILES, B) are rates; *median*, the highest of the steps, and *burst*, both
    (B,), are in the compressed space of scale *by*.
    """
    ready = (steps % span == 0) & (rows["burst_rate"] == 0)
    index = np.flatnonzero(ready & (burst - median > BURST_LEAST))
    if not index.size:
        return
    z = median[index] + SHARE * (burst - median)[index]
    rate = scale.rates(scale.clip_scaled(z), by[index])
    rows["burst_until"][index] = steps[index] + span
    rows["burst_rate"][index] = rate
    rows["burst_chance"][index] = chance(PEAK_QUANTILES, quantiles[:, index].T, rate)


def restart(rows: Rows, at: NDArray[np.intp] | NDArray[np.bool_]) -> None:
    """Drop the pending forecasts of the rows *at*; what was learned stays."""
    for name, _ in PENDING:
        rows[name][at] = 0
