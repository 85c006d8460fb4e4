"""
goflow2's `raw`: an sFlow datagram as JSON, with counter samples and packet samples in one message.

A counter sample is cumulative; a packet sample is a delta of the frame's length times the sampling
rate. Their names differ by `/sampled`, because both are of the same interfaces. Raw NetFlow and
IPFIX are skipped: their templates come in other messages. The names are those of goflow2's
decoders/sflow.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from typing import Any

from streamer.core.wire import flow_records
from streamer.core.wire.context import Context
from streamer.core.wire.documents import host_of
from streamer.core.wire.flow_records import FlowRecord
from streamer.core.wire.goflow2 import address
from streamer.core.wire.parsed import Reading
from streamer.core.wire.times import epoch

TYPES = {"sflow", "netflowv5", "netflowv9", "ipfix"}
WAYS = (("if-in-octets", "in"), ("if-out-octets", "out"))
UNKNOWN = {2**32 - 1, 2**64 - 1}  # what an agent sends for a counter that it does not have
ETHERNET = 1  # the protocol of a sampled header
VLAN, IPV4, IPV6 = b"\x81\x00", b"\x08\x00", b"\x86\xdd"  # types of a frame's content
ADDRESSES = {IPV4: (12, 4), IPV6: (8, 16)}  # where the source stands in a header, and its length


def is_raw(d: Mapping[str, Any]) -> bool:
    """Whether an object is a datagram as the raw producer writes it."""
    return d.get("type") in TYPES and isinstance(d.get("message"), dict)


def datagram(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of all samples of a datagram."""
    message = d["message"]
    if d["type"] != "sflow":
        context.skip(f"{d['type']} (raw)")
        return []
    exporter = address(message.get("agent-ip")) or host_of(d.get("src") or "")
    exporter = exporter or context.options.device or "flows"
    stamp = d.get("time_received")
    time = epoch(stamp) if stamp else context.now()
    found: list[Reading] = []
    for sample in message.get("samples") or ():
        for record in sample.get("records") or ():
            content = record.get("data")
            if not isinstance(content, dict):
                context.skip("record (not decoded)")
            elif "if-index" in content:
                found += _counters(content, exporter, time, context)
            elif "frame-length" in content:
                found += _packet(sample, content, exporter, time, context)
            else:
                context.skip("record (no octets)")
    return found


def _counters(
    content: Mapping[str, Any], exporter: str, time: float, context: Context
) -> list[Reading]:
    """The octets of an interface."""
    number = flow_records.interface_of(content["if-index"])
    if number is None:
        context.skip("sFlow counters of an unknown interface")
        return []
    speed = content.get("if-speed")
    link = speed / 8 if isinstance(speed, int) and 0 < speed < 2**63 else None
    labels = context.labels(exporter, number, {})
    found = []
    for name, way in WAYS:
        value = content.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value in UNKNOWN:
            context.skip(name)
            continue
        flow = f"{exporter}/{number}/{way}"
        found.append(Reading(flow, time, value, "counter", "B", link, 64, labels=labels))
    return found


def _packet(
    sample: Mapping[str, Any],
    content: Mapping[str, Any],
    exporter: str,
    time: float,
    context: Context,
) -> list[Reading]:
    """The deltas of a sampled frame; expanded samples name their interfaces otherwise."""
    source = target = None
    if context.options.flow_key == "addresses":
        source, target = _addresses(content)
    record = FlowRecord(
        exporter,
        content["frame-length"],
        time,
        rate=sample.get("sampling-rate"),
        into=sample.get("input", sample.get("input-if-value")),
        out=sample.get("output", sample.get("output-if-value")),
        source=source,
        target=target,
        suffix="/sampled",
    )
    return flow_records.readings(record, context)


def _addresses(content: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The addresses in a sampled Ethernet header; None if it has no IP header."""
    packed = content.get("header-data")
    if content.get("protocol") != ETHERNET or not isinstance(packed, str):
        return None, None
    try:
        frame = base64.b64decode(packed)
    except ValueError:
        return None, None
    at = 12
    while frame[at : at + 2] == VLAN:
        at += 4
    place = ADDRESSES.get(frame[at : at + 2])
    if place is None:
        return None, None
    first, length = at + 2 + place[0], place[1]
    source, target = frame[first : first + length], frame[first + length : first + 2 * length]
    if len(target) < length:
        return None, None
    return str(ipaddress.ip_address(source)), str(ipaddress.ip_address(target))
