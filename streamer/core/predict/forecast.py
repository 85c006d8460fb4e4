"""
Conversion of closed steps to network inputs, and of network outputs to bands of rates.

`prepare` passes a closed step of B rows through the stages that update the columns
of a flow (scale, profiles, baselines) and assembles the network's inputs;
`postprocess` converts the outputs, compressed quantiles, to rates.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.features import baselines, burst_memory, scale, seasonal
from streamer.core.features.inputs import FEATURES, Inputs, features
from streamer.core.features.scale import Bools, Floats, ScaledStep, Steps, to_float16, to_float32
from streamer.core.network.config import QUANTILES, ModelConfig, state_shape
from streamer.core.predict import burst_odds, conformal, ensemble, outcomes, selection
from streamer.core.types import DAY_S

WINDOW = 64  # recent steps that a row stores for a state rebuild with other weights
RATE_NONE = 1e-3  # of the scale: below it a step counts as silent


@dataclass(frozen=True, slots=True)
class ForecastSpec:
    """The horizons and quantiles of forecasts, and the step of the time grid."""

    step_s: int
    horizons: int = 12  # steps ahead: 1, 2, … horizons
    quantiles: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    peaks: tuple[int, ...] = ()  # spans, in steps, whose highest rate is forecast; ascending

    def __post_init__(self) -> None:
        if not QUANTILES[0] <= min(self.quantiles) <= max(self.quantiles) <= QUANTILES[-1]:
            raise ValueError(
                f"quantiles: must lie between {QUANTILES[0]} and {QUANTILES[-1]},"
                f" are {', '.join(map(str, self.quantiles))}"
            )
        if self.peaks and max(self.peaks) > self.horizons:
            raise ValueError(f"peaks: must be at most {self.horizons} horizons, are {self.peaks}")


def columns(model: ModelConfig, outlook: ForecastSpec) -> Columns:
    """All columns that forecasting needs."""
    return [
        *scale.COLUMNS,
        *seasonal.columns(outlook.step_s),
        *baselines.COLUMNS,
        *(burst_memory.columns(outlook.step_s) if outlook.peaks else ()),
        *(burst_odds.COLUMNS if outlook.peaks else ()),
        *conformal.COLUMNS,
        *ensemble.COLUMNS,
        *selection.COLUMNS,
        *outcomes.COLUMNS,
        ("missing_share", "f4"),
        ("silent_share", "f4"),
        ("recent", "f2", (WINDOW,)),  # levels of recent steps, at their number modulo WINDOW
        ("inputs", "f2", (FEATURES,)),  # the network's last inputs
        (
            "state_before",
            "f2",
            state_shape(model)[:1] + state_shape(model)[2:],
        ),  # h before those inputs
        (
            "last_forecast",
            "f2",
            (outlook.horizons, len(outlook.quantiles)),
        ),  # the last forecast, as z
        ("state", "f2", state_shape(model)),
    ]


ANY_STEP = (
    *scale.ANY_STEP,
    *seasonal.ANY_STEP,
    *baselines.ANY_STEP,
    "missing_share",
    "silent_share",
)
BOUNDS: Bounds = {
    **scale.BOUNDS,
    **seasonal.BOUNDS,
    **baselines.BOUNDS,
    **burst_memory.BOUNDS,
    **burst_odds.BOUNDS,
    **conformal.BOUNDS,
    **ensemble.BOUNDS,
    **selection.BOUNDS,
    **outcomes.BOUNDS,
    "missing_share": (-0.01, 1.01),
    "silent_share": (-0.01, 1.01),
}
NAN_MISSING = ("recent",)  # columns in which NaN means a missing step
DERIVED = (
    "state",
    "state_before",
    "inputs",
    "last_forecast",
)  # recomputed from the rest of the row


def prepare(rows: Rows, rates: NDArray[np.float64], steps: Steps, outlook: ForecastSpec) -> Inputs:
    """
    Update the rows with their closed *steps* and *rates* (NaN: missing).

    Pending forecasts for these steps are settled: widths and the selection learn from them.
    """
    day, horizons = DAY_S / outlook.step_s, tuple(range(1, outlook.horizons + 1))
    inputs, step, baseline_z = _make_inputs(rows, rates, steps, outlook.step_s, horizons)
    scale.rebase(rows, outcomes.LEVELS, step.drift)
    if outlook.peaks:
        burst_memory.update(rows, step, steps, outlook.step_s)
        burst_odds.settle(rows, rates, steps, outlook.peaks[-1])
    outcomes.score_pending(rows, step, steps, baseline_z, day)
    anchors = conformal.anchors(outlook.horizons)
    moved = selection.select_predictor(rows, inputs.errors, step.present, anchors, day)
    outcomes.restart(rows, moved)  # the old predictor's forecasts do not count for the new one
    return inputs


def make_inputs(
    rows: Rows,
    rates: NDArray[np.float64],
    steps: Steps,
    step_s: int,
    horizons: tuple[int, ...],
) -> Inputs:
    """The inputs for any ascending *horizons*, as `prepare` makes them, but nothing is scored."""
    return _make_inputs(rows, rates, steps, step_s, horizons)[0]


def _make_inputs(
    rows: Rows,
    rates: NDArray[np.float64],
    steps: Steps,
    step_s: int,
    horizons: tuple[int, ...],
) -> tuple[Inputs, ScaledStep, Floats]:
    """The network's inputs, the scaled step, and the baselines' forecasts for it."""
    day = DAY_S / step_s
    step = scale.measure(rows, *scale.robust(rows, rates, steps, day), day)
    for names in (baselines.LEVELS, seasonal.levels(step_s), ("recent",)):
        scale.rebase(rows, names, step.drift)
    baseline_z = baselines.score_pending(rows, step, steps, day)
    baselines.update(rows, step, baseline_z[0], day)
    missed = baselines.errors_of(rows)
    seasonal.update(rows, step, steps, step_s, missed.daily_beats_recent, missed.seasonality_break)
    _remember_level(rows, step, steps, day)

    every = _with_anchors(horizons)
    usual = seasonal.predict(rows, steps, np.array(every), step_s)
    ahead = baselines.predict(rows, step, usual)
    kept = {a.horizon: ahead[:, :, every.index(a.horizon)] for a in baselines.TRACKED_HORIZONS}
    baselines.store_pending(rows, step, steps, kept)
    places = [every.index(horizon) for horizon in horizons]
    if every != horizons:
        ahead = ahead[:, :, places]
    read = to_float16(features(rows, step, baseline_z[0], missed, step_s))
    rows["inputs"], rows["state_before"] = read, rows["state"][..., :1, :].squeeze(-2)
    inputs = Inputs(
        features=to_float32(read),
        ahead=ahead,
        errors=missed.logs,
        spread=usual.spread[:, places],
        scale=step.scale,
        horizons=np.array(horizons),
    )
    return inputs, step, baseline_z


def postprocess(
    rows: Rows, outputs: Floats, inputs: Inputs, steps: Steps, outlook: ForecastSpec
) -> Floats:
    """
    Bands of rates, (B, horizons, quantiles), non-negative and without crossings.

    The bands are the network's *outputs* after *steps* with the learned widths, shifted towards
    the blended median or, if a baseline is selected, to the baseline's forecast.
    """
    needed = _needed(outlook.quantiles)
    z = outputs[needed.left]  # (quantiles, B, horizons)
    if needed.share.any():
        z += needed.share * (outputs[needed.right] - z)
    pivots, widths = conformal.pivots(outputs), conformal.widths(rows, inputs)
    z = conformal.adjust(z, needed.quantiles, pivots, widths)
    alone = z[needed.median].copy()
    ensemble.apply(rows, z, needed.quantiles, inputs.ahead)
    _sort_quantiles(z)

    own = z[needed.median]
    away = np.flatnonzero(rows["predictor"])
    if away.size:
        own = own.copy()
        z[:, away] = _around_baseline(
            inputs.ahead[selection.best_baseline(rows)[away], away], z[:, away], needed
        )
    ground = np.log(inputs.scale / 4) - rows["log_offset"]
    outcomes.store_pending(rows, ground, steps, z[needed.kept], own, alone)
    z = scale.clip_scaled(z[needed.published])
    rows["last_forecast"] = to_float16(z).transpose(1, 2, 0)
    return scale.rates(z, inputs.scale[:, None]).transpose(1, 2, 0)


def restart(rows: Rows, mask: Bools) -> None:
    """Restart the flows in *mask* after a gap that is too long; the profiles stay."""
    for name in ("seen", "state", "state_before", "recent"):
        rows[name][mask] = 0
    seasonal.restart(rows, mask)
    baselines.restart(rows, mask)
    outcomes.restart(rows, mask)
    if "open_high" in (rows.dtype.names or ()):
        burst_memory.restart(rows, mask)
        burst_odds.restart(rows, mask)


def _around_baseline(median: Floats, z: Floats, needed: QuantilePlan) -> Floats:
    """The quantiles *z*, (quantiles, n, H), about another *median*, (n, H)."""
    ensemble.shift_quantiles(z, needed.quantiles, median - z[needed.median])
    np.minimum(z[: needed.median], median, out=z[: needed.median])
    _sort_quantiles(z)
    return z


def _sort_quantiles(z: Floats) -> None:
    """Raise each quantile to at least the one below it."""
    for lower, upper in itertools.pairwise(z):
        np.maximum(lower, upper, out=upper)


def _remember_level(rows: Rows, step: ScaledStep, steps: Steps, day: float) -> None:
    lanes = np.arange(len(rows))
    level = np.where(step.present, seasonal.nonzero(step.level), np.float32(np.nan))
    rows["recent"][lanes, steps % WINDOW] = to_float16(level)
    silent = (step.z < np.log1p(4 * RATE_NONE)).astype(np.float32)
    age = rows["age"].astype(np.float32)
    for name, value, gain in (
        ("missing_share", (~step.present).astype(np.float32), 4 / day),
        ("silent_share", silent, 2 / day),
    ):
        gains = np.maximum(np.float32(min(1.0, gain)), 1 / age)
        rows[name] += gains * (value - rows[name])


@functools.cache
def _with_anchors(horizons: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({*horizons, *(anchor.horizon for anchor in baselines.TRACKED_HORIZONS)}))


class QuantilePlan(NamedTuple):
    """The quantiles that a wave needs: the published ones and those that are scored."""

    quantiles: tuple[float, ...]
    left: NDArray[np.intp]  # index of the network's quantile at or below each
    right: NDArray[np.intp]  # index of the next one
    share: Floats  # the fraction of the way from left to right, (quantiles, 1, 1)
    published: list[int]  # indices of the published quantiles
    kept: list[int]  # indices of `conformal.KEPT`
    median: int


@functools.cache
def _needed(published: tuple[float, ...]) -> QuantilePlan:
    quantiles = tuple(sorted({*published, *conformal.KEPT}))
    place = np.interp(quantiles, QUANTILES, np.arange(len(QUANTILES)))
    left = np.floor(place + 1e-9).astype(np.intp)
    right = np.minimum(left + 1, len(QUANTILES) - 1)
    share = np.maximum(place - left, 0).astype(np.float32)[:, None, None]
    kept = [quantiles.index(each) for each in conformal.KEPT]
    at = [quantiles.index(each) for each in published]
    return QuantilePlan(quantiles, left, right, share, at, kept, kept[conformal.MEDIAN])
