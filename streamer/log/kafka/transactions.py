"""
Turns told in one stroke: a producer whose transactions end in time.

Two things that the client leaves to its caller are done here. Its waits for the
end of a transaction have no limit, so that a broker that is gone would hold a
turn for ever: ours have a deadline. And it commits a transaction even if records
of it were given up on the way: ours looks at each before it commits.

The client speaks the transactions of before KIP-890: if an end is not known for
certain, nobody can find out. Then the producer is done for; the next one of its
name aborts whatever was left open.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence

from kafka import ConsumerGroupMetadata, KafkaProducer, OffsetAndMetadata, TopicPartition, errors
from kafka.serializer import Serializer

from streamer.core.types import Message, Partition
from streamer.log import Unavailable
from streamer.log.kafka.errors import translate
from streamer.log.kafka.settings import KafkaSettings, common, connect, ms, writing
from streamer.log.kafka.untyped import Untyped

ABORT_MAX_S = 2.0  # what a courtesy may take: the broker aborts by itself in the end
CLOSE_MAX_S = 2.0
NOTHING = b"\0nothing"  # stands for no value, where there is no key either


class NullAwareSerializer(Serializer):  # type: ignore[misc]  # the client ships no types
    """Lets a record through that has neither key nor value, which the client won't send."""

    def serialize(self, _topic: str, _headers: object, value: bytes | None) -> bytes | None:
        """Bytes are bytes."""
        return None if value is NOTHING else value


class Producer(KafkaProducer):  # type: ignore[misc]  # the client ships no types
    """The client's producer, with limits to its waiting; *deadline* is of `time.monotonic`."""

    def add_offsets(self, offsets: Mapping[TopicPartition, Untyped], member: object) -> Untyped:
        """Have the group's offsets join the transaction; the answer is yet to be awaited."""
        result = self._transaction_manager.send_offsets_to_transaction(offsets, member)
        self._sender.wakeup()
        return result

    def send_all(self, messages: Iterable[Message]) -> list[Untyped]:
        """
        As `send` of each, at half the cost.

        The first record of each partition goes the client's own way, which finds
        the topic, has the partition join the transaction, and raises where either
        can't be. That holds for the plain ones after it, and is not asked again.
        """
        append, wake = self._accumulator.append, self._sender.wakeup
        plain = self.config["max_request_size"] // 2  # bytes: far below what would be refused
        joined: dict[tuple[str, int | None], TopicPartition] = {}
        futures = []
        for message in messages:
            topic, partition, key, value, headers, time_ms = message
            place = joined.get((topic, partition))
            size = len(key or b"") + len(value or b"")
            if place is None or headers or value is None or size > plain:
                futures.append(send(self, message))
                if partition is not None:
                    joined[topic, partition] = TopicPartition(topic, partition)
                continue
            future, full, begun, _ = append(place, time_ms, key, value, [])
            futures.append(future)
            if full or begun:
                wake()
        return futures

    def wait_for_sends(self, futures: Sequence[Untyped], deadline: float) -> None:
        """
        Return when all of *futures* have succeeded; raise the first error of any.

        The client's own `flush` stumbles over a batch that the broker had it split.
        """
        self._accumulator.begin_flush()
        self._sender.wakeup()
        try:
            for future in futures:
                if not future.is_done:
                    future.get(timeout=max(0.0, deadline - time.monotonic()))
                elif future.exception is not None:
                    raise future.exception
        finally:
            self._accumulator._flushes_in_progress.decrement()  # noqa: SLF001 - as `flush` ends

    def commit_until(self, deadline: float) -> None:
        """Raise the client's errors where it is not committed, or not known to be."""
        self.await_until(self._transaction_manager.begin_commit(), deadline, "commit")

    def abort_until(self, deadline: float) -> None:
        """Raise the client's errors where there is nothing that can be aborted."""
        self.await_until(self._transaction_manager.begin_abort(), deadline, "abort")

    def await_until(self, result: Untyped, deadline: float, what: str) -> None:
        """Raise KafkaTimeoutError where it doesn't come."""
        self._sender.wakeup()
        if not result.wait(timeout_ms=max(0.0, deadline - time.monotonic()) * 1000):
            raise errors.KafkaTimeoutError(f"{what} is not answered")

    @property
    def cause(self) -> Exception | None:
        """What made the transaction impossible; the client raises mere hints at it."""
        return self._transaction_manager.last_error if self._transaction_manager else None

    def end(self) -> None:
        """Let go of everything at once, whatever is under way; never raises."""
        with contextlib.suppress(Exception):
            self._sender.force_close()
            self._sender.join(CLOSE_MAX_S)
        with contextlib.suppress(Exception):
            self.close(timeout=0)


class Transactions:
    """The one who tells in the name of *identity*; whoever did so before is fenced."""

    def __init__(
        self, bootstrap: str, settings: KafkaSettings, client_id: str, identity: str
    ) -> None:
        config = common(bootstrap, settings, client_id) | writing(settings)
        config["transactional_id"] = identity
        config["transaction_timeout_ms"] = ms(settings.transaction_timeout)
        config["value_serializer"] = NullAwareSerializer()
        self._patience_s = float(settings.transaction_timeout)
        self._producer: Producer = connect(Producer, config)
        try:
            self._producer.init_transactions()
        except errors.KafkaError as error:
            self._producer.end()
            raise translate(error, f"transactions of {identity}") from error

    def publish(
        self,
        messages: Iterable[Message],
        offsets: Mapping[Partition, int],
        member: ConsumerGroupMetadata,
    ) -> None:
        """
        As `Log.publish`, on behalf of *member*; no offsets, nothing asked of the group.

        The topics must exist.
        """
        try:
            self._publish(messages, offsets, member, time.monotonic() + self._patience_s)
        except (errors.KafkaError, OSError) as error:
            cause = self._producer.cause or error
            self._abort()
            raise translate(cause, "publish") from error
        except (ValueError, AssertionError) as error:  # the client's, of a partition not there
            self._abort()
            raise Unavailable(f"publish: {error}") from error
        except Exception:  # what the messages raise, as they are written out
            self._abort()
            raise

    def close(self) -> None:
        """At once; what is under way is aborted by the broker or by the next of our name."""
        self._producer.end()

    def _publish(
        self,
        messages: Iterable[Message],
        offsets: Mapping[Partition, int],
        member: ConsumerGroupMetadata,
        deadline: float,
    ) -> None:
        producer = self._producer
        producer.begin_transaction()
        sent = producer.send_all(messages)
        if offsets:
            places = {
                TopicPartition(*partition): OffsetAndMetadata(offset, "", -1)
                for partition, offset in offsets.items()
            }
            taken = producer.add_offsets(places, member)
        producer.wait_for_sends(sent, deadline)
        if offsets:
            producer.await_until(taken, deadline, "the group's coordinator")
        producer.commit_until(deadline)

    def _abort(self) -> None:
        """A courtesy to those who wait for the transaction's end. An end unknown stays as it is."""
        with contextlib.suppress(errors.KafkaError, OSError):
            self._producer.abort_until(time.monotonic() + ABORT_MAX_S)


def send(producer: KafkaProducer, message: Message) -> Untyped:
    """The client's future of *message*."""
    topic, partition, key, value, headers, time_ms = message
    if value is None and key is None:
        value = NOTHING
    return producer.send(topic, value, key, list(headers) or None, partition, time_ms)
