"""
What a flow's readings call for, said a second time.

It walks one flow's readings in order: no waves, no arena, no partitions, no epochs,
no numpy. Two worlds may share a bug; this does not share the code.
"""

from __future__ import annotations

import json
from fractions import Fraction
from math import floor

STEP, GAP_MAX = 60, 5


def readings_of(log, flow):
    """The readings of *flow* that count, each once: (time, count)."""
    known = -1.0
    for lane in log.input.values():
        for record in lane:
            if record.key != flow.encode() or not record.value or record.value[:1] not in b"{[":
                continue
            told = json.loads(record.value)
            for reading in told if isinstance(told, list) else [told]:
                if reading and reading["time"] > known:
                    known = reading["time"]
                    yield reading["time"], reading["value"]


def grown(before, after):
    """How much a counter grew; None where it was reset."""
    if after >= before:
        return after - before
    size = 2**32 if before < 2**32 else 2**64
    wrapped = after + size - before
    return wrapped if before >= 0.75 * size and wrapped < 0.25 * size else None


def closed_steps(log, flow):
    """Each closed step of *flow* as (made_at, rate), rate None where it is missing."""
    amounts, covered, known, opened, closed = {}, {}, None, None, []
    for time, count in readings_of(log, flow):
        at = floor(time / STEP)
        if known is None or at - floor(known[0] / STEP) > GAP_MAX:
            if known is not None:
                closed += [
                    (step, amounts.get(step), covered.get(step, 0))
                    for step in range(opened, floor(known[0] / STEP) + 1)
                ]
            opened, amounts, covered = at, {}, {}
        else:
            growth = grown(known[1], count)
            for step in range(floor(known[0] / STEP), at + 1):
                begin, end = max(known[0], step * STEP), min(time, (step + 1) * STEP)
                if growth is not None and end > begin:
                    part = Fraction(end - begin) / Fraction(time - known[0])
                    amounts[step] = amounts.get(step, 0) + growth * part
                    covered[step] = covered.get(step, 0) + end - begin
            closed += [(s, amounts.get(s), covered.get(s, 0)) for s in range(opened, at)]
            opened = max(opened, at)
        known = time, count
    return [
        ((step + 1) * STEP, float(amount) / seconds if seconds >= STEP / 2 else None)
        for step, amount, seconds in closed
    ]
