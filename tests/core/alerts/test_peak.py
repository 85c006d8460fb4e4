"""The chance that the peak passes a threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.alerts.peak import Outlook, chance

Q = (0.05, 0.25, 0.5, 0.75, 0.95)
rates = st.floats(0, 2.0**40, width=32)


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


@given(st.lists(rates, min_size=5, max_size=5), rates, rates)
def test_the_chance_falls_with_the_threshold(levels, one, other):
    """And is a probability."""
    levels = np.array([sorted(levels)] * 2, np.float32)
    low, high = chance(levels, Q, np.array(sorted((one, other)), np.float32))
    assert 0 <= high <= low <= 1


def test_the_chance_at_a_quantile_is_its_own():
    """Also at the ends, and it goes on beyond them."""
    levels = np.array([[10, 20, 30, 40, 60]] * 5, np.float32)
    chances = chance(levels, Q, levels[0])
    assert chances == pytest.approx(1 - np.array(Q), abs=1e-6)
    beyond = chance(levels, Q, np.array([1, 9, 61, 120, 1e9], np.float32))
    assert beyond[0] > beyond[1] > 0.95
    assert 0.05 > beyond[2] > beyond[3] > beyond[4] >= 0


def test_a_forecast_without_width_is_certain():
    """Above it nothing is expected, below it everything."""
    levels = np.full((3, 5), 10, np.float32)
    assert chance(levels, Q, np.array([9, 10.1, 11], np.float32)).tolist() == [1, 0, 0]


@given(st.integers(2, 40), st.integers(0, 99))
def test_each_row_is_its_own(rows, seed):
    """No row's chance depends on the others in its wave."""
    chances = np.random.default_rng(seed)
    levels = np.sort(chances.lognormal(5, 2, (rows, 5)), axis=1).astype(np.float32)
    at = chances.lognormal(6, 2, rows).astype(np.float32)
    alone = [chance(levels[i : i + 1], Q, at[i : i + 1])[0] for i in range(rows)]
    assert chance(levels, Q, at).tolist() == alone
