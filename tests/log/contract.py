"""
The two logs, made alike for the one suite that holds both.

A `Ground` makes memberships and a client on one kind of log, with names that no
other test has. The verbs below it wait for what a group takes its time for.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from kafka import KafkaAdminClient, TopicPartition

from streamer.config.types import Duration
from streamer.core.types import Message, Partition, Record
from streamer.log import Client, Log, PollResult, TopicConfig, Unavailable
from streamer.log.kafka.client import KafkaClient
from streamer.log.kafka.log import KafkaLog
from streamer.log.kafka.settings import KafkaSettings

PATIENCE_S = 30.0


class Ground(ABC):
    """One kind of log, and what a test makes on it."""

    session_s: float  # a member that is silent for longer is given up

    def __init__(self, client: Client) -> None:
        self.client = client
        self.suffix = uuid.uuid4().hex[:8]
        self.group = f"group-{self.suffix}"
        self._made: list[Member] = []

    def topic(self, stem: str, partitions: int = 1, *, compact: bool = False) -> str:
        """A new topic of this test's own."""
        name = f"{stem}-{self.suffix}"
        self.client.create(name, TopicConfig(partitions, compact))
        return name

    def join(self, instance: str, *topics: str, **options: str) -> Member:
        """A new member of the test's group."""
        member = Member(self.member(f"{instance}-{self.suffix}", topics, **options))
        self._made.append(member)
        return member

    def feed(self, topic: str, values: Sequence[bytes], partition: int = 0) -> None:
        self.client.send([Message(topic, partition, b"key", value) for value in values])
        self.client.flush()

    def close(self) -> None:
        for member in self._made:
            member.close()
        self.client.close()

    @abstractmethod
    def member(self, instance: str, topics: Sequence[str], **options: str) -> Log: ...

    @abstractmethod
    def drop(self, topic: str) -> None:
        """Delete all records of the topic's one partition, read or not, as retention does it."""

    @abstractmethod
    def rewind(self, member: Member, topic: str) -> None:
        """Have the member read partition 0 from its first offset on."""

    @abstractmethod
    def silence(self, member: Member) -> None:
        """Stop the member's heartbeats, without notice to the member."""

    @abstractmethod
    def revive(self, member: Member) -> None:
        """Resume the member's heartbeats."""


class SqliteGround(Ground):
    """A file with short leases: a member that does not poll is soon removed."""

    session_s = 1

    def __init__(self, path: Path) -> None:
        # Imported here so that a test of Kafka needs nothing of the other log.
        from streamer.log.sqlite.log import SqliteClient, SqliteSettings  # noqa: PLC0415

        self._path = path
        self._settings = SqliteSettings(session_timeout=Duration(self.session_s))
        super().__init__(SqliteClient(path, self._settings))

    def member(self, instance: str, topics: Sequence[str], **options: str) -> Log:
        from streamer.log.sqlite.log import SqliteLog  # noqa: PLC0415 - as above

        return SqliteLog(
            self._path,
            self._settings,
            group=self.group,
            instance=instance,
            topics=topics,
            **options,  # type: ignore[arg-type]
        )

    def drop(self, topic: str) -> None:
        from streamer.log.sqlite.log import SqliteClient, SqliteSettings  # noqa: PLC0415 - as above

        none = Duration(0)
        settings = SqliteSettings(retention=none, unread_retention=none)
        client = SqliteClient(self._path, settings, clock=lambda: time.time() + 1)
        with client._file.transaction():
            client._topics.expire(10_000, round((time.time() + 1) * 1000))
        client.close()

    def rewind(self, member: Member, topic: str) -> None:
        member.log._positions[Partition(topic, 0)] = 0

    def silence(self, member: Member) -> None:
        """Nothing to do: a member renews its session when it is asked for something."""

    def revive(self, member: Member) -> None:
        """Nothing to do."""


class KafkaGround(Ground):
    """A real broker; sessions as short as it allows."""

    session_s = 6 if os.environ.get("KAFKA_BOOTSTRAP_SERVERS") else 2  # the test's own allows less

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._settings = KafkaSettings(
            session_timeout=Duration(self.session_s), transaction_timeout=Duration(10)
        )
        super().__init__(KafkaClient(bootstrap, self._settings))

    def member(self, instance: str, topics: Sequence[str], **options: str) -> Log:
        return KafkaLog(
            self._bootstrap,
            self._settings,
            group=self.group,
            instance=instance,
            topics=topics,
            **options,  # type: ignore[arg-type]
        )

    def drop(self, topic: str) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self._bootstrap)
        admin.delete_records({TopicPartition(topic, 0): -1})  # up to the end
        admin.close()

    def rewind(self, member: Member, topic: str) -> None:
        member.log._consumer.seek(TopicPartition(topic, 0), 0)

    def silence(self, member: Member) -> None:
        member.log._consumer._coordinator._disable_heartbeat()

    def revive(self, member: Member) -> None:
        member.log._consumer._coordinator._enable_heartbeat()


class Member:
    """A log whose deliveries are gathered until the test asks for them."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.publish, self.close = log.publish, log.close
        self.read_table, self.replay, self.poll_topic = log.read_table, log.replay, log.poll_topic
        self.held: dict[Partition, int] = {}  # where reading went on when it came
        self.revoked: list[Partition] = []
        self.unread: list[Record] = []
        self.missed = 0  # records that were deleted unread, as `poll` reported

    def poll(self, wait_s: float = 0.1, records_max: int = 1000) -> PollResult:
        delivery = self.log.poll(wait_s, records_max)
        for partition in delivery.revoked:
            del self.held[partition]  # one that it does not hold is a KeyError
            self.revoked.append(partition)
            self.unread = [record for record in self.unread if record.partition != partition]
        for partition, offset in delivery.assigned.items():
            assert partition not in self.held
            self.held[partition] = offset
        assert {record.partition for record in delivery.records} <= self.held.keys()
        self.unread += delivery.records
        self.missed += delivery.missed
        return delivery

    def poll_until(self, enough: Callable[[], bool], *others: Member) -> None:
        """The *others* are kept alive meanwhile."""
        deadline = time.monotonic() + PATIENCE_S
        while not enough():
            assert time.monotonic() < deadline, f"holds {self.held}, unread {self.unread[:3]} …"
            self.poll()
            for other in others:
                other.poll(0.05)

    def take_up(self, partitions: int, *others: Member) -> dict[Partition, int]:
        """Poll until it holds so many partitions; where reading goes on in each."""
        self.poll_until(lambda: len(self.held) == partitions, *others)
        return dict(self.held)

    def read(self, count: int) -> list[Record]:
        """The next *count* records."""
        self.poll_until(lambda: len(self.unread) >= count)
        records, self.unread = self.unread[:count], self.unread[count:]
        return records


def news_of(member: Member, topic: str, start: int, at_least: int) -> tuple[list[Record], int]:
    """The records of *topic* from *start* on, and the next offset, by repeated `poll_topic`."""
    found: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < at_least:
        assert time.monotonic() < deadline, f"waited in vain, got {found}"
        records, start = member.poll_topic(topic, start)
        found += records
        time.sleep(0.02)
    return found, start


def next_offsets(batch: Sequence[Record]) -> dict[Partition, int]:
    """The offsets to commit with the results of *batch*."""
    return {record.partition: record.offset + 1 for record in batch}


def published(client: Client, topic: str, at_least: int) -> list[Record]:
    """Committed records of *topic*: so many and whatever comes within a moment after them."""
    found: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    with contextlib.closing(followed(client, topic, deadline)) as batches:
        for batch in batches:
            found += batch
            if not batch and len(found) >= at_least:
                return found
            assert time.monotonic() < deadline, f"waited in vain, got {found}"
    raise AssertionError("a follower goes on without end")


def followed(client: Client, topic: str, deadline: float):
    """As `Client.follow` from the start; a broker that has just come back may need a moment."""
    while True:
        try:
            return client.follow([topic], from_start=True, wait_s=0.3)
        except Unavailable:
            assert time.monotonic() < deadline, "it stays away"
            time.sleep(0.2)


def values(batch: Sequence[Record]) -> list[bytes | None]:
    return [record.value for record in batch]


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]
