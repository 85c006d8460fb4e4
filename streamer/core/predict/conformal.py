"""
Online conformal calibration: bands whose widths adapt so that they keep their coverage, and a
median whose bias is corrected.

Traffic changes, and a flow may be unlike all flows that the network was trained on. Therefore
each flow has, at each anchor's horizon and on either side of the median, two factors: one for
the width up to the quartile, one for the width beyond it. A factor grows a little each time
its quantile is exceeded, shrinks by far less each time it is not, and is stable if the quantile
is exceeded as often as its level demands. This is quantile tracking on the logarithm of a width
(Gibbs and Candès, 2021: "Adaptive conformal inference under distribution shift"; Angelopoulos,
Candès and Tibshirani, 2023: "Conformal PID control for time series prediction", of which this
is the P term). The strides are long for a young flow and settle at LEARNING_RATE (Angelopoulos,
Barber and Bates, 2024: "Online conformal prediction with decaying step sizes"). At an anchor that
scores only every n-th forecast, they settle at sqrt(n) times that. The method needs no model of
the traffic: over n forecasts the share of misses differs from the nominal one by at most
2 WIDER_MAX / (n LEARNING_RATE), as long as no factor is at its bound.

The median is corrected in the same way, by far shorter strides in units of the flow's own error: a
network that all flows share is slightly too high for one flow and too low for another.
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

KEPT = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles that are scored against later rates
MEDIAN = KEPT.index(0.5)
SIDES = (0.05, 0.25, 0.75, 0.95)  # quantiles that have a factor
ALPHA = np.array([0.05, 0.25, 0.25, 0.05], np.float32)  # nominal miss rate of each
LOW, HIGH, CENTRE = (QUANTILES.index(each) for each in (0.25, 0.75, 0.5))

LEARNING_RATE = 0.02  # change of a factor's logarithm per miss
STRIDE_FIRST = 0.3  # for a new flow; it falls with the root of the number of scored forecasts
STRIDE_MEDIAN = 0.002  # shift of the median, in units of the error, per step between forecasts
MOVED_MAX = 1.0  # in units of the error
WIDER_MAX = 1.5  # bound of a factor's logarithm: 4.5 times as wide, or as narrow
UNIT = 2e4  # integer steps per unit of the logarithm: rows store integers

COLUMNS: Columns = [
    (
        "log_width_factor",
        "i2",
        (len(TRACKED_HORIZONS), len(SIDES)),
    ),  # logarithms of factors, in steps of 1 / UNIT
    (
        "moved",
        "i2",
        (len(TRACKED_HORIZONS),),
    ),  # shifts of the median, in steps of 1 / UNIT of the error
]
BOUNDS: Bounds = {
    "log_width_factor": (-UNIT * WIDER_MAX, UNIT * WIDER_MAX),
    "moved": (-UNIT * MOVED_MAX, UNIT * MOVED_MAX),
}


class Widths(NamedTuple):
    """The learned widths of B rows at H horizons."""

    factor: Floats  # (SIDES, B, H) multiplies the part of a width up to `reach`
    moved: Floats  # (B, H) the shift of all quantiles, compressed
    reach: Floats  # (B, H) the part of a width that is multiplied, compressed
    top: Floats  # (B,) the flow's peak, compressed


class Pivots(NamedTuple):
    """Quantiles at which one factor ends and the next begins: B rows, H horizons, compressed."""

    low: Floats  # the lower quartile
    median: Floats
    high: Floats


def pivots(outputs: Floats) -> Pivots:
    """The pivots of a network's *outputs*, (QUANTILES, B, H)."""
    return Pivots(outputs[LOW], outputs[CENTRE], outputs[HIGH])


def update_widths(rows: Rows, lanes: Lanes, place: int, missed: Bools, judged: Bools) -> None:
    """
    Update the width factors of the anchor at index *place*, in the rows at *lanes*.

    *missed* (n, SIDES) is whether the rate was beyond each of SIDES; only entries that are
    *judged* change a factor.
    """
    every = TRACKED_HORIZONS[place].stride
    number = np.maximum(rows["seen"][lanes] // every, 1).astype(np.float32)
    settled = np.float32(LEARNING_RATE * math.sqrt(every))
    stride = np.maximum(settled, np.float32(STRIDE_FIRST) / np.sqrt(number))
    moved = np.float32(UNIT) * stride[:, None] * (missed - ALPHA)
    wider = rows["log_width_factor"][lanes, place] + np.where(judged, np.rint(moved), np.float32(0))
    rows["log_width_factor"][lanes, place] = np.clip(wider, -UNIT * WIDER_MAX, UNIT * WIDER_MAX)


def update_bias(rows: Rows, lanes: Lanes, place: int, above: Bools, below: Bools) -> None:
    """Update the median's shift from whether the rates, (n,) of *lanes*, were above or below it."""
    stride = UNIT * STRIDE_MEDIAN * TRACKED_HORIZONS[place].stride
    moved = rows["moved"][lanes, place] + round(stride) * (above.astype(np.int32) - below)
    rows["moved"][lanes, place] = np.clip(moved, -UNIT * MOVED_MAX, UNIT * MOVED_MAX)


def widths(rows: Rows, inputs: Inputs) -> Widths:
    """The learned widths, interpolated between anchors linearly in the logarithm of the horizon."""
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
    The quantiles *z*, (quantiles, B, H), with the learned widths.

    Only the first `reach` of a width is multiplied. Bands are too narrow if a burst follows a calm
    time, and in compressed space twice a wide band is a multiple of it as a rate. Nor does
    stretching move a quantile beyond the flow's own peak. Quantiles stay in order; all are shifted
    with the median.
    """
    adjusted, top = np.empty_like(z), widths.top[:, None]
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
            adjusted[k] = low - _stretch(at.low - here, 0)
        elif quantile <= QUANTILES[CENTRE]:
            adjusted[k] = at.median - _stretch(at.median - here, 1)
        elif quantile <= QUANTILES[HIGH]:
            there = at.median + _stretch(here - at.median, 2)
            adjusted[k] = np.minimum(there, np.maximum(here, top))
        else:
            there = high + _stretch(here - at.high, 3)
            adjusted[k] = np.minimum(there, np.maximum(here, top))
    adjusted += widths.moved
    return adjusted


def _interpolate(learned: Floats, shares: Floats) -> Floats:
    """(…, anchors) to (…, H), by sums: the bits of a matrix product depend on the wave."""
    total: Floats = learned[..., :1] * shares[0]
    for place in range(1, len(shares)):
        total = total + learned[..., place, None] * shares[place]
    return total


@functools.cache
def _shares(horizons: tuple[int, ...]) -> Floats:
    """
    The weight of each anchor's factor at each horizon, (anchors, H).

    An anchor beyond the last horizon is never updated and has no weight.
    """
    learned = [TRACKED_HORIZONS[place].horizon for place in anchors(max(horizons))]
    places = [np.interp(np.log(horizons), np.log(learned), unit) for unit in np.eye(len(learned))]
    return np.array(places, np.float32)


def anchors(horizons: int) -> tuple[int, ...]:
    """The indices of the anchors whose horizon is at most *horizons*."""
    return tuple(place for place, each in enumerate(TRACKED_HORIZONS) if each.horizon <= horizons)
