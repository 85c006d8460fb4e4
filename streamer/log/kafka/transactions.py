"""
Transactional publishing: a producer whose transactions end within a deadline.

This module adds two things that the client leaves to its caller. The client waits for the end
of a transaction without limit, so a broker that is down would block a turn forever: our waits
have a deadline. The client also commits a transaction even if it dropped records of it: we
check the result of each record before the commit.

The client uses the transaction protocol from before KIP-890: if the outcome of a commit is
unknown, it stays unknown. The producer then becomes unusable; the next producer with its
transactional id aborts the open transaction.
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

# limit for an abort, which is optional: the broker aborts after the transaction timeout
ABORT_MAX_S = 2.0
CLOSE_MAX_S = 2.0
NOTHING = b"\0nothing"  # replaces a null value if the key is null too


class NullAwareSerializer(Serializer):  # type: ignore[misc]  # the client ships no types
    """Lets a record with null key and null value pass, which the client refuses to send."""

    def serialize(self, _topic: str, _headers: object, value: bytes | None) -> bytes | None:
        """Return *value* unchanged, or None for `NOTHING`."""
        return None if value is NOTHING else value


class Producer(KafkaProducer):  # type: ignore[misc]  # the client ships no types
    """The client's producer, with limited waits; a *deadline* is in seconds of `time.monotonic`."""

    def add_offsets(self, offsets: Mapping[TopicPartition, Untyped], member: object) -> Untyped:
        """Add the group's offsets to the transaction; return the pending result."""
        result = self._transaction_manager.send_offsets_to_transaction(offsets, member)
        self._sender.wakeup()
        return result

    def send_all(self, messages: Iterable[Message]) -> list[Untyped]:
        """
        As `send` of each message, at half the cost.

        The first record of each partition uses the client's own `send`, which looks up the topic,
        adds the partition to the transaction, and raises if either fails. Plain records that follow
        in the same partition need none of that and go straight to the accumulator.
        """
        append, wake = self._accumulator.append, self._sender.wakeup
        # bytes: far below the size that the broker rejects
        plain = self.config["max_request_size"] // 2
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
            future, full, new_batch, _ = append(place, time_ms, key, value, [])
            futures.append(future)
            if full or new_batch:
                wake()
        return futures

    def wait_for_sends(self, futures: Sequence[Untyped], deadline: float) -> None:
        """
        Return when all of *futures* have succeeded; raise the first error of any.

        The client's own `flush` fails on a batch that was split because the broker rejected its
        size.
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
        """Commit; raise the client's errors if the commit failed or its outcome is unknown."""
        self.await_until(self._transaction_manager.begin_commit(), deadline, "commit")

    def abort_until(self, deadline: float) -> None:
        """Abort; raise the client's errors if there is no transaction to abort."""
        self.await_until(self._transaction_manager.begin_abort(), deadline, "abort")

    def await_until(self, result: Untyped, deadline: float, what: str) -> None:
        """Wait for *result* until *deadline*; raise KafkaTimeoutError after that."""
        self._sender.wakeup()
        if not result.wait(timeout_ms=max(0.0, deadline - time.monotonic()) * 1000):
            raise errors.KafkaTimeoutError(f"{what} is not answered")

    @property
    def cause(self) -> Exception | None:
        """The error that failed the transaction; the client's exceptions are less specific."""
        return self._transaction_manager.last_error if self._transaction_manager else None

    def end(self) -> None:
        """Close at once, whatever is in progress; never raises."""
        with contextlib.suppress(Exception):
            self._sender.force_close()
            self._sender.join(CLOSE_MAX_S)
        with contextlib.suppress(Exception):
            self.close(timeout=0)


class Transactions:
    """A transactional producer with the id *identity*; it fences an older one with the same id."""

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
        notes: Mapping[Partition, str] = {},
    ) -> None:
        """
        As `Log.publish`, on behalf of *member*; without offsets the group is not involved.

        The topics must exist. *notes* are committed with the offsets, as their metadata.
        """
        places = {
            TopicPartition(*partition): OffsetAndMetadata(offset, notes.get(partition, ""), -1)
            for partition, offset in offsets.items()
        }
        try:
            self._publish(messages, places, member, time.monotonic() + self._patience_s)
        except (errors.KafkaError, OSError) as error:
            cause = self._producer.cause or error
            self._abort()
            raise translate(cause, "publish") from error
        # raised by the client for a missing partition
        except (ValueError, AssertionError) as error:
            self._abort()
            raise Unavailable(f"publish: {error}") from error
        except Exception:  # raised by *messages* during iteration
            self._abort()
            raise

    def close(self) -> None:
        """Close at once; the broker or the next producer with our id aborts an open transaction."""
        self._producer.end()

    def _publish(
        self,
        messages: Iterable[Message],
        places: Mapping[TopicPartition, Untyped],
        member: ConsumerGroupMetadata,
        deadline: float,
    ) -> None:
        producer = self._producer
        producer.begin_transaction()
        sent = producer.send_all(messages)
        if places:
            taken = producer.add_offsets(places, member)
        producer.wait_for_sends(sent, deadline)
        if places:
            producer.await_until(taken, deadline, "the group's coordinator")
        producer.commit_until(deadline)

    def _abort(self) -> None:
        """Abort early, so that readers need not wait. An unknown outcome stays unknown."""
        with contextlib.suppress(errors.KafkaError, OSError):
            self._producer.abort_until(time.monotonic() + ABORT_MAX_S)


def send(producer: KafkaProducer, message: Message) -> Untyped:
    """Send *message*; return the client's future."""
    topic, partition, key, value, headers, time_ms = message
    if value is None and key is None:
        value = NOTHING
    return producer.send(topic, value, key, list(headers) or None, partition, time_ms)
