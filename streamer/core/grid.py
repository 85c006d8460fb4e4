"""
Readings to closed steps with a rate, each reading with a verdict.

Time is cut into steps of equal length; step s covers [s·step, (s+1)·step). A
counter's growth is spread evenly over the time between its two readings, and
each step gets its part, so the parts add up to the growth. Deltas are added to
their step, gauges averaged. A step closes once the flow's own event time has
passed its end by `lateness`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.arena import Bounds, Columns, Rows
from streamer.core.facts import Kind, Readings
from streamer.core.settings import Duration, Settings

INSTANT_S = 1e-6  # readings closer than this are of one time
OPEN_MAX = 4  # steps of a flow that may be open at once
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COLUMNS: Columns = [
    ("kind", "u1"),  # of the flow's readings; 0 in an empty row
    ("unit", "S12"),
    ("capacity", "f4"),  # units per second; 0 is not known
    ("count", "u8"),  # of the newest reading
    ("open", "i8"),  # the oldest step that is not closed
    ("amount", "f8", (OPEN_MAX,)),  # gathered in each open step, at its index modulo OPEN_MAX
    ("covered", "f4", (OPEN_MAX,)),  # by how many seconds of a counter, or by how many readings
]
BOUNDS: Bounds = {
    "kind": (0, max(Kind)),
    "capacity": (0, np.inf),
    "covered": (0, np.inf),
}
ANY_STEP = ("kind", "unit", "capacity", "count")  # columns that mean the same whatever the step is


class GridConfig(Settings, frozen=True, kw_only=True):
    """How time is cut, and what a counter may do."""

    step: Duration = Duration(60)  # whole seconds
    lateness: Duration = Duration(0)  # a step waits this long for readings that come late
    gap_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 60  # steps; a longer hole: anew
    rate_max: Annotated[float, msgspec.Meta(gt=0, le=1e30)] = 1e12  # units per second

    def __post_init__(self) -> None:
        if self.step < 1 or float(self.step) % 1:
            raise ValueError(f"step: must be whole seconds, at least one, is {self.step}")
        if self.lateness > (OPEN_MAX - 1) * self.step:
            raise ValueError(f"lateness: must be at most {OPEN_MAX - 1} steps, is {self.lateness}")


class Verdict(enum.IntEnum):
    """What a reading says, next to those before it."""

    RATED = 0  # it adds to its step, or bounds an interval that has a rate
    WRAPPED = 1  # likewise, past the counter's largest value
    FIRST = 2  # nothing to compare with yet
    DUPLICATE = 3  # told twice
    LATE = 4  # older than what is known, or its step has closed
    RESET = 5  # the device began again from zero
    GAP = 6  # so far from the last one that a mean would hide the truth
    ABSURD = 7  # no link is that fast


def _among(*verdicts: Verdict) -> NDArray[np.bool_]:
    """A table to look verdicts up in: np.isin takes longer than all the rest of a small wave."""
    return np.array([verdict in verdicts for verdict in Verdict])


DROPPED = _among(Verdict.DUPLICATE, Verdict.LATE)  # as if never read
ANEW = _among(Verdict.FIRST, Verdict.GAP)
RATED = _among(Verdict.RATED, Verdict.WRAPPED)


@dataclass(slots=True)
class Heard:
    """What a wave of readings adds to its rows' steps. B of each."""

    verdicts: NDArray[np.int8]
    growth: Floats  # of a counter between its two readings; 0 if they do not bound an interval
    since: Floats  # when that growth began …
    until: Floats  # … and ended; the same where there is no interval
    steps: Ints  # how many steps of each row close now, oldest first
    next_open: Ints  # the oldest open step, once they have


def hear(rows: Rows, wave: Readings, config: GridConfig) -> Heard:
    """Weigh *wave* against *rows*, one reading a row, and change nothing yet."""
    step = int(config.step)
    at = np.floor(wave.time / step).astype(np.int64)  # the step of each reading
    counter = wave.kind == Kind.COUNTER
    verdicts, growth = weigh(rows, wave, at, config)

    clock = np.maximum(rows["time"], wave.time)
    next_open = np.floor((clock - float(config.lateness)) / step).astype(np.int64)
    next_open = np.maximum(next_open, rows["open"])
    steps = next_open - rows["open"]
    gap = verdicts == Verdict.GAP
    last = np.floor(rows["time"] / step).astype(np.int64)  # steps after it hold nothing
    steps = np.where(gap, last + 1 - rows["open"], steps)
    steps = np.minimum(steps, config.gap_max + OPEN_MAX)  # whatever a damaged row says
    next_open = np.where(gap, at, next_open)
    first = verdicts == Verdict.FIRST
    steps, next_open = np.where(first, 0, steps), np.where(first, at, next_open)
    still = DROPPED[verdicts] | (~counter & (verdicts == Verdict.ABSURD))
    steps, next_open = np.where(still, 0, steps), np.where(still, rows["open"], next_open)
    rated = counter & RATED[verdicts]
    since = rows["time"].copy()
    return Heard(verdicts, growth, since, np.where(rated, wave.time, since), steps, next_open)


def pick(heard: Heard, index: NDArray[np.intp]) -> Heard:
    """What was heard of the rows at *index*."""
    return Heard(*(getattr(heard, each.name)[index] for each in fields(heard)))


def weigh(
    rows: Rows, wave: Readings, at: Ints, config: GridConfig
) -> tuple[NDArray[np.int8], Floats]:
    """
    The verdict on each reading, and the growth of those that are counters.

    A counter that fell has wrapped or was reset. With its width known it has
    wrapped if a link can carry what it then grew by; with its width unknown,
    if it stood in the last quarter of 32 or 64 bits and grew by less than a
    quarter of them.
    """
    counter = wave.kind == Kind.COUNTER
    capacity = np.where(wave.capacity > 0, wave.capacity, rows["capacity"])
    limit = np.where(capacity > 0, np.minimum(1.25 * capacity, config.rate_max), config.rate_max)
    elapsed = wave.time - rows["time"]
    before = rows["count"]
    fell = counter & (wave.count < before)

    narrow = (wave.bits == 32) | ((wave.bits == 0) & (before < 2**32))
    grown = wave.count - before  # modulo 2**64
    grown = np.where(fell & narrow, grown & np.uint64(2**32 - 1), grown).astype(np.float64)
    size = np.where(narrow, 2.0**32, 2.0**64)
    plausible = (before.astype(np.float64) >= 0.75 * size) & (grown < 0.25 * size)
    rate = np.where(counter, grown / np.maximum(elapsed, INSTANT_S), wave.value)
    rate = np.where(wave.kind == Kind.DELTA, wave.value / float(config.step), rate)
    fast = rate > limit
    wrapped = fell & ~fast & np.where(wave.bits == 32, before < 2**32, plausible)

    gone = at - np.floor(rows["time"] / float(config.step)).astype(np.int64)
    same = (wave.time == rows["time"]) & (wave.count == before) & (wave.kind != Kind.DELTA)
    verdicts = np.full(len(wave), Verdict.RATED, np.int8)
    verdicts[wrapped] = Verdict.WRAPPED
    verdicts[fast] = Verdict.ABSURD
    verdicts[fell & ~wrapped] = Verdict.RESET
    verdicts[gone > config.gap_max] = Verdict.GAP
    verdicts[np.where(counter, elapsed <= 0, at < rows["open"])] = Verdict.LATE
    verdicts[same] = Verdict.DUPLICATE
    verdicts[rows["kind"] != wave.kind] = Verdict.FIRST  # an empty row, or another counter now
    return verdicts, np.where(counter & RATED[verdicts], grown, 0.0)


def close(rows: Rows, heard: Heard, nth: int, config: GridConfig) -> tuple[Floats, Ints]:
    """
    Close the *nth* of the steps that close now, of rows that have that many.

    Returns rates per second, (B,), NaN where the step is missing, and the
    steps' indices, (B,). A gauge's rate is the mean of its readings. A
    counter's step counts if readings cover at least half of it.
    """
    step = int(config.step)
    index = rows["open"] + nth
    here = np.arange(len(rows)), index % OPEN_MAX
    amount, covered = rows["amount"][here], rows["covered"][here].astype(np.float64)
    rows["amount"][here], rows["covered"][here] = 0.0, 0.0
    grown, seconds = share(heard, index, step)
    amount, covered = amount + grown, covered + seconds

    counter = rows["kind"] == Kind.COUNTER
    missing = np.where(counter, covered < step / 2, covered == 0)
    over = np.where(rows["kind"] == Kind.DELTA, float(step), covered)
    return np.where(missing, np.nan, amount / np.where(missing, 1.0, over)), index


def keep(rows: Rows, wave: Readings, heard: Heard, config: GridConfig) -> None:
    """Leave in *rows* what the wave adds to steps that stay open."""
    step = int(config.step)
    counter = wave.kind == Kind.COUNTER
    anew = ANEW[heard.verdicts]
    rows["amount"][anew], rows["covered"][anew] = 0.0, 0.0
    rows["open"] = heard.next_open

    taken = ~DROPPED[heard.verdicts]
    sound = taken & (heard.verdicts != Verdict.ABSURD)
    for ahead in range(int(np.ceil(float(config.lateness) / step)) + 1):
        index = heard.next_open + ahead
        here = np.arange(len(rows)), index % OPEN_MAX
        grown, seconds = share(heard, index, step)
        own = ~counter & sound & (np.floor(wave.time / step) == index)
        rows["amount"][here] += grown + np.where(own, wave.value, 0.0)
        rows["covered"][here] += (seconds + own).astype(np.float32)

    newer = np.where(counter, taken, sound & (anew | (wave.time >= rows["time"])))
    rows["count"] = np.where(newer, wave.count, rows["count"])
    rows["time"] = np.where(newer, wave.time, rows["time"])
    rows["kind"] = wave.kind
    rows["unit"] = wave.unit
    rows["capacity"] = np.where(wave.capacity > 0, wave.capacity, rows["capacity"])


def share(heard: Heard, index: Ints, step: int) -> tuple[Floats, Floats]:
    """What of each counter's growth falls into step *index*, and over how many seconds."""
    span = np.maximum(heard.until - heard.since, 0.0)
    over = np.where(span > 0, span, np.inf)
    begins = np.clip(index * step - heard.since, 0.0, span) / over
    ends = np.clip((index + 1) * step - heard.since, 0.0, span) / over
    return heard.growth * ends - heard.growth * begins, (ends - begins) * span


def unit_of_rate(rows: Rows) -> NDArray[np.bytes_]:
    """What each row's rate is counted in: a gauge's own unit, else that of its value per second."""
    gauge, unit = rows["kind"] == Kind.GAUGE, rows["unit"]
    alike = bool((unit == unit[:1]).all())  # numpy joins texts slowly, and mostly all are alike
    return np.where(gauge, unit, np.char.add(unit[:1] if alike else unit, b"/s"))
