"""
Telegraf's `json` serializer: one metric per record, or `{"metrics": [...]}`.

Interface counters of its `snmp`, `net`, `gnmi` and `cisco_telemetry_mdt` inputs
become readings; any other metric is skipped and counted. Field and tag names are those of
influxdata/telegraf, plugins/inputs; the form is that of plugins/serializers/json.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from streamer.core.types import Reason
from streamer.core.wire.parsed import Found, Reading, Refusal
from streamer.core.wire.readings import DETAIL_MAX, reason_of


class Counter(NamedTuple):
    """The meaning of a counter field in Telegraf's metrics."""

    direction: Literal["in", "out"]
    bits: Literal[32, 64]
    rank: int  # if one interface has the same counter twice, the lowest rank counts


COUNTERS = {
    "ifHCInOctets": Counter("in", 64, 0),
    "ifHCOutOctets": Counter("out", 64, 0),
    "ifInOctets": Counter("in", 32, 1),
    "ifOutOctets": Counter("out", 32, 1),
    "bytes_recv": Counter("in", 64, 0),
    "bytes_sent": Counter("out", 64, 0),
    "in_octets": Counter("in", 64, 0),
    "out_octets": Counter("out", 64, 0),
    "in-octets": Counter("in", 64, 0),
    "out-octets": Counter("out", 64, 0),
    "bytes-received": Counter("in", 64, 0),
    "bytes-sent": Counter("out", 64, 0),
}
DEVICES = ("agent_host", "source", "host")  # with the other tags, `host` names the poller
INTERFACES = ("ifName", "ifDescr", "interface", "name", "interface_name", "ifIndex")
SPEED_MAX = 1e18  # a higher speed is not plausible
SUBINTERFACES = ("subinterface_index", "index")  # of gNMI: a flow beside that of its interface
UNITS_S = (1.0, 1e-3, 1e-6, 1e-9, 1e-1, 1e-2, 1e-4, 1e-5, 1e-7, 1e-8)
DAYS_S = (1.2e9, 4.0e9)  # 2008 to 2096: no neighbouring unit gives a time in this range
TOTALS = {"all"}  # the `net` input's sum of protocols, which is not an interface


class Metric(msgspec.Struct, frozen=True, gc=False):
    """One metric as Telegraf writes it."""

    fields: dict[str, int | float | str | bool | None]
    timestamp: int | float | str
    tags: dict[str, str] = {}


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Telegraf's batch form; its elements are not decoded."""

    metrics: list[msgspec.Raw]


METRIC = msgspec.json.Decoder(Metric)
BATCH = msgspec.json.Decoder(Batch)


def recognise(value: bytes) -> bool:
    """Whether a record is in Telegraf's format, recognised by names that only Telegraf uses."""
    return b'"fields"' in value and b'"tags"' in value


def decode(value: bytes) -> Found:
    """The interface counters of a record."""
    try:
        elements = [bytes(raw) for raw in BATCH.decode(value).metrics]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        elements = [line for line in value.split(b"\n") if line.strip()] or [value]
    found, skipped = Found([], []), int(not elements)
    for element in elements:
        part = None if len(elements) == 1 else element
        try:
            metric = METRIC.decode(element)
            time = epoch(metric.timestamp)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            found.refusals.append(Refusal(reason_of(error), part, str(error)[:DETAIL_MAX]))
            continue
        except (ValueError, OverflowError) as error:  # an invalid year, or too large an integer
            found.refusals.append(Refusal(Reason.WRONG_TYPE, part, str(error)[:DETAIL_MAX]))
            continue
        told = counters(metric, time)
        found.readings.extend(told)
        skipped += not told
    return found._replace(skipped=skipped)


def counters(metric: Metric, time: float) -> list[Reading]:
    """The readings of one interface; empty if the metric has no traffic counters."""
    device = first(metric.tags, DEVICES)
    interface = first(metric.tags, INTERFACES) or first(metric.fields, INTERFACES)
    if device is None or interface is None or interface in TOTALS:
        return []
    unit = first(metric.tags, SUBINTERFACES)
    if unit is not None and ("subinterface" in metric.tags.get("path", "") or "." in unit):
        interface = unit if unit.startswith(interface) else f"{interface}.{unit}"
    best: dict[str, str] = {}
    for name, value in metric.fields.items():
        counter = COUNTERS.get(name)
        if counter is None or value is None or isinstance(value, bool):
            continue
        held = best.get(counter.direction)
        if held is None or counter.rank < COUNTERS[held].rank:
            best[counter.direction] = name
    return [
        Reading(
            flow=f"{device}/{interface}/{direction}",
            time=time,
            value=metric.fields[name],  # type: ignore[arg-type]  # None and bool are excluded above
            kind="counter",
            unit="B",
            capacity=capacity(metric),
            bits=COUNTERS[name].bits,
        )
        for direction, name in best.items()
    ]


def first(
    named: dict[str, str] | dict[str, int | float | str | bool | None], names: tuple[str, ...]
) -> str | None:
    """The first of *names* that is present, without the quotes that some devices add."""
    for name in names:
        found = named.get(name)
        if isinstance(found, str) and found.strip('"'):
            return found.strip('"')
    return None


def capacity(metric: Metric) -> float | None:
    """The link's speed in bytes per second: ifHighSpeed is in Mb/s, ifSpeed in b/s."""
    for name, scale in (("ifHighSpeed", 1e6 / 8), ("ifSpeed", 1 / 8)):
        speed = metric.fields.get(name)
        if (
            isinstance(speed, (int, float))
            and not isinstance(speed, bool)
            and 0 < speed < SPEED_MAX
        ):
            return speed * scale
    return None


def epoch(timestamp: float | str) -> float:
    """
    Epoch seconds. The unit is inferred from the size: s, ms, µs, ns, or 10 or 100 times these.

    Raises ValueError if text is not a time, OverflowError if a number is out of range.
    """
    if isinstance(timestamp, str):
        moment = datetime.fromisoformat(timestamp)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    for unit in UNITS_S:  # a writer may count in 10 ms too; only one unit gives a present-day time
        if DAYS_S[0] <= timestamp * unit < DAYS_S[1]:
            return timestamp * unit
    for most, unit in ((1e11, 1.0), (1e14, 1e-3), (1e17, 1e-6)):
        if abs(timestamp) < most:
            return timestamp * unit
    return timestamp * 1e-9
