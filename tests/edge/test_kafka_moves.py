"""Partitions that nobody holds are asked after, and nobody asks for ever at one pace."""

from types import SimpleNamespace

import pytest

from streamer.edge import kafka_moves
from streamer.edge.kafka_moves import IDLE_MAX_S, LET_GO_MAX_S, Assignor, Idleness


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
