"""
The table of formats: each is found by the structure of a message, and decoded by its own file.

`find` decides for each message. JSON is parsed once and its first object is compared with the
formats in order; text and binary formats are found by how they begin. What no format recognises
is taken for our own readings, which gives it its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from streamer.core.wire import (
    beats,
    collectd,
    gnmic,
    goflow2,
    influx,
    mapped,
    monitoring,
    nprobe,
    otlp,
    pmacct,
    prometheus,
    readings,
    sflow,
    telegraf,
    vector,
)
from streamer.core.wire.context import Context
from streamer.core.wire.documents import STRUCTURE, Element, collect, elements_of
from streamer.core.wire.mapped import MappingConfig
from streamer.core.wire.parsed import Found, Reading

Decoder = Callable[[bytes, Context], Found]
JSON_BEGINS = (b"{", b"[")
WITHHELD = b"withheld: the device's fields may be secrets"


class JsonFormat(NamedTuple):
    """A format of JSON objects."""

    name: str
    recognise: Callable[[Mapping[str, Any]], bool]
    one: Element


JSON: tuple[JsonFormat, ...] = (
    JsonFormat("gnmic_event", gnmic.is_event, gnmic.event),
    JsonFormat("goflow2_json", goflow2.is_json, goflow2.record),
    JsonFormat("goflow2_raw", sflow.is_raw, sflow.datagram),
    JsonFormat("pmacct_json", pmacct.is_record, pmacct.record),
    JsonFormat("prometheus_kafka_adapter", prometheus.is_sample, prometheus.sample),
    JsonFormat("otlp_json", otlp.is_json, otlp.request),
    JsonFormat("gnmic_json", gnmic.is_json, gnmic.json),
    JsonFormat("gnmic_protojson", gnmic.is_protojson, gnmic.protojson),
    JsonFormat("collectd_json", collectd.is_json, collectd.json),
    JsonFormat("goflow_v1_json", goflow2.is_version_1, goflow2.version_1),
    JsonFormat("librenms", monitoring.is_librenms, monitoring.librenms),
    JsonFormat("beats", beats.is_event, beats.event),
    JsonFormat("vector", vector.is_metric, vector.metric),
    JsonFormat("prometheus_export", prometheus.is_series, prometheus.series),
    JsonFormat("nprobe", nprobe.is_record, nprobe.record),
    JsonFormat("zabbix", monitoring.is_zabbix, monitoring.zabbix),
    JsonFormat("cisco_pipeline", monitoring.is_cisco, monitoring.cisco),
    JsonFormat("yang_push", pmacct.is_push, pmacct.push),
    JsonFormat("fluent_bit", vector.is_netif, vector.netif),
)
BY_NAME = {each.name: each for each in JSON}


def find(  # noqa: PLR0911 - a table of formats
    value: bytes, context: Context, mapping: MappingConfig | None
) -> tuple[str, Found]:
    """The format of a message and its content."""
    if value.lstrip()[:1] in JSON_BEGINS:
        found = _json(value, context, mapping)
        if found is not None:
            return found
    if otlp.is_proto(value):
        return "otlp_proto", otlp.decode_proto(value, context)
    if collectd.is_command(value):
        return "collectd_command", collectd.decode_command(value, context)
    if collectd.is_graphite(value):
        return "graphite", collectd.decode_graphite(value, context)
    if goflow2.is_bin(value):
        return "goflow2_bin", goflow2.decode_bin(value, context)
    if influx.recognise(value):
        return "influx", influx.decode(value, context)
    return "reading", readings.decode(value)


def _json(  # noqa: PLR0911 - likewise
    value: bytes, context: Context, mapping: MappingConfig | None
) -> tuple[str, Found] | None:
    """The same for JSON; None if no object of it is of a known format."""
    if mapping is None and b'"flow"' in value and b'"value"' in value:
        own = readings.decode(value)
        if own.readings:
            return "reading", own
    if telegraf.recognise(value) and b'"measurement"' not in value and b'"@timestamp"' not in value:
        return "telegraf_json", telegraf.decode(value, context)
    elements, refusals = elements_of(value)
    first = next((each for each in elements if isinstance(each, dict) and each), None)
    if first is None:
        return None
    if mapping is not None and mapped.matches(first, mapping):
        return "mapped", collect(elements, refusals, of_mapping(mapping), context)
    for each in JSON:
        if _is(each, first):
            return each.name, _plain(each, collect(elements, refusals, each.one, context))
    if isinstance(first.get("metrics"), list) or telegraf.recognise(value):
        return "telegraf_json", telegraf.decode(value, context)
    return None


def _is(each: JsonFormat, d: Mapping[str, Any]) -> bool:
    """Whether an object is of a format; an unexpected structure is of none."""
    try:
        return each.recognise(d)
    except STRUCTURE:
        return False


def named(each: JsonFormat) -> Decoder:
    """The decoder of messages of one JSON format."""

    def decode(value: bytes, context: Context) -> Found:
        elements, refusals = elements_of(value)
        return _plain(each, collect(elements, refusals, each.one, context))

    return decode


def of_mapping(mapping: MappingConfig) -> Element:
    """The decoder of one object by the mapping of the settings."""

    def one(element: Any, context: Context) -> list[Reading]:  # noqa: ANN401 - JSON
        return mapped.readings(element, mapping, context)

    return one


def _plain(each: JsonFormat, found: Found) -> Found:
    """*found* without elements that may hold secrets."""
    if each.name != "librenms":
        return found
    refusals = [refusal._replace(element=WITHHELD) for refusal in found.refusals]
    return found._replace(refusals=refusals)


def _own(value: bytes, context: Context) -> Found:  # noqa: ARG001 - one signature for all formats
    return readings.decode(value)


FORMATS: Mapping[str, Decoder] = {
    "reading": _own,
    "telegraf_json": telegraf.decode,
    "influx": influx.decode,
    "graphite": collectd.decode_graphite,
    "collectd_command": collectd.decode_command,
    "goflow2_bin": goflow2.decode_bin,
    "otlp_proto": otlp.decode_proto,
    **{each.name: named(each) for each in JSON},
}
