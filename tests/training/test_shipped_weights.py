"""The weights that come with the package: good for something from the first day on."""

import numpy as np
import pytest
import torch

from streamer.core.network.config import ModelConfig
from streamer.core.network.model import unpack
from streamer.core.predict import forecast
from streamer.core.predict.forecast import ForecastSpec
from streamer.evaluation.metrics import score
from streamer.synthetic import Traffic
from streamer.weights import open_model, shipped

STEP_S = 600
DAY = 144
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def forward(rates, first=2_800_000):
    """The shipped network's forecasts of *rates* after each step, (steps, flows, 6, Q)."""
    torch.set_num_threads(1)
    model, outlook = open_model(ModelConfig()), ForecastSpec(STEP_S, 6, QUANTILES)
    rows = np.zeros(rates.shape[1], np.dtype(forecast.columns(model.config, outlook)))
    bands = []
    for step, each in enumerate(rates, first):
        steps = np.full(len(rows), step)
        inputs = forecast.prepare(rows, each, steps, outlook)
        outputs, rows["state"] = model.step(inputs, rows["state"])
        bands.append(forecast.postprocess(rows, outputs, inputs, steps, outlook))
    return np.stack(bands)


@pytest.fixture(scope="module")
def six_days():
    """By kind of flow: rates, (steps, flows), and the forecasts of them; all were made at once."""
    rng, hours = np.random.default_rng(5), np.arange(6 * DAY)[:, None] / DAY * 2 * np.pi
    phase, noise = rng.uniform(0, 6, 40), rng.normal(size=(6 * DAY, 40))
    waves = 1e6 * np.exp(np.sin(hours + phase) + 0.15 * noise)
    unseen = Traffic(np.random.default_rng(99), 80, STEP_S, 2_800_000).chunk(6 * DAY)
    bands = forward(np.concatenate((waves, unseen), axis=1))
    return {"waves": (waves, bands[:, :40]), "unseen": (unseen, bands[:, 40:])}


def test_a_rhythm_is_forecast_better_than_by_its_last_value(six_days):
    """On noisy waves of a day the error is well below the last value's and smoothing's."""
    rates, bands = six_days["waves"]
    skill = score(rates, bands[4 * DAY :], QUANTILES, 4 * DAY, STEP_S)
    assert skill.every.median < 0.8 * skill.every.last
    assert skill.every.median < 0.9 * skill.every.smoothed
    assert skill.coverage == pytest.approx(0.9, abs=0.07)


def test_unseen_traffic_is_forecast_within_its_bands(six_days):
    """On generated flows of another seed the 90 % band holds some 90 %, and the median is best."""
    rates, bands = six_days["unseen"]
    skill = score(rates, bands[4 * DAY :], QUANTILES, 4 * DAY, STEP_S)
    assert skill.every.median < min(skill.every.last, skill.every.smoothed)
    assert skill.coverage == pytest.approx(0.9, abs=0.04)


def test_the_first_hours_are_forecast_too():
    """From the first hour to the first day forecasts are no worse than smoothing."""
    rates = Traffic(np.random.default_rng(98), 80, STEP_S, 2_800_000).chunk(DAY)
    medians = forward(rates)[6 : DAY - 6, :, :, 2]
    came = np.stack([rates[6 + k : DAY - 6 + k] for k in range(1, 7)], -1)
    smooth = rates.copy()
    for step in range(1, DAY):
        gain = np.where(np.isnan(rates[step]), 0, 0.3)
        smooth[step] = smooth[step - 1] + gain * (np.nan_to_num(rates[step]) - smooth[step - 1])
    smooth = np.nan_to_num(smooth)[6 : DAY - 6, :, None]
    network, smoothing = (
        np.nanmean(np.abs(each - came), axis=(0, 2)) for each in (medians, smooth)
    )
    scored = smoothing > 0
    assert np.exp(np.mean(np.log(network[scored] / smoothing[scored]))) < 1


@pytest.mark.parametrize("cell", ["lstm", "rnn", "none"])
def test_the_weights_of_each_cell_have_metadata(cell):
    """In the package, for the shape that is the default; from generated traffic alone."""
    model = open_model(ModelConfig(cell=cell))
    assert (model.config.cell, model.config.hidden, model.config.layers) == (cell, 64, 1)
    _, made = unpack(shipped(cell))
    assert made["from"] == "generated traffic"
    assert made["made_by"] == "streamer pretrain"
    assert sum(len(shipped(each)) for each in ("lstm", "rnn", "none")) < 500_000
