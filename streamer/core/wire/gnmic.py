"""
gNMIc's Kafka formats: `event` (an array, or single objects), `json` and `protojson`.

Each leaf below an interface whose name is in the table becomes a reading. An update may hold
single leaves or blobs (JSON, JSON_IETF) with the leaves below. The sources are
openconfig/gnmic, pkg/formatters.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from streamer.core.wire import yang
from streamer.core.wire.context import Context, pick, reading
from streamer.core.wire.documents import DECODER, host_of
from streamer.core.wire.parsed import Reading
from streamer.core.wire.times import epoch
from streamer.core.wire.yang import Leaf

SYNCED = ("sync-response", "syncResponse")
SCALARS = ("uintVal", "intVal", "doubleVal", "floatVal", "stringVal", "boolVal", "decimalVal")


def is_event(d: Mapping[str, Any]) -> bool:
    """Whether an object is one of `event`."""
    own = "values" in d or "deletes" in d
    return own and isinstance(d.get("tags"), dict) and "timestamp" in d and "name" in d


def is_json(d: Mapping[str, Any]) -> bool:
    """Whether an object is one of `json`; a mark that the first values are complete too."""
    return isinstance(d.get("updates"), list) or d.keys() <= {*SYNCED} or "subscription-name" in d


def is_protojson(d: Mapping[str, Any]) -> bool:
    """Whether an object is one of `protojson`."""
    update = d.get("update")
    return isinstance(update, dict) and "timestamp" in update


def event(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of one event."""
    tags, values = d["tags"], d.get("values") or {}
    if len(values) == 1:
        alone = _alone(tags, values, d, context)
        if alone is not None:
            return [alone]
    name = d.get("name", "")
    rows = context.table.of("gnmi")
    found: list[Leaf] = []
    for path, value in values.items():
        elements, keys, last, wanted = _known(path)
        if isinstance(value, (dict, list)):
            found += yang.leaves(value, elements, {**tags, **keys} if keys else tags)
        elif wanted and last in rows:
            interface = yang.interface_of({**tags, **keys} if keys else tags, elements)
            found.append(Leaf(interface, last, value, elements))
        else:
            context.skip(last)
    if not found:
        return []
    device = device_of(tags.get("source") or tags.get("target"), context)
    return of_leaves(found, device, epoch(d["timestamp"]), context, name, tags=tags)


def _alone(
    tags: Mapping[str, Any], values: Mapping[str, Any], d: Mapping[str, Any], context: Context
) -> Reading | None:
    """The reading of an event's only leaf; None for all but the usual kind of it."""
    [(path, value)] = values.items()
    _, keys, last, wanted = _known(path)
    row, interface = context.table.plain("gnmi").get(last), tags.get("interface_name")
    if row is None or keys or not wanted or not interface or "subinterface_index" in tags:
        return None
    if isinstance(value, (dict, list)) or interface.__class__ is not str or value is None:
        return None
    device = device_of(tags.get("source") or tags.get("target"), context)
    name = f"{device}/{interface}" if device else interface
    labels = context.labels(device, interface, tags)
    return reading(row, name, epoch(d["timestamp"]), value, labels=labels)


@lru_cache(maxsize=4096)
def _known(path: str) -> tuple[tuple[str, ...], dict[str, str], str, bool]:
    """A path's elements, keys and last element, and whether it may be of an interface."""
    elements, keys = yang.path_of(path)
    last = elements[-1] if elements else ""
    return elements, keys, last, yang.UNLIKE.isdisjoint(elements)


def json(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of one notification."""
    if "updates" not in d:
        context.skip("sync-response" if d.keys() <= {*SYNCED} else "deletes")
        return []
    device = device_of(d.get("source") or d.get("target"), context)
    prefix, above = yang.path_of(d.get("prefix") or "")
    found: list[Leaf] = []
    for update in d["updates"]:
        keys = {**above, **yang.path_of(update.get("Path") or update.get("path") or "")[1]}
        for path, value in (update.get("values") or {}).items():
            elements, own = yang.path_of(path)
            found += yang.leaves(value, (*prefix, *elements), {**keys, **own})
    name = d.get("subscription-name") or ""
    return of_leaves(found, device, epoch(d["timestamp"]), context, name)


def protojson(d: Mapping[str, Any], context: Context) -> list[Reading]:
    """The readings of one SubscribeResponse."""
    message = d["update"]
    prefix = message.get("prefix") or {}
    device = device_of(prefix.get("target"), context)
    above, keys = _proto_path(prefix)
    found: list[Leaf] = []
    for update in message.get("update") or ():
        elements, own = _proto_path(update.get("path") or {})
        value = _proto_value(update.get("val") or {})
        found += yang.leaves(value, (*above, *elements), {**keys, **own})
    return of_leaves(found, device, epoch(message["timestamp"]), context, "")


def device_of(source: object, context: Context) -> str:
    """The name of the target without its port."""
    if isinstance(source, str) and source:
        return host_of(source)
    return context.options.device or ""


def of_leaves(  # noqa: PLR0913 - what the leaves are of
    found: Iterable[Leaf],
    device: str,
    time: float,
    context: Context,
    measurement: str,
    source: str = "gnmi",
    tags: Mapping[str, Any] = MappingProxyType({}),
) -> list[Reading]:
    """The readings of leaves, grouped by interface."""
    by: dict[str, list[tuple[str, Any]]] = {}
    for leaf in found:
        if leaf.interface is None or not leaf.is_of_interface:
            context.skip(leaf.name)
        else:
            by.setdefault(leaf.interface, []).append((leaf.name, leaf.value))
    found_readings: list[Reading] = []
    for interface, values in by.items():
        name = f"{device}/{interface}" if device else interface
        labels = context.labels(device, interface, tags)
        found_readings += [
            reading(row, name, time, value, labels=labels)
            for row, value in pick(source, measurement, values, context)
        ]
    return found_readings


def _proto_path(path: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, str]]:
    elements: list[str] = []
    keys: dict[str, str] = {}
    for each in path.get("elem") or ():
        elements.append(yang.bare(each["name"]))
        for key, value in (each.get("key") or {}).items():
            keys[f"{elements[-1]}_{yang.bare(key)}"] = value
    return tuple(elements), keys


def _proto_value(value: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """A TypedValue: a scalar, or JSON in base64."""
    for name in ("jsonIetfVal", "jsonVal"):
        if name in value:
            return DECODER.decode(base64.b64decode(value[name]))
    return next((value[name] for name in SCALARS if name in value), None)
