"""
Selection: a flow is served by the network, or by a baseline that has long been better.

The network mixes the baselines, so as a rule it is better than any of them. If it is not, the
flow is served by the best baseline: the median is the baseline's, and the band around it is
still the network's, calibrated.

A baseline must be better by two measures. The first is in compressed space: its running error,
learned from the same steps as all others and averaged over all anchors, must be lower by MARGIN.
The second is in rates: the sum of the network's errors minus those of its `best_baseline`, the
best baseline at the time, must be positive. On a flow that is almost silent between bursts, the
last value wins by a tiny margin for weeks and loses more than that in one burst.
A predictor is replaced only once others have been better for PATIENCE_DAYS, minus the
time in which they were not, so that predictors do not alternate by chance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.features import baselines
from streamer.core.features.baselines import ERROR_MAX, ERROR_NONE, TRACKED_HORIZONS
from streamer.core.features.scale import Bools, Floats

Lanes = NDArray[np.intp]
Places = tuple[int, ...]

PATIENCE_DAYS = 1.0
PATIENCE_MAX = 2**16 - 1  # steps
MARGIN = 0.05  # least advantage of a baseline, as a share of the error

COLUMNS: Columns = [
    (
        "network_error",
        "f4",
        (len(TRACKED_HORIZONS),),
    ),  # the network's running error; `errors` are the baselines'
    ("predictor", "u2"),  # 0: the network; else one more than the baseline's number
    ("switch_count", "u2"),  # steps in which another was better, minus those in which none was
    ("best_baseline", "u2"),  # the baseline that serves, or the best one while the network serves
    (
        "cum_excess_loss",
        "f4",
    ),  # decaying sum of the network's errors minus those of best_baseline, as rates
]
BOUNDS: Bounds = {
    "network_error": (0, ERROR_MAX),
    "predictor": (0, len(baselines.NAMES)),
    "best_baseline": (0, len(baselines.NAMES) - 1),
}


def update(rows: Rows, lanes: Lanes, place: int, missed: Floats, day: float) -> None:
    """
    Update the network's running error at the anchor at index *place*, in the rows at *lanes*.

    Before its first scored forecast it is assumed to be as good as the best baseline.
    """
    own = rows["network_error"][lanes, place]
    new = np.flatnonzero(own == 0)
    own[new] = rows["errors"][lanes[new], place].min(axis=-1, initial=np.float32(ERROR_MAX))
    gain = baselines.learning_rate(rows["seen"][lanes], TRACKED_HORIZONS[place], day).astype(
        np.float32
    )
    rows["network_error"][lanes, place] = own + gain * (
        np.minimum(missed, np.float32(ERROR_MAX)) - own
    )


def accumulate(rows: Rows, lanes: Lanes, more: Floats, day: float) -> None:
    """Add the network's excess error *more* (n,) over its best baseline's, as rates."""
    rows["cum_excess_loss"][lanes] = baselines.decay(day) * rows["cum_excess_loss"][lanes] + more


def select_predictor(
    rows: Rows, errors: Floats, present: Bools, anchors: Places, day: float
) -> Bools:
    """
    Select the predictor that has been better for long enough; returns the rows that changed.

    *errors* are the logarithms of the baselines' running errors, (BASELINES, B, anchors); only
    those at *anchors* count.
    """
    lanes = np.arange(len(rows))
    naive = _mean(errors, anchors)
    best = naive.argmin(axis=0)
    least = naive[best, lanes]
    own = _mean(np.log(rows["network_error"] + ERROR_NONE), anchors)
    own = np.where((rows["network_error"][:, list(anchors)] == 0).any(axis=1), least, own)
    server = rows["predictor"]
    away = server > 0
    now = np.where(away, naive[best_baseline(rows), lanes], own)
    back = away & ((own < now) | (rows["cum_excess_loss"] < 0))
    other = back | ((least < now - np.float32(MARGIN)) & (rows["cum_excess_loss"] > 0))
    waited = rows["switch_count"].astype(np.int64)
    waited = np.maximum(waited + np.where(other, 1, -1) * present, 0)
    moves: Bools = waited >= min(PATIENCE_DAYS * day, PATIENCE_MAX)
    rows["predictor"] = server = np.where(moves, np.where(back, 0, best + 1), server)
    rows["best_baseline"] = np.where(server > 0, server - 1, best)
    rows["switch_count"] = np.where(moves, 0, waited)
    return moves


def best_baseline(rows: Rows) -> Lanes:
    """The number of the baseline that serves each row, or that would serve it first."""
    by: Lanes = rows["best_baseline"].astype(np.intp)
    return by


def _mean(errors: Floats, anchors: Places) -> Floats:
    """The mean over some anchors, the last axis, in an order that does not depend on the wave."""
    total: Floats = errors[..., anchors[0]]
    for place in anchors[1:]:
        total = total + errors[..., place]
    return total / np.float32(len(anchors))


def predictor_names(cell: str) -> tuple[str, ...]:
    """The names of all predictors, indexed by the column `predictor`; the *cell* is first."""
    return (cell, *baselines.NAMES)


def names(rows: Rows, cell: str) -> list[str]:
    """The name of each row's predictor: the network's *cell*, or a baseline."""
    every = predictor_names(cell)
    return [every[server] for server in rows["predictor"].tolist()]
