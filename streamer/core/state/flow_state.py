"""
The rows of all partitions that an instance holds, and how they are saved and restored.

One `PartitionState` has all that belongs to a partition, so that nothing of it is left when the
partition goes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Columns, Rows
from streamer.core.failures import Action, Failure, Failures
from streamer.core.state import checkpoint, restoring
from streamer.core.state.allocation import Eviction
from streamer.core.state.checkpoint import CheckpointProgress
from streamer.core.state.loading import Loader
from streamer.core.state.restoring import Restored
from streamer.core.state.spread import Spread
from streamer.core.state.table import PAGE_ROWS, FlowTable, row_type
from streamer.core.types import Partition, Readings, Record, StateRecord, by_partition

PAGE_BYTES_MAX = 700_000  # of a saved page: a broker takes messages of 1 MiB by default


@dataclass(slots=True)
class PartitionState:
    """What belongs to one partition beside its rows."""

    progress: CheckpointProgress
    next_offset: int
    needed: Mapping[str, int]  # offsets that flows need that were evicted before a restore


class FlowState:
    """
    The flow table and the state of each partition.

    The flows of a partition may fill its even share of `flows_max`, so which of them are evicted
    does not depend on which instance holds the other partitions.
    """

    def __init__(
        self, columns: Columns, flows_max: int, flow_bytes_max: int, page_rows: int = PAGE_ROWS
    ) -> None:
        row_bytes = row_type(columns).itemsize + flow_bytes_max
        page_rows = max(1, min(page_rows, PAGE_BYTES_MAX // row_bytes))
        self.table = FlowTable(columns, flows_max, page_rows)
        self.partitions: dict[Partition, PartitionState] = {}
        self._flows_max = flows_max
        self._spread = Spread(self.table)
        self._unsaved: list[StateRecord] = []  # the next checkpoint publishes them

    def restore(  # noqa: PLR0913 - what is restored, and what is known of it
        self,
        partition: Partition,
        saved: Mapping[bytes, bytes],
        committed: int,
        partitions_total: int,
        known: Callable[[int, str], bool],
        loader: Loader,
        suspects: Failures | None = None,
    ) -> tuple[int, Restored]:
        """
        Load a partition from its *saved* state records.

        *committed* is the group's next offset. *known* returns whether the weights of a generation
        and digest are available. *suspects* are records that made a turn fail, if that is not
        saved yet. Returns the offset at which the replay of the input begins, and what was found.
        """
        self.table.add_partition(partition, max(1, self._flows_max // partitions_total))
        restored = restoring.restore(self.table, partition, saved, committed, known, loader)
        self._spread.note({partition: self.table.flows(partition)})
        restored.progress.failed.update((suspects or {}).get(partition, {}))
        self.partitions[partition] = PartitionState(restored.progress, committed, restored.needed)
        return min(restored.progress.floor, committed), restored

    def release(self, partitions: Iterable[Partition]) -> None:
        """Forget partitions that were revoked."""
        for partition in partitions:
            self.table.release(partition)
            self.partitions.pop(partition, None)  # there is none if its restore failed
        self._unsaved = [each for each in self._unsaved if each.partition in self.partitions]

    def restored(self) -> None:
        """The replay is over: evictions before it need no attention any more."""
        for state in self.partitions.values():
            state.needed = {}

    def rows_of(self, partition: Partition, flows: Sequence[str]) -> tuple[NDArray[np.bool_], Rows]:
        """Which of *flows* have a row in a partition that is held, and copies of those rows."""
        found = self.table.find(partition, flows)
        slots = [slot for slot in found if slot is not None]
        present = np.array([slot is not None for slot in found], bool)
        return present, self.table.gather(np.array(slots, np.intp))

    def known_before(self, readings: Readings) -> NDArray[np.int64]:
        """(n,): the offset before which each reading's flow, even an evicted one, has all."""
        known = np.zeros(len(readings), np.int64)
        for partition, index in by_partition(readings.partition).items():
            flows = [readings.flow[i] for i in index]
            found = self.table.find(partition, flows)
            state = self.partitions.get(partition)
            needed = {} if state is None else state.needed
            slots = np.array([-1 if slot is None else slot for slot in found], np.intp)
            evicted = np.array([needed.get(flow, 0) for flow in flows], np.int64)
            known[index] = np.where(slots >= 0, self.table.rows["offset"][slots], evicted)
        return known

    def advance(self, records: Sequence[Record]) -> dict[Partition, int]:
        """Note *records* as taken; the next offset of each of their partitions."""
        offsets = {record.partition: record.offset + 1 for record in records}
        for partition, offset in offsets.items():
            state = self.partitions.get(partition)
            if state is not None:
                state.next_offset = offset
        return offsets

    def evicted(self, evictions: Sequence[Eviction]) -> int:
        """Have the next checkpoint publish that flows were evicted; how many they are."""
        for each in evictions:
            self._unsaved += checkpoint.record_evictions(
                self.partitions[each.partition].progress, each.partition, each.flows, each.offset
            )
        return sum(len(each.flows) for each in evictions)

    def in_two_partitions(self, met: Mapping[Partition, Collection[str]]) -> list[str]:
        """Note the flows that new readings *met*; those that proved to come in two partitions."""
        self._spread.note(met)
        return list(self._spread.confirmed())

    def blame(self, record: Record, failure: Failure) -> None:
        """Handle *record* as *failure* requires, from now on and in replays."""
        self.partitions[record.partition].progress.failed[record.offset] = failure

    def failures(self, records: Sequence[Record], action: Action) -> list[str | None]:
        """Of each record, the name of what it raised, if that led to *action*."""
        if not any(state.progress.failed for state in self.partitions.values()):
            return [None] * len(records)  # nearly always
        found: list[str | None] = []
        for record in records:
            state = self.partitions.get(record.partition)
            failure = None if state is None else state.progress.failed.get(record.offset)
            due = failure is not None and failure.action is action
            found.append(failure.error if failure is not None and due else None)
        return found

    def apart(self, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
        """*records* in runs; a record before which flows start without state is alone."""
        first = 0
        for nth, error in enumerate(self.failures(records, Action.RESET)):
            if error is not None:
                yield records[first:nth]
                yield records[nth : nth + 1]
                first = nth + 1
        yield records[first:]

    def reset_flows(self, records: Sequence[Record], readings: Readings) -> int:
        """Empty the rows of flows whose record made a turn fail; how many there were."""
        if not any(self.failures(records, Action.RESET)):
            return 0
        return self.empty_rows(readings)

    def empty_rows(self, readings: Readings) -> int:
        """Empty the rows of the flows of *readings*; how many there were."""
        number = 0
        for partition, index in by_partition(readings.partition).items():
            found = self.table.find(partition, {readings.flow[i]: None for i in index})
            slots = np.array([slot for slot in found if slot is not None], np.intp)
            self.table.scatter(slots, np.zeros(len(slots), self.table.rows.dtype))
            number += len(slots)
        return number

    def save_failures(self, records: Sequence[Record]) -> None:
        """Have the next checkpoint publish what was done about *records* that failed."""
        for record in records:
            state = self.partitions.get(record.partition)
            if state is not None and record.offset in state.progress.failed:
                failure = state.progress.failed[record.offset]
                self._unsaved.append(
                    checkpoint.failure_entry(record.partition, record.offset, failure)
                )

    def discard_unsaved(self) -> None:
        """Drop what the next checkpoint was to publish: nothing of this state is ever saved."""
        self._unsaved.clear()

    def checkpoint(
        self,
        share: float,
        digests: Mapping[int, str],
        migrated: Iterable[tuple[Partition, int]] = (),
        keys: Callable[[Partition, int], bytes | None] = lambda _partition, _offset: None,
    ) -> list[StateRecord]:
        """
        What is to be saved with this turn: *share* of a round over the pages, and what can't wait.

        *migrated* pages moved to other weights in this turn. They are saved with it, because a
        crash would otherwise take back what was published of them. *digests* are those of the
        weights, by generation. *keys* gives a partition's keys of flow records before an offset.
        """
        entries, self._unsaved = self._unsaved, []
        for partition, page in migrated:
            progress = self.partitions[partition].progress
            entries += checkpoint.save_now(progress, self.table, partition, page, digests)
        for partition, state in self.partitions.items():
            entries += checkpoint.due_pages(
                state.progress,
                self.table,
                partition,
                next_offset=state.next_offset,
                share=share,
                digests=digests,
                keys=keys,
            )
        return entries
