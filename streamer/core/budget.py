"""
The budget of a turn: its work is computed before any of it is done.

A turn is bounded by its work, not by its records: a single record may close a million
steps. The work of readings is known in advance. A reading closes at most the steps
between its time and that of the previous reading, up to `gap_max`. Readings are
processed in waves, the n-th reading of each flow in the n-th wave, and a wave takes
one pass of the network for each step that its slowest row closes. So the number of
passes and of rows is a running sum over the readings in their order, and a prefix that
stays below both limits is found by binary search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

PASSES_MAX = 200  # passes of the network: one takes about 4 ms, however few rows it has
ROWS_MAX = 120_000  # closed steps and readings: about 8 µs each


@dataclass(frozen=True, slots=True)
class Budget:
    """The most work that one turn does; a single reading is always taken."""

    passes_max: int = PASSES_MAX
    rows_max: int = ROWS_MAX

    def fitting(self, flows: Ints, closing: Ints) -> int:
        """
        The length of the longest prefix of n readings that fits into the budget; at least one.

        *flows* (n,) identifies the flows, *closing* (n,) is how many steps each reading may close.
        """
        count = len(flows)
        if not count:
            return 0
        rows = np.cumsum(closing + 1)
        nth = occurrence(flows)
        if rows[-1] <= self.rows_max and _passes(nth, closing) <= self.passes_max:
            return count  # the usual case
        passes = np.cumsum(_more_passes(nth, closing))
        fits = min(
            int(np.searchsorted(rows, self.rows_max, side="right")),
            int(np.searchsorted(passes, self.passes_max, side="right")),
        )
        return max(1, fits)


def occurrence(flows: Ints) -> Ints:
    """For each of n readings, the number of earlier readings of its flow, (n,)."""
    order = np.argsort(flows, kind="stable")
    laid = flows[order]
    begins = np.flatnonzero(np.concatenate(([True], laid[1:] != laid[:-1])))[: len(laid)]
    lengths = np.diff(np.append(begins, len(laid)))
    nth = np.empty(len(flows), np.int64)
    nth[order] = np.arange(len(flows)) - np.repeat(begins, lengths)
    return nth


def _passes(nth: Ints, closing: Ints) -> int:
    """The passes of all waves: one more than the steps that the wave's slowest reading closes."""
    slowest = np.zeros(int(nth.max()) + 1, np.int64)
    np.maximum.at(slowest, nth, closing + 1)
    return int(slowest.sum())


def _more_passes(nth: Ints, closing: Ints) -> Ints:
    """The number of passes that each reading adds to those before it, (n,)."""
    order = np.argsort(nth, kind="stable")
    cost, wave = (closing + 1)[order], nth[order]
    stride = int(cost.max()) + 1  # lifts each wave above the previous one: one running maximum
    slowest = np.maximum.accumulate(cost + wave * stride) - wave * stride
    before = np.concatenate(([0], slowest[:-1]))
    before[np.concatenate(([True], wave[1:] != wave[:-1]))] = 0
    more = np.empty_like(cost)
    more[order] = slowest - before
    return more
