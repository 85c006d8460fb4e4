"""
Flows that send no reading any more while the others of their partition go on.

Steps close with a flow's own readings, so a flow that stops closes none, and no stage of the
pipeline comes to its row. Therefore rules of the kind `silence` are decided at each tick of the
partition's clock. Their alerts are entries of the state topic (`open_alerts.py`), and have no
column in the row. Such an alert ends with the flow's next reading, or after `expires`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts.ledger import Ledger
from streamer.core.alerts.phases import Reason
from streamer.core.alerts.rules import SILENCE, RuleConfig
from streamer.core.alerts.silence import expected, patience, raised
from streamer.core.state.partition_clock import NEED_MIN, Approach, Clock, Lane, Noted, clock_key
from streamer.core.state.table import FlowTable
from streamer.core.types import Alert, Partition, RuleScore, StateRecord, by_partition

Key = tuple[str, str]  # flow and rule


@dataclass(slots=True)
class SilentFlows:
    """The rules of silence in force, the clocks of partitions, and the alerts that fire."""

    rules: Sequence[RuleConfig]
    step_s: int
    period_s: int
    _alerts: list[Alert] = field(default_factory=list)  # begun or ended since `drain`
    _clocks: dict[Partition, Approach] = field(default_factory=dict)
    _firing: dict[Partition, dict[Key, Alert]] = field(default_factory=dict)
    _ticked: set[Partition] = field(default_factory=set)
    _ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self._ledger = Ledger(self.period_s)

    def restore(
        self, partition: Partition, entry: bytes | None, committed: int, alerts: Iterable[Alert]
    ) -> None:
        """Continue with the clock of *entry*, if it is one, and with the *alerts* that fire."""
        self.release([partition])
        names = {rule.name for rule in self.rules}
        kept = [each for each in alerts if each.kind == SILENCE and each.rule in names]
        self._firing[partition] = {(each.flow, each.rule): each for each in kept}
        clock = Clock.decode(entry, committed, self.step_s)
        if clock is not None:
            self._clocks[partition] = Approach(clock)

    def release(self, partitions: Iterable[Partition]) -> None:
        """Forget partitions that were revoked."""
        for partition in partitions:
            self._clocks.pop(partition, None)
            self._firing.pop(partition, None)
            self._ticked.discard(partition)

    @property
    def firing(self) -> Iterator[Alert]:
        """The alerts that fire."""
        return itertools.chain.from_iterable(held.values() for held in self._firing.values())

    def drain(self) -> tuple[list[Alert], list[RuleScore], list[StateRecord]]:
        """Alerts, counts of the ledger, and entries of clocks that ticked, since the last call."""
        entries = [
            StateRecord(each, clock_key(each), msgspec.json.encode(self._clocks[each].clock))
            for each in sorted(self._ticked)
        ]
        drained = self._alerts, self._ledger.scores(), entries
        self._alerts, self._ledger, self._ticked = [], Ledger(self.period_s), set()
        return drained

    def settle(self, published: Iterable[Alert]) -> None:
        """Forget alerts that ended because their flow or their rule has gone."""
        for alert in published:
            firing, key = self._firing.get(alert.partition, {}), (alert.flow, alert.rule)
            if alert.state == "resolved" and key in firing and firing[key].id == alert.id:
                del firing[key]

    def take(self, noted: Noted, table: FlowTable) -> None:
        """Move the clocks by a run of readings that *table* has taken."""
        for partition, places in by_partition(noted.readings.partition).items():
            self._take(partition, np.array(places, np.intp), noted, table)

    def _take(
        self, partition: Partition, places: NDArray[np.intp], noted: Noted, table: FlowTable
    ) -> None:
        firing, times = self._firing.setdefault(partition, {}), noted.after["time"][places]
        approach = self._clocks.get(partition)
        if approach is None:
            first = int(noted.readings.offset[places[0]])
            approach = Approach(Clock(self.step_s, int(times[0]) // self.step_s, NEED_MIN, [first]))
            self._clocks[partition] = approach
            self._ticked.add(partition)
        clock = approach.clock
        done = 0
        if approach.add(noted.slots[places], times, self.step_s):
            lane = Lane.before(table, partition, noted, places)
            while (at := clock.next_tick(lane, self.step_s)) is not None:
                self._end_heard(firing, clock, noted, places[done : at + 1])
                done = at + 1
                lane.advance(done)
                ticks = clock.move(lane, self.step_s)
                self._ticked.add(partition)
                self._decide(partition, clock.tick * self.step_s, lane, ticks)
            approach.look(lane, self.step_s)
        self._end_heard(firing, clock, noted, places[done:])

    def _decide(self, partition: Partition, at: int, lane: Lane, ticks: NDArray[np.int64]) -> None:
        """Raise and end alerts at a tick, *ticks* after the last record of each flow of *lane*."""
        firing = self._firing[partition]
        for rule in self.rules:
            of_rule = [(key, each) for key, each in firing.items() if each.rule == rule.name]
            for key, alert in of_rule:
                if at - alert.since > rule.expires:
                    self._end(firing, key, Reason.EXPIRED, at)
            found = (ticks == patience(rule, lane.now, self.step_s)) & expected(rule, lane.now)
            for place in np.flatnonzero(found).tolist():
                flow = lane.flows[place]
                if rule.matches(flow) and (flow, rule.name) not in firing:
                    now = lane.now[place : place + 1]
                    alert = raised(rule, partition, flow, now, at, self.step_s)
                    firing[flow, rule.name] = alert
                    self._alerts.append(alert)
                    self._ledger.add(rule.name, at, raised=1)

    def _end_heard(
        self, firing: dict[Key, Alert], clock: Clock, noted: Noted, places: NDArray[np.intp]
    ) -> None:
        """End the alerts of flows that have sent one of the readings at *places*."""
        at = clock.tick * self.step_s  # the reading's own time may be wrong
        silent = {flow for flow, _ in firing}
        for place in places.tolist() if silent else ():
            flow = noted.readings.flow[place]
            if flow not in silent:
                continue
            silent.discard(flow)
            began_anew = int(noted.before["offset"][place]) == 0  # it was evicted before
            for key in [(flow, rule.name) for rule in self.rules]:
                if key not in firing:
                    continue
                if began_anew:
                    self._end(firing, key, Reason.EVICTED, firing[key].updated_at)
                else:
                    self._end(firing, key, Reason.QUIET, at)

    def _end(self, firing: dict[Key, Alert], key: Key, reason: Reason, at: int) -> None:
        why = reason.name.lower()
        self._alerts.append(replace(firing.pop(key), state="resolved", reason=why, updated_at=at))
