"""Who sits where in the arena."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.state.table import PAGE_ROWS, FlowTable, row_type
from streamer.core.types import Partition

P, Q = Partition("t", 0), Partition("t", 1)


def arena(flows_max=1000):
    made = FlowTable([("mark", "i8")], flows_max)
    made.add_partition(P, flows_max // 2)
    made.add_partition(Q, flows_max // 2)
    return made


@given(
    st.lists(
        st.tuples(
            st.sampled_from([P, Q]), st.sampled_from(["allocate", "evict"]), st.integers(0, 300)
        ),
        max_size=200,
    )
)
def test_a_flow_has_one_slot_and_a_slot_holds_one_flow(moves):
    """Through any order of allocator and evicting; a page is of one partition."""
    made, truth = arena(), {}
    for partition, move, number in moves:
        flow = f"{number}"
        if move == "allocate" and (partition, flow) not in truth:
            slot = made.allocate(partition, flow)
            made.rows["time"][slot] = number
            made.rows["mark"][slot] = number
            truth[partition, flow] = number
        elif move == "evict":
            for evicted in made.evict(partition, number % 3):
                oldest = min((t, f) for (p, f), t in truth.items() if p == partition)
                assert evicted == oldest[1]
                del truth[partition, evicted]
    slots = {key: made.find(key[0], (key[1],))[0] for key in truth}
    assert len(set(slots.values())) == len(made) == len(truth)
    assert {key: int(made.rows["mark"][slot]) for key, slot in slots.items()} == truth
    pages = {P: set(), Q: set()}
    for (partition, _), slot in slots.items():
        pages[partition].add(slot // PAGE_ROWS)
    assert not pages[P] & pages[Q]


def test_a_released_partition_leaves_nothing_behind():
    """Its rows are empty again, and its pages can be had by others."""
    made = arena(2 * PAGE_ROWS)
    for number in range(PAGE_ROWS):
        made.rows["mark"][made.allocate(P, f"{number}")] = 7
    made.release(P)
    assert len(made) == 0
    assert not made.rows["mark"].any()
    assert not made.dirty.any()
    made.add_partition(P, PAGE_ROWS)
    assert made.find(P, ["0"]) == [None]


def test_scatter_marks_the_pages_it_touched():
    """And only those."""
    made = arena(4 * PAGE_ROWS)
    slots = np.array([made.allocate(P, f"{i}") for i in range(2 * PAGE_ROWS)], np.intp)
    made.scatter(slots[:1], made.gather(slots[:1]))
    assert [made.changed(P, 0), made.changed(P, 1)] == [True, False]


def test_every_byte_of_a_row_has_a_name():
    """What numpy leaves between columns is undefined, and rows are saved and compared as bytes."""
    made = row_type([("a", "u1"), ("b", "f8"), ("c", "f2", (3,)), ("d", "S12")])
    assert sum(made[name].itemsize for name in made.names) == made.itemsize
    assert all(made.fields[name][1] % made[name].alignment == 0 for name in made.names)


def test_there_is_room_for_every_quota():
    """Quotas are not whole pages; the arena grows by the pages that rounding asks for."""
    made = FlowTable([("mark", "i8")], 100)
    lanes = [Partition("t", n) for n in range(10)]
    for lane in lanes:
        made.add_partition(lane, 10)
    for lane in lanes:
        for number in range(10):
            made.allocate(lane, f"{number}")
    assert len(made) == 100
