"""The records of forecasts."""

import dataclasses
import json
from importlib.resources import files

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer.core.types import PEAK_QUANTILES, Forecasts, Partition
from streamer.core.wire import Reading
from streamer.core.wire.forecasts import Encoder, ForecastsConfig, quantile_name

P = Partition("traffic.counters", 3)
CONFIG = ForecastsConfig(horizons=3, quantiles=(0.05, 0.5, 0.95), peaks=(2, 3))

PEAKS = np.arange(2 * len(PEAK_QUANTILES), dtype=np.float32).reshape(1, 2, -1)


def wave(flows, bands, rates, unit=b"B/s"):
    return Forecasts(
        partition=[P] * len(flows),
        flow=flows,
        unit=np.array([unit] * len(flows), "S14"),
        made_at=np.full(len(flows), 1_700_000_100),
        rate=np.array(rates, np.float64),
        bands=np.asarray(bands, np.float32),
        peaks=PEAKS.repeat(len(flows), 0),
        served_by=["lstm"] * len(flows),
        generation=3,
    )


def test_a_forecast_is_a_flat_record():
    """As the documentation has it, keyed by its flow, in the partition of its input."""
    bands = np.arange(9).reshape(1, 3, 3)
    (message,) = Encoder(CONFIG, 60).messages([wave(["edge1/in"], bands, [123.4])])
    assert (message.topic, message.partition) == ("traffic.forecasts", 3)
    assert message.key == b"edge1/in"
    assert json.loads(message.value) == {
        "schema": 1,
        "id": "edge1/in@1700000100.3",
        "flow": "edge1/in",
        "made_at": 1_700_000_100,
        "step_s": 60,
        "rate": 123.4,
        "unit": "B/s",
        "generation": 3,
        "served_by": "lstm",
        "q05": [0, 3, 6],
        "q50": [1, 4, 7],
        "q95": [2, 5, 8],
        "peak_steps": [2, 3],
        "peak_q50": [2, 11],
        "peak_q75": [3, 12],
        "peak_q95": [5, 14],
        "peak_q99": [7, 16],
    }


def test_a_missing_rate_is_null():
    """JSON has no NaN."""
    (message,) = Encoder(CONFIG, 60).messages([wave(["f"], np.zeros((1, 3, 3)), [np.nan])])
    assert json.loads(message.value)["rate"] is None


@given(
    st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=7),
    st.integers(1, 5),
    st.data(),
)
def test_a_batch_holds_the_lines_that_single_records_would(flows, batch, data):
    """Whatever the names and numbers, to six digits of the largest."""
    floats = st.floats(0, 2.0**60, width=32)
    bands = data.draw(hnp.arrays(np.float32, (len(flows), 3, 3), elements=floats))
    rates = data.draw(hnp.arrays(np.float64, len(flows), elements=st.floats(0, 1e18)))
    one = wave(flows, bands, rates)
    singly = Encoder(CONFIG, 60).messages([one])
    many = ForecastsConfig(
        horizons=3, quantiles=(0.05, 0.5, 0.95), peaks=(2, 3), batch=max(2, batch)
    )
    batched = Encoder(many, 60).messages([one])
    lines = [line for message in batched for line in message.value.split(b"\n")]
    assert lines == [message.value for message in singly]
    assert all(message.key is None for message in batched)
    for line, flow, rate, band in zip(lines, flows, rates, bands, strict=True):
        found = json.loads(line)
        assert found["flow"] == flow
        assert found["rate"] == pytest.approx(rate, rel=6e-6, abs=6e-6)
        assert found["q50"] == pytest.approx(band[:, 1].tolist(), abs=6e-6 * float(band.max() + 1))


def test_a_batch_goes_on_from_wave_to_wave():
    """Waves of one flow each fill records as one large wave would."""
    waves = [wave([f"f{i}"], np.full((1, 3, 3), i), [i]) for i in range(7)]
    config = ForecastsConfig(horizons=3, quantiles=(0.05, 0.5, 0.95), peaks=(2, 3), batch=3)
    values = [message.value for message in Encoder(config, 60).messages(waves)]
    assert [value.count(b"\n") + 1 for value in values] == [3, 3, 1]
    lines = [json.loads(line) for value in values for line in value.split(b"\n")]
    assert [line["flow"] for line in lines] == [f"f{i}" for i in range(7)]


def test_a_record_stays_below_what_brokers_take(monkeypatch):
    """However many lines a batch may have."""
    monkeypatch.setattr("streamer.core.wire.forecasts.RECORD_BYTES_MAX", 1000)
    flows = [f"{'f' * (i % 90)}{i}" for i in range(600)]
    config = ForecastsConfig(horizons=3, quantiles=(0.05, 0.5, 0.95), peaks=(2, 3), batch=10_000)
    one = wave(flows, np.ones((600, 3, 3)), np.ones(600))
    values = [message.value for message in Encoder(config, 60).messages([one])]
    assert max(map(len, values)) <= 1000
    assert len(values) < 400
    lines = [json.loads(line) for value in values for line in value.split(b"\n")]
    assert [line["flow"] for line in lines] == flows


def test_partitions_are_kept_apart():
    """A batch is of one partition, in whatever order the flows are in a wave."""
    other = Partition("traffic.counters", 5)
    one = wave(["a", "b", "c", "d"], np.ones((4, 3, 3)), np.ones(4))
    mixed = dataclasses.replace(one, partition=[P, other, P, other])
    config = ForecastsConfig(horizons=3, quantiles=(0.05, 0.5, 0.95), peaks=(2, 3), batch=9)
    found = {
        message.partition: [json.loads(line)["flow"] for line in message.value.split(b"\n")]
        for message in Encoder(config, 60).messages([mixed])
    }
    assert found == {3: ["a", "c"], 5: ["b", "d"]}


def schema(name):
    return json.loads((files("streamer") / "schemas" / f"{name}.schema.json").read_text())


def test_records_follow_their_schemas():
    """A reader of the schema can read the record."""
    bands = np.arange(9).reshape(1, 3, 3)
    for rate in (123.4, np.nan):
        (message,) = Encoder(CONFIG, 60).messages([wave(['a"b'], bands, [rate])])
        jsonschema.validate(json.loads(message.value), schema("forecast"))
    reading = Reading("a", 1.5, 2**64 - 1, kind="counter", unit="B", capacity=1e9, bits=64)
    jsonschema.validate(msgspec.json.decode(msgspec.json.encode(reading)), schema("reading"))
    assert set(Reading.__struct_fields__) == set(schema("reading")["properties"])


@pytest.mark.parametrize(
    ("quantile", "name"), [(0.05, "q05"), (0.5, "q50"), (0.975, "q975"), (0.01, "q01")]
)
def test_quantiles_are_named_by_their_digits(quantile, name):
    """Two at least."""
    assert quantile_name(quantile) == name
