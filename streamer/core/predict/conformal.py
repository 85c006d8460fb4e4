"""
Bands that keep their promise: widths that learn from how often they were left, and a
median that learns to which side.

Whatever the network says, traffic changes, and a flow may be unlike all that the
network was taught. So each flow has, at each anchor's horizon and to either side of
the median, two factors: one for the width up to the quartile, one for all beyond.
A factor grows a little each time that its quantile was passed, shrinks by far less
each time that it was not, and rests where the quantile is passed as often as it
promises: quantile tracking, on the logarithm of a width (Gibbs and Candès, 2021:
"Adaptive conformal inference under distribution shift"; Angelopoulos, Candès and
Tibshirani, 2023: "Conformal PID control for time series prediction", whose P this is),
with strides that are long for a young flow and settle at LEARNING_RATE (Angelopoulos, Barber
and Bates, 2024: "Online conformal prediction with decaying step sizes"), longer by the
root where fewer forecasts are held against what came. That needs no model of the
traffic: over n forecasts the share of misses differs from the promised one by
2 WIDER_MAX / (n LEARNING_RATE) at most, as long as no factor is at its bound.

The median is moved likewise, by far shorter strides in units of the flow's own error: a
network that all flows share is a little too high for one and too low for another.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.features.baselines import TRACKED_HORIZONS
from streamer.core.features.inputs import Inputs
from streamer.core.features.scale import Bools, Floats
from streamer.core.network.config import QUANTILES

Lanes = NDArray[np.intp]

KEPT = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles that are held against what comes
MEDIAN = KEPT.index(0.5)
SIDES = (0.05, 0.25, 0.75, 0.95)  # those that have a factor
ALPHA = np.array([0.05, 0.25, 0.25, 0.05], np.float32)  # how often each is missed
LOW, HIGH, CENTRE = (QUANTILES.index(each) for each in (0.25, 0.75, 0.5))

LEARNING_RATE = 0.02  # of a factor's logarithm, for one miss
STRIDE_FIRST = 0.3  # of a flow just met; it falls with the root of what was held against it
STRIDE_MEDIAN = 0.002  # of the median, in units of the error, for each step between forecasts
MOVED_MAX = 1.0  # in units of the error
WIDER_MAX = 1.5  # of a factor's logarithm: 4.5 times as wide, or as to_float16
UNIT = 2e4  # in a unit of the logarithm: what a row keeps is whole

COLUMNS: Columns = [
    (
        "log_width_factor",
        "i2",
        (len(TRACKED_HORIZONS), len(SIDES)),
    ),  # logarithms of factors, in parts of UNIT
    (
        "moved",
        "i2",
        (len(TRACKED_HORIZONS),),
    ),  # by how much medians are, in parts of UNIT of the error
]
BOUNDS: Bounds = {
    "log_width_factor": (-UNIT * WIDER_MAX, UNIT * WIDER_MAX),
    "moved": (-UNIT * MOVED_MAX, UNIT * MOVED_MAX),
}


class Widths(NamedTuple):
    """What B rows have learned of widths, at H horizons."""

    factor: Floats  # (SIDES, B, H) …
    moved: Floats  # (B, H) by how much all quantiles are, compressed
    reach: Floats  # (B, H) … of the part of a width up to this, compressed
    top: Floats  # (B,) the flow's peak, compressed


class Pivots(NamedTuple):
    """Where a factor ends and another begins: quantiles of B rows and H horizons, compressed."""

    low: Floats  # the lower quartile
    median: Floats
    high: Floats


def pivots(outputs: Floats) -> Pivots:
    """Those of a network's *outputs*, (QUANTILES, B, H)."""
    return Pivots(outputs[LOW], outputs[CENTRE], outputs[HIGH])


def update_widths(rows: Rows, lanes: Lanes, place: int, missed: Bools, judged: Bools) -> None:
    """
    Take in what came of forecasts of the anchor at *place*, in the rows at *lanes*.

    Whether what came was beyond each of SIDES is *missed*, (n, SIDES); only where
    *judged* does it teach.
    """
    every = TRACKED_HORIZONS[place].stride
    number = np.maximum(rows["seen"][lanes] // every, 1).astype(np.float32)
    settled = np.float32(LEARNING_RATE * math.sqrt(every))
    stride = np.maximum(settled, np.float32(STRIDE_FIRST) / np.sqrt(number))
    moved = np.float32(UNIT) * stride[:, None] * (missed - ALPHA)
    wider = rows["log_width_factor"][lanes, place] + np.where(judged, np.rint(moved), np.float32(0))
    rows["log_width_factor"][lanes, place] = np.clip(wider, -UNIT * WIDER_MAX, UNIT * WIDER_MAX)


def update_bias(rows: Rows, lanes: Lanes, place: int, above: Bools, below: Bools) -> None:
    """Take in on which side of the network's median the rates came, (n,) of *lanes*; or neither."""
    stride = UNIT * STRIDE_MEDIAN * TRACKED_HORIZONS[place].stride
    moved = rows["moved"][lanes, place] + round(stride) * (above.astype(np.int32) - below)
    rows["moved"][lanes, place] = np.clip(moved, -UNIT * MOVED_MAX, UNIT * MOVED_MAX)


def widths(rows: Rows, inputs: Inputs) -> Widths:
    """What the rows have learned, between anchors as errors are: linear in the log horizon."""
    learned = np.exp(rows["log_width_factor"].astype(np.float32) / np.float32(UNIT)).transpose(
        2, 0, 1
    )
    error = np.exp(inputs.errors.min(axis=0)) + np.float32(0.01)
    shares = _shares(tuple(inputs.horizons.tolist()))
    reach = _interpolate(error, shares)
    moved = _interpolate(rows["moved"].astype(np.float32), shares)
    return Widths(
        factor=_interpolate(learned, shares),
        moved=moved * (reach / np.float32(UNIT)),
        reach=reach,
        top=np.log1p(4 * rows["peak"] / inputs.scale),
    )


def adjust(z: Floats, quantiles: tuple[float, ...], at: Pivots, widths: Widths) -> Floats:
    """
    The quantiles *z*, (quantiles, B, H), with their widths as learned.

    Only the first `reach` of a width is _stretch: bands are too to_float16 where a flow was calm
    and a burst came, and in compressed space twice a wide band is a multiple of it. Nor does
    stretching carry a quantile beyond the flow's own peak. Quantiles stay in order; all are moved
    with the median.
    """
    told, top = np.empty_like(z), widths.top[:, None]
    more = widths.factor - 1
    limit = np.where(more < 0, np.float32(np.inf), widths.reach)

    def _stretch(width: Floats, side: int) -> Floats:
        wider: Floats = width + more[side] * np.minimum(width, limit[side])
        return wider

    low = at.median - _stretch(at.median - at.low, 1)
    high = at.median + _stretch(at.high - at.median, 2)
    for k, quantile in enumerate(quantiles):
        here = z[k]
        if quantile < QUANTILES[LOW]:
            told[k] = low - _stretch(at.low - here, 0)
        elif quantile <= QUANTILES[CENTRE]:
            told[k] = at.median - _stretch(at.median - here, 1)
        elif quantile <= QUANTILES[HIGH]:
            there = at.median + _stretch(here - at.median, 2)
            told[k] = np.minimum(there, np.maximum(here, top))
        else:
            there = high + _stretch(here - at.high, 3)
            told[k] = np.minimum(there, np.maximum(here, top))
    told += widths.moved
    return told


def _interpolate(learned: Floats, shares: Floats) -> Floats:
    """(…, anchors) to (…, H); a sum and no product of matrices, whose bits depend on the wave."""
    told: Floats = learned[..., :1] * shares[0]
    for place in range(1, len(shares)):
        told = told + learned[..., place, None] * shares[place]
    return told


@functools.cache
def _shares(horizons: tuple[int, ...]) -> Floats:
    """
    Of each anchor's factor in that of a horizon, (anchors, H).

    An anchor beyond the last horizon is never learned at, and has no share.
    """
    learned = [TRACKED_HORIZONS[place].horizon for place in anchors(max(horizons))]
    places = [np.interp(np.log(horizons), np.log(learned), unit) for unit in np.eye(len(learned))]
    return np.array(places, np.float32)


def anchors(horizons: int) -> tuple[int, ...]:
    """Those of the anchors, by place, that so many horizons reach."""
    return tuple(place for place, each in enumerate(TRACKED_HORIZONS) if each.horizon <= horizons)
