"""Members without partitions request a rebalance, at growing intervals."""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from kafka.coordinator.base import MemberState

from streamer.config.types import Duration
from streamer.core.types import Message
from streamer.log import TopicConfig
from streamer.log.kafka import rebalance
from streamer.log.kafka.client import KafkaClient
from streamer.log.kafka.log import KafkaLog, KafkaSettings
from streamer.log.kafka.rebalance import (
    FIRST_JOIN_S,
    IDLE_MAX_S,
    LET_GO_MAX_S,
    Assignor,
    FirstJoinTimer,
    IdleRejoinTimer,
)

SETTINGS = KafkaSettings(session_timeout=Duration(6), request_timeout=Duration(5))


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(s=1000.0)
    monkeypatch.setattr(rebalance.time, "monotonic", lambda: now.s)
    return now


def member(name, owned=()):
    assignor = Assignor()
    assignor.member_assignment = [rebalance.TopicPartition("counters", n) for n in owned]
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


def test_a_member_without_partitions_asks_less_and_less_often(clock):
    """Each wait is twice the last, up to a limit; a member with partitions starts again."""
    idleness, waits, last = IdleRejoinTimer(), [], clock.s
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


def test_a_member_that_was_given_what_it_had_looks_once(clock):
    """Not if it assigned the partitions itself, nor if there was a rebalance since it joined."""
    for has_assigned, later, asks in ((False, 7, [True, False]), (True, 7, []), (False, 8, [])):
        timer = FirstJoinTimer()
        assert not timer.overdue(7, has_assigned=has_assigned)
        clock.s += FIRST_JOIN_S
        found = [timer.overdue(later, has_assigned=has_assigned) for _ in range(2)]
        assert found == (asks or [False, False])


def at_rest(members, partitions):
    """The group's generation, once each of *members* has it and all partitions are assigned."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        for each in members:
            each.poll(0.05, 1)
        known = [each._consumer.group_metadata() for each in members]
        stable = all(each.state is MemberState.STABLE for each in known)
        held = sum(len(each._share.held) for each in members)
        if stable and len({each.generation_id for each in known}) == 1 and held == partitions:
            return known[0].generation_id
    raise AssertionError("the group never comes to rest")


def test_a_rejoin_of_a_member_without_partitions_is_answered_again(bootstrap):
    """The broker answers a member that joins as it did before with what it was given before."""
    name = f"idle.{uuid.uuid4().hex[:8]}"
    client = KafkaClient(bootstrap, SETTINGS)
    client.create(name, TopicConfig(1, compact=False))
    client.close()
    members = [
        KafkaLog(bootstrap, SETTINGS, group=name, instance=each, topics=[name]) for each in "ab"
    ]

    try:
        before = at_rest(members, partitions=1)
        (idle,) = [each for each in members if not each._share.held]
        idle._assignor.ask()
        idle._consumer._coordinator.request_rejoin()
        ends = time.monotonic() + 20
        while at_rest(members, partitions=1) == before:
            assert time.monotonic() < ends, "the group did not rebalance again"
    finally:
        for each in members:
            each.close()


def test_a_member_removed_while_it_joined_starts_at_the_groups_offsets(bootstrap):
    """Asleep while it joins, it detects its loss by the answer to its next request."""
    name = f"asleep.{uuid.uuid4().hex[:8]}"
    client = KafkaClient(bootstrap, SETTINGS)
    client.create(name, TopicConfig(2, compact=False))
    client.close()
    sleeper, other = members = [
        KafkaLog(bootstrap, SETTINGS, group=name, instance=each, topics=[name]) for each in "ab"
    ]

    def keep_polling(log, done):
        ends = time.monotonic() + 40
        while not done():
            assert time.monotonic() < ends, "it never comes to that"
            log.poll(0.05, 1)

    coordinator = sleeper._consumer._coordinator
    awake, process = threading.Event(), coordinator._process_join_group_response

    share_out = other._assignor.assign

    def believing_the_sleeper(cluster, members):
        """Of two members that claim the same partition the leader accepts the last."""
        return share_out(cluster, sorted(members, key=lambda each: each.member_id, reverse=True))

    def slow_process(*answer):
        awake.wait(40)
        return process(*answer)

    other._assignor.assign = believing_the_sleeper
    try:
        at_rest(members, partitions=2)
        other.publish([Message(name, number, b"flow", b"1") for number in (0, 1)] * 3, {})
        coordinator._process_join_group_response = slow_process
        other._assignor.ask()
        other._consumer._coordinator.request_rejoin()
        with ThreadPoolExecutor() as pool:
            asleep = pool.submit(keep_polling, sleeper, awake.is_set)
            keep_polling(other, lambda: len(other._share.held) == 2)
            other.publish([], dict.fromkeys(other._share.held, 2))
            awake.set()
            asleep.result()
        at_rest(members, partitions=2)
        held = [offset for each in members for offset in each._share.held.values()]
        assert held == [2, 2]
    finally:
        awake.set()
        for each in members:
            each.close()


def test_partitions_are_handed_out_when_the_join_after_the_first_has_ended(bootstrap, monkeypatch):
    """A turn that begins in between would be published under a generation that is over."""
    name = f"again.{uuid.uuid4().hex[:8]}"
    client = KafkaClient(bootstrap, SETTINGS)
    client.create(name, TopicConfig(1, compact=False))
    client.close()
    log = KafkaLog(bootstrap, SETTINGS, group=name, instance="a", topics=[name])
    poll, joins = KafkaLog._poll, []

    def joined_twice(self, wait_s, records_max):
        found = poll(self, wait_s, records_max)
        if self._moves._noted and not joins:
            joins.append(self._consumer.group_metadata().generation_id)
            self._assignor.ask()
            self._consumer._coordinator.request_rejoin()
            self._consumer.poll(timeout_ms=0)
        return found

    monkeypatch.setattr(KafkaLog, "_poll", joined_twice)
    ends = time.monotonic() + 30
    while not log._share.held:
        assert time.monotonic() < ends
        log.poll(0.05, 1)
    time.sleep(0.5)  # the second join is over by now
    log.publish([Message(name, 0, b"key", b"value")], {})
    assert joins
    log.close()
