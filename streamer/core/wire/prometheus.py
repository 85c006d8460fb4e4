"""
Prometheus samples: prometheus-kafka-adapter's JSON, and exports of Prometheus and VictoriaMetrics.

The adapter writes one sample a message, its value as text. An export has one series a line with
arrays of values and times. Whether a series is a counter follows from its name in the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from streamer.core.wire.context import Context, reading
from streamer.core.wire.documents import first_of
from streamer.core.wire.parsed import Reading
from streamer.core.wire.times import epoch

INTERFACES = ("ifName", "device", "ifDescr", "interface", "nic", "ifIndex")
NOT_VALUES = {"nan", "+inf", "-inf", "inf"}  # a stale marker is no fault


def is_sample(d: Mapping[str, Any]) -> bool:
    """Whether an object is a sample of the adapter's."""
    return isinstance(d.get("labels"), dict) and "value" in d and "timestamp" in d


def is_series(d: Mapping[str, Any]) -> bool:
    """Whether an object is a series of an export, or an answer of Prometheus' API."""
    if isinstance(d.get("metric"), dict):
        return isinstance(d.get("values"), list) or isinstance(d.get("value"), list)
    return "status" in d and isinstance(d.get("data"), dict) and "resultType" in d["data"]


def sample(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The reading of one sample, or none."""
    labels = d["labels"]
    name = labels.get("__name__") or d["name"]
    return _readings(name, labels, ((d["timestamp"], d["value"]),), context)


def series(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of one series, values and timestamps or pairs of them; or of an answer's."""
    if "data" in d:
        found = []
        for one in d["data"]["result"]:
            if one["metric"].get("__name__"):
                found += series(one, context)
            else:  # of a function or a sum, which has none
                context.skip("a series without a name")
        return found
    labels = d["metric"]
    times = d.get("timestamps")
    if times is None:
        pairs = [(time, value) for time, value in d.get("values") or [d["value"]]]
    else:
        pairs = list(zip(times, d["values"], strict=True))
    return _readings(labels["__name__"], labels, pairs, context)


def _device(labels: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    return labels.get("agent_host") or labels.get("instance") or labels.get("host")


def _readings(
    name: str, labels: Mapping[str, Any], pairs: Sequence[tuple[Any, Any]], context: Context
) -> list[Reading]:
    row = context.table.find("prometheus", name)
    if row is None:
        context.skip(name)
        return []
    device = _device(labels) or context.options.device or ""
    interface = first_of(labels, INTERFACES) or ""
    label = f"{device}/{interface}" if device and interface else device or interface
    own = context.labels(device, interface, labels)
    found = []
    for time, value in pairs:
        digits = value.__class__ is str and value.isdigit()
        if not digits and (value is None or str(value).lower() in NOT_VALUES):
            context.skip(f"{name} {value}")
        elif isinstance(value, float) and not math.isfinite(value):
            context.skip(name)
        else:
            found.append(reading(row, label, epoch(time), value, labels=own))
    return found
