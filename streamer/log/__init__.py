"""
The log interface, and the errors that a log may raise.

There are two implementations: Kafka (`log/kafka`) and one SQLite file (`log/sqlite`). The
contract suite in `tests/log` runs against both.

`Log` is a membership in a consumer group: partitions are assigned and revoked, and the results
of a turn are published in one transaction with the input offsets. `Client` is everything that
needs no group: sending, following topics, creating topics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamer.core.types import Message, Partition, Record


class LogError(Exception):
    """The log did not do what was asked. The state in memory may differ from the published one."""

    code = "log_error"  # the kind of error in log lines


class Unavailable(LogError):
    """The log cannot be reached, or it is unknown whether the commit succeeded: restore, retry."""

    code = "unavailable"


class Fenced(LogError):
    """Another instance holds our partitions or our instance id now; our writes are rejected."""

    code = "fenced"


class InstanceReplaced(Fenced):
    """Another process joined with our instance id: the older of the two has to end."""

    code = "instance_replaced"


class TopicMissing(LogError):
    """A topic that is needed does not exist."""

    code = "topic_missing"

    def __init__(self, topics: Sequence[str]) -> None:
        super().__init__(f"no such topic: {', '.join(topics)}")
        self.topics = tuple(topics)


class PartitionMissing(TopicMissing):
    """A topic that is needed has too few partitions."""

    code = "partition_missing"

    def __init__(self, partition: Partition, partitions: int) -> None:
        topic, number = partition
        LogError.__init__(self, f"{topic} has {partitions} partitions, so no number {number}")
        self.topics = (topic,)


class TooLarge(LogError):
    """The log's limit on the size of a message is lower than that of our settings."""

    code = "message_too_large"


class PermanentError(LogError):
    """The log denies access, and a retry changes nothing: rights, passwords."""

    code = "permission_denied"


class Misconfigured(PermanentError):
    """The log rejects the settings: a foreign file, a name or a timeout that is not valid."""

    code = "misconfigured"


FINAL = PermanentError, InstanceReplaced  # errors that end a process: a retry would be wrong


@dataclass(frozen=True, slots=True)
class PollResult:
    """The result of a poll: partitions revoked and assigned, then the records read after that."""

    revoked: frozenset[Partition]
    assigned: Mapping[Partition, int]  # where reading continues: the group's offset, or the start
    records: Sequence[Record]  # ordered within a partition; partitions may alternate
    partitions_total: int  # partition count of the input, including other members' partitions
    lag: Mapping[Partition, int] = field(default_factory=dict)  # unread records
    missed: int = (
        0  # records that the log deleted before they were read (`input.offset_out_of_range`)
    )


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """The layout of a topic."""

    partitions: int
    compact: bool  # whether the last record of each key is kept forever
    # None: the log's default; ignored if the topic is only compacted
    retention_s: float | None = None
    # the largest message that the log takes; None: any
    message_bytes_max: int | None = field(default=None, compare=False)


class Log(Protocol):
    """A membership in the consumer group. Every method may raise a LogError."""

    def poll(self, wait_s: float, records_max: int) -> PollResult:
        """
        Wait for records or a rebalance, at most *wait_s*; the result may be empty.

        A partition that was revoked and reassigned between two polls is in both sets. Records are
        only of partitions held when the call returns. With *records_max* 0 there are none: the call
        only processes the rebalance.
        """
        ...

    def read_table(self, topic: str, number: int) -> Mapping[bytes, bytes]:
        """
        Return the last value of each key in a partition of a compacted topic.

        Reads up to the last stable offset, after waiting for transactions that were open at the
        call. Deleted keys are omitted.
        """
        ...

    def poll_topic(self, topic: str, start: int | None) -> tuple[Sequence[Record], int]:
        """
        Return committed records of *topic*, which has one partition, and the next offset.

        Reads from *start* on and never waits: records that are not yet fetched come with a later
        call. *start* is what the previous call returned, or None for the current end. A table that
        is read after a call with None contains all records before that end.
        """
        ...

    def replay(self, partition: Partition, start: int, end: int) -> Iterator[Sequence[Record]]:
        """
        Yield the input's records with start <= offset < end, in order, in batches.

        If the log has deleted *start*, it begins with the oldest record.
        """
        ...

    def widen(self, topics: Sequence[str], partitions: int) -> Mapping[str, int]:
        """
        Give each of *topics* at least *partitions* partitions, if we have the rights.

        Returns the current partition count of each topic. A topic that we may not widen is left as
        it is, and a warning is logged.
        """
        ...

    def publish(self, messages: Iterable[Message], offsets: Mapping[Partition, int]) -> None:
        """
        Publish all *messages* and commit *offsets*, in one transaction.

        *messages* may be generated lazily; an exception from them aborts the transaction. Raises
        Fenced if this member no longer holds a partition in *offsets*, and Unavailable if the
        outcome is unknown. After any error this membership is unusable: close it and join again.
        """
        ...

    def close(self) -> None:
        """Leave the group. Never raises; unpublished results are lost."""
        ...


class Client(Protocol):
    """The log interface of the command line: without a group and without transactions."""

    def topics(self) -> Mapping[str, TopicConfig]:
        """Return the topics that exist, without internal ones."""
        ...

    def create(self, topic: str, shape: TopicConfig) -> None:
        """Create *topic*; an existing one is left as it is."""
        ...

    def widen(self, topic: str, partitions: int) -> None:
        """Give *topic* at least *partitions* partitions; existing records are not moved."""
        ...

    def send(self, messages: Sequence[Message]) -> None:
        """Send *messages*; they are durable when `flush` has returned. May block for a while."""
        ...

    def flush(self) -> None:
        """Return when all sent messages are durable."""
        ...

    def follow(
        self,
        topics: Sequence[str],
        *,
        from_start: bool,
        wait_s: float = 0.5,
        since_ms: int | None = None,
        newest: int | None = None,
    ) -> Iterator[Sequence[Record]]:
        """
        Yield committed records of *topics* as they arrive, without end.

        With *since_ms*, each partition begins with its first record whose timestamp is not older,
        regardless of *from_start*. With *newest*, no partition begins more than so many offsets
        before its end.

        A batch is empty when *wait_s* went by without a record, so that the
        caller may stop.
        """
        ...

    def ends(self, topics: Sequence[str]) -> Mapping[Partition, int]:
        """Return, for each partition of *topics*, the offset after the last readable record."""
        ...

    def read_table(self, topic: str, number: int) -> Mapping[bytes, bytes]:
        """As `Log.read_table`."""
        ...

    def close(self) -> None:
        """Flush, and close the connection."""
        ...
