"""The settings that fit what an inspection found, as YAML with comments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from streamer.core.wire.documents import elements_of
from streamer.feed.inspection import Inspection

OCTETS = ("octets", "bytes")
IN, OUT = ("in", "rx", "recv", "receive", "ingress"), ("out", "tx", "sent", "transmit", "egress")
NAMES = (
    *("host", "hostname", "device", "router", "source", "instance"),
    *("interface", "ifname", "port"),
)
TIMES = ("timestamp", "time", "ts", "@timestamp", "datetime", "date", "clock")
SOURCES = {  # formats whose table has another name
    "influx": "telegraf",
    "telegraf_json": "telegraf",
    "gnmic_event": "gnmi",
    "gnmic_json": "gnmi",
    "gnmic_protojson": "gnmi",
    "prometheus_kafka_adapter": "prometheus",
    "prometheus_export": "prometheus",
    "otlp_json": "otlp",
    "otlp_proto": "otlp",
    "collectd_json": "collectd",
    "collectd_command": "collectd",
    "cisco_pipeline": "cisco",
}
WITHOUT = {  # formats without a table of fields
    *("reading", "mapped", "pmacct_json"),
    *("goflow2_json", "goflow2_bin", "goflow2_raw", "goflow_v1_json"),
}


def suggested(found: Inspection, topic: str | None) -> str:
    """The `input` section for what was found."""
    section: dict[str, Any] = {"topics": [topic or "REPLACE-BY-YOUR-TOPIC"]}
    names = [name for name, _ in found.formats.most_common()]
    known = [name for name in names if name != "reading" or found.readings]
    notes = [f"# {found.records} messages: {', '.join(known) or 'of no known format'}"]
    if len(known) == 1:
        section["format"] = known[0]
    mapping = None if found.readings else _mapping(found)
    if mapping is not None:
        section |= {"format": "mapped", "mapping": mapping}
        notes.append("# The mapping is a guess from names. Check each path, and the kind:")
        notes.append("# counter (only grows), delta (growth since the last one) or gauge (a rate).")
    fields = list(_fields(found))
    if fields:
        section["fields"] = fields
        notes.append("# These fields look like octets and are in no table. Check their kind.")
    body = yaml.safe_dump({"input": section}, sort_keys=False, allow_unicode=True)
    return "\n".join([*notes, body])


def _fields(found: Inspection) -> Iterator[dict[str, Any]]:
    """Rows for skipped names that contain octets or bytes and a direction."""
    known = (name for name, _ in found.formats.most_common())
    source = next((SOURCES.get(name, name) for name in known if name not in WITHOUT), None)
    if source is None or found.readings:
        return
    for name in list(found.skipped)[:50]:
        way = _direction(name)
        if way is not None and any(word in name.lower() for word in OCTETS):
            yield {"source": source, "field": name, "direction": way, "kind": "counter"}


def _mapping(found: Inspection) -> dict[str, Any] | None:
    """A mapping for the first rejected JSON object; None if it has no number."""
    for reject in found.examples:
        value = reject.element or reject.record.value or b""
        objects = [each for each in elements_of(value)[0] if isinstance(each, dict)]
        if objects and (mapping := _mapping_of(objects[0])) is not None:
            return mapping
    return None


def _mapping_of(d: Mapping[str, Any]) -> dict[str, Any] | None:
    leaves = dict(_leaves(d, ""))
    last = {path: path.rpartition(".")[2].lower() for path in leaves}
    time = next((p for name in TIMES for p in leaves if last[p] == name), None)
    flow = [p for p, value in leaves.items() if isinstance(value, str) and last[p] in NAMES]
    values = {
        way: path
        for path, value in leaves.items()
        if path != time and not isinstance(value, (str, bool)) and (way := _direction(last[path]))
    }
    if not values:
        numbers = (p for p, v in leaves.items() if p != time and not isinstance(v, (str, bool)))
        path = next(numbers, None)
        values = {} if path is None else {"": path}
    if not values:
        return None
    mapping: dict[str, Any] = {"flow": flow or ["REPLACE-BY-A-PATH"], "values": values}
    return mapping | ({"time": time} if time else {}) | {"kind": "counter", "unit": "B"}


def _leaves(d: Mapping[str, Any], prefix: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    for name, value in d.items():
        if isinstance(value, dict) and depth < 8:
            yield from _leaves(value, f"{prefix}{name}.", depth + 1)
        elif isinstance(value, (str, int, float)):
            yield f"{prefix}{name}", value


def _direction(name: str) -> str | None:
    words = name.lower().replace("-", "_").replace(".", "_").replace(":", "_").split("_")
    for way, known in (("in", IN), ("out", OUT)):
        if any(word in known for word in words) or name.lower().startswith(f"if{way}"):
            return way
    return None
