"""Keys of flow records beyond the limit count together, and a restart changes nothing."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.config.types import Duration
from streamer.core import wire
from streamer.core.backlog import RECORD_PASSES_MAX, trimmed
from streamer.core.budget import Budget
from streamer.core.engine import Engine, EngineConfig
from streamer.core.types import Partition, Reason, Record, joined
from streamer.core.wire import InputConfig
from streamer.core.wire.flow_keys import DIGEST_BYTES, FlowKeys
from streamer.core.wire.settings import SourceConfig
from tests.simulation.fingerprint import Fingerprint

AT = 1_767_225_600
P = Partition("netflow", 0)
LIMITED = InputConfig(flow_key="as", flow_keys_max=3, flow_keys_idle=Duration(600))


def flow_record(number, second, offset, partition=P, exporter="192.0.2.1", size=100):
    value = {
        "type": "IPFIX",
        "time_received_ns": (AT + second) * 10**9,
        "sampling_rate": 1,
        "sampler_address": exporter,
        "bytes": size,
        "src_as": number,
        "dst_as": 1,
    }
    return Record(partition, offset, None, json.dumps(value).encode(), (AT + second) * 1000)


def settled(keys, records, config=LIMITED):
    """The flows that *records* count for, in order."""
    found = keys.settle(wire.decode(records, config).readings)
    keys.adopt(found)
    return found.readings.flow


def names(*numbers):
    return ["192.0.2.1/other" if n is None else f"AS{n}>AS1" for n in numbers]


def test_further_keys_count_for_one_flow_of_their_exporter():
    """The first three have places and keep them; nothing is lost."""
    keys = FlowKeys(LIMITED)
    records = [flow_record(n, 0, n) for n in range(6)] + [flow_record(1, 1, 6)]
    assert settled(keys, records) == names(0, 1, 2, None, None, None, 1)
    elsewhere = [flow_record(9, 2, 7, exporter="192.0.2.2")]
    assert settled(keys, elsewhere) == ["192.0.2.2/other"]
    assert settled(keys, [flow_record(9, 2, 0, Partition("netflow", 1))]) == names(9)


def test_a_key_without_records_gives_up_its_place():
    """Ten minutes and a sixteenth after its newest record, if another key needs the place."""
    keys = FlowKeys(LIMITED)
    settled(keys, [flow_record(n, 0, n) for n in range(3)])
    settled(keys, [flow_record(n, 400, 3) for n in (1, 2)])
    assert settled(keys, [flow_record(7, 590, 4)]) == names(None)
    assert settled(keys, [flow_record(7, 640, 5), flow_record(0, 641, 6)]) == names(7, None)
    assert settled(keys, [flow_record(1, 642, 7)]) == names(1)


def test_a_key_that_returns_before_others_need_its_place_keeps_it():
    keys = FlowKeys(LIMITED)
    assert settled(keys, [flow_record(0, 0, 0), flow_record(0, 10**6, 1)]) == names(0, 0)


def test_a_wrong_clock_of_the_past_takes_no_places():
    """Its keys find none; the others keep theirs."""
    keys = FlowKeys(LIMITED)
    settled(keys, [flow_record(n, 0, n) for n in range(3)])
    assert settled(keys, [flow_record(n, -AT, n) for n in range(7, 12)]) == names(*[None] * 5)
    assert settled(keys, [flow_record(2, 1, 12)]) == names(2)


@pytest.mark.parametrize("key", ["interface", "exporter", "vlan"])
def test_keys_with_a_bound_have_no_limit(key):
    config = InputConfig(flow_key=key, flow_keys_max=1)
    readings = wire.decode([flow_record(n, 0, n) for n in range(4)], config).readings
    assert readings.other is None
    found = FlowKeys(config).settle(readings)
    assert found.readings is readings
    assert found.moved == 0


def test_each_source_has_its_own_limit():
    """Readings of other formats in the same batch keep their names."""
    own = SourceConfig(topics=("netflow",), flow_key="as", flow_keys_max=1)
    config = InputConfig(topics=("plain",), sources=(own,))
    line = b'{"flow": "edge1/in", "time": 1767225600, "value": 5}'
    plain = Record(Partition("plain", 0), 0, None, line, -1)
    records = [flow_record(1, 0, 0), plain, flow_record(2, 0, 1)]
    readings = wire.decode(records, config).readings
    assert FlowKeys(config).settle(readings).readings.flow == [
        "AS1>AS1",
        "edge1/in",
        "192.0.2.1/other",
    ]
    halves = [readings.take(np.array(index, np.intp)) for index in ([0, 2], [1])]
    assert joined(halves).other == ["192.0.2.1/other", "192.0.2.1/other", ""]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 900)), max_size=40), st.data())
def test_batches_of_any_size_and_a_restart_settle_alike(drawn, data):
    """The saved keys go on as the ones that never stopped."""
    second, records = 0, []
    for offset, (number, more) in enumerate(drawn):
        second += more
        records.append(flow_record(number, second, offset))
    cut = data.draw(st.integers(0, len(records)))
    whole = settled(FlowKeys(LIMITED), records)
    keys = FlowKeys(LIMITED)
    first = settled(keys, records[:cut])
    again = FlowKeys(LIMITED)
    again.restore(P, keys.save(P, cut), cut)
    assert first + settled(again, records[cut:]) == whole


def test_saved_keys_of_another_offset_or_damaged_ones_are_not_used():
    keys = FlowKeys(LIMITED)
    settled(keys, [flow_record(n, 0, n) for n in range(3)])
    saved = keys.save(P, 3)
    for value, offset in ((saved, 2), (saved[:-1], 3), (b"\x91\x00", 3), (None, 3)):
        again = FlowKeys(LIMITED)
        again.restore(P, value, offset)
        assert again.save(P, 3) is None
    longer = FlowKeys(InputConfig(flow_key="as", flow_keys_max=3, flow_keys_idle=Duration(3600)))
    longer.restore(P, saved, 3)
    assert settled(longer, [flow_record(n, 1000, n) for n in (7, 0)]) == names(None, 0)


@pytest.mark.slow
def test_a_full_set_of_keys_fits_one_record():
    """Brokers take messages of 1 MiB by default."""
    config = InputConfig(flow_key="as", flow_keys_max=40_000)
    keys = FlowKeys(config)
    settled(keys, [flow_record(n, 0, n) for n in range(40_001)], config)
    assert len(keys.save(P, 40_001)) < 40_000 * (DIGEST_BYTES + 8) + 100


def engine(**more):
    config = EngineConfig(flows_max=1000, input=LIMITED)
    return Engine(Fingerprint(), config, page_rows=8, **more)


def rows_of(made, flows):
    return {flow: row.tobytes() for flow, row in zip(flows, made.rows_of(P, flows)[1], strict=True)}


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**31), st.data())
def test_an_engine_that_crashes_ends_with_the_same_flows(seed, data):
    """Its keys are those of the replay offset, and the replay decides as the first reading did."""
    chance = np.random.default_rng(seed)
    records, second = [], 0
    for offset in range(40):
        second += int(chance.choice([1, 30, 200]))
        records.append(flow_record(int(chance.zipf(1.5)) % 12, second, offset))
    whole = engine()
    whole.restore(P, {}, 0, 1)
    made, table, committed = engine(), {}, 0
    made.restore(P, {}, 0, 1)
    counts = Counter(whole.step(records).counts)
    while committed < len(records):
        size = data.draw(st.integers(1, 20))
        result = made.step(records[committed : committed + size], share=data.draw(st.floats(0, 1)))
        for entry in result.entries:
            table[entry.key] = entry.value
            if entry.value is None:
                del table[entry.key]
        committed += size
        if data.draw(st.booleans()) and committed < len(records):
            made = engine()
            start, _ = made.restore(P, table, committed, 1)
            made.replay(records[start:committed])
    flows = sorted(whole.table.flows(P))
    assert sorted(made.table.flows(P)) == flows
    assert rows_of(made, flows) == rows_of(whole, flows)
    assert counts["readings_in_other"] == sum(
        name == "192.0.2.1/other" for name in settled(FlowKeys(LIMITED), records)
    )


def test_a_turn_that_takes_a_part_settles_that_part():
    """The work of a turn is that of the flows that the readings count for."""
    records = [flow_record(n, n, n) for n in range(40)]
    made = engine(budget=Budget(passes_max=10))
    made.restore(P, {}, 0, 1)
    made.receive(records)
    counts, turns = Counter(), 0
    while made.waiting:
        counts += Counter(made.step([]).counts)
        turns += 1
    assert counts["readings_in_other"] == 37
    assert turns > 3
    assert sorted(made.table.flows(P)) == sorted({*names(0, 1, 2, None)})


def test_a_record_of_many_keys_causes_no_more_passes_than_any():
    """Its readings may all count for `other`, one pass each: the last ones are refused."""
    number = RECORD_PASSES_MAX + 10
    line = '{"event_type": "purge", "peer_ip_src": "192.0.2.1", "as_src": %d, "bytes": 9}'
    value = "\n".join(line % each for each in range(number)).encode()
    records = [Record(P, 0, None, value, AT * 1000)]
    decoded = wire.decode(records, LIMITED)
    assert len(set(decoded.readings.flow)) == number
    portion = trimmed(decoded, records, 300, 12)
    assert len(portion.readings) == len(portion.record) == RECORD_PASSES_MAX
    assert [each.reason for each in portion.rejects] == [Reason.TOO_DENSE]
