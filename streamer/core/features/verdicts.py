"""
What a reading says, judged with what its flow usually carries and what came around it.

A reading that does not fit is *held*: it waits in the row for the next one. If that one
agrees with what was before, the held reading was an odd poll and is left out. If it agrees
with the held reading, both are taken. So an odd poll costs no step, and a real change is
delayed by one reading. Held are, once a flow's usual rate is known:

- a counter that grew faster than JUMP times the highest rate of late, or than its link,
- a counter that fell and did not wrap: a restart of the device, a step back, or an odd poll,
- a reading much further ahead of its flow's clock than readings usually are apart.

A counter that fell has wrapped if what it then grew by is what the flow usually carries.
"""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Bounds, Columns, Rows
from streamer.core.types import Kind, Readings

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

INSTANT_S = 1e-6  # readings closer than this are of one time
JUMP = 8.0  # times the highest rate of late: beyond it a counter's growth is doubted
NEAR = 4.0  # within this factor of it, growth is what the flow usually carries
HIGH_DAYS = 3.0  # in which the highest rate is forgotten to a third
AHEAD = 5.0  # times the usual spacing: beyond it a reading's time is doubted …
AHEAD_STEPS = 3  # … and so many steps
LOST = 1.75  # times the usual spacing: beyond it a delta was lost
FAR_S = 86400.0  # a clock further ahead than this is set back once three late readings agree
ODD_MORE, ODD_LESS, ODD_MANY = 16, 4, 80  # of the count of odd polls: two sources in turn


class Held(enum.IntEnum):
    """What waits in a row."""

    NOTHING = 0
    VALUE = 1  # a reading whose value does not fit
    TIME = 2  # a reading whose time does not fit
    LATE = 3  # nothing, but there was a late reading, far behind the flow's clock …
    LATE_AGAIN = 4  # … and another one that agrees: with the next one the clock is set back


COLUMNS: Columns = [
    ("held_count", "u8"),  # of the reading that waits; its time …
    ("held_time", "f8"),  # … which is that of the last late one if none waits
    ("high", "f4"),  # the highest rate of late, units per second
    ("spacing", "f4"),  # usual seconds between two readings; 0: not known
    ("track", "u4"),  # the first step closed since the flow's clock was last moved
    ("resume", "u4"),  # the first step that was never closed before that
    ("sealed", "u4", (2,)),  # steps from the first to before the second were forecast before
    ("held", "u1"),  # a value of Held
    ("odd", "u1"),  # rises with each odd poll and falls with each sound one
    ("width", "u1"),  # bits at which the counter was seen to wrap; 0: it was not
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
    """What a reading says, next to those before it."""

    RATED = 0  # it adds to its step, or bounds an interval that has a rate
    WRAPPED = 1  # likewise, past the counter's largest value
    FIRST = 2  # nothing to compare with yet
    DUPLICATE = 3  # told twice
    LATE = 4  # older than what is known, or its step has closed
    RESET = 5  # the device began again from zero
    GAP = 6  # so far from the last one that a mean would hide the truth
    ABSURD = 7  # no link is that fast
    HELD = 8  # it does not fit: the next one decides
    ODD = 9  # it was held, and the next one agreed with what was before it


def _among(*verdicts: Verdict) -> Bools:
    """A table to look verdicts up in: np.isin takes longer than all the rest of a small wave."""
    return np.array([verdict in verdicts for verdict in Verdict])


DROPPED = _among(Verdict.DUPLICATE, Verdict.LATE, Verdict.HELD)  # nothing of the step changes
ANEW = _among(Verdict.FIRST, Verdict.GAP)
RATED = _among(Verdict.RATED, Verdict.WRAPPED)


def classify(  # noqa: PLR0913 - a reading, and what it is judged by
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
    The verdict on each reading, (B,), and how much counters and deltas grew.

    *at* is the step of each reading. A *trusted* reading is one that was held and that the next
    one agreed with. With *repeats*, equal deltas of one time are several.
    """
    counter, gauge = wave.kind == Kind.COUNTER, wave.kind == Kind.GAUGE
    elapsed = wave.time - rows["time"]
    before, high = rows["count"], rows["high"].astype(np.float64)
    capacity = np.where(rows["capacity"] > 0, rows["capacity"], wave.capacity)
    limit = np.where(capacity > 0, np.minimum(1.25 * capacity, rate_max), rate_max)
    grown, wrapped, fell = _growth(rows, wave, elapsed, np.minimum(limit, rate_max))
    span = np.where(counter, elapsed, span_of(rows, elapsed, step))
    amount = np.where(counter, grown, wave.value)
    rate = np.where(gauge, wave.value, amount / np.maximum(span, INSTANT_S))

    same = (wave.time == rows["time"]) & (wave.count == before)
    if repeats:
        same &= wave.kind != Kind.DELTA
    gone = at - np.floor(rows["time"] / step).astype(np.int64)
    verdicts = np.full(len(wave), Verdict.RATED, np.int8)
    verdicts[wrapped] = Verdict.WRAPPED
    verdicts[rate > (rate_max if trusted else limit)] = Verdict.ABSURD
    verdicts[fell & ~wrapped] = Verdict.RESET
    verdicts[gone > gap_max] = Verdict.GAP
    if not trusted:
        known = rows["spacing"] > 0
        calm = np.maximum(elapsed, rows["spacing"] / 4)  # polls that lie close together jitter
        jump = counter & ~wrapped & (grown / np.maximum(calm, INSTANT_S) > JUMP * high)
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
    """By how much each counter grew, whether it wrapped, and whether it fell; (B,) each."""
    counter = wave.kind == Kind.COUNTER
    before, high = rows["count"], rows["high"].astype(np.float64)
    fell = counter & (wave.count < before)
    told = np.where(rows["width"] > 0, rows["width"], wave.bits)
    narrow = (told == 32) | ((told == 0) & (before < 2**32))
    grown = wave.count - before  # modulo 2**64
    grown = np.where(fell & narrow, grown & np.uint64(2**32 - 1), grown).astype(np.float64)
    if not fell.any():
        return grown, fell, fell
    size = np.where(narrow, 2.0**32, 2.0**64)
    rate = grown / np.maximum(elapsed, INSTANT_S)
    at_end = (before.astype(np.float64) >= 0.75 * size) & (grown < 0.25 * size)
    known = rows["spacing"] > 0
    usual = rate <= NEAR * high
    like = usual & (rate >= high / NEAR) & narrow & (before < 2**32)
    cold = np.where(told == 32, before < 2**32, at_end)
    warm = np.where(told > 0, usual & (before < size), (at_end & (rate <= JUMP * high)) | like)
    wrapped = fell & (elapsed > 0) & (rate <= limit) & np.where(known, warm, cold)
    return grown, wrapped, fell


def span_of(rows: Rows, elapsed: Floats, step: int) -> Floats:
    """
    Over how many seconds before its time a delta was gathered, (B,).

    That is the time since the one before it; where one was lost, or several are of one time, it
    is the usual spacing.
    """
    spacing = rows["spacing"].astype(np.float64)
    usual = np.where(spacing > 0, spacing, float(step))
    lost = (elapsed <= 0) | ((spacing > 0) & (elapsed > LOST * spacing))
    return np.where(lost, usual, elapsed)


def resolve_held(rows: Rows, wave: Readings, rate_max: float) -> tuple[Bools, Bools]:
    """
    What *wave* says of the readings that are held: which are taken, and which are left out.

    A reading that is older than all, or the same as the held one, says nothing yet.
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
    grown = (now - np.minimum(before, now)).astype(np.float64)
    usual = np.maximum(JUMP * rows["high"].astype(np.float64), 1.0)
    as_before = (now >= before) & (grown / elapsed <= np.minimum(usual, rate_max))
    fell = after < before
    agrees = np.where(fell, (now >= after) & ~as_before, now >= after)
    taken = asked & ~earlier & (~counter | agrees)
    return taken, asked & ~taken


def _as_held(rows: Rows, wave: Readings) -> Bools:
    """Which readings are the held one once more."""
    same = (wave.time == rows["held_time"]) & (wave.count == rows["held_count"])
    found: Bools = same & _waiting(rows)
    return found


def _waiting(rows: Rows) -> Bools:
    """Which rows hold a reading."""
    found: Bools = (rows["held"] == Held.VALUE) | (rows["held"] == Held.TIME)
    return found


def held_wave(rows: Rows, wave: Readings) -> Readings:
    """The held readings of *rows* as a wave; *wave* is that of the readings that settled them."""
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
    )


def leave_out(rows: Rows, mask: Bools) -> NDArray[np.intp]:
    """
    Drop the held readings in *mask*; which rows seem to be fed by two sources in turn.

    Of those only the rows that do so anew.
    """
    odd = rows["odd"][mask].astype(np.int64)
    more = np.minimum(odd + ODD_MORE, 255)
    rows["odd"][mask] = more
    rows["held"][mask] = Held.NOTHING
    return np.flatnonzero(mask)[(odd < ODD_MANY) & (more >= ODD_MANY)]


def update_habits(  # noqa: PLR0913 - a reading, its verdict, and what is kept of both
    rows: Rows,
    wave: Readings,
    verdicts: NDArray[np.int8],
    growth: Floats,
    *,
    step: int,
    trusted: bool,
) -> Bools:
    """
    Keep what the readings say of their flows' habits; whose clock is to be set back, (B,).

    Called before the rows take in the wave.
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
    if not trusted:  # one hole is not the usual
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
    other = DROPPED[verdicts] & ~far  # duplicates and readings a little late say nothing
    after = np.where(agrees & ~back, more, np.where(other, held, Held.NOTHING))
    rows["held"] = np.where(free, after, held)
    rows["held_time"] = np.where(waits | agrees, wave.time, rows["held_time"])
    return back


def _learn_capacity(rows: Rows, wave: Readings, rate: Floats, high: Floats) -> None:
    """
    A capacity counts if the flow has not carried more, and a change of it if it comes twice.

    One that the flow's rate exceeds is forgotten.
    """
    told, now = wave.capacity, rows["capacity"].astype(np.float64)
    sensible = (told > 0) & (1.25 * told >= high)
    twice = np.float32(told) == rows["capacity_told"]
    rows["capacity_told"] = np.where(told > 0, told, rows["capacity_told"])
    kept = np.where(rate > 1.25 * now, 0.0, now)
    rows["capacity"] = np.where(sensible & ((kept == 0) | twice), told, kept)
