"""
The history of the sampled flows: their rates, and snapshots of their rows.

A row of a snapshot, stepped forward through the rates that followed, reproduces all that the
engine computed. So the history keeps four bytes a step and a few rows of each flow, and a
training chunk of any period can be built from that, bit-identical.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Rows
from streamer.core.types import Forecasts, Partition
from streamer.training.sample import Sample

Lanes = NDArray[np.intp]
Steps = NDArray[np.int64]
SampleSlots = Callable[[Partition, Sequence[str]], tuple[NDArray[np.bool_], Rows]]

NEVER = -(2**62)
AHEAD = 0.9  # quantile of the flows: those further ahead have wrong clocks


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Copies of the rows of some lanes."""

    lanes: Lanes  # (B,)
    tenures: Steps  # (B,) of the lanes: which flow occupied them
    rows: Rows  # (B,)

    @property
    def steps(self) -> Steps:
        """(B,) the open step of each row."""
        opened: Steps = self.rows["open"]
        return opened


class History:
    """The rates of the last *steps* steps of up to *flows_max* flows, one lane per flow."""

    def __init__(self, flows_max: int, steps: int, step_s: int) -> None:
        self.step_s = step_s
        self.sample = Sample(flows_max)
        self.flows: list[str] = [""] * flows_max
        self._partitions: list[Partition | None] = [None] * flows_max
        self._lanes: dict[str, int] = {}
        self._free = list(range(flows_max))[::-1]
        self._rates = np.full((flows_max, steps), np.nan, np.float32)
        self._last = np.full(flows_max, NEVER, np.int64)  # the latest step of each lane
        self._tenures = np.zeros(flows_max, np.int64)

    def add(self, made: Forecasts) -> tuple[Lanes, NDArray[np.intp]]:
        """Add closed steps; return the lanes of the sampled flows, and their indices in *made*."""
        for flow in made.flow:
            # call it for all flows first: one that was admitted may be evicted by a later one
            self.admits(flow)
        places = [i for i, flow in enumerate(made.flow) if flow in self._lanes]
        lanes = np.fromiter((self._lanes[made.flow[i]] for i in places), np.intp, len(places))
        index = np.array(places, np.intp)
        for place, lane in zip(places, lanes.tolist(), strict=True):
            self._partitions[lane] = made.partition[place]
        steps = made.made_at[index] // self.step_s - 1
        ring = self._rates.shape[1]
        missed = steps - self._last[lanes] - 1  # steps between the last one and this
        for place in np.flatnonzero(missed > 0).tolist():
            skipped = np.arange(
                max(steps[place] - missed[place], steps[place] - ring), steps[place]
            )
            self._rates[lanes[place], skipped % ring] = np.nan
        self._rates[lanes, steps % ring] = np.clip(made.rate[index], 0, 1e30)
        self._last[lanes] = steps
        return lanes, index

    def now(self) -> int:
        """Return the step that half of the flows have reached; inactive ones do not count."""
        known = self._last[self._last > NEVER]
        if not known.size:
            return NEVER
        late = np.quantile(known, AHEAD, method="lower") - self._rates.shape[1]
        return int(np.quantile(known[known > late], 0.5, method="lower"))

    def snapshot(self, rows_of: SampleSlots) -> Snapshot:
        """Copy the rows of all sampled flows; *rows_of* returns which exist, and their rows."""
        by_partition: dict[Partition, list[int]] = {}
        for lane in self._lanes.values():
            partition = self._partitions[lane]
            if partition is not None:
                by_partition.setdefault(partition, []).append(lane)
        lanes, rows = [], []
        for partition, each in by_partition.items():
            present, found = rows_of(partition, [self.flows[lane] for lane in each])
            lanes.append(np.array(each, np.intp)[present])
            rows.append(found)
        if not lanes:
            return Snapshot(np.empty(0, np.intp), np.empty(0, np.int64), np.empty(0, np.void))
        every = np.concatenate(lanes)
        order = np.argsort(every)
        every = every[order]
        return Snapshot(every, self._tenures[every], np.concatenate(rows)[order])

    def rates(self, lanes: Lanes, tenures: Steps, steps: Steps) -> NDArray[np.float32]:
        """Return rates of *lanes* (N,) at *steps* (…, N); NaN if missing, dropped or unknown."""
        ring = self._rates.shape[1]
        last = self._last[lanes]
        known = (steps <= last) & (steps > last - ring) & (self._tenures[lanes] == tenures)
        found = np.where(known, self._rates[lanes, steps % ring], np.float32(np.nan))
        return found.astype(np.float32, copy=False)

    def complete(self, before: Snapshot, after: Snapshot) -> tuple[Lanes, Lanes]:
        """
        Return the indices, in both snapshots, of flows with every step in between known.

        A flow that was away for too long, was evicted, or changed its kind of counter was reset in
        between: its row has not seen as many steps.
        """
        _, first, then = np.intersect1d(before.lanes, after.lanes, return_indices=True)
        aged = after.rows["age"][then].astype(np.int64) - before.rows["age"][first]
        elapsed = after.steps[then] - before.steps[first]
        seen = after.rows["seen"][then].astype(np.int64) - before.rows["seen"][first]
        same = before.tenures[first] == after.tenures[then]
        kept = same & (aged == elapsed) & (elapsed > 0) & (seen >= 0)
        return first[kept], then[kept]

    def admits(self, flow: str) -> bool:
        """Return whether *flow* is in the sample from now on; another may be evicted."""
        if flow in self._lanes:
            return True
        admitted, evicted = self.sample.admit(flow)
        if evicted is not None:
            lane = self._lanes.pop(evicted)
            self._free.append(lane)
        if admitted:
            lane = self._free.pop()
            self._lanes[flow] = lane
            self.flows[lane] = flow
            self._tenures[lane] += 1
            self._last[lane] = NEVER
            self._rates[lane] = np.nan
        return admitted
