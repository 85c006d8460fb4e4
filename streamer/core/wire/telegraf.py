"""
Telegraf's `json` serializer: one metric per record, or `{"metrics": [...]}`.

Interface counters of its `snmp`, `net`, `gnmi` and `cisco_telemetry_mdt` inputs become
readings, and so do the flow records of its `netflow` input; any other metric is skipped and
counted. Field and tag names are those of influxdata/telegraf, plugins/inputs; the form is that of
plugins/serializers/json.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streamer.core.types import Reason
from streamer.core.wire import flow_records, yang
from streamer.core.wire.context import PLAIN, Context, pick, reading
from streamer.core.wire.flow_records import FlowRecord
from streamer.core.wire.parsed import Found, Reading, Refusal, Unfit
from streamer.core.wire.readings import reason_of
from streamer.core.wire.times import epoch
from streamer.core.wire.words import plainly

DEVICES = ("agent_host", "source", "host")  # with the other tags, `host` names the poller
INTERFACES = (
    *("ifName", "ifDescr", "interface", "name", "interface_name", "interface-name"),
    "ifIndex",
)
SPEED_MAX = 1e18  # a higher speed is not plausible
SUBINTERFACES = ("subinterface_index", "index")  # of gNMI: a flow beside that of its interface
TOTALS = {"all"}  # the `net` input's sum of protocols, which is not an interface
SPEEDS = (("ifHighSpeed", 1e6 / 8), ("ifSpeed", 1 / 8), ("high_speed", 1e6 / 8))
SPEED_FIELDS = frozenset(("speed", *(name for name, _ in SPEEDS)))
FLOW_VERSIONS = {"NetFlowV5", "NetFlowV9", "IPFIX", "sFlowV5"}  # the tag of its netflow input
UNKNOWN_32 = 2**32 - 1

Value = int | float | str | bool | None


class Metric(msgspec.Struct, frozen=True, gc=False):
    """One metric as Telegraf writes it."""

    fields: dict[str, Value]
    timestamp: int | float | str
    tags: dict[str, str] = {}
    name: str = ""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """Telegraf's batch form; its elements are not decoded."""

    metrics: list[msgspec.Raw]


METRIC = msgspec.json.Decoder(Metric)
BATCH = msgspec.json.Decoder(Batch)


def recognise(value: bytes) -> bool:
    """Whether a record is in Telegraf's format, recognised by names that only Telegraf uses."""
    return b'"fields"' in value and b'"tags"' in value


def decode(value: bytes, context: Context = PLAIN) -> Found:
    """The interface counters of a record."""
    elements = elements_of(value)
    found, skipped = Found([], []), int(not elements)
    for element in elements:
        part = None if len(elements) == 1 else element
        try:
            metric = METRIC.decode(element)
            metric_readings = counters(
                metric, epoch(metric.timestamp, context.options.timezone), context
            )
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            found.refusals.append(Refusal(reason_of(error), part, plainly(error)))
            continue
        except Unfit as error:
            found.refusals.append(Refusal(error.reason, part, plainly(error)))
            continue
        except (TypeError, ValueError, OverflowError) as error:  # an invalid year, a large integer
            found.refusals.append(Refusal(Reason.WRONG_TYPE, part, plainly(error)))
            continue
        found.readings.extend(metric_readings)
        skipped += not metric_readings
    return found._replace(skipped=skipped)


def elements_of(value: bytes) -> list[bytes]:
    """The metrics of a record: those of a batch, or one on each line."""
    if b'"metrics"' in value:
        try:
            return [bytes(raw) for raw in BATCH.decode(value).metrics]
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass  # a metric or a tag may have this name
    if b"\n" not in value:
        return [value]
    return [line for line in value.split(b"\n") if line.strip()] or [value]


Place = tuple[str | None, str | None, str | None]  # a device, an interface, a subinterface


def place_of(tags: Mapping[str, str]) -> Place:
    """What the tags of a metric name; None for what they do not."""
    return first(tags, DEVICES), first(tags, INTERFACES), first(tags, SUBINTERFACES)


def counters(
    metric: Metric, time: float, context: Context = PLAIN, place: Place | None = None
) -> list[Reading]:
    """
    The readings of one metric; empty if it has no traffic counters.

    *place* is that of its tags, if it is known.
    """
    version = metric.tags.get("version")
    if version in FLOW_VERSIONS:
        return of_flows(metric, time, context, sampled=version == "sFlowV5")
    device, interface, unit = place or place_of(metric.tags)
    device = device or context.options.device
    interface = interface or first(metric.fields, INTERFACES)
    if device is None or interface is None or interface in TOTALS:
        context.skip(metric.name or "metric")
        return []
    fields, path = metric.fields, metric.tags.get("path")
    if path is not None and "/" in "".join(fields):
        path, fields = path_of(fields) or path, last_elements(fields, context, within=unit)
    if unit is not None and ("subinterface" in (path or "") or "." in unit):
        interface = unit if unit.startswith(interface) else f"{interface}.{unit}"
    picked = pick("telegraf", metric.name, fields.items(), context)
    if not picked:
        return []
    name, speed = f"{device}/{interface}", capacity(metric)
    labels = None
    if context.options.labels:
        labels = context.labels(device, interface, {**metric.fields, **metric.tags})
    return [reading(row, name, time, value, capacity=speed, labels=labels) for row, value in picked]


def path_of(fields: Mapping[str, Value]) -> str:
    """The path of the first field of a subinterface; empty if there is none."""
    return next((name for name in fields if "subinterface" in name), "")


def last_elements(
    fields: Mapping[str, Value], context: Context, *, within: str | None
) -> dict[str, Value]:
    """
    The fields of gNMI by the last elements of their paths, as far as they are of the interface.

    A subscription above the counters, and `canonical_field_names`, give names like
    `state/counters/in_octets`. Those of a subinterface count if its index *within* is known.
    """
    found: dict[str, Value] = {}
    for name, value in fields.items():
        elements = yang.path_of(name)[0]
        parts = within is None and "subinterface" in elements
        if parts or not elements or not yang.UNLIKE.isdisjoint(elements):
            context.skip(name)
        else:
            found[elements[-1]] = value
    return found


def of_flows(metric: Metric, time: float, context: Context, *, sampled: bool) -> list[Reading]:
    """The readings of a flow record, or of the interface counters that sFlow sends beside them."""
    fields = metric.fields
    exporter = text_of(fields.get("agent_ip")) or first(metric.tags, ("agent_ip", "source"))
    if exporter is None:
        context.skip(metric.name)
        return []
    if sampled and "src" not in fields and "interface" in fields | metric.tags:
        return of_sflow_counters(metric, exporter, time, context)
    if not any(each in fields for each in ("src", "in_snmp", "out_snmp")):
        context.skip(metric.name)  # options and templates carry in_bytes too
        return []
    if sampled:
        names: tuple[str, ...] = ("l2_bytes", "ipv4_total_len", "ip_total_len")
    else:
        names = ("in_bytes", "out_bytes")
    amount = next((fields[name] for name in names if fields.get(name) is not None), None)
    if amount is None:
        context.skip("in_total_bytes" if "in_total_bytes" in fields else metric.name)
        return []
    record = FlowRecord(
        exporter,
        amount,
        time,
        rate=next(
            (fields[n] for n in ("sampling_interval", "sampling_rate") if fields.get(n)), None
        ),
        into=fields.get("in_snmp"),
        out=fields.get("out_snmp"),
        source=text_of(fields.get("src")),
        target=text_of(fields.get("dst")),
        source_as=fields.get("bgp_src_as", fields.get("src_as")),
        target_as=fields.get("bgp_dst_as", fields.get("dst_as")),
        start=seconds(fields.get("flow_start_ms")) or started(fields, time),
        end=seconds(fields.get("flow_end_ms")) or time,
        source_port=fields.get("src_port"),
        target_port=fields.get("dst_port"),
        protocol=fields.get("protocol"),
        vlan=fields.get("vlan_src"),
        suffix="/sampled" if sampled else "",
    )
    return flow_records.readings(record, context)


def of_sflow_counters(
    metric: Metric, exporter: str, time: float, context: Context
) -> list[Reading]:
    """The octets of an sFlow counter sample: cumulative, under the names of a flow's deltas."""
    interface = metric.fields.get("interface", metric.tags.get("interface"))
    number = flow_records.interface_of(interface)
    if number is None:
        context.skip("sFlow counters of an unknown interface")
        return []
    speed = metric.fields.get("speed")
    link = speed / 8 if isinstance(speed, (int, float)) and 0 < speed < SPEED_MAX else None
    labels = context.labels(exporter, number, metric.tags)
    found = []
    for name, value in metric.fields.items():
        way = {"in_bytes": "in", "out_bytes": "out"}.get(name)
        if way is None or not isinstance(value, (int, float)) or value in {2**64 - 1, UNKNOWN_32}:
            context.skip(name)
            continue
        flow = f"{exporter}/{number}/{way}"
        found.append(Reading(flow, time, value, "counter", "B", link, 64, labels=labels))
    return found


def text_of(value: Value) -> str | None:
    """A field that is text."""
    return value if isinstance(value, str) and value else None


def started(fields: Mapping[str, Value], time: float) -> float | None:
    """When a flow that was exported at *time* began, by its switch times in ms of an uptime."""
    first, last = fields.get("first_switched"), fields.get("last_switched")
    if not isinstance(first, int) or not isinstance(last, int) or last <= first:
        return None
    return time - (last - first) / 1e3


def seconds(value: Value) -> float | None:
    """Milliseconds since the epoch in seconds; None for other numbers, as of an uptime."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 1e12:
        return None
    return value / 1e3


def first(named: Mapping[str, Value], names: tuple[str, ...]) -> str | None:
    """The first of *names* that is present, without the quotes that some devices add."""
    for name in names:
        found = named.get(name)
        if isinstance(found, str) and found:
            bare = found.strip('"') if found[0] == '"' or found[-1] == '"' else found
            if bare:
                return bare
    return None


def capacity(metric: Metric) -> float | None:
    """The link's speed in bytes per second: ifHighSpeed is in Mb/s, ifSpeed in b/s."""
    fields = metric.fields
    if SPEED_FIELDS.isdisjoint(fields):
        return None
    for name, scale in SPEEDS:
        speed = fields.get(name)
        if (
            isinstance(speed, (int, float))
            and not isinstance(speed, bool)
            and 0 < speed < SPEED_MAX
        ):
            return speed * scale
    speed = fields.get("speed") if "bytes_recv" in fields else None  # of the net input, in Mb/s
    if isinstance(speed, (int, float)) and not isinstance(speed, bool) and 0 < speed < SPEED_MAX:
        return speed * 1e6 / 8
    return None
