"""
The contents of a log, read by independent programs.

Kafka is read by librdkafka, `read_committed`; the SQLite log by SQLite
itself. Neither shares a line with the code that wrote.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streamer.core.types import Partition, Record

PATIENCE_S = 10
BATCH = 5000
COORDINATOR_MOVES = {  # to whom a group belongs, and that it is not known yet
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}


class Witness(Protocol):
    """See the module."""

    def lag(self, topic: str) -> int:
        """Records of *topic* that the group has not taken as read."""

    def read(self, topic: str) -> Iterator[Record]:
        """Every committed record that is kept; those of a partition in their order."""

    def offsets(self, topic: str) -> dict[int, int]:
        """The next offset that the group reads of each partition."""

    def close(self) -> None: ...


class KafkaWitness:
    """librdkafka's view."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "log_level": 0,  # it would log each time that the broker is away
            }
        )

    def lag(self, topic: str) -> int:
        offsets = self.offsets(topic)
        return sum(
            self.consumer.get_watermark_offsets(place, timeout=PATIENCE_S)[1]
            - offsets[place.partition]
            for place in self._places(topic)
        )

    def offsets(self, topic: str) -> dict[int, int]:
        committed = self._committed(self._places(topic))
        return {place.partition: max(0, place.offset) for place in committed}

    def read(self, topic: str) -> Iterator[Record]:
        places = self._places(topic)
        self.consumer.assign([TopicPartition(topic, p.partition, 0) for p in places])
        ended: set[int] = set()
        while len(ended) < len(places):
            for message in self.consumer.consume(BATCH, timeout=1):
                if error := message.error():
                    if error.code() == KafkaError._PARTITION_EOF:
                        ended.add(message.partition())
                    else:
                        assert error.retriable(), error
                else:
                    yield Record(
                        Partition(topic, message.partition()),
                        message.offset(),
                        message.key(),
                        message.value(),
                        message.timestamp()[1],
                    )
        self.consumer.unassign()

    def close(self) -> None:
        self.consumer.close()

    def _committed(self, places: list[TopicPartition]) -> list[TopicPartition]:
        """Asked again while the group's coordinator is only just being found."""
        ends = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.consumer.committed(places, timeout=PATIENCE_S)
            except KafkaException as error:
                if error.args[0].code() not in COORDINATOR_MOVES or time.monotonic() > ends:
                    raise
                time.sleep(0.2)

    def _places(self, topic: str) -> list[TopicPartition]:
        read_header = self.consumer.list_topics(topic, timeout=PATIENCE_S).topics[topic]
        return [TopicPartition(topic, number) for number in read_header.partitions]


class FileWitness:
    """SQLite's view of a SQLite log."""

    def __init__(self, path: Path, group: str) -> None:
        self.path = path
        self.group = group

    def lag(self, topic: str) -> int:
        return sum(end - offset for _, end, offset in self._lanes(topic))

    def offsets(self, topic: str) -> dict[int, int]:
        return {number: offset for number, _, offset in self._lanes(topic)}

    def read(self, topic: str) -> Iterator[Record]:
        rows = self._ask(
            "SELECT l.number, r.place & ((1 << 40) - 1), r.key, r.value,"
            " ifnull(r.time_ms, r.published_ms)"
            " FROM lanes l JOIN topics t ON l.topic = t.id JOIN records r ON r.place >> 40 = l.id"
            " WHERE t.name = ? ORDER BY r.place",
            (topic,),
        )
        for number, offset, key, value, time_ms in rows:
            yield Record(Partition(topic, number), offset, key, value, time_ms)

    def close(self) -> None: ...

    def _lanes(self, topic: str) -> list[tuple[int, int, int]]:
        return self._ask(
            "SELECT l.number, l.next, ifnull(o.next, 0) FROM lanes l"
            " JOIN topics t ON l.topic = t.id LEFT JOIN offsets o"
            " ON o.lane = l.id AND o.team = (SELECT id FROM groups WHERE name = ?)"
            " WHERE t.name = ?",
            (self.group, topic),
        )

    def _ask(self, sql: str, values: tuple[str, ...]) -> list[tuple]:
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=30)) as file:
            return file.execute(sql, values).fetchall()
