"""Messages of collectors: each format is found by its structure and gives the flows in it."""

import base64
import json
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core import wire
from streamer.core.types import PART, Kind, Partition, Reason, Record
from streamer.core.wire import FORMATS, InputConfig, mappings, protobuf
from streamer.core.wire.context import Context
from streamer.core.wire.mapped import MappingConfig
from streamer.core.wire.mappings import Field
from streamer.core.wire.times import epoch

SHARED = Path(__file__).parents[4] / "shared" / "formats"
SAMPLES = SHARED / "samples"
P = Partition("t", 0)
AT = 1_767_225_600


def decode(*values, time_ms=-1, skips=None, **settings):
    encoded = [v if isinstance(v, bytes | None) else json.dumps(v).encode() for v in values]
    records = [Record(P, i, None, v, time_ms) for i, v in enumerate(encoded)]
    return wire.decode(records, InputConfig(**settings), skips)


def rows(found):
    readings = found.readings
    return list(zip(readings.flow, readings.time.tolist(), readings.value.tolist(), strict=True))


def flows(found):
    return sorted(set(found.readings.flow))


COUNTERS = [(0, 10**12, 5 * 10**11), (10, 10**12 + 125 * 10**6, 5 * 10**11 + 25 * 10**6)]


def two_reads(name):
    """What the samples of counters hold: two reads of one interface, ten seconds apart."""
    return [
        (f"{name}/{way}", AT + after, float(value))
        for after, into, out in COUNTERS
        for way, value in (("in", into), ("out", out))
    ]


CASES = {
    "telegraf_snmp.jsonl": ("telegraf_json", "192.0.2.1/Et1"),
    "gnmic_event_array.jsonl": ("gnmic_event", "core-r1/Ethernet1"),
    "gnmic_event_split_strings.jsonl": ("gnmic_event", "leaf1/ethernet-1/1"),
    "gnmic_json.jsonl": ("gnmic_json", "core-r1/Ethernet1"),
    "gnmic_protojson.jsonl": ("gnmic_protojson", "core-r1/Ethernet1"),
    "librenms_ports.jsonl": ("librenms", "core-r1/Hu0/0/0/1"),
    "metricbeat.jsonl": ("beats", "web-1/eth0"),
    "pmacct_yang_push.jsonl": ("yang_push", "192.0.2.1/100GE0/3/0"),
}


@pytest.mark.skipif(not SAMPLES.exists(), reason="the samples of formats are not here")
@pytest.mark.parametrize(("file", "case"), CASES.items(), ids=CASES)
def test_a_sample_of_counters_has_both_reads_of_both_directions(file, case):
    form, name = case
    found = decode(*(SAMPLES / file).read_bytes().splitlines())
    assert set(found.formats) == {form}
    assert found.rejects == []
    whole = [(flow, int(time), value) for flow, time, value in rows(found)]
    assert whole == two_reads(name)
    assert set(found.readings.kind.tolist()) == {Kind.COUNTER}


@pytest.mark.skipif(not SAMPLES.exists(), reason="the samples of formats are not here")
def test_influx_lines_of_several_inputs():
    """SNMP, gNMI with an escaped name, and a flow record; in one message."""
    found = decode((SAMPLES / "telegraf.influx.txt").read_bytes())
    assert found.formats == ["influx"]
    expected = [*two_reads("192.0.2.1/Et1"), *two_reads("core-r1/Ethernet 1/1")]
    expected += [("192.0.2.1/1/in", AT + 10, 1500.0), ("192.0.2.1/2/out", AT + 10, 1500.0)]
    assert rows(found) == expected


@pytest.mark.skipif(not SAMPLES.exists(), reason="the samples of formats are not here")
def test_prometheus_and_otlp_and_others():
    """Those whose directions come apart, or whose kinds differ by message."""
    messages = [*(SAMPLES / "prometheus_kafka_adapter.jsonl").read_bytes().splitlines()]
    skips = Counter()
    found = decode(*messages, skips=skips)
    assert sorted(rows(found)) == sorted(
        [*two_reads("192.0.2.1/Et1"), *[r for r in two_reads("web-1:9100/eth0") if r[0][-1] == "n"]]
    )
    assert skips == {"up": 1, "ifHCInOctets NaN": 1}

    found = decode(*(SAMPLES / "otlp_metrics.jsonl").read_bytes().splitlines())
    assert rows(found) == [*two_reads("web-1/eth0"), ("web-1/eth0/in", AT + 10, 125e6)]
    assert found.readings.kind.tolist() == [Kind.COUNTER] * 4 + [Kind.DELTA]

    found = decode(*(SAMPLES / "zabbix_history.jsonl").read_bytes().splitlines())
    assert {row[::2] for row in rows(found)} == {("core-r1/Et1/in", 12_500_000.0)}
    assert found.readings.unit.tolist() == [b"B/s"] * 2

    found = decode(*(SAMPLES / "vector_metric.jsonl").read_bytes().splitlines())
    assert [row[0] for row in rows(found)] == ["web-1/eth0/in"] * 2 + ["web-1/in", "web-1/eth0/in"]
    assert found.readings.kind.tolist()[2] == Kind.DELTA

    found = decode(*(SAMPLES / "fluent_bit_netif.jsonl").read_bytes().splitlines(), device="h")
    values = [row[::2] for row in rows(found)]
    assert values == [("h/eth0/in", 12.5e6), ("h/eth0/out", 2.5e6)] * 2 + [("h/eth0/out", 0.0)]

    found = decode(*(SAMPLES / "cisco_mdt_pipeline.jsonl").read_bytes().splitlines())
    assert "core-r1/HundredGigE0/0/0/1/in" in flows(found)


@pytest.mark.skipif(not SAMPLES.exists(), reason="the samples of formats are not here")
def test_flow_records_are_multiplied_by_their_sampling_once():
    """An unknown rate counts as one and is counted; each interface of a record is a flow."""
    skips = Counter()
    found = decode(*(SAMPLES / "goflow2.jsonl").read_bytes().splitlines(), skips=skips)
    assert rows(found)[:3] == [
        ("192.0.2.1/1/in", AT + 10, 125e6),
        ("192.0.2.1/2/out", AT + 10, 125e6),
        ("2001:db8::1/1/in", AT + 10, 1500 * 2048),
    ]
    assert skips == {"sampling_rate (unknown)": 1}
    assert set(found.readings.kind.tolist()) == {Kind.DELTA}
    assert set(found.readings.bits.tolist()) == {PART}

    [one] = rows(decode((SAMPLES / "goflow_v1_camelcase.json").read_bytes()))[:1]
    assert one == ("192.0.2.1/1/in", AT + 10, 7_000_000.0)

    found = decode((SAMPLES / "pmacct_multi_values_one_message.txt").read_bytes())
    assert found.formats == ["pmacct_json"]
    assert rows(found)[-1] == ("192.0.2.1", AT + 61, 1_250_000.0)

    found = decode(*(SAMPLES / "nprobe.jsonl").read_bytes().splitlines(), flow_key="addresses")
    assert {row[::2] for row in rows(found)} == {
        ("198.51.100.7>203.0.113.9", 70_000.0),
        ("203.0.113.9>198.51.100.7", 55_000.0),
    }
    found = decode(*(SAMPLES / "packetbeat_flow.jsonl").read_bytes().splitlines())
    assert sum(row[2] for row in rows(found)) == 12_000


RECORD = {
    "type": "IPFIX",
    "time_received_ns": (AT + 60) * 10**9,
    "time_flow_start_ns": AT * 10**9,
    "time_flow_end_ns": (AT + 60) * 10**9,
    "sampling_rate": 0,
    "sampler_address": "192.0.2.1",
    "bytes": 6000,
    "src_addr": "10.0.0.1",
    "dst_addr": "10.0.0.2",
    "src_as": 64496,
    "dst_as": 64511,
    "in_if": 2,
    "out_if": 2,
}


def test_a_record_of_one_interface_counts_once():
    """Its direction is not known, so its name has none."""
    assert rows(decode(RECORD)) == [("192.0.2.1/2", AT + 60, 6000.0)]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("addresses", "10.0.0.1>10.0.0.2"),
        ("as", "AS64496>AS64511"),
        ("exporter", "192.0.2.1"),
    ],
)
def test_records_may_be_added_up_by_other_keys(key, name):
    assert flows(decode(RECORD, flow_key=key)) == [name]


@pytest.mark.parametrize("number", [0, 0x3FFFFFFF, 0xFFFFFFFF, None])
def test_an_unknown_interface_is_in_no_name(number):
    assert flows(decode({**RECORD, "in_if": number, "out_if": number})) == ["192.0.2.1"]
    assert flows(decode({**RECORD, "in_if": 7, "out_if": number})) == ["192.0.2.1/7/in"]


def test_a_long_record_is_spread_over_its_time():
    """In parts of the length that is set, which add up to it."""
    found = rows(decode(RECORD, spread=wire.settings.Duration(20)))
    assert [row[1] for row in found] == [AT + 20, AT + 40, AT + 60]
    assert sum(row[2] for row in found) == pytest.approx(6000)


def test_equal_records_of_one_time_add_up():
    """sFlow samples of one datagram have one time and often one size: the grid adds them."""
    from streamer.core.engine import Engine, EngineConfig  # noqa: PLC0415 - torch takes seconds
    from tests.simulation.fingerprint import Fingerprint  # noqa: PLC0415

    engine = Engine(Fingerprint(), EngineConfig(), page_rows=8)
    engine.restore(P, {}, 0, 1)
    messages = [{**RECORD, "time_received_ns": (AT + t) * 10**9} for t in (0, 60, 60, 60, 120, 180)]
    records = [Record(P, i, None, json.dumps(d).encode(), -1) for i, d in enumerate(messages)]
    rates = [rate for wave in engine.step(records).forecasts for rate in wave.rate.tolist()]
    assert np.nanmax(rates) == pytest.approx(300)


def test_collectd_kinds_follow_from_fractions_or_are_set():
    """A message does not contain whether its values are rates."""
    base = {"dstypes": ["derive"] * 2, "dsnames": ["rx", "tx"], "time": AT + 0.5, "host": "h"}
    base |= {"plugin": "interface", "plugin_instance": "eth0", "type": "if_octets"}

    def kinds(values, **settings):
        found = decode([{**base, "values": values}], **settings)
        return [Kind(k).name for k in found.readings.kind.tolist()], len(found.rejects)

    assert kinds([10.5, 3.25]) == (["GAUGE"] * 2, 0)
    assert kinds([0, 3.25]) == (["GAUGE"] * 2, 0)
    assert kinds([10, 3]) == (["COUNTER"] * 2, 0)
    assert kinds([0, 0]) == ([], 0)
    assert kinds([10, 3.25]) == ([], 1)
    assert kinds([None, None]) == ([], 0)
    assert kinds([10, 3], collectd="rates") == (["GAUGE"] * 2, 0)
    assert kinds([0, 0], collectd="counters") == (["COUNTER"] * 2, 0)


@pytest.mark.parametrize(
    ("line", "flow"),
    [
        (b"edge1.interface-wan0.if_octets.rx 352272 1795715945\r\n", "edge1/wan0/in"),
        (b"collectd.edge1.interface-wan0.if_octets.tx 5 1795715945", "edge1/wan0/out"),
        (b"edge1.interface.wan0.if_octets.rx 5 1795715945", "edge1/wan0/in"),
        (b"telegraf.edge1.wan0.net.bytes_recv 5 1795715945", "edge1/wan0/in"),
        (b"servers.edge1.network.wan0.rx_byte 5 1795715945", "edge1/wan0/in"),
        (
            b"collectd.interface.if_octets.rx;host=edge1;plugin_instance=wan0 5 1795715945",
            "edge1/wan0/in",
        ),
    ],
)
def test_graphite_paths(line, flow):
    found = decode(line)
    assert found.formats == ["graphite"]
    assert flows(found) == [flow]


def test_graphite_nan_is_skipped():
    """A rate that is not known yet."""
    skips = Counter()
    found = decode(b"edge1.interface-wan0.if_octets.rx nan 1795715945\n", skips=skips)
    assert (len(found.readings), found.rejects, skips) == (0, [], {"nan": 1})


def test_collectd_commands():
    found = decode(b"PUTVAL edge1/interface-eth0/if_octets interval=5.000 1795715945.5:100:200\n")
    assert rows(found) == [
        ("edge1/eth0/in", 1795715945.5, 100.0),
        ("edge1/eth0/out", 1795715945.5, 200.0),
    ]


def test_ports_of_a_guest_are_flows_of_their_own():
    """Collectd's virt has the guest as the plugin's instance and the port as the type's."""
    base = {"dstypes": ["derive"] * 2, "dsnames": ["rx", "tx"], "time": AT, "host": "h"}
    base |= {"plugin": "virt", "plugin_instance": "vm1", "type": "if_octets", "values": [5, 6]}
    names = ["h/vm1/vnet1/in", "h/vm1/vnet1/out", "h/vm1/vnet2/in", "h/vm1/vnet2/out"]
    assert flows(decode(*({**base, "type_instance": f"vnet{n}"} for n in (1, 2)))) == names
    command = "PUTVAL h/virt-vm1/if_octets-vnet%d interval=5 1795715945:100:200\n"
    assert flows(decode(*((command % n).encode() for n in (1, 2)))) == names


@pytest.mark.parametrize("source", ["gnmi", "telegraf"])
def test_the_64_bit_octets_of_ios_xe_are_preferred(source):
    """`out-octets` is in 32 bits there."""
    values = {"in-octets": 2**40, "out-octets": 7, "out-octets-64": 2**40 + 7}
    gnmi = {"name": "x", "timestamp": AT * 10**9, "tags": {"source": "r", "interface_name": "e"}}
    gnmi["values"] = {f"/interfaces/interface/statistics/{k}": v for k, v in values.items()}
    fields = {name.replace("-", "_"): value for name, value in values.items()}
    mdt = {"name": "x", "timestamp": AT, "tags": {"source": "r", "name": "e"}, "fields": fields}
    found = decode({"gnmi": gnmi, "telegraf": mdt}[source])
    assert rows(found) == [("r/e/in", AT, 2.0**40), ("r/e/out", AT, 2.0**40 + 7)]


def test_a_series_without_a_name_loses_no_neighbour():
    """The answer of a query has such series, where a function made them."""
    metric = {"__name__": "ifHCInOctets", "instance": "r", "ifName": "e"}
    result = [{"metric": metric, "values": [[AT, "5"]]}, {"metric": {}, "values": [[AT, "1"]]}]
    skips = Counter()
    answer = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    assert rows(decode(answer, skips=skips)) == [("r/e/in", AT, 5.0)]
    assert skips == {"a series without a name": 1}


def test_a_reading_that_names_nothing_is_rejected():
    """The readings of all senders without tags would be one flow."""
    sample = {"labels": {"__name__": "ifHCInOctets"}, "name": "ifHCInOctets", "value": "5"}
    found = decode({**sample, "timestamp": "2026-01-01T00:00:00Z"})
    assert [each.reason for each in found.rejects] == [Reason.FLOW_NAME]
    assert len(found.readings) == 0


def test_otlp_units_of_bytes_are_scaled():
    """UCUM has prefixes; the number stays exact."""
    attributes = [
        {"key": "device", "value": {"stringValue": "e"}},
        {"key": "direction", "value": {"stringValue": "receive"}},
    ]
    point = {"attributes": attributes, "timeUnixNano": str(AT * 10**9), "asInt": "976562500"}
    body = {"dataPoints": [point], "aggregationTemporality": 2}
    metric = {"name": "system.network.io", "unit": "KiBy", "sum": body}
    host = {"attributes": [{"key": "host.name", "value": {"stringValue": "h"}}]}
    export = {"resourceMetrics": [{"resource": host, "scopeMetrics": [{"metrics": [metric]}]}]}
    assert rows(decode(export)) == [("h/e/in", AT, 976562500.0 * 1024)]


def test_influx_escapes_quotes_and_unsigned_values():
    """As the protocol has them; the largest counter keeps its last bit."""
    line = (
        rb'if\,c,agent_host=r\ 1,ifName=xe\=0 note="a, b=\"c\" d",'
        rb"ifHCInOctets=18446744073709551615u,up=true 1767225600000000000"
    )
    found = decode(line)
    assert found.readings.flow == ["r 1/xe=0/in"]
    assert found.readings.count.tolist() == [2**64 - 1]
    assert decode(b"net,host=a,interface=b bytes_recv=5i", time_ms=AT * 1000).readings.time == [AT]


def test_a_bad_line_loses_no_neighbour():
    good = b"net,host=a,interface=b bytes_recv=5i 1767225600000000000"
    found = decode(b"\n".join([good, b"net,host=a,interface=b bytes_recv=x 1", good]))
    assert len(found.readings) == 2
    assert [reject.reason for reject in found.rejects] == [Reason.WRONG_TYPE]


def test_gnmi_blobs_and_paths_of_parts():
    """JSON_IETF nests; counters of a queue or of IPv4 are not those of the interface."""
    update = {
        "source": "edge1:57400",
        "subscription-name": "s",
        "timestamp": AT * 10**9,
        "prefix": "openconfig-interfaces:interfaces",
        "updates": [
            {
                "Path": "interface[name=wan0]",
                "values": {
                    "interface": {
                        "state": {"counters": {"openconfig-interfaces:in-octets": "5"}},
                        "subinterfaces": {
                            "subinterface": [
                                {
                                    "index": 7,
                                    "state": {"counters": {"in-octets": "3"}},
                                    "ipv4": {"state": {"counters": {"in-octets": "2"}}},
                                }
                            ]
                        },
                    }
                },
            }
        ],
    }
    assert [row[::2] for row in rows(decode(update))] == [
        ("edge1/wan0/in", 5.0),
        ("edge1/wan0.7/in", 3.0),
    ]
    blob = base64.b64encode(b'{"in-octets":"9"}').decode()
    path = [{"name": "interface", "key": {"name": "e0"}}, {"name": "counters"}]
    proto = {"path": {"elem": path}, "val": {"jsonIetfVal": blob}}
    found = decode({"update": {"timestamp": str(AT * 10**9), "update": [proto]}}, device="r1")
    assert rows(found) == [("r1/e0/in", AT, 9.0)]
    for mark in ({"sync-response": True}, {"syncResponse": True}):
        found = decode(mark)
        assert (found.rejects, found.counts["skipped"]) == ([], 1)


def test_an_otlp_delta_over_no_time_is_the_counter_itself():
    """The SDK's first point is all since boot."""
    point = {"attributes": [], "startTimeUnixNano": AT * 10**9, "timeUnixNano": AT * 10**9 + 500}
    point |= {"asInt": 10**12}
    point["attributes"] = [{"key": "direction", "value": {"stringValue": "receive"}}]
    body = {"dataPoints": [point], "aggregationTemporality": 1}
    metrics = [{"name": "system.network.io", "sum": body}]
    skips = Counter()
    found = decode({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}, skips=skips)
    assert (len(found.readings), skips) == (0, {"system.network.io (first delta)": 1})


def test_ifhc_wins_over_if_and_other_groups_can_be_switched_on():
    """Packets and errors have names of their own."""
    fields = {"ifInOctets": 5, "ifHCInOctets": 10**12, "ifHCInUcastPkts": 7, "ifInErrors": 1}
    metric = {"name": "interface", "fields": fields, "timestamp": AT}
    metric["tags"] = {"agent_host": "r1", "ifName": "e0"}
    skips = Counter()
    assert rows(decode(metric, skips=skips)) == [("r1/e0/in", AT, 1e12)]
    assert skips == {"ifInOctets": 1, "ifHCInUcastPkts": 1, "ifInErrors": 1}
    found = decode(metric, groups=("bytes", "packets", "errors"))
    assert flows(found) == ["r1/e0/in", "r1/e0/in/errors", "r1/e0/in/packets"]
    assert set(found.readings.unit.tolist()) == {b"B", b"packets", b"errors"}


def test_rows_of_the_settings_extend_the_table():
    row = Field(source="telegraf", field="my_octets", direction="out", measurement="mi*", bits=32)
    metric = {"name": "mine", "fields": {"my_octets": 5}, "timestamp": AT}
    metric["tags"] = {"host": "r1", "interface": "e0"}
    assert flows(decode(metric, fields=(row,))) == ["r1/e0/out"]
    assert flows(decode({**metric, "name": "other"}, fields=(row,))) == []


MAPPING = MappingConfig(
    flow=("device.name", "port"),
    time="at",
    values={"in": "stats.rx", "out": "stats.tx"},
    kind="delta",
    capacity="speed",
)


def test_any_json_by_a_mapping():
    """Nested paths; objects in no other format, or the format by name."""
    d = {"device": {"name": "r1"}, "port": 7, "at": AT * 1000, "stats": {"rx": "5", "tx": 6}}
    for form in ("auto", "mapped"):
        found = decode({**d, "speed": 1000}, [d], mapping=MAPPING, format=form)
        assert found.formats == ["mapped"] * 2
        assert rows(found)[:2] == [("r1/7/in", AT, 5.0), ("r1/7/out", AT, 6.0)]
        assert found.readings.capacity.tolist() == [1000, 1000, 0, 0]
    assert [r.reason for r in decode({"port": 1}, mapping=MAPPING, format="mapped").rejects] == [
        Reason.WRONG_TYPE
    ]
    with pytest.raises(ValueError, match="mapping"):
        InputConfig(format="mapped")


def test_times_without_a_zone_are_local():
    assert epoch("2026-01-01 00:00:00", "Europe/Berlin") == AT - 3600
    assert epoch("2026-01-01T00:00:00+01:00", "UTC") == AT - 3600
    assert epoch("1767225600.000000") == AT
    with pytest.raises(ValueError, match="timezone"):
        InputConfig(timezone="Mars/Olympus")


def test_a_registrys_frame_is_skipped_for_json_and_avro_is_refused():
    own = json.dumps({"flow": "a", "time": AT, "value": 5}).encode()
    assert rows(decode(b"\0\0\0\0\7" + own)) == [("a", AT, 5.0)]
    [reject] = decode(b"\0\0\0\0\7\x0c\x04ab").rejects
    assert (reject.reason, "7" in reject.detail) == (Reason.REGISTRY_FRAMED, True)


def test_a_message_without_a_time_has_its_records():
    d = {"event_type": "purge", "packets": 1, "bytes": 10, "writer_id": "x"}
    assert rows(decode(d, time_ms=AT * 1000)) == [("flows", AT, 10.0)]
    assert [reject.reason for reject in decode(d).rejects] == [Reason.WRONG_TYPE]


def test_a_reject_of_librenms_has_no_secrets():
    d = {"measurement": "ports", "device": {"community": "s3cret"}, "fields": {"INOCTETS": 1}}
    d["tags"] = {"ifName": "e0"}
    [reject] = decode(d, time_ms=AT * 1000).rejects
    assert b"s3cret" not in reject.element


def test_the_settings_name_every_format():
    named = set(wire.settings.FormatName.__args__)
    assert named == {"auto", "mapped", *FORMATS}


def test_protobuf_is_read_to_its_end_or_refused():
    assert list(protobuf.fields(b"\x08\x96\x01")) == [(1, 150)]
    for bad in (b"\x08", b"\x0a\x05ab", b"\x0b", b"\x00", b"\x08" + b"\xff" * 11):
        with pytest.raises(ValueError):  # noqa: PT011 - any of its messages
            list(protobuf.fields(bad))


@pytest.mark.skipif(not SAMPLES.exists(), reason="the samples of formats are not here")
def test_every_trap_yields_readings_and_no_exception():
    """What a trap does to rates is tested through `streamer inspect`."""
    for line in (SAMPLES / "edge_cases.jsonl").read_text().splitlines():
        case = json.loads(line)
        messages = [m.encode() if isinstance(m, str) else m for m in case["messages"]]
        found = decode(*messages)
        if case["format"] != "raw":
            assert found.rejects == [], case["why"]


names = st.sampled_from(
    [
        *("fields", "tags", "timestamp", "name", "metrics", "values", "update", "updates", "Path"),
        *("source", "prefix", "elem", "key", "val", "uintVal", "jsonVal", "bytes", "type", "time"),
        *("sampler_address", "in_if", "Bytes", "SamplerAddress", "event_type", "writer_id"),
        *("packets", "telemetry_data", "dstypes", "dsnames", "plugin", "host", "labels", "value"),
        *("resourceMetrics", "resource", "scopeMetrics", "sum", "dataPoints", "attributes"),
        *("@timestamp", "@metadata", "beat", "system", "network", "in", "flow", "final", "kind"),
        *("counter", "metric", "eth0.rx.bytes", "IN_BYTES", "1", "8", "measurement", "device"),
        *("itemid", "clock", "Telemetry", "Rows", "Keys", "Content", "interface", "agent"),
        *("system.network.io", "ifHCInOctets", "interface_name", "aggregationTemporality"),
    ]
)
leaf = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | names
    | st.sampled_from(["purge", "absolute", "IPFIX", "2026-01-01T00:00:00Z", "/a/in-octets", "sum"])
)
trees = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=7),
    max_leaves=25,
)
objects = st.dictionaries(names, trees, max_size=9)
texts = st.lists(
    st.sampled_from(
        [
            *("net,host=a", ",interface=b ", "bytes_recv=", "5i", "5u", '"', "\\", " ", "\n", "="),
            *("edge1.interface-w.if_octets.rx", "1.5", "nan", " 1767225600", "PUTVAL ", "a/b-c/d"),
            *("if_octets", ":", ",", "netflow,version=sFlowV5 ", "src=", "in_snmp=1i", "{", "\r"),
        ]
    ),
    max_size=14,
).map("".join)


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=40)
@given(tree=objects | trees, text=texts, raw=st.binary(max_size=40))
def test_a_decoder_returns_readings_or_refusals(form, tree, text, raw):
    """Of any structure, any text and any bytes; nothing raises."""
    context = Context(float(AT))
    for value in (json.dumps(tree).encode(), text.encode(), raw):
        found = FORMATS[form](value, context)
        assert found.readings or found.refusals or found.skipped
        for auto in ("auto", form):
            again = decode(value, format=auto, time_ms=AT * 1000)
            assert len(again.readings) or again.rejects or again.counts["skipped"]


PROTO = bytes([0x0A, 0x10]) + struct.pack("<q", 5) * 2


@given(st.binary(max_size=30), st.integers(0, 255))
def test_protobuf_with_errors_is_refused_or_read(tail, at):
    """Bytes that begin like a message."""
    for value in (PROTO[: at % len(PROTO)] + tail, bytes([len(tail)]) + tail):
        for form in ("otlp_proto", "goflow2_bin", "auto"):
            found = decode(value, format=form, time_ms=AT * 1000)
            assert len(found.readings) or found.rejects or found.counts["skipped"]


def test_the_table_has_each_row_once():
    """Per format, field and direction."""
    keys = [(r.source, r.field, r.measurement) for r in mappings.DEFAULTS]
    assert len(set(keys)) == len(keys)
