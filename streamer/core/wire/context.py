"""What a decoder may use besides the value: the record's own time, the settings, the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from streamer.core.types import Reason
from streamer.core.wire import mappings
from streamer.core.wire.labels import labels_of
from streamer.core.wire.mappings import Row, Table
from streamer.core.wire.parsed import KindName, Reading, Unfit

FlowKey = Literal["interface", "addresses", "prefix", "as", "port", "vlan", "exporter"]
Collectd = Literal["auto", "rates", "counters"]


class Options(NamedTuple):
    """The settings that formats depend on; see InputConfig."""

    device: str | None = None
    timezone: str = "UTC"
    flow_key: FlowKey = "interface"
    spread_s: float = 0.0
    kind: KindName = "counter"
    collectd: Collectd = "auto"
    labels: bool = False  # whether labels of flows are read


class Context(NamedTuple):
    """What a decoder may use besides the value."""

    time: float | None = None  # the record's timestamp in epoch seconds
    options: Options = Options()
    table: Table = mappings.PLAIN
    skips: Counter[str] | None = None  # counts what is skipped by name; None: it is not asked

    def skip(self, name: str) -> None:
        """Count one value that is well formed and not wanted."""
        if self.skips is not None:
            self.skips[name] += 1

    def labels(
        self, host: object, interface: object, tags: Mapping[str, Any]
    ) -> dict[str, str] | None:
        """The labels of a message with these *tags*; None if they are not read."""
        return labels_of(host, interface, tags) if self.options.labels else None

    def now(self) -> float:
        """The time of a message that has none: the record's; raises Unfit."""
        if self.time is None:
            raise Unfit(Reason.WRONG_TYPE, "neither the message nor its record has a time")
        return self.time


PLAIN = Context()


def pick(
    source: str, measurement: str, values: Iterable[tuple[str, Any]], context: Context
) -> list[tuple[Row, Any]]:
    """The wanted *values* of one interface, each direction once: that of the lowest rank."""
    best: dict[str, tuple[Row, Any]] = {}
    plain, rows, skips = context.table.plain(source), context.table.of(source), context.skips
    for name, value in values:
        row = plain.get(name)
        if row is None and name in rows:
            row = context.table.find(source, name, measurement)
        if row is None or value is None or isinstance(value, bool):
            if skips is not None:
                skips[name] += 1
            continue
        held = best.get(row.suffix)
        if held is not None:
            context.skip((held[0] if row.rank < held[0].rank else row).field)
        if held is None or row.rank < held[0].rank:
            best[row.suffix] = row, value
    return list(best.values())


def reading(  # noqa: PLR0913 - a reading's fields
    row: Row,
    name: str,
    time: float,
    value: Any,  # noqa: ANN401 - checked here
    *,
    kind: KindName | None = None,
    capacity: float | None = None,
    labels: dict[str, str] | None = None,
) -> Reading:
    """
    The reading of a field of the interface *name*.

    Raises TypeError if the value is no number, Unfit if the name is empty: readings of all that
    have no name would be one flow.
    """
    if value.__class__ is not int and (
        isinstance(value, bool) or not isinstance(value, (int, float, str))
    ):
        raise TypeError(f"{row.field} is not a number")
    if row.factor != 1.0:
        value = float(value) * row.factor
    kind, unit = kind or row.kind, row.unit
    if kind == "gauge" and "/" not in unit:
        unit += "/s"
    if not name:
        raise Unfit(Reason.FLOW_NAME, "it names neither a device nor an interface")
    flow = name + row.suffix
    if labels is None:
        return Reading(flow, time, value, kind, unit, capacity, row.bits)
    return Reading(flow, time, value, kind, unit, capacity, row.bits, labels=labels)
