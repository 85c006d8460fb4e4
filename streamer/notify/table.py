"""
The table of alerts: those that fire, and those that ended a short time ago.

The notifier's loop writes it from the records of the alerts topic; the threads of receivers read
it. It holds the newest record of each alert and nothing older, so a receiver that was away gets
the current state and no history. Partitions come and go as wholes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from streamer.core.types import Partition, Record

NEEDED: Mapping[str, type] = {
    "id": str,
    "flow": str,
    "rule": str,
    "severity": str,
    "state": str,
    "since": int,
    "updated_at": int,
    "text": str,
}
STATES = ("firing", "resolved")
TIME_MAX = 253_402_300_799  # the end of the year 9999
LABEL = "label_"  # before the names of a rule's labels in a record


class Unreadable(ValueError):
    """A record that is not an alert."""


@dataclass(frozen=True, slots=True)
class HeldAlert:
    """The newest record of an alert."""

    partition: Partition
    offset: int
    version: int  # grows with every change of the table
    fields: Mapping[str, Any]  # the record
    value: bytes  # its JSON, unchanged
    started_at: float  # not after the time at which the record was taken
    ended_at: float | None = None  # None: it fires
    replayed: bool = False  # perhaps an earlier process has delivered it

    @property
    def id(self) -> str:
        """Of the alert, from its beginning to its end."""
        return str(self.fields["id"])

    @property
    def key(self) -> tuple[str, str]:
        """The flow and the rule."""
        return str(self.fields["flow"]), str(self.fields["rule"])


def read(value: bytes | None) -> dict[str, Any] | None:
    """
    An alert's record; None if the value is that of another kind of record of the topic.

    Raises Unreadable if it is neither.
    """
    try:
        fields = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"is not JSON: {error}") from None
    if isinstance(fields, dict) and "feedback" in fields:
        return None
    if not isinstance(fields, dict) or fields.get("state") not in STATES:
        raise Unreadable("has no state")
    for name, kind in NEEDED.items():
        if not isinstance(fields.get(name), kind) or isinstance(fields[name], bool):
            raise Unreadable(f"{name} is not of type {kind.__name__}")
        if kind is int and not 0 <= fields[name] <= TIME_MAX:
            raise Unreadable(f"{name} is no time")
    return fields


class AlertTable:
    """
    The alerts of the partitions that this notifier holds.

    *wall* is real time: the end of an alert is noted in it, because Alertmanager compares it with
    its own clock. At most *ended_max* alerts that ended are kept.
    """

    def __init__(self, wall: Callable[[], float], resolved_for_s: float, ended_max: int) -> None:
        self._wall, self._resolved_for_s, self._ended_max = wall, resolved_for_s, ended_max
        self.changed = threading.Condition()  # its lock guards what follows
        self._version = 0
        self._firing: dict[str, HeldAlert] = {}  # by id
        self._ended: dict[str, HeldAlert] = {}  # by id, the oldest first
        self._by_key: dict[tuple[Partition, tuple[str, str]], str] = {}  # ids of those that fire
        self._next: dict[Partition, int] = {}  # offsets
        self.dropped = 0  # ended alerts for which there was no room

    @property
    def version(self) -> int:
        """The number of changes so far."""
        return self._version

    def restore(self, partition: Partition, records: Iterable[Record], offset: int) -> int:
        """
        Hold *partition*, as its *records* before *offset* left it; returns those not readable.

        Ends that are older than `notify.resolved_for` are not kept. What is held already, because
        the log was away for a while, stays if the records agree.
        """
        unreadable = 0
        with self.changed:
            seen = set()
            for record in records:
                try:
                    seen.add(self._take(record, delivered=True))
                except Unreadable:
                    unreadable += 1
            self._drop(lambda held: held.partition == partition and held.offset < offset
                       and held.id not in seen)  # fmt: skip
            self._next[partition] = offset
            self.changed.notify_all()
        return unreadable

    def take(self, records: Iterable[Record], replayed: Callable[[Partition], bool]) -> int:
        """
        Take new *records*; returns how many were not readable.

        *replayed* returns whether an earlier process may have delivered records of a partition.
        """
        unreadable, before = 0, self._version
        with self.changed:
            for record in records:
                try:
                    self._take(record, delivered=False, replayed=replayed(record.partition))
                except Unreadable:
                    unreadable += 1
                self._next[record.partition] = record.offset + 1
            if self._version != before:
                self.changed.notify_all()
        return unreadable

    def release(self, partitions: Iterable[Partition]) -> None:
        """Forget partitions that another notifier holds now; it goes on with their alerts."""
        revoked = set(partitions)
        with self.changed:
            self._drop(lambda held: held.partition in revoked)
            for partition in revoked:
                self._next.pop(partition, None)

    def firing(self) -> list[HeldAlert]:
        """Those that fire, in the order in which they were raised."""
        with self.changed:
            return list(self._firing.values())

    def ended(self) -> list[HeldAlert]:
        """Those that ended, the oldest first."""
        with self.changed:
            return list(self._ended.values())

    def newest(self, name: str) -> HeldAlert | None:
        """The newest record of the alert with the id *name*."""
        with self.changed:
            return self._firing.get(name) or self._ended.get(name)

    def prune(self, awaited: Callable[[HeldAlert], bool]) -> None:
        """Forget ended alerts that are old and that no receiver waits for (*awaited*)."""
        latest = self._wall() - self._resolved_for_s
        old = [each for each in self.ended() if (each.ended_at or 0) < latest and not awaited(each)]
        with self.changed:
            for each in old:
                if self._ended.get(each.id) is each:
                    del self._ended[each.id]
            while len(self._ended) > self._ended_max:
                del self._ended[next(iter(self._ended))]
                self.dropped += 1

    def offsets(self, undelivered: Callable[[HeldAlert], bool]) -> dict[Partition, int]:
        """For each partition the first offset whose alert is *undelivered*, else the next one."""
        with self.changed:
            held, found = [*self._firing.values(), *self._ended.values()], dict(self._next)
        for each in held:
            if each.partition in found and undelivered(each):
                found[each.partition] = min(found[each.partition], each.offset)
        return found

    def _take(self, record: Record, *, delivered: bool, replayed: bool = False) -> str | None:
        """Take a record; returns the id of its alert, if it is one. Raises Unreadable."""
        fields = self._deletion(record) if record.value is None else read(record.value)
        if fields is None:
            return None
        value = record.value or msgspec.json.encode(fields)
        name, key = str(fields["id"]), (record.partition, (fields["flow"], fields["rule"]))
        earlier = self._firing.get(name) or self._ended.get(name)
        if earlier is not None and earlier.value == value:
            return name
        self._version += 1
        now = self._wall()
        taken_at = now if record.time_ms < 0 or not delivered else min(now, record.time_ms / 1e3)
        before = self._by_key.get(key)
        if before is not None and before != name:  # its last record was compacted away
            self._end(self._firing[before], taken_at, record, replayed=replayed)
        held = HeldAlert(
            partition=record.partition,
            offset=record.offset,
            version=self._version,
            fields=fields,
            value=value,
            started_at=min(fields["since"], taken_at) if earlier is None else earlier.started_at,
            replayed=replayed,
        )
        if fields["state"] == "firing":
            self._ended.pop(name, None)
            self._firing[name] = held
            self._by_key[key] = name
            return name
        self._forget(name, key)
        if not delivered or taken_at >= now - self._resolved_for_s:
            self._ended[name] = replace(held, ended_at=max(taken_at, held.started_at))
        return name

    def _drop(self, obsolete: Callable[[HeldAlert], bool]) -> None:
        for table in (self._firing, self._ended):
            for name in [name for name, held in table.items() if obsolete(held)]:
                del table[name]
        self._by_key = {at: name for at, name in self._by_key.items() if name in self._firing}

    def _deletion(self, record: Record) -> dict[str, Any] | None:
        """What a tombstone means: the alert of its key, if it fires, has ended."""
        flow, _, rule = (record.key or b"").decode(errors="replace").rpartition("|")
        name = self._by_key.get((record.partition, (flow, rule)))
        return None if name is None else resolved(self._firing[name].fields)

    def _end(self, held: HeldAlert, at: float, record: Record, *, replayed: bool) -> None:
        """End an alert that has no last record."""
        fields = resolved(held.fields)
        self._forget(held.id, (held.partition, held.key))
        self._ended[held.id] = replace(
            held,
            offset=record.offset,
            version=self._version,
            fields=fields,
            value=msgspec.json.encode(fields),
            ended_at=max(at, held.started_at),
            replayed=replayed,
        )

    def _forget(self, name: str, key: tuple[Partition, tuple[str, str]]) -> None:
        self._firing.pop(name, None)
        if self._by_key.get(key) == name:
            del self._by_key[key]


def resolved(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The last record of an alert whose own last record was compacted away."""
    text = f"{fields['flow']}: alert {fields['rule']} has ended"
    return {**fields, "state": "resolved", "reason": "unknown", "text": text}
