"""The naive forecasts, scored underway: held against the same thing done the long way."""

import numpy as np
import pytest

from streamer.core.features.scale import rates as rates_of
from streamer.core.network.config import ModelConfig
from streamer.core.predict import forecast
from streamer.core.predict.forecast import ForecastSpec
from streamer.evaluation.baselines import NAMES, BaselineScorer
from streamer.evaluation.metrics import UNTRAINED

STEP_S, STEPS, FLOWS, HORIZONS = 3600, 60, 5, 3
FIRST = 470_000
BEGIN, END = 20, STEPS - HORIZONS


def inputs_after(rates):
    """The network's inputs after each step of rows that take *rates*."""
    outlook = ForecastSpec(STEP_S, HORIZONS)
    rows = np.zeros(FLOWS, np.dtype(forecast.columns(ModelConfig(cell="none"), outlook)))
    return [
        forecast.prepare(rows, each, np.full(FLOWS, step), outlook)
        for step, each in enumerate(rates, FIRST)
    ]


def scored(rates, inputs_of):
    """The rivals' errors when all flows close their steps together."""
    names = [f"port{flow}" for flow in range(FLOWS)]
    columns = {name: place for place, name in enumerate(names)}
    rivals = BaselineScorer(columns, ForecastSpec(STEP_S, HORIZONS), FIRST + BEGIN, FIRST + END)
    for step, inputs in enumerate(inputs_of):
        rivals.observe(names, np.full(FLOWS, FIRST + step), rates[step], inputs)
    return rivals.errors


@pytest.fixture
def rates():
    rng = np.random.default_rng(3)
    rates = 100 * np.exp(rng.normal(size=(STEPS, FLOWS)))
    rates[30:33, 1] = np.nan
    return rates


def test_each_baseline_is_scored_as_if_all_had_been_kept(rates):
    """The running error is the mean over all forecasts, without missing steps."""
    inputs_of = inputs_after(rates)
    errors = scored(rates, inputs_of)
    for place, name in enumerate(NAMES[:-1]):
        for k in range(HORIZONS):
            predicted = [
                rates_of(inputs_of[t].ahead[place, :, k], inputs_of[t].scale)
                for t in range(BEGIN, END)
            ]
            missed = np.abs(np.array(predicted) - rates[BEGIN + k + 1 : END + k + 1])
            assert errors[name][k] == pytest.approx(np.nanmean(missed, 0), rel=1e-5)


def test_the_unlearned_mixture_lies_among_the_baselines(rates):
    """It is no better than the best baseline at every step, and never worse than the worst."""
    errors = scored(rates, inputs_after(rates))
    baselines = np.stack([errors[name] for name in NAMES[:-1]])
    assert (errors[UNTRAINED] < baselines.max(0)).all()
    assert (errors[UNTRAINED] > 0).all()


def test_forecasts_from_before_a_gap_are_not_scored_after_it(rates):
    """After a gap longer than all horizons only forecasts made since it count."""
    inputs_of = inputs_after(rates)
    names = [f"port{flow}" for flow in range(FLOWS)]
    columns = {name: place for place, name in enumerate(names)}
    rivals = BaselineScorer(columns, ForecastSpec(STEP_S, HORIZONS), FIRST, FIRST + STEPS)
    for step in (10, 11, 25):
        rivals.observe(names, np.full(FLOWS, FIRST + step), rates[step], inputs_of[step])
    missed = np.abs(rates_of(inputs_of[10].ahead[0, :, 0], inputs_of[10].scale) - rates[11])
    assert rivals.errors["last"][0] == pytest.approx(missed, rel=1e-5)
    assert np.isnan(rivals.errors["last"][1:]).all()


def test_flows_that_close_apart_are_scored_alike(rates):
    """The composition of the waves changes nothing."""
    inputs_of = inputs_after(rates)
    names = [f"port{flow}" for flow in range(FLOWS)]
    columns = {name: place for place, name in enumerate(names)}
    rivals = BaselineScorer(columns, ForecastSpec(STEP_S, HORIZONS), FIRST + BEGIN, FIRST + END)
    for places in (np.array([0, 3]), np.array([1, 2, 4])):
        for step, inputs in enumerate(inputs_of):
            part = type(inputs)(
                features=inputs.features[places],
                ahead=inputs.ahead[:, places],
                errors=inputs.errors[:, places],
                spread=inputs.spread[places],
                scale=inputs.scale[places],
                horizons=inputs.horizons,
            )
            some, at = [names[p] for p in places], np.full(len(places), FIRST + step)
            rivals.observe(some, at, rates[step][places], part)
    for name, errors in scored(rates, inputs_of).items():
        assert rivals.errors[name] == pytest.approx(errors, rel=1e-6)
