"""
What forecasts are worth while a flow is new: from an hour to a day after its first step.

No day has come back yet, so there is no day before to be held against: the
error of the median is told over those of smoothing and of the last value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.types import DAY_S
from streamer.evaluation.metrics import Floats, Rates, filled, mean, smoothed

HOUR_S = 3600


def ages(step_s: int) -> range:
    """How many steps after its first one a flow counts as new."""
    return range(max(1, HOUR_S // step_s), DAY_S // step_s)


def cold_start(
    rates: Rates, medians: NDArray[np.float32], begun: NDArray[np.int64], step_s: int
) -> dict[str, Floats]:
    """
    For each flow the median's error over those of smoothing and of the last value.

    *medians* (ages, flows, horizons) are what was said at these ages, NaN where nothing was;
    *begun* is each flow's first step, -1 if it has none. NaN where there is nothing to compare.
    """
    young, ahead = np.array(ages(step_s)), medians.shape[2]
    if not young.size:
        nothing = np.full(len(begun), np.nan)
        return {"smoothed": nothing, "last": nothing}
    life = np.arange(young[-1] + ahead + 1)[:, None] + begun
    there = (begun >= 0) & (life < len(rates))
    lived = np.take_along_axis(rates, np.where(there, life, 0), axis=0)
    lived = np.where(there, lived, np.nan)  # each flow from its first step on
    last = filled(lived)
    said = {"smoothed": smoothed(last)[young], "last": last[young]}
    errors = {name: np.empty((ahead, len(begun))) for name in ("median", *said)}
    for k in range(ahead):
        came = lived[young + k + 1]
        for name, each in (("median", medians[:, :, k]), *said.items()):
            errors[name][k] = mean(np.abs(each - came))
    own, *_ = means = [each.mean(0) for each in errors.values()]
    with np.errstate(invalid="ignore"):
        known = np.all([each > 0 for each in means], axis=0)
    return {name: own / np.where(known, errors[name].mean(0), np.nan) for name in said}
