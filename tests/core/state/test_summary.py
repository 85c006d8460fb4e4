"""The summary of a row matches what was published for its flow."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from streamer.core.engine import Engine, EngineConfig
from streamer.core.network.config import ModelConfig
from streamer.core.network.model import Forecaster, Network
from streamer.core.state.summary import summarize
from streamer.core.types import Partition, Record

P = Partition("traffic.counters", 0)


@pytest.fixture
def engine():
    made = Engine(Forecaster(Network(ModelConfig(hidden=8))), EngineConfig(flows_max=64))
    made.restore(P, {}, 0, 1)
    return made


def feed(engine, values, **fields):
    """One reading a minute; None is a minute without one. Returns the forecasts."""
    forecasts = []
    for minute, value in enumerate(values):
        if value is None:
            continue
        reading = {"flow": "edge1/in", "time": 60.0 * minute, "value": value} | fields
        record = Record(P, minute, None, json.dumps(reading).encode(), -1)
        forecasts += engine.step([record]).forecasts
    return forecasts


def row_of(engine):
    (slot,) = engine.table.find(P, ["edge1/in"])
    return engine.table.rows[slot : slot + 1]


def test_the_summary_has_the_published_rates(engine):
    """In their order, missing ones among them; older ones as closely as the scale stayed."""
    rates = np.random.default_rng(1).uniform(1e3, 1e6, 30)
    counts = [int(count) for count in np.cumsum(np.rint(rates) * 60)]
    counts[20:24] = [None] * 4
    forecasts = feed(engine, counts)
    truth = [float(wave.rate[0]) for wave in forecasts]
    portrait = summarize(row_of(engine), engine.outlook)
    assert portrait.steps == len(portrait.rates) == len(truth)
    assert portrait.rates[-1] == pytest.approx(truth[-1], rel=0.01)
    assert portrait.rates == pytest.approx(truth, abs=portrait.scale / 4, nan_ok=True)


def test_the_summary_has_the_published_forecast(engine):
    """It is the last one that was published."""
    forecasts = feed(engine, [minute * minute * 1000 for minute in range(40)])
    portrait = summarize(row_of(engine), engine.outlook)
    assert portrait.made_at == forecasts[-1].made_at[0]
    assert portrait.bands == pytest.approx(
        forecasts[-1].bands[0], rel=0.02, abs=portrait.scale / 1000
    )


def test_the_summary_has_the_kind_of_the_flow(engine):
    """A gauge's unit is the rate's own, and it has no count."""
    feed(engine, [5, 6, 7, 8], kind="gauge", unit="pps", capacity=1e9)
    portrait = summarize(row_of(engine), engine.outlook)
    assert (portrait.kind, portrait.unit, portrait.count) == ("gauge", "pps", None)
    assert portrait.capacity == 1e9
    assert portrait.read_at == 180.0


def test_a_flow_without_a_closed_step_has_no_summary(engine):
    """One reading is no rate."""
    feed(engine, [5])
    assert summarize(row_of(engine), engine.outlook) is None


def test_the_summary_has_what_was_learned_of_bursts(engine):
    """As a factor of the odds; none where no peaks are forecast."""
    feed(engine, [minute * minute * 1000 for minute in range(40)])
    row = row_of(engine)
    row["burst_odds"] = np.log(3)
    assert summarize(row, engine.outlook).burst_odds == pytest.approx(3)
    assert summarize(row, replace(engine.outlook, peaks=())).burst_odds is None
