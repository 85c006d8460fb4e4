"""Items of monitoring systems: LibreNMS' ports, Zabbix' history, Cisco's pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from streamer.core.wire.context import Context, pick, reading
from streamer.core.wire.documents import host_of, text
from streamer.core.wire.parsed import Reading
from streamer.core.wire.times import epoch

BLANK = "_blank_"  # LibreNMS' empty tag
ITEM = re.compile(r"Interface ([^:(]+?)(?:\([^)]*\))?\s*: *(.+)")  # the name of a Zabbix item


def is_librenms(d: Mapping[str, Any]) -> bool:
    """Whether an object is a measurement of LibreNMS'."""
    return "measurement" in d and isinstance(d.get("fields"), dict) and "device" in d


def librenms(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of a port; the device's other fields may be secrets and are not copied."""
    tags, device = d.get("tags") or {}, d["device"]
    names = (text(tags.get(name)) for name in ("ifName", "ifDescr", "ifIndex"))
    interface = next((name for name in names if name and name != BLANK), None)
    if interface is None:
        context.skip(str(d["measurement"]))
        return []
    stamp = device.get("current_polled_time")
    time = epoch(stamp, context.options.timezone) if stamp else context.now()
    label = f"{device['hostname']}/{interface}"
    values = pick("librenms", str(d["measurement"]), d["fields"].items(), context)
    labels = context.labels(device["hostname"], interface, tags)
    return [reading(row, label, time, value, labels=labels) for row, value in values]


def is_zabbix(d: Mapping[str, Any]) -> bool:
    """Whether an object is an item's value of Zabbix' connector."""
    return "itemid" in d and "clock" in d


def zabbix(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The reading of an item, or none."""
    found = ITEM.match(d["name"])
    row = context.table.find("zabbix", found[2].strip()) if found else None
    if found is None or row is None:
        context.skip(d["name"] if found is None else found[2])
        return []
    marks = {each["tag"]: each["value"] for each in d.get("item_tags") or ()}
    host = d["host"]
    name = (host.get("host") or host["name"]) if isinstance(host, dict) else host
    interface = marks.get("interface") or found[1].strip()
    label = f"{name}/{interface}"
    time = epoch(d["clock"]) + d.get("ns", 0) / 1e9
    labels = context.labels(name, interface, marks)
    return [reading(row, label, time, d["value"], labels=labels)]


def is_cisco(d: Mapping[str, Any]) -> bool:
    """Whether an object is of Cisco's pipeline."""
    return isinstance(d.get("Telemetry"), dict) and "Rows" in d


def cisco(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of all rows."""
    head = d["Telemetry"]
    device = head.get("node_id_str") or host_of(d.get("Source") or "") or context.options.device
    rows = d["Rows"]
    found: list[Reading] = []
    for row in rows if isinstance(rows, list) else [rows]:
        keys = row.get("Keys") or {}
        interface = keys.get("interface-name") or keys.get("name")
        if not interface:
            context.skip(str(head.get("encoding_path") or "row"))
            continue
        stamp = row.get("Timestamp") or head["msg_timestamp"]
        label = f"{device}/{interface}" if device else str(interface)
        values = pick("cisco", head.get("encoding_path") or "", row["Content"].items(), context)
        labels = context.labels(device, interface, keys)
        found += [
            reading(each, label, epoch(stamp), value, labels=labels) for each, value in values
        ]
    return found
