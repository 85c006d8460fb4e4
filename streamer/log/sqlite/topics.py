"""
Topics in the file: found, made, appended to and read.

Every method that writes is called within a transaction of the file, so what it
counts and what it stores agree. How records go again is in `retention`;
here is decided how many at a time: each append may delete twice as many as it
wrote and `SPARE` more. So the file keeps up at any rate, and no turn waits for a
purge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import structlog

from streamer.core.types import Message, Partition, Record
from streamer.log import Misconfigured, PartitionMissing, TopicConfig, TopicMissing
from streamer.log.partitioner import partition_of
from streamer.log.sqlite.database import OFFSET_BITS, File, offset_of, place_of
from streamer.log.sqlite.retention import Keeping
from streamer.log.sqlite.settings import SqliteSettings
from streamer.log.sqlite.tables import RECORD_BYTES

log = structlog.get_logger()

SPARE = 64  # records that an append may delete beyond twice its own


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the file. All that changes of it once it is made are partitions that come."""

    name: str
    shape: TopicConfig
    lanes: tuple[int, ...]  # of each partition, by its number

    def lane(self, number: int) -> int:
        """The lane of a partition; raises PartitionMissing where there is none of this number."""
        if not 0 <= number < len(self.lanes):
            raise PartitionMissing(Partition(self.name, number), len(self.lanes))
        return self.lanes[number]


class Limits(NamedTuple):
    """How much is read at once: so many records, or up to the one that makes so many bytes."""

    records: int
    bytes: int


class Topics:
    """All topics of a file, as one connection sees them."""

    def __init__(self, file: File, settings: SqliteSettings) -> None:
        self._file = file
        self._keeping = Keeping(file, settings)
        self._known: dict[str, Topic] = {}
        self._partitions: dict[int, Partition] = {}  # by their lane
        self._keyless = 0  # messages without a key go round

    def all(self) -> Mapping[str, Topic]:
        """Every topic there is, by its name."""
        lanes: dict[int, list[int]] = {}
        for topic, lane in self._file.query("SELECT topic, id FROM lanes ORDER BY number"):
            lanes.setdefault(topic, []).append(lane)
        found = self._file.query("SELECT id, name, compact, retention_ms FROM topics ORDER BY name")
        for number, name, compact, retention_ms in found:
            known = self._known.get(name)
            if number in lanes and (known is None or len(known.lanes) < len(lanes[number])):
                if known is not None:
                    log.warning(
                        "topic.partitions_changed",
                        topic=name,
                        before=len(known.lanes),
                        partitions=len(lanes[number]),
                        effect="keys lie in other partitions now: moved flows start without state",
                    )
                kept_s = None if retention_ms is None else retention_ms / 1000
                shape = TopicConfig(len(lanes[number]), bool(compact), kept_s)
                self._known[name] = Topic(name, shape, tuple(lanes[number]))
                for index, lane in enumerate(lanes[number]):
                    self._partitions[lane] = Partition(name, index)
        return self._known

    def named(self, names: Iterable[str]) -> list[Topic]:
        """These topics; raises TopicMissing with all that do not exist."""
        names = list(names)
        if missing := [name for name in names if name not in self._known]:
            self.all()
            if missing := [name for name in missing if name not in self._known]:
                raise TopicMissing(missing)
        return [self._known[name] for name in names]

    def partition(self, lane: int) -> Partition:
        """The partition whose lane it is."""
        return self._partitions[lane]

    def lane(self, partition: Partition) -> int:
        """The lane of a partition; raises TopicMissing or PartitionMissing where there is none."""
        [topic] = self.named([partition.topic])
        if partition.number >= len(topic.lanes):  # it may have been widened since
            topic = self.all()[partition.topic]
        return topic.lane(partition.number)

    def create(self, name: str, shape: TopicConfig) -> None:
        """Make a topic unless there is one of this name."""
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name):  # Kafka's rule, so that one can move
            raise Misconfigured(
                f"a topic cannot be named {name!r}: letters, digits, dot, _ and - can be"
            )
        if shape.partitions < 1:
            raise Misconfigured(
                f"{name}: a topic has one partition or more, not {shape.partitions}"
            )
        kept_ms = None if shape.retention_s is None else round(shape.retention_s * 1000)
        made = self._file.write(
            "INSERT OR IGNORE INTO topics (name, compact, retention_ms) VALUES (?, ?, ?)",
            (name, shape.compact, kept_ms),
        )
        if made:
            self._file.write_all(
                "INSERT INTO lanes (topic, number, next, bytes)"
                " SELECT id, ?, 0, 0 FROM topics WHERE name = ?",
                [(number, name) for number in range(shape.partitions)],
            )

    def widen(self, name: str, partitions: int) -> None:
        """Let a topic have at least so many partitions."""
        self.all()
        [topic] = self.named([name])
        self._file.write_all(
            "INSERT INTO lanes (topic, number, next, bytes)"
            " SELECT id, ?, 0, 0 FROM topics WHERE name = ?",
            [(number, name) for number in range(len(topic.lanes), partitions)],
        )
        self.all()

    def append(self, messages: Sequence[Message], now_ms: int) -> None:
        """Lay *messages* down, in their order, and let as many old ones go as keeps the bounds."""
        queues: dict[int, list[Message]] = {}
        for message in messages:
            known = self._known.get(message.topic)
            topic = known or self.named([message.topic])[0]
            lane = topic.lane(self._choose(message, len(topic.lanes)))
            queues.setdefault(lane, []).append(message)
        for lane, queue in queues.items():
            self._append(lane, queue, now_ms)
        for lane, queue in queues.items():
            self._expire(lane, 2 * len(queue) + SPARE, now_ms)
        self._keeping.compact(2 * len(messages) + SPARE, now_ms)
        self._file.shrink()

    def expire(self, records_max: int, now_ms: int) -> None:
        """Let old records go in topics that nobody writes to, too."""
        for topic in self.all().values():
            for lane in topic.lanes:
                self._expire(lane, records_max, now_ms)
        self._keeping.compact(records_max, now_ms)
        self._file.shrink()

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Of each partition: the offset of the next record to come."""
        found = self._file.query(
            "SELECT id, next FROM lanes WHERE id IN (SELECT value FROM json_each(?))",
            (self._listed(partitions),),
        )
        return {self._partitions[lane]: end for lane, end in found}

    def bounds(
        self, partitions: Iterable[Partition], since_ms: int | None = None
    ) -> dict[Partition, tuple[int, int]]:
        """
        Of each partition: the offset of the oldest record that is kept, and of the next one.

        With *since_ms*, of the oldest record whose timestamp is not before it.
        """
        found = self._file.query(
            "SELECT id, next,"
            " (SELECT min(place) FROM records WHERE place >= id << ? AND place < id + 1 << ?"
            " AND (? IS NULL OR ifnull(time_ms, published_ms) >= ?))"
            " FROM lanes WHERE id IN (SELECT value FROM json_each(?))",
            (OFFSET_BITS, OFFSET_BITS, since_ms, since_ms, self._listed(partitions)),
        )
        return {
            self._partitions[lane]: (end if place is None else offset_of(place), end)
            for lane, end, place in found
        }

    def read(
        self, partition: Partition, start: int, end: int, limits: Limits
    ) -> tuple[list[Record], int]:
        """Records with start <= offset < end as far as *limits* allow, and where to read on."""
        lane = self.lane(partition)
        rows = self._file.rows(
            "SELECT place, key, value, ifnull(time_ms, published_ms), headers"
            " FROM records WHERE place >= ? AND place < ? ORDER BY place LIMIT ?",
            (place_of(lane, start), place_of(lane, end), limits.records),
        )
        records: list[Record] = []
        left = limits.bytes
        for place, key, value, time_ms, headers in rows:
            offset = offset_of(place)
            records.append(
                Record(partition, offset, key, value, time_ms, unpacked(headers) if headers else ())
            )
            left -= RECORD_BYTES + len(value or b"")
            if left <= 0:
                rows.close()
                return records, offset + 1
        return records, records[-1].offset + 1 if len(records) == limits.records else end

    def read_table(self, name: str, number: int) -> dict[bytes, bytes]:
        """The last value of each key in a partition of a compacted topic."""
        [topic] = self.named([name])
        if not topic.shape.compact:
            raise Misconfigured(f"{name} is not compacted, so it is no table")
        return dict(
            self._file.query(
                "SELECT newest.key, value FROM newest JOIN records USING (place)"
                " WHERE lane = ? AND value IS NOT NULL",
                (topic.lane(number),),
            )
        )

    def _expire(self, lane: int, records_max: int, now_ms: int) -> None:
        self._keeping.expire(
            lane, self._known[self._partitions[lane].topic].shape, records_max, now_ms
        )

    def _listed(self, partitions: Iterable[Partition]) -> str:
        """Their lanes as SQLite's `json_each` reads them."""
        return msgspec.json.encode([self.lane(partition) for partition in partitions]).decode()

    def _choose(self, message: Message, partitions: int) -> int:
        if message.partition is not None:
            return message.partition
        if message.key is not None:
            return partition_of(message.key, partitions)
        self._keyless += 1
        return self._keyless % partitions

    def _append(self, lane: int, queue: Sequence[Message], now_ms: int) -> None:
        topic = self._known[self._partitions[lane].topic]
        if topic.shape.compact and any(message.key is None for message in queue):
            raise Misconfigured(f"{topic.name} is compacted, so its records must have keys")
        [(next_,)] = self._file.query("SELECT next FROM lanes WHERE id = ?", (lane,))
        first = place_of(lane, next_)
        self._file.write_all(
            "INSERT INTO records (place, key, value, headers, time_ms, published_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [
                (place, key, value, packed(headers) if headers else None, time_ms, now_ms)
                for place, (_, _, key, value, headers, time_ms) in enumerate(queue, first)
            ],
        )
        size = sum(len(message.key or b"") + len(message.value or b"") for message in queue)
        self._file.write(
            "UPDATE lanes SET next = next + ?, bytes = bytes + ? WHERE id = ?",
            (len(queue), size + RECORD_BYTES * len(queue), lane),
        )
        if topic.shape.compact:
            self._keeping.mark_superseded(lane, first, queue, now_ms)


def packed(headers: tuple[tuple[str, bytes], ...]) -> bytes:
    """Headers as they are stored."""
    return msgspec.msgpack.encode(headers)


def unpacked(headers: bytes) -> tuple[tuple[str, bytes], ...]:
    """Headers as they were."""
    return msgspec.msgpack.decode(headers, type=tuple[tuple[str, bytes], ...])
