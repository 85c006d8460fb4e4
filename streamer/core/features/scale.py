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
    ("outliers", "u2"),  # what is known of rates far above the peak: see `Doubts`
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
OUTLIER = 30.0  # times the peak: a rate beyond it is doubted
OUTLIER_SEEN = 6  # steps with a rate before outliers are detected
HOLD_STEPS = 12, 60  # least and most steps in succession that are doubted; an hour in between
HOLD_SHARE = 24  # steps with a rate for each step in succession that may be doubted
BURSTS = 3  # bursts apart in time, after which a flow is known to burst
APART_HOURS = 2  # bursts that begin within one hour, or up to two, count once
FORGET_DAYS = 14  # a burst is forgotten after this time
PEAK_SHARE = 1e-4  # of the peak: the least scale, so that z stays below 11
Z_MAX = 12.0  # upper bound of a forecast: e**12 times the flow's usual rate
DATUM_SPAN = 4.0  # how far the ground may drift before the datum follows it
DATUM_GROUND = 1.0  # the ground on a fresh datum: not zero, because zero means unknown


class ScaledStep(NamedTuple):
    """A closed step of B flows on their own scales."""

    present: Bools  # (B,) whether there was a rate
    lasting: Bools  # (B,) the same without doubted rates: for what is kept for days
    level: Floats  # (B,) of the rate, or of the last one before a missing step
    ground: Floats  # (B,) the level of silence
    z: Floats  # (B,) level above ground
    change: Floats  # (B,) of the level since the previous step; 0 for a new flow
    scale: Floats  # (B,)
    drift: Floats  # (B,) by how much the datum has just moved: to be subtracted from all levels


class Doubts(NamedTuple):
    """
    The column `outliers` of B rows, (B,) each, in 8, 3 and 5 bits from the lowest.

    A *run* is a number of doubted steps in succession; *bursts* are runs that began apart in time.
    """

    run: Steps  # doubted steps up to the last step with a rate
    bursts: Steps  # lately, up to BURSTS
    close: Steps  # full hours that must begin before another run counts as a burst

    @classmethod
    def of(cls, rows: Rows) -> Doubts:
        """What the *rows* have stored."""
        bits = rows["outliers"].astype(np.int64)
        return cls(bits & 0xFF, bits >> 8 & 0x7, bits >> 11)

    def store(self, rows: Rows) -> None:
        """Store it in the *rows*."""
        rows["outliers"] = self.run | self.bursts << 8 | self.close << 11


def robust(
    rows: Rows, rates: NDArray[np.float64], steps: Steps, day: float
) -> tuple[NDArray[np.float64], Bools]:
    """
    The *rates* of *steps* that rows learn from, and which of them are doubted, (B,) each.

    A rate far above the flow's peak is doubted. The first one counts as missing, and each further
    one in succession as OUTLIER times more than the one before at most: forecasts follow a rise of
    any size within a few steps. But a doubted rate moves neither the scale nor the profiles, so
    some absurd values in a row leave nothing behind. Rates are no longer doubted once they have
    lasted for an hour, or if the flow has burst BURSTS times lately and always returned: traffic
    that recurs is real. A flow with a short history is doubted less.
    """
    peak, seen = rows["peak"].astype(np.float64), rows["seen"].astype(np.int64)
    far = (rates > OUTLIER * peak) & (peak > 0) & (seen >= OUTLIER_SEEN)
    if not (far.any() or rows["outliers"].any()):  # nearly always
        return rates, far
    run, bursts, close = Doubts.of(rows)
    hour = max(1, round(day / 24))
    close = np.maximum(close - (steps % hour == 0), 0)
    bursts = np.maximum(bursts - (steps % round(FORGET_DAYS * day) == 0), 0)
    begins = far & (run == 0) & ((close == 0) | (seen < day))
    bursts = np.minimum(bursts + begins, BURSTS)
    close = np.where(begins, APART_HOURS, close)
    run = np.where(far, run + 1, np.where(np.isnan(rates), run, 0))

    hold = np.clip(seen // HOLD_SHARE, 1, np.clip(hour, *HOLD_STEPS))
    lasts = far & (run > hold)
    doubted = far & ~lasts & (bursts < BURSTS)
    power = np.minimum(run - 1, 30).astype(np.float64)
    most = np.where(run > 1, peak * OUTLIER**power, np.nan)
    run, bursts = np.where(doubted | ~far, run, 0), np.where(lasts, 0, bursts)
    Doubts(run, bursts, close).store(rows)
    return np.where(doubted, np.minimum(rates, most), rates), doubted


def measure(rows: Rows, rates: NDArray[np.float64], doubted: Bools, day: float) -> ScaledStep:
    """
    Update the scale with *rates* (NaN: missing); *day* is its memory in steps.

    A *doubted* rate, (B,), has a level, but the scale stays as it is.
    """
    present = ~np.isnan(rates)
    lasting = present & ~doubted
    rate = np.clip(np.where(present, rates, 0.0), 0.0, RATE_MAX).astype(np.float32)
    age, seen = rows["age"], rows["seen"] + present.astype(np.uint32)
    gain = np.where(lasting, np.maximum(1 / day, 1 / np.maximum(seen, 1)), 0).astype(np.float32)
    mean = rows["mean"] + gain * (rate - rows["mean"])
    peak = rows["peak"] * np.float32(1 - 1 / (7 * day))
    peak = np.where(doubted, peak, np.maximum(peak, rate))
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
    return ScaledStep(present, lasting, level, ground, level - ground, change, scale, drift)


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
