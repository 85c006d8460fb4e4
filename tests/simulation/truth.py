"""
The expected forecasts of a partition's readings, in a second implementation.

It walks the readings one by one: no waves, no arena, no pages, no epochs, no
numpy. Two worlds may share a bug; this does not share the code.
"""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from math import exp, floor

STEP, GAP_MAX = 60, 5
RATE_MAX = 1e12  # no link is faster
POISON = "poison"
PARTS = "parts"  # the flow whose deltas come in parts; it takes a row, and nothing more is expected


class Walk:
    """One flow, reading by reading."""

    def __init__(self):
        self.known = self.opened = self.held = None
        self.amounts, self.covered = {}, {}
        self.high = self.spacing = 0.0
        self.wraps32 = False

    def add(self, time, count):
        """The steps that close with this reading, as (made_at, rate); rate None if missing."""
        if self.known is None:
            self.known, self.opened = (time, count), floor(time / STEP)
            return []
        if time <= self.known[0] or (time, count) == self.held:
            return []
        closed = []
        if self.held is not None:
            held, self.held = self.held, None
            if self.agrees(held, time, count):
                closed = self.take(*held, trusted=True)
        return closed + self.take(time, count, trusted=False)

    def agrees(self, held, time, count):
        """Whether a reading goes on from the held one, and not from what was before it."""
        as_before = count >= self.known[1] and (count - self.known[1]) <= max(
            8 * self.high, 1.0
        ) * (time - self.known[0])
        if time <= held[0] or count < held[1]:
            return False
        return held[1] >= self.known[1] or not as_before

    def take(self, time, count, *, trusted):
        """Take a reading in, or hold it."""
        at, last = floor(time / STEP), floor(self.known[0] / STEP)
        elapsed = time - self.known[0]
        growth = self.growth_to(count, elapsed)
        absurd = growth is not None and growth > RATE_MAX * elapsed
        if not trusted and absurd:
            self.held = time, count
            return []
        if not trusted and self.spacing:
            wraps = count < self.known[1] and growth is not None
            ahead = elapsed > max(5 * self.spacing, 3 * STEP)
            fast = growth is not None and growth / max(elapsed, self.spacing / 4) > 8 * self.high
            if ahead or growth is None or (fast and not wraps):
                self.held = time, count
                return []
        growth = None if absurd else growth
        before, self.known = self.known, (time, count)
        gap = at - last > GAP_MAX
        if growth is not None or gap:
            self.space(elapsed, trusted)
        if gap:
            closed = [self.close(step) for step in range(self.opened, last + 1)]
            self.opened, self.amounts, self.covered = at, {}, {}
            return closed
        if growth is not None:
            self.wraps32 |= count < before[1] < 2**32
            self.high = single(max(self.high * exp(-elapsed / (3 * 86400)), growth / elapsed))
        for step in range(last, at + 1) if growth is not None else ():
            seconds = min(time, (step + 1) * STEP) - max(before[0], step * STEP)
            if seconds > 0:
                part = Fraction(seconds) / Fraction(time - before[0])
                self.amounts[step] = self.amounts.get(step, 0) + growth * part
                self.covered[step] = self.covered.get(step, 0) + seconds
        closed = [self.close(step) for step in range(self.opened, at)]
        self.opened = at
        return closed

    def space(self, elapsed, trusted):
        """How far apart readings usually are."""
        apart = elapsed - self.spacing
        if not trusted and self.spacing:
            apart = min(apart, 3 * self.spacing)
        gain = 1.0 if not self.spacing else 0.5 if apart < 0 or trusted else 0.05
        self.spacing = single(self.spacing + gain * apart)

    def growth_to(self, count, elapsed):
        """How much the counter grew; None where it was reset."""
        before = self.known[1]
        if count >= before:
            return count - before
        size = 2**32 if before < 2**32 else 2**64
        wrapped = count + size - before
        at_end = before >= 0.75 * size and wrapped < 0.25 * size
        rate = wrapped / elapsed
        if self.spacing:
            like = size == 2**32 and self.high / 4 <= rate <= 4 * self.high
            at_end = like or (at_end and rate <= 8 * self.high)
            if self.wraps32:
                at_end = size == 2**32 and rate <= 4 * self.high
        return wrapped if at_end and rate <= RATE_MAX else None

    def close(self, step):
        seconds = self.covered.get(step, 0)
        rate = float(self.amounts[step]) / seconds if seconds >= STEP / 2 else None
        return (step + 1) * STEP, rate


def single(number):
    """As a row keeps it."""
    return struct.unpack("f", struct.pack("f", number))[0]


def called_for(lane, quota):
    """All that one partition's records call for: {flow: [(made_at, rate), …]}."""
    walks, found = {}, {}
    for record in lane:
        for flow, time, count in readings_of(record):
            if flow not in walks:
                if len(walks) == quota:  # one gives way; quotas here are below 128
                    del walks[min(walks, key=lambda f: (walks[f].known[0], f))]
                walks[flow] = Walk()
            if flow == PARTS:
                walks[flow].known = time, count
            else:
                found.setdefault(flow, []).extend(walks[flow].add(time, count))
    return found


def readings_of(record):
    try:
        values = json.loads(record.value)
    except (ValueError, TypeError):
        return
    values = values if isinstance(values, list) else [values]
    if any(each.get("unit") == POISON for each in values):
        return  # the record is rejected with all its readings
    for each in values:
        if each:
            yield each["flow"], each["time"], each["value"]
