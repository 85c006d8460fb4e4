"""
The SQLite log: `streamer.log` over one SQLite file.

It serves a single machine without Kafka, and the demo: forecaster, trainer, feeders and readers
are processes of one machine that share the file. It has the features that we use of Kafka:
topics, partitions, offsets, consumer groups, and transactional publishing.

The other modules: `database` (file, transactions, errors), `tables` (the schema), `topics`
(records), `retention` (deletion and compaction), `positions` (read positions) and `group`
(membership and assignment).
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from streamer.core.types import Message, Partition, Record
from streamer.log import LogError, Misconfigured, PollResult, TopicConfig, Unavailable
from streamer.log.sqlite.database import File
from streamer.log.sqlite.group import Membership
from streamer.log.sqlite.positions import Positions
from streamer.log.sqlite.settings import SqliteSettings
from streamer.log.sqlite.topics import Limits, Topic, Topics

__all__ = ["SqliteClient", "SqliteLog", "SqliteSettings", "path_of"]

SCHEME = "sqlite:///"
BATCH_MAX = 10_000  # records that a replay or a follower reads at once
SEND_MAX = 5_000  # messages that a client writes at once: blocks other writers for some 20 ms
SEND_BYTES_MAX = 16 << 20
SEND_AGE_MAX_S = 0.1  # age of an unsent message at which the next `send` writes it
LOOK_S = 1.0  # seconds between two checks of the topics' partition counts
TIDY_MAX = 1_000  # records of a lane that a poll deletes if nothing is published


def path_of(url: str) -> Path:
    """Return the file of `sqlite:///relative/path` or `sqlite:////absolute/path`."""
    if not url.startswith(SCHEME) or url == SCHEME:
        raise Misconfigured(
            f"{url}: a file is named as {SCHEME}relative/path or {SCHEME}/absolute/path"
        )
    return Path(url.removeprefix(SCHEME))


class SqliteLog:
    """
    A membership in a consumer group of the file; see `streamer.log.Log`.

    The constructor joins, and fences an older member with the same name. Topics are those of the
    list or, if *pattern* is set, all whose names begin with a match of it, including new ones.
    Sessions use *clock*, in epoch seconds, which must be the same for all processes, as it is on
    one machine.
    """

    def __init__(  # noqa: PLR0913 - the caller passes all of them by keyword; a group needs each
        self,
        path: Path,
        settings: SqliteSettings,
        *,
        group: str,
        instance: str,
        topics: Sequence[str],
        pattern: str | None = None,
        start: Literal["earliest", "latest"] = "earliest",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._session_s = settings.session_timeout
        self._names = tuple(topics)
        self._pattern = None if pattern is None else re.compile(pattern)
        self._start = start
        self._clock = clock
        self._batch = Limits(BATCH_MAX, settings.read_bytes_max)
        self._file = File(path, settings.busy_timeout)
        self._topics = Topics(self._file, settings)
        self._epoch = 0
        # positions in all partitions that we hold
        self._positions = Positions(self._topics, self._batch)
        self._tidied_s = self._looked_s = clock()
        try:
            self._member = Membership(self._file, group, instance, settings.session_timeout, clock)
        except LogError:
            self._file.close()
            raise

    def poll(self, wait_s: float, records_max: int) -> PollResult:
        """As `Log.poll`; renews the session, and processes the rebalance."""
        deadline = time.monotonic() + wait_s
        while True:
            version = self._file.version()
            lanes = self._lanes()
            lost, gained = self._settle(lanes)
            ends = self._topics.ends(self._positions)
            records = self._positions.read(ends, records_max)
            found = records or lost or gained
            if not found and wait_s > 0:  # however slow the machine: who may wait has the time
                self._tidy()
            left = deadline - time.monotonic()
            if found or left <= 0:
                lag = {p: ends[p] - position for p, position in self._positions.items()}
                missed = self._positions.take_missed()
                return PollResult(lost, gained, records, len(lanes), lag, missed)
            self._file.wait_for_commit(version, min(left, self._session_s / 3))

    def read_table(self, topic: str, number: int) -> Mapping[bytes, bytes]:
        """As `Log.read_table`; renews the session."""
        # The previous owner has revoked the partition or is fenced, and any transaction that it
        # had started ended before the one in which we took the partition. So there is nothing to
        # wait for.
        self._member.renew()
        return self._topics.read_table(topic, number)

    def poll_topic(self, topic: str, start: int | None) -> tuple[Sequence[Record], int]:
        """As `Log.poll_topic`; renews the session."""
        self._member.renew()
        partition = Partition(topic, 0)
        end = self._topics.ends([partition])[partition]
        if start is None or start >= end:
            return (), end
        return self._topics.read(partition, start, end, self._batch)

    def replay(self, partition: Partition, start: int, end: int) -> Iterator[Sequence[Record]]:
        """As `Log.replay`; renews the session between batches."""
        position = start
        while position < end:
            self._member.renew()
            records, position = self._topics.read(partition, position, end, self._batch)
            if records:
                yield records

    def widen(self, topics: Sequence[str], partitions: int) -> Mapping[str, int]:
        """As `Log.widen`; renews the session."""
        self._member.renew()
        with self._file.transaction():
            for topic in topics:
                self._topics.widen(topic, partitions)
        return {topic.name: topic.shape.partitions for topic in self._topics.named(topics)}

    def publish(self, messages: Iterable[Message], offsets: Mapping[Partition, int]) -> None:
        """As `Log.publish`: one transaction, which also checks that we hold all *offsets*."""
        # generated before the transaction, which blocks other writers and must be short
        batch = list(messages)
        now_ms = round(self._clock() * 1000)
        lanes = {self._topics.lane(partition): offset for partition, offset in offsets.items()}
        with self._file.transaction():
            self._member.check(lanes)
            self._topics.append(batch, now_ms)
            self._file.write_all(
                "INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)",
                [(self._member.team, lane, offset) for lane, offset in lanes.items()],
            )

    def close(self) -> None:
        """As `Log.close`; other members may take our partitions at once."""
        if not self._file.closed:
            with contextlib.suppress(LogError):  # otherwise the session expires
                self._member.leave()
            self._file.close()

    def _lanes(self) -> list[int]:
        """Return all lanes of the input, including those of other members."""
        found: list[Topic]
        if self._clock() - self._looked_s > LOOK_S:
            self._looked_s = self._clock()
            self._topics.all()  # topics may have been widened
        if self._pattern is None:
            found = self._topics.named(self._names)
        else:
            every = self._topics.all().values()
            found = [topic for topic in every if self._pattern.match(topic.name)]
        return [lane for topic in found for lane in topic.lanes]

    def _settle(self, lanes: Sequence[int]) -> tuple[frozenset[Partition], Mapping[Partition, int]]:
        lanes_held, epoch = self._member.settle(lanes)
        held = {self._topics.partition(lane) for lane in lanes_held}
        kept = held & self._positions.keys() if epoch == self._epoch else set()
        lost = frozenset(self._positions.keys() - kept)
        gained = self._positions.starts(held - kept, self._committed(), self._start)
        self._epoch = epoch
        for partition in lost:
            del self._positions[partition]
        self._positions.update(gained)
        return lost, gained

    def _committed(self) -> dict[int, int]:
        """Return the group's committed offsets, by lane."""
        return dict(
            self._file.query("SELECT lane, next FROM offsets WHERE team = ?", (self._member.team,))
        )

    def _tidy(self) -> None:
        if self._clock() - self._tidied_s > self._session_s:
            self._tidied_s = self._clock()
            with self._file.transaction():
                self._topics.expire(TIDY_MAX, round(self._clock() * 1000))
            self._file.settle()


class SqliteClient:
    """Access to the file without a group; see `streamer.log.Client`."""

    def __init__(
        self, path: Path, settings: SqliteSettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._batch = Limits(BATCH_MAX, settings.read_bytes_max)
        self._file = File(path, settings.busy_timeout)
        self._topics = Topics(self._file, settings)
        self._unsent: list[Message] = []
        self._unsent_bytes = 0
        self._unsent_since_s = 0.0

    def topics(self) -> Mapping[str, TopicConfig]:
        """As `Client.topics`; a topic without its own retention has None."""
        return {name: topic.shape for name, topic in self._topics.all().items()}

    def create(self, topic: str, shape: TopicConfig) -> None:
        """As `Client.create`."""
        with self._file.transaction():
            self._topics.create(topic, shape)

    def widen(self, topic: str, partitions: int) -> None:
        """As `Client.widen`."""
        with self._file.transaction():
            self._topics.widen(topic, partitions)

    def send(self, messages: Sequence[Message]) -> None:
        """As `Client.send`; collects small calls into larger writes."""
        now_s = time.monotonic()
        if not self._unsent:
            self._unsent_since_s = now_s
        self._unsent += messages
        self._unsent_bytes += sum(len(message.value or b"") for message in messages)
        if (
            len(self._unsent) >= SEND_MAX
            or self._unsent_bytes >= SEND_BYTES_MAX
            or now_s - self._unsent_since_s >= SEND_AGE_MAX_S
        ):
            self.flush()

    def flush(self) -> None:
        """Write unsent messages. They are kept for a retry if the log is unavailable."""
        if self._unsent:
            messages, size = self._unsent, self._unsent_bytes
            self._unsent, self._unsent_bytes = [], 0  # a retry would be rejected again
            try:
                with self._file.transaction():
                    self._topics.append(messages, round(self._clock() * 1000))
            except Unavailable:
                self._unsent, self._unsent_bytes = messages, size
                raise

    def follow(
        self,
        topics: Sequence[str],
        *,
        from_start: bool,
        wait_s: float = 0.5,
        since_ms: int | None = None,
        newest: int | None = None,
    ) -> Iterator[Sequence[Record]]:
        """As `Client.follow`; what "from now" means is settled when this is called."""
        bounds = self._topics.bounds(self._partitions(topics), since_ms)
        positions = Positions(self._topics, self._batch)
        first = from_start or since_ms is not None
        for partition, (oldest, end) in bounds.items():
            earliest = oldest if newest is None else max(oldest, end - newest)
            positions[partition] = earliest if first else end
        return self._follow(topics, positions, wait_s)

    def ends(self, topics: Sequence[str]) -> Mapping[Partition, int]:
        """As `Client.ends`."""
        return self._topics.ends(self._partitions(topics))

    def read_table(self, topic: str, number: int) -> Mapping[bytes, bytes]:
        """As `Client.read_table`."""
        return self._topics.read_table(topic, number)

    def close(self) -> None:
        """Write unsent messages, and close the file."""
        try:
            if not self._file.closed:
                self.flush()
        finally:
            self._file.close()

    def _partitions(self, topics: Sequence[str]) -> list[Partition]:
        return [
            Partition(topic.name, number)
            for topic in self._topics.named(topics)
            for number in range(topic.shape.partitions)
        ]

    def _follow(
        self, topics: Sequence[str], positions: Positions, wait_s: float
    ) -> Iterator[Sequence[Record]]:
        waited, looked_s = False, self._clock()
        while True:
            if self._clock() - looked_s > LOOK_S:
                looked_s = self._clock()
                self._topics.all()  # topics may have been widened
                new = [p for p in self._partitions(topics) if p not in positions]
                positions.update((p, first) for p, (first, _) in self._topics.bounds(new).items())
            version = self._file.version()
            ends = self._topics.ends(positions)
            news = [p for p, position in positions.items() if position < ends[p]]
            for partition in news:
                if records := positions.advance(partition, ends[partition], self._batch):
                    yield records
            if not news and waited:
                yield ()
            waited = not news
            if waited:
                self._file.wait_for_commit(version, wait_s)
