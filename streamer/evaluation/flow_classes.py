"""
What kind of flow each one is, by the rates that came: an average hides who pays for it.

A flow belongs to the first of these that fits it:

    mostly zero  more than half of its steps are silent
    bursts       a twentieth of its steps carries more than half of what it carried
    rhythm       the mean of the other days at the same time says a step better than the last
                 value does, over the horizons, and clearly better than the mean of all times
    level        none of these: it stays where it is, or wanders
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.types import DAY_S
from streamer.evaluation.metrics import TINY, Rates, filled, mean

KINDS = ("mostly zero", "bursts", "rhythm", "level")
SILENT = 1e-3  # of a flow's mean: a rate below it counts as silence
BURST_STEPS, BURST_SHARE = 0.05, 0.5  # so few steps that carry so much
CLEARLY = 0.95  # of the error of saying the mean of all times
PROFILE_DAYS = 7  # at least, where the file has them: what a day is like is no matter of one


def kinds(rates: Rates, first: int, horizons: int, step_s: int) -> NDArray[np.str_]:
    """The kind of each flow, (flows,), from the steps after *first*, those that are scored."""
    level = mean(rates[first:])
    shares = rates[first:] / np.where(level > 0, level, np.nan)
    known = ~np.isnan(shares)
    silent = (shares < SILENT).sum(0) > known.sum(0) / 2
    days = rates[max(0, min(first, len(rates) - PROFILE_DAYS * DAY_S // step_s)) :]
    fits = (
        silent | ~(level > 0),
        burstiness(shares) > BURST_SHARE,
        has_rhythm(days, horizons, step_s),
    )
    return np.select(fits, KINDS[:-1], KINDS[-1])


def burstiness(shares: Rates) -> NDArray[np.float64]:
    """What part of all was carried by the few steps that carried most."""
    most = -np.sort(-np.nan_to_num(shares), axis=0)
    few = np.ceil(BURST_STEPS * (~np.isnan(shares)).sum(0)).astype(np.intp)
    carried = np.cumsum(most, axis=0)
    flows = np.arange(shares.shape[1])
    burstiness: NDArray[np.float64] = carried[np.maximum(few, 1) - 1, flows] / np.maximum(
        carried[-1], TINY
    )
    return burstiness


def has_rhythm(rates: Rates, horizons: int, step_s: int) -> NDArray[np.bool_]:
    """Whether the time of day says more than the last value, and more than nothing."""
    profile, always = profile_errors(rates, step_s)
    says: NDArray[np.bool_] = (profile < last_error(rates, horizons)) & (profile < CLEARLY * always)
    return says


def profile_errors(rates: Rates, step_s: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Of saying the mean of the other days at the same time, and their mean at any time.

    NaN with fewer than two days.
    """
    day = DAY_S // step_s
    days = compressed(rates)[: len(rates) // day * day].reshape(-1, day, rates.shape[1])
    known = ~np.isnan(days)
    number, total = known.sum(0) - known, np.nansum(days, axis=0) - np.nan_to_num(days)
    others = total / np.where(number > 0, number, np.nan)
    errors = (np.abs(said - days) for said in (others, mean(others.reshape(-1, rates.shape[1]))))
    profile, always = (mean(each.reshape(-1, rates.shape[1])) for each in errors)
    return profile, always


def last_error(rates: Rates, horizons: int) -> NDArray[np.float64]:
    """Of saying the last value, in the mean over the horizons."""
    z = compressed(rates)
    last = compressed(np.where(np.isnan(rates), filled(rates), rates))
    ahead = range(1, horizons + 1)
    return mean(np.stack([mean(np.abs(z[k:] - last[:-k])) for k in ahead]))


def compressed(rates: Rates) -> Rates:
    """On a scale where being off by half means the same at night and at noon, as `scale.py`."""
    level = mean(rates)
    compressed: Rates = np.log1p(4 * rates / np.where(level > 0, level, np.nan))
    return compressed
