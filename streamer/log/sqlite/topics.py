"""
Topics in the file: create, append, read, expire.

Every method that writes is called within a transaction of the file, so counters and records
stay consistent. `retention` deletes records; this module decides how many at a time: each
append may delete twice as many as it wrote, plus `SPARE`. So deletion keeps up with any load,
and no turn waits for a purge.
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

SPARE = 64  # records that an append may delete, beyond twice the number appended


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the file. After its creation only its partition count can change: it can grow."""

    name: str
    shape: TopicConfig
    lanes: tuple[int, ...]  # one for each partition, by number

    def lane(self, number: int) -> int:
        """Return the lane of a partition; raises PartitionMissing if there is none."""
        if not 0 <= number < len(self.lanes):
            raise PartitionMissing(Partition(self.name, number), len(self.lanes))
        return self.lanes[number]


class Limits(NamedTuple):
    """Limits of one read: a number of records, and the bytes after which it stops."""

    records: int
    bytes: int


class Topics:
    """All topics of a file, as one connection sees them."""

    def __init__(self, file: File, settings: SqliteSettings) -> None:
        self._file = file
        self._keeping = Keeping(file, settings)
        self._known: dict[str, Topic] = {}
        self._partitions: dict[int, Partition] = {}  # the partition of each lane
        self._keyless = 0  # counter that distributes messages without a key

    def all(self) -> Mapping[str, Topic]:
        """Return all topics, by name."""
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
        """Return these topics; raises TopicMissing with all that do not exist."""
        names = list(names)
        if missing := [name for name in names if name not in self._known]:
            self.all()
            if missing := [name for name in missing if name not in self._known]:
                raise TopicMissing(missing)
        return [self._known[name] for name in names]

    def partition(self, lane: int) -> Partition:
        """Return the partition of a lane."""
        return self._partitions[lane]

    def lane(self, partition: Partition) -> int:
        """Return the lane of a partition; raises TopicMissing or PartitionMissing."""
        [topic] = self.named([partition.topic])
        if partition.number >= len(topic.lanes):  # it may have been widened since
            topic = self.all()[partition.topic]
        return topic.lane(partition.number)

    def create(self, name: str, shape: TopicConfig) -> None:
        """Create a topic, unless one with this name exists."""
        # Kafka's rule, so that topics can be migrated
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name):
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
        """Give a topic at least *partitions* partitions."""
        self.all()
        [topic] = self.named([name])
        self._file.write_all(
            "INSERT INTO lanes (topic, number, next, bytes)"
            " SELECT id, ?, 0, 0 FROM topics WHERE name = ?",
            [(number, name) for number in range(len(topic.lanes), partitions)],
        )
        self.all()

    def append(self, messages: Sequence[Message], now_ms: int) -> None:
        """Append *messages* in order, and delete expired records."""
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
        """Delete expired records of all topics, including those without new records."""
        for topic in self.all().values():
            for lane in topic.lanes:
                self._expire(lane, records_max, now_ms)
        self._keeping.compact(records_max, now_ms)
        self._file.shrink()

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return, for each partition, the offset of the next record."""
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
        """Return records with start <= offset < end within *limits*, and the next start."""
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
        """Return the last value of each key in a partition of a compacted topic."""
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
        """Return their lanes as a JSON list for SQLite's `json_each`."""
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
    """Encode headers for storage."""
    return msgspec.msgpack.encode(headers)


def unpacked(headers: bytes) -> tuple[tuple[str, bytes], ...]:
    """Decode stored headers."""
    return msgspec.msgpack.decode(headers, type=tuple[tuple[str, bytes], ...])
