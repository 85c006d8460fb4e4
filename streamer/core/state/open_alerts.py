"""
The alerts that fire, as they were published: what makes each of them end, once.

A row's own state decides when an alert begins and ends. But a row may be evicted, start again
or be read again under other rules, and its alert would fire for ever. Therefore every firing alert
is also an entry of the state topic, written and deleted in the transaction that publishes it:

    topic/partition/alert/RULE/FLOW   the alert's newest record, JSON

The alerts of rules of silence have no state in a row, but only their entries (`silent_flows.py`).

After a restore, an eviction or a reset the entries are compared with the rows, and every
difference is published: an alert whose row no longer fires ends, and a row that fires without an
entry begins. If the rules are the same, a replay leaves no difference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from streamer.core.alerts.lifecycle import AlertStage, state_of
from streamer.core.alerts.phases import Phase, Reason
from streamer.core.alerts.rules import SILENCE, RuleConfig
from streamer.core.columns import Rows
from streamer.core.features import grid
from streamer.core.state.checkpoint import prefix
from streamer.core.state.partition_clock import clock_key
from streamer.core.state.silent_flows import SilentFlows
from streamer.core.state.table import FlowTable
from streamer.core.types import Alert, Partition, RuleScore, StateRecord

ENTRY = b"alert/"
DECODER = msgspec.json.Decoder(Alert)
Key = tuple[str, str]  # flow and rule


@dataclass(slots=True)
class OpenAlerts:
    """The published alerts of all partitions that fire, and what must be compared with rows."""

    stage: AlertStage
    silent: SilentFlows
    held: dict[Partition, dict[Key, Alert]] = field(default_factory=dict)
    restored: set[Partition] = field(default_factory=set)  # not compared with their rows yet
    _junk: list[StateRecord] = field(default_factory=list)

    def restore(self, partition: Partition, table: Mapping[bytes, bytes], committed: int) -> None:
        """
        Read a partition's entries from its *table* of state records; unreadable ones go.

        *committed* is the group's next offset.
        """
        start = prefix(partition) + ENTRY
        held: dict[Key, Alert] = {}
        for key, value in table.items():
            if not key.startswith(start):
                continue
            try:
                alert = DECODER.decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._junk.append(StateRecord(partition, key, None))
                continue
            held[alert.flow, alert.rule] = alert
        self.held[partition] = held
        if held or self.stage.rules or self.silent.rules:
            self.restored.add(partition)
        clock = table.get(clock_key(partition))
        self.silent.restore(partition, clock, committed, held.values())

    def release(self, partitions: Collection[Partition]) -> None:
        """Forget partitions that were revoked."""
        for partition in partitions:
            self.held.pop(partition, None)
            self.restored.discard(partition)
            self._junk = [each for each in self._junk if each.partition != partition]
        self.silent.release(partitions)

    def conclude(
        self, alerts: Sequence[Alert], table: FlowTable, *, compare: bool
    ) -> tuple[list[Alert], list[StateRecord], list[RuleScore]]:
        """
        What a turn publishes: its *alerts*, and those that begin or end without a step.

        Returns them, the entries to save, and the counts of the rules of silence.

        With *compare*, all entries are compared with the rows; otherwise those of partitions that
        have been restored since the last call.
        """
        silent, scores, clocks = self.silent.drain()
        published: list[Alert] = []
        changed: dict[tuple[Partition, Key], None] = {}
        for alert in (*alerts, *silent):
            held, key = self.held.setdefault(alert.partition, {}), (alert.flow, alert.rule)
            before = held.get(key)
            if before is not None and before.id != alert.id:
                published.append(ended(before, Reason.EVICTED))
                del held[key]
                before = None
                changed[alert.partition, key] = None
            if alert.state == "firing":
                held[key] = alert
            elif before is None:
                continue  # its beginning was never published
            else:
                del held[key]
            published.append(alert)
            changed[alert.partition, key] = None
        for partition in sorted(self.held if compare else self.restored):
            for alert in self._differences(partition, table):
                published.append(alert)
                changed[partition, (alert.flow, alert.rule)] = None
        self.restored.clear()
        entries, self._junk = self._junk, []
        for partition, key in changed:
            entries.append(self._entry(partition, key))
        self.silent.settle(published)
        return published, [*entries, *clocks], scores

    def _differences(self, partition: Partition, table: FlowTable) -> Iterator[Alert]:
        """Bring the entries of a partition in line with its rows; what must be published."""
        rules = {rule.name: rule for rule in (*self.stage.rules, *self.silent.rules)}
        held = self.held[partition]
        for key, alert in sorted(held.items()):
            (slot,) = table.find(partition, [alert.flow])
            row = None if slot is None else table.rows[slot : slot + 1]
            reason = why_over(alert, rules.get(alert.rule), row)
            if reason is not None:
                del held[key]
                yield ended(alert, reason)
        if partition not in self.restored:
            return
        flows = sorted(table.flows(partition))
        slots = np.array(table.find(partition, flows), np.intp)
        for rule in self.stage.rules if flows else ():
            states = state_of(table.rows[slots], rule)
            for place in np.flatnonzero(states["phase"] >= Phase.FIRING).tolist():
                flow, row = flows[place], table.rows[slots[place : place + 1]]
                if (flow, rule.name) in held:
                    continue
                unit, state = bytes(grid.unit_of_rate(row)[0]), states[place : place + 1]
                alert = self.stage.standing(rule, row, state, partition, flow, unit)
                held[flow, rule.name] = alert
                yield alert

    def _entry(self, partition: Partition, key: Key) -> StateRecord:
        flow, rule = key
        at = prefix(partition) + ENTRY + f"{rule}/{flow}".encode()
        alert = self.held[partition].get(key)
        return StateRecord(partition, at, None if alert is None else msgspec.json.encode(alert))


def why_over(alert: Alert, rule: RuleConfig | None, row: Rows | None) -> Reason | None:
    """Why *alert* is over, by its *rule* and the *row* of its flow; None if it is not."""
    if rule is None or (rule.kind == SILENCE) != (alert.kind == SILENCE):
        return Reason.RULE_REMOVED
    if row is None:
        return Reason.EVICTED
    if rule.kind == SILENCE:
        return None if rule.matches(alert.flow) else Reason.UNMATCHED
    state = state_of(row, rule)[0]
    stands = state["phase"] >= Phase.FIRING and state["since"] == alert.since
    return None if stands else Reason.EVICTED


def ended(alert: Alert, reason: Reason) -> Alert:
    """The last record of an alert that no closed step ends; its time is that of the one before."""
    return dataclasses.replace(alert, state="resolved", reason=reason.name.lower())
