"""Rows are saved in pages and come back as they were."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.features import grid
from streamer.core.state import checkpoint, restoring
from streamer.core.state.page_format import Unreadable, decode, encode, type_of
from streamer.core.state.table import PAGE_ROWS, FlowTable, row_type
from streamer.core.types import Partition

P, Q = Partition("traffic.counters", 0), Partition("traffic.counters", 1)
DIGESTS = {0: "weights shipped", 3: "weights of the third"}
LAYOUT = [*grid.COLUMNS, ("state", "f4", (2, 8)), ("scale", "f8")]


def arena_of(flows, *, flows_max=10_000, seed=0):
    """An arena with *flows* of P, their rows full of noise."""
    arena = FlowTable(LAYOUT, flows_max)
    arena.generation = 3
    arena.add_partition(P, flows_max)
    slots = np.array([arena.allocate(P, flow) for flow in flows], np.intp)
    rows = arena.gather(slots)
    noise = np.random.default_rng(seed).bytes(rows.nbytes)
    rows[:] = np.frombuffer(noise, rows.dtype)
    rows["offset"] = np.arange(1, len(rows) + 1)
    arena.scatter(slots, rows)
    return arena


def saved(arena, *, offset, table=None, progress=None, share=1.0):
    """The state topic after a turn; as a rule one that saves a whole round."""
    progress = progress or checkpoint.CheckpointProgress(floor=0, floor_saved=False)
    table = {} if table is None else table
    for entry in checkpoint.due_pages(
        progress, arena, P, next_offset=offset, share=share, digests=DIGESTS
    ):
        if entry.value is None:
            table.pop(entry.key, None)
        else:
            table[entry.key] = entry.value
    return table


def known(generation, digest):
    """What weights there are."""
    return DIGESTS.get(generation) == digest


def restore(arena, table, committed):
    return restoring.restore(arena, P, table, committed, known)


def row_of(arena, flow):
    (slot,) = arena.find(P, (flow,))
    return None if slot is None else arena.rows[slot].tobytes()


@given(st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=150), st.integers(0, 99))
def test_what_is_saved_is_what_is_restored(flows, seed):
    """Same flows, same bytes, in the same pages."""
    arena = arena_of(flows, seed=seed)
    table = saved(arena, offset=500)
    again = FlowTable(LAYOUT, 10_000)
    again.add_partition(P, 10_000)
    restored = restore(again, table, 500)
    assert {f: row_of(again, f) for f in flows} == {f: row_of(arena, f) for f in flows}
    assert len(again) == len(flows)
    assert restored.progress.floor == 500
    assert restored.generations == (frozenset({3}) if flows else frozenset())


def test_a_partitions_entries_are_its_own():
    """Two partitions may share a partition of the state topic."""
    table = saved(arena_of(["a"]), offset=9)
    other = FlowTable(LAYOUT, 100)
    other.add_partition(Q, 100)
    assert restoring.restore(other, Q, table, 4, known).progress.floor == 4
    assert len(other) == 0


def test_only_what_changed_is_written_again():
    """A quiet page costs nothing."""
    arena = arena_of([f"f{i}" for i in range(3 * PAGE_ROWS)])
    progress = checkpoint.CheckpointProgress(floor=0, floor_saved=False)
    saved(arena, offset=10, progress=progress)
    slots = np.array(arena.find(P, ["f70"]), np.intp)
    arena.scatter(slots, arena.gather(slots))
    entries = checkpoint.due_pages(progress, arena, P, next_offset=20, share=1.0, digests=DIGESTS)
    assert [entry.key.rsplit(b"/", 2)[-2:] for entry in entries] == [
        [b"page", b"1"],
        [b"0", b"floor"],
    ]


def test_the_floor_is_the_offset_at_which_the_round_began():
    """A page written early in the round contains fewer readings than one written late."""
    arena = arena_of([f"f{i}" for i in range(4 * PAGE_ROWS)])
    progress = checkpoint.CheckpointProgress(floor=0, floor_saved=True)
    floors = []
    for turn in range(1, 9):
        checkpoint.due_pages(
            progress, arena, P, next_offset=100 * turn, share=0.25, digests=DIGESTS
        )
        floors.append(progress.floor)
    assert floors == [0, 0, 0, 100, 100, 100, 100, 500]


def test_an_evicted_flow_stays_evicted_though_its_page_is_old():
    """Its readings before the offset of its eviction are not read again."""
    arena = arena_of(["a", "b"])
    progress = checkpoint.CheckpointProgress(floor=0, floor_saved=False)
    table = saved(arena, offset=10, progress=progress)
    evicted = arena.evict(P, 1)
    (entry,) = checkpoint.record_evictions(progress, P, evicted, 15)
    table[entry.key] = entry.value
    again = FlowTable(LAYOUT, 100)
    again.add_partition(P, 100)
    restored = restore(again, table, 20)
    assert row_of(again, evicted[0]) is None
    assert restored.needed == {evicted[0]: 15}

    saved(arena, offset=20, table=table, progress=progress)
    assert not [key for key in table if b"/gone/" in key]


def test_an_eviction_is_remembered_past_a_round_that_began_right_before_it():
    """The round's pages may have been saved before the eviction, at the very same offset."""
    arena = arena_of([f"f{i}" for i in range(2 * PAGE_ROWS)])
    progress = checkpoint.CheckpointProgress(floor=0, floor_saved=False)
    table = {}

    def save(offset, share):
        for entry in checkpoint.due_pages(
            progress, arena, P, next_offset=offset, share=share, digests=DIGESTS
        ):
            table.pop(entry.key, None)
            if entry.value is not None:
                table[entry.key] = entry.value

    save(300, 0.5)  # the round begins at 300, and the first page is saved
    arena.rows["time"] = np.arange(len(arena.rows))
    (evicted,) = arena.evict(P, 1)
    (entry,) = checkpoint.record_evictions(progress, P, [evicted], 300)
    table[entry.key] = entry.value
    save(301, 0.5)  # the round ends
    again = FlowTable(LAYOUT, 1000)
    again.add_partition(P, 1000)
    restore(again, table, 301)
    assert progress.floor == 300
    assert row_of(again, evicted) is None


def test_of_two_rows_of_a_flow_the_newer_one_counts():
    """It was evicted, and allocated again in another page, before its old page was saved."""
    flows = [f"f{i}" for i in range(PAGE_ROWS + 1)]
    arena = arena_of(flows)
    table = saved(arena, offset=100)
    last = f"{P.topic}/0/page/1".encode()
    names, rows, *_ = decode(table[last], arena.rows.dtype)
    rows = rows.copy()
    rows["offset"] = 90
    table[last] = encode(["f0"], rows, 3)
    again = FlowTable(LAYOUT, 1000)
    again.add_partition(P, 1000)
    restore(again, table, 100)
    assert names == [f"f{PAGE_ROWS}"]
    assert again.rows["offset"][again.find(P, ["f0"])[0]] == 90
    assert again.changed(P, 0)


def test_rows_of_larger_pages_get_a_slot():
    """The size of a page may change from one version to the next."""
    flows = [f"f{i}" for i in range(100)]
    arena = arena_of(flows)
    again = FlowTable(LAYOUT, 1000, page_rows=24)
    again.add_partition(P, 1000)
    restore(again, saved(arena, offset=500), 500)
    assert {f: row_of(again, f) for f in flows} == {f: row_of(arena, f) for f in flows}
    assert all(again.changed(P, page) for page in range(again.pages(P)))


def test_rows_of_larger_pages_are_never_without_a_page():
    """They are saved in their new pages before the page that they come from is cut."""
    flows = [f"f{i}" for i in range(100)]
    table = saved(arena_of(flows), offset=500)
    again = FlowTable(LAYOUT, 1000, page_rows=24)
    again.add_partition(P, 1000)
    progress = restore(again, table, 500).progress
    for turn in range(1, again.pages(P) + 1):
        saved(again, offset=500 + turn, table=table, progress=progress, share=1 / again.pages(P))
        third = FlowTable(LAYOUT, 1000)
        third.add_partition(P, 1000)
        restore(third, table, 500 + turn)
        assert set(third._holdings[P].slots) == set(flows), turn
    assert progress.floor == 501


@pytest.mark.parametrize("turns", [0, 1])
def test_a_page_that_is_saved_out_of_turn_leaves_no_row_without_a_page(turns):
    """As in a migration to new weights, before a round begins or during one."""
    flows = [f"f{i}" for i in range(100)]
    table = saved(arena_of(flows), offset=500)
    again = FlowTable(LAYOUT, 1000, page_rows=24)
    again.add_partition(P, 1000)
    progress = restore(again, table, 500).progress
    for turn in range(1, turns + 1):
        saved(again, offset=500 + turn, table=table, progress=progress, share=1 / again.pages(P))
    for entry in checkpoint.save_now(progress, again, P, 0, DIGESTS):
        table[entry.key] = entry.value
    third = FlowTable(LAYOUT, 1000)
    third.add_partition(P, 1000)
    restore(third, table, 500 + turns)
    assert set(third._holdings[P].slots) == set(flows)


def test_rows_of_another_layout_are_carried_over_by_name():
    """A column of the same name and type keeps its value, any other begins at zero."""
    arena = arena_of(["a", "b"])
    page = encode(*arena.rows_of_page(P, 0), 3)
    wider = row_type([*grid.COLUMNS, ("new", "f8"), ("state", "f2", (2, 8)), ("scale", "f8")])
    flows, rows, *_ = decode(page, wider)
    assert flows == ["a", "b"]
    assert rows["scale"].tobytes() == arena.rows["scale"][:2].tobytes()
    assert not rows["state"].any()
    assert not rows["new"].any()


def test_a_row_without_its_position_is_read_again():
    """Without the grid's columns the page is refused, and the input is read from its start."""
    other = np.zeros(1, np.dtype([("time", "f4"), ("offset", "i8")]))
    page = encode(["a"], other, 3)
    arena = arena_of([])
    restored = restore(arena, {f"{P.topic}/0/page/0".encode(): page}, 700)
    assert restored.progress.floor == 0
    assert len(restored.unreadable) == 1
    assert len(arena) == 0


@given(st.binary(max_size=80), st.integers(0, 400))
def test_bytes_that_are_not_a_page_are_never_misread(junk, cut):
    """Cut short, changed at the front, or not a page at all: Unreadable."""
    arena = arena_of(["a", "b"])
    page = encode(*arena.rows_of_page(P, 0), 3)
    for bad in (junk, page[: min(cut, len(page) - 1)], junk + page[len(junk) :]):
        if bad == page:
            continue
        try:
            flows, rows, *_ = decode(bad, arena.rows.dtype)
        except Unreadable:
            continue
        assert len(flows) == len(rows)


def test_a_layout_with_objects_is_refused():
    """A page is data; it must not make numpy build anything else."""
    layout = msgspec.msgpack.encode([("x", "|O", [], 0)])
    with pytest.raises(Unreadable):
        type_of(layout, 8)
