"""Bytes to readings: what is sound comes through, what is not is a reject with its reason."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import wire
from streamer.core.types import Kind, Partition, Reason, Record
from streamer.core.wire import InputConfig, telegraf

P = Partition("traffic.counters", 3)
CONFIG = InputConfig()


def record(value, *, offset=0, time_ms=-1):
    if value is not None and not isinstance(value, bytes):
        value = json.dumps(value).encode()
    return Record(P, offset, b"k", value, time_ms)


def decoded(*values, config=CONFIG, time_ms=-1):
    records = [record(v, offset=i, time_ms=time_ms) for i, v in enumerate(values)]
    return wire.decode(records, config)


GOOD = {"flow": "edge1/xe-0/0/1/in", "time": 1_700_000_000.5, "value": 2**64 - 1}


def test_a_reading_comes_through_exactly():
    """The largest counter keeps its last bit."""
    readings = decoded({**GOOD, "capacity": 1.25e9}).readings
    assert readings.flow == ["edge1/xe-0/0/1/in"]
    assert readings.partition == [P]
    assert readings.count.tolist() == [2**64 - 1]
    assert readings.time.tolist() == [1_700_000_000.5]
    assert readings.kind.tolist() == [Kind.COUNTER]
    assert readings.capacity.tolist() == [1.25e9]
    assert readings.unit.tolist() == [b"B"]


@pytest.mark.parametrize(
    "value",
    [
        json.dumps([GOOD, GOOD]).encode(),
        b"\n".join([json.dumps(GOOD).encode()] * 2),
        b"\n".join([json.dumps(GOOD).encode()] * 2) + b"\n",
        b" " + json.dumps([GOOD, GOOD], indent=1).encode() + b"\n",
    ],
)
def test_an_array_and_lines_are_batches(value):
    """However a writer packs them."""
    found = decoded(value)
    assert len(found.readings) == 2
    assert found.rejects == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.TOMBSTONE),
        (b"", Reason.NOT_JSON),
        (b"not json {", Reason.NOT_JSON),
        (b"\0\0\0\0\1{}", Reason.REGISTRY_FRAMED),
        (b"\xff\xfe", Reason.NOT_JSON),
        (b"[" * 100_000, Reason.WRONG_TYPE),
        (42, Reason.WRONG_TYPE),
        ({}, Reason.WRONG_TYPE),
        ({**GOOD, "flow": 5}, Reason.WRONG_TYPE),
        ({**GOOD, "value": None}, Reason.WRONG_TYPE),
        ({**GOOD, "value": "many"}, Reason.WRONG_TYPE),
        ({**GOOD, "kind": "guess"}, Reason.WRONG_TYPE),
        ({**GOOD, "flow": ""}, Reason.FLOW_NAME),
        ({**GOOD, "flow": "x" * 10_000}, Reason.FLOW_NAME),
        ({**GOOD, "value": -1}, Reason.NEGATIVE),
        ({**GOOD, "value": "-1"}, Reason.NEGATIVE),
        ({**GOOD, "value": "NaN"}, Reason.NOT_FINITE),
        ({**GOOD, "value": "+Inf"}, Reason.NOT_FINITE),
        (b'{"flow": "a", "time": 1, "value": 1e999}', Reason.NOT_FINITE),
        ({**GOOD, "value": 2**64}, Reason.NOT_INTEGRAL),
        ({**GOOD, "value": 0.5}, Reason.NOT_INTEGRAL),
        ({**GOOD, "time": -5}, Reason.TIME_RANGE),
        ({**GOOD, "time": 1e300}, Reason.TIME_RANGE),
        (b" " * (8 * 2**20 + 1), Reason.TOO_LARGE),
    ],
)
def test_an_invalid_reading_is_a_reject_with_its_reason(value, reason):
    """Nothing raises, and no part of it is accepted."""
    found = decoded(value)
    assert len(found.readings) == 0
    assert [(reject.reason, reject.element) for reject in found.rejects] == [(reason, None)]
    assert found.counts[f"rejected.{reason}"] == 1


def test_a_reading_far_ahead_of_its_record_is_from_the_future():
    """A clock that is off by a day must not carry a flow's event time away."""
    at_s = 1_700_000_000
    soon, far = {**GOOD, "time": at_s + 3600}, {**GOOD, "time": at_s + 86_400}
    found = decoded(soon, far, time_ms=at_s * 1000)
    assert found.readings.time.tolist() == [at_s + 3600]
    assert [reject.reason for reject in found.rejects] == [Reason.FUTURE]


def test_neighbours_of_a_bad_element_survive():
    """In an array and in lines; the reject holds the element alone, and where it lay."""
    bad = {**GOOD, "value": -1}
    for value in (
        json.dumps([GOOD, bad, {"no": 1}, GOOD]).encode(),
        b"\n".join(json.dumps(each).encode() for each in (GOOD, bad, {"no": 1}, GOOD)),
    ):
        found = decoded(value)
        assert len(found.readings) == 2
        assert {reject.reason for reject in found.rejects} == {Reason.NEGATIVE, Reason.WRONG_TYPE}
        for reject in found.rejects:
            assert reject.record.value == value
            assert json.loads(reject.element) in (bad, {"no": 1})


def test_digits_as_text_keep_64_bits():
    """As RFC 7951 and protojson write them."""
    found = decoded({**GOOD, "value": "18446744073709551615"}, {**GOOD, "value": 3.0})
    assert found.readings.count.tolist() == [2**64 - 1, 3]


def test_gauges_and_deltas_may_be_fractions():
    """The bits of the float are stored in place of the count."""
    found = decoded(
        {**GOOD, "kind": "gauge", "value": 0.5},
        {**GOOD, "kind": "delta", "value": 7},
        {**GOOD, "kind": "counter", "value": 9},
    )
    assert found.readings.value.tolist() == [0.5, 7.0, 9.0]
    assert found.readings.count[:2].view(np.float64).tolist() == [0.5, 7.0]
    assert found.readings.count[2] == 9
    assert found.readings.unit.tolist() == [b"B/s", b"B", b"B"]


def test_telegraf_interface_counters_become_flows():
    """In and out of one interface are two flows; the 64-bit counter wins, with the link's speed."""
    metric = {
        "fields": {"ifHCInOctets": 10**12, "ifInOctets": 5, "ifHCOutOctets": 7, "ifHighSpeed": 10},
        "name": "interface",
        "tags": {"agent_host": "192.0.2.1", "host": "poller-1", "ifName": "Et1"},
        "timestamp": 1_767_225_600,
    }
    found = decoded(metric, {"metrics": [metric, {**metric, "timestamp": 1_767_225_610_000}]})
    assert found.rejects == []
    assert found.readings.flow == ["192.0.2.1/Et1/in", "192.0.2.1/Et1/out"] * 3
    assert found.readings.count.tolist() == [10**12, 7] * 3
    assert found.readings.bits.tolist() == [64] * 6
    assert found.readings.capacity.tolist() == [1.25e6] * 6
    assert found.readings.time.tolist()[-1] == 1_767_225_610.0


def test_telegraf_metrics_without_a_counter_are_skipped_and_counted():
    """A CPU's load is not traffic, and not an error either."""
    cpu = {"fields": {"usage_idle": 91.5}, "name": "cpu", "tags": {"host": "a"}, "timestamp": 1}
    found = decoded(cpu)
    assert (len(found.readings), found.rejects, found.counts["skipped"]) == (0, [], 1)


def test_a_telegraf_batch_loses_no_neighbour_of_a_bad_metric():
    """One metric without a time is one reject."""
    good = {
        "fields": {"bytes_recv": 5},
        "tags": {"host": "a", "interface": "eth0"},
        "timestamp": "2026-01-01T00:00:00Z",
    }
    bad = {"fields": {"bytes_recv": 5}, "tags": {"host": "a", "interface": "eth0"}}
    found = decoded({"metrics": [good, bad, good]})
    assert found.readings.time.tolist() == [1_767_225_600.0] * 2
    assert [reject.reason for reject in found.rejects] == [Reason.WRONG_TYPE]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["flow", "time", "value", "kind", "fields", "tags", "metrics", "timestamp"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.lists(st.binary(max_size=60) | json_like.map(lambda v: json.dumps(v).encode())))
def test_any_bytes_are_readings_or_rejects(values):
    """Nothing raises, and each record is accounted for."""
    found = decoded(*values)
    offsets = set(found.readings.offset.tolist()) | {r.record.offset for r in found.rejects}
    assert len(values) - len(offsets) <= found.counts["skipped"]
    assert np.isfinite(found.readings.value).all()
    assert (found.readings.value >= 0).all()


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "flow": st.text(min_size=1, max_size=20),
                "time": st.floats(0, 4e9),
                "value": st.integers(0, 2**64 - 1),
            }
        ),
        min_size=1,
    )
)
def test_encoded_readings_are_decoded_exactly(readings_in):
    """Singly, as an array and as lines, to the bit."""
    single = [msgspec.json.encode(each) for each in readings_in]
    for values in (single, [b"[" + b",".join(single) + b"]"], [b"\n".join(single)]):
        readings = decoded(*values).readings
        assert readings.flow == [each["flow"] for each in readings_in]
        assert readings.count.tolist() == [each["value"] for each in readings_in]
        assert readings.time.tolist() == [each["time"] for each in readings_in]


A_RECORD = st.sampled_from(
    [
        json.dumps(GOOD).encode(),
        b" " + json.dumps(GOOD).encode() + b" \r",
        b'{"flow":"a",',  # two halves make one reading if they are taken for lines of one text
        b'"time":1,"value":2}',
        b"",
        b"{}",
        b"\0",
        None,
        json.dumps([GOOD, GOOD]).encode(),
        b"\n".join([json.dumps(GOOD).encode()] * 2) + b"\n",
        b'{"fields":{"bytes_recv":5},"tags":{"host":"a","interface":"b"},"timestamp":1}',
        b" " * 200,
    ]
)


@given(st.lists(A_RECORD, min_size=1, max_size=6))
def test_a_record_is_decoded_alike_in_any_batch(values):
    """Valid ones are decoded many at once, and none may affect its neighbour."""
    config = InputConfig(record_bytes_max=190)
    together = decoded(*values, config=config)
    alone = [wire.decode([record(v, offset=i)], config) for i, v in enumerate(values)]
    readings = [one.readings for one in alone]
    assert together.readings.flow == [flow for one in readings for flow in one.flow]
    for name in ("offset", "time", "count", "unit"):
        expected = np.concatenate([getattr(one, name) for one in readings])
        assert getattr(together.readings, name).tolist() == expected.tolist()
    assert together.rejects == [reject for one in alone for reject in one.rejects]
    assert together.counts == sum((one.counts for one in alone), start=together.counts.__class__())


@pytest.mark.parametrize("unit", [1, 10, 100, 10**3, 10**4, 10**5, 10**6, 10**8, 10**9])
def test_telegrafs_times_may_be_in_tens_of_a_unit(unit):
    """As `json_timestamp_units` of 10ms has them."""
    assert telegraf.epoch(1_780_012_800 * unit) == pytest.approx(1_780_012_800)


def test_a_subinterface_is_a_flow_beside_its_interface():
    """Both are counted, and one holds the other."""
    tags = {"source": "r1", "name": "xe-0/0/0", "path": "/interfaces/interface/state/counters"}
    below = "/interfaces/interface/subinterfaces/subinterface/state/counters"
    flows = []
    for more in ({}, {"index": "0", "path": below}, {"index": "7", "path": below}):
        metric = {"fields": {"in_octets": 5}, "name": "i", "tags": tags | more, "timestamp": 1}
        flows += [each.flow for each in telegraf.decode(json.dumps(metric).encode()).readings]
    assert flows == ["r1/xe-0/0/0/in", "r1/xe-0/0/0.0/in", "r1/xe-0/0/0.7/in"]
