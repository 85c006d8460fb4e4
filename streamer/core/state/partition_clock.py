"""
The clock of a partition: how long its flows have gone on, by the order of their records.

It ticks once when enough of the flows that were heard lately have sent a reading of a new step.
So a hole in the whole input is one tick, however long, and a device whose clock is wrong moves
nothing. Ticks are decided record by record, so they are the same whatever the size of turns. The
clock is an entry of the state topic, written in the transaction of the turn in which it ticks:

    topic/partition/clock    {"step_s": 60, "tick": 28333333, "need": 12, "offsets": [5120, …]}

A replay does not move it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts.rules import AFTER_STEPS_MAX
from streamer.core.alerts.silence import SEEN, seen
from streamer.core.columns import Slots
from streamer.core.features.verdicts import FAR_S
from streamer.core.state.checkpoint import prefix
from streamer.core.state.table import FlowTable
from streamer.core.types import Partition, Readings

HISTORY = AFTER_STEPS_MAX + 1  # ticks whose offsets are kept
SHARE = 0.2  # of the flows heard since the oldest of these: so many must reach a step …
NEED_MIN = 2  # … and never fewer than these


def clock_key(partition: Partition) -> bytes:
    """The key of a partition's clock."""
    return prefix(partition) + b"clock"


@dataclass(slots=True)
class Noted:
    """A run of readings, and what the row of each said before and after it."""

    readings: Readings
    slots: Slots
    before: NDArray[np.void] = field(init=False)
    after: NDArray[np.void] = field(init=False)

    def __post_init__(self) -> None:
        self.before = np.zeros(len(self.readings), SEEN)
        self.after = np.zeros(len(self.readings), SEEN)


@dataclass(slots=True)
class Lane:
    """One partition's flows as they were after some of the readings of a run."""

    flows: list[str]
    slots: Slots  # (F,)
    now: NDArray[np.void]  # (F,) of SEEN
    row: NDArray[np.intp]  # (n,): which flow each reading is of
    after: NDArray[np.void]  # (n,) of SEEN
    offsets: NDArray[np.int64]  # (n,)
    done: int = 0  # readings that `now` includes

    @classmethod
    def before(
        cls, table: FlowTable, partition: Partition, noted: Noted, lane: NDArray[np.intp]
    ) -> Lane:
        """As the flows were before the readings at *lane* of *noted*, which *table* includes."""
        flows = list(table.flows(partition))
        slots = np.array(table.find(partition, flows), np.intp)
        now, order = seen(table.rows, slots), np.argsort(slots)
        row = order[np.searchsorted(slots[order], noted.slots[lane])]
        touched, first = np.unique(row, return_index=True)
        now[touched] = noted.before[lane[first]]
        return cls(flows, slots, now, row, noted.after[lane], noted.readings.offset[lane])

    def advance(self, end: int) -> None:
        """Include the readings before *end*."""
        self.now[self.row[self.done : end]] = self.after[self.done : end]
        self.done = max(self.done, end)


class Clock(msgspec.Struct):
    """The clock of one partition."""

    step_s: int
    tick: Annotated[int, msgspec.Meta(ge=0)]  # the newest step that enough flows have reached
    need: Annotated[int, msgspec.Meta(ge=NEED_MIN)]  # flows that must reach the next one
    offsets: Annotated[list[int], msgspec.Meta(min_length=1)]  # of the records that made it tick

    @classmethod
    def decode(cls, entry: bytes | None, committed: int, step_s: int) -> Clock | None:
        """The clock of *entry*; None if there is none, or of another input topic or step."""
        try:
            clock = msgspec.json.decode(entry or b"", type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        known = clock.offsets == sorted(clock.offsets) and clock.offsets[-1] < committed
        return clock if known and clock.step_s == step_s else None

    def next_tick(self, lane: Lane, step_s: int) -> int | None:
        """The place of the reading of *lane* at which it ticks next; None: at none of them."""
        if lane.done == len(lane.offsets):
            return None
        there = (lane.now["offset"] > self.offsets[0]) & (lane.now["time"] // step_s > self.tick)
        missing = self.need - int(there.sum())
        if missing <= 0:  # there were more than it needed
            return lane.done
        reaches = lane.after["time"][lane.done :] // step_s > self.tick
        places = lane.done + np.flatnonzero(reaches & ~there[lane.row[lane.done :]])
        _, first = np.unique(lane.row[places], return_index=True)
        if len(first) >= missing:
            return int(places[np.sort(first)[missing - 1]])
        return self._deserted(lane, step_s)

    def _deserted(self, lane: Lane, step_s: int) -> int | None:
        """The last place of *lane*, if the flows that moved the clock far ahead were set back."""
        lane.advance(len(lane.offsets))
        steps = lane.now["time"][lane.now["offset"] > self.offsets[-1]] // step_s
        ahead = int((steps >= self.tick - FAR_S // step_s).sum())
        if not ahead < self.need <= len(steps) - ahead:
            return None
        self.offsets = self.offsets[-1:]
        return len(lane.offsets) - 1

    def move(self, lane: Lane, step_s: int) -> NDArray[np.int64]:
        """
        Tick: move to the step that enough flows have reached.

        Returns how often it has ticked since the last record of each flow of *lane*, (F,); 0 for
        flows that were last heard before all that it remembers.
        """
        heard = lane.now["offset"]
        times = np.sort(lane.now["time"][heard > self.offsets[0]])
        self.tick = int(times[-min(self.need, len(times))] // step_s)
        self.offsets = [*self.offsets, int(lane.offsets[lane.done - 1])][-HISTORY:]
        live = heard > self.offsets[0]
        self.need = max(NEED_MIN, int(np.ceil(SHARE * live.sum())))
        ticks = len(self.offsets) - np.searchsorted(self.offsets, heard)
        return np.where(live, ticks, 0)


@dataclass(slots=True)
class Approach:
    """
    The flows that may make a clock tick, so that all flows are looked at only if there are enough.

    Flows that have gone may be among them: a look too many does no harm.
    """

    clock: Clock
    ahead: set[int] = field(default_factory=set)  # slots of flows that have reached the next step
    behind: set[int] = field(default_factory=set)  # … and of those that are far behind
    known: bool = False  # whether they are all of these

    def add(self, slots: Slots, times: NDArray[np.float64], step_s: int) -> bool:
        """Add flows that stand at *times*; whether the clock may tick."""
        steps = times // step_s
        self.ahead.update(slots[steps > self.clock.tick].tolist())
        self.behind.update(slots[steps < self.clock.tick - FAR_S // step_s].tolist())
        return not self.known or max(len(self.ahead), len(self.behind)) >= self.clock.need

    def look(self, lane: Lane, step_s: int) -> None:
        """Learn which flows of *lane* have reached the next step."""
        lane.advance(len(lane.offsets))
        ahead = lane.now["time"] // step_s > self.clock.tick
        self.ahead, self.behind = set(lane.slots[ahead].tolist()), set()
        self.known = True
