"""
Read positions in the partitions that a member holds, and detection of lost records.

Records of a partition are deleted only from its old end, and the offsets of a topic that is not
compacted have no gaps. So if the first record found is beyond the position, the records in
between were deleted before they were read. This is logged and counted, as on Kafka.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import structlog

from streamer.core.types import Partition, Record
from streamer.log.sqlite.topics import Limits, Topics

log = structlog.get_logger()


class Positions(dict[Partition, int]):
    """For each assigned partition: the offset of the next record to read."""

    def __init__(self, topics: Topics, batch: Limits) -> None:
        super().__init__()
        self._topics = topics
        self._batch = batch
        self._reads = 0
        self._missed = 0

    def starts(
        self,
        partitions: Collection[Partition],
        committed: Mapping[int, int],
        start: Literal["earliest", "latest"],
    ) -> dict[Partition, int]:
        """
        Return where reading begins: at the *committed* offset of the lane, or at *start*.

        Never before the oldest record that is kept.
        """
        starts = {}
        for partition, (oldest, end) in self._topics.bounds(partitions).items():
            offset = committed.get(self._topics.lane(partition))
            if offset is None:
                starts[partition] = end if start == "latest" else oldest
            else:
                starts[partition] = max(offset, oldest)
                self._note_lost(partition, offset, oldest)
        return starts

    def read(self, ends: Mapping[Partition, int], records_max: int) -> list[Record]:
        """Return new records, an equal share of each partition if it has that many."""
        news = sorted(p for p, position in self.items() if position < ends[p])
        records: list[Record] = []
        if news:
            self._reads += 1
            # a different one each time, since the last ones get the remainder
            first = self._reads % len(news)
            bytes_max = self._batch.bytes // len(news)
            for read, partition in enumerate(news[first:] + news[:first]):
                share = -((len(records) - records_max) // (len(news) - read))  # rounded up
                if share > 0:
                    limits = Limits(share, bytes_max)
                    records += self.advance(partition, ends[partition], limits)
        return records

    def advance(self, partition: Partition, end: int, limits: Limits) -> list[Record]:
        """Read the next records of a partition before *end*, as far as *limits* allow."""
        position = self[partition]
        records, self[partition] = self._topics.read(partition, position, end, limits)
        first_found = records[0].offset if records else self[partition]
        self._note_lost(partition, position, first_found)
        return records

    def take_missed(self) -> int:
        """Return how many records were lost since the last call."""
        missed, self._missed = self._missed, 0
        return missed

    def _note_lost(self, partition: Partition, start: int, end: int) -> None:
        """Count records with start <= offset < end as lost, unless the topic has gaps."""
        [topic] = self._topics.named([partition.topic])
        if start < end and not topic.shape.compact:
            self._missed += end - start
            log.warning(
                "input.offset_out_of_range",
                topic=partition.topic,
                partition=partition.number,
                start=start,
                end=end,
                records=end - start,
            )
