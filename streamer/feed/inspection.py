"""
The result of decoding messages, by flow: format, kind, unit, number of readings and mean rate.

The mean rate is over the input: a counter's growth over the time of that growth, the sum of deltas
after the first reading's time over the time since, the mean of a gauge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import msgspec

from streamer.core import wire
from streamer.core.types import Kind, Record, Reject
from streamer.core.wire.flow_keys import FlowKeys
from streamer.core.wire.parsed import Reading
from streamer.core.wire.rekeyed import encoded
from streamer.core.wire.settings import InputConfig
from streamer.feed.rows import FILE

BATCH = 256
NARROW = 2**32
FLOWS_MAX = 1_000_000  # that are counted separately; readings of more are counted as skipped
KEPT_MAX = 5  # rejects that are kept to be shown


@dataclass(slots=True)
class FlowSummary:
    """What was read of one flow in one kind and unit."""

    flow: str
    format: str
    kind: Kind
    unit: str
    capacity: float = 0.0
    readings: int = 0
    first: float = 0.0  # epoch seconds
    last: float = 0.0
    count: int = 0  # of a counter's newest reading
    amount: float = 0  # growth, sum after the first time, or sum; a counter's is an exact integer
    covered_s: float = 0.0

    def take(self, time: float, value: float, count: int, bits: int, rate_max: float) -> None:
        """Add one reading."""
        self.readings += 1
        if self.readings == 1:
            self.first = self.last = time
            self.count = count
            self.amount = value if self.kind == Kind.GAUGE else 0
            return
        if self.kind == Kind.GAUGE:
            self.amount += value
        elif self.kind == Kind.DELTA:
            if time > self.first:
                self.amount += value
        elif time > self.last:
            self._grow(time, count, bits, rate_max)
        self.first = min(self.first, time)
        self.last = max(self.last, time)

    def _grow(self, time: float, count: int, bits: int, rate_max: float) -> None:
        """The growth of a counter since its newest reading; none if it started again."""
        took_s, growth = time - self.last, count - self.count
        if growth < 0 and self.count < NARROW and bits != 64:
            wrapped = growth % NARROW
            limit = 1.25 * self.capacity if self.capacity else rate_max
            at_end = self.count >= 0.75 * NARROW and wrapped < 0.25 * NARROW
            if wrapped <= limit * took_s and (bits == 32 or at_end):
                growth = wrapped
        if growth >= 0:
            self.amount += growth
            self.covered_s += took_s
        self.count = count

    @property
    def rate(self) -> float | None:
        """The mean rate per second; None if one reading does not give it."""
        if self.kind == Kind.GAUGE:
            return self.amount / self.readings
        span_s = self.covered_s if self.kind == Kind.COUNTER else self.last - self.first
        return self.amount / span_s if span_s > 0 else None

    def as_json(self) -> dict[str, Any]:
        """One object of `--json`."""
        return {
            "flow": self.flow,
            "format": self.format,
            "kind": self.kind.name.lower(),
            "unit": self.unit,
            "readings": self.readings,
            "first": self.first,
            "last": self.last,
            "rate": self.rate,
        }


@dataclass(slots=True)
class Inspection:
    """What was found in all messages."""

    config: InputConfig
    flows: dict[tuple[str, Kind, str], FlowSummary] = field(default_factory=dict)
    records: int = 0
    readings: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    examples: list[Reject] = field(default_factory=list)
    keys: FlowKeys = field(init=False)

    def __post_init__(self) -> None:
        self.keys = FlowKeys(self.config)

    def take(self, records: Iterable[Record]) -> None:
        """Decode *records* and add what they contain."""
        for batch in batched_records(records):
            self._take(batch)

    def take_readings(self, batches: Iterable[Sequence[Reading]], most: int | None) -> None:
        """Add readings out of a file that holds no messages, *most* of them at most."""
        own = msgspec.structs.replace(self.config, format="reading", sources=(), rekeyed=None)
        readings = islice(chain.from_iterable(batches), most)
        records = (Record(FILE, n, None, encoded(each), -1) for n, each in enumerate(readings))
        for batch in batched_records(records):
            self._take(batch, own)

    def _take(self, records: Sequence[Record], config: InputConfig | None = None) -> None:
        found = wire.decode(records, config or self.config, self.skipped)
        settled = self.keys.settle(found.readings)
        self.keys.adopt(settled)
        readings = settled.readings
        if settled.moved:
            self.skipped["keys beyond flow_keys_max (counted as other)"] += settled.moved
        self.records += len(records)
        self.readings += len(readings)
        self.formats.update(name for name in found.formats if name)
        for reject in found.rejects:
            self.rejects[str(reject.reason)] += 1
            if len(self.examples) < KEPT_MAX:
                self.examples.append(reject)
        for record, each in zip(found.record.tolist(), readings.each(), strict=True):
            flow, unit, time, value, count, number, bits, capacity = each
            kind = Kind(number)
            key = flow, kind, unit.decode()
            summary = self.flows.get(key)
            if summary is None:
                if len(self.flows) >= FLOWS_MAX:
                    self.skipped["(more flows than are shown)"] += 1
                    continue
                form = found.formats[record]
                self.flows[key] = summary = FlowSummary(flow, form, kind, key[2])
            summary.capacity = capacity or summary.capacity
            summary.take(time, value, count, bits, self.config.rate_max)

    def call_format(self, form: str) -> None:
        """Name the format of all flows, which the messages do not contain."""
        for each in self.flows.values():
            each.format = form
        self.formats = Counter({form: self.records})

    def sorted(self) -> list[FlowSummary]:
        """All flows by their names."""
        return [self.flows[key] for key in sorted(self.flows)]

    def summary(self) -> dict[str, Any]:
        """The last object of `--json`."""
        return {
            "records": self.records,
            "readings": self.readings,
            "skipped": dict(self.skipped.most_common()),
            "rejects": dict(self.rejects.most_common()),
        }


def batched_records(records: Iterable[Record]) -> Iterator[Sequence[Record]]:
    """*records* in batches that are decoded at once."""
    remaining = iter(records)
    while batch := list(islice(remaining, BATCH)):
        yield batch
