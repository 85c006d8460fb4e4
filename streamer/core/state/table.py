"""The flow table: the state of all flows, one row per flow."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Columns, Rows, Slots
from streamer.core.types import Partition

PAGE_ROWS = 64
ROW_ALIGNMENT = 8  # bytes

COLUMNS: Columns = [
    ("time", "f8"),  # of the newest reading: the flow's event clock
    ("offset", "i8"),  # the next offset that the row needs; it contains all earlier records
]


def row_type(columns: Columns) -> np.dtype[np.void]:
    """
    The type of a row with the stages' *columns*.

    Wide columns come first, so that each is aligned and read in place. The padding at the end is
    a named column: numpy would leave the bytes of unnamed padding undefined,
    and a row's bytes are saved and compared.
    """
    every = sorted(COLUMNS + columns, key=lambda column: -np.dtype(column[1]).alignment)
    packed = np.dtype(every)
    spare = -packed.itemsize % ROW_ALIGNMENT
    filled = np.dtype([*every, ("spare", "u1", (spare,))] if spare else every, align=True)
    assert filled.itemsize == packed.itemsize + spare
    return filled


def whole(rows: Rows) -> NDArray[np.void]:
    """The same rows as a type without columns: numpy copies it seven times as fast."""
    return rows.view(f"V{rows.dtype.itemsize}")


@dataclass(slots=True)
class PartitionRows:
    """The rows of one partition: its pages, and the slots of its flows."""

    flows_max: int
    slots: dict[str, int] = field(default_factory=dict)
    pages: list[int] = field(default_factory=list)  # the first slot of each
    free: list[int] = field(default_factory=list)  # a heap: low pages fill first


class FlowTable:
    """
    A table for *flows_max* flows, preallocated at the start.

    Rows are stored in pages of *page_rows* adjacent slots, and a page belongs to one
    partition, so that rows that are saved together are adjacent. A slot is a
    row's index; a flow has one slot, and a slot holds one flow. Each
    stage names the columns that it uses; an empty row is all zero.
    """

    def __init__(self, columns: Columns, flows_max: int, page_rows: int = PAGE_ROWS) -> None:
        pages = -(-flows_max // page_rows)
        self.page_rows = page_rows
        self.rows: Rows = np.zeros(pages * page_rows, row_type(columns))
        self._whole = whole(self.rows)
        self.names: list[str | None] = [None] * len(self.rows)
        self.dirty: NDArray[np.bool_] = np.zeros(pages, bool)  # changed since it was saved
        self.generations: NDArray[np.int64] = np.zeros(pages, np.int64)  # of each page's state
        self.generation = 0  # of newly opened pages
        self._spare = list(range(pages))[::-1]
        self._holdings: dict[Partition, PartitionRows] = {}

    def __len__(self) -> int:
        return sum(len(holding.slots) for holding in self._holdings.values())

    @property
    def partitions(self) -> Iterable[Partition]:
        """The partitions that have rows here."""
        return self._holdings.keys()

    def add_partition(self, partition: Partition, flows_max: int) -> None:
        """Add a partition with at most *flows_max* flows."""
        assert partition not in self._holdings
        self._holdings[partition] = PartitionRows(flows_max)

    def release(self, partition: Partition) -> None:
        """Drop the flows of a partition that is no longer assigned."""
        holding = self._holdings.pop(partition)
        for first in holding.pages:
            self._clear(np.arange(first, first + self.page_rows))
            self.dirty[first // self.page_rows] = False
            self._spare.append(first // self.page_rows)

    def find(self, partition: Partition, flows: Iterable[str]) -> list[int | None]:
        """The slot of each flow, None if it has none."""
        return list(map(self._holdings[partition].slots.get, flows))

    def shared(self, partition: Partition, flows: Collection[str], most: int) -> list[str]:
        """At most *most* of *flows* that have a slot in the partition, in order."""
        here = self._holdings[partition].slots
        if here.keys().isdisjoint(flows):
            return []
        return list(islice((flow for flow in flows if flow in here), most))

    def flows(self, partition: Partition) -> Collection[str]:
        """All flows that have a slot in the partition."""
        return self._holdings[partition].slots.keys()

    def free_slots(self, partition: Partition) -> int:
        """How many more flows the partition may hold."""
        holding = self._holdings[partition]
        return holding.flows_max - len(holding.slots)

    def quota(self, partition: Partition) -> int:
        """How many flows the partition may hold in all."""
        return self._holdings[partition].flows_max

    def allocate(self, partition: Partition, flow: str) -> int:
        """Allocate a slot for a flow that has none."""
        holding = self._holdings[partition]
        assert flow not in holding.slots
        if not holding.free:
            self._open_page(holding)
        slot = heapq.heappop(holding.free)
        holding.slots[flow] = slot
        self.names[slot] = flow
        return slot

    def evict(self, partition: Partition, number: int) -> list[str]:
        """
        Evict the *number* flows of a partition whose newest readings are the oldest.

        Flows are ordered by event time, then by name. So the result does not
        depend on the slots of the flows.
        """
        holding = self._holdings[partition]
        slots = np.fromiter(holding.slots.values(), np.intp, len(holding.slots))
        times = self.rows["time"][slots]
        if number < len(slots):  # names are slow to compare: only candidates are compared
            early = times <= np.partition(times, number - 1)[number - 1]
            slots, times = slots[early], times[early]
        names = np.array([self.names[slot] for slot in slots])
        oldest = slots[np.lexsort((names, times))[:number]]
        evicted = [str(self.names[slot]) for slot in oldest]
        for flow in evicted:
            heapq.heappush(holding.free, holding.slots.pop(flow))
        self._clear(oldest)
        self.dirty[oldest // self.page_rows] = True
        return evicted

    def gather(self, slots: Slots) -> Rows:
        """Copies of the rows at *slots*."""
        return self._whole[slots].view(self.rows.dtype)

    def scatter(self, slots: Slots, rows: Rows) -> None:
        """Write *rows* back to *slots*."""
        self._whole[slots] = whole(rows)
        self.dirty[slots // self.page_rows] = True

    def pages(self, partition: Partition) -> int:
        """How many pages the partition has."""
        return len(self._holdings[partition].pages)

    def pages_of(self, partition: Partition, flows: Iterable[str]) -> set[int]:
        """The pages of the partition that contain any of *flows*."""
        holding = self._holdings[partition]
        firsts = {holding.slots[flow] // self.page_rows * self.page_rows for flow in flows}
        return {n for n, first in enumerate(holding.pages) if first in firsts}

    def changed(self, partition: Partition, page: int) -> bool:
        """Whether a page has changed since it was last saved."""
        return bool(self.dirty[self._holdings[partition].pages[page] // self.page_rows])

    def mark_dirty(self, partition: Partition, page: int) -> None:
        """Mark a page for saving though none of its rows has changed."""
        self.dirty[self._holdings[partition].pages[page] // self.page_rows] = True

    def generation_of(self, slots: Slots) -> NDArray[np.int64]:
        """The generation of the weights that each slot's state belongs to: that of its page."""
        return self.generations[slots // self.page_rows]

    def stale_pages(self, partition: Partition) -> list[int]:
        """The pages of the partition that are not of the present generation."""
        pages = self._holdings[partition].pages
        at = np.array(pages, np.intp) // self.page_rows
        return np.flatnonzero(self.generations[at] != self.generation).tolist()

    def set_generation(self, partition: Partition, page: int) -> None:
        """Set a page's generation to the present one."""
        first = self._holdings[partition].pages[page]
        self.generations[first // self.page_rows] = self.generation

    def page_generation(self, partition: Partition, page: int) -> int:
        """The generation of the weights that a page's state belongs to."""
        return int(self.generations[self._holdings[partition].pages[page] // self.page_rows])

    def in_use(self) -> set[int]:
        """The generations of all pages."""
        firsts = [first for holding in self._holdings.values() for first in holding.pages]
        return set(self.generations[np.array(firsts, np.intp) // self.page_rows].tolist())

    def occupied_slots(self, partition: Partition, page: int) -> Slots:
        """The slots of a page that hold a flow."""
        first = self._holdings[partition].pages[page]
        every = range(first, first + self.page_rows)
        return np.array([s for s in every if self.names[s] is not None], np.intp)

    def rows_of_page(self, partition: Partition, page: int) -> tuple[list[str], Rows]:
        """The flows and rows of a page; the page is marked as unchanged."""
        occupied = self.occupied_slots(partition, page)
        first = self._holdings[partition].pages[page]
        self.dirty[first // self.page_rows] = False
        return [str(self.names[s]) for s in occupied.tolist()], self.gather(occupied)

    def load_page(
        self, partition: Partition, page: int, flows: Sequence[str], rows: Rows, generation: int
    ) -> None:
        """Load *flows* with *rows*, from `rows_of_page`, into an empty page of *generation*."""
        holding = self._holdings[partition]
        while len(holding.pages) < page:
            self._open_page(holding)
        if len(holding.pages) == page:
            self._open_page(holding, occupied=len(flows))
        else:
            last = holding.pages[page] + len(flows)
            holding.free = [slot for slot in holding.free if not holding.pages[page] <= slot < last]
            heapq.heapify(holding.free)
        first = holding.pages[page]
        after = first + len(flows)
        assert holding.slots.keys().isdisjoint(flows)
        assert not any(self.names[first:after])
        holding.slots.update(zip(flows, range(first, after), strict=True))
        self.names[first:after] = flows
        self._whole[first:after] = whole(rows)
        self.generations[first // self.page_rows] = generation

    def _open_page(self, holding: PartitionRows, occupied: int = 0) -> None:
        if not self._spare:  # quotas are rounded up to pages: one more page per partition is needed
            self._grow()
        page = self._spare.pop()
        self.generations[page] = self.generation
        first = page * self.page_rows
        holding.pages.append(first)
        for slot in range(first + occupied, first + self.page_rows):
            heapq.heappush(holding.free, slot)

    def _grow(self) -> None:
        pages = len(self.dirty)
        more = max(1, pages // 16)
        self.rows = np.concatenate((self.rows, np.zeros(more * self.page_rows, self.rows.dtype)))
        self._whole = whole(self.rows)
        self.names += [None] * (more * self.page_rows)
        self.dirty = np.concatenate((self.dirty, np.zeros(more, bool)))
        self.generations = np.concatenate((self.generations, np.zeros(more, np.int64)))
        self._spare = list(range(pages, pages + more))[::-1]

    def _clear(self, slots: Slots) -> None:
        self._whole[slots] = np.zeros((), self._whole.dtype)
        for slot in slots:
            self.names[slot] = None
