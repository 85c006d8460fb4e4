"""
Detects when a reader has caught up with the end of the log at its start.

A trainer that starts reads weeks of counters within minutes, and partitions advance at
different speeds: a contest during that time would be judged on a part of the flows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streamer.core.types import Partition, Record

SILENT_ROUNDS = 20  # after so many rounds without records, a partition has no more readable ones


class Backlog:
    """The unread part of partitions with these *ends*: offsets after their last records."""

    def __init__(self, ends: Mapping[Partition, int]) -> None:
        self._ends = {partition: end for partition, end in ends.items() if end > 0}
        # rounds since the last record of each partition
        self._silent = dict.fromkeys(self._ends, 0)

    @property
    def left(self) -> int:
        """Return how many partitions still have unread old records."""
        return len(self._ends)

    def note(self, records: Iterable[Record]) -> None:
        """Process the records of a round: none, or records in order within each partition."""
        newest = {record.partition: record.offset for record in records}
        for partition, end in list(self._ends.items()):
            self._silent[partition] = 0 if partition in newest else self._silent[partition] + 1
            # The last offsets may hold transaction markers instead of records.
            reached = newest.get(partition, -1) + 1 >= end
            if reached or self._silent[partition] >= SILENT_ROUNDS:
                del self._ends[partition], self._silent[partition]
