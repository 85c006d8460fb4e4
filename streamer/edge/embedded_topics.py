"""
Topics in the file: appended to, read, compacted and cut.

Every method that writes is called within a stroke of the file, so what it
counts and what it stores agree.

Records of a compacted topic that a newer one has superseded, and tombstones, are
written down as *doomed* when that becomes known, with the time that they go. To
compact is to work that list off from its head, and to read a table is to walk
the newest places only: neither ever looks at records that stay, or that are gone.

Old records go a few at a time: each append may delete twice as many as it wrote
and `SPARE` more. So the file keeps up at any rate, and no turn waits for a purge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import msgspec

from streamer.core.facts import Message, Partition, Record
from streamer.core.settings import Duration, Settings
from streamer.edge.embedded_file import OFFSET_BITS, RECORD_BYTES, File
from streamer.edge.partitioner import partition_of
from streamer.log import Refused, TopicMissing, TopicShape

SPARE = 64  # records that an append may delete beyond twice its own

Place = int


class EmbeddedSettings(Settings, frozen=True, kw_only=True):
    """The embedded log: who holds what for how long, and what is kept."""

    lease: Duration = Duration(10)  # a member that is silent for longer loses its partitions
    busy_timeout: Duration = Duration(10)  # how long another process may keep us from writing
    retention: Duration = Duration(7 * 86_400)  # of topics that do not say otherwise
    topic_bytes_max: Annotated[int, msgspec.Meta(ge=1)] = (
        4 << 30
    )  # each partition may take an equal share
    superseded_keep: Duration = Duration(60)  # how long a follower can still see a record's past
    tombstone_keep: Duration = Duration(86_400)  # how long a follower can still see that a key went
    read_bytes_max: Annotated[int, msgspec.Meta(ge=1)] = (
        64 << 20
    )  # what is read at once, in one delivery or batch

    def __post_init__(self) -> None:
        if self.lease <= 0:
            raise ValueError("lease: must be more than zero")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the file. It never changes once it is made, so it may be remembered."""

    name: str
    shape: TopicShape
    lanes: tuple[int, ...]  # of each partition, by its number

    def lane(self, number: int) -> int:
        """The lane of a partition; raises Refused where there is none of this number."""
        if not 0 <= number < len(self.lanes):
            raise Refused(f"{self.name} has {len(self.lanes)} partitions, so no number {number}")
        return self.lanes[number]


class Limits(NamedTuple):
    """How much is read at once: so many records, or up to the one that makes so many bytes."""

    records: int
    bytes: int


class Topics:
    """All topics of a file, as one connection sees them."""

    def __init__(self, file: File, settings: EmbeddedSettings) -> None:
        self._file = file
        self._settings = settings
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
            if name not in self._known and number in lanes:  # else it was made between the queries
                kept_s = None if retention_ms is None else retention_ms / 1000
                shape = TopicShape(len(lanes[number]), bool(compact), kept_s)
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
        """The lane of a partition; raises TopicMissing or Refused where there is no such thing."""
        [topic] = self.named([partition.topic])
        return topic.lane(partition.number)

    def create(self, name: str, shape: TopicShape) -> None:
        """Make a topic unless there is one of this name."""
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name):  # Kafka's rule, so that one can move
            raise Refused(f"a topic cannot be named {name!r}: letters, digits, dot, _ and - can be")
        if shape.partitions < 1:
            raise Refused(f"{name}: a topic has one partition or more, not {shape.partitions}")
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
        self._compact(2 * len(messages) + SPARE, now_ms)

    def tidy(self, records_max: int, now_ms: int) -> None:
        """Let old records go in topics that nobody writes to, too."""
        for topic in self.all().values():
            for lane in topic.lanes:
                self._expire(lane, records_max, now_ms)
        self._compact(records_max, now_ms)

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Of each partition: the offset of the next record to come."""
        found = self._file.query(
            "SELECT id, next FROM lanes WHERE id IN (SELECT value FROM json_each(?))",
            (self._listed(partitions),),
        )
        return {self._partitions[lane]: end for lane, end in found}

    def bounds(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """Of each partition: the offset of the oldest record that is kept, and of the next one."""
        found = self._file.query(
            "SELECT id, next,"
            " (SELECT min(place) FROM records WHERE place >= id << ? AND place < id + 1 << ?)"
            " FROM lanes WHERE id IN (SELECT value FROM json_each(?))",
            (OFFSET_BITS, OFFSET_BITS, self._listed(partitions)),
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

    def table(self, name: str, number: int) -> dict[bytes, bytes]:
        """The last value of each key in a partition of a compacted topic."""
        [topic] = self.named([name])
        if not topic.shape.compact:
            raise Refused(f"{name} is not compacted, so it is no table")
        return dict(
            self._file.query(
                "SELECT newest.key, value FROM newest JOIN records USING (place)"
                " WHERE lane = ? AND value IS NOT NULL",
                (topic.lane(number),),
            )
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
            raise Refused(f"{topic.name} is compacted, so its records must have keys")
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
            self._supersede(lane, first, queue, now_ms)

    def _supersede(self, lane: int, first: Place, queue: Sequence[Message], now_ms: int) -> None:
        """Note where the last record of each key lies now, and doom the one before it."""
        superseded_due_ms = now_ms + round(self._settings.superseded_keep * 1000)
        tombstone_due_ms = now_ms + round(self._settings.tombstone_keep * 1000)
        newest: dict[bytes, Place] = {}
        doomed: list[tuple[int, Place]] = []
        for place, message in enumerate(queue, first):
            assert message.key is not None
            if message.key in newest:
                doomed.append((superseded_due_ms, newest[message.key]))
            if message.value is None:
                doomed.append((tombstone_due_ms, place))
            newest[message.key] = place
        # Superseded tombstones may be doomed twice: the second time finds nothing.
        self._file.write_all("INSERT OR IGNORE INTO doomed VALUES (?, ?)", doomed)
        self._file.write_all(
            "INSERT OR IGNORE INTO doomed SELECT ?, place FROM newest WHERE lane = ? AND key = ?",
            [(superseded_due_ms, lane, key) for key in newest],
        )
        self._file.write_all(
            "INSERT OR REPLACE INTO newest VALUES (?, ?, ?)",
            [(lane, key, place) for key, place in newest.items()],
        )

    def _compact(self, records_max: int, now_ms: int) -> None:
        """Delete the doomed whose time has come."""
        due = self._file.query(
            "SELECT due_ms, place FROM doomed WHERE due_ms <= ? ORDER BY due_ms LIMIT ?",
            (now_ms, records_max),
        )
        if due:
            places = [place for _, place in due]
            self._forget(places)
            self._file.write_all(
                "UPDATE lanes SET bytes = bytes -"
                " ifnull((SELECT bytes FROM records WHERE place = ?), 0) WHERE id = ?",
                [(place, lane_of(place)) for place in places],
            )
            self._file.write_all("DELETE FROM records WHERE place = ?", [(p,) for p in places])
            self._file.write_all("DELETE FROM doomed WHERE due_ms = ? AND place = ?", due)

    def _expire(self, lane: int, records_max: int, now_ms: int) -> None:
        """Delete from a lane's old end what is too old, or too much."""
        topic = self._known[self._partitions[lane].topic]
        shape = topic.shape
        if shape.compact and shape.retention_s is None:
            return
        kept_s = self._settings.retention if shape.retention_s is None else shape.retention_s
        oldest_ms = now_ms - round(kept_s * 1000)
        [(size,)] = self._file.query("SELECT bytes FROM lanes WHERE id = ?", (lane,))
        size_max = self._settings.topic_bytes_max // len(topic.lanes)
        for look in (1, records_max):  # mostly the first one stays, and no other is looked at
            gone: list[Place] = []
            left = size
            for place, published_ms, record_bytes in self._file.query(
                "SELECT place, published_ms, bytes FROM records"
                " WHERE place >= ? AND place < ? ORDER BY place LIMIT ?",
                (place_of(lane, 0), place_of(lane + 1, 0), look),
            ):
                if published_ms >= oldest_ms and left <= size_max:
                    break
                gone.append(place)
                left -= record_bytes
            if not gone:
                return
        if shape.compact:
            self._forget(gone)
        self._file.write("UPDATE lanes SET bytes = ? WHERE id = ?", (left, lane))
        self._file.write("DELETE FROM records WHERE place >= ? AND place <= ?", (gone[0], gone[-1]))

    def _forget(self, places: Sequence[Place]) -> None:
        """Leave no key whose newest record is one of these, which are about to be deleted."""
        self._file.write_all(
            "DELETE FROM newest WHERE lane = ? AND place = ?"
            " AND key = (SELECT key FROM records WHERE place = ?)",
            [(lane_of(place), place, place) for place in places],
        )


def place_of(lane: int, offset: int) -> Place:
    """Where the record of this offset lies, or would."""
    return lane << OFFSET_BITS | offset


def lane_of(place: Place) -> int:
    """The lane of the record that lies there."""
    return place >> OFFSET_BITS


def offset_of(place: Place) -> int:
    """The offset of the record that lies there."""
    return place & ((1 << OFFSET_BITS) - 1)


def packed(headers: tuple[tuple[str, bytes], ...]) -> bytes:
    """Headers as they are stored."""
    return msgspec.msgpack.encode(headers)


def unpacked(headers: bytes) -> tuple[tuple[str, bytes], ...]:
    """Headers as they were."""
    return msgspec.msgpack.decode(headers, type=tuple[tuple[str, bytes], ...])
