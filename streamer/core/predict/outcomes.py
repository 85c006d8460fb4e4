"""
Outcomes: forecasts are compared with the rates that followed and scored per period.

At each anchor's horizon some of the published forecasts are stored as pending until their
step closes. Then their error, quantile loss, coverage and width are known. These are used
at once for the widths of later forecasts (`conformal.py`) and for the
running error that selects the predictor (`selection.py`), and they are added to sums. When a
step ends a period of event time, a row's sums are taken out of the row and pooled over
flows of one class (`score_totals.py`). So a score is published exactly once, even after a crash.

A forecast is stored as compressed quantiles together with the ground at that time, so that it
can be compared with a rate in units, however far the scale has moved since.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.features import baselines, scale
from streamer.core.features.baselines import PENDING, TRACKED_HORIZONS
from streamer.core.features.scale import (
    RATE_MAX,
    Bools,
    Floats,
    ScaledStep,
    Steps,
    to_float16,
    to_float32,
)
from streamer.core.features.seasonal import nonzero
from streamer.core.network.pinball import pinball_loss
from streamer.core.predict import conformal, ensemble, selection
from streamer.core.predict.conformal import KEPT, MEDIAN

Lanes = NDArray[np.intp]

TIE = np.float32(2e-3)  # share of a rate: smaller misses are within half precision
RANKS = np.array(KEPT, np.float32)
JUDGED_MAX = 2**16 - 1

COLUMNS: Columns = [
    ("pending_floor", "f2", (PENDING,)),  # the ground when the forecast was made; 0 for none
    (
        "pending_quantiles",
        "f2",
        (PENDING, len(KEPT)),
    ),  # the published quantiles, but always with the network's median
    ("network_median", "f2", (PENDING,)),  # the network's median before it was blended
    ("n_scored", "u2", (len(TRACKED_HORIZONS),)),  # forecasts settled since the period's begin
    ("n_covered", "u2", (len(TRACKED_HORIZONS),)),  # those of them within the 90 % band
    (
        "loss_sums",
        "f4",
        (len(TRACKED_HORIZONS), 3),
    ),  # sums of errors, quantile losses and widths, as rates
]
LEVELS = ("pending_floor",)
BOUNDS: Bounds = {
    "pending_floor": (-scale.LEVEL_MAX, scale.LEVEL_MAX),
    "pending_quantiles": (0, scale.Z_MAX),
    "network_median": (0, scale.Z_MAX),
}
SETTLED = ("n_scored", "n_covered", "loss_sums")  # columns that are reset at a period's end


def store_pending(  # noqa: PLR0913 - a forecast and its components
    rows: Rows, ground: Floats, steps: Steps, quantiles: Floats, own: Floats, alone: Floats
) -> None:
    """
    Store as pending the quantiles *quantiles*, (KEPT, B, H) compressed, at the anchors within H.

    The stored median is always the network's *own*, (B, H): the baselines' forecasts are pending
    in their own column. *alone* (B, H) is the network's median before it was blended.
    """
    for place in conformal.anchors(own.shape[1]):
        anchor = TRACKED_HORIZONS[place]
        lanes = np.flatnonzero(steps % anchor.stride == 0)
        if lanes.size:
            kept = quantiles[:, lanes, anchor.horizon - 1]
            kept[MEDIAN] = own[lanes, anchor.horizon - 1]
            at = lanes, baselines.pending_at(anchor, steps[lanes])
            rows["pending_floor"][at] = to_float16(nonzero(ground[lanes]))
            rows["pending_quantiles"][at] = to_float16(scale.clip_scaled(kept).T)
            rows["network_median"][at] = to_float16(
                scale.clip_scaled(alone[lanes, anchor.horizon - 1])
            )


def score_pending(
    rows: Rows, step: ScaledStep, steps: Steps, baseline_z: Floats, day: float
) -> None:
    """
    Compare pending forecasts with the closed step; a missing step settles nothing.

    *baseline_z* (anchors, B, BASELINES) are the baselines' forecasts for it, above the current
    ground.
    """
    for place, anchor in enumerate(TRACKED_HORIZONS):
        lanes = np.flatnonzero(step.present & (steps % anchor.stride == 0))
        ground = to_float32(
            rows["pending_floor"][lanes, baselines.pending_at(anchor, steps[lanes])]
        )
        lanes, ground = lanes[ground != 0], ground[ground != 0]
        if lanes.size:
            at = lanes, baselines.pending_at(anchor, steps[lanes])
            z = to_float32(rows["pending_quantiles"][at])
            apart, none = ground - step.ground[lanes], np.float32(0)
            own = np.maximum(z[:, MEDIAN] + apart, none)
            selection.update(rows, lanes, place, np.abs(own - step.z[lanes]), day)
            alone = np.maximum(to_float32(rows["network_median"][at]) + apart, none)
            ensemble.update(rows, lanes, alone, baseline_z[place, lanes], step.z[lanes], day)
            quarter = np.exp(ground + rows["log_offset"][lanes])  # of the scale at that time
            predicted = np.minimum(np.expm1(z) * quarter[:, None], np.float32(RATE_MAX))
            came = scale.rates(step.z[lanes], step.scale[lanes])
            below, above = _beyond(predicted, came)
            conformal.update_bias(rows, lanes, place, above[:, MEDIAN], below[:, MEDIAN])
            by = selection.best_baseline(rows)[lanes]
            naive = scale.rates(baseline_z[place, lanes, by], step.scale[lanes])
            more = np.abs(predicted[:, MEDIAN] - came) - np.abs(naive - came)
            selection.accumulate(rows, lanes, more, day)
            predicted[:, MEDIAN] = np.where(
                rows["predictor"][lanes] == 0, predicted[:, MEDIAN], naive
            )
            _score(rows, lanes, place, predicted, came, below, above)


def _beyond(quantiles: Floats, came: Floats) -> tuple[Bools, Bools]:
    """Which of the rates lie below the quantiles *quantiles*, (n, KEPT), and which above."""
    short, near = came[:, None] - quantiles, TIE * quantiles
    return short < -near, short > near


def _score(  # noqa: PLR0913 - a forecast and its outcome
    rows: Rows,
    lanes: Lanes,
    place: int,
    quantiles: Floats,
    came: Floats,
    below: Bools,
    above: Bools,
) -> None:
    """Score a forecast; the median may be a baseline's, the other quantiles are the network's."""
    short = came[:, None] - quantiles
    missed = np.concatenate((below[:, :MEDIAN], above[:, MEDIAN + 1 :]), axis=1)
    uneven = np.delete(quantiles, MEDIAN, axis=1) + came[:, None] > 0  # both zero: not informative
    conformal.update_widths(rows, lanes, place, missed, judged=uneven)
    at = lanes, place
    rows["n_scored"][at] = np.minimum(rows["n_scored"][at], JUDGED_MAX - 1) + 1
    rows["n_covered"][at] += ~(missed[:, 0] | missed[:, -1])
    loss = pinball_loss(short, RANKS).mean(axis=1) * 2
    width = quantiles[:, -1] - quantiles[:, 0]
    rows["loss_sums"][at] += np.stack((np.abs(short[:, MEDIAN]), loss, width), axis=1)


def restart(rows: Rows, mask: Bools) -> None:
    """Clear the pending forecasts of the rows in *mask*; the sums stay."""
    rows["pending_floor"][mask] = 0
