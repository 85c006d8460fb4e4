"""Readings a second of each of the commonest formats, from records to columns, on one thread."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping

from streamer.core import wire
from streamer.core.types import Partition, Record
from streamer.core.wire import InputConfig
from tests.bench.rows import Row, timed

P = Partition("bench.formats", 0)
AT = 1_767_225_600
MANY = 100  # readings of a message that holds many


def messages() -> Mapping[str, bytes]:
    """A message of each format; most hold one interface, some many."""
    net = {"bytes_recv": 10**12, "bytes_sent": 10**11, "packets_recv": 7, "err_in": 0}
    tags = {"host": "web-1", "interface": "eth0"}
    telegraf = {"name": "net", "tags": tags, "fields": net, "timestamp": AT}
    line = b"net,host=web-1,interface=eth%d bytes_recv=1000000000000i,bytes_sent=5i %d000000000"
    leaf = "/interfaces/interface/state/counters/in-octets"
    event = {
        "name": "port_stats",
        "timestamp": AT * 10**9,
        "tags": {"interface_name": "Ethernet1", "source": "core-r1:57400"},
        "values": {leaf: 10**12},
    }
    flow = {
        "type": "IPFIX",
        "time_received_ns": AT * 10**9,
        "sampling_rate": 1000,
        "sampler_address": "192.0.2.1",
        "bytes": 125_000,
        "src_addr": "198.51.100.7",
        "dst_addr": "203.0.113.9",
        "in_if": 1,
        "out_if": 2,
    }
    name = "ifHCInOctets"
    labels = {"__name__": name, "instance": "192.0.2.1", "ifName": "Et1"}
    sample = {"timestamp": "2026-01-01T00:00:00Z", "value": "7", "name": name, "labels": labels}
    return {
        "telegraf_json": json.dumps(telegraf).encode(),
        "influx": line % (0, AT),
        "influx_lines": b"\n".join(line % (i, AT) for i in range(MANY // 2)),
        "gnmic_event": json.dumps([event]).encode(),
        "gnmic_event_array": json.dumps([event] * MANY).encode(),
        "goflow2_json": json.dumps(flow).encode(),
        "prometheus": json.dumps(sample).encode(),
        "otlp_json": json.dumps(otlp()).encode(),
    }


def otlp() -> dict[str, object]:
    """An export of many points."""
    points = [
        {
            "attributes": [
                {"key": "device", "value": {"stringValue": f"eth{i // 2}"}},
                {"key": "direction", "value": {"stringValue": ("receive", "transmit")[i % 2]}},
            ],
            "timeUnixNano": str(AT * 10**9),
            "asInt": str(10**12),
        }
        for i in range(MANY)
    ]
    body = {"dataPoints": points, "aggregationTemporality": 2}
    metric = {"name": "system.network.io", "unit": "By", "sum": body}
    host = {"attributes": [{"key": "host.name", "value": {"stringValue": "web-1"}}]}
    return {"resourceMetrics": [{"resource": host, "scopeMetrics": [{"metrics": [metric]}]}]}


def rows(readings: int = 20_000, repeats: int = 5) -> Iterator[Row]:
    """A row for each format."""
    config = InputConfig()
    for name, value in messages().items():
        held = len(wire.decode([Record(P, 0, None, value, AT * 1000)], config).readings)
        number = max(1, readings // held)
        records = [Record(P, i, None, value, AT * 1000) for i in range(number)]
        took = [timed(lambda: wire.decode(records, config)) for _ in range(repeats)]  # noqa: B023
        rate = number * held / statistics.median(took)
        note = f"{held} readings a message, {len(value)} bytes"
        yield Row(f"decode_{name}", rate, "readings/s", note=note)
