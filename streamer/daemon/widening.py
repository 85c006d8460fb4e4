"""
Checks that our topics have a partition for each partition of the input.

State, forecasts and rejects of an input partition are in the partition with the same number. If
the input was widened, our topics are widened too, if we have the rights. Otherwise the new
partitions wait until an operator widens our topics, and the others continue.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from streamer.core.types import Partition
from streamer.log import Log, PollResult, Unavailable

ASK_S = 30.0  # seconds between two checks of topics that are too narrow


class Watcher(Protocol):
    """Is notified of waiting partitions."""

    def unplaced(self, partitions: Collection[Partition], widths: Mapping[str, int]) -> None:
        """Our topics, of these *widths*, are too narrow for input *partitions*."""


class Places:
    """Tracks waiting partitions in one membership, which ends once our topics are widened."""

    def __init__(self, topics: Sequence[str], watcher: Watcher) -> None:
        self._topics = sorted(set(topics))
        self._watcher = watcher
        self._width: int | None = None
        self._waiting: set[Partition] = set()
        self._asked_s = 0.0

    def placed(self, delivery: PollResult, log: Log, now_s: float) -> PollResult:
        """
        Return *delivery* without partitions that must wait; they are not read.

        Raises Unavailable once our topics have been widened: after a rejoin the partitions fit.
        """
        lost = delivery.revoked - self._waiting
        self._waiting -= delivery.revoked
        if delivery.assigned:
            self._make_room(delivery.assigned, log, now_s)
        elif self._waiting and now_s - self._asked_s > ASK_S:
            self._make_room((), log, now_s)
        if not self._waiting and lost == delivery.revoked:
            return delivery
        return PollResult(
            lost,
            {p: offset for p, offset in delivery.assigned.items() if p not in self._waiting},
            [record for record in delivery.records if record.partition not in self._waiting],
            delivery.partitions_total,
            delivery.lag,
            delivery.missed,
        )

    def _make_room(self, gained: Collection[Partition], log: Log, now_s: float) -> None:
        needed = 1 + max(partition.number for partition in {*gained, *self._waiting})
        if self._width is not None and needed <= self._width:
            return
        self._asked_s = now_s
        widths = log.widen(self._topics, needed)
        width = min(widths.values())
        if self._width is not None and width > self._width:
            raise Unavailable(f"our topics have {width} partitions now: joining again")
        self._width = width
        new = {partition for partition in gained if partition.number >= width}
        if new:
            self._waiting |= new
            self._watcher.unplaced(new, {t: n for t, n in widths.items() if n < needed})
