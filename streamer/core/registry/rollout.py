"""
Rollout: pages migrate to the incumbent in order, a few per turn.

A page migrates as a whole: the states of all its rows are rebuilt together, and from then on it
belongs to the new generation. It is saved in the same turn, so that a crash cannot revert it
after its new forecasts were published.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamer.core.columns import Rows, Slots
from streamer.core.registry import rebuild
from streamer.core.registry.models import ModelRegistry, WeightsFailed
from streamer.core.registry.rollout_trial import ROWS_MAX, RolloutComparison
from streamer.core.state.table import FlowTable
from streamer.core.types import Partition, RolloutReport

BATCH_ROWS = 256  # rows that are rebuilt at once, to spread the overhead of numpy
SAMPLE_SEEN = 64  # least steps with a rate of a sampled flow: younger flows have larger errors


class ModelRollout:
    """The pages still to migrate, the rows still to rebuild, and the rollout's measured effect."""

    def __init__(self, table: FlowTable, generations: ModelRegistry, step_s: int) -> None:
        self.trial: RolloutComparison | None = None
        self._arena = table
        self._generations = generations
        self._step_s = step_s
        self._owed: list[int] = []  # slots of restored rows whose state must be rebuilt
        self._fresh: dict[tuple[Partition, int], None] = {}  # migrated, not saved yet
        self._target: int | None = None  # generation of the current rollout
        self._pages = self._rows = 0  # migrated in the current rollout
        self._failed: list[str] = []  # flows that were reset, since they were last drained
        self.unmeasured = 0  # rollouts whose measurement failed, since they were last counted

    @property
    def pending_rebuild(self) -> int:
        """How many restored rows are to be rebuilt before they step."""
        return len(self._owed)

    def schedule_rebuild(self, slots: Slots) -> None:
        """Queue restored rows whose state does not belong to their page's model."""
        self._owed += slots.tolist()

    def rebuild_pending(self, rows_max: int) -> int:
        """Rebuild at most *rows_max* of the queued rows; returns how many were rebuilt."""
        now, self._owed = self._owed[:rows_max], self._owed[rows_max:]
        slots = np.array(now, np.intp)
        of_each = self._arena.generation_of(slots)
        for generation in np.unique(of_each).tolist():
            self._reprime(slots[of_each == generation], generation)
        return len(now)

    def stale_pages(self) -> int:
        """How many pages do not belong to the incumbent yet."""
        if not self._generations.decided:
            return 0
        return sum(len(self._arena.stale_pages(p)) for p in self._arena.partitions)

    def advance(self, pages_max: int) -> int:
        """Migrate at most *pages_max* pages to the incumbent; returns how many migrated."""
        due = [each for _, each in zip(range(pages_max), self._due(), strict=False)]
        for lot in _batched(due, max(1, BATCH_ROWS // self._arena.page_rows)):
            self._migrate_pages(lot)
        return len(due)

    def drain_migrated_pages(self) -> list[tuple[Partition, int]]:
        """The pages that must be saved with this turn; each is returned once."""
        fresh, self._fresh = self._fresh, {}
        return list(fresh)

    def finished(self) -> list[RolloutReport]:
        """Reports of finished rollouts, each once; models that are not in use are dropped."""
        over = self._target is not None and (self.trial is None or self.trial.over)
        finished: list[RolloutReport] = []
        if over and not self.stale_pages():
            try:
                if self.trial is not None:
                    finished.append(self.trial.outcome(self._pages, self._rows))
            except Exception:  # noqa: BLE001 - a figure for people must not stop a turn
                self.drop_trial()
            self._target = self.trial = None
            self._generations.retire(self._arena.in_use())
        elif self._generations.unnamed:
            self._generations.retire(self._arena.in_use())
        return finished

    def drop_trial(self) -> None:
        """End the measurement because it failed."""
        self.trial = None
        self.unmeasured += 1

    def drain_failed(self) -> list[str]:
        """The flows that were reset because their state could not be rebuilt, each once."""
        failed, self._failed = self._failed, []
        return failed

    def forget(self, partition: Partition) -> None:
        """Drop the rows of a revoked *partition* from the queue and from the measurement."""
        pages = range(self._arena.pages(partition))
        slots = np.concatenate(
            [np.empty(0, np.intp), *(self._arena.occupied_slots(partition, page) for page in pages)]
        )
        evicted = set(slots.tolist())
        self._owed = [slot for slot in self._owed if slot not in evicted]
        self._fresh = {each: None for each in self._fresh if each[0] != partition}
        if self.trial is not None:
            self.trial.drop(slots)

    def _due(self) -> Iterator[tuple[Partition, int]]:
        for partition in sorted(self._arena.partitions):
            for page in self._arena.stale_pages(partition):
                yield partition, page

    def _migrate_pages(self, lot: list[tuple[Partition, int]]) -> None:
        if self._target != self._arena.generation:
            self._target = self._arena.generation
            self._pages = self._rows = 0
            self.trial = None
        places = [self._arena.occupied_slots(*each) for each in lot]
        slots = np.concatenate(places)
        if self.trial is None and len(slots):
            try:
                self.trial = self._sample(slots)
            except Exception:  # noqa: BLE001 - a figure for people must not stop a turn
                self.drop_trial()
        self._reprime(slots, self._target)
        for each in lot:
            self._arena.set_generation(*each)
            self._fresh[each] = None
        self._pages, self._rows = self._pages + len(lot), self._rows + len(slots)

    def _reprime(self, slots: Slots, generation: int) -> None:
        for first in range(0, len(slots), BATCH_ROWS):
            some = slots[first : first + BATCH_ROWS]
            rows = self._arena.gather(some)
            try:
                self._rebuild(rows, generation)
            except Exception:  # noqa: BLE001 - one row must not stop the others
                rows = self._rebuilt_singly(some, generation)
            self._arena.scatter(some, rows)

    def _rebuild(self, rows: Rows, generation: int) -> None:
        model = self._generations[generation]
        rebuild.rebuild_states(rows, rows["open"] - 1, self._step_s, model)

    def _rebuilt_singly(self, slots: Slots, generation: int) -> Rows:
        """
        The rows at *slots*, with new states; a row that fails becomes empty: its flow is reset.

        Raises WeightsFailed if an empty row fails too: then the weights are the cause.
        """
        empty = np.zeros(1, self._arena.rows.dtype)
        try:
            self._rebuild(empty.copy(), generation)
        except Exception as error:
            raise WeightsFailed(generation, error) from error
        rows = self._arena.gather(slots)
        for i, slot in enumerate(slots.tolist()):
            row = rows[i : i + 1].copy()
            try:
                self._rebuild(row, generation)
            except Exception:  # noqa: BLE001 - whatever a damaged row causes
                row = empty
                self._failed.append(str(self._arena.names[slot]))
            rows[i : i + 1] = row
        return rows

    def _sample(self, slots: Slots) -> RolloutComparison | None:
        """A sample of mature flows of one generation from *slots*; None if there are none."""
        rows: Rows = self._arena.gather(slots)
        of_each = self._arena.generation_of(slots)
        mature = np.flatnonzero((rows["seen"] >= SAMPLE_SEEN) & (of_each == of_each[0]))[:ROWS_MAX]
        if not len(mature):
            return None
        before = self._generations[int(of_each[0])]
        return RolloutComparison(before, self._generations.model, slots[mature], rows[mature])


def _batched(due: list[tuple[Partition, int]], size: int) -> Iterator[list[tuple[Partition, int]]]:
    for first in range(0, len(due), size):
        yield due[first : first + size]
