"""
Conversion of readings to closed steps with a rate; each reading gets a verdict.

Time is cut into steps of equal length; step s covers [s·step, (s+1)·step). A
counter's growth is spread evenly over the time between its two readings, and
each step gets its share, so the shares add up to the growth. A delta is spread in the same way
over the time since the previous delta. Gauges are averaged; if a gauge is read less often than
once a step, its value holds until the next reading. A step closes once the flow's own event
time has passed the step's end by `lateness`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.config.types import Duration, Settings
from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.features import verdicts
from streamer.core.features.verdicts import ANEW, DROPPED, RATED, Bools, Floats, Ints, Verdict
from streamer.core.types import Kind, Readings

HOLD = 1.9  # a gauge holds for this many times the usual spacing
OPEN_MAX = 4  # open steps of a flow at once
STEP_MAX_S = 86400  # a day: profiles and memories are in days
GAP_MAX = 1_000  # steps: a reading after a hole closes so many, one by one
STEPS_MAX = 2**32 - 1

COLUMNS: Columns = [
    ("kind", "u1"),  # of the flow's readings; 0 in an empty row
    ("unit", "S12"),
    ("capacity", "f4"),  # units per second; 0 if unknown
    ("capacity_told", "f4"),  # the newest reported capacity, which counts once it is repeated
    ("count", "u8"),  # of the newest reading
    ("open", "i8"),  # the oldest step that is not closed
    ("amount", "f8", (OPEN_MAX,)),  # the sum in each open step, at its index modulo OPEN_MAX
    ("covered", "f4", (OPEN_MAX,)),  # seconds covered in each open step; of a gauge, its readings
    *verdicts.COLUMNS,
]
BOUNDS: Bounds = {
    "kind": (0, max(Kind)),
    "capacity": (0, np.inf),
    "covered": (0, np.inf),
    **verdicts.BOUNDS,
}
# Columns whose meaning does not depend on the step's length.
ANY_STEP = ("kind", "unit", "capacity", "capacity_told", "count", *verdicts.ANY_STEP)


class GridConfig(Settings, frozen=True, kw_only=True):
    """The time grid, and the limits of plausible readings."""

    step: Duration = Duration(60)  # whole seconds
    lateness: Duration = Duration(0)  # a step waits this long for late readings
    gap_max: Annotated[int, msgspec.Meta(ge=1, le=GAP_MAX)] = 60  # steps; a longer gap restarts
    rate_max: Annotated[float, msgspec.Meta(gt=0, le=1e30)] = 1e12  # units per second
    repeats: bool = False  # equal deltas of one time are distinct, not duplicates

    def __post_init__(self) -> None:
        if self.step < 1 or float(self.step) % 1:
            raise ValueError(f"step: must be whole seconds, at least one, is {self.step}")
        if self.step > STEP_MAX_S:
            raise ValueError(f"step: must be at most a day, is {self.step}")
        if self.lateness > (OPEN_MAX - 1) * self.step:
            raise ValueError(f"lateness: must be at most {OPEN_MAX - 1} steps, is {self.lateness}")


@dataclass(slots=True)
class StepUpdates:
    """The changes that a wave of B readings makes to its rows' steps; each field has B entries."""

    verdicts: NDArray[np.int8]
    growth: Floats  # spread from `since` to `until`; 0 if the readings bound no interval
    since: Floats
    until: Floats
    alone: Floats  # a delta with the same time as the previous one: it covers no time of its own
    holds: Bools  # whether a gauge's last value fills the steps up to this reading
    steps: Ints  # the number of steps of each row that close now, oldest first
    next_open: Ints  # the oldest open step after they have closed


def match(rows: Rows, wave: Readings, config: GridConfig, *, trusted: bool = False) -> StepUpdates:
    """
    Compare *wave* with *rows*, one reading per row; nothing is changed yet.

    *trusted* readings were held before and were confirmed by the next reading.
    """
    step = int(config.step)
    at = np.floor(wave.time / step).astype(np.int64)  # the step of each reading
    counter, delta = wave.kind == Kind.COUNTER, wave.kind == Kind.DELTA
    elapsed = wave.time - rows["time"]
    found, growth = verdicts.classify(
        rows,
        wave,
        at,
        step=step,
        gap_max=config.gap_max,
        rate_max=config.rate_max,
        trusted=trusted,
        repeats=config.repeats,
    )

    clock = np.maximum(rows["time"], wave.time)
    next_open = np.floor((clock - float(config.lateness)) / step).astype(np.int64)
    next_open = np.maximum(next_open, rows["open"])
    steps = next_open - rows["open"]
    gap = found == Verdict.GAP
    last = np.floor(rows["time"] / step).astype(np.int64)  # later steps hold no reading
    steps = np.where(gap, last + 1 - rows["open"], steps)
    steps = np.minimum(steps, config.gap_max + OPEN_MAX)  # limits the damage of a corrupt row
    next_open = np.where(gap, at, next_open)
    first = found == Verdict.FIRST
    steps, next_open = np.where(first, 0, steps), np.where(first, at, next_open)
    still = DROPPED[found] | (~counter & (found == Verdict.ABSURD))
    steps, next_open = np.where(still, 0, steps), np.where(still, rows["open"], next_open)

    rated = RATED[found]
    since, until = rows["time"].copy(), rows["time"].copy()
    until[rated & counter] = wave.time[rated & counter]
    alone = np.zeros(len(wave))
    holds = np.zeros(len(wave), bool)
    if not counter.all():
        beside = delta & rated & (elapsed <= 0)
        alone[beside] = growth[beside]
        growth = np.where(beside, 0.0, growth)
        spread = delta & rated & ~beside
        span = verdicts.span_of(rows, elapsed, step)
        since[spread], until[spread] = (wave.time - span)[spread], wave.time[spread]
        usual = np.where(rows["spacing"] > 0, rows["spacing"], elapsed)
        holds = (wave.kind == Kind.GAUGE) & rated & (elapsed <= HOLD * usual)
    return StepUpdates(found, growth, since, until, alone, holds, steps, next_open)


def take(updates: StepUpdates, index: NDArray[np.intp]) -> StepUpdates:
    """The updates of the rows at *index*."""
    return StepUpdates(*(getattr(updates, each.name)[index] for each in fields(updates)))


def close(rows: Rows, updates: StepUpdates, nth: int, config: GridConfig) -> tuple[Floats, Ints]:
    """
    Close the *nth* of the steps that close now, in rows that have that many.

    Returns rates per second, (B,), NaN if the step is missing, and the steps' indices, (B,). A
    gauge's rate is the mean of its readings. A counter's step counts if readings cover at least
    half of it.
    """
    step = int(config.step)
    index = rows["open"] + nth
    here = np.arange(len(rows)), index % OPEN_MAX
    amount, covered = rows["amount"][here], rows["covered"][here].astype(np.float64)
    rows["amount"][here], rows["covered"][here] = 0.0, 0.0
    growth, seconds = overlap(updates, index, step)
    amount, covered = amount + growth, covered + seconds

    gauge = rows["kind"] == Kind.GAUGE
    missing = np.where(gauge, covered == 0, covered < step / 2)
    rate = np.where(missing, np.nan, amount / np.where(missing, 1.0, covered))
    held = missing & updates.holds
    if held.any():
        rate[held] = rows["count"][held].view(np.float64)
    return rate, index


def store_open(
    rows: Rows, wave: Readings, updates: StepUpdates, config: GridConfig, *, trusted: bool = False
) -> None:
    """Store in *rows* what the wave adds to steps that stay open."""
    step = int(config.step)
    found = updates.verdicts
    back = verdicts.update_habits(rows, wave, found, updates.growth, step=step, trusted=trusted)
    counter, gauge = wave.kind == Kind.COUNTER, wave.kind == Kind.GAUGE
    at = np.floor(wave.time / step).astype(np.int64)
    restarted = ANEW[found] | back
    rows["amount"][restarted], rows["covered"][restarted] = 0.0, 0.0
    first_skipped = rows["open"] + updates.steps  # the first step that a jump skips
    rows["open"] = np.where(back, at, updates.next_open)

    taken = ~DROPPED[found]
    sound = taken & (found != Verdict.ABSURD)
    for ahead in range(int(np.ceil(float(config.lateness) / step)) + 1):
        index = updates.next_open + ahead
        here = np.arange(len(rows)), index % OPEN_MAX
        growth, seconds = overlap(updates, index, step)
        own = gauge & sound & (at == index)
        rows["amount"][here] += growth + np.where(own, wave.value, 0.0)
        rows["covered"][here] += (seconds + own).astype(np.float32)
        if updates.alone.any():
            its = np.maximum(np.ceil(wave.time / step).astype(np.int64) - 1, updates.next_open)
            rows["amount"][here] += np.where(its == index, updates.alone, 0.0)

    if back.any():
        rows["sealed"][back] = np.stack((rows["track"], updates.next_open), axis=1)[back]
    moved = restarted | back
    if moved.any():
        resume = np.where(found == Verdict.GAP, first_skipped, 0)
        rows["resume"] = np.where(moved, np.clip(resume, 0, STEPS_MAX), rows["resume"])
        rows["track"] = np.where(moved, np.clip(at, 0, STEPS_MAX), rows["track"])
    late = back | np.where(counter, taken, sound & (restarted | (wave.time >= rows["time"])))
    rows["count"] = np.where(late, wave.count, rows["count"])
    rows["time"] = np.where(late, wave.time, rows["time"])
    rows["kind"] = wave.kind
    rows["unit"] = wave.unit


def forecast_before(rows: Rows, steps: Ints) -> Bools:
    """Which of the closed *steps*, (B,), were forecast before their flow's clock was set back."""
    sealed = rows["sealed"].astype(np.int64)
    found: Bools = (sealed[:, 0] <= steps) & (steps < sealed[:, 1])
    return found


def track_is_possible(rows: Rows) -> Bools:
    """
    Whether no more steps were closed since a flow's clock was moved than it has had, (B,).

    A row for which this fails would have no forecasts as long as its steps seem forecast before.
    """
    age, slack = rows["age"].astype(np.int64), OPEN_MAX + 1
    track, (first, end) = rows["track"].astype(np.int64), rows["sealed"].astype(np.int64).T
    since = np.minimum(rows["open"], STEPS_MAX) - track  # a step of seconds may lie beyond it
    possible: Bools = (-slack <= since) & (since <= age + slack)
    possible &= (first <= end) & (end - first <= age + slack)
    possible |= rows["kind"] == 0
    return possible


def overlap(updates: StepUpdates, index: Ints, step: int) -> tuple[Floats, Floats]:
    """Each row's growth that falls into step *index*, and the seconds that it covers there."""
    span = np.maximum(updates.until - updates.since, 0.0)
    over = np.where(span > 0, span, np.inf)
    begins = np.clip(index * step - updates.since, 0.0, span)
    ends = np.clip((index + 1) * step - updates.since, 0.0, span)
    # The seconds are no product: half a step would round to a little less, which is not enough.
    return updates.growth * (ends / over) - updates.growth * (begins / over), ends - begins


def unit_of_rate(rows: Rows) -> NDArray[np.bytes_]:
    """The unit of each row's rate: a gauge's own unit, else the unit of its value per second."""
    gauge, unit = rows["kind"] == Kind.GAUGE, rows["unit"]
    alike = bool((unit == unit[:1]).all())  # numpy joins strings slowly; mostly all are equal
    return np.where(gauge, unit, np.char.add(unit[:1] if alike else unit, b"/s"))
