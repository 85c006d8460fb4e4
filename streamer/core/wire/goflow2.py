"""
goflow2's flow records: JSON with the names of its protobuf, those of version 1, and `bin`.

The sources are netsampler/goflow2, pb/flow.proto and producer/proto. `bin` is FlowMessage with its
length before it. Bytes are not multiplied by the sampling rate there.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from streamer.core.types import Reason
from streamer.core.wire import flow_records, protobuf
from streamer.core.wire.context import PLAIN, Context
from streamer.core.wire.documents import collect
from streamer.core.wire.flow_records import FlowRecord
from streamer.core.wire.parsed import Found, Reading, Refusal
from streamer.core.wire.times import epoch

TYPES = {"SFLOW_5", "NETFLOW_V5", "NETFLOW_V9", "IPFIX"}
NUMBERS = {  # of FlowMessage's fields
    3: "sampling_rate",
    6: "src_addr",
    7: "dst_addr",
    9: "bytes",
    11: "sampler_address",
    14: "src_as",
    15: "dst_as",
    18: "in_if",
    19: "out_if",
    20: "proto",
    21: "src_port",
    22: "dst_port",
    33: "src_vlan",
    110: "time_received_ns",
    111: "time_flow_start_ns",
    112: "time_flow_end_ns",
}
ADDRESSES = {"sampler_address", "src_addr", "dst_addr"}


def is_json(d: Mapping[str, Any]) -> bool:
    """Whether an object is a flow record of version 2."""
    if "bytes" not in d or "event_type" in d:
        return False
    return "sampler_address" in d or "time_received_ns" in d or d.get("type") in TYPES


def is_version_1(d: Mapping[str, Any]) -> bool:
    """Whether an object is a flow record of version 1."""
    return "Bytes" in d and ("SamplerAddress" in d or "TimeReceived" in d or "TimeFlowEnd" in d)


def record(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of a record of version 2."""
    spread = context.options.spread_s > 0
    start, end = d.get("time_flow_start_ns"), d.get("time_flow_end_ns")
    received = d.get("time_received_ns") or d.get("time_received") or end
    found = FlowRecord(
        address(d.get("sampler_address")) or context.options.device or "flows",
        d["bytes"],
        epoch(received) if received else context.now(),
        rate=d.get("sampling_rate"),
        into=d.get("in_if"),
        out=d.get("out_if"),
        source=address(d.get("src_addr")),
        target=address(d.get("dst_addr")),
        source_as=d.get("src_as"),
        target_as=d.get("dst_as"),
        source_port=d.get("src_port"),
        target_port=d.get("dst_port"),
        protocol=d.get("proto"),
        vlan=d.get("src_vlan") or d.get("vlan_id"),
        start=epoch(start) if spread and start else None,
        end=epoch(end) if spread and end else None,
    )
    return flow_records.readings(found, context)


def version_1(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of a record of version 1: names in camel case, times in seconds."""
    start, end = d.get("TimeFlowStart"), d.get("TimeFlowEnd")
    received = d.get("TimeReceived") or d.get("TimeReceivedNs") or end
    found = FlowRecord(
        address(d.get("SamplerAddress")) or context.options.device or "flows",
        d["Bytes"],
        epoch(received) if received else context.now(),
        rate=d.get("SamplingRate"),
        into=d.get("InIf"),
        out=d.get("OutIf"),
        source=address(d.get("SrcAddr")),
        target=address(d.get("DstAddr")),
        source_as=d.get("SrcAS", d.get("SrcAs")),
        target_as=d.get("DstAS", d.get("DstAs")),
        source_port=d.get("SrcPort"),
        target_port=d.get("DstPort"),
        protocol=d.get("Proto"),
        vlan=d.get("SrcVlan") or d.get("VlanId"),
        start=epoch(start) if start else None,
        end=epoch(end) if end else None,
    )
    return flow_records.readings(found, context)


def address(text: object) -> str | None:
    """An address as text; version 1 may write its bytes in base64."""
    if not isinstance(text, str) or not text:
        return None
    if "." in text or ":" in text:
        return text
    try:
        return str(ipaddress.ip_address(base64.b64decode(text, validate=True)))
    except ValueError:
        return text


@lru_cache(maxsize=65_536)
def address_of(packed: bytes) -> str | None:
    """An address of 4 or 16 bytes as text; raises ValueError."""
    return str(ipaddress.ip_address(packed)) if packed else None


def is_bin(value: bytes) -> bool:
    """Whether a value is messages with their length before them, and the first is a FlowMessage."""
    try:
        first, at = protobuf.varint(value, 0)
        if not 0 < first <= len(value) - at:
            return False
        return {number for number, _ in protobuf.fields(value[at : at + first])} >= {1, 9, 110}
    except ValueError:
        return False


def decode_bin(value: bytes, context: Context = PLAIN) -> Found:
    """The readings of FlowMessages in protobuf."""
    try:
        messages = protobuf.frames(value)
    except ValueError as error:
        return Found([], [Refusal(Reason.WRONG_TYPE, None, str(error))])
    return collect(messages, [], _message, context)


def _message(message: bytes, context: Context) -> list[Reading]:
    d: dict[str, Any] = {}
    for number, value in protobuf.fields(message):
        name = NUMBERS.get(number)
        if name is None:
            continue
        if name in ADDRESSES and isinstance(value, bytes):
            d[name] = address_of(value)
        else:
            d[name] = value
    return record({"bytes": 0, **d}, context)
