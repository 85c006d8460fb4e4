"""
Whether a reader has caught up with what was on the log when it began.

A trainer that begins reads weeks of counters within minutes, and not all partitions get on
equally fast: a contest held meanwhile would be judged by a part of the flows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streamer.core.types import Partition, Record

SILENT_ROUNDS = 20  # a partition that brings nothing for so many has nothing more that can be read


class Backlog:
    """What is still to be read of partitions with these *ends*: offsets past their last records."""

    def __init__(self, ends: Mapping[Partition, int]) -> None:
        self._ends = {partition: end for partition, end in ends.items() if end > 0}
        self._silent = dict.fromkeys(self._ends, 0)  # rounds since it brought a record

    @property
    def left(self) -> int:
        """How many partitions still have old records that were not read."""
        return len(self._ends)

    def note(self, records: Iterable[Record]) -> None:
        """Take in what a round brought: nothing, or records in the order of their partitions."""
        newest = {record.partition: record.offset for record in records}
        for partition, end in list(self._ends.items()):
            self._silent[partition] = 0 if partition in newest else self._silent[partition] + 1
            # The last offsets may hold no records, but the markers of transactions.
            reached = newest.get(partition, -1) + 1 >= end
            if reached or self._silent[partition] >= SILENT_ROUNDS:
                del self._ends[partition], self._silent[partition]
