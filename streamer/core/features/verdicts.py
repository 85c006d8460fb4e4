"""
The verdict on a reading, from the flow's usual rate and the readings around it.

A reading that does not fit is *held*: it waits in the row for the next reading. If the next one
agrees with what was before, the held reading was an odd poll and is left out. If it agrees
with the held reading, both are taken. So an odd poll costs no step, and a real change is
delayed by one reading. Once a flow's usual rate is known, these readings are held:

- a counter that grew faster than JUMP times the recent highest rate, or than its link,
- a counter that fell and did not wrap: a restart of the device, a step back, or an odd poll,
- a reading that is much further ahead of its flow's clock than the usual spacing of readings.

A counter that fell has wrapped if the growth past its largest value is usual for the flow.
"""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.types import PART, Kind, Readings

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

INSTANT_S = 1e-6  # readings closer than this have the same time
JUMP = 8.0  # times the recent highest rate: beyond it a counter's growth is doubted
NEAR = 4.0  # growth within this factor of the recent highest rate is usual for the flow
HIGH_DAYS = 3.0  # time in which the highest rate decays to 1/e
AHEAD = 5.0  # times the usual spacing: a reading's time is doubted beyond this and AHEAD_STEPS
AHEAD_STEPS = 3  # steps: a reading's time is doubted beyond this and AHEAD
LOST = 1.75  # times the usual spacing: beyond it a delta was lost
FAR_S = 86400.0  # a clock further ahead than this is set back after three late readings that agree
ODD_MORE, ODD_LESS, ODD_MANY = 16, 4, 80  # count of odd polls: rise, fall, sign of two sources


class Held(enum.IntEnum):
    """What is held in a row."""

    NOTHING = 0
    VALUE = 1  # a reading whose value does not fit
    TIME = 2  # a reading whose time does not fit
    LATE = 3  # no reading, but one late reading far behind the flow's clock was seen
    LATE_AGAIN = 4  # a second late reading agreed: the next one that agrees sets the clock back


COLUMNS: Columns = [
    ("held_count", "u8"),  # of the held reading
    ("held_time", "f8"),  # of the held reading; if none is held, of the last late one
    ("high", "f4"),  # the recent highest rate, units per second
    ("spacing", "f4"),  # usual seconds between two readings; 0 if unknown
    ("track", "u4"),  # the first step closed since the flow's clock was last moved
    ("resume", "u4"),  # the first step that was never closed before that
    ("sealed", "u4", (2,)),  # steps from the first to before the second were forecast before
    ("held", "u1"),  # a value of Held
    ("odd", "u1"),  # rises with each odd poll and falls with each sound one
    ("width", "u1"),  # bits at which the counter was seen to wrap; 0 if it was not
]
BOUNDS: Bounds = {
    "held_time": (0, 1e12),
    "high": (0, np.inf),
    "spacing": (0, 1e10),
    "held": (0, max(Held)),
    "width": (0, 64),
}
ANY_STEP = ("held_count", "held_time", "high", "spacing", "held", "odd", "width")


class Verdict(enum.IntEnum):
    """The result of comparing a reading with those before it."""

    RATED = 0  # it adds to its step, or bounds an interval that has a rate
    WRAPPED = 1  # the same as RATED, but the counter passed its largest value
    FIRST = 2  # there is nothing to compare with yet
    DUPLICATE = 3  # the reading came twice
    LATE = 4  # older than the newest reading, or its step has closed
    RESET = 5  # the device started again from zero
    GAP = 6  # so far from the last reading that a mean rate would be misleading
    ABSURD = 7  # faster than any link
    HELD = 8  # it does not fit: the next reading decides
    ODD = 9  # it was held, and the next reading agreed with what was before it


def _among(*verdicts: Verdict) -> Bools:
    """A lookup table of verdicts: np.isin takes longer than the rest of a small wave."""
    return np.array([verdict in verdicts for verdict in Verdict])


DROPPED = _among(Verdict.DUPLICATE, Verdict.LATE, Verdict.HELD)  # these do not change the step
ANEW = _among(Verdict.FIRST, Verdict.GAP)
RATED = _among(Verdict.RATED, Verdict.WRAPPED)


def classify(  # noqa: PLR0913 - a reading, and the data that it is judged by
    rows: Rows,
    wave: Readings,
    at: Ints,
    *,
    step: int,
    gap_max: int,
    rate_max: float,
    trusted: bool,
    repeats: bool,
) -> tuple[NDArray[np.int8], Floats]:
    """
    The verdict on each reading, (B,), and the growth of counters and deltas.

    *at* is the step of each reading. A *trusted* reading was held before and was confirmed by the
    next one. With *repeats*, equal deltas of one time are distinct, not duplicates; so are those
    that are marked as parts.
    """
    counter, gauge = wave.kind == Kind.COUNTER, wave.kind == Kind.GAUGE
    elapsed = wave.time - rows["time"]
    before, high = rows["count"], rows["high"].astype(np.float64)
    capacity = np.where(rows["capacity"] > 0, rows["capacity"], wave.capacity)
    limit = np.where(capacity > 0, np.minimum(1.25 * capacity, rate_max), rate_max)
    growth, wrapped, fell = _growth(rows, wave, elapsed, np.minimum(limit, rate_max))
    span = np.where(counter, elapsed, span_of(rows, elapsed, step))
    amount = np.where(counter, growth, wave.value)
    rate = np.where(gauge, wave.value, amount / np.maximum(span, INSTANT_S))

    same = (wave.time == rows["time"]) & (wave.count == before)
    delta = wave.kind == Kind.DELTA
    same &= ~(delta & (repeats | (wave.bits == PART)))
    passed = at - np.floor(rows["time"] / step).astype(np.int64)
    verdicts = np.full(len(wave), Verdict.RATED, np.int8)
    verdicts[wrapped] = Verdict.WRAPPED
    verdicts[rate > (rate_max if trusted else limit)] = Verdict.ABSURD
    verdicts[fell & ~wrapped] = Verdict.RESET
    verdicts[passed > gap_max] = Verdict.GAP
    if not trusted:
        known = rows["spacing"] > 0
        calm = np.maximum(elapsed, rows["spacing"] / 4)  # the times of close polls jitter
        jump = counter & ~wrapped & (growth / np.maximum(calm, INSTANT_S) > JUMP * high)
        ahead = elapsed > np.maximum(AHEAD * rows["spacing"], AHEAD_STEPS * step)
        doubted = counter & (jump | fell & ~wrapped)
        fast = counter & ~fell & (rate > limit)
        verdicts[fast | known & (doubted | ahead)] = Verdict.HELD
    verdicts[np.where(counter, elapsed <= 0, at < rows["open"])] = Verdict.LATE
    verdicts[same] = Verdict.DUPLICATE
    if not trusted:
        verdicts[_as_held(rows, wave)] = Verdict.DUPLICATE
    verdicts[(rows["kind"] != wave.kind) | (rows["unit"] != wave.unit)] = Verdict.FIRST
    return verdicts, np.where(~gauge & RATED[verdicts], amount, 0.0)


def _growth(
    rows: Rows, wave: Readings, elapsed: Floats, limit: Floats
) -> tuple[Floats, Bools, Bools]:
    """Each counter's growth, whether the counter wrapped, and whether it fell; (B,) each."""
    counter = wave.kind == Kind.COUNTER
    before, high = rows["count"], rows["high"].astype(np.float64)
    fell = counter & (wave.count < before)
    width = np.where(rows["width"] > 0, rows["width"], wave.bits)
    narrow = (width == 32) | ((width == 0) & (before < 2**32))
    growth = wave.count - before  # modulo 2**64
    growth = np.where(fell & narrow, growth & np.uint64(2**32 - 1), growth).astype(np.float64)
    if not fell.any():
        return growth, fell, fell
    size = np.where(narrow, 2.0**32, 2.0**64)
    rate = growth / np.maximum(elapsed, INSTANT_S)
    at_end = (before.astype(np.float64) >= 0.75 * size) & (growth < 0.25 * size)
    known = rows["spacing"] > 0
    usual = rate <= NEAR * high
    like = usual & (rate >= high / NEAR) & narrow & (before < 2**32)
    cold = np.where(width == 32, before < 2**32, at_end)
    warm = np.where(width > 0, usual & (before < size), (at_end & (rate <= JUMP * high)) | like)
    wrapped = fell & (elapsed > 0) & (rate <= limit) & np.where(known, warm, cold)
    return growth, wrapped, fell


def span_of(rows: Rows, elapsed: Floats, step: int) -> Floats:
    """
    The seconds before its time over which a delta was gathered, (B,).

    This is the time since the previous delta. If a delta was lost, or several have the same
    time, it is the usual spacing.
    """
    spacing = rows["spacing"].astype(np.float64)
    usual = np.where(spacing > 0, spacing, float(step))
    lost = (elapsed <= 0) | ((spacing > 0) & (elapsed > LOST * spacing))
    return np.where(lost, usual, elapsed)


def resolve_held(rows: Rows, wave: Readings, rate_max: float) -> tuple[Bools, Bools]:
    """
    Compare *wave* with the held readings: returns which are taken and which are left out.

    A reading that is older than all others, or equal to the held one, decides nothing.
    """
    held = _waiting(rows)
    if not held.any():
        return held, held
    other = (rows["kind"] != wave.kind) | (rows["unit"] != wave.unit)
    asked = held & ~_as_held(rows, wave) & ~other & (wave.time > rows["time"])
    counter = wave.kind == Kind.COUNTER
    earlier = wave.time <= rows["held_time"]
    before, after, now = rows["count"], rows["held_count"], wave.count
    elapsed = np.maximum(wave.time - rows["time"], INSTANT_S)
    growth = (now - np.minimum(before, now)).astype(np.float64)
    usual = np.maximum(JUMP * rows["high"].astype(np.float64), 1.0)
    as_before = (now >= before) & (growth / elapsed <= np.minimum(usual, rate_max))
    fell = after < before
    agrees = np.where(fell, (now >= after) & ~as_before, now >= after)
    taken = asked & ~earlier & (~counter | agrees)
    return taken, asked & ~taken


def _as_held(rows: Rows, wave: Readings) -> Bools:
    """Which readings repeat the held one."""
    same = (wave.time == rows["held_time"]) & (wave.count == rows["held_count"])
    found: Bools = same & _waiting(rows)
    return found


def _waiting(rows: Rows) -> Bools:
    """Which rows hold a reading."""
    found: Bools = (rows["held"] == Held.VALUE) | (rows["held"] == Held.TIME)
    return found


def held_wave(rows: Rows, wave: Readings) -> Readings:
    """The held readings of *rows* as a wave; *wave* has the readings that decided on them."""
    counter = wave.kind == Kind.COUNTER
    count = rows["held_count"].copy()
    value = np.where(counter, count.astype(np.float64), count.view(np.float64))
    return Readings(
        partition=wave.partition,
        flow=wave.flow,
        offset=wave.offset,
        time=rows["held_time"].copy(),
        value=value,
        count=count,
        kind=wave.kind,
        bits=wave.bits,
        capacity=np.zeros(len(rows)),
        unit=wave.unit,
        labels=wave.labels,
    )


def leave_out(rows: Rows, mask: Bools) -> NDArray[np.intp]:
    """
    Drop the held readings in *mask*; returns the rows that two sources seem to write in turn.

    Only rows for which this is new are returned.
    """
    odd = rows["odd"][mask].astype(np.int64)
    more = np.minimum(odd + ODD_MORE, 255)
    rows["odd"][mask] = more
    rows["held"][mask] = Held.NOTHING
    return np.flatnonzero(mask)[(odd < ODD_MANY) & (more >= ODD_MANY)]


def update_habits(  # noqa: PLR0913 - a reading, its verdict, and the settings
    rows: Rows,
    wave: Readings,
    verdicts: NDArray[np.int8],
    growth: Floats,
    *,
    step: int,
    trusted: bool,
) -> Bools:
    """
    Update the flows' usual rate and spacing; returns the rows whose clock is set back, (B,).

    Must be called before the rows take in the wave.
    """
    elapsed = wave.time - rows["time"]
    counter = wave.kind == Kind.COUNTER
    rated = RATED[verdicts]
    rate = growth / np.maximum(elapsed, INSTANT_S)
    moving = counter & rated & (elapsed > 0)
    fades = np.exp(-np.maximum(elapsed, 0) / (HIGH_DAYS * 86400))
    high = np.maximum(rows["high"] * fades, rate)
    _learn_capacity(rows, wave, np.where(moving, rate, 0.0), high)
    rows["high"] = np.where(moving, np.minimum(high, 1e30), rows["high"])
    wraps32 = (verdicts == Verdict.WRAPPED) & (rows["count"] < 2**32)
    rows["width"] = np.where(wraps32, 32, rows["width"])

    spacing = rows["spacing"].astype(np.float64)
    apart = elapsed - spacing
    if not trusted:  # a single gap does not change the usual spacing
        apart = np.where(spacing > 0, np.minimum(apart, 3 * spacing), apart)
    gain = np.where(spacing == 0, 1.0, np.where((apart < 0) | trusted, 0.5, 0.05))
    steady = (rated | (verdicts == Verdict.GAP)) & (elapsed > INSTANT_S)
    rows["spacing"] = np.where(steady, np.minimum(spacing + gain * apart, 1e9), spacing)

    waits = verdicts == Verdict.HELD
    ahead = elapsed > np.maximum(AHEAD * spacing, AHEAD_STEPS * step)
    rows["held"] = np.where(waits, np.where(ahead, Held.TIME, Held.VALUE), rows["held"])
    rows["held_count"] = np.where(waits, wave.count, rows["held_count"])
    odd = rows["odd"].astype(np.int64)
    rows["odd"] = np.where(rated, np.maximum(odd - ODD_LESS, 0), odd)
    return _late(rows, wave, verdicts, waits, step)


def _late(rows: Rows, wave: Readings, verdicts: NDArray[np.int8], waits: Bools, step: int) -> Bools:
    """Count late readings that agree on a time far behind the flow's clock."""
    at = np.floor(wave.time / step)
    far = (verdicts == Verdict.LATE) & (rows["time"] - wave.time > FAR_S) & (at >= rows["resume"])
    held = rows["held"].astype(np.int64)
    free = ~_waiting(rows) & ~waits
    agrees = far & free & ((held < Held.LATE) | (wave.time > rows["held_time"]))
    back: Bools = agrees & (held == Held.LATE_AGAIN)
    more = np.where(held < Held.LATE, Held.LATE, Held.LATE_AGAIN)
    other = DROPPED[verdicts] & ~far  # duplicates and slightly late readings change nothing
    after = np.where(agrees & ~back, more, np.where(other, held, Held.NOTHING))
    rows["held"] = np.where(free, after, held)
    rows["held_time"] = np.where(waits | agrees, wave.time, rows["held_time"])
    return back


def _learn_capacity(rows: Rows, wave: Readings, rate: Floats, high: Floats) -> None:
    """
    Accept a reported capacity if the flow has not carried more, and a change if it is repeated.

    A capacity that the flow's rate exceeds is dropped.
    """
    declared, now = wave.capacity, rows["capacity"].astype(np.float64)
    sensible = (declared > 0) & (1.25 * declared >= high)
    twice = np.float32(declared) == rows["capacity_told"]
    rows["capacity_told"] = np.where(declared > 0, declared, rows["capacity_told"])
    kept = np.where(rate > 1.25 * now, 0.0, now)
    rows["capacity"] = np.where(sensible & ((kept == 0) | twice), declared, kept)
