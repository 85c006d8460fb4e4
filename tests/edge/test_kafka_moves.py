"""Partitions that nobody holds are asked after, and nobody asks for ever at one pace."""

import time
import uuid
from types import SimpleNamespace

import pytest
from kafka.coordinator.base import MemberState

from streamer.core.settings import Duration
from streamer.edge import kafka_moves
from streamer.edge.kafka import KafkaLog, KafkaSettings
from streamer.edge.kafka_client import KafkaClient
from streamer.edge.kafka_moves import IDLE_MAX_S, LET_GO_MAX_S, Assignor, Idleness
from streamer.log import TopicShape

SETTINGS = KafkaSettings(session_timeout=Duration(6), request_timeout=Duration(5))


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(kafka_moves.time, "monotonic", lambda: now.s)
    return now


def member(name, owned=()):
    assignor = Assignor()
    assignor.member_assignment = [kafka_moves.TopicPartition("counters", n) for n in owned]
    return SimpleNamespace(member_id=name, metadata=assignor.metadata(["counters"]))


CLUSTER = SimpleNamespace(
    topics=lambda: {"counters"},
    partitions_for_topic=lambda topic: {0, 1} if topic == "counters" else None,
)


def test_a_partition_whose_owner_never_let_go_is_asked_after(clock):
    """The leader withholds it from its next owner, and asks once its patience is over."""
    leader = Assignor()
    shared = leader.assign(CLUSTER, [member("a", owned=(0, 1)), member("b")])
    assert sum(len(each.partitions()) for each in shared.values()) == 1
    assert not leader.overdue()
    clock.s += LET_GO_MAX_S
    assert leader.overdue()
    assert not leader.overdue()
    leader.assign(CLUSTER, [member("a", owned=(0,)), member("b")])
    clock.s += 2 * LET_GO_MAX_S
    assert not leader.overdue()


def test_who_holds_nothing_asks_ever_more_seldom(clock):
    """Each wait is twice the last, up to a limit; whoever held something begins anew."""
    idleness, waits, last = Idleness(), [], clock.s
    assert not idleness.overdue(holds=False)
    while len(waits) < 9:
        clock.s += 1
        if idleness.overdue(holds=False):
            waits.append(clock.s - last)
            last = clock.s
    assert waits[:4] == [LET_GO_MAX_S * 2**n for n in range(4)]
    assert waits[-1] == IDLE_MAX_S
    assert not idleness.overdue(holds=True)
    assert not idleness.overdue(holds=False)
    clock.s += LET_GO_MAX_S
    assert idleness.overdue(holds=False)


def test_a_question_of_who_holds_nothing_is_answered_anew(bootstrap):
    """The broker answers a member that joins as it did before with what it was given before."""
    name = f"idle.{uuid.uuid4().hex[:8]}"
    client = KafkaClient(bootstrap, SETTINGS)
    client.create(name, TopicShape(1, compact=False))
    client.close()
    members = [
        KafkaLog(bootstrap, SETTINGS, group=name, instance=each, topics=[name]) for each in "ab"
    ]

    def generations():
        """Of the group as each member knows it, once it is at rest."""
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            for each in members:
                each.poll(0.05, 10)
            known = [each._consumer.group_metadata() for each in members]
            at_rest = all(each.state is MemberState.STABLE for each in known)
            if at_rest and len({each.generation_id for each in known}) == 1 and held():
                return known[0].generation_id
        raise AssertionError("the group never comes to rest")

    def held():
        return sum(len(each._held) for each in members) == 1

    try:
        before = generations()
        (idle,) = [each for each in members if not each._held]
        idle._assignor.ask()
        idle._consumer._coordinator.request_rejoin()
        ends = time.monotonic() + 20
        while generations() == before:
            assert time.monotonic() < ends, "nobody shared out anew"
    finally:
        for each in members:
            each.close()
