"""Records of several partitions in the order of their times."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from streamer.core.merge import Merge, next_offsets
from streamer.core.types import Partition, Record

A, B = Partition("a", 0), Partition("b", 0)


def records(partition, *times_ms):
    return [Record(partition, n, None, b"", time_ms) for n, time_ms in enumerate(times_ms)]


def test_partitions_are_merged_by_time():
    """Each keeps its own order, whatever its times are."""
    merge = Merge()
    merge.add([*records(A, 10, 30, 20), *records(B, 15, 25)])
    taken = merge.take(9)
    assert [(r.partition, r.time_ms) for r in taken] == [
        (A, 10),
        (B, 15),
        (B, 25),
        (A, 30),
        (A, 20),
    ]
    assert next_offsets(taken) == {A: 3, B: 2}
    assert merge.held == 0


def test_a_partition_that_is_behind_holds_the_others_back():
    """Up to what it has given; one that gave nothing holds back all."""
    merge = Merge()
    merge.add([*records(A, 10, 20), *records(B, 15, 25)])
    assert [r.time_ms for r in merge.take(9, [A])] == [10, 15, 20]
    assert merge.take(9, [A]) == []
    assert merge.take(9, [A, Partition("c", 0)]) == []
    assert [r.time_ms for r in merge.take(9)] == [25]


def test_a_revoked_partition_is_forgotten():
    merge = Merge()
    merge.add([*records(A, 10), *records(B, 15)])
    merge.release([A])
    assert merge.held == 1
    assert [r.partition for r in merge.take(9, [A])] == []
    assert [r.partition for r in merge.take(9)] == [B]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 9)), max_size=40), st.integers(1, 5))
def test_every_record_is_taken_once_and_in_the_order_of_its_partition(times, most):
    """With any times, in pieces of any size, while some are behind."""
    chance = Random(0)
    lanes = {Partition("t", n): [] for n in range(4)}
    merge, taken = Merge(), []
    for number, time_ms in times:
        lane = lanes[Partition("t", number)]
        lane.append(Record(Partition("t", number), len(lane), None, b"", time_ms))
        merge.add(lane[-1:])
        if chance.random() < 0.3:
            taken += merge.take(most, [p for p in lanes if chance.random() < 0.3])
    while merge.held:
        taken += merge.take(most)
    assert {p: [r for r in taken if r.partition == p] for p in lanes} == lanes
