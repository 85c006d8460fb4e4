"""
Seasonal profiles: the usual level of a flow by phase of the day, the week and the hour.

A profile is a ring of slots, each with the usual level at one phase of its cycle. A
slot is updated when it closes, from the mean level of its steps: it is the mean
of its first visits, and follows later ones by exponential smoothing. Phases are computed from
the step's absolute number, so no clock is needed, and days begin at midnight UTC.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.features.scale import (
    LEVEL_MAX,
    Bools,
    Floats,
    ScaledStep,
    Steps,
    to_float16,
    to_float32,
)
from streamer.core.types import DAY_S

Places = NDArray[np.int32]  # seconds or slot indices of B rows and K steps ahead

SPREAD_S = 1800  # length of a slot of the day's spread
SPREAD_GAIN = 0.3  # gain of a slot's mean deviation, per visit
SPREAD_MAX = 5.0
BREAK_RATIO = np.float32(1.6)  # ratio of the current error to the usual one: profiles are relearned
OFF_LEAST = np.float32(0.03)  # the least error that is expected of a profile
GAIN_RELEARN = np.array(
    [0.9, 0.5], np.float32
)  # on the first day of a new rhythm, and on the second
ANEW_MAX = 2**16 - 1  # steps
SMOOTH_S = 1800  # a smoothed profile is the mean over this time before and after


@dataclass(frozen=True, slots=True)
class Cycle:
    """A ring of slots over a period; column *name* stores their levels, 0 if unknown."""

    name: str
    period_s: int
    slot_s: int
    gain: float  # gain of a slot's level, per visit; the first few visits are averaged
    gain_punctual: float  # the same gain for a flow that repeats to the minute

    @property
    def slots(self) -> int:
        """The number of slots; the last one may be shorter than the others."""
        return -(-self.period_s // self.slot_s)


@functools.cache
def cycles(step_s: int) -> tuple[Cycle, ...]:
    """The cycles of day, week and hour, with slots that are at least a step long."""
    return (
        Cycle("daily", DAY_S, max(step_s, 300), 0.3, 0.7),
        Cycle("weekly", 7 * DAY_S, max(step_s, 3600), 0.3, 0.3),
        Cycle("hourly", 3600, max(step_s, 60), 0.1, 0.1),
    )


def columns(step_s: int) -> Columns:
    """The columns that `update` maintains."""
    rings: Columns = [(cycle.name, "f2", (cycle.slots,)) for cycle in cycles(step_s)]
    return [
        *rings,
        ("spread", "f2", (DAY_S // SPREAD_S,)),  # mean deviation from the day's profile, by phase
        ("open_sums", "f4", (len(rings),)),  # sum of levels in each cycle's open slot
        ("open_counts", "u2", (len(rings),)),  # number of levels in each sum
        ("anew", "u2"),  # steps left of the two days in which profiles are relearned
    ]


ANY_STEP = ("spread",)
BOUNDS: Bounds = {
    **dict.fromkeys(("daily", "weekly", "hourly"), (-LEVEL_MAX, LEVEL_MAX)),
    "spread": (0, SPREAD_MAX),
}


def regridded(ring: NDArray[np.float16], then: Cycle, now: Cycle) -> NDArray[np.float16]:
    """
    A *ring* (B, slots) of cycle *then*, resampled to the slots of *now*; the period is the same.

    A new slot is the mean of the known slots that it overlaps, weighted by the overlap.
    """
    each = max(1, round(now.slot_s / then.slot_s))  # samples in a slot
    phase = (np.arange(now.slots * each) + 0.5) * (now.slot_s / each)
    places = np.minimum(phase, now.period_s - 1).astype(np.intp) // then.slot_s
    found = to_float32(ring[:, places]).reshape(len(ring), now.slots, each)
    known = (found != 0).sum(axis=2)
    mean = found.sum(axis=2) / np.maximum(known, 1).astype(np.float32)
    return to_float16(np.where(known > 0, nonzero(mean), np.float32(0)))


def levels(step_s: int) -> tuple[str, ...]:
    """The columns that store levels."""
    return tuple(cycle.name for cycle in cycles(step_s))


class SeasonalForecast(NamedTuple):
    """Levels that the profiles forecast, 0 if unknown; (B, K) each."""

    daily: Floats
    smooth: Floats  # the day's profile over an hour's width
    weekly: Floats
    hourly: Floats
    spread: Floats  # the flow's usual distance from `daily`


def update(  # noqa: PLR0913 - a step, and the inputs that control the update
    rows: Rows, step: ScaledStep, steps: Steps, step_s: int, daily_beats_recent: Bools, lost: Floats
) -> None:
    """
    Add the closed step to the open slots, and close the slots that end with it.

    A flow with *daily_beats_recent* (B,) repeats each day at the same minute: a deviation means
    that its schedule has moved, so the gain is higher. In other flows a deviation is noise, which
    is averaged. *lost* (B,) is the running error of the profiles of a flow that has lost its
    rhythm, else 0.
    """
    seconds = steps * step_s
    sums, counts = rows["open_sums"], rows["open_counts"]
    moved = np.where(step.drift != 0)[0]
    if moved.size:
        sums[moved] -= counts[moved] * step.drift[moved, None]
    _learn_spread(rows, step, seconds, step_s)
    least_gains = _relearn(rows, lost, DAY_S // step_s)
    for place, cycle in enumerate(cycles(step_s)):
        phase = seconds % cycle.period_s
        slot = phase // cycle.slot_s
        total = sums[:, place] + np.where(step.lasting, step.level, np.float32(0))
        count = counts[:, place] + step.lasting
        after = phase + step_s
        ends = (after >= cycle.period_s) | (after // cycle.slot_s != slot)
        closed = np.flatnonzero(ends & (count > 0))
        mean = (total[closed] / count[closed]).astype(np.float32)
        visits = 1 + (rows["age"][closed] - 1) // max(1, cycle.period_s // step_s)
        gains = np.where(daily_beats_recent[closed], cycle.gain_punctual, cycle.gain)
        gains = np.maximum(np.maximum(gains, 1 / visits).astype(np.float32), least_gains[closed])
        _close(rows[cycle.name], closed, slot[closed], mean, gains)
        sums[:, place] = np.where(ends, np.float32(0), total)
        counts[:, place] = np.where(ends, 0, count)


def _relearn(rows: Rows, lost: Floats, day: int) -> Floats:
    """
    The least gain of each row's slots: above zero while the profiles are relearned.

    A flow's own history shows whether it has changed for good, for instance if its day is shifted
    or inverted. Once the error of its profiles exceeds BREAK_RATIO times the usual error, two
    days of new data replace the old profiles.
    """
    left = rows["anew"].astype(np.int32)
    begins = np.flatnonzero((lost > 0) & (left == 0))
    spread = to_float32(rows["spread"][begins])
    known = (spread != 0).sum(axis=1)
    usual = spread.sum(axis=1) / np.maximum(known, 1).astype(np.float32)
    astray = (known > spread.shape[1] // 2) & (lost[begins] > BREAK_RATIO * (usual + OFF_LEAST))
    left = np.maximum(left - 1, 0)
    left[begins[astray]] = 2 * day
    rows["anew"] = np.minimum(left, ANEW_MAX)
    return np.where(left > day, GAIN_RELEARN[0], np.where(left > 0, GAIN_RELEARN[1], np.float32(0)))


def _close(
    ring: NDArray[np.float16], index: NDArray[np.intp], slot: Steps, mean: Floats, gains: Floats
) -> None:
    """Update a slot of each row at *index* with the *mean* level of a visit."""
    if index.size:
        old = to_float32(ring[index, slot])
        new = np.where(old == 0, mean, old + gains * (mean - old))
        ring[index, slot] = to_float16(nonzero(new))


def _learn_spread(rows: Rows, step: ScaledStep, seconds: Steps, step_s: int) -> None:
    daily = cycles(step_s)[0]
    lanes = np.arange(len(rows))
    usual = to_float32(rows["daily"][lanes, seconds % DAY_S // daily.slot_s])
    at = lanes, seconds % DAY_S // SPREAD_S
    old = to_float32(rows["spread"][at])
    found = np.minimum(np.abs(step.level - usual), np.float32(SPREAD_MAX))
    gain = np.where(old == 0, 1.0, min(SPREAD_GAIN, SPREAD_GAIN * step_s / SPREAD_S))
    new = old + gain.astype(np.float32) * (found - old)
    rows["spread"][at] = to_float16(np.where(step.lasting & (usual != 0), new, old))


def predict(rows: Rows, steps: Steps, horizons: Steps, step_s: int) -> SeasonalForecast:
    """The profiles' forecasts for the steps at *horizons* (K,) after *steps* (B,)."""
    daily, weekly, hourly = cycles(step_s)
    first = (steps + horizons[0]) * step_s
    later = ((horizons - horizons[0]) * step_s).astype(np.int32)

    def seconds(period_s: int) -> Places:
        """(B, K) seconds since the period's begin; values past its end are not wrapped."""
        since: Places = (first % period_s).astype(np.int32)[:, None] + later
        return since

    today = seconds(DAY_S)
    exact, smooth = _predict_day(rows["daily"], today, daily, step_s)
    minute = _wrapped(seconds(hourly.period_s), hourly.period_s) // hourly.slot_s
    return SeasonalForecast(
        daily=exact,
        smooth=smooth,
        weekly=_interpolate(rows["weekly"], seconds(weekly.period_s), weekly, step_s),
        hourly=to_float32(_take(rows["hourly"], minute)),
        spread=to_float32(_take(rows["spread"], _wrapped(today, DAY_S) // SPREAD_S)),
    )


def _predict_day(
    ring: NDArray[np.float16], seconds: Places, cycle: Cycle, step_s: int
) -> tuple[Floats, Floats]:
    """The day's profile at *seconds* and its mean over SMOOTH_S on either side, from one block."""
    reach = max(1, round(SMOOTH_S / cycle.slot_s))
    slot = seconds // cycle.slot_s
    begin = slot[:, :1] - reach
    width = int((slot[:, -1:] - begin).max(initial=0)) + reach + 1
    block = np.zeros((len(ring), width + 1), np.float32)
    around: Places = np.add(begin, np.arange(width), dtype=np.int32, casting="unsafe")
    slots = _wrapped(around, cycle.slots)
    block[:, 1:] = to_float32(_take(ring, slots))
    places = (slot - begin) + np.arange(0, block.size, width + 1)[:, None]  # in the flat block

    total, number = np.cumsum(block, axis=1), np.cumsum(block != 0, axis=1, dtype=np.int32)
    last, before = places + reach + 1, places - reach
    known = number.take(last) - number.take(before)
    mean = (total.take(last) - total.take(before)) / np.maximum(known, 1).astype(np.float32)
    smooth = np.where(known > 0, nonzero(mean), np.float32(0))
    here = block.take(places + 1)
    if cycle.slot_s == step_s:
        return here, smooth
    share = _from_centre(seconds, slot, cycle, step_s)
    there = block.take(places + np.where(share < 0, 0, 2))
    return _blend(here, there, np.abs(share)), smooth


def _interpolate(ring: NDArray[np.float16], seconds: Places, cycle: Cycle, step_s: int) -> Floats:
    """A profile at *seconds*, interpolated between the centres of its slots."""
    slot = seconds // cycle.slot_s
    here = to_float32(_take(ring, _wrapped(slot, cycle.slots)))
    if cycle.slot_s == step_s:
        return here
    share = _from_centre(seconds, slot, cycle, step_s)
    there = slot + np.where(share < 0, np.int32(cycle.slots - 1), np.int32(1))
    return _blend(here, to_float32(_take(ring, _wrapped(there, cycle.slots))), np.abs(share))


def _from_centre(seconds: Places, slot: Places, cycle: Cycle, step_s: int) -> Floats:
    """The distance of a step's middle from its slot's middle, in slots: -0.5 to 0.5."""
    within = (seconds - slot * np.int32(cycle.slot_s)).astype(np.float32)
    share: Floats = within / np.float32(cycle.slot_s) + np.float32(step_s / cycle.slot_s / 2 - 0.5)
    return share


def _wrapped(value: Places, period: int) -> Places:
    """The remainder by a division: numpy divides fast by a constant but has no fast remainder."""
    return value - value // period * np.int32(period)


def _blend(here: Floats, there: Floats, share: Floats) -> Floats:
    """A level at *share* of the way between two levels; if one is unknown, the other one."""
    mixed = here + share * (there - here)
    return np.where(there == 0, here, np.where(here == 0, there, mixed))


def _take(ring: NDArray[np.float16], slots: Places) -> NDArray[np.float16]:
    return ring[np.arange(len(ring))[:, None], slots]


def nonzero(level: Floats) -> Floats:
    """*level*, moved away from zero, because zero means unknown."""
    return np.where(np.abs(level) < np.float32(1e-4), np.float32(1e-4), level)


def roll_profiles(rows: Rows, hours: NDArray[np.int64], step_s: int) -> None:
    """Shift the daily and weekly profiles of *rows* by so many *hours* (B,) towards later."""
    day, week, _ = cycles(step_s)
    for name, slot_s in ((day.name, day.slot_s), (week.name, week.slot_s), ("spread", SPREAD_S)):
        ring = rows[name]
        by = np.round(hours * 3600 / slot_s).astype(np.int64)
        slots = (np.arange(ring.shape[1]) - by[:, None]) % ring.shape[1]
        rows[name] = np.take_along_axis(ring, slots, axis=1)


def restart(rows: Rows, mask: Bools) -> None:
    """Clear the open slots of the rows in *mask*; the profiles stay."""
    rows["open_sums"][mask] = 0
    rows["open_counts"][mask] = 0
