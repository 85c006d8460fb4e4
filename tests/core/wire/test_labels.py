"""Labels of a flow, from the tags of its messages to its forecasts and alerts."""

import json
from importlib import resources

import jsonschema
import msgspec
import pytest

from streamer.core import wire
from streamer.core.alerts.rules import AlertsConfig
from streamer.core.engine import Engine, EngineConfig
from streamer.core.types import Labels, Partition, Record
from streamer.core.wire import InputConfig, alerts, rekeyed
from streamer.core.wire.forecasts import Encoder, ForecastsConfig
from streamer.core.wire.labels import CHARACTERS_MAX, read
from tests.simulation.fingerprint import Fingerprint

AT = 1_767_225_600
P = Partition("in", 0)


def record(value, offset=0):
    given = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Record(P, offset, None, given, AT * 1000)


SNMP = {
    "name": "interface",
    "tags": {"agent_host": "edge1", "host": "poller", "ifName": "xe-0/0/1", "site": "fra1"},
    "fields": {"ifHCInOctets": 5, "ifAlias": 'uplink "north"'},
    "timestamp": AT,
}
OTLP = {
    "resourceMetrics": [
        {
            "resource": {
                "attributes": [
                    {"key": "host.name", "value": {"stringValue": "web1"}},
                    {"key": "datacenter", "value": {"stringValue": "ams"}},
                ]
            },
            "scopeMetrics": [
                {
                    "metrics": [
                        {
                            "name": "system.network.io",
                            "sum": {
                                "aggregationTemporality": 2,
                                "isMonotonic": True,
                                "dataPoints": [
                                    {
                                        "attributes": [
                                            {"key": "device", "value": {"stringValue": "eth0"}},
                                            {
                                                "key": "direction",
                                                "value": {"stringValue": "receive"},
                                            },
                                        ],
                                        "timeUnixNano": str(AT * 10**9),
                                        "asInt": "7",
                                    }
                                ],
                            },
                        }
                    ]
                }
            ],
        }
    ]
}
GNMI = {
    "name": "counters",
    "timestamp": AT * 10**9,
    "tags": {"interface_name": "ethernet-1/1", "source": "leaf1:57400", "site": "fra2"},
    "values": {"/interface/statistics/in-octets": "12"},
}
PROMETHEUS = {
    "timestamp": "2026-01-01T00:00:00Z",
    "value": "5",
    "name": "ifHCInOctets",
    "labels": {"__name__": "ifHCInOctets", "instance": "r1", "ifName": "e1", "ifAlias": "core"},
}
FLOW = {
    "type": "IPFIX",
    "time_received_ns": AT * 10**9,
    "sampler_address": "192.0.2.1",
    "bytes": 10,
    "in_if": 3,
    "out_if": 4,
}
OWN = {"flow": "a", "time": AT, "value": 1, "labels": {"site": "x", "host": 7, "other": "y"}}


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (SNMP, [Labels("edge1", "xe-0/0/1", 'uplink "north"', "fra1")]),
        (b"snmp,source=r1,ifName=e1,alias=up ifHCInOctets=5i", [Labels("r1", "e1", "up")]),
        (OTLP, [Labels("web1", "eth0", "", "ams")]),
        (GNMI, [Labels("leaf1", "ethernet-1/1", "", "fra2")]),
        (PROMETHEUS, [Labels("r1", "e1", "core")]),
        (FLOW, [Labels("192.0.2.1", "3"), Labels("192.0.2.1", "4")]),
        (b"edge1.interface-wan0.if_octets.rx 5 1767225600", [Labels("edge1", "wan0")]),
        (OWN, [Labels("7", "", "", "x")]),
        ({**OWN, "labels": ["no", "object"]}, [None]),
        ({**OWN, "labels": {"host": None, "site": ""}}, [None]),
    ],
)  # fmt: skip
def test_labels_are_read_from_the_tags_of_each_format(message, found):
    """Only if they are wanted; the readings are the same without them."""
    config = InputConfig()
    with_labels = wire.decode([record(message)], config, labels=True)
    without = wire.decode([record(message)], config)
    assert with_labels.rejects == []
    assert with_labels.readings.labels == found
    assert without.readings.labels is None
    assert without.readings.flow == with_labels.readings.flow


def test_flow_records_under_keys_without_a_bound_have_none():
    found = wire.decode([record(FLOW)], InputConfig(flow_key="as"), labels=True)
    assert found.readings.labels == [None]
    by_exporter = wire.decode([record(FLOW)], InputConfig(flow_key="exporter"), labels=True)
    assert by_exporter.readings.labels == [Labels("192.0.2.1")]


def test_a_label_is_bounded_and_always_text():
    """However long, and half of a surrogate pair is replaced."""
    found = read({"host": "x" * 1000, "alias": "\ud83d", "site": 10**30, "interface": True})
    assert found == Labels("x" * CHARACTERS_MAX, "", "?", "")


def test_a_rekeyer_passes_labels_on():
    decoded = wire.decode(
        [record(SNMP), record(OWN | {"labels": None})], InputConfig(), labels=True
    )
    first, second = rekeyed.messages(decoded, [-1, -1], "t", lambda _flow: 0)
    again = wire.decode([record(first.value)], InputConfig(), labels=True)
    assert again.readings.labels == [Labels("edge1", "xe-0/0/1", 'uplink "north"', "fra1")]
    assert "labels" not in json.loads(second.value)


def readings(minute, **labels):
    value = {"flow": "a", "time": AT + 60 * minute, "value": 6_000 * minute, "labels": labels}
    return record(value, minute)


def fields_of(made, turn):
    """The forecasts of a turn as consumers read them."""
    encoder = Encoder(made.config.forecasts, 60)
    return [json.loads(each.value) for each in encoder.messages(turn.forecasts)]


def engine(*, labels, **more):
    config = EngineConfig(flows_max=64, forecasts=ForecastsConfig(labels=labels), **more)
    made = Engine(Fingerprint(), config, page_rows=8)
    made.restore(P, {}, 0, 1)
    return made


def schema(name):
    text = resources.files("streamer").joinpath(f"schemas/{name}.schema.json").read_text()
    return json.loads(text)


def test_a_forecast_has_the_labels_of_the_reading_that_closed_its_step():
    """In any batches; flows without labels have no such fields."""
    every = [
        readings(0),
        readings(1, host="r1"),
        readings(2, host="r1", alias='a "b"'),
        readings(3),
    ]
    for batches in ([every], [[each] for each in every]):
        made = engine(labels=True)
        found = [each for batch in batches for each in fields_of(made, made.step(batch))]
        names = ("host", "interface", "alias", "site")
        seen = [{name: each[name] for name in names if name in each} for each in found]
        assert seen == [{"host": "r1"}, {"host": "r1", "alias": 'a "b"'}, {}]
        for each in found:
            jsonschema.validate(each, schema("forecast"))
    made = engine(labels=False)
    assert "host" not in fields_of(made, made.step(every))[0]


def test_alerts_have_the_labels_of_their_flow():
    """Beside those of the rule; the end of an alert has them too."""
    rule = {"name": "high", "kind": "threshold", "above": 50, "labels": {"team": "core"}}
    rule |= {"for_steps": 1, "clear_steps": 1}
    config = msgspec.convert({"enabled": True, "rules": [rule]}, AlertsConfig)
    made = engine(labels=True, alerts=config)
    table = {}
    found = []
    for minute in range(4):
        turn = made.step([readings(minute, host="r1", site="fra1")], share=1.0)
        found += turn.alerts
        table |= {entry.key: entry.value for entry in turn.entries if entry.value is not None}
    assert found
    fields = json.loads(alerts.encoded(found[0]))
    assert (fields["host"], fields["site"], fields["label_team"]) == ("r1", "fra1", "core")
    assert "interface" not in fields
    jsonschema.validate(fields, schema("alert"))
    again = engine(labels=True)  # without rules: the alert that fires ends
    again.release([P])
    again.restore(P, table, 4, 1)
    (ended,) = again.step([]).alerts
    assert ended.state == "resolved"
    assert ended.flow_labels == {"host": "r1", "site": "fra1"}
