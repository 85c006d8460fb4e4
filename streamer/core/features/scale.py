"""
How large a flow is, and rates on its own measure.

Traffic spans ten decades, and one flow spans four between a night and a
backup. So a rate is read on the flow's own running scale s and compressed:

    z = log(1 + 4 rate / s)            0 for silence, 1.6 for the usual rate

What is kept for long (profiles, smoothed values, recent steps) is kept as a
*level*, log(rate + s / 4) less the row's datum, which stays what it is when the
scale moves; z is the level above the *ground*, log(s / 4) less the datum. The
datum is there for half precision: it keeps levels near zero, and moves only when
a flow has outgrown it. An exact zero is no level: it says that nothing is known.
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
    ("age", "u4"),  # steps since the flow was first met, missing ones too
    ("seen", "u4"),  # steps with a rate since it last began warm
    ("mean", "f4"),  # of its rates, a day's memory
    ("peak", "f4"),  # the highest rate, forgotten in a week
    ("log_offset", "f4"),  # what is taken off every level of this row
    ("level", "f4"),  # of the last rate
    ("outliers", "u2"),  # steps in a row that were far above the peak
]
ANY_STEP = ("mean", "peak", "log_offset", "level")

RATE_MAX = 1e30  # whatever the readings said: its logarithm and its scale stay finite
AGE_MAX = 2**32 - 1  # steps
LEVEL_MAX = 512.0  # no level is farther from zero: the logarithm of a rate, less a datum
BOUNDS: Bounds = {
    "mean": (0, 1.01 * RATE_MAX),
    "peak": (0, 1.01 * RATE_MAX),
    "log_offset": (-LEVEL_MAX, LEVEL_MAX),
    "level": (-LEVEL_MAX, LEVEL_MAX),
}
SCALE_MIN = 1e-25  # of a flow that has only been silent
OUTLIER = 30.0  # times the peak: a rate beyond it is not learned from when it comes alone
OUTLIER_SEEN = 6  # steps with a rate, before anything is an outlier
PEAK_SHARE = 1e-4  # of the peak: the least scale, so that z stays below 11
Z_MAX = 12.0  # no forecast is further above its flow's usual rate than e**12
DATUM_SPAN = 4.0  # how far the ground may drift before the datum follows it
DATUM_GROUND = 1.0  # where the ground lies on a fresh datum: not at zero, which means unknown


class ScaledStep(NamedTuple):
    """A closed step of B flows on their own scales."""

    present: Bools  # (B,) whether there was a rate
    level: Floats  # (B,) of the rate, or of the last one before a missing step
    ground: Floats  # (B,) the level of silence
    z: Floats  # (B,) level above ground
    change: Floats  # (B,) of the level since the step before; 0 for a flow just met
    scale: Floats  # (B,)
    drift: Floats  # (B,) by how much the datum has just moved: to be taken off all levels


def robust(rows: Rows, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    The *rates* that rows learn from: one far above all that its flow has carried is missing.

    The peak then rises by OUTLIER, so what comes again is no outlier for long. Of several in a
    row each counts as the peak that the one before has left: a real change of any size is
    followed within a few steps, and one absurd value moves neither scale nor profiles.
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
    """Let the scale follow *rates* (NaN: missing); *day* is its memory in steps."""
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
    """Take the datum's *drift* off the columns *names*, in the few rows where it is not zero."""
    moved = np.flatnonzero(drift)
    for name in names if moved.size else ():
        column = rows[name]
        values = to_float32(column[moved])
        by = drift[moved].reshape(-1, *[1] * (values.ndim - 1))
        column[moved] = np.where(values == 0, values, values - by)


def clip_scaled(z: Floats) -> Floats:
    """*z* as far as a forecast may go."""
    return np.clip(z, np.float32(0), np.float32(Z_MAX))


def rates(z: Floats, scale: Floats) -> Floats:
    """Back from z to rates; *scale* is broadcast against *z*."""
    told: Floats = ((np.exp(z) - 1) * (scale / 4)).astype(np.float32, copy=False)
    return told


def to_float32(half: NDArray[np.float16] | Floats) -> Floats:
    """Half precision to single: torch converts twenty times as fast as numpy."""
    import torch  # noqa: PLC0415 - takes seconds, and most commands never come here

    wide: Floats = torch.from_numpy(np.ascontiguousarray(half)).float().numpy()
    return wide


def to_float16(single: Floats) -> NDArray[np.float16]:
    """Single precision to half."""
    import torch  # noqa: PLC0415 - likewise

    half: NDArray[np.float16] = torch.from_numpy(np.ascontiguousarray(single)).half().numpy()
    return half
