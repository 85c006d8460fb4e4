"""
Flow records (NetFlow, IPFIX, sFlow) as deltas of flows with a bounded number of names.

A record counts at each of its interfaces, once if both are the same; or under another key of the
settings. Records with one key add up in the step of their time. The time is that of the
export, because records end at any time before it and a step does not wait for them. With
`spread_s` a record that lasts longer is cut into parts of that length, each at its own time.
"""

from __future__ import annotations

import ipaddress
import itertools
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from streamer.core.types import Reason
from streamer.core.wire.context import Context
from streamer.core.wire.parsed import KeyedPart, Reading, Unfit

UNKNOWN = frozenset({0, 0x3FFFFFFF, 0xFFFFFFFF})  # no interface; what sFlow sends for unknown
RATE_MAX = 1e9
PARTS_MAX = 64
PREFIXES = {4: 24, 6: 48}  # lengths by version of IP
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "ipv6-icmp", 132: "sctp"}
AGO_MAX_S = 86_400.0  # a record's own start further before its export is a wrong clock


class FlowRecord(NamedTuple):
    """One record of any of the protocols; numbers are as the message has them."""

    exporter: str
    amount: object  # bytes, as counted by the exporter
    time: float  # of the export, epoch seconds
    rate: object = None  # one packet in so many was seen; None or 0: unknown
    into: object = None
    out: object = None
    source: str | None = None
    target: str | None = None
    source_as: object = None
    target_as: object = None
    start: float | None = None
    end: float | None = None
    suffix: str = ""  # of names by interface, if other readings have these names
    source_port: object = None
    target_port: object = None
    protocol: object = None  # its name or number
    vlan: object = None


def readings(record: FlowRecord, context: Context) -> list[Reading]:
    """The deltas of a record; raises Unfit or TypeError if its bytes are no number."""
    amount = _whole(record.amount)
    if amount is None:
        raise Unfit(Reason.WRONG_TYPE, "the bytes are not a number")
    if amount < 0:
        raise Unfit(Reason.NEGATIVE, "the bytes are negative")
    rate = _whole(record.rate)
    if rate is None or not 0 < rate <= RATE_MAX:
        context.skip("sampling_rate (unknown)")
        rate = 1
    total = amount * rate
    pieces = parts(record, total, context.options.spread_s)
    if context.options.flow_key in UNBOUNDED:
        key, other = KEYS[context.options.flow_key](record), f"{record.exporter}/{OTHER}"
        return [
            KeyedPart(key, time, value, "delta", "B", part=True, other=other)
            for time, value in pieces
        ]
    flows = keys(record, context)
    if not context.options.labels:
        return [
            Reading(key, time, value, "delta", "B", part=True)
            for key in flows
            for time, value in pieces
        ]
    return [
        Reading(key, time, value, "delta", "B", part=True, labels=labels)
        for key, labels in zip(flows, _labels(record, context), strict=True)
        for time, value in pieces
    ]


def _labels(record: FlowRecord, context: Context) -> list[dict[str, str] | None]:
    """The labels of the flows that the record counts for, in the order of `keys`."""
    known = (interface_of(record.into), interface_of(record.out))
    by: list[int | None] = [each for each in dict.fromkeys(known) if each is not None]
    if context.options.flow_key in KEYS or not by:
        by = [None]
    return [context.labels(record.exporter, interface, {}) for interface in by]


def keys(record: FlowRecord, context: Context) -> list[str]:
    """The names of the flows that the record counts for."""
    key = KEYS.get(context.options.flow_key)
    if key is not None:
        return [key(record)]
    exporter = record.exporter
    into, out, suffix = interface_of(record.into), interface_of(record.out), record.suffix
    if into is None and out is None:
        return [f"{exporter}{suffix}"]
    if into == out:
        return [f"{exporter}/{into}{suffix}"]  # the direction is not known
    found = [f"{exporter}/{into}/in{suffix}"] if into is not None else []
    return found + ([f"{exporter}/{out}/out{suffix}"] if out is not None else [])


@lru_cache(maxsize=65_536)
def prefix_of(address: str | None) -> str:
    """The network of an address, of PREFIXES' length; `?` if there is no address."""
    try:
        network = ipaddress.ip_address(address or "")
        return str(ipaddress.ip_network((network, PREFIXES[network.version]), strict=False))
    except ValueError:
        return "?"


def application_of(record: FlowRecord) -> str:
    """`tcp/443`: the protocol and the lower port, which is that of the service as a rule."""
    ports = [each for each in map(_whole, (record.source_port, record.target_port)) if each]
    protocol = record.protocol
    name = protocol.lower() if isinstance(protocol, str) and not protocol.isdigit() else None
    number = int(_whole(protocol) or 0)
    name = name or PROTOCOLS.get(number) or str(number or "?")
    return f"{name}/{int(min(ports))}" if ports else name


def _autonomous(record: FlowRecord) -> str:
    return f"AS{_whole(record.source_as) or 0}>AS{_whole(record.target_as) or 0}"


KEYS: Mapping[str, Callable[[FlowRecord], str]] = {  # other than that of the interfaces
    "addresses": lambda record: f"{record.source or '?'}>{record.target or '?'}",
    "prefix": lambda record: f"{prefix_of(record.source)}>{prefix_of(record.target)}",
    "as": _autonomous,
    "port": application_of,
    "vlan": lambda record: f"{record.exporter}/vlan{_whole(record.vlan) or 0}",
    "exporter": lambda record: record.exporter,
}
UNBOUNDED = frozenset({"addresses", "prefix", "as", "port"})  # keys that flow_keys_max applies to
OTHER = "other"  # after the exporter: the flow of all keys that have no place


def interface_of(number: object) -> int | None:
    """An interface's index; None if it is unknown."""
    index = _whole(number)
    return None if index is None or index in UNKNOWN or index < 0 else int(index)


def parts(record: FlowRecord, total: float, spread_s: float) -> list[tuple[float, int | float]]:
    """The times and amounts of a record, cut into parts if it lasts longer than *spread_s*."""
    start, end = record.start, record.end
    if not spread_s or start is None or end is None:
        return [(record.time, total)]
    if not record.time - AGO_MAX_S < start < end <= record.time + 60 or end - start <= spread_s:
        return [(record.time, total)]
    edges = [start]
    length = max(spread_s, (end - start) / PARTS_MAX)
    edge = (math.floor(start / length) + 1) * length
    while edge < end and len(edges) <= PARTS_MAX:
        edges.append(edge)
        edge += length
    edges.append(end)
    return [
        (after, total * (after - before) / (end - start))
        for before, after in itertools.pairwise(edges)
        if after > before
    ]


def _whole(value: object) -> int | float | None:
    """A number, also as text; None if it is none."""
    if value.__class__ is int and -(2**64) < value < 2**64:  # nearly always
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 21 else None
    if isinstance(value, int):
        return value if -(2**64) < value < 2**64 else None
    if isinstance(value, float) and math.isfinite(value):
        return value
    return None
