"""
The size of a flow, and rates on the flow's own scale.

Traffic spans ten decades, and a single flow spans four between a quiet night and a
backup. Therefore a rate is divided by the flow's own running scale s and compressed:

    z = log(1 + 4 rate / s)            0 for silence, 1.6 for the usual rate

Values that are stored for long (profiles, smoothed values, recent steps) are stored as a
*level*, log(rate + s / 4) minus the row's datum, which does not change when the
scale moves; z is the level above the *ground*, log(s / 4) minus the datum. The
datum exists because of half precision: it keeps levels near zero, and moves only when the
flow's scale has drifted far from it. A stored level of exactly zero means unknown.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Bounds, Columns, Rows

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Steps = NDArray[np.int64]

COLUMNS: Columns = [
    ("age", "u4"),  # steps since the flow's first reading, missing ones included
    ("seen", "u4"),  # steps with a rate since the flow last restarted
    ("mean", "f4"),  # mean rate, with a memory of a day
    ("peak", "f4"),  # the highest rate, which decays over a week
    ("log_offset", "f4"),  # the datum, which is subtracted from every level of this row
    ("level", "f4"),  # of the last rate
    ("outliers", "u2"),  # 1 if the last step with a rate was an outlier, else 0
]
ANY_STEP = ("mean", "peak", "log_offset", "level")

RATE_MAX = 1e30  # upper bound of a rate, so that its logarithm and its scale stay finite
AGE_MAX = 2**32 - 1  # steps
LEVEL_MAX = 512.0  # bound of a level's magnitude: the logarithm of a rate minus a datum
BOUNDS: Bounds = {
    "mean": (0, 1.01 * RATE_MAX),
    "peak": (0, 1.01 * RATE_MAX),
    "log_offset": (-LEVEL_MAX, LEVEL_MAX),
    "level": (-LEVEL_MAX, LEVEL_MAX),
}
SCALE_MIN = 1e-25  # the scale of a flow that has only been silent
OUTLIER = 30.0  # times the peak: a single rate beyond it is not learned from
OUTLIER_SEEN = 6  # steps with a rate before outliers are detected
PEAK_SHARE = 1e-4  # of the peak: the least scale, so that z stays below 11
Z_MAX = 12.0  # upper bound of a forecast: e**12 times the flow's usual rate
DATUM_SPAN = 4.0  # how far the ground may drift before the datum follows it
DATUM_GROUND = 1.0  # the ground on a fresh datum: not zero, because zero means unknown


class ScaledStep(NamedTuple):
    """A closed step of B flows on their own scales."""

    present: Bools  # (B,) whether there was a rate
    level: Floats  # (B,) of the rate, or of the last one before a missing step
    ground: Floats  # (B,) the level of silence
    z: Floats  # (B,) level above ground
    change: Floats  # (B,) of the level since the previous step; 0 for a new flow
    scale: Floats  # (B,)
    drift: Floats  # (B,) by how much the datum has just moved: to be subtracted from all levels


def robust(rows: Rows, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    The *rates* that rows learn from: a rate far above the flow's peak becomes missing.

    The peak then rises by a factor of OUTLIER, so that a repeated rate soon stops being an
    outlier. Of several outliers in succession, each after the first counts as the peak that the
    previous one has left. A real change of any size is followed within a few steps, and one
    absurd value moves neither scale nor profiles.
    """
    peak = rows["peak"].astype(np.float64)
    far = (rates > OUTLIER * peak) & (peak > 0) & (rows["seen"] >= OUTLIER_SEEN)
    present = ~np.isnan(rates)
    if not far.any():
        rows["outliers"] = np.where(present, 0, rows["outliers"])
        return rates
    again = far & (rows["outliers"] > 0)
    learned = np.where(far, np.where(again, peak, np.nan), rates)
    rows["peak"] = np.where(far, np.minimum(OUTLIER * peak, RATE_MAX), peak)
    rows["outliers"] = np.where(far, 1, np.where(present, 0, rows["outliers"]))
    return learned


def measure(rows: Rows, rates: NDArray[np.float64], day: float) -> ScaledStep:
    """Update the scale with *rates* (NaN: missing); *day* is its memory in steps."""
    present = ~np.isnan(rates)
    rate = np.clip(np.where(present, rates, 0.0), 0.0, RATE_MAX).astype(np.float32)
    age, seen = rows["age"], rows["seen"] + present.astype(np.uint32)
    gain = np.where(present, np.maximum(1 / day, 1 / np.maximum(seen, 1)), 0).astype(np.float32)
    mean = rows["mean"] + gain * (rate - rows["mean"])
    peak = np.maximum(rows["peak"] * np.float32(1 - 1 / (7 * day)), rate)
    scale = scale_of(mean, peak)

    quarter = scale / 4
    floor = np.log(quarter)
    ground = floor - rows["log_offset"]
    moves = (age == 0) | (np.abs(ground) > DATUM_SPAN)
    drift = np.where(moves, ground - np.float32(DATUM_GROUND), np.float32(0))
    datum = rows["log_offset"] + drift
    ground = floor - datum

    carried = np.where(age == 0, ground, rows["level"] - drift)
    level = np.where(present, np.log(rate + quarter) - datum, np.maximum(carried, ground))
    change = np.where(age == 0, np.float32(0), level - carried)
    rows["age"] = np.minimum(age, 2**32 - 2) + 1
    rows["seen"], rows["mean"], rows["peak"] = seen, mean, peak
    rows["log_offset"], rows["level"] = datum, level
    return ScaledStep(present, level, ground, level - ground, change, scale, drift)


def scale_of(mean: Floats, peak: Floats) -> Floats:
    """The scale of flows with these mean rates and peaks."""
    least = np.maximum(np.float32(PEAK_SHARE) * peak, np.float32(SCALE_MIN))
    scale: Floats = np.maximum(mean, least)
    return scale


def rebase(rows: Rows, names: tuple[str, ...], drift: Floats) -> None:
    """Subtract the datum's *drift* from the columns *names*, in the few rows with a drift."""
    moved = np.flatnonzero(drift)
    for name in names if moved.size else ():
        column = rows[name]
        values = to_float32(column[moved])
        by = drift[moved].reshape(-1, *[1] * (values.ndim - 1))
        column[moved] = np.where(values == 0, values, values - by)


def clip_scaled(z: Floats) -> Floats:
    """*z*, clipped to the range of a forecast."""
    return np.clip(z, np.float32(0), np.float32(Z_MAX))


def rates(z: Floats, scale: Floats) -> Floats:
    """Convert z back to rates; *scale* is broadcast against *z*."""
    found: Floats = ((np.exp(z) - 1) * (scale / 4)).astype(np.float32, copy=False)
    return found


def to_float32(half: NDArray[np.float16] | Floats) -> Floats:
    """Convert half precision to single: torch is twenty times as fast as numpy."""
    import torch  # noqa: PLC0415 - the import takes seconds, and most commands do not need it

    wide: Floats = torch.from_numpy(np.ascontiguousarray(half)).float().numpy()
    return wide


def to_float16(single: Floats) -> NDArray[np.float16]:
    """Convert single precision to half."""
    import torch  # noqa: PLC0415 - the import takes seconds, and most commands do not need it

    half: NDArray[np.float16] = torch.from_numpy(np.ascontiguousarray(single)).half().numpy()
    return half
