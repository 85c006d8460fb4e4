"""
Telegraf's `json` serializer: one metric a record, or `{"metrics": [...]}`.

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
    """What a field of Telegraf's counts."""

    direction: Literal["in", "out"]
    bits: Literal[32, 64]
    rank: int  # where one interface tells the same thing twice, the lowest counts


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
DEVICES = ("agent_host", "source", "host")  # `host` is the poller's where the others stand
INTERFACES = ("ifName", "ifDescr", "interface", "name", "interface_name", "ifIndex")
SPEED_MAX = 1e18  # whatever is said to be faster is no link
SUBINTERFACES = ("subinterface_index", "index")  # of gNMI: each counts beside its interface
UNITS_S = (1.0, 1e-3, 1e-6, 1e-9, 1e-1, 1e-2, 1e-4, 1e-5, 1e-7, 1e-8)
DAYS_S = (1.2e9, 4.0e9)  # 2008 to 2096: what no neighbouring unit can be taken for
TOTALS = {"all"}  # the `net` input's sum of protocols is no interface


class Metric(msgspec.Struct, frozen=True, gc=False):
    """One metric as Telegraf writes it."""

    fields: dict[str, int | float | str | bool | None]
    timestamp: int | float | str
    tags: dict[str, str] = {}


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Telegraf's batch form, its elements left as they came."""

    metrics: list[msgspec.Raw]


METRIC = msgspec.json.Decoder(Metric)
BATCH = msgspec.json.Decoder(Batch)


def recognise(value: bytes) -> bool:
    """Whether a record is Telegraf's, by names that only it has."""
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
        except (ValueError, OverflowError) as error:  # of years, or of integers of any length
            found.refusals.append(Refusal(Reason.WRONG_TYPE, part, str(error)[:DETAIL_MAX]))
            continue
        told = counters(metric, time)
        found.readings.extend(told)
        skipped += not told
    return found._replace(skipped=skipped)


def counters(metric: Metric, time: float) -> list[Reading]:
    """The readings of one interface; none if the metric counts no traffic of one."""
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
            value=metric.fields[name],  # type: ignore[arg-type]  # None and bool were left out
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
    """The first of *names* that is there; some devices quote the text once more."""
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
    Epoch seconds. Units are told apart by their size: s, ms, µs, ns, tens and hundreds of them.

    Raises ValueError where text is no time, OverflowError where a number is none.
    """
    if isinstance(timestamp, str):
        moment = datetime.fromisoformat(timestamp)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    for unit in UNITS_S:  # a writer may count in 10 ms as well: then only one unit is of our days
        if DAYS_S[0] <= timestamp * unit < DAYS_S[1]:
            return timestamp * unit
    for most, unit in ((1e11, 1.0), (1e14, 1e-3), (1e17, 1e-6)):
        if abs(timestamp) < most:
            return timestamp * unit
    return timestamp * 1e-9
