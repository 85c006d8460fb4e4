"""The base of consumers without a group: they read assigned partitions and commit nothing."""

from __future__ import annotations

from typing import ClassVar

from kafka import KafkaConsumer, TopicPartition

from streamer.log.kafka.settings import Config, KafkaSettings, common, connect, reading
from streamer.log.kafka.topics import Topics
from streamer.log.kafka.untyped import Untyped


class StandaloneConsumer:
    """Connects on first use. Serves one request at a time."""

    OPTIONS: ClassVar[Config] = {}  # consumer settings, in addition to those of `reading`

    def __init__(
        self, bootstrap: str, settings: KafkaSettings, client_id: str, topics: Topics
    ) -> None:
        self._bootstrap = bootstrap
        self._settings = settings
        self._client_id = client_id
        self._topics = topics
        self._opened: Untyped = None

    def close(self) -> None:
        """Close the connection. May be repeated; the next request connects again."""
        if self._opened is not None:
            self._opened.close(autocommit=False, timeout_ms=1000)
            self._opened = None

    def _consumer(self) -> Untyped:
        if self._opened is None:
            config = common(self._bootstrap, self._settings, self._client_id)
            self._opened = connect(KafkaConsumer, config | reading(self._settings) | self.OPTIONS)
        return self._opened


def take_up(consumer: Untyped, place: TopicPartition, position: int) -> None:
    """Make *consumer* read *place* alone, from *position* on, whatever it has read before."""
    if consumer.assignment() != {place}:
        consumer.assign([place])
        consumer.seek(place, position)
    elif consumer.position(place) != position:
        consumer.seek(place, position)
