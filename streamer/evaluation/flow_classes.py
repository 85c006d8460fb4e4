"""
Classifies flows by their rates, so that the average does not hide a class that does worse.

A backtest has all rates of a flow, not only the running averages in its row. The classes are those
of `streamer/core/predict/flow_classes.py`; a flow belongs to the first that matches:

    mostly zero  more than half of its steps are silent
    bursts       a twentieth of its steps carries more than half of its traffic
    rhythm       the mean of the other days at the same time forecasts a step better than the
                 last value does, over the horizons, and clearly better than the mean of all times;
                 or that mean plus the last residual from it does clearly better than the last value
    level        any other: it is constant, or wanders
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.predict.flow_classes import CLASSES, SILENT_SHARE
from streamer.core.types import DAY_S
from streamer.evaluation.metrics import TINY, Rates, filled, mean

SILENT_RATE = 1e-3  # share of a flow's mean: a rate below it counts as silence
BURST_STEPS, BURST_SHARE = 0.05, 0.5  # the share of steps, and their share of the traffic
CLEARLY = 0.95  # maximum ratio of the profile's error to that of the mean of all times
PROFILE_DAYS = 7  # minimum, if the file has them: a profile needs more than one day


def classes(rates: Rates, first: int, horizons: int, step_s: int) -> NDArray[np.str_]:
    """Return the class of each flow, (flows,), from the scored steps, those after *first*."""
    level = mean(rates[first:])
    shares = rates[first:] / np.where(level > 0, level, np.nan)
    known = ~np.isnan(shares)
    silent = (shares < SILENT_RATE).sum(0) > SILENT_SHARE * known.sum(0)
    days = rates[max(0, min(first, len(rates) - PROFILE_DAYS * DAY_S // step_s)) :]
    fits = (
        silent | ~(level > 0),
        burstiness(shares) > BURST_SHARE,
        has_rhythm(days, horizons, step_s),
    )
    return np.select(fits, CLASSES[:-1], CLASSES[-1])


def burstiness(shares: Rates) -> NDArray[np.float64]:
    """Return the share of each flow's traffic in its busiest steps."""
    most = -np.sort(-np.nan_to_num(shares), axis=0)
    few = np.ceil(BURST_STEPS * (~np.isnan(shares)).sum(0)).astype(np.intp)
    carried = np.cumsum(most, axis=0)
    flows = np.arange(shares.shape[1])
    burstiness: NDArray[np.float64] = carried[np.maximum(few, 1) - 1, flows] / np.maximum(
        carried[-1], TINY
    )
    return burstiness


def has_rhythm(rates: Rates, horizons: int, step_s: int) -> NDArray[np.bool_]:
    """Return whether the time of day forecasts better than the last value and the mean."""
    others = other_days(rates, step_s)
    z, last = compressed(rates), compressed(np.where(np.isnan(rates), filled(rates), rates))
    profile, always = (mean(np.abs(z - level)) for level in (others, mean(others)))
    as_last = error_ahead(z, last, np.zeros_like(z), horizons)
    with_profile = error_ahead(z, last, others, horizons)
    alone = (profile < as_last) & (profile < CLEARLY * always)
    better: NDArray[np.bool_] = alone | (with_profile < CLEARLY * as_last)
    return better


def other_days(rates: Rates, step_s: int) -> Rates:
    """
    Return, for each step, the mean of the other days at the same time of day, compressed.

    NaN if there is no other day, and in the last day if it is incomplete.
    """
    day = DAY_S // step_s
    whole = len(rates) // day * day
    days = compressed(rates)[:whole].reshape(-1, day, rates.shape[1])
    known = ~np.isnan(days)
    number, total = known.sum(0) - known, np.nansum(days, axis=0) - np.nan_to_num(days)
    found = np.full(rates.shape, np.nan)
    found[:whole] = (total / np.where(number > 0, number, np.nan)).reshape(whole, -1)
    return found


def error_ahead(z: Rates, last: Rates, profile: Rates, horizons: int) -> NDArray[np.float64]:
    """
    Return the error of *last*, moved as *profile* moves, averaged over the horizons.

    A profile of zeros leaves the last value as it is.
    """
    ahead = range(1, horizons + 1)
    told = (last[:-k] + profile[k:] - profile[:-k] for k in ahead)
    return mean(np.stack([mean(np.abs(z[k:] - say)) for k, say in zip(ahead, told, strict=True)]))


def compressed(rates: Rates) -> Rates:
    """Return rates on a scale where a relative error counts equally at any level, as `scale.py`."""
    level = mean(rates)
    compressed: Rates = np.log1p(4 * rates / np.where(level > 0, level, np.nan))
    return compressed
