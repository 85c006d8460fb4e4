"""
What a partition's readings call for, said a second time.

It walks the readings one by one: no waves, no arena, no pages, no epochs, no
numpy. Two worlds may share a bug; this does not share the code.
"""

from __future__ import annotations

import json
from fractions import Fraction
from math import floor

STEP, GAP_MAX = 60, 5
POISON = "poison"


class Walk:
    """One flow, reading by reading."""

    def __init__(self):
        self.known = self.opened = None
        self.amounts, self.covered = {}, {}

    def hear(self, time, count):
        """The steps that close with this reading, as (made_at, rate); rate None if missing."""
        if self.known is not None and time <= self.known[0]:
            return []
        at, before, self.known = floor(time / STEP), self.known, (time, count)
        if before is None:
            self.opened = at
            return []
        last = floor(before[0] / STEP)
        if at - last > GAP_MAX:
            closed = [self.close(step) for step in range(self.opened, last + 1)]
            self.opened, self.amounts, self.covered = at, {}, {}
            return closed
        growth = grown(before[1], count)
        for step in range(last, at + 1) if growth is not None else ():
            seconds = min(time, (step + 1) * STEP) - max(before[0], step * STEP)
            if seconds > 0:
                part = Fraction(seconds) / Fraction(time - before[0])
                self.amounts[step] = self.amounts.get(step, 0) + growth * part
                self.covered[step] = self.covered.get(step, 0) + seconds
        closed = [self.close(step) for step in range(self.opened, at)]
        self.opened = at
        return closed

    def close(self, step):
        seconds = self.covered.get(step, 0)
        rate = float(self.amounts[step]) / seconds if seconds >= STEP / 2 else None
        return (step + 1) * STEP, rate


def grown(before, after):
    """How much a counter grew; None where it was reset."""
    if after >= before:
        return after - before
    size = 2**32 if before < 2**32 else 2**64
    wrapped = after + size - before
    return wrapped if before >= 0.75 * size and wrapped < 0.25 * size else None


def called_for(lane, quota):
    """All that one partition's records call for: {flow: [(made_at, rate), …]}."""
    walks, told = {}, {}
    for record in lane:
        for flow, time, count in readings_of(record):
            if flow not in walks:
                if len(walks) == quota:  # one gives way; quotas here are below 128
                    del walks[min(walks, key=lambda f: (walks[f].known[0], f))]
                walks[flow] = Walk()
            told.setdefault(flow, []).extend(walks[flow].hear(time, count))
    return told


def readings_of(record):
    try:
        told = json.loads(record.value)
    except (ValueError, TypeError):
        return
    told = told if isinstance(told, list) else [told]
    if any(each.get("unit") == POISON for each in told):
        return  # the whole record is rejected
    for each in told:
        if each:
            yield each["flow"], each["time"], each["value"]
