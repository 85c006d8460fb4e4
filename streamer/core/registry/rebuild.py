"""
State rebuild (burn-in): new weights are run over a row's recent steps to compute its state.

A row stores the levels of its last WINDOW steps. The network's inputs at each of
them are recomputed from those levels and from the row's slowly changing columns as they are now:

- exact: levels and missing marks, changes, ages, and the very last step, whose inputs
  the row stores;
- approximate: the fast and the slow average and the residuals, which are run over the
  window again, starting from their present values (exact for a flow younger than the window);
- at their present values: the scale, running errors, quantiles and shares, and the profiles,
  which have already learned from the steps that they are compared with.

The state depends only on the steps of the window. What the cell remembered from before
is lost, which is little after WINDOW steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamer.core.columns import Rows
from streamer.core.features import baselines, scale, seasonal
from streamer.core.features.inputs import FEATURES, features
from streamer.core.features.scale import Bools, Floats, ScaledStep, Steps, to_float16, to_float32
from streamer.core.network.config import Model
from streamer.core.predict.forecast import WINDOW
from streamer.core.types import DAY_S


class Window(NamedTuple):
    """The inputs of B rows at their recent steps, oldest first, for a new run of the network."""

    features: Floats  # (WINDOW, B, FEATURES)
    started: Bools  # (WINDOW, B) whether the row's history had begun by then


def rebuild_states(rows: Rows, last: Steps, step_s: int, model: Model) -> None:
    """Give *rows*, whose newest closed steps are *last* (B,), the state of *model*."""
    window = rebuild(rows, last, step_s)
    known = rows["inputs"].any(axis=1)
    window.features[-1][known] = to_float32(rows["inputs"][known])
    state, before = model.prime(window.features, window.started)
    rows["state"], rows["state_before"] = state, before[..., :1, :].squeeze(-2)


def rebuild(rows: Rows, last: Steps, step_s: int) -> Window:
    """The inputs at each of the recent steps, as far as the rows still allow."""
    day = DAY_S / step_s
    count, lanes = len(rows), np.arange(len(rows))
    back = np.arange(WINDOW)[::-1, None]
    steps = last - back  # (WINDOW, B)
    kept = to_float32(rows["recent"])[lanes, steps % WINDOW]
    started = np.logical_or.accumulate(kept != 0, axis=0)
    present = started & ~np.isnan(kept)

    now = rows.copy()  # run over the window again, from its beginning
    size = scale.scale_of(rows["mean"], rows["peak"])
    ground = np.log(size / 4) - rows["log_offset"]
    level = forward_fill(np.where(present, kept, np.float32(0)), present, ground)
    z = np.maximum(level - ground, np.float32(0))
    change = np.diff(level, axis=0, prepend=level[:1])
    age = np.maximum(rows["age"].astype(np.int64) - back, 1)
    later = present[::-1].cumsum(axis=0)[::-1] - present
    seen = np.maximum(rows["seen"].astype(np.int64) - later, 0)
    first = started & (np.cumsum(started, axis=0) == 1)
    change[first] = 0
    usual = seasonal.predict(rows, last - WINDOW, np.arange(1, WINDOW + 1), step_s)

    found = np.empty((WINDOW, count, FEATURES), np.float32)
    none = np.zeros(count, np.float32)
    coming_step = z[:1].T.repeat(baselines.BASELINES, axis=1)  # (B, BASELINES) for the coming step
    now["ewma_3"] = level[np.argmax(present, axis=0), lanes]
    missed = baselines.errors_of(rows)
    for k in range(WINDOW):
        now["age"], now["seen"] = age[k], seen[k]
        step = ScaledStep(present[k], present[k], level[k], ground, z[k], change[k], size, none)
        predicted = np.where(first[k][:, None], z[k][:, None], coming_step)
        found[k] = features(now, step, predicted, missed, step_s)
        baselines.update(now, step, predicted, day)
        now["rank_shares"], now["deviation"] = rows["rank_shares"], rows["deviation"]
        coming = seasonal.SeasonalForecast(*(column[:, k + 1 : k + 2] for column in usual))
        if k + 1 < WINDOW:
            coming_step = baselines.predict(now, step, coming)[:, :, 0].T
    return Window(to_float32(to_float16(found)), started)


def forward_fill(levels: Floats, present: Bools, ground: Floats) -> Floats:
    """*levels* (K, B), missing ones filled with the last before; never below *ground* (B,)."""
    at = np.where(present, np.arange(len(levels))[:, None], -1)
    at = np.maximum.accumulate(at, axis=0)
    known: Floats = np.where(at >= 0, np.take_along_axis(levels, np.maximum(at, 0), 0), ground)
    return np.maximum(known, ground)
