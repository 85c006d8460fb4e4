"""The quantiles of the peak that rules read, and the chance that it exceeds a threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer.core.alerts.peak import Outlook, chance
from streamer.core.types import PEAK_QUANTILES

RATES = st.floats(0, 1e30)
QUANTILES = hnp.arrays(np.float64, len(PEAK_QUANTILES), elements=RATES).map(np.sort)


def test_the_peak_s_quantiles_are_the_highest_of_the_steps():
    """Only of the steps within the window; a span with a forecast of its own has that one."""
    bands = np.array([[[1, 2, 3], [0, 5, 6], [9, 9, 9]]], np.float32)
    levels, quantiles = Outlook(bands, (0.1, 0.5, 0.9)).peak(2)
    assert (levels.tolist(), quantiles) == ([[1, 5, 6]], (0.1, 0.5, 0.9))
    peaks = np.array([[[4, 8]]], np.float32)
    own = Outlook(bands, (0.1, 0.5, 0.9), peaks, (2,), (0.5, 0.99))
    assert own.peak(2)[0].tolist() == [[4, 8]]
    assert own.peak(2)[1] == (0.5, 0.99)
    assert own.peak(3)[0].tolist() == [[9, 9, 9]]


@given(QUANTILES, st.lists(RATES, min_size=2, max_size=20))
def test_a_chance_does_not_rise_with_the_threshold(quantiles, thresholds):
    """And is one."""
    chances = chance(PEAK_QUANTILES, quantiles, np.sort(thresholds))
    assert ((chances >= 0) & (chances <= 1)).all()
    assert (np.diff(chances) <= 1e-12).all()


@given(QUANTILES, RATES, st.floats(1, 1e3))
def test_a_chance_does_not_fall_with_the_quantiles(quantiles, threshold, factor):
    """Higher quantiles give a higher chance to exceed a threshold."""
    first = chance(PEAK_QUANTILES, quantiles, np.array(threshold))
    assert chance(PEAK_QUANTILES, quantiles * factor, np.array(threshold)) >= first - 1e-9


@given(QUANTILES, RATES, st.floats(1e-6, 1e6))
def test_a_chance_does_not_depend_on_the_unit(quantiles, threshold, unit):
    """Bits or bytes."""
    quantiles, threshold = quantiles + 1.0, threshold + 1.0
    chances = chance(PEAK_QUANTILES, quantiles, np.array(threshold))
    other = chance(PEAK_QUANTILES, quantiles * unit, np.array(threshold * unit))
    assert other == pytest.approx(chances, abs=1e-3) or np.isclose(quantiles, threshold).any()


def test_a_chance_at_a_quantile_is_the_rest_of_its_level():
    """Between two of them it lies between; beyond them it goes on."""
    quantiles = np.exp(np.arange(len(PEAK_QUANTILES)))
    chances = chance(PEAK_QUANTILES, quantiles, quantiles)
    assert chances == pytest.approx(1 - np.array(PEAK_QUANTILES))
    assert 0 < chance(PEAK_QUANTILES, quantiles, quantiles[-1:] * 3)[0] < 0.005
    assert 0.95 < chance(PEAK_QUANTILES, quantiles, quantiles[:1] / 3)[0] < 1


def test_a_forecast_without_width_is_nearly_certain():
    """Little is expected above it, and much below it; with the levels of ordinary bands too."""
    levels = 0.05, 0.25, 0.5, 0.75, 0.95
    chances = chance(levels, np.full((3, 5), 10.0), np.array([9.0, 10.1, 11.0]))
    assert chances[0] > 0.95
    assert chances[1] < 0.05
    assert chances[2] < 0.01


def test_the_chance_of_a_single_quantile():
    """Its own at the quantile, and it falls above; settings may publish one quantile only."""
    chances = chance((0.5,), np.full((4, 1), 10.0), np.array([5.0, 10.0, 10.5, 20.0]))
    assert chances[0] > chances[1] == pytest.approx(0.5)
    assert chances[1] > chances[2] > chances[3] >= 0


@given(st.integers(2, 40), st.integers(0, 99))
def test_each_row_is_its_own(rows, seed):
    """No row's chance depends on the others in its wave, to the bit."""
    rng = np.random.default_rng(seed)
    quantiles = np.sort(rng.lognormal(5, 2, (rows, len(PEAK_QUANTILES))), axis=1).astype("f4")
    at = rng.lognormal(6, 2, rows).astype(np.float32)
    alone = [chance(PEAK_QUANTILES, quantiles[[i]], at[[i]])[0] for i in range(rows)]
    assert chance(PEAK_QUANTILES, quantiles, at).tolist() == alone


def test_many_peaks_at_once():
    """Each with its own threshold; what is not known has no chance."""
    quantiles = np.tile(np.arange(1.0, 10.0), (2, 3, 1))
    quantiles[1, 2, 4] = np.nan
    chances = chance(PEAK_QUANTILES, quantiles, np.full((2, 3), 5.0))
    assert chances.shape == (2, 3)
    assert np.isnan(chances[1, 2])
    assert not np.isnan(chances.ravel()[:-1]).any()
