"""
Baselines: naive forecasts beside the network, each with a running error.

A baseline forecasts every horizon by a simple rule. The network mixes the baselines, reads
their running errors as inputs, and is compared with them. All values are in compressed
space (`scale.py`), in which an error of 0.5 means the same at night and at noon.

A baseline's running error is computed from forecasts that it really made: at three horizons
some of its forecasts are stored as *pending* until their step closes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.features.scale import (
    LEVEL_MAX,
    Bools,
    Floats,
    ScaledStep,
    Steps,
    to_float16,
    to_float32,
)
from streamer.core.features.seasonal import SeasonalForecast, nonzero

NAMES = (
    "last",  # the newest level
    "ewma_3",  # exponential smoothing over about 3 steps
    "ewma_14",  # exponential smoothing over about 14 steps
    "median",  # running median, with a memory of a day
    "daily",  # the day's profile at that time of day
    "smooth",  # the day's profile, averaged over a width of an hour
    "weekly",  # the week's profile at that hour of the week
    "hourly",  # the hour's profile at that minute of the hour
    "daily_rest",  # `smooth` plus the current residual from it
    "weekly_rest",  # `weekly` plus the current residual from it
)
BASELINES = len(NAMES)
DAILY, SMOOTH, WEEKLY = (NAMES.index(name) for name in ("daily", "smooth", "weekly"))


class TrackedHorizon(NamedTuple):
    """A horizon at which errors are learned from every *stride*-th forecast."""

    horizon: int
    stride: int
    first: int  # index of its first entry in the column `pending`

    @property
    def places(self) -> int:
        """The number of its forecasts that are pending at once."""
        return self.horizon // self.stride


TRACKED_HORIZONS = (TrackedHorizon(1, 1, 0), TrackedHorizon(4, 2, 1), TrackedHorizon(12, 4, 3))
PENDING = sum(anchor.places for anchor in TRACKED_HORIZONS)
SETTLED = sum(1 / anchor.stride for anchor in TRACKED_HORIZONS)  # forecasts per row and step
FADE_DAYS = 14.0  # time in which a sum over settled forecasts decays to 1/e

QUANTILE_LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95], np.float32)  # of the running quantiles
LOST = np.float32(1.25)  # ratio of errors above which the seasonality counts as broken
GAIN_FAST, GAIN_SLOW, GAIN_REST = 0.3, 0.07, 0.25
ERROR_FIRST = 0.3  # assumed error of a baseline before its first forecast settles
ERROR_NONE = np.float32(0.01)  # errors below this are equivalent
ERROR_MAX = 4.0  # upper bound of a single error

COLUMNS: Columns = [
    ("ewma_3", "f4"),
    ("ewma_14", "f4"),
    ("rank_shares", "f4", (len(QUANTILE_LEVELS),)),  # running quantiles
    ("deviation", "f4"),  # mean distance of levels from the running median
    ("rest", "f4", (2,)),  # running residuals from `smooth` and from `weekly`
    ("errors", "f4", (len(TRACKED_HORIZONS), BASELINES)),  # mean absolute, in compressed space
    ("pending", "f2", (PENDING, BASELINES)),  # forecast levels of steps to come; 0 for none
]
LEVELS = ("ewma_3", "ewma_14", "rank_shares", "pending")
ANY_STEP = ("ewma_3", "ewma_14", "rank_shares", "deviation", "errors")
BOUNDS: Bounds = {
    **dict.fromkeys((*LEVELS, "rest"), (-LEVEL_MAX, LEVEL_MAX)),
    "deviation": (0, LEVEL_MAX),
    "errors": (0, ERROR_MAX),
}


def score_pending(rows: Rows, step: ScaledStep, steps: Steps, day: float) -> Floats:
    """
    Compare the pending forecasts with the closed step and update the running errors.

    Returns the forecast of each baseline for the step, (anchors, B, BASELINES), above the current
    ground, at each anchor that is due. At horizon 1 a missing forecast is replaced by the step
    itself.
    """
    lanes = np.arange(len(rows))
    fresh = rows["age"] == 1
    errors = np.where(fresh[:, None, None], np.float32(ERROR_FIRST), rows["errors"])
    baseline_z = np.zeros((len(TRACKED_HORIZONS), len(rows), BASELINES), np.float32)
    for place, anchor in enumerate(TRACKED_HORIZONS):
        due = steps % anchor.stride == 0
        if not due.any():
            continue
        pending = to_float32(rows["pending"][lanes, pending_at(anchor, steps)])
        baseline_z[place] = z = np.maximum(pending - step.ground[:, None], np.float32(0))
        tried = due & step.present & (pending[:, 0] != 0)
        off = np.minimum(np.abs(z - step.z[:, None]), np.float32(ERROR_MAX))
        by = (learning_rate(rows["seen"], anchor, day) * tried).astype(np.float32)
        errors[:, place] += by[:, None] * (off - errors[:, place])
        if anchor.horizon == 1:
            baseline_z[place] = np.where(pending[:, :1] != 0, z, step.z[:, None])
    rows["errors"] = errors
    return baseline_z


def learning_rate(
    seen: NDArray[np.uint32], anchor: TrackedHorizon, day: float
) -> NDArray[np.float64]:
    """The gain of a running error, for flows that have *seen* so many steps."""
    number = seen // anchor.stride + (1 + 0.01 * day)
    return np.maximum(min(1.0, 2 * anchor.stride / day), 1 / number)


def decay(day: float) -> np.float32:
    """The factor by which a sum over settled forecasts decays for each new one."""
    return np.float32(1 - 1 / (FADE_DAYS * SETTLED * day))


def update(rows: Rows, step: ScaledStep, baseline_z: Floats, day: float) -> None:
    """Update every baseline with the closed step; a missing step changes nothing."""
    seen = np.maximum(rows["seen"], 1).astype(np.float32)
    first, one = rows["seen"] == 1, step.present.astype(np.float32)
    once = one / seen
    for name, gain in (("ewma_3", GAIN_FAST), ("ewma_14", GAIN_SLOW)):
        gains = np.maximum(np.float32(gain) * one, once)
        rows[name] += gains * (step.level - rows[name])
    gains = np.maximum(np.float32(GAIN_REST) * one, once)[:, None]
    rows["rest"] += gains * (step.z[:, None] - baseline_z[:, [SMOOTH, WEEKLY]] - rows["rest"])

    met = step.present & first
    ranks = np.where(met[:, None], step.level[:, None], rows["rank_shares"])
    deviation = np.where(met, np.float32(0.1), rows["deviation"])
    away = np.abs(step.level - ranks[:, 2])
    deviation += np.maximum(np.float32(min(1, 3 / day)) * one, one / (seen + 1)) * (
        away - deviation
    )
    pace = np.maximum(np.float32(0.3 / np.sqrt(day)), (seen + 1) ** np.float32(-0.6))
    stride = (one * pace * (deviation + np.float32(0.01)) * 2)[:, None]
    below = (step.level[:, None] < ranks).astype(np.float32)
    rows["rank_shares"], rows["deviation"] = ranks + stride * (QUANTILE_LEVELS - below), deviation


class BaselineErrors(NamedTuple):
    """The running errors of the baselines of B rows."""

    logs: Floats  # (BASELINES, B, anchors) logarithms of the running errors
    least: Floats  # (B,) the least running error of each row

    @property
    def daily_beats_recent(self) -> Bools:
        """(B,) flows whose exact day's profile has a lower error than the smoothed one."""
        found: Bools = self.logs[DAILY].sum(axis=1) < self.logs[SMOOTH].sum(axis=1)
        return found

    @property
    def seasonality_break(self) -> Floats:
        """
        (B,) the running error of the better one of the daily and the weekly profile.

        Zero unless a non-seasonal baseline beats both of them by a factor of LOST.
        """
        off = self.logs.sum(axis=2) / np.float32(len(TRACKED_HORIZONS))
        rhythm = np.minimum(off[DAILY], off[WEEKLY])
        plain = off[:DAILY].min(axis=0)
        return np.where(rhythm > plain + np.log(LOST), np.exp(rhythm), np.float32(0))


def errors_of(rows: Rows) -> BaselineErrors:
    """The running errors of *rows*."""
    each = rows["errors"].reshape(len(rows), len(TRACKED_HORIZONS) * BASELINES).T.copy()
    logs = np.log(each + ERROR_NONE).reshape(len(TRACKED_HORIZONS), BASELINES, len(rows))
    return BaselineErrors(logs.transpose(1, 2, 0), each.min(axis=0))


def predict(rows: Rows, step: ScaledStep, usual: SeasonalForecast) -> Floats:
    """Each baseline's forecast for the K steps that *usual* covers: (BASELINES, B, K) of z."""
    ground = step.ground[:, None]
    z: Floats = np.empty((BASELINES, *usual.daily.shape), np.float32)
    z[0] = step.z[:, None]
    z[1] = np.maximum(rows["ewma_3"][:, None] - ground, 0)
    z[2] = np.maximum(rows["ewma_14"][:, None] - ground, 0)
    z[3] = np.maximum(rows["rank_shares"][:, 2:3] - ground, 0)
    z[4] = _above(usual.daily, ground, z[2])
    z[5] = _above(usual.smooth, ground, z[2])
    z[6] = _above(usual.weekly, ground, z[5])
    z[7] = _above(usual.hourly, ground, z[2])
    z[8] = np.maximum(z[5] + rows["rest"][:, :1], 0)
    z[9] = np.maximum(z[6] + rows["rest"][:, 1:], 0)
    return z


def store_pending(rows: Rows, step: ScaledStep, steps: Steps, forecasts: dict[int, Floats]) -> None:
    """Store *forecasts* at each anchor's horizon as pending: (BASELINES, B) of z."""
    for anchor in TRACKED_HORIZONS:
        index = np.flatnonzero(steps % anchor.stride == 0)
        if index.size:
            levels = forecasts[anchor.horizon][:, index] + step.ground[index]
            at = index, pending_at(anchor, steps[index])
            rows["pending"][at] = to_float16(nonzero(levels)).T


def restart(rows: Rows, mask: Bools) -> None:
    """Clear the pending forecasts of the rows in *mask*; the errors stay."""
    rows["pending"][mask] = 0


def pending_at(anchor: TrackedHorizon, steps: Steps) -> Steps:
    """
    The indices in `pending` of the forecasts for *steps* at the horizon of *anchor*.

    The forecast that is made after such a step takes the same entry, because the entries are
    used in turn.
    """
    return anchor.first + steps // anchor.stride % anchor.places


def _above(level: Floats, ground: Floats, otherwise: Floats) -> Floats:
    return np.where(level == 0, otherwise, np.maximum(level - ground, np.float32(0)))
