"""Kafka without a group: create topics, send records, follow topics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

from streamer.core.types import Message, Partition, Record
from streamer.log import TopicConfig
from streamer.log.kafka.consumer import Reader
from streamer.log.kafka.errors import translated
from streamer.log.kafka.settings import KafkaSettings, common, connect, writing
from streamer.log.kafka.topics import Topics
from streamer.log.kafka.transactions import NullAwareSerializer, Producer, send
from streamer.log.kafka.untyped import Untyped

CLIENT_ID = "streamer"
UNSENT_BYTES_MAX = 32 << 20  # the client itself would buffer without limit
UNSENT_MAX = 100_000


class KafkaClient:
    """See `streamer.log.Client`. Connects on first use."""

    def __init__(self, bootstrap: str, settings: KafkaSettings) -> None:
        self._bootstrap = bootstrap
        self._settings = settings
        self._topics = Topics(bootstrap, settings, CLIENT_ID)
        self._reader = self._new_reader()
        self._opened: Producer | None = None
        self._unsent: list[Untyped] = []
        self._unsent_bytes = 0

    def topics(self) -> Mapping[str, TopicConfig]:
        """As `Client.topics`."""
        return self._topics.shapes()

    def create(self, topic: str, shape: TopicConfig) -> None:
        """As `Client.create`; the topic can be used when it returns."""
        self._topics.create(topic, shape)

    def widen(self, topic: str, partitions: int) -> None:
        """As `Client.widen`."""
        self._topics.widen([topic], partitions)
        self.flush()
        # it has cached the old partition count, and rejects new partitions
        if self._opened is not None:
            self._opened.end()
            self._opened = None

    def send(self, messages: Sequence[Message]) -> None:
        """As `Client.send`; flushes above UNSENT_MAX messages or UNSENT_BYTES_MAX."""
        self._topics.partitions(message.topic for message in messages)
        producer = self._producer()
        with translated("send"):
            for message in messages:
                self._unsent.append(send(producer, message))
                self._unsent_bytes += len(message.value or b"")
        if self._unsent_bytes > UNSENT_BYTES_MAX or len(self._unsent) > UNSENT_MAX:
            self.flush()

    def flush(self) -> None:
        """As `Client.flush`; raises the first error of all messages sent since the last flush."""
        unsent, self._unsent, self._unsent_bytes = self._unsent, [], 0
        if not unsent:
            return
        deadline = time.monotonic() + self._settings.transaction_timeout
        with translated("send"):
            self._producer().wait_for_sends(unsent, deadline)

    def follow(
        self,
        topics: Sequence[str],
        *,
        from_start: bool,
        wait_s: float = 0.5,
        since_ms: int | None = None,
        newest: int | None = None,
    ) -> Iterator[Sequence[Record]]:
        """As `Client.follow`, over a separate connection."""
        reader = self._new_reader()
        try:
            batches = reader.follow(
                topics, from_start=from_start, wait_s=wait_s, since_ms=since_ms, newest=newest
            )
        except BaseException:
            reader.close()
            raise
        return following(reader, batches)

    def ends(self, topics: Sequence[str]) -> Mapping[Partition, int]:
        """As `Client.ends`; the last offsets may hold transaction markers instead of records."""
        counts = self._topics.partitions(topics)
        partitions = [Partition(name, n) for name in topics for n in range(counts[name])]
        return {partition: self._topics.end(partition) for partition in partitions}

    def read_table(self, topic: str, number: int) -> Mapping[bytes, bytes]:
        """As `Client.read_table`."""
        return self._reader.read_table(topic, number)

    def close(self) -> None:
        """As `Client.close`; messages that were not flushed may be lost."""
        if self._opened is not None:
            self._opened.end()
            self._opened = None
        for part in (self._reader, self._topics):
            with contextlib.suppress(Exception):
                part.close()

    def _producer(self) -> Producer:
        if self._opened is None:
            config = common(self._bootstrap, self._settings, CLIENT_ID) | writing(self._settings)
            self._opened = connect(Producer, config | {"value_serializer": NullAwareSerializer()})
        return self._opened

    def _new_reader(self) -> Reader:
        return Reader(self._bootstrap, self._settings, CLIENT_ID, self._topics)


def following(reader: Reader, batches: Iterator[Sequence[Record]]) -> Iterator[Sequence[Record]]:
    """Yield *batches*; close *reader* when the iteration ends."""
    try:
        yield from batches
    finally:
        reader.close()
