"""The path of a reading, from a record to an epoch."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.config.types import Duration
from streamer.core.engine import Engine, EngineConfig, waves
from streamer.core.features.grid import GridConfig
from streamer.core.network.model import Forecaster, ModelConfig, Network
from streamer.core.types import Partition, Reason, Record

P = Partition("traffic.counters", 0)
TOTAL = 1  # partitions of the input


def network():
    torch.manual_seed(3)
    return Forecaster(Network(ModelConfig(hidden=16)))


NETWORK = network()


def engine(**settings_):
    made = Engine(NETWORK, EngineConfig(grid=GridConfig(step=Duration(60)), **settings_))
    made.restore(P, {}, 0, TOTAL)
    return made


def records(readings, offset=0):
    """One record a reading: (flow, time, value)."""
    return [
        Record(
            P,
            i,
            None,
            json.dumps(dict(zip(("flow", "time", "value"), r, strict=True))).encode(),
            -1,
        )
        for i, r in enumerate(readings, offset)
    ]


def forecasts_of(epochs):
    """Every forecast: (flow, made_at) -> its band's bytes."""
    return {
        (flow, at): band.tobytes()
        for epoch in epochs
        for wave in epoch.forecasts
        for flow, at, band in zip(wave.flow, wave.made_at.tolist(), wave.bands, strict=True)
    }


def test_the_second_reading_of_a_flow_brings_its_first_forecast():
    """When it closes a step: a band for each horizon, in order, none below zero."""
    made = engine()
    assert made.step(records([("a", 0, 100)])).forecasts == []
    (wave,) = made.step(records([("a", 60, 700)], 1)).forecasts
    assert wave.rate.tolist() == [10.0]
    assert wave.made_at.tolist() == [60]
    assert wave.unit.tolist() == [b"B/s"]
    assert wave.bands.shape == (1, 12, 5)
    assert (np.diff(wave.bands, axis=2) >= 0).all()
    assert (wave.bands >= 0).all()


@pytest.mark.slow
@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 400), st.data())
def test_turns_of_any_size_publish_the_same(seed, flows, data):
    """To the bit: forecasts and rows depend on the readings alone."""
    chance = np.random.default_rng(seed)
    count = np.zeros(flows, np.int64)
    readings = []
    for minute in range(4):
        count += chance.integers(0, 10**6, flows)
        readings += [(f"f{i}", 60 * minute, int(count[i])) for i in range(flows)]
    every = records(readings)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(every)), max_size=6)))
    whole, parts = engine(), engine()
    once = [whole.step(every)]
    several = [parts.step(every[a:b]) for a, b in zip([0, *cuts], [*cuts, len(every)], strict=True)]
    assert forecasts_of(once) == forecasts_of(several)
    for flow in range(flows):
        one, other = (e.table.rows[e.table.find(P, [f"f{flow}"])[0]] for e in (whole, parts))
        assert one.tobytes() == other.tobytes()


def test_a_flows_forecast_does_not_depend_on_its_neighbours():
    """Alone or among a thousand, one of which has a broken row: the same bits."""
    mine = [("mine", 60 * minute, 1000 * minute**2) for minute in range(6)]
    alone = forecasts_of([engine().step(records(mine))])
    crowd = engine()
    neighbours = [f"n{i}" for i in range(1000)]
    epochs = []
    for minute, reading in enumerate(mine):
        others = [(flow, 60 * minute, minute * 10**12) for flow in neighbours]
        epochs.append(crowd.step(records([*others[:500], reading, *others[500:]], 1001 * minute)))
        broken = crowd.table.find(P, ["n7"])[0]
        crowd.table.rows["state"][broken] = np.nan
        crowd.table.rows["ewma_3"][broken] = np.nan
    among = {key: band for key, band in forecasts_of(epochs).items() if key[0] == "mine"}
    assert alone == among


def test_a_hole_is_published_as_missing_steps():
    """Neither zero nor skipped: a forecast for each, with no rate."""
    made = engine()
    made.step(records([("a", 0, 0), ("a", 60, 600), ("a", 120, 1200)]))
    gauge = [{"flow": "g", "time": t, "value": 5, "kind": "gauge"} for t in (0, 60, 240)]
    epoch = made.step([Record(P, 9, None, json.dumps(gauge).encode(), -1)])
    rates = [r for wave in epoch.forecasts for r in wave.rate.tolist()]
    assert rates[:2] == [5.0, 5.0]
    assert np.isnan(rates[2:]).all()
    assert len(rates) == 4


def test_every_reading_is_counted_with_its_verdict():
    """Each kind of loss has a name."""
    made = engine()
    epoch = made.step(records([("a", 0, 9), ("a", 0, 9), ("a", 60, 1), ("a", 30, 5), ("b", 0, -1)]))
    assert epoch.counts["verdict.first"] == 1
    assert epoch.counts["verdict.duplicate"] == 1
    assert epoch.counts["verdict.reset"] == 1
    assert epoch.counts["verdict.late"] == 1
    assert epoch.counts["rejected.negative"] == 1
    assert (epoch.counts["records"], epoch.counts["readings"]) == (5, 4)


@pytest.mark.slow
def test_more_flows_than_there_is_room_for_stop_nothing():
    """Twenty thousand flows through a thousand rows: the newest stay, the rest is counted."""
    made = engine(flows_max=1000)
    evicted = 0
    for first in range(0, 20_000, 2_000):
        batch = [(f"f{i}", i / 1000, 1) for i in range(first, first + 2_000)]
        epoch = made.step(records(batch, first), share=0.5)
        evicted += epoch.counts["evicted"]
    assert evicted + len(made.table) == 20_000
    assert made.table.find(P, ["f19999"]) != [None]
    assert made.table.find(P, ["f0"]) == [None]


def test_a_record_with_more_flows_than_fit_takes_in_what_fits():
    """The rest has no room, and is counted."""
    made = engine(flows_max=10)
    batch = [{"flow": f"f{i}", "time": i, "value": 1} for i in range(25)]
    epoch = made.step([Record(P, 0, None, json.dumps(batch).encode(), -1)])
    assert len(made.table) == 10
    assert [(r.reason, r.detail) for r in epoch.rejects] == [
        (Reason.NO_ROOM, "15 flows found no room")
    ]


@given(st.lists(st.integers(0, 6), max_size=40))
def test_waves_keep_each_flows_order_and_hold_it_once(slots):
    """The second reading of a flow must start from the row that the first left."""
    laid = [wave.tolist() for wave in waves(np.array(slots, np.intp))]
    assert sorted(place for wave in laid for place in wave) == list(range(len(slots)))
    for wave in laid:
        assert max(Counter(slots[place] for place in wave).values(), default=0) <= 1
    for slot in set(slots):
        mine = [place for wave in laid for place in wave if slots[place] == slot]
        assert mine == sorted(mine)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_epoch_commits_what_it_read(share):
    """The next offset of every partition that it has received."""
    epoch = engine().step(records([("a", 0, 1), ("b", 1, 1)], 40), share)
    assert epoch.offsets == {P: 42}
