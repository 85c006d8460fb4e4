"""
Scores forecasts of new flows: from an hour to a day after the first step.

There is no previous day yet to compare with, so the median's error is divided by those of
exponential smoothing and of the last value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.types import DAY_S
from streamer.evaluation.metrics import Floats, Rates, filled, mean, smoothed

HOUR_S = 3600


def ages(step_s: int) -> range:
    """Return the ages, in steps after the first one, at which a flow counts as new."""
    return range(max(1, HOUR_S // step_s), DAY_S // step_s)


def cold_start(
    rates: Rates, medians: NDArray[np.float32], first_steps: NDArray[np.int64], step_s: int
) -> dict[str, Floats]:
    """
    Return, for each flow, the median's error over those of smoothing and of the last value.

    *medians* (ages, flows, horizons) are the forecasts at these ages, NaN if there is none;
    *first_steps* (flows,) is each flow's first step, -1 if it has none. The result is NaN if
    nothing can be compared.
    """
    young, ahead = np.array(ages(step_s)), medians.shape[2]
    if not young.size:
        nothing = np.full(len(first_steps), np.nan)
        return {"smoothed": nothing, "last": nothing}
    life = np.arange(young[-1] + ahead + 1)[:, None] + first_steps
    there = (first_steps >= 0) & (life < len(rates))
    lived = np.take_along_axis(rates, np.where(there, life, 0), axis=0)
    lived = np.where(there, lived, np.nan)  # each flow from its first step on
    last = filled(lived)
    baselines = {"smoothed": smoothed(last)[young], "last": last[young]}
    errors = {name: np.empty((ahead, len(first_steps))) for name in ("median", *baselines)}
    for k in range(ahead):
        came = lived[young + k + 1]
        for name, each in (("median", medians[:, :, k]), *baselines.items()):
            errors[name][k] = mean(np.abs(each - came))
    own, *_ = means = [each.mean(0) for each in errors.values()]
    with np.errstate(invalid="ignore"):
        known = np.all([each > 0 for each in means], axis=0)
    return {name: own / np.where(known, errors[name].mean(0), np.nan) for name in baselines}
