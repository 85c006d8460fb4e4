"""From closed steps to bands: every row by itself, whatever it has been through."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from streamer.core.network.config import ModelConfig
from streamer.core.network.model import Forecaster, Network
from streamer.core.predict import forecast
from streamer.core.predict.forecast import ForecastSpec

START = 28_000_000
OUTLOOK = ForecastSpec(60)


def untrained(cell="lstm"):
    torch.manual_seed(3)
    return Forecaster(Network(ModelConfig(cell=cell, hidden=16)))


def empty_rows(model, number, outlook=OUTLOOK):
    return np.zeros(number, np.dtype(forecast.columns(model.config, outlook)))


def serve(model, rows, rates, steps, outlook=OUTLOOK):
    """One closed step through all stages, as the engine takes it."""
    inputs = forecast.prepare(rows, np.asarray(rates, float), np.asarray(steps), outlook)
    outputs, rows["state"] = model.step(inputs, rows["state"])
    return forecast.postprocess(rows, outputs, inputs, np.asarray(steps), outlook)


def serve_all(model, rows, rates, first=START, outlook=OUTLOOK):
    """All of *rates* (steps, B), one step after another; the bands of the last."""
    for step, each in enumerate(rates, first):
        bands = serve(model, rows, each, np.full(len(rows), step), outlook)
    return bands


@given(seed=st.integers(0, 2**16), rows=st.integers(2, 40), step_s=st.sampled_from([10, 60, 300]))
@settings(max_examples=10)
def test_a_row_does_not_depend_on_its_neighbours(seed, rows, step_s):
    """Taken in waves of any size and order, at steps of their own, rows keep each bit."""
    rng, model, outlook = np.random.default_rng(seed), untrained(), ForecastSpec(step_s)
    together = empty_rows(model, rows, outlook)
    apart = together.copy()
    steps = START + rng.integers(0, 500, rows)
    for _ in range(6):
        rates = np.exp(rng.normal(size=rows) * 3)
        rates[rng.random(rows) < 0.2] = np.nan
        bands = serve(model, together, rates, steps, outlook)
        for some in np.array_split(rng.permutation(rows), rng.integers(1, 5)):
            gathered = apart[some]
            alone = serve(model, gathered, rates[some], steps[some], outlook)
            apart[some] = gathered
            assert bands[some].tobytes() == alone.tobytes()
        steps += 1
    assert together.tobytes() == apart.tobytes()


@given(
    rates=st.lists(
        st.one_of(
            st.just(np.nan), st.just(0.0), st.floats(1e-12, 1e18), st.just(1e18), st.just(-5.0)
        ),
        min_size=1,
        max_size=25,
    )
)
@settings(max_examples=30)
def test_no_rate_is_too_much(rates):
    """Zeros, holes and leaps over thirty decades give finite bands in order, none below zero."""
    model = untrained()
    rows = empty_rows(model, 1)
    for step, rate in enumerate(rates):
        bands = serve(model, rows, [rate], [START + step])
        assert np.isfinite(bands).all()
        assert (bands >= 0).all()
        assert (np.diff(bands, axis=-1) >= 0).all()
    for name in rows.dtype.names:
        assert name == "recent" or np.isfinite(rows[name]).all(), name


def test_a_silent_flow_is_forecast_to_stay_silent():
    """A flow of zeros has a forecast of next to nothing, and wakes up when traffic comes."""
    model = untrained()
    rows = empty_rows(model, 1)
    bands = serve_all(model, rows, np.zeros((50, 1)))
    assert bands.max() < 1e-3
    bands = serve_all(model, rows, np.full((30, 1), 1e9), first=START + 50)
    assert 1e8 < bands[0, 0, 2] < 1e10


def test_a_flow_of_another_size_has_the_same_forecast():
    """Forecasts follow a flow's own measure: a million times the traffic and the bands."""
    model, rng = untrained(), np.random.default_rng(0)
    rates = np.exp(rng.normal(size=(60, 1)))
    small = serve_all(model, empty_rows(model, 1), rates)
    large = serve_all(model, empty_rows(model, 1), rates * 1e6)
    np.testing.assert_allclose(large, small * 1e6, rtol=2e-2)


def test_a_row_goes_on_from_its_bytes():
    """Rows that were saved and read again give the bands that they would have given."""
    model, rng = untrained(), np.random.default_rng(0)
    rates = np.exp(rng.normal(size=(80, 7)))
    rows = empty_rows(model, 7)
    serve_all(model, rows, rates[:40])
    saved = np.frombuffer(rows.tobytes(), rows.dtype).copy()
    on = serve_all(model, rows, rates[40:], first=START + 40)
    again = serve_all(model, saved, rates[40:], first=START + 40)
    assert on.tobytes() == again.tobytes()
    assert rows.tobytes() == saved.tobytes()


def test_a_flow_that_returns_begins_warm():
    """After `restart` the state is empty and the profile of the day is still there."""
    model = untrained()
    rows = empty_rows(model, 2)
    serve_all(model, rows, np.full((100, 2), 5.0))
    before = rows.copy()
    forecast.restart(rows, np.array([False, True]))
    assert rows[0] == before[0]
    assert not rows["state"][1].any()
    assert not rows["pending"][1].any()
    assert rows["daily"][1].any()
    assert (rows["daily"] == before["daily"]).all()
    bands = serve(model, rows, [5.0, 7.0], [START + 900, START + 900])
    assert np.isfinite(bands).all()


def test_quantiles_between_trained_ones_are_interpolated():
    """A published quantile that the network does not have is interpolated in probability."""
    model, rng = untrained(), np.random.default_rng(0)
    rates = np.exp(rng.normal(size=(30, 3)))
    fine = ForecastSpec(60, horizons=3, quantiles=(0.25, 0.3, 0.5))
    bands = serve_all(model, empty_rows(model, 3, fine), rates, outlook=fine)
    compressed = np.log1p(bands.astype(float))
    assert (compressed[..., 0] < compressed[..., 1]).all()
    assert (compressed[..., 1] < compressed[..., 2]).all()


@pytest.mark.parametrize("quantiles", [(0.001, 0.5), (0.5, 0.999)])
def test_quantiles_beyond_trained_ones_are_refused(quantiles):
    """Quantiles that the network was not trained on are not extrapolated."""
    with pytest.raises(ValueError, match=r"^quantiles: must lie between 0\.01 and 0\.99"):
        ForecastSpec(60, quantiles=quantiles)


@pytest.mark.parametrize("cell", ["rnn", "none"])
def test_every_cell_serves(cell):
    """The simple cell and no cell at all go the same way as the LSTM."""
    model = untrained(cell)
    bands = serve_all(model, empty_rows(model, 4), np.ones((20, 4)))
    assert bands.shape == (4, 12, 5)
    assert np.isfinite(bands).all()
