"""
What a flow usually does at this hour: profiles of the day, the week and the hour.

A profile is a ring of slots, each the usual level at one phase of its cycle. A
slot is learned when it closes, from the mean level of its steps, by exponential
smoothing over its visits. Phases come from the absolute number of the step, so
no clock is kept, and midnight is UTC's.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.arena import Columns, Rows
from streamer.core.scale import Bools, Floats, Measured, Steps, narrow, widen

DAY_S = 86400
SPREAD_S = 1800  # a slot of the day's spread
SPREAD_GAIN = 0.3  # of a slot's mean deviation, for each visit
SPREAD_MAX = 5.0
SMOOTH_S = 1800  # a smoothed profile is the mean over this much before and after


@dataclass(frozen=True, slots=True)
class Cycle:
    """A ring of slots over a period; column *name* holds their levels, 0 where unknown."""

    name: str
    period_s: int
    slot_s: int
    gain: float  # of a slot's level, for each visit after the first

    @property
    def slots(self) -> int:
        """How many there are; the last one may be cut short by the period's end."""
        return -(-self.period_s // self.slot_s)


@functools.cache
def cycles(step_s: int) -> tuple[Cycle, ...]:
    """Day, week and hour, in slots no shorter than a step."""
    return (
        Cycle("daily", DAY_S, max(step_s, 300), 0.3),
        Cycle("weekly", 7 * DAY_S, max(step_s, 3600), 0.5),
        Cycle("hourly", 3600, max(step_s, 60), 0.1),
    )


def columns(step_s: int) -> Columns:
    """The columns that `learn` keeps."""
    rings: Columns = [(cycle.name, "f2", (cycle.slots,)) for cycle in cycles(step_s)]
    return [
        *rings,
        ("spread", "f2", (DAY_S // SPREAD_S,)),  # mean deviation from the day's profile, by phase
        ("open_sums", "f4", (len(rings),)),  # of levels in each cycle's open slot …
        ("open_counts", "u2", (len(rings),)),  # … and of how many
    ]


def levels(step_s: int) -> tuple[str, ...]:
    """Those of the columns that hold levels."""
    return tuple(cycle.name for cycle in cycles(step_s))


class Usual(NamedTuple):
    """Levels that the profiles foretell, 0 where they know none; (B, K) each."""

    daily: Floats
    smooth: Floats  # the day's profile over an hour's width
    weekly: Floats
    hourly: Floats
    spread: Floats  # how far the flow usually is from `daily`


def learn(rows: Rows, step: Measured, steps: Steps, step_s: int) -> None:
    """Take the closed step into the open slots, and close those that end with it."""
    seconds = steps * step_s
    sums, counts = rows["open_sums"], rows["open_counts"]
    moved = np.where(step.drift != 0)[0]
    if moved.size:
        sums[moved] -= counts[moved] * step.drift[moved, None]
    _learn_spread(rows, step, seconds, step_s)
    for place, cycle in enumerate(cycles(step_s)):
        phase = seconds % cycle.period_s
        slot = phase // cycle.slot_s
        total = sums[:, place] + np.where(step.present, step.level, np.float32(0))
        count = counts[:, place] + step.present
        after = phase + step_s
        ends = (after >= cycle.period_s) | (after // cycle.slot_s != slot)
        closed = np.flatnonzero(ends & (count > 0))
        mean = (total[closed] / count[closed]).astype(np.float32)
        _close(rows[cycle.name], closed, slot[closed], mean, cycle.gain)
        sums[:, place] = np.where(ends, np.float32(0), total)
        counts[:, place] = np.where(ends, 0, count)


def _close(
    ring: NDArray[np.float16], index: NDArray[np.intp], slot: Steps, mean: Floats, gain: float
) -> None:
    """Let the *mean* of a visit into a slot of each row at *index*."""
    if index.size:
        old = widen(ring[index, slot])
        new = np.where(old == 0, mean, old + np.float32(gain) * (mean - old))
        ring[index, slot] = narrow(mark(new))


def _learn_spread(rows: Rows, step: Measured, seconds: Steps, step_s: int) -> None:
    daily = cycles(step_s)[0]
    lanes = np.arange(len(rows))
    usual = widen(rows["daily"][lanes, seconds % DAY_S // daily.slot_s])
    at = lanes, seconds % DAY_S // SPREAD_S
    old = widen(rows["spread"][at])
    found = np.minimum(np.abs(step.level - usual), np.float32(SPREAD_MAX))
    gain = np.where(old == 0, 1.0, min(SPREAD_GAIN, SPREAD_GAIN * step_s / SPREAD_S))
    new = old + gain.astype(np.float32) * (found - old)
    rows["spread"][at] = narrow(np.where(step.present & (usual != 0), new, old))


def ahead(rows: Rows, steps: Steps, horizons: Steps, step_s: int) -> Usual:
    """What the profiles foretell for the steps *horizons* (K,) after *steps* (B,)."""
    daily, weekly, hourly = cycles(step_s)
    seconds = (steps[:, None] + horizons) * step_s  # (B, K) where those steps begin
    exact, smooth = _day_ahead(rows["daily"], seconds, daily, step_s)
    lanes = np.arange(len(rows))[:, None]
    return Usual(
        daily=exact,
        smooth=smooth,
        weekly=_between(rows["weekly"], seconds, weekly, step_s),
        hourly=widen(rows["hourly"][lanes, seconds % hourly.period_s // hourly.slot_s]),
        spread=widen(rows["spread"][lanes, seconds % DAY_S // SPREAD_S]),
    )


def _day_ahead(
    ring: NDArray[np.float16], seconds: Steps, cycle: Cycle, step_s: int
) -> tuple[Floats, Floats]:
    """The day's profile at *seconds* and its mean over SMOOTH_S on either side, from one block."""
    reach = max(1, round(SMOOTH_S / cycle.slot_s))
    begin = seconds[:, :1] // cycle.slot_s - reach  # (B, 1) absolute slots
    width = int((seconds[:, -1:] // cycle.slot_s - begin).max(initial=0)) + reach + 1
    block = widen(_take(ring, (begin + np.arange(width)) % cycle.slots))
    places = seconds // cycle.slot_s - begin  # (B, K) of each horizon in the block

    total = np.zeros((len(ring), width + 1), np.float32)
    number = np.zeros((len(ring), width + 1), np.float32)
    np.cumsum(block, axis=1, out=total[:, 1:])
    np.cumsum(block != 0, axis=1, out=number[:, 1:])
    first, last = places - reach, places + reach + 1
    known = _pick(number, last) - _pick(number, first)
    mean = (_pick(total, last) - _pick(total, first)) / np.maximum(known, np.float32(1))
    smooth = np.where(known > 0, mark(mean), np.float32(0))
    if cycle.slot_s == step_s:
        return _pick(block, places), smooth
    share = _from_centre(seconds, cycle, step_s)
    side = np.where(share < 0, -1, 1)
    return _blend(_pick(block, places), _pick(block, places + side), np.abs(share)), smooth


def _between(ring: NDArray[np.float16], seconds: Steps, cycle: Cycle, step_s: int) -> Floats:
    """A profile at *seconds*, interpolated between the centres of its slots."""
    slot = seconds // cycle.slot_s
    here = widen(_take(ring, slot % cycle.slots))
    if cycle.slot_s == step_s:
        return here
    share = _from_centre(seconds, cycle, step_s)
    there = widen(_take(ring, (slot + np.where(share < 0, -1, 1)) % cycle.slots))
    return _blend(here, there, np.abs(share))


def _from_centre(seconds: Steps, cycle: Cycle, step_s: int) -> Floats:
    """How far a step's middle lies from its slot's, in slots: -0.5 to 0.5."""
    share = (seconds % cycle.slot_s + step_s / 2) / cycle.slot_s - 0.5
    return share.astype(np.float32)


def _blend(here: Floats, there: Floats, share: Floats) -> Floats:
    """*share* of the way from one level to another, as far as both are known."""
    mixed = here + share * (there - here)
    return np.where(there == 0, here, np.where(here == 0, there, mixed))


def _take(ring: NDArray[np.float16], slots: Steps) -> NDArray[np.float16]:
    return ring[np.arange(len(ring))[:, None], slots]


def _pick(block: Floats, places: Steps) -> Floats:
    return np.take_along_axis(block, places, axis=1)


def mark(level: Floats) -> Floats:
    """*level*, so that it does not read as unknown."""
    return np.where(np.abs(level) < np.float32(1e-4), np.float32(1e-4), level)


def restart(rows: Rows, mask: Bools) -> None:
    """Forget the open slots of the rows in *mask*; the profiles stay."""
    rows["open_sums"][mask] = 0
    rows["open_counts"][mask] = 0
