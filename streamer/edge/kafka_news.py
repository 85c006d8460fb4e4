"""
What is new in a topic of one partition, asked now and then and never waited for.

A fetch is under way between two questions, and its answer is taken in with the
next: so a question costs one look at a socket. It is a connection of its own,
outside the group, and sees committed records only.
"""

from __future__ import annotations

from collections.abc import Sequence

from kafka import KafkaConsumer, TopicPartition, errors

from streamer.core.facts import Partition, Record
from streamer.edge.kafka_errors import translated
from streamer.edge.kafka_reader import ANSWER_MAX_MS, converted
from streamer.edge.kafka_settings import KafkaSettings, common, opened, reading
from streamer.edge.kafka_topics import Topics
from streamer.edge.kafka_untyped import Untyped

RECORDS_MAX = 1_000  # of one answer


class News:
    """Connects when it is first asked; of one topic at a time."""

    def __init__(
        self, bootstrap: str, settings: KafkaSettings, client_id: str, topics: Topics
    ) -> None:
        self._bootstrap = bootstrap
        self._settings = settings
        self._client_id = client_id
        self._topics = topics
        self._opened: Untyped = None

    def since(self, topic: str, start: int | None) -> tuple[Sequence[Record], int]:
        """As `Log.news`."""
        partition = Partition(topic, 0)
        if start is None:
            self._topics.check(partition)
            return (), self._topics.end(partition)
        place = TopicPartition(*partition)
        consumer = self._consumer()
        with translated("news", [topic]):
            if consumer.assignment() != {place}:
                consumer.assign([place])
                consumer.seek(place, start)
            elif consumer.position(place) != start:
                consumer.seek(place, start)
            try:
                batch = consumer.poll(timeout_ms=0, max_records=RECORDS_MAX)
            except errors.OffsetOutOfRangeError:  # made anew, or what lay there is gone
                oldest = consumer.beginning_offsets([place], timeout_ms=ANSWER_MAX_MS)[place]
                return (), int(oldest)
            return converted(partition, batch.get(place, ())), int(consumer.position(place))

    def close(self) -> None:
        """May be repeated; the next question connects again."""
        if self._opened is not None:
            self._opened.close(autocommit=False, timeout_ms=1000)
            self._opened = None

    def _consumer(self) -> Untyped:
        if self._opened is None:
            config = common(self._bootstrap, self._settings, self._client_id)
            self._opened = opened(KafkaConsumer, config | reading(self._settings))
        return self._opened
