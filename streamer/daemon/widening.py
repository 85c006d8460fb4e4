"""
Whether each partition of the input has its like among our own topics.

State, forecasts and rejects of an input partition lie in the partition of the same number. Where
the input has been widened, ours are widened too if the log lets us; until somebody does, the new
partitions wait and the others go on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from streamer.core.types import Partition
from streamer.log import Log, PollResult, Unavailable

ASK_S = 30.0  # between two looks at topics that are too narrow


class Watcher(Protocol):
    """Who is told of partitions that wait."""

    def unplaced(self, partitions: Collection[Partition], widths: Mapping[str, int]) -> None:
        """*partitions* have no place in topics of these *widths*."""


class Places:
    """Which partitions wait; of one membership, which must be given up once there is more room."""

    def __init__(self, topics: Sequence[str], watcher: Watcher) -> None:
        self._topics = sorted(set(topics))
        self._watcher = watcher
        self._width: int | None = None
        self._waiting: set[Partition] = set()
        self._asked_s = 0.0

    def placed(self, delivery: PollResult, log: Log, now_s: float) -> PollResult:
        """
        *delivery* without the partitions that have no place yet; they are not read.

        Raises Unavailable once our topics have become wider: whoever joins anew finds room.
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
            raise Unavailable(f"our topics have {width} partitions now: joining anew")
        self._width = width
        new = {partition for partition in gained if partition.number >= width}
        if new:
            self._waiting |= new
            self._watcher.unplaced(new, {t: n for t, n in widths.items() if n < needed})
