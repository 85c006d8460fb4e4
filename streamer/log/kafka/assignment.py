"""
Our share of the input: partitions that have come, and where reading goes on in them.

A partition that comes is held still until the group has said from where it is read.
That may take a while, since an offset in a transaction that is open is not told.
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

COMMITTED_MAX_MS = 1000  # a round's wait for offsets that are in an open transaction
ANSWER_MAX_MS = 10_000


class Assignment:
    """
    What *consumer* reads for us; *moves* tells what its group gives and takes.

    Where the group has no offset yet, reading begins at *start*.
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
        self.held: dict[Partition, int] = {}  # the next offset that is not yet taken as read
        self._arriving: dict[TopicPartition, float] = {}  # ours, but not yet told of; since when
        self._widths: dict[str, int] = {}  # partitions of each topic that was read
        self._missed = 0  # records that were deleted before we read them

    def __len__(self) -> int:
        """Those that are still to be told of count too."""
        return len(self.held) + len(self._arriving)

    def part(self) -> frozenset[Partition]:
        """Which of those held are gone; those that have come wait until they are settled."""
        lost = set()
        for came, place in self._moves.take():
            if came:
                self._arriving[place] = time.monotonic()
            else:
                self._arriving.pop(place, None)
                if self.held.pop(Partition(*place), None) is not None:
                    lost.add(Partition(*place))
        return frozenset(lost)

    def overtaken(self) -> frozenset[Partition]:
        """
        Which of those held others have told of meanwhile; they wait as if they had just come.

        The group gives us what we claim when we join. Who has missed a generation, asleep or busy,
        claims what was another's in between, and the client would go on where it was before.
        """
        overtaken = set()
        for partition, offset in list(self.held.items()):
            place = TopicPartition(*partition)
            try:
                committed = self._consumer.committed(place, timeout_ms=COMMITTED_MAX_MS)
            except errors.KafkaTimeoutError:
                committed = None  # in a transaction that is open: another's, as ours has ended
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
        """Where reading goes on in those that have come; some may have to wait for a later poll."""
        gained = {}
        for place, since_s in sorted(self._arriving.items()):
            try:  # the client asks for stable offsets: it waits for open transactions to end
                committed = self._consumer.committed(place, timeout_ms=COMMITTED_MAX_MS)
            except errors.KafkaTimeoutError:
                if time.monotonic() - since_s > self._settings.transaction_timeout + MARGIN_S:
                    raise Unavailable(
                        f"the group's offset of {place.topic}/{place.partition} hangs in a"
                        " transaction that no one ends (see kafka-transactions.sh find-hanging)"
                    ) from None
                continue
            offset = self._first(place) if committed is None else self.kept(place, committed)
            self._consumer.seek(place, offset)
            self._consumer.resume(place)
            gained[Partition(*place)] = offset
            del self._arriving[place]
        self.held.update(gained)
        return gained

    def kept(self, place: TopicPartition, offset: int) -> int:
        """*offset*, or the oldest that is kept where the log has it no more."""
        oldest = self._oldest(place)
        if oldest <= offset <= self._newest(place):
            return offset
        records = max(0, oldest - offset)  # 0: the topic was made anew, and is shorter than it was
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

    def note_widths(self, widths: Mapping[str, int]) -> None:
        """Say where a topic's partitions are other ones than when we joined."""
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
        """How many records were lost since this was asked last."""
        missed, self._missed = self._missed, 0
        return missed

    def lag(self) -> Mapping[Partition, int]:
        """Of those partitions whose end an answer of the broker has told."""
        lag = {}
        for partition in self.held:
            place = TopicPartition(*partition)
            end, position = self._consumer.highwater(place), self._consumer.position(place, 0)
            if end is not None and position is not None:
                lag[partition] = max(0, end - position)
        return lag

    def _first(self, place: TopicPartition) -> int:
        new = place.partition >= self._widths.get(place.topic, place.partition + 1)
        latest = self._start == "latest" and not new  # nothing was there before we came
        return self._newest(place) if latest else self._oldest(place)

    def _oldest(self, place: TopicPartition) -> int:
        return int(self._consumer.beginning_offsets([place], timeout_ms=ANSWER_MAX_MS)[place])

    def _newest(self, place: TopicPartition) -> int:
        """Past all that can be read by now: nobody can have come further."""
        return int(self._consumer.end_offsets([place], timeout_ms=ANSWER_MAX_MS)[place])
