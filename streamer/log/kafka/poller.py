"""
Polls a topic of one partition for new records, without blocking.

A fetch stays in flight between two calls, and the next call returns its records, so a call
costs one look at a socket. The poller has a connection of its own, outside the group, and sees
committed records only.
"""

from __future__ import annotations

from collections.abc import Sequence

from kafka import TopicPartition, errors

from streamer.core.types import Partition, Record
from streamer.log.kafka.consumer import ANSWER_MAX_MS, to_records
from streamer.log.kafka.errors import translated
from streamer.log.kafka.standalone import StandaloneConsumer, take_up

RECORDS_MAX = 1_000  # limit of one call


class TopicPoller(StandaloneConsumer):
    """Polls one topic at a time."""

    def since(self, topic: str, start: int | None) -> tuple[Sequence[Record], int]:
        """As `Log.poll_topic`."""
        partition = Partition(topic, 0)
        if start is None:
            self._topics.check(partition)
            return (), self._topics.end(partition)
        place = TopicPartition(*partition)
        consumer = self._consumer()
        with translated("news", [topic]):
            take_up(consumer, place, start)
            try:
                batch = consumer.poll(timeout_ms=0, max_records=RECORDS_MAX)
            # the topic was recreated, or the records were deleted
            except errors.OffsetOutOfRangeError:
                oldest = consumer.beginning_offsets([place], timeout_ms=ANSWER_MAX_MS)[place]
                return (), int(oldest)
            return to_records(partition, batch.get(place, ())), int(consumer.position(place))
