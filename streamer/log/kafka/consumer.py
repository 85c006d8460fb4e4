"""
Reading without a group: replay a partition, read a table, follow topics.

A reader sees committed records only. Its position also moves over offsets that it does not
return: aborted records and transaction markers. So once its position has reached an offset, it
has returned all records before that offset, and need not count them. At an open transaction,
the position waits before its first record.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import structlog
from kafka import TopicPartition, errors

from streamer.core.types import Partition, Record
from streamer.log import Unavailable
from streamer.log.kafka.errors import translated
from streamer.log.kafka.settings import Config, ms
from streamer.log.kafka.standalone import StandaloneConsumer, take_up
from streamer.log.kafka.untyped import Untyped

log = structlog.get_logger()

RECORDS_MAX = 10_000  # limit of one batch
FETCH_WAIT_MS = 100  # how long the broker delays an empty fetch response
LOOK_S = 5.0  # time between two checks for new partitions; the client updates its metadata itself
SILENCE_MAX_S = 10.0  # time without a record before the broker is probed
ANSWER_MAX_MS = 5000
MARGIN_S = 10.0  # extra time after the transaction timeout, for the broker to abort transactions


class Reader(StandaloneConsumer):
    """Reads a partition up to an offset, or topics without end."""

    OPTIONS: ClassVar[Config] = {"fetch_max_wait_ms": FETCH_WAIT_MS}

    def read_table(self, topic: str, number: int) -> Mapping[bytes, bytes]:
        """As `Log.read_table`."""
        partition = Partition(topic, number)
        self._topics.check(partition)
        found: dict[bytes, bytes] = {}
        for records in self._between(partition, 0, self._topics.end(partition)):
            for record in records:
                if record.value is not None:
                    found[record.key] = record.value
                else:
                    found.pop(record.key, None)
        return found

    def replay(self, partition: Partition, start: int, end: int) -> Iterator[Sequence[Record]]:
        """As `Log.replay`."""
        self._topics.check(partition)
        for records in self._between(partition, start, end):
            yield to_records(partition, records)

    def follow(
        self,
        topics: Sequence[str],
        *,
        from_start: bool,
        wait_s: float,
        since_ms: int | None = None,
        newest: int | None = None,
    ) -> Iterator[Sequence[Record]]:
        """As `Client.follow`."""
        counts = self._topics.partitions(topics)
        places = {
            TopicPartition(topic, number): Partition(topic, number)
            for topic in topics
            for number in range(counts[topic])
        }
        consumer = self._consumer()
        with translated("follow", topics):
            consumer.assign(list(places))
            offsets = consumer.beginning_offsets if from_start else consumer.end_offsets
            begin = offsets(list(places), timeout_ms=ANSWER_MAX_MS)
            if since_ms is not None:
                begin = begin_since(consumer, list(places), since_ms)
            if newest is not None:
                ends = consumer.end_offsets(list(places), timeout_ms=ANSWER_MAX_MS)
                begin = {place: max(at, ends[place] - newest) for place, at in begin.items()}
            for place, offset in begin.items():
                consumer.seek(place, offset)
        return self._follow(consumer, places, wait_s)

    def _follow(
        self,
        consumer: Untyped,
        places: Mapping[TopicPartition, Partition],
        wait_s: float,
    ) -> Iterator[Sequence[Record]]:
        silence, looked_s = LivenessProbe(), time.monotonic()
        while True:
            with translated("follow"):
                if time.monotonic() - looked_s > LOOK_S:
                    looked_s = time.monotonic()
                    places = with_new(consumer, places)
                try:
                    batches = consumer.poll(timeout_ms=ms(wait_s), max_records=RECORDS_MAX)
                except errors.OffsetOutOfRangeError as error:
                    skip_deleted(consumer, error.args[0])
                    continue
                silence.note(consumer, next(iter(places)), received=bool(batches))
            yield [
                record
                for place, records in batches.items()
                for record in to_records(places[place], records)
            ]

    def _between(self, partition: Partition, start: int, end: int) -> Iterator[Sequence[Untyped]]:
        """
        Yield the client's records with start <= offset < end, in batches.

        Waits for transactions that are open before *end*. Raises Unavailable if the position has
        not moved for longer than a transaction may last.
        """
        place = TopicPartition(*partition)
        consumer = self._consumer()
        with translated("read", [partition.topic]):
            oldest = consumer.beginning_offsets([place], timeout_ms=ms(MARGIN_S))[place]
        position = max(start, oldest)
        patience_s = self._settings.transaction_timeout + MARGIN_S
        deadline = time.monotonic() + patience_s
        idle = 0  # polls without progress since the last open transaction before *end* ended
        while position < end:
            with translated("read", [partition.topic]):
                take_up(consumer, place, position)
                batch = consumer.poll(timeout_ms=5 * FETCH_WAIT_MS, max_records=RECORDS_MAX)
                reached = consumer.position(place)
                if reached == position:
                    # The leader answers in order: it has answered all earlier fetches before this
                    # request.
                    stable = consumer.end_offsets([place], timeout_ms=ms(MARGIN_S))[place]
                    idle = idle + 1 if stable >= end else 0
            if idle > 2:  # the first poll fetches, the second receives, the third returns
                return  # all remaining offsets before *end* were compacted away
            records = batch.get(place, ())
            if records:
                yield records if reached <= end else [r for r in records if r.offset < end]
            if reached > position:
                position = reached
                idle = 0
                deadline = time.monotonic() + patience_s
            elif time.monotonic() > deadline:
                raise Unavailable(f"{partition}: a transaction stays open at offset {position}")


def with_new(
    consumer: Untyped, places: Mapping[TopicPartition, Partition]
) -> Mapping[TopicPartition, Partition]:
    """*places* and the partitions added to their topics, which are read from the start."""
    topics = {partition.topic for partition in places.values()}
    found = {
        TopicPartition(t, n): Partition(t, n)
        for t in topics
        for n in consumer.partitions_for_topic(t)
    }
    new = sorted(found.keys() - places.keys())
    if not new:
        return places
    consumer.assign([*places, *new])
    for place, offset in consumer.beginning_offsets(new, timeout_ms=ANSWER_MAX_MS).items():
        consumer.seek(place, offset)
    return {**places, **{place: found[place] for place in new}}


class LivenessProbe:
    """Probes the broker after a long silence, as an idle broker and a dead one look alike."""

    def __init__(self) -> None:
        self._since_s = time.monotonic()

    def note(self, consumer: Untyped, place: TopicPartition | None, *, received: bool) -> bool:
        """
        Return whether the leader of *place* was probed, which happens after a long silence.

        Raises the client's KafkaTimeoutError if the leader does not answer.
        """
        if received:
            self._since_s = time.monotonic()
        if place is None or time.monotonic() - self._since_s <= SILENCE_MAX_S:
            return False
        consumer.beginning_offsets([place], timeout_ms=ANSWER_MAX_MS)
        self._since_s = time.monotonic()
        return True


def to_records(partition: Partition, records: Sequence[Untyped]) -> list[Record]:
    """Convert the client's records to `Record`."""
    return [
        Record(
            partition,
            record.offset,
            record.key,
            record.value,
            record.timestamp,
            tuple(record.headers) if record.headers else (),
        )
        for record in records
    ]


def skip_deleted(consumer: Untyped, offsets: Mapping[TopicPartition, int]) -> None:
    """Go on with the oldest record that the log keeps: those at *offsets* were deleted."""
    oldest = consumer.beginning_offsets(list(offsets), timeout_ms=ANSWER_MAX_MS)
    for place, offset in offsets.items():
        consumer.seek(place, oldest[place])
        log.warning(
            "input.offset_out_of_range",
            topic=place.topic,
            partition=place.partition,
            start=offset,
            end=oldest[place],
            records=max(0, oldest[place] - offset),
        )


def begin_since(
    consumer: Untyped, places: Sequence[TopicPartition], since_ms: int
) -> dict[TopicPartition, int]:
    """Of each partition: the first offset with a timestamp from *since_ms* on, or else its end."""
    ends = consumer.end_offsets(places, timeout_ms=ANSWER_MAX_MS)
    found = consumer.offsets_for_times(dict.fromkeys(places, since_ms), timeout_ms=ANSWER_MAX_MS)
    return {
        place: ends[place] if found.get(place) is None else found[place].offset for place in places
    }
