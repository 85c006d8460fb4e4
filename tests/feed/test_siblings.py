"""
Other settings of the same collectors: captured messages, written otherwise, give the same rates.

Each case turns the messages of a capture into what the program writes with another setting, or in
another version.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from streamer.core.types import Record
from streamer.core.wire import InputConfig
from streamer.feed.inspection import Inspection
from streamer.feed.messages import captured

CAPTURED = Path(__file__).parents[3] / "shared" / "formats" / "captured"
pytestmark = pytest.mark.skipif(not CAPTURED.exists(), reason="the captured messages are not here")


def iso(seconds, *, sep="T", zone="Z"):
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at:%Y-%m-%d}{sep}{at:%H:%M:%S}.{at.microsecond:06}{zone}"


def objects(record):
    found = json.loads(record.value)
    return found if isinstance(found, list) else [found]


def dumped(*messages):
    return "\n".join(map(json.dumps, messages)).encode()


def telegraf_in(scale):
    def turn(record):
        d = json.loads(record.value)
        return json.dumps(d | {"timestamp": d["timestamp"] * scale}).encode() + b"\n"

    return turn


def telegraf_as_text(record):
    d = json.loads(record.value)
    return dumped(d | {"timestamp": iso(d["timestamp"])})


def telegraf_batch(record):
    other = {"fields": {}, "name": "x", "timestamp": 0}
    return json.dumps({"metrics": [json.loads(record.value), other]}).encode()


def telegraf_32_bits(record):
    """A device without ifXTable."""
    d = json.loads(record.value)
    fields = {k: v for k, v in d["fields"].items() if not k.startswith("ifHC")}
    return dumped(d | {"fields": fields})


def telegraf_source(record):
    """The tag of newer configurations, with no tag of the poller."""
    d = json.loads(record.value)
    return dumped(d | {"tags": {"source": d["tags"]["agent_host"], "ifDescr": d["tags"]["ifName"]}})


def telegraf_influx(record):
    d = json.loads(record.value)
    tags = "".join(f",{key}={value}" for key, value in sorted(d["tags"].items()))
    fields = ",".join(f"{key}={value}i" for key, value in d["fields"].items())
    return f"{d['name']}{tags} {fields} {d['timestamp'] * 10**9}\n".encode()


def influx_json(record):
    """What the same input gives with `data_format = "json"`."""
    head, fields, time = record.value.decode().split()
    name, *tags = head.split(",")
    values = {key: int(value[:-1]) for key, value in (f.split("=") for f in fields.split(","))}
    tags = dict(tag.split("=") for tag in tags)
    return dumped({"name": name, "tags": tags, "fields": values, "timestamp": int(time) // 10**9})


def influx_without_time(record):
    return record.value.rpartition(b" ")[0]


def influx_unsigned(record):
    head, fields, time = record.value.decode().split()
    return f"{head} {fields.replace('i,', 'u,')} {time}".encode()


def gnmi_by_telegraf(record):
    """Telegraf's gNMI input, subscribed to the interfaces: fields have whole paths."""
    d = json.loads(record.value)
    tags = {
        "source": d["tags"]["source"],
        "name": d["tags"]["interface_name"],
        "path": "/interfaces",
    }
    fields = {key.replace("-", "_"): value for key, value in d["values"].items()}
    return dumped({"name": "if", "tags": tags, "fields": fields, "timestamp": d["timestamp"]})


def gnmi_array(record):
    """Without `split-events`; values as text, one leaf an event, and marks between."""
    d = json.loads(record.value)
    leaves = [d | {"values": {path: str(value)}} for path, value in d["values"].items()]
    return json.dumps([*leaves, d | {"values": {}, "deletes": ["/x"]}]).encode()


def gnmi_port_and_prefix(record):
    d = json.loads(record.value)
    values = {k.replace("/interfaces", "/openconfig-interfaces:interfaces"): v
              for k, v in d["values"].items()}  # fmt: skip
    tags = d["tags"] | {"source": "edge1:57400"}
    return dumped(d | {"values": values, "tags": tags})


def goflow2_mapped(record):
    """The shipped mapping: fewer fields, and the time as text under the same name."""
    d = json.loads(record.value)
    kept = ("type", "sampling_rate", "sampler_address", "bytes", "packets", "src_addr", "dst_addr")
    kept = {name: d[name] for name in (*kept, "in_if", "out_if")}
    return dumped({"time_received_ns": iso(d["time_received_ns"] / 1e9), **kept})


def goflow_version_1(record):
    d = json.loads(record.value)
    flow = {"TimeReceived": d["time_received_ns"] // 10**9, "SamplingRate": d["sampling_rate"]}
    flow |= {"Bytes": d["bytes"], "SrcAddr": d["src_addr"], "DstAddr": d["dst_addr"]}
    return dumped(flow | {"InIf": 2, "OutIf": 2, "SamplerAddress": "127.0.0.1", "Type": 4})


def goflow2_confluent(record):
    return b"\0\0\0\0\x07" + record.value


def pmacct_with(stamp):
    def turn(record):
        found = []
        for d in objects(record):
            own = stamp(record.time_ms // 1000) if d["event_type"] == "purge" else {}
            found.append(d | own)
        return dumped(*found) + b"\n"

    return turn


def pmacct_local(at):
    return {
        "stamp_inserted": iso(at - 7, sep=" ", zone="")[:19],
        "stamp_updated": iso(at, sep=" ", zone=""),
    }


def pmacct_epoch(at):
    return {"stamp_inserted": f"{at - 7}", "stamp_updated": f"{at}.000000"}


def collectd_commands(record):
    [d] = objects(record)
    values = ":".join("U" if value is None else str(value) for value in d["values"])
    name = f"{d['host']}/{d['plugin']}-{d['plugin_instance']}/{d['type']}"
    return f"PUTVAL {name} interval=5.000 {d['time']}:{values}\n".encode()


def collectd_graphite(record):
    """With `StoreRates true`: the first one is nan."""
    [d] = objects(record)
    return "".join(
        f"{d['host']}.{d['plugin']}-{d['plugin_instance']}.{d['type']}.{name}"
        f" {'nan' if value is None else f'{value:f}'} {d['time']:.0f}\r\n"
        for name, value in zip(d["dsnames"], d["values"], strict=True)
    ).encode()


def graphite_prefixed(record):
    """`Prefix "collectd."` and `SeparateInstances true`."""
    lines = record.value.decode().replace("interface-", "interface.").splitlines()
    return "".join(f"collectd.{line}\r\n" for line in lines).encode()


def prometheus_with(**labels):
    def turn(record):
        d = json.loads(record.value)
        return dumped(d | {"labels": d["labels"] | labels})

    return turn


def prometheus_bare(record):
    """Without external labels, the name only among the labels, and the value as a number."""
    d = json.loads(record.value)
    labels = {k: v for k, v in d["labels"].items() if k in {"__name__", "instance", "device"}}
    return dumped({"labels": labels, "timestamp": d["timestamp"], "value": float(d["value"])})


def prometheus_series(record):
    d = json.loads(record.value)
    at = round(datetime.fromisoformat(d["timestamp"]).timestamp())
    series = {"metric": d["labels"], "values": [[at, d["value"]]]}
    return dumped({"status": "success", "data": {"resultType": "matrix", "result": [series]}})


def otlp_numbers(record):
    """As hand-written sources have it: integers as numbers, the temporality's name, old keys."""
    text = record.value.decode().replace('"scopeMetrics"', '"instrumentationLibraryMetrics"')
    name = '"AGGREGATION_TEMPORALITY_CUMULATIVE"'
    text = text.replace('"aggregationTemporality":2', f'"aggregationTemporality":{name}')
    d = json.loads(text)
    for resource in d["resourceMetrics"]:
        for scope in resource["instrumentationLibraryMetrics"]:
            for metric in scope["metrics"]:
                for point in metric.get("sum", {}).get("dataPoints", ()):
                    point["asInt"] = int(point["asInt"])
                    point["timeUnixNano"] = int(point["timeUnixNano"])
    return dumped(d)


def otlp_new_names(record):
    """Newer conventions: `network.interface.name` and `network.io.direction`."""
    text = record.value.decode().replace('"key":"device"', '"key":"network.interface.name"')
    return text.replace('"key":"direction"', '"key":"network.io.direction"').encode()


SNMP, NET, SFLOW = "telegraf-snmp-json", "telegraf-net-influx", "telegraf-sflow-influx"
CASES = [
    (SNMP, "telegraf_json", telegraf_in(1000)),
    (SNMP, "telegraf_json", telegraf_in(10**6)),
    (SNMP, "telegraf_json", telegraf_in(10**9)),
    (SNMP, "telegraf_json", telegraf_as_text),
    (SNMP, "telegraf_json", telegraf_batch),
    (SNMP, "telegraf_json", telegraf_32_bits),
    (SNMP, "telegraf_json", telegraf_source),
    (SNMP, "influx", telegraf_influx),
    (NET, "telegraf_json", influx_json),
    (NET, "influx", influx_without_time),
    (NET, "influx", influx_unsigned),
    ("gnmic-event-split", "telegraf_json", gnmi_by_telegraf),
    ("gnmic-event-split", "gnmic_event", gnmi_array),
    ("gnmic-event-split", "gnmic_event", gnmi_port_and_prefix),
    ("goflow2-ipfix-json", "goflow2_json", goflow2_mapped),
    ("goflow2-ipfix-json", "goflow_v1_json", goflow_version_1),
    ("goflow2-ipfix-json", "goflow2_json", goflow2_confluent),
    ("pmacct-nfacctd-json", "pmacct_json", pmacct_with(pmacct_local)),
    (
        "pmacct-nfacctd-json",
        "pmacct_json",
        pmacct_with(pmacct_epoch),
    ),
    ("pmacct-nfacctd-json", "pmacct_json", pmacct_with(lambda at: {"timestamp_end": str(at)})),
    ("pmacct-nfacctd-json", "pmacct_json", pmacct_with(lambda at: {"stamp_updated": iso(at)})),
    ("collectd-json-default", "collectd_command", collectd_commands),
    ("collectd-json-default", "graphite", collectd_graphite),
    ("collectd-graphite-default", "graphite", graphite_prefixed),
    ("prometheus-kafka-adapter", "prometheus_kafka_adapter", prometheus_with(replica="b", pod="x")),
    ("prometheus-kafka-adapter", "prometheus_kafka_adapter", prometheus_bare),
    ("prometheus-kafka-adapter", "prometheus_export", prometheus_series),
    ("otelcol-hostmetrics-json", "otlp_json", otlp_numbers),
    ("otelcol-hostmetrics-json", "otlp_json", otlp_new_names),
]


@pytest.mark.parametrize(("name", "form", "turn"), CASES)
def test_another_setting_gives_the_same_rates(name, form, turn):
    """Within the tolerance of the capture, by the same names, and with no reject."""
    expected = json.loads((CAPTURED / f"{name}.expect.json").read_text())
    key = "addresses" if expected["kind"] == "delta" else "interface"
    found = Inspection(InputConfig(flow_key=key))
    found.take(r._replace(value=turn(r)) for r in captured(CAPTURED / f"{name}.jsonl"))
    assert found.rejects == {}
    assert set(found.formats) == {form}
    by = {flow.flow: flow for flow in found.sorted()}
    for flow, true in expected["flows"].items():
        assert by[flow].rate == pytest.approx(true["rate_Bps"], rel=true["tolerance"]), flow
        assert by[flow].kind.name.lower() == expected["kind"]


def test_all_records_in_one_message_give_the_same_rates():
    """As an array, and as lines."""
    records = list(captured(CAPTURED / f"{SNMP}.jsonl"))
    values = [record.value.strip() for record in records]
    expected = json.loads((CAPTURED / f"{SNMP}.expect.json").read_text())
    lines = b"\n".join(values)
    batch = b'{"metrics":[' + b",".join(values) + b"]}\n"
    for value in (lines, batch):
        found = Inspection(InputConfig())
        found.take([Record(records[0].partition, 0, None, value, -1)])
        rates = {flow.flow: flow.rate for flow in found.sorted()}
        for flow, true in expected["flows"].items():
            assert rates[flow] == pytest.approx(true["rate_Bps"], rel=0.1)


def test_a_message_packed_twice_counts_once():
    """Two subscriptions, or a producer that sent again: the same reading is a duplicate."""
    records = list(captured(CAPTURED / f"{NET}.jsonl"))
    found = Inspection(InputConfig())
    found.take(each for record in records for each in (record, record))
    expected = json.loads((CAPTURED / f"{NET}.expect.json").read_text())
    rates = {flow.flow: flow.rate for flow in found.sorted()}
    for flow, true in expected["flows"].items():
        assert rates[flow] == pytest.approx(true["rate_Bps"], rel=0.1)
    assert msgspec.json.encode(found.summary())
