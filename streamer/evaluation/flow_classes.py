"""
Classifies flows by their rates, so that the average does not hide a class that does worse.

A backtest has all rates of a flow, not only the running averages in its row. The classes are those
of `streamer/core/predict/flow_classes.py`; a flow belongs to the first that matches:

    mostly zero  more than half of its steps are silent
    bursts       a twentieth of its steps carries more than half of its traffic
    rhythm       the mean of the other days at the same time forecasts a step better than the
                 last value does, over the horizons, and clearly better than the mean of all times
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
    profile, always = profile_errors(rates, step_s)
    better: NDArray[np.bool_] = (profile < last_error(rates, horizons)) & (
        profile < CLEARLY * always
    )
    return better


def profile_errors(rates: Rates, step_s: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Return the errors of two forecasts: the other days' mean at the same time, and at any time.

    NaN with fewer than two days.
    """
    day = DAY_S // step_s
    days = compressed(rates)[: len(rates) // day * day].reshape(-1, day, rates.shape[1])
    known = ~np.isnan(days)
    number, total = known.sum(0) - known, np.nansum(days, axis=0) - np.nan_to_num(days)
    others = total / np.where(number > 0, number, np.nan)
    errors = (
        np.abs(predicted - days) for predicted in (others, mean(others.reshape(-1, rates.shape[1])))
    )
    profile, always = (mean(each.reshape(-1, rates.shape[1])) for each in errors)
    return profile, always


def last_error(rates: Rates, horizons: int) -> NDArray[np.float64]:
    """Return the error of forecasting the last value, averaged over the horizons."""
    z = compressed(rates)
    last = compressed(np.where(np.isnan(rates), filled(rates), rates))
    ahead = range(1, horizons + 1)
    return mean(np.stack([mean(np.abs(z[k:] - last[:-k])) for k in ahead]))


def compressed(rates: Rates) -> Rates:
    """Return rates on a scale where a relative error counts equally at any level, as `scale.py`."""
    level = mean(rates)
    compressed: Rates = np.log1p(4 * rates / np.where(level > 0, level, np.nan))
    return compressed
