"""
Kafka as the log: a membership in a consumer group, and transactional publishing.

The instance name identifies a member in three ways. The transactional id consists of group and
instance name, so a second process with the same name fences the first. Membership is static: a
restart within `session_timeout` moves no partition, because the member leaves without a
LeaveGroup request; after a longer absence the group reassigns its partitions. (If instance
names change with each start, partitions would stay idle for the session timeout:
`static_membership: false` sends LeaveGroup.) The broker accepts the offsets of a turn only from
a member of the group's current generation, so a member that was removed without noticing cannot
publish.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Literal

import structlog
from kafka import KafkaConsumer, TopicPartition, errors
from kafka.coordinator.base import MemberState

from streamer.core.types import Message, Partition, Record
from streamer.log import Fenced, InstanceReplaced, LogError, PollResult, TopicMissing
from streamer.log.kafka.assignment import Assignment
from streamer.log.kafka.consumer import LivenessProbe, Reader, to_records
from streamer.log.kafka.errors import translated
from streamer.log.kafka.poller import TopicPoller
from streamer.log.kafka.rebalance import (
    Assignor,
    FirstJoinTimer,
    IdleRejoinTimer,
    RebalanceListener,
    restore_join,
)
from streamer.log.kafka.settings import KafkaSettings, common, connect, joining, ms, reading
from streamer.log.kafka.static_member import Name
from streamer.log.kafka.topics import Topics
from streamer.log.kafka.transactions import Transactions
from streamer.log.kafka.untyped import Untyped

__all__ = ["KafkaLog", "KafkaSettings"]

log = structlog.get_logger()


class KafkaLog:
    """
    See `streamer.log.Log`. Creating one fences an older process with the same instance name.

    Reads *topics*, or every topic whose name matches *pattern* if that is given. Reading begins at
    *start* if the group has no committed offset.
    """

    def __init__(  # noqa: PLR0913 - the caller passes all of them by keyword; a group needs each
        self,
        bootstrap: str,
        settings: KafkaSettings,
        *,
        group: str,
        instance: str,
        topics: Sequence[str],
        pattern: str | None = None,
        start: Literal["earliest", "latest"] = "earliest",
    ) -> None:
        client_id = f"{group}.{instance}"
        self._names = tuple(topics)
        self._pattern = pattern
        self._member: Untyped = None  # group metadata of the last poll that saw a stable group
        self._silence = LivenessProbe()
        with contextlib.ExitStack() as undo:
            self._topics = Topics(bootstrap, settings, client_id)
            undo.callback(self._topics.close)
            if pattern is None:
                self._topics.partitions(topics)
            self._reader = Reader(bootstrap, settings, client_id, self._topics)
            self._news = TopicPoller(bootstrap, settings, client_id, self._topics)
            self._transactions = Transactions(bootstrap, settings, client_id, client_id)
            undo.callback(self._transactions.close)
            self._assignor = Assignor()
            self._idleness, self._first_join = IdleRejoinTimer(), FirstJoinTimer()
            config = common(bootstrap, settings, client_id) | reading(settings)
            config |= joining(settings, group, instance, self._assignor)
            self._consumer: Untyped = connect(KafkaConsumer, config)
            self._name = Name(self._consumer)
            self._moves = RebalanceListener(self._consumer, self._assignor)
            self._share = Assignment(self._consumer, self._moves, settings, start)
            undo.callback(self._consumer.close, autocommit=False, timeout_ms=0)
            self._subscribe()
            undo.pop_all()

    def poll(self, wait_s: float, records_max: int) -> PollResult:
        """As `Log.poll`."""
        with translated("poll", self._names):
            batches = self._poll(wait_s, records_max)
            lost = self._share.part()
            member = self._consumer.group_metadata()
            at_rest = member.state is MemberState.STABLE
            if at_rest:
                self._name.known(member.member_id)
            if at_rest or self._member is None:
                if self._member and self._member.generation_id != member.generation_id:
                    lost |= self._share.overtaken()
                self._member = member
            # until then a turn would be published under a generation that is ending
            gained = self._share.settle() if at_rest else {}
            records: list[Record] = []
            for place, batch in batches.items():
                partition = Partition(*place)
                if partition in self._share.held and partition not in gained:
                    records += to_records(partition, batch)
            total = self._partitions_total()
            asked = self._silence.note(
                self._consumer, self._probe_partition(), received=bool(records)
            )
            # fencing is otherwise detected only when publishing
            if asked and self._name.is_taken():
                raise InstanceReplaced("another member has joined under our name")
            missed = self._share.take_missed()
            return PollResult(lost, gained, records, total, self._share.lag(), missed)

    def read_table(self, topic: str, number: int) -> Mapping[bytes, bytes]:
        """As `Log.read_table`."""
        return self._reader.read_table(topic, number)

    def poll_topic(self, topic: str, start: int | None) -> tuple[Sequence[Record], int]:
        """As `Log.poll_topic`, over a separate connection."""
        return self._news.since(topic, start)

    def replay(self, partition: Partition, start: int, end: int) -> Iterator[Sequence[Record]]:
        """As `Log.replay`."""
        return self._reader.replay(partition, start, end)

    def widen(self, topics: Sequence[str], partitions: int) -> Mapping[str, int]:
        """As `Log.widen`."""
        return self._topics.widen(topics, partitions)

    def publish(self, messages: Iterable[Message], offsets: Mapping[Partition, int]) -> None:
        """As `Log.publish`: one transaction, which ends within `transaction_timeout`."""
        foreign = sorted(offsets.keys() - self._share.held.keys())
        if foreign:
            raise Fenced(f"no longer held: {', '.join(f'{t}/{n}' for t, n in foreign)}")
        unsent = iter(messages)
        first = next(unsent, None)
        if first is None and not offsets:
            return
        unsent = self._known(unsent if first is None else chain((first,), unsent))
        # The group checks the member only if offsets are sent: without any, send the current
        # ones.
        offsets = offsets or self._share.held
        if offsets and self._member.generation_id < 0:
            raise Fenced("no longer a member of the group")
        try:
            self._transactions.publish(unsent, offsets, self._member, self._share.notes(offsets))
        except Fenced as error:
            if self._name.is_taken():
                raise InstanceReplaced(
                    f"another member has joined under our name: {error}"
                ) from error
            raise
        self._share.held.update(offsets)

    def _known(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Yield *messages*; raise TopicMissing before one whose topic does not exist."""
        topics: set[str] = set()
        for message in messages:
            if message.topic not in topics:
                self._topics.partitions([message.topic])
                topics.add(message.topic)
            yield message

    def close(self) -> None:
        """As `Log.close`, in a few seconds; a static member keeps its partitions for a while."""
        for part in (self._transactions, self._reader, self._news, self._topics):
            with contextlib.suppress(Exception):
                part.close()
        with contextlib.suppress(Exception):
            self._consumer.close(autocommit=False, timeout_ms=1000)

    def _subscribe(self) -> None:
        """Raise TopicMissing if there is no topic to read."""
        with translated("subscribe", self._names):
            # Called before `subscribe`: the client loses one of two concurrent metadata requests.
            topics = self._consumer.topics()
            if self._pattern is None:
                self._consumer.subscribe(topics=list(self._names), listener=self._moves)
            elif any(re.match(self._pattern, topic) for topic in topics):
                self._consumer.subscribe(pattern=self._pattern, listener=self._moves)
            else:
                raise TopicMissing([f"matching {self._pattern}"])

    def _poll(self, wait_s: float, records_max: int) -> Mapping[TopicPartition, Sequence[Untyped]]:
        restore_join(self._consumer)
        self._request_rebalance()
        try:
            if not records_max:  # a poll for the group only: fetched records stay in the buffer
                self._consumer.pause(*self._consumer.assignment())
            found: Mapping[TopicPartition, Sequence[Untyped]] = self._consumer.poll(
                timeout_ms=ms(wait_s), max_records=max(1, records_max)
            )
        except errors.OffsetOutOfRangeError as error:
            for place, offset in error.args[0].items():
                self._consumer.seek(place, self._share.kept(place, offset))
                self._share.note_recreated(place)
            return {}
        except errors.FencedInstanceIdError:
            if not self._name.join_again():
                raise
            log.warning("group.rejoined")
            return {}
        finally:
            self._consumer.resume(*self._consumer.paused())
        return found

    def _request_rebalance(self) -> None:
        """Request a rebalance if a partition may be unassigned."""
        coordinator = self._consumer._coordinator  # noqa: SLF001 - no public API
        if coordinator.state is not MemberState.STABLE or coordinator.rejoin_needed:
            return
        idle = self._idleness.overdue(holds=bool(self._share))
        if self._assignor.overdue() or idle or self._has_unassigned():
            log.debug("group.rebalance_requested", idle=idle)
            self._assignor.ask()
            coordinator.request_rejoin()

    def _has_unassigned(self) -> bool:
        """Return whether partitions are without a member after this one was given what it had."""
        member, has_assigned = self._consumer.group_metadata(), self._assignor.has_assigned
        if not self._first_join.overdue(member.generation_id, has_assigned=has_assigned):
            return False
        try:
            return self._topics.unassigned(member.group_id, self._partitions_total()) > 0
        except LogError as error:  # it may lack the right, or the broker is away
            log.debug("group.not_described", reason=str(error))
            return False

    def _probe_partition(self) -> TopicPartition | None:
        """Return a partition for liveness probes: an assigned one, or the first of a topic."""
        for partition in self._share.held:
            return TopicPartition(*partition)
        for name in self._topics_read():
            return TopicPartition(name, 0)
        return None

    def _topics_read(self) -> Sequence[str]:
        return self._names if self._pattern is None else tuple(self._consumer.subscription() or ())

    def _partitions_total(self) -> int:
        names = self._topics_read()
        counts = {name: len(self._consumer.partitions_for_topic(name)) for name in names}
        missing = [name for name, count in counts.items() if not count]
        if missing:
            raise TopicMissing(missing)
        self._share.note_widths(counts)
        self._share.check_topics()
        return sum(counts.values())
