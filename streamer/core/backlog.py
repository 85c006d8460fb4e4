"""
The backlog: decoded records that wait, and the portion of them that one turn takes.

A poll may return more work than one turn may do. Records are taken in order and
whole, so a turn's offsets are those of the records that it has finished.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.core.budget import Budget, occurrence
from streamer.core.state.table import FlowTable
from streamer.core.types import Partition, Readings, Reason, Record, Reject, by_partition
from streamer.core.wire import Decoded

Ints = NDArray[np.int64]

RECORD_PASSES_MAX = 2_000  # passes that one record may cause: about eight seconds


@dataclass(slots=True)
class Portion:
    """Records that one turn takes, decoded. `record` has the index of each reading's record."""

    records: list[Record]
    readings: Readings
    rejects: list[Reject]
    record: NDArray[np.intp]
    counts: Counter[str] = field(default_factory=Counter)

    def cut(self, number: int) -> tuple[Portion, Portion]:
        """The first *number* records, with all counts, and the rest."""
        at = int(np.searchsorted(self.record, number))
        first, rest = np.arange(at), np.arange(at, len(self.record))
        head = {(r.partition, r.offset) for r in self.records[:number]}
        mine = [(r.record.partition, r.record.offset) in head for r in self.rejects]
        return (
            Portion(
                self.records[:number],
                self.readings.take(first),
                [r for r, own in zip(self.rejects, mine, strict=True) if own],
                self.record[:at],
                self.counts,
            ),
            Portion(
                self.records[number:],
                self.readings.take(rest),
                [r for r, own in zip(self.rejects, mine, strict=True) if not own],
                self.record[at:] - number,
            ),
        )

    def without(self, partitions: Collection[Partition]) -> Portion:
        """The records of all partitions but these."""
        kept = np.array([r.partition not in partitions for r in self.records], bool)
        index = np.flatnonzero(kept[self.record]) if len(self.record) else np.empty(0, np.intp)
        renumbered = np.cumsum(kept) - 1
        return Portion(
            [r for r in self.records if r.partition not in partitions],
            self.readings.take(index),
            [r for r in self.rejects if r.record.partition not in partitions],
            renumbered[self.record[index]],
            self.counts,
        )


def trimmed(decoded: Decoded, records: Sequence[Record], step_s: int, gap_max: int) -> Portion:
    """
    *decoded* without the readings of records that would close too many steps.

    The work of a record is computed from the record alone: the number of steps between the readings
    of each of its flows. So a replay drops the same readings.
    """
    portion = Portion(
        list(records), decoded.readings, list(decoded.rejects), decoded.record, decoded.counts
    )
    for number in _suspicious(decoded, step_s, gap_max).tolist():
        begin, end = np.searchsorted(portion.record, (number, number + 1)).tolist()
        inside = portion.readings.take(np.arange(begin, end))
        fit = Budget(RECORD_PASSES_MAX, 2**62).fitting(*_own_work(inside, step_s, gap_max))
        beyond = end - begin - fit
        if beyond:
            detail = f"its last {beyond} readings: it would close more steps than a record may"
            portion.rejects.append(Reject(records[number], Reason.TOO_DENSE, None, detail))
            portion.counts[f"rejected.{Reason.TOO_DENSE}"] += 1
            dropped = np.arange(begin + fit, end)
            kept = np.setdiff1d(np.arange(len(portion.record)), dropped)
            portion.readings, portion.record = portion.readings.take(kept), portion.record[kept]
    return portion


def closing_steps(flows: Ints, time: NDArray[np.float64], before: NDArray[np.float64]) -> Ints:
    """
    The number of step ends between each reading and the previous one of its flow, (n,).

    *time* and *before* are in steps; *before* is used for the first reading of each flow.
    """
    order = np.argsort(flows, kind="stable")
    at = np.floor(time[order])
    first = np.concatenate(([True], flows[order][1:] != flows[order][:-1]))
    previous = np.where(first, np.floor(before[order]), np.concatenate((at[:1], at[:-1])))
    closing = np.empty(len(flows), np.int64)
    closing[order] = np.clip(np.nan_to_num(at - previous, posinf=2**40), 0, 2**40)
    return closing


def _suspicious(decoded: Decoded, step_s: int, gap_max: int) -> NDArray[np.intp]:
    """The few records whose readings may close too many steps, by a cheap upper bound."""
    if not len(decoded.record):
        return np.empty(0, np.intp)
    begins = np.flatnonzero(np.diff(decoded.record, prepend=-1))
    number = np.diff(np.append(begins, len(decoded.record)))
    time = decoded.readings.time
    span = np.maximum.reduceat(time, begins) - np.minimum.reduceat(time, begins)
    most = number * (np.minimum(span / step_s, gap_max) + 2)
    found: NDArray[np.intp] = decoded.record[begins[(most > RECORD_PASSES_MAX) & (number > 1)]]
    return found


def _own_work(readings: Readings, step_s: int, gap_max: int) -> tuple[Ints, Ints]:
    """
    The flows of one record's readings, as numbers, and how many steps each reading closes.

    Which keys have flows of their own does not follow from the record: all may count for `other`.
    """
    numbers: dict[str, int] = {}
    names = readings.flow
    if readings.other is not None:
        names = [other or own for own, other in zip(names, readings.other, strict=True)]
    flows = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
    time = readings.time / step_s
    return flows, np.minimum(closing_steps(flows, time, time), gap_max + 1)


__all__ = ["Portion", "closing_steps", "occurrence", "trimmed"]


def affordable(
    portion: Portion, table: FlowTable, budget: Budget, step_s: int, closing_max: int
) -> int:
    """
    How many of *portion*'s records fit into the *budget* of one step; one at least.

    A reading closes at most *closing_max* steps.
    """
    readings = portion.readings
    count = len(readings)
    flows, before = np.empty(count, np.int64), readings.time.copy()
    unknown: dict[tuple[Partition, str], int] = {}
    for partition, positions in by_partition(readings.partition).items():
        names = [readings.flow[i] for i in positions]
        found = table.find(partition, names)
        slots = np.array([-1 if slot is None else slot for slot in found], np.int64)
        index, known = np.array(positions, np.intp), slots >= 0
        before[index[known]] = table.rows["time"][slots[known]]
        for i in np.flatnonzero(~known).tolist():
            key = partition, names[i]
            slots[i] = unknown.setdefault(key, -1 - len(unknown))
        flows[index] = slots
    closing = closing_steps(flows, readings.time / step_s, before / step_s)
    fits = budget.fitting(flows, np.minimum(closing, closing_max))
    return max(1, int(portion.record[fits])) if fits < count else len(portion.records)
