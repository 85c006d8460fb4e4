"""
What is asked of a log, and how a log may refuse.

Two logs stand behind this: Kafka (`edge/kafka.py`) and one SQLite file
(`log/sqlite`). Both are held to the contract suite in `tests/log`.

`Log` is a membership in a consumer group: partitions come and go, and what a
turn concluded is published in one stroke with the offsets that it took as read.
`Client` is everything done without a group: feeding, reading along, making topics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streamer.core.types import Message, Partition, Record


class LogError(Exception):
    """The log did not do what was asked. The state in memory may differ from the published one."""

    code = "log_error"  # names the kind of error in log lines


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


@dataclass(frozen=True, slots=True)
class PollResult:
    """The result of a poll: partitions revoked and assigned, then the records read after that."""

    revoked: frozenset[Partition]
    assigned: Mapping[Partition, int]  # where reading goes on: the group's offset, or the start
    records: Sequence[Record]  # of one partition in order; partitions may alternate
    partitions_total: int  # of the whole input, whoever holds them
    lag: Mapping[Partition, int] = field(default_factory=dict)  # records that are still unread
    missed: int = (
        0  # records that the log deleted before they were read (`input.offset_out_of_range`)
    )


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """How a topic is laid out."""

    partitions: int
    compact: bool  # the last record of each key is kept for good
    retention_s: float | None = None  # None: the log's default; ignored where only compacted


class Log(Protocol):
    """A membership in the consumer group. Every method may raise a LogError."""

    def poll(self, wait_s: float, records_max: int) -> PollResult:
        """
        Wait for news, at most *wait_s*; there may be none.

        A partition that went away and came back between two polls is both
        revoked and assigned. Records are only of partitions held when it returns. With
        *records_max* 0 there are none: it is a look at what became of the partitions.
        """
        ...

    def read_table(self, topic: str, number: int) -> Mapping[bytes, bytes]:
        """
        The last value of each key in a partition of a compacted topic.

        Reads up to the last stable offset, after waiting for transactions
        that were open when it was called. Deleted keys are left out.
        """
        ...

    def poll_topic(self, topic: str, start: int | None) -> tuple[Sequence[Record], int]:
        """
        Committed records of *topic*, which has one partition, from *start* on, and where to go on.

        Never waits for records: what is not at hand comes with a later call. *start* is what
        the call before has returned, or None for the end as it is now: a table that is
        read after that misses nothing of what came before it.
        """
        ...

    def replay(self, partition: Partition, start: int, end: int) -> Iterator[Sequence[Record]]:
        """
        The input's records with start <= offset < end, in order, in batches.

        Where the log no longer keeps *start* it begins with the oldest that it has.
        """
        ...

    def widen(self, topics: Sequence[str], partitions: int) -> Mapping[str, int]:
        """
        Let each of *topics* have at least so many *partitions*, where we may.

        How many each has now. One that may not be widened is left as it is, which is logged.
        """
        ...

    def publish(self, messages: Iterable[Message], offsets: Mapping[Partition, int]) -> None:
        """
        Tell all of *messages* and take *offsets* as read, in one stroke.

        *messages* may be written out only as they are read; what they raise ends the stroke.
        Raises Fenced if a partition in *offsets* is no longer ours, and
        Unavailable if it is not known how it ended. After any error this
        membership is of no more use: close it and join again.
        """
        ...

    def close(self) -> None:
        """Leave. Never raises; what was not published is forgotten."""
        ...


class Client(Protocol):
    """What the command line asks of a log: no group and no transaction."""

    def topics(self) -> Mapping[str, TopicConfig]:
        """The topics that exist (internal ones left out)."""
        ...

    def create(self, topic: str, shape: TopicConfig) -> None:
        """Make *topic*; one that exists is left as it is."""
        ...

    def widen(self, topic: str, partitions: int) -> None:
        """Let *topic* have at least so many *partitions*; records stay where they are."""
        ...

    def send(self, messages: Sequence[Message]) -> None:
        """Hand over *messages*; durable once `flush` has returned. May block for a while."""
        ...

    def flush(self) -> None:
        """Return when all that was sent is durable."""
        ...

    def follow(
        self,
        topics: Sequence[str],
        *,
        from_start: bool,
        wait_s: float = 0.5,
        since_ms: int | None = None,
    ) -> Iterator[Sequence[Record]]:
        """
        Committed records of *topics* as they come, without end.

        With *since_ms*, each partition begins with its first record whose timestamp is not older,
        whatever *from_start* says.

        A batch is empty when *wait_s* went by without a record, so that the
        caller may stop.
        """
        ...

    def ends(self, topics: Sequence[str]) -> Mapping[Partition, int]:
        """Of each partition of *topics*: the offset past the last record that can be read now."""
        ...

    def read_table(self, topic: str, number: int) -> Mapping[bytes, bytes]:
        """As `Log.table`."""
        ...

    def close(self) -> None:
        """Flush, and let go."""
        ...
