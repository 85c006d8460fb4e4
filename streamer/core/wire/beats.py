"""
Elastic Beats: Metricbeat's `system.network` counters and Packetbeat's flows.

Packetbeat reports a flow again and again with sums from its beginning; only the last
report, marked `final`, is a delta of all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamer.core.wire import flow_records
from streamer.core.wire.context import Context, pick, reading
from streamer.core.wire.flow_records import FlowRecord
from streamer.core.wire.parsed import Reading
from streamer.core.wire.times import epoch


def is_event(d: Mapping[str, Any]) -> bool:
    """Whether an object is an event of a Beat's."""
    meta = d.get("@metadata")
    if isinstance(meta, dict) and "beat" in meta:
        return True
    return "@timestamp" in d and any(name in d for name in ("metricset", "agent", "beat"))


def event(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of an event."""
    flow = d.get("flow")
    if isinstance(flow, dict) and ("source" in d or "destination" in d):
        return _flow(d, flow, context)
    network = (d.get("system") or {}).get("network")
    if not isinstance(network, dict) or not network.get("name"):
        context.skip(str((d.get("event") or {}).get("dataset") or "event"))
        return []
    values = [
        (f"system.network.{way}.{name}", value)
        for way in ("in", "out")
        for name, value in (network.get(way) or {}).items()
    ]
    label = "/".join(each for each in (_host(d, context), network["name"]) if each)
    time = epoch(d["@timestamp"])
    labels = context.labels(_host(d, context), network["name"], d.get("labels") or {})
    return [
        reading(row, label, time, value, labels=labels)
        for row, value in pick("beats", "", values, context)
    ]


def _host(d: Mapping[str, Any], context: Context) -> str:
    found = (
        (d.get("host") or {}).get("name")
        or (d.get("agent") or {}).get("name")
        or (d.get("beat") or {}).get("hostname")
    )
    return str(found) if found else context.options.device or ""


def _flow(d: Mapping[str, Any], flow: Mapping[str, Any], context: Context) -> list[Reading]:
    if not flow.get("final"):
        context.skip("flow (not final)")
        return []
    source, target = d.get("source") or {}, d.get("destination") or {}
    event = d.get("event") or {}
    start, end = event.get("start"), event.get("end")
    found: list[Reading] = []
    for one, other in ((source, target), (target, source)):
        record = FlowRecord(
            _host(d, context) or "flows",
            one.get("bytes", 0),
            epoch(d["@timestamp"]),
            rate=1,
            source=one.get("ip"),
            target=other.get("ip"),
            start=epoch(start) if start else None,
            end=epoch(end) if end else None,
        )
        found += flow_records.readings(record, context)
    return found
