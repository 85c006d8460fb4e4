"""nProbe's flow records: names of elements, or their numbers; both directions in one record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamer.core.wire import flow_records
from streamer.core.wire.context import Context
from streamer.core.wire.documents import text
from streamer.core.wire.flow_records import FlowRecord
from streamer.core.wire.parsed import Reading
from streamer.core.wire.times import epoch

NUMBERS = {  # of IPFIX elements, as keys without --json-labels
    "1": "IN_BYTES",
    "23": "OUT_BYTES",
    "8": "IPV4_SRC_ADDR",
    "12": "IPV4_DST_ADDR",
    "27": "IPV6_SRC_ADDR",
    "28": "IPV6_DST_ADDR",
    "10": "INPUT_SNMP",
    "14": "OUTPUT_SNMP",
    "16": "SRC_AS",
    "17": "DST_AS",
    "21": "LAST_SWITCHED",
    "22": "FIRST_SWITCHED",
    "34": "SAMPLING_INTERVAL",
    "4": "PROTOCOL",
    "7": "L4_SRC_PORT",
    "11": "L4_DST_PORT",
    "58": "SRC_VLAN",
    "130": "EXPORTER_IPV4_ADDRESS",
}


def is_record(d: Mapping[str, Any]) -> bool:
    """Whether an object is a flow record of nProbe's."""
    if "IN_BYTES" in d or "OUT_BYTES" in d:
        return True
    return "1" in d and ("8" in d or "27" in d)


def record(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of both directions."""
    fields = {NUMBERS.get(name, name): value for name, value in d.items()}
    exporter = text(fields.get("EXPORTER_IPV4_ADDRESS")) or context.options.device or "nprobe"
    stamp, start = fields.get("LAST_SWITCHED"), fields.get("FIRST_SWITCHED")
    time = epoch(stamp) if stamp else context.now()
    source = text(fields.get("IPV4_SRC_ADDR")) or text(fields.get("IPV6_SRC_ADDR"))
    target = text(fields.get("IPV4_DST_ADDR")) or text(fields.get("IPV6_DST_ADDR"))
    known = any(flow_records.interface_of(fields.get(n)) for n in ("INPUT_SNMP", "OUTPUT_SNMP"))
    found: list[Reading] = []
    for name, back in (("IN_BYTES", False), ("OUT_BYTES", True)):
        if fields.get(name) is None:
            continue
        into, out = fields.get("INPUT_SNMP"), fields.get("OUTPUT_SNMP")
        as_in, as_out = fields.get("SRC_AS"), fields.get("DST_AS")
        forward = FlowRecord(
            exporter,
            fields[name],
            time,
            rate=fields.get("SAMPLING_INTERVAL", 1),
            into=out if back else into,
            out=into if back else out,
            source=target if back else source,
            target=source if back else target,
            source_as=as_out if back else as_in,
            target_as=as_in if back else as_out,
            start=epoch(start) if start else None,
            end=time,
            source_port=fields.get("L4_SRC_PORT"),
            target_port=fields.get("L4_DST_PORT"),
            protocol=fields.get("PROTOCOL_MAP") or fields.get("PROTOCOL"),
            vlan=fields.get("SRC_VLAN"),
            suffix=("/out" if back else "/in") if not known else "",
        )
        found += flow_records.readings(forward, context)
    return found
