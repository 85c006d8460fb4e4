"""
pmacct's JSON (nfacctd, sfacctd, pmacctd), and pmtelemetryd's YANG push.

A record's fields are those of `aggregate`; only `packets` and `bytes` are sure. Its time is
`stamp_updated` (the time of writing), else its end, else the Kafka record's: without
`kafka_history` the message has none. The sources are pmacct's src/plugin_cmn_json.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamer.core.wire import flow_records, yang
from streamer.core.wire.context import Context
from streamer.core.wire.documents import DECODER, text
from streamer.core.wire.flow_records import FlowRecord
from streamer.core.wire.gnmic import of_leaves
from streamer.core.wire.parsed import Reading
from streamer.core.wire.times import epoch


def is_record(d: Mapping[str, Any]) -> bool:
    """Whether an object is a record or a marker of pmacct's."""
    if "event_type" in d and ("writer_id" in d or "bytes" in d):
        return "telemetry_data" not in d
    return "bytes" in d and "packets" in d and "flow" not in d and "value" not in d


def is_push(d: Mapping[str, Any]) -> bool:
    """Whether an object is YANG push as pmtelemetryd writes it."""
    return "telemetry_data" in d


def record(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of a record; markers are skipped."""
    if d.get("event_type", "purge") != "purge" or "bytes" not in d:
        context.skip(str(d.get("event_type")))
        return []
    zone = context.options.timezone
    start, end = d.get("timestamp_start"), d.get("timestamp_end")
    stamp = d.get("stamp_updated") or end or d.get("timestamp_arrival")
    found = FlowRecord(
        text(d.get("peer_ip_src")) or context.options.device or "flows",
        d["bytes"],
        epoch(stamp, zone) if stamp else context.now(),
        rate=d.get("sampling_rate"),
        into=d.get("iface_in"),
        out=d.get("iface_out"),
        source=text(d.get("ip_src")) or text(d.get("net_src")),
        target=text(d.get("ip_dst")) or text(d.get("net_dst")),
        source_as=d.get("as_src"),
        target_as=d.get("as_dst"),
        source_port=d.get("port_src"),
        target_port=d.get("port_dst"),
        protocol=d.get("ip_proto"),
        vlan=d.get("vlan") or d.get("vlan_in"),
        start=epoch(start, zone) if start else None,
        end=epoch(end, zone) if end else None,
    )
    return flow_records.readings(found, context)


def push(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of a YANG push update; other events are skipped."""
    telemetry = d["telemetry_data"]
    if isinstance(telemetry, str):
        telemetry = DECODER.decode(telemetry)
    notification = next(
        (each for key, each in telemetry.items() if yang.bare(key) == "notification"), telemetry
    )
    stamp = notification.get("eventTime") or d.get("timestamp")
    time = epoch(stamp, context.options.timezone) if stamp else context.now()
    device = text(d.get("telemetry_node")) or context.options.device or ""
    return of_leaves(yang.leaves(telemetry, (), {}), device, time, context, "", "yang_push")
