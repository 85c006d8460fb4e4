"""
Records of several partitions in the order of their times, while each partition keeps its own.

A partition that is read slowly holds the others back: what it still has to give may be older than
what they gave. Only records up to the newest time that every such partition has reached are ready.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Iterator

from streamer.core.types import Partition, Record

Keyed = tuple[int, Record]  # with the newest time in ms of its partition so far


class Merge:
    """
    Records that were read and not yet taken.

    The times are the records' timestamps; one that is older than an earlier record of its partition
    counts as that one. Of equal times, partitions come in the order of their names.
    """

    def __init__(self) -> None:
        self._queues: dict[Partition, deque[Keyed]] = {}
        self._newest: dict[Partition, int] = {}
        self.held = 0  # number of records

    def add(self, records: Iterable[Record]) -> None:
        """Add *records*, in order within each partition."""
        for record in records:
            newest = max(record.time_ms, self._newest.get(record.partition, -1))
            self._newest[record.partition] = newest
            self._queues.setdefault(record.partition, deque()).append((newest, record))
            self.held += 1

    def release(self, partitions: Iterable[Partition]) -> None:
        """Forget what was read of *partitions*."""
        for partition in partitions:
            self.held -= len(self._queues.pop(partition, ()))
            self._newest.pop(partition, None)

    @property
    def newest_ms(self) -> int:
        """The newest time of all partitions; -1 if there is none."""
        return max(self._newest.values(), default=-1)

    def take(
        self, most: int, behind: Collection[Partition] = (), until_ms: int | None = None
    ) -> list[Record]:
        """
        Remove and return at most *most* records that are ready.

        Of the partitions *behind* there is more to read. Records after *until_ms* are not ready.
        """
        limits = [self._newest.get(partition, -1) for partition in behind]
        ready_ms = min(limits if until_ms is None else [*limits, until_ms], default=None)
        taken: list[Record] = []
        for partition, time_ms in self._order():
            if len(taken) >= most or (ready_ms is not None and time_ms > ready_ms):
                break
            taken.append(self._queues[partition].popleft()[1])
        self.held -= len(taken)
        return taken

    def _order(self) -> Iterator[tuple[Partition, int]]:
        """The partitions of the records in order; each is to be taken before the next is asked."""
        heads = [(queue[0][0], p) for p, queue in sorted(self._queues.items()) if queue]
        heapq.heapify(heads)
        while heads:
            time_ms, partition = heads[0]
            yield partition, time_ms
            queue = self._queues[partition]
            if queue:
                heapq.heapreplace(heads, (queue[0][0], partition))
            else:
                heapq.heappop(heads)


def next_offsets(records: Iterable[Record]) -> dict[Partition, int]:
    """The offsets after the last of *records* in each partition."""
    return {record.partition: record.offset + 1 for record in records}
