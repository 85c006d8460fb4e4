"""What forecasts of new flows are worth: figures that can be checked by hand."""

import numpy as np
import pytest

from streamer.evaluation.coldstart import ages, cold_start
from streamer.evaluation.metrics import filled, smoothed

HOUR_S, DAY, HORIZONS = 3600, 24, 3
YOUNG = ages(HOUR_S)


def life(begun, steps=60):
    """A flow that began after *begun* steps."""
    rates = np.exp(np.random.default_rng(2).normal(size=(steps, 1)))
    rates[:begun] = np.nan
    return rates


def medians(rates, begun, said):
    """What `said` says of a horizon at each age of the flow."""
    told = np.full((len(YOUNG), 1, HORIZONS), np.nan, np.float32)
    for place, age in enumerate(YOUNG):
        told[place, 0] = [said(begun + age, k) for k in range(1, HORIZONS + 1)]
    return told


@pytest.mark.parametrize("begun", [0, 7])
def test_saying_what_smoothing_says_is_as_good_as_it(begun):
    """Whenever the flow began: its life is counted from its own first step."""
    rates = life(begun)
    smooth = smoothed(filled(rates[begun:]))[:, 0]
    told = medians(rates, begun, lambda step, _: smooth[step - begun])
    shares = cold_start(rates, told, np.array([begun]), HOUR_S)
    assert shares["smoothed"] == pytest.approx(1, rel=1e-5)


def test_who_knows_half_of_it_is_off_by_half():
    """A forecast half way between the last value and the truth has half the last value's error."""
    rates = life(0)
    told = medians(rates, 0, lambda step, k: (rates[step, 0] + rates[step + k, 0]) / 2)
    assert cold_start(rates, told, np.array([0]), HOUR_S)["last"] == pytest.approx(0.5, rel=1e-5)


def test_only_the_first_day_counts_and_not_its_first_hour():
    """Ages from one hour to a day, in steps of any length."""
    assert (YOUNG.start, YOUNG.stop) == (1, 24)
    assert (ages(600).start, ages(600).stop) == (6, 144)
    assert not ages(86400)


@pytest.mark.parametrize("begun", [-1, 59])
def test_a_flow_without_a_day_tells_nothing(begun):
    """It never closed a step, or only the last one."""
    told = np.ones((len(YOUNG), 1, HORIZONS), np.float32)
    shares = cold_start(life(0), told, np.array([begun]), HOUR_S)
    assert np.isnan(shares["smoothed"]).all()
    assert np.isnan(shares["last"]).all()
