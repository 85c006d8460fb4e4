"""The chance that a peak exceeds a threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer.core.predict.peak_quantiles import chance
from streamer.core.types import PEAK_QUANTILES

RATES = st.floats(0, 1e30)
QUANTILES = hnp.arrays(np.float64, len(PEAK_QUANTILES), elements=RATES).map(np.sort)


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


def test_many_peaks_at_once():
    """Each with its own threshold; what is not known has no chance."""
    quantiles = np.tile(np.arange(1.0, 10.0), (2, 3, 1))
    quantiles[1, 2, 4] = np.nan
    chances = chance(PEAK_QUANTILES, quantiles, np.full((2, 3), 5.0))
    assert chances.shape == (2, 3)
    assert np.isnan(chances[1, 2])
    assert not np.isnan(chances.ravel()[:-1]).any()
