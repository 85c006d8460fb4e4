"""
Detection of flows whose readings arrive through more than one partition.

A flow's row is stored with the partition of its readings. If a producer sets no key, the readings
of a flow arrive in several partitions, and each partition has only some of them and forecasts
separately. This is detected for new flows that another partition here also has, once the rows of
both have received readings. If partitions were added, keys move once, and the old row receives no
more readings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from streamer.core.state.table import FlowTable
from streamer.core.types import Partition

SUSPECTS_MAX = 256  # flows that are watched at once

Place = tuple[Partition, float]  # the partition of a row, and its time when it was noted


class Spread:
    """Watches a bounded sample of flows that two partitions of a flow table have."""

    def __init__(self, arena: FlowTable) -> None:
        self._arena = arena
        self._suspects: dict[str, tuple[Place, Place]] = {}

    def note(self, met: Mapping[Partition, Collection[str]]) -> None:
        """Watch the flows that just got a slot and that another partition also has."""
        for partition, flows in met.items():
            for other in self._arena.partitions:
                room = SUSPECTS_MAX - len(self._suspects)
                if other == partition or room <= 0:
                    continue
                for flow in self._arena.shared(other, flows, room):
                    both = self._place(partition, flow), self._place(other, flow)
                    if both[0] is not None and both[1] is not None:
                        self._suspects[flow] = both[0], both[1]

    def confirmed(self) -> list[str]:
        """Flows that both partitions have read since they were noted, each once."""
        found = []
        for flow, places in list(self._suspects.items()):
            now = [self._place(partition, flow) for partition, _ in places]
            if None in now:
                del self._suspects[flow]
            elif all(new is not None and new[1] > old[1] for new, old in zip(now, places)):  # noqa: B905 - both are pairs
                del self._suspects[flow]
                found.append(flow)
        return found

    def _place(self, partition: Partition, flow: str) -> Place | None:
        if partition not in self._arena.partitions:
            return None
        (slot,) = self._arena.find(partition, (flow,))
        return None if slot is None else (partition, float(self._arena.rows["time"][slot]))
