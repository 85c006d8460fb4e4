"""Vector's metrics as JSON, and Fluent Bit's network interface input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamer.core.wire.context import Context, reading
from streamer.core.wire.parsed import KindName, Reading
from streamer.core.wire.times import epoch

KINDS: Mapping[str, KindName] = {"absolute": "counter", "incremental": "delta"}
VALUES = ("counter", "gauge", "set", "distribution", "aggregated_histogram", "aggregated_summary")
RESET = 2**63  # a delta beyond this is what Fluent Bit makes of a counter that started again


def is_metric(d: Mapping[str, Any]) -> bool:
    """Whether an object is a metric of Vector's, bare or wrapped by `native_json`."""
    metric = d.get("metric", d)
    return (
        isinstance(metric, dict)
        and metric.get("kind") in KINDS
        and "name" in metric
        and any(name in metric for name in VALUES)
    )


def metric(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The reading of a metric, or none."""
    body = d.get("metric", d)
    name, tags = body["name"], body.get("tags") or {}
    row = context.table.find("vector", name, body.get("namespace") or "")
    shape = next((each for each in VALUES[:2] if each in body), None)
    if row is None or shape is None:
        context.skip(name)
        return []
    kind = KINDS[body["kind"]] if shape == "counter" else "gauge"
    time = epoch(body["timestamp"]) if body.get("timestamp") else context.now()
    host = tags.get("host") or context.options.device
    interface = tags.get("device") or tags.get("interface")
    label = "/".join(each for each in (host, interface) if each)
    labels = context.labels(host, interface, tags)
    return [reading(row, label, time, body[shape]["value"], kind=kind, labels=labels)]


def is_netif(d: Mapping[str, Any]) -> bool:
    """Whether an object is of Fluent Bit's `netif`."""
    return any(name.endswith((".rx.bytes", ".tx.bytes")) for name in d)


def netif(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of all interfaces; their names are in the fields'."""
    stamp = d.get("@timestamp", d.get("date", d.get("timestamp")))
    time = epoch(stamp) if stamp is not None else context.now()
    host = d.get("host") or d.get("hostname") or context.options.device
    found = []
    for name, value in d.items():
        if ".rx." not in name and ".tx." not in name:
            continue
        interface, way, what = ["", "", *name.rsplit(".", 2)][-3:]
        row = context.table.find("fluent_bit", f"{way}.{what}")
        if row is None:
            context.skip(name)
        elif isinstance(value, int) and value >= RESET:
            context.skip(f"{name} (after a reset)")
        else:
            label = "/".join(each for each in (host, interface) if each)
            labels = context.labels(host, interface, d)
            found.append(reading(row, label, time, value, labels=labels))
    return found
