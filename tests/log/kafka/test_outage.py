"""A broker that is not there, goes away, or only seems to be there."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest
import structlog

from streamer.config.types import Duration
from streamer.core.types import Message, Partition
from streamer.log import Log, LogError, TopicConfig, Unavailable
from streamer.log.kafka import consumer
from streamer.log.kafka.client import KafkaClient
from streamer.log.kafka.log import KafkaLog, KafkaSettings
from tests.broker.broker import free_ports
from tests.log.contract import Member, next_offsets, numbers, published, values

SETTINGS = KafkaSettings(
    session_timeout=Duration(2),
    transaction_timeout=Duration(3),
    request_timeout=Duration(2),
    connect_timeout=Duration(1),
)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Whatever became of the broker."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.fixture
def world(broker, request) -> Iterator[World]:
    made = World(broker.bootstrap, re.sub(r"[^a-z0-9]", ".", request.node.name))
    yield made
    made.client.close()


class World:
    """An input of ten records, an output, and members that read the one and write the other."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self.bootstrap = bootstrap
        self.input, self.output = f"{name}.input", f"{name}.output"
        self.client = KafkaClient(bootstrap, SETTINGS)
        for topic in (self.input, self.output):
            self.client.create(topic, TopicConfig(1, compact=False))
        self.client.send([Message(self.input, 0, b"k", value) for value in numbers(10)])
        self.client.flush()

    def join(self, settings: KafkaSettings = SETTINGS, instance: str = "a") -> Member:
        return Member(
            KafkaLog(
                self.bootstrap, settings, group=self.input, instance=instance, topics=[self.input]
            )
        )

    def turn(self, log: Member | Log, batch) -> None:
        """As a daemon does: a result for each record, published with their offsets."""
        answers = [Message(self.output, 0, b"k", record.value) for record in batch]
        log.publish(answers, next_offsets(batch))


def within(limit_s: float, act: Callable[[], object]) -> LogError | None:
    """How the log refused, if it did; that it took no longer is asserted."""
    began = time.monotonic()
    try:
        act()
    except LogError as error:
        return error
    finally:
        assert time.monotonic() - began < limit_s
    return None


def test_an_absent_broker_is_reported_soon():
    """With the address, and the system's own reason."""
    bootstrap = f"127.0.0.1:{free_ports(1)[0]}"
    error = within(4, lambda: KafkaLog(bootstrap, SETTINGS, group="g", instance="a", topics=["t"]))
    assert isinstance(error, Unavailable)
    assert bootstrap in str(error)
    assert "ECONNREFUSED" in str(error)
    client = KafkaClient(bootstrap, SETTINGS)
    assert isinstance(within(4, client.topics), Unavailable)
    client.close()


def test_a_member_that_only_reads_detects_a_lost_broker(broker, world, monkeypatch):
    """It would look like one that has no news."""
    monkeypatch.setattr(consumer, "SILENCE_MAX_S", 1.0)
    monkeypatch.setattr(consumer, "ANSWER_MAX_MS", 1000)
    log = world.join()
    log.read(10)
    idle = world.join(instance="b")
    idle.poll()
    follower = world.client.follow([world.input], from_start=True)
    broker.kill9()
    for member in (log, idle):  # the one holds the only partition, the other none
        with pytest.raises(Unavailable):
            member.poll_until(lambda: False)
    with pytest.raises(Unavailable):
        for _ in follower:
            pass
    assert within(5, log.close) is None
    assert within(5, idle.close) is None
    broker.start()


@pytest.mark.parametrize("end", ["kill9", "suspend"])
def test_a_turn_without_an_answer_is_published_once_in_the_end(broker, world, end):
    """It may have been committed or not; the next membership finds out, and nothing is doubled."""
    log = world.join()
    batch = log.read(10)
    world.turn(log, batch[:3])
    getattr(broker, end)()
    error = within(12, lambda: world.turn(log, batch[3:]))
    assert isinstance(error, Unavailable)
    assert within(6, log.close) is None
    if end == "kill9":
        broker.start()
    else:
        broker.resume()
    back = world.join()
    [(partition, offset)] = back.take_up(1).items()
    assert partition == Partition(world.input, 0)
    assert offset in (3, 10)
    if offset == 3:
        world.turn(back, back.read(7))
    back.close()
    assert values(published(world.client, world.output, 10)) == numbers(10)


def test_a_restart_of_the_broker_is_survived_by_a_member_that_waits(broker, world):
    """Shorter than a turn may last: the same membership goes on."""
    log = world.join()
    world.turn(log, log.read(4))
    broker.restart()
    world.client.send([Message(world.input, 0, b"k", b"after")])
    world.client.flush()
    world.turn(log, log.read(7))
    log.close()
    assert values(published(world.client, world.output, 11)) == [*numbers(10), b"after"]


def test_a_member_that_its_own_lost_join_fenced_joins_again(broker, world):
    """
    The broker names a member, and dies before it has written that down.

    When it is back it has the instance under the id of its former life, and nobody else has its
    name.
    """
    settings = msgspec.structs.replace(SETTINGS, session_timeout=Duration(30))
    former = world.join(settings)
    world.turn(former, former.read(4))
    former.close()
    other = world.join(settings, "b")
    for _ in range(3):  # its join waits for the former member, which will not come
        other.poll()
    log = world.join(settings)
    coordinator = log.log._consumer._coordinator
    answered = coordinator._process_join_group_response

    def dies_having_answered(response, sent_s):
        answered(response, sent_s)
        del coordinator._process_join_group_response
        broker.kill9()
        return response

    coordinator._process_join_group_response = dies_having_answered
    log.poll_until(broker.node.ended)
    other.close()
    broker.start()
    with structlog.testing.capture_logs() as logs:
        log.read(6)
    assert [entry["event"] for entry in logs] == ["group.rejoined"]
    log.close()
