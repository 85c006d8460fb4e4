"""Flows whose readings come in more than one partition are noticed."""

import json

import pytest

from streamer.core.engine import Engine, EngineConfig
from streamer.core.network.model import Forecaster, ModelConfig, Network
from streamer.core.state import spread
from streamer.core.types import Partition, Record
from tests.simulation.fingerprint import Fingerprint

P, Q = Partition("in", 0), Partition("in", 1)


@pytest.fixture
def engine():
    made = Engine(Fingerprint(), EngineConfig(flows_max=10_000), page_rows=8)
    for partition in (P, Q):
        made.restore(partition, {}, 0, 2)
    return made


def record(partition, offset, minute, *flows):
    readings = [{"flow": flow, "time": 60 * minute, "value": 100 * minute} for flow in flows]
    return Record(partition, offset, None, json.dumps(readings).encode(), -1)


def test_a_flow_in_two_partitions_is_reported_once(engine):
    """A producer that sends records without a key spreads each flow over all partitions."""
    found = []
    for minute in range(6):
        partition = (P, Q)[minute % 2]
        epoch = engine.step([record(partition, minute // 2, minute, "a")])
        found += epoch.spread
    assert found == ["a"]


def test_a_key_that_moved_causes_no_warning(engine):
    """After partitions were added, its old row does not change."""
    found = []
    for minute in range(10):
        partition = P if minute < 4 else Q
        epoch = engine.step([record(partition, minute, minute, "a", f"other{minute}")])
        found += epoch.spread
    assert found == []


def test_it_is_found_after_a_restart_too(engine):
    """Among the rows that come back."""
    table = {}
    for minute in range(2):
        batch = [record(P, minute, minute, "a"), record(Q, minute, minute, "a")]
        for entry in engine.step(batch, share=1.0).entries:
            table[entry.key] = entry.value
    again = Engine(Fingerprint(), EngineConfig(flows_max=10_000), page_rows=8)
    for partition in (P, Q):
        again.restore(partition, table, 2, 2)
    epoch = again.step([record(P, 2, 2, "a"), record(Q, 2, 2, "a")])
    assert epoch.spread == ["a"]
    assert epoch.counts["flows_in_two_partitions"] == 1


def test_however_many_there_are_only_some_are_watched(engine):
    """Memory is bounded; the count shows that there is more than one flow."""
    flows = [f"f{n}" for n in range(1000)]
    found = []
    for minute in range(4):
        batch = [record(partition, minute, minute, *flows) for partition in (P, Q)]
        found += engine.step(batch).spread
    assert len(found) == spread.SUSPECTS_MAX


def test_pages_of_a_large_network_stay_below_what_a_broker_takes():
    """However large its state is: a page holds fewer rows then."""
    made = Engine(
        Forecaster(Network(ModelConfig(hidden=512, layers=4))), EngineConfig(flows_max=64)
    )
    made.restore(P, {}, 0, 1)
    epoch = made.step([record(P, 0, 0, *(f"{n:03}" + "x" * 500 for n in range(64)))], share=1.0)
    assert max(len(entry.value) for entry in epoch.entries) < 1 << 20
