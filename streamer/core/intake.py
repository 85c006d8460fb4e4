"""
Records on their way into a step: decoded once, and kept until a step can afford them.

A record that made a turn fail, or whose decoding raises, becomes a reject; the others of its poll
are read all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from streamer.core import wire
from streamer.core.backlog import Portion, affordable, trimmed
from streamer.core.budget import Budget
from streamer.core.failures import Action
from streamer.core.features.grid import OPEN_MAX, GridConfig
from streamer.core.state.flow_state import FlowState
from streamer.core.types import Partition, Reason, Record, Reject
from streamer.core.wire import InputConfig
from streamer.core.wire.flow_keys import FlowKeys


class Intake:
    """
    Decoded records that no step has taken yet.

    *state* has the records that failed. With a *budget*, a step takes so much work at most. With
    *labels*, readings have those of their flows.
    """

    def __init__(
        self,
        config: InputConfig,
        grid: GridConfig,
        state: FlowState,
        budget: Budget | None,
        *,
        labels: bool = False,
    ) -> None:
        self._labels = labels
        self.keys = FlowKeys(config)
        self._config, self._grid = config, grid
        self._state, self._budget = state, budget
        self._waiting: list[Portion] = []

    def __bool__(self) -> bool:
        """Whether records wait."""
        return bool(self._waiting)

    def backlog(self) -> Counter[Partition]:
        """How many records of each partition wait."""
        return Counter(record.partition for each in self._waiting for record in each.records)

    def add(self, records: Sequence[Record]) -> None:
        """Add *records* to those that wait."""
        self._waiting.append(self.decode(records))

    def take(self, records_max: int | None) -> Portion:
        """Remove and return what a step may take of the records that wait; there must be some."""
        first = self._waiting[0]
        settled = self.keys.settle(first.readings)
        number = self._number(replace(first, readings=settled.readings), records_max)
        if number == len(first.records):
            taken = self._waiting.pop(0)
        else:
            taken, self._waiting[0] = first.cut(number)
            settled = self.keys.settle(taken.readings)
        self.keys.adopt(settled)
        taken.readings = settled.readings
        if settled.moved:
            taken.counts["readings_in_other"] += settled.moved
        return taken

    def peek(self, records_max: int | None) -> Portion:
        """What `take` would return."""
        first = self._waiting[0]
        settled = replace(first, readings=self.keys.settle(first.readings).readings)
        return settled.cut(self._number(settled, records_max))[0]

    def release(self, revoked: Collection[Partition]) -> None:
        """Forget the records and keys of *revoked* partitions."""
        self.keys.release(revoked)
        self._waiting = [each.without(revoked) for each in self._waiting]

    def decode_again(self, record: Record) -> None:
        """Decode *record* again if it is the first that waits: it may be a reject now."""
        if not self._waiting or self._waiting[0].records[:1] != [record]:
            return
        one, rest = self._waiting[0].cut(1)
        decoded = self.decode(one.records)
        decoded.counts = one.counts + Counter({f"rejected.{r.reason}": 1 for r in decoded.rejects})
        self._waiting[:1] = [decoded, rest] if rest.records else [decoded]

    def decode(self, records: Sequence[Record]) -> Portion:
        """*records* as readings and rejects; those that fail or made a turn fail are rejected."""
        failed = self._state.failures(records, Action.REJECT)
        try:
            decoded = self._decode_sound(records, failed)
        except Exception:  # noqa: BLE001 - a bug of a format must not stop the other records
            failed = [
                error or self._raised_by(record)
                for record, error in zip(records, failed, strict=True)
            ]
            decoded = self._decode_sound(records, failed)
        portion = (
            trimmed(decoded, records, int(self._grid.step), self._grid.gap_max)
            if self._budget is not None
            else Portion(
                list(records), decoded.readings, decoded.rejects, decoded.record, decoded.counts
            )
        )
        for record, error in zip(records, failed, strict=True):
            if error is not None:
                portion.rejects.append(Reject(record, Reason.FAILED, None, error))
                portion.counts[f"rejected.{Reason.FAILED}"] += 1
        return portion

    def _number(self, portion: Portion, records_max: int | None) -> int:
        """How many records of *portion* a step may take."""
        number = len(portion.records)
        if self._budget is not None:
            table, step_s = self._state.table, int(self._grid.step)
            closing_max = self._grid.gap_max + OPEN_MAX
            number = affordable(portion, table, self._budget, step_s, closing_max)
        return min(number, records_max or number)

    def _decode_sound(
        self, records: Sequence[Record], failed: Sequence[str | None]
    ) -> wire.Decoded:
        """Decode the *records* without an entry in *failed*."""
        if not any(failed):  # nearly always
            return wire.decode(records, self._config, labels=self._labels)
        sound = np.array([each is None for each in failed], bool)
        kept = [record for record, fine in zip(records, sound, strict=True) if fine]
        decoded = wire.decode(kept, self._config, labels=self._labels)
        decoded.record = np.flatnonzero(sound)[decoded.record]
        return decoded

    def _raised_by(self, record: Record) -> str | None:
        """The name of the exception that decoding *record* raises, if any."""
        try:
            wire.decode([record], self._config, labels=self._labels)
        except Exception as error:  # noqa: BLE001 - any
            return type(error).__name__
        return None
