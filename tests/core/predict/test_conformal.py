"""Adaptive widths: each quantile is exceeded as often as its level demands, for any network."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.features import baselines
from streamer.core.network.config import QUANTILES
from streamer.core.predict import conformal
from streamer.core.predict.conformal import KEPT, UNIT, WIDER_MAX, Pivots, Widths

NORMAL = np.array([-2.326, -1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326])


def empty_rows(number):
    columns = [*conformal.COLUMNS, ("seen", "u4"), ("peak", "f4")]
    return np.zeros(number, np.dtype(columns))


def widths(rows, horizons=(1, 4, 12), top=50.0):
    shares = conformal._shares(horizons)
    learned = np.exp(rows["log_width_factor"].astype(np.float32) / np.float32(UNIT)).transpose(
        2, 0, 1
    )
    reach = np.full((len(rows), len(horizons)), 5, np.float32)
    moved = conformal._interpolate(rows["moved"].astype(np.float32), shares) / np.float32(UNIT)
    return Widths(
        conformal._interpolate(learned, shares),
        moved * reach,
        reach,
        np.full(len(rows), top, np.float32),
    )


def adjusted(rows, spread, median=20.0):
    """Kept quantiles of normal bands with this *spread*, (B, KEPT), as widths make them."""
    outputs = (median + spread * NORMAL).astype(np.float32)[:, None, None].repeat(len(rows), 1)
    z = outputs[[QUANTILES.index(each) for each in KEPT]]
    at = conformal.pivots(outputs)
    return conformal.adjust(z, KEPT, at, widths(rows, (1,)))[..., 0].T


def follow(rows, quantiles, came, place=0):
    median = quantiles[:, KEPT.index(0.5)]
    conformal.update_bias(rows, np.arange(len(rows)), place, came > median, came < median)


def learn(rows, quantiles, came):
    missed = np.concatenate(
        (came[:, None] < quantiles[:, :2], came[:, None] > quantiles[:, 3:]), axis=1
    )
    rows["seen"] += 1
    conformal.update_widths(rows, np.arange(len(rows)), 0, missed, np.ones_like(missed))
    return ~(missed[:, 0] | missed[:, 3])


@pytest.mark.parametrize("spread", [0.4, 1.0, 1.8])
def test_a_network_that_is_too_sure_or_not_sure_enough_is_put_right(spread):
    """Bands of the wrong width hold nine tenths in the end, on either side alike."""
    rng, rows = np.random.default_rng(0), empty_rows(30)
    held = [learn(rows, adjusted(rows, spread), 20 + rng.normal(size=30)) for _ in range(4000)]
    assert np.mean(held[2500:]) == pytest.approx(0.9, abs=0.01)
    quantiles = adjusted(rows, spread).mean(axis=0) - 20
    np.testing.assert_allclose(quantiles, [-1.645, -0.674, 0, 0.674, 1.645], atol=0.12)


@pytest.mark.parametrize("place", [1, 2])
def test_far_horizons_adapt_with_fewer_forecasts(place):
    """Over as many steps, half as far as the next step's at least, and less far."""
    rows = empty_rows(1)
    rows["seen"] = 10**6
    missed = np.ones((1, 4), bool)
    for anchor, every in ((0, 1), (place, baselines.TRACKED_HORIZONS[place].stride)):
        for _ in range(24 // every):
            conformal.update_widths(rows, np.arange(1), anchor, missed, np.ones_like(missed))
    share = rows["log_width_factor"][0, place] / rows["log_width_factor"][0, 0]
    assert ((share > 0.49) & (share < 1)).all()


@pytest.mark.parametrize("off", [-0.8, 0.0, 0.5])
def test_a_network_that_is_always_on_one_side_is_put_right(off):
    """As many rates come above the median as below, and bands move with it."""
    rng, rows = np.random.default_rng(0), empty_rows(30)
    for _ in range(1500):
        quantiles = adjusted(rows, 1.0, median=20.0 + off)
        follow(rows, quantiles, 20 + rng.normal(size=30))
    quantiles = adjusted(rows, 1.0, median=20.0 + off)
    np.testing.assert_allclose(
        quantiles.mean(axis=0) - 20, [-1.645, -0.674, 0, 0.674, 1.645], atol=0.12
    )


@pytest.mark.parametrize("place", range(3))
def test_a_median_moves_no_further_than_an_error(place):
    """However long all comes above it; and with neither above nor below it stays."""
    rows = empty_rows(2)
    one, none = np.array([True, False]), np.zeros(2, bool)
    for _ in range(2000):
        conformal.update_bias(rows, np.arange(2), place, one, none)
    assert rows["moved"][:, place].tolist() == [UNIT * conformal.MOVED_MAX, 0]
    assert not np.delete(rows["moved"], place, axis=1).any()


def test_a_flow_that_becomes_wilder_gets_wider_bands():
    """After a change of regime coverage falls, and is nearly back after some days."""
    rng, rows = np.random.default_rng(0), empty_rows(100)
    size = [1.0] * 1000 + [1.5] * 3000
    held = [learn(rows, adjusted(rows, 1.0), 20 + s * rng.normal(size=100)) for s in size]
    assert np.mean(held[1000:1020]) < 0.78
    assert np.mean(held[3000:]) == pytest.approx(0.9, abs=0.012)


@settings(max_examples=30)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 2**31))
def test_widths_are_bounded(missed, seen):
    """However long the forecasts of a flow are wrong."""
    rows = empty_rows(1)
    rows["seen"] = seen
    for each in missed * 20:
        every = np.full((1, 4), each)
        conformal.update_widths(rows, np.array([0]), 2, every, np.ones_like(every))
        assert (np.abs(rows["log_width_factor"]) <= UNIT * WIDER_MAX).all()
    assert not rows["log_width_factor"][:, :2].any()


def test_forecasts_that_are_not_judged_change_nothing():
    """A missing step, or a rate of zero that was forecast."""
    rows = empty_rows(3)
    every = np.ones((3, 4), bool)
    conformal.update_widths(rows, np.arange(3), 1, every, ~every)
    assert not rows["log_width_factor"].any()


@given(
    st.lists(st.floats(0, 5), min_size=9, max_size=9),
    st.lists(st.integers(-30_000, 30_000), min_size=4, max_size=4),
    st.floats(0, 10),
)
def test_quantiles_that_were_in_order_stay_in_order(steps, wider, top):
    """Whatever the widths have learned, and wherever the peak lies."""
    rows = empty_rows(1)
    rows["log_width_factor"][:] = wider
    outputs = np.cumsum(steps).astype(np.float32)[:, None, None]
    quantiles = conformal.adjust(
        outputs, QUANTILES, conformal.pivots(outputs), widths(rows, (1,), top)
    )
    assert (np.diff(quantiles, axis=0) >= -1e-5).all()
    assert quantiles[4] == outputs[4]
    rows["moved"][:] = wider[:3]
    moved = conformal.adjust(outputs, QUANTILES, conformal.pivots(outputs), widths(rows, (1,), top))
    np.testing.assert_allclose(moved - quantiles, 5 * float(rows["moved"][0, 0]) / UNIT, atol=1e-4)


def test_stretching_goes_no_further_than_the_peak():
    """Nor beyond a few times the usual error; the network's own quantiles stay."""
    rows = empty_rows(1)
    rows["log_width_factor"][:] = UNIT
    outputs = np.arange(9, dtype=np.float32)[:, None, None]
    for top in (5.5, 100.0):
        at = conformal.pivots(outputs)
        quantiles = conformal.adjust(outputs, QUANTILES, at, widths(rows, (1,), top))
        assert (quantiles[5:] >= outputs[5:]).all()
        assert (quantiles[5:] <= np.maximum(outputs[5:], top)).all()
    narrow = widths(rows, (1,))._replace(reach=np.full((1, 1), 0.5, np.float32))
    quantiles = conformal.adjust(outputs, QUANTILES, Pivots(*conformal.pivots(outputs)), narrow)
    stretched = 0.5 * (np.e - 1)
    np.testing.assert_allclose(quantiles[5], 5 + stretched, rtol=1e-5)
    np.testing.assert_allclose(quantiles[8], 8 + 2 * stretched, rtol=1e-5)


@pytest.mark.parametrize("last", [1, 2, 4, 7, 12, 40])
def test_every_horizon_has_its_widths(last):
    """Those of the anchors within reach, and between them a share of both; beyond, the last's."""
    rows = empty_rows(1)
    rows["log_width_factor"][0] = (np.arange(3) * UNIT / 2)[:, None]
    factor = widths(rows, tuple(range(1, last + 1))).factor[0, 0]
    within = [a for a in baselines.TRACKED_HORIZONS if a.horizon <= last]
    for place, anchor in enumerate(within):
        np.testing.assert_allclose(factor[anchor.horizon - 1], np.exp(place / 2), rtol=1e-3)
    assert (np.diff(factor) >= 0).all()
    assert factor[-1] <= np.exp((len(within) - 1) / 2) * 1.001
