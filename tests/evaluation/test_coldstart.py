"""What forecasts of new flows are worth: figures that can be checked by hand."""

import numpy as np
import pytest

from streamer.evaluation.coldstart import ages, cold_start
from streamer.evaluation.metrics import filled, smoothed

HOUR_S, DAY, HORIZONS = 3600, 24, 3
YOUNG = ages(HOUR_S)


def life(first_step, steps=60):
    """A flow that began after *first_step* steps."""
    rates = np.exp(np.random.default_rng(2).normal(size=(steps, 1)))
    rates[:first_step] = np.nan
    return rates


def medians(rates, first_step, predict):
    """What `predict` returns for each horizon at each age of the flow."""
    found = np.full((len(YOUNG), 1, HORIZONS), np.nan, np.float32)
    for place, age in enumerate(YOUNG):
        found[place, 0] = [predict(first_step + age, k) for k in range(1, HORIZONS + 1)]
    return found


@pytest.mark.parametrize("first_step", [0, 7])
def test_forecasting_the_smoothed_value_equals_smoothing(first_step):
    """Whenever the flow began: its life is counted from its own first step."""
    rates = life(first_step)
    smooth = smoothed(filled(rates[first_step:]))[:, 0]
    forecast = medians(rates, first_step, lambda step, _: smooth[step - first_step])
    shares = cold_start(rates, forecast, np.array([first_step]), HOUR_S)
    assert shares["smoothed"] == pytest.approx(1, rel=1e-5)


def test_half_way_to_the_truth_has_half_the_error():
    """A forecast half way between the last value and the truth has half the last value's error."""
    rates = life(0)
    forecast = medians(rates, 0, lambda step, k: (rates[step, 0] + rates[step + k, 0]) / 2)
    assert cold_start(rates, forecast, np.array([0]), HOUR_S)["last"] == pytest.approx(
        0.5, rel=1e-5
    )


def test_only_the_first_day_counts_and_not_its_first_hour():
    """Ages from one hour to a day, in steps of any length."""
    assert (YOUNG.start, YOUNG.stop) == (1, 24)
    assert (ages(600).start, ages(600).stop) == (6, 144)
    assert not ages(86400)


@pytest.mark.parametrize("first_step", [-1, 59])
def test_a_flow_without_a_day_is_not_scored(first_step):
    """It never closed a step, or only the last one."""
    forecast = np.ones((len(YOUNG), 1, HORIZONS), np.float32)
    shares = cold_start(life(0), forecast, np.array([first_step]), HOUR_S)
    assert np.isnan(shares["smoothed"]).all()
    assert np.isnan(shares["last"]).all()
