"""Topics with settings of their own, and the names that flow records add up under."""

import base64
import json
from collections import Counter

import msgspec
import pytest

from streamer.config.schema import load
from streamer.config.sources import ConfigError
from streamer.core import wire
from streamer.core.types import Kind, Partition, Record
from streamer.core.wire import InputConfig
from streamer.core.wire.settings import SourceConfig

AT = 1_767_225_600


def record(topic, value, offset=0, number=0):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Record(Partition(topic, number), offset, None, text, -1)


def own(flow, n=0):
    return {"flow": flow, "time": AT + n, "value": n}


SOURCES = InputConfig(
    topics=("plain",),
    kind="gauge",
    sources=(
        SourceConfig(topics=("bits",), unit="b", kind="delta"),
        SourceConfig(pattern="^lines", format="graphite", collectd="rates"),
        SourceConfig(topics=("lines.raw",), format="reading"),
    ),
)


def test_each_topic_is_read_by_the_settings_of_its_source():
    """The first source that has it; others as in `input`. Readings keep the records' order."""
    graphite = b"edge1.interface-wan0.if_octets.rx 5 1795715945"
    found = wire.decode(
        [
            record("plain", own("a")),
            record("lines.raw", graphite),
            record("bits", own("b")),
            record("plain", b"no reading", 1),
            record("plain", own("c"), 2),
        ],
        SOURCES,
    )
    readings = found.readings
    assert readings.flow == ["a", "edge1/wan0/in", "b", "c"]
    assert readings.kind.tolist() == [Kind.GAUGE, Kind.GAUGE, Kind.DELTA, Kind.GAUGE]
    assert readings.unit.tolist() == [b"B/s", b"B/s", b"b", b"B/s"]
    assert found.record.tolist() == [0, 1, 2, 4]
    assert found.formats == ["reading", "graphite", "reading", "reading", "reading"]
    assert found.counts["readings"] == 4
    assert found.counts["records"] == 5
    [reject] = found.rejects
    assert reject.record.offset == 1


def test_sources_change_nothing_for_others():
    """The same readings with sources for other topics, in any batches."""
    records = [record("plain", own(f"f{n % 3}", n), n) for n in range(20)]
    config = msgspec.structs.replace(SOURCES, sources=())
    whole, apart = wire.decode(records, SOURCES).readings, wire.decode(records, config).readings
    assert whole.flow == apart.flow
    assert whole.value.tolist() == apart.value.tolist()
    assert len(wire.decode([], SOURCES).readings) == 0


def test_all_topics_are_read_and_the_default_one_only_without_sources():
    assert SOURCES.read == ("plain", "bits", "lines.raw")
    sources = (SourceConfig(topics=("a", "b")),)
    assert InputConfig(sources=sources).read == ("a", "b")
    assert InputConfig().read == ("traffic.counters",)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("input.sources=[{format: influx}]", "sources.0.topics: must name a topic"),
        ("input.sources=[{topics: [a], format: mapped}]", "sources.0.mapping: must be set"),
        ("input.sources=[{topics: [a], timezone: x}]", "sources.0.timezone: is no time zone"),
        ("input.sources=[{pattern: '('}]", "sources.0.pattern: must be a regular expression"),
        ("input.sources=[{pattern: 'a'}]", "input.pattern: must be set where a source has"),
        ("input.sources=[{topics: [a b]}]", "input.topics: must be letters"),
        ("input.sources=[{topics: [traffic.forecasts]}]", "forecasts.topic: must be a topic of"),
        ("input.rekeyed=traffic.counters", "input.rekeyed: must be a topic of its own"),
        ("input.sources=[{topics: [a], fromat: x}]", "is no key; is format meant?"),
    ],
)
def test_a_wrong_source_is_refused_by_its_path(setting, words):
    with pytest.raises(ConfigError, match=words.replace(".", r"\.").replace("(", r"\(")) as error:
        load(None, [setting])
    assert words in str(error.value)


RECORD = {
    "type": "IPFIX",
    "time_received_ns": AT * 10**9,
    "sampling_rate": 1,
    "sampler_address": "192.0.2.1",
    "bytes": 10,
    "src_addr": "10.1.2.3",
    "dst_addr": "2001:db8:1:2::1",
    "src_port": 50_000,
    "dst_port": 443,
    "proto": "TCP",
    "src_vlan": 7,
}


@pytest.mark.parametrize(
    ("key", "change", "name"),
    [
        ("prefix", {}, "10.1.2.0/24>2001:db8:1::/48"),
        ("prefix", {"src_addr": None}, "?>2001:db8:1::/48"),
        ("port", {}, "tcp/443"),
        ("port", {"proto": 17, "src_port": 53}, "udp/53"),
        ("port", {"proto": "ICMP", "src_port": 0, "dst_port": 0}, "icmp"),
        ("port", {"proto": 253, "src_port": None, "dst_port": 8080}, "253/8080"),
        ("vlan", {}, "192.0.2.1/vlan7"),
        ("vlan", {"src_vlan": 0}, "192.0.2.1/vlan0"),
    ],
)
def test_flow_records_add_up_by_networks_ports_and_vlans(key, change, name):
    found = wire.decode([record("t", RECORD | change)], InputConfig(flow_key=key))
    assert found.readings.flow == [name]


FRAME = bytes(12) + b"\x81\x00\0\7" + b"\x08\x00" + bytes(12) + bytes([10, 0, 0, 1, 10, 0, 0, 2])
DATAGRAM = {
    "type": "sflow",
    "message": {
        "version": 5,
        "agent-ip": "192.0.2.1",
        "samples": [
            {
                "header": {"format": 1},
                "sampling-rate": 250,
                "input": 1,
                "output": 0x3FFFFFFF,
                "records": [
                    {
                        "header": {"data-format": 1},
                        "data": {
                            "protocol": 1,
                            "frame-length": 446,
                            "header-data": base64.b64encode(FRAME).decode(),
                        },
                    },
                    {"header": {"data-format": 1001}, "data": {"src-vlan": 7}},
                ],
            },
            {
                "header": {"format": 2},
                "records": [
                    {
                        "header": {"data-format": 1},
                        "data": {
                            "if-index": 1,
                            "if-speed": 8_000_000,
                            "if-in-octets": 2**64 - 2,
                            "if-out-octets": 2**64 - 1,
                        },
                    },
                    {"header": {"data-format": 2}, "data": {"dot3-stats-symbol-errors": 0}},
                ],
            },
        ],
    },
    "src": "[::ffff:192.0.2.1]:50001",
    "time_received": "2026-01-01T00:00:00.5Z",
}


def test_raw_sflow_has_counters_and_samples_in_one_message():
    """An unknown counter is no traffic; a sample counts by the interface that is known."""
    skips = Counter()
    found = wire.decode([record("t", DATAGRAM)], InputConfig(), skips)
    assert found.formats == ["goflow2_raw"]
    readings = found.readings
    assert readings.flow == ["192.0.2.1/1/in/sampled", "192.0.2.1/1/in"]
    assert readings.kind.tolist() == [Kind.DELTA, Kind.COUNTER]
    assert readings.value.tolist()[0] == 446 * 250
    assert readings.count.tolist()[1] == 2**64 - 2
    assert readings.capacity.tolist() == [0, 1e6]
    assert readings.time.tolist() == [AT + 0.5] * 2
    assert skips == {"record (no octets)": 2, "if-out-octets": 1}
    found = wire.decode([record("t", DATAGRAM)], InputConfig(flow_key="addresses"))
    assert found.readings.flow == ["10.0.0.1>10.0.0.2", "192.0.2.1/1/in"]
    raw = {"type": "ipfix", "message": {}, "src": "a", "time_received": "2026-01-01T00:00:00Z"}
    assert wire.decode([record("t", raw)], InputConfig()).counts["skipped"] == 1


def test_gnmi_fields_of_telegraf_may_have_their_whole_path():
    """Those of IPv4 and of a subinterface without its index are not the interface's."""
    fields = {
        "/interfaces/interface/state/counters/in_octets": 5,
        "state/counters/out-octets": 6,
        "ipv4/state/counters/in_octets": 7,
        "/interfaces/interface/subinterfaces/subinterface/state/counters/in_octets": 8,
    }
    tags = {"source": "r1", "name": "e0", "path": "/interfaces"}
    metric = {"name": "if", "fields": fields, "tags": tags, "timestamp": AT}
    lines = "if,source=r1,name=e0,path=/interfaces state/counters/in_octets=5i"
    for value in (metric, lines.encode() + b" %d" % (AT * 10**9)):
        readings = wire.decode([record("t", value)], InputConfig()).readings
        assert (readings.flow[0], readings.value[0]) == ("r1/e0/in", 5)
    assert readings.flow == ["r1/e0/in"]
    found = wire.decode([record("t", metric)], InputConfig()).readings
    assert list(zip(found.flow, found.value.tolist(), strict=True)) == [
        ("r1/e0/in", 5),
        ("r1/e0/out", 6),
    ]
    inner = {"/interfaces/interface/subinterfaces/subinterface/state/counters/in_octets": 8}
    metric = metric | {"fields": inner, "tags": tags | {"index": "3"}}
    assert wire.decode([record("t", metric)], InputConfig()).readings.flow == ["r1/e0.3/in"]


def test_a_rate_of_zero_with_a_fraction_is_a_rate():
    """Graphite writes counters without a point."""
    line = b"edge1.interface-wan0.if_octets.rx 0.000000 1795715945"
    readings = wire.decode([record("t", line)], InputConfig()).readings
    assert readings.kind.tolist() == [Kind.GAUGE]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b'{"flow": "a", "time": "x", "value": 5}', "time: must be a number, is text"),
        (b'{"flow": "a", "value": 5}', "has no time"),
        (b'{"flow": "a"', "is no JSON: it ends too early"),
        (b'{"flow": a}', "is no JSON: invalid character at byte 9"),
        (b'{"flow":"a","time":1,"value":5,"kind":"x"}', "kind: 'x' is none of its values"),
        (b'{"type":"IPFIX","bytes":null,"time_received":9}', "the bytes are not a number"),
        (b'{"metric":{"a":1},"values":[[1,1]]}', "has no __name__"),
        (b'{"metric":{"a":1},"values":[1]}', "its structure is not that of the format"),
    ],
)
def test_the_reason_of_a_reject_is_in_plain_words(value, words):
    [reject] = wire.decode([record("t", value)], InputConfig()).rejects
    assert reject.detail == words
