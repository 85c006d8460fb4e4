"""
What was forecast against what came: settled in the row, told by the period.

At each anchor's horizon some of the forecasts that were told are kept until their
step closes; then their error, quantile loss, coverage and width are known, and go two
ways: at once into the widths of forecasts to come (`calibrate.py`) and into the
running error by which it is decided who serves (`serve.py`); and into sums. When a
step ends a period of event time, a row's sums are taken out of it and pooled over
flows of one class (`tally.py`). So a score is told once, whatever crashed.

A forecast is kept as compressed quantiles with the ground that they stood on, so that it
can be held against a rate as a rate, however far the scale has moved since.
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
from streamer.core.predict import conformal, ensemble, selection
from streamer.core.predict.conformal import KEPT, MEDIAN

Lanes = NDArray[np.intp]

TIE = np.float32(2e-3)  # of a rate: half precision does not tell finer whether a quantile was left
RANKS = np.array(KEPT, np.float32)
JUDGED_MAX = 2**16 - 1

COLUMNS: Columns = [
    ("pending_floor", "f2", (PENDING,)),  # of pending forecasts, when they were made; 0 for none
    (
        "pending_quantiles",
        "f2",
        (PENDING, len(KEPT)),
    ),  # their quantiles as told, but for a baseline's median …
    ("network_median", "f2", (PENDING,)),  # … and the network's own one, before it was blended
    ("n_scored", "u2", (len(TRACKED_HORIZONS),)),  # forecasts settled since a period's end …
    ("n_covered", "u2", (len(TRACKED_HORIZONS),)),  # … those that came within the 90 % band …
    (
        "loss_sums",
        "f4",
        (len(TRACKED_HORIZONS), 3),
    ),  # … and their errors, quantile losses and widths, as rates
]
LEVELS = ("pending_floor",)
BOUNDS: Bounds = {
    "pending_floor": (-scale.LEVEL_MAX, scale.LEVEL_MAX),
    "pending_quantiles": (0, scale.Z_MAX),
    "network_median": (0, scale.Z_MAX),
}
SETTLED = ("n_scored", "n_covered", "loss_sums")  # what a period's end takes out of a row


def store_pending(  # noqa: PLR0913 - a forecast, and what it was made of
    rows: Rows, ground: Floats, steps: Steps, told: Floats, own: Floats, alone: Floats
) -> None:
    """
    Keep what was *told* for the anchors among H horizons, (KEPT, B, H) compressed, till it closes.

    Its median is the network's *own*, (B, H), whoever serves: what a baseline said is kept with
    the baselines. Before it was blended it was *alone*, (B, H).
    """
    for place in conformal.anchors(own.shape[1]):
        anchor = TRACKED_HORIZONS[place]
        lanes = np.flatnonzero(steps % anchor.stride == 0)
        if lanes.size:
            kept = told[:, lanes, anchor.horizon - 1]
            kept[MEDIAN] = own[lanes, anchor.horizon - 1]
            at = lanes, baselines.pending_at(anchor, steps[lanes])
            rows["pending_floor"][at] = to_float16(nonzero(ground[lanes]))
            rows["pending_quantiles"][at] = to_float16(scale.clip_scaled(kept).T)
            rows["network_median"][at] = to_float16(
                scale.clip_scaled(alone[lanes, anchor.horizon - 1])
            )


def score_pending(rows: Rows, step: ScaledStep, steps: Steps, said: Floats, day: float) -> None:
    """
    Hold what was told of the closed step against it; a missing one settles nothing.

    *said* is what the baselines had said of it, (anchors, B, BASELINES) above the ground of now.
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
            ensemble.update(rows, lanes, alone, said[place, lanes], step.z[lanes], day)
            quarter = np.exp(ground + rows["log_offset"][lanes])  # of the scale of then
            told = np.minimum(np.expm1(z) * quarter[:, None], np.float32(RATE_MAX))
            came = scale.rates(step.z[lanes], step.scale[lanes])
            below, above = _beyond(told, came)
            conformal.update_bias(rows, lanes, place, above[:, MEDIAN], below[:, MEDIAN])
            by = selection.best_baseline(rows)[lanes]
            naive = scale.rates(said[place, lanes, by], step.scale[lanes])
            more = np.abs(told[:, MEDIAN] - came) - np.abs(naive - came)
            selection.accumulate(rows, lanes, more, day)
            told[:, MEDIAN] = np.where(rows["predictor"][lanes] == 0, told[:, MEDIAN], naive)
            _score(rows, lanes, place, told, came, below, above)


def _beyond(told: Floats, came: Floats) -> tuple[Bools, Bools]:
    """Which of the rates lie below what was *told*, (n, KEPT), and which above."""
    short, near = came[:, None] - told, TIE * told
    return short < -near, short > near


def _score(  # noqa: PLR0913 - a forecast and what came of it
    rows: Rows, lanes: Lanes, place: int, told: Floats, came: Floats, below: Bools, above: Bools
) -> None:
    """Score what was predicted; the median may be a baseline's, the rest is the network's."""
    short = came[:, None] - told
    missed = np.concatenate((below[:, :MEDIAN], above[:, MEDIAN + 1 :]), axis=1)
    uneven = np.delete(told, MEDIAN, axis=1) + came[:, None] > 0  # zero for zero says nothing
    conformal.update_widths(rows, lanes, place, missed, judged=uneven)
    at = lanes, place
    rows["n_scored"][at] = np.minimum(rows["n_scored"][at], JUDGED_MAX - 1) + 1
    rows["n_covered"][at] += ~(missed[:, 0] | missed[:, -1])
    loss = np.maximum(RANKS * short, (RANKS - 1) * short).mean(axis=1) * 2
    width = told[:, -1] - told[:, 0]
    rows["loss_sums"][at] += np.stack((np.abs(short[:, MEDIAN]), loss, width), axis=1)


def restart(rows: Rows, mask: Bools) -> None:
    """Forget what is pending in the rows of *mask*; what was settled stays."""
    rows["pending_floor"][mask] = 0
