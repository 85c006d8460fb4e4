"""
OpenTelemetry metrics: OTLP as JSON and as protobuf, decoded to the same tree.

`system.network.io` and what the settings add become readings; the temporality determines whether a
sum is a counter or a delta. Field numbers are those of opentelemetry-proto,
metrics/v1/metrics.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from streamer.core.types import Reason
from streamer.core.wire import protobuf
from streamer.core.wire.context import PLAIN, Context, reading
from streamer.core.wire.documents import collect, first_of
from streamer.core.wire.mappings import Row
from streamer.core.wire.parsed import Found, KindName, Reading, Refusal
from streamer.core.wire.times import epoch

HOSTS = ("host.name", "net.host.name", "server.address", "k8s.node.name")
DEVICES = ("device", "network.interface.name", "interface.name", "interface", "ifName")
DIRECTIONS = ("direction", "network.io.direction")
TEMPORALITY: Mapping[Any, KindName] = {
    1: "delta",
    2: "counter",
    "AGGREGATION_TEMPORALITY_DELTA": "delta",
    "AGGREGATION_TEMPORALITY_CUMULATIVE": "counter",
}
SCALES = {"kBy": 1000, "MBy": 10**6, "GBy": 10**9, "KiBy": 2**10, "MiBy": 2**20, "GiBy": 2**30}
FIRST_S = 1e-3  # a delta over less than this is the whole counter since boot
SIGNALS = ("resourceMetrics", "resourceLogs", "resourceSpans")


def is_json(d: Mapping[str, Any]) -> bool:
    """Whether an object is an export of metrics; those of logs and spans are skipped."""
    return any(name in d for name in SIGNALS)


def request(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of an export request."""
    found: list[Reading] = []
    for resource in d.get("resourceMetrics") or ():
        attributes = _attributes(resource.get("resource") or {})
        host = _host(attributes, context)
        scopes = resource.get("scopeMetrics") or resource.get("instrumentationLibraryMetrics")
        for scope in scopes or ():
            for metric in scope.get("metrics") or ():
                found += _metric(metric, host, attributes, context)
    for signal in SIGNALS[1:]:
        if signal in d:
            context.skip(signal)
    return found


def _metric(
    metric: Mapping[str, Any], host: str, resource: Mapping[str, Any], context: Context
) -> Iterator[Reading]:
    name = metric["name"]
    shape = next((each for each in ("sum", "gauge") if each in metric), None)
    if shape is None:
        context.skip(name)
        return
    body = metric[shape] or {}
    kind: KindName | None = "gauge"
    if shape == "sum":
        kind = TEMPORALITY.get(body.get("aggregationTemporality"))
    scale = SCALES.get(metric.get("unit") or "", 1)  # UCUM; bytes without one
    rows: dict[str | None, Row | None] = {}
    prefix, find = f"{host}/" if host else "", context.table.find
    for point in body.get("dataPoints") or ():
        marks = _attributes(point)
        way = first_of(marks, DIRECTIONS)
        way = None if way is None else str(way)
        if way not in rows:
            rows[way] = find("otlp", f"{name}:{way}") or find("otlp", name)
        row = rows[way]
        if row is None or kind is None:
            context.skip(name if row is None else f"{name} (temporality unknown)")
            continue
        value = point.get("asInt", point.get("asDouble"))
        stamp, start = point["timeUnixNano"], point.get("startTimeUnixNano")
        time = epoch(stamp if stamp.__class__ is int else int(stamp))
        if kind == "delta" and start and int(start) and time - epoch(int(start)) < FIRST_S:
            context.skip(f"{name} (first delta)")
            continue
        if value is None:
            context.skip(name)
            continue
        if scale != 1:
            value = float(value) * scale if isinstance(value, float) else int(value) * scale
        device = first_of(marks, DEVICES)
        label = f"{prefix}{device}" if device else host
        labels = None
        if context.options.labels:
            labels = context.labels(host, device or "", {**resource, **marks})
        yield reading(row, label, time, value, kind=kind, labels=labels)


def _host(attributes: Mapping[str, Any], context: Context) -> str:
    """The host's name; ids that change with each start are no part of it."""
    found = first_of(attributes, HOSTS)
    return str(found) if found else context.options.device or ""


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for each in holder.get("attributes") or ():
        value = each.get("value")  # one entry: its type and itself
        found[each["key"]] = next(iter(value.values())) if value else None
    return found


def is_proto(value: bytes) -> bool:
    """Whether a value is an export of metrics in protobuf."""
    if value[:1] != b"\n":
        return False
    try:
        parts = list(protobuf.fields(value))
        return all(number == 1 and _is_resource(part) for number, part in parts)
    except ValueError:
        return False


def _is_resource(part: int | bytes) -> bool:
    if not isinstance(part, bytes):
        return False
    found = {number for number, _ in protobuf.fields(part)}
    return bool(found) and found <= {1, 2, 3}


def decode_proto(value: bytes, context: Context = PLAIN) -> Found:
    """The readings of an export request in protobuf."""
    try:
        tree = {
            "resourceMetrics": [
                _resource(part) for number, part in protobuf.fields(value) if number == 1
            ]
        }
    except (ValueError, TypeError, struct.error) as error:
        return Found([], [Refusal(Reason.WRONG_TYPE, None, str(error))])
    return collect([tree], [], request, context)


def _bytes(part: int | bytes) -> bytes:
    if not isinstance(part, bytes):
        raise TypeError("a field has another type than the schema")
    return part


def _all(message: int | bytes, wanted: int) -> Iterator[int | bytes]:
    return (part for number, part in protobuf.fields(_bytes(message)) if number == wanted)


def _resource(message: int | bytes) -> dict[str, Any]:
    attributes = [_pair(a) for resource in _all(message, 1) for a in _all(resource, 1)]
    scopes = [
        {"metrics": [_proto_metric(metric) for metric in _all(scope, 2)]}
        for scope in _all(message, 2)
    ]
    return {"resource": {"attributes": attributes}, "scopeMetrics": scopes}


def _proto_metric(message: int | bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"name": ""}
    for number, part in protobuf.fields(_bytes(message)):
        if number == 1:
            found["name"] = _bytes(part).decode()
        elif number == 3:
            found["unit"] = _bytes(part).decode()
        elif number in {5, 7}:
            body: dict[str, Any] = {"dataPoints": [_point(point) for point in _all(part, 1)]}
            for each in _all(part, 2) if number == 7 else ():
                body["aggregationTemporality"] = each
            found["gauge" if number == 5 else "sum"] = body
    return found


def _point(message: int | bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"attributes": [], "timeUnixNano": 0}
    for number, part in protobuf.fields(_bytes(message)):
        if number == 7:
            found["attributes"].append(_pair(part))
        elif number == 2:
            found["startTimeUnixNano"] = part
        elif number == 3:
            found["timeUnixNano"] = part
        elif number == 4 and isinstance(part, int):
            found["asDouble"] = struct.unpack("<d", part.to_bytes(8, "little"))[0]
        elif number == 6 and isinstance(part, int):
            found["asInt"] = part - 2**64 if part >= 2**63 else part
    return found


def _pair(message: int | bytes) -> dict[str, Any]:
    key, value = "", None
    for number, part in protobuf.fields(_bytes(message)):
        if number == 1:
            key = _bytes(part).decode()
        elif number == 2:
            for kind, content in protobuf.fields(_bytes(part)):
                value = content.decode() if kind == 1 and isinstance(content, bytes) else content
    return {"key": key, "value": {"value": value}}
