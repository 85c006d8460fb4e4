"""
Our assignment: the partitions that we hold, and the offsets at which reading continues.

An assigned partition stays paused until its committed offset is known. That may take a while,
because the broker does not return an offset that is part of an open transaction.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal

import structlog
from kafka import TopicPartition, errors

from streamer.core.types import Partition
from streamer.log import Unavailable
from streamer.log.kafka.consumer import MARGIN_S
from streamer.log.kafka.rebalance import RebalanceListener
from streamer.log.kafka.settings import KafkaSettings
from streamer.log.kafka.untyped import Untyped

log = structlog.get_logger()

COMMITTED_MAX_MS = 1000  # how long one poll waits for offsets that are part of an open transaction
ANSWER_MAX_MS = 10_000
TOPIC_ID = "topic "  # begins the metadata of our committed offsets; the topic's id follows


class Assignment:
    """
    The partitions that *consumer* reads; *moves* reports assigned and revoked partitions.

    If the group has no committed offset for a partition, reading begins at *start*.
    """

    def __init__(
        self,
        consumer: Untyped,
        moves: RebalanceListener,
        settings: KafkaSettings,
        start: Literal["earliest", "latest"],
    ) -> None:
        self._consumer = consumer
        self._moves = moves
        self._settings = settings
        self._start = start
        self.held: dict[Partition, int] = {}  # the next offset to commit
        # assigned, but not yet reported; since when
        self._arriving: dict[TopicPartition, float] = {}
        self._widths: dict[str, int] = {}  # partition count of each topic, by name
        self._missed = 0  # records that were deleted before we read them
        self._ids: dict[Partition, str] = {}  # of the topics, as they were assigned

    def __len__(self) -> int:
        """Count assigned partitions, including those not yet reported."""
        return len(self.held) + len(self._arriving)

    def part(self) -> frozenset[Partition]:
        """Return which held partitions were revoked; assigned ones wait until `settle`."""
        lost = set()
        for came, place in self._moves.take():
            if came:
                self._arriving[place] = time.monotonic()
            else:
                self._arriving.pop(place, None)
                self._ids.pop(Partition(*place), None)
                if self.held.pop(Partition(*place), None) is not None:
                    lost.add(Partition(*place))
        return frozenset(lost)

    def overtaken(self) -> frozenset[Partition]:
        """
        Return the held partitions that another member has committed to; treat them as new.

        The group assigns us what we claim when we join. A member that missed a generation claims
        partitions that another member held in between, and the client would continue at its old
        position.
        """
        overtaken = set()
        for partition, offset in list(self.held.items()):
            place = TopicPartition(*partition)
            try:
                committed = self._consumer.committed(place, timeout_ms=COMMITTED_MAX_MS)
            except errors.KafkaTimeoutError:
                committed = None  # in an open transaction of another member: this one's has ended
            else:
                if committed is None or committed <= offset:
                    continue
            log.warning("group.offset_moved", **place._asdict(), start=offset, end=committed)
            self._consumer.pause(place)
            del self.held[partition]
            self._arriving[place] = time.monotonic()
            overtaken.add(partition)
        return frozenset(overtaken)

    def settle(self) -> Mapping[Partition, int]:
        """Return start offsets of assigned partitions; some may have to wait for a later poll."""
        gained = {}
        for place, since_s in sorted(self._arriving.items()):
            try:  # the client requests stable offsets: it waits for open transactions to end
                committed = self._consumer.committed(
                    place, metadata=True, timeout_ms=COMMITTED_MAX_MS
                )
            except errors.KafkaTimeoutError:
                if time.monotonic() - since_s > self._settings.transaction_timeout + MARGIN_S:
                    raise Unavailable(
                        f"the group's offset of {place.topic}/{place.partition} hangs in a"
                        " transaction that no one ends (see kafka-transactions.sh find-hanging)"
                    ) from None
                continue
            now, then = self._id(place.topic), id_in(committed)
            if committed is None:
                offset = self._first(place)
            elif now and then and now != then:
                offset = self._start_of_recreated(place, committed.offset)
            else:
                offset = self.kept(place, committed.offset)
            self._ids[Partition(*place)] = now
            self._consumer.seek(place, offset)
            self._consumer.resume(place)
            gained[Partition(*place)] = offset
            del self._arriving[place]
        self.held.update(gained)
        return gained

    def kept(self, place: TopicPartition, offset: int) -> int:
        """Return *offset*, or the oldest offset that the log keeps if *offset* was deleted."""
        oldest = self._oldest(place)
        if oldest <= offset <= self._newest(place):
            return offset
        records = max(0, oldest - offset)  # 0: the topic was recreated and is shorter than before
        self._missed += records
        log.warning(
            "input.offset_out_of_range",
            topic=place.topic,
            partition=place.partition,
            start=offset,
            end=oldest,
            records=records,
        )
        return oldest

    def notes(self, offsets: Mapping[Partition, int]) -> Mapping[Partition, str]:
        """Return what is committed with *offsets*: the id of the topic that they belong to."""
        return {p: f"{TOPIC_ID}{self._ids[p]}" for p in offsets if self._ids.get(p)}

    def check_topics(self) -> None:
        """Raise Unavailable if a topic was deleted and created again: rejoin to read it."""
        for partition, then in self._ids.items():
            now = self._id(partition.topic)
            if then and now and now != then:
                raise Unavailable(f"{partition.topic} was deleted and created again: joining again")

    def note_recreated(self, place: TopicPartition) -> None:
        """Note that reading goes on in the topic that has the name now."""
        self._ids[Partition(*place)] = self._id(place.topic)

    def _start_of_recreated(self, place: TopicPartition, committed: int) -> int:
        """Return where reading begins in a topic that was created again after *committed*."""
        oldest = self._oldest(place)
        log.warning(
            "input.recreated",
            topic=place.topic,
            partition=place.partition,
            committed=committed,
            start=oldest,
            effect="the topic was deleted and created again: it is read from its oldest record",
            skip_with="kafka-consumer-groups.sh --reset-offsets --to-latest",
        )
        return oldest

    def _id(self, topic: str) -> str:
        """Return the id of the topic that has the name now; empty if the broker reports none."""
        found = self._consumer._cluster.topic_id(topic)  # noqa: SLF001 - no public API
        return "" if found is None else found.hex

    def note_widths(self, widths: Mapping[str, int]) -> None:
        """Log a warning if a topic's partition count has changed since we joined."""
        for topic, width in widths.items():
            before = self._widths.setdefault(topic, width)
            if before != width:
                self._widths[topic] = width
                log.warning(
                    "input.partitions_changed",
                    topic=topic,
                    before=before,
                    partitions=width,
                    effect="keys lie in other partitions now: moved flows start without state",
                )

    def take_missed(self) -> int:
        """Return how many records were lost since the last call."""
        missed, self._missed = self._missed, 0
        return missed

    def lag(self) -> Mapping[Partition, int]:
        """Return the lag of each partition whose end offset the broker has reported."""
        lag = {}
        for partition in self.held:
            place = TopicPartition(*partition)
            end, position = self._consumer.highwater(place), self._consumer.position(place, 0)
            if end is not None and position is not None:
                lag[partition] = max(0, end - position)
        return lag

    def _first(self, place: TopicPartition) -> int:
        new = place.partition >= self._widths.get(place.topic, place.partition + 1)
        latest = self._start == "latest" and not new  # a new partition was empty when we joined
        return self._newest(place) if latest else self._oldest(place)

    def _oldest(self, place: TopicPartition) -> int:
        return int(self._consumer.beginning_offsets([place], timeout_ms=ANSWER_MAX_MS)[place])

    def _newest(self, place: TopicPartition) -> int:
        """Return the high watermark: no member can have committed a higher offset."""
        return int(self._consumer.end_offsets([place], timeout_ms=ANSWER_MAX_MS)[place])


def id_in(committed: Untyped) -> str:
    """Return the id of the topic in the metadata of a committed offset; empty if there is none."""
    noted = "" if committed is None else committed.metadata or ""
    return noted.removeprefix(TOPIC_ID) if noted.startswith(TOPIC_ID) else ""
