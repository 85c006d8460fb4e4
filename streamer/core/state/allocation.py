"""
Allocation of slots to flows, and eviction of flows from full partitions.

A full partition evicts flows before the record that needs a slot is read, whatever other
records came in the same delivery. So the size of a delivery has no effect on the result.
Readings are returned in batches that fit; each batch is taken in before the next one is
cut, so that evictions use the event time as it was at that record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from streamer.core.columns import Slots
from streamer.core.state.table import FlowTable
from streamer.core.types import Partition, Readings, by_partition

EVICT_SHARE = 64  # a full partition evicts 1/64 of its quota at once: each eviction cuts a batch


@dataclass(frozen=True, slots=True)
class Eviction:
    """Flows that were evicted just before a record was read."""

    partition: Partition
    offset: int
    flows: list[str]


@dataclass(frozen=True, slots=True)
class CapacityExceeded:
    """A record that names more flows than its partition may hold."""

    partition: Partition
    offset: int
    flows: int  # the number of flows that got no slot


@dataclass(slots=True)
class SlotAllocator:
    """Allocates slots for a delivery's readings, and records evictions and refusals."""

    evictions: list[Eviction] = field(default_factory=list)
    refused: list[CapacityExceeded] = field(default_factory=list)
    met: dict[Partition, list[str]] = field(default_factory=dict)  # flows that got a slot

    def allocate_batches(
        self, arena: FlowTable, readings: Readings
    ) -> Iterator[tuple[Readings, Slots]]:
        """Readings with their slots, in order within a partition; mostly a single batch."""
        slots = np.zeros(len(readings), np.intp)
        has_room: list[int] = []
        needs_eviction: list[tuple[Partition, list[int]]] = []
        for partition, lane in by_partition(readings.partition).items():
            flows = [readings.flow[i] for i in lane]
            found = arena.find(partition, flows)
            if None in found:
                new = unknown_flows(arena, partition, flows)
                if len(new) > arena.free_slots(partition):
                    needs_eviction.append((partition, lane))
                    continue
                for flow in new:
                    arena.allocate(partition, flow)
                self.met.setdefault(partition, []).extend(new)
                found = arena.find(partition, flows)
            slots[lane] = np.array(found, np.intp)
            has_room += lane
        if not needs_eviction:
            yield readings, slots
            return
        index = np.array(sorted(has_room), np.intp)
        yield readings.take(index), slots[index]
        for partition, lane in needs_eviction:
            for run in self._cut(arena, partition, readings, lane):
                taken = readings.take(np.array(run, np.intp))
                yield taken, np.array(arena.find(partition, taken.flow), np.intp)

    def _cut(
        self, arena: FlowTable, partition: Partition, readings: Readings, lane: Sequence[int]
    ) -> Iterator[list[int]]:
        """The indices of one partition's readings, cut into batches at evictions."""
        run: list[int] = []
        offsets = readings.offset.tolist()
        for offset, group in groupby(lane, key=offsets.__getitem__):
            places = list(group)
            flows = [readings.flow[i] for i in places]
            new = unknown_flows(arena, partition, flows)
            if len(new) > arena.free_slots(partition):
                yield run
                run = []
                self._evict(arena, partition, len(new), offset)
                new = unknown_flows(arena, partition, flows)
                late = set(new[max(0, arena.free_slots(partition)) :])
                if late:
                    self.refused.append(CapacityExceeded(partition, offset, len(late)))
                    places = [i for i in places if readings.flow[i] not in late]
                    new = [flow for flow in new if flow not in late]
            for flow in new:
                arena.allocate(partition, flow)
            self.met.setdefault(partition, []).extend(new)
            run += places
        yield run

    def _evict(self, arena: FlowTable, partition: Partition, wanted: int, offset: int) -> None:
        number = max(arena.quota(partition) // EVICT_SHARE, wanted - arena.free_slots(partition))
        evicted = arena.evict(partition, number)
        self.evictions.append(Eviction(partition, offset, evicted))


def unknown_flows(arena: FlowTable, partition: Partition, flows: Sequence[str]) -> list[str]:
    """Those of *flows* that have no row yet, each once, in their order."""
    found = arena.find(partition, flows)
    if None not in found:
        return []
    return list(dict.fromkeys(f for f, s in zip(flows, found, strict=True) if s is None))
