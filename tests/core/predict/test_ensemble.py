"""Each flow finds out how far to trust the network, and how far its own day, week and hour."""

import numpy as np
import pytest

from streamer.core.features import baselines
from streamer.core.predict import ensemble
from streamer.core.predict.ensemble import EXPERTS
from streamer.core.state.table import row_type

DAY = 288
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SPREAD = np.array([-1.6, -0.6, 0.0, 0.6, 1.6], np.float32)


def empty_rows(number):
    return np.zeros(number, row_type(ensemble.COLUMNS))


def weights(rows):
    return ensemble._weights(rows["regrets"], rows["squares"])


def learn(rows, alone, experts, came):
    """Update with the network's forecast *alone*, the baselines' *experts* and the rate *came*."""
    count = len(rows)
    forecasts = np.zeros((count, baselines.BASELINES), np.float32)
    for number, each in zip(ensemble.BASELINES, experts, strict=True):
        forecasts[:, number] = each
    alone, came = (np.broadcast_to(np.float32(each), count) for each in (alone, came))
    ensemble.update(rows, np.arange(count), alone, forecasts, came, DAY)


def moved(rows, own, experts):
    """The quantiles of bands around *own*, (quantiles, B, 12), once they are moved."""
    count = len(rows)
    ahead = np.zeros((baselines.BASELINES, count, 12), np.float32)
    for number, each in zip(ensemble.BASELINES, experts, strict=True):
        ahead[number] = each
    z = (own + SPREAD)[:, None, None].repeat(count, 1).repeat(12, 2)
    ensemble.apply(rows, z, QUANTILES, ahead)
    return z


@pytest.mark.parametrize("right", range(EXPERTS))
def test_whoever_is_right_is_believed(right):
    """Soon one weighs nearly all, however noisy what comes is."""
    rng, rows = np.random.default_rng(right), empty_rows(20)
    for _ in range(2 * DAY):
        forecasts = 3 + rng.normal(size=(EXPERTS, 20))
        learn(rows, forecasts[0], forecasts[1:], forecasts[right] + 0.3 * rng.normal(size=20))
    assert weights(rows)[:, right].min() > 0.7
    np.testing.assert_allclose(weights(rows).sum(axis=1), 1, rtol=1e-5)


def test_a_mixture_may_be_better_than_any_of_its_experts():
    """If their errors have opposite signs, their mean is right."""
    rng, rows = np.random.default_rng(0), empty_rows(20)
    for _ in range(4 * DAY):
        came = 3 + rng.normal(size=20)
        learn(rows, came - 1, (came + 1, came + 3, came + 3), came)
    np.testing.assert_allclose(weights(rows) @ [-1, 1, 3, 3], 0, atol=0.2)


def test_a_new_flow_gets_the_networks_forecast():
    """Without outcomes the blend is the network's median."""
    rows = empty_rows(3)
    z = moved(rows, 4.0, (9.0, 9.0, 9.0))
    np.testing.assert_array_equal(z, (4 + SPREAD)[:, None, None].repeat(3, 1).repeat(12, 2))


def test_a_flow_that_has_changed_is_believed_no_longer():
    """An expert that was right for a month is overtaken within a week by a better one."""
    rng, rows = np.random.default_rng(0), empty_rows(20)
    for day in range(37):
        for _ in range(DAY // 8):
            forecasts = 3 + rng.normal(size=(EXPERTS, 20))
            learn(rows, forecasts[0], forecasts[1:], forecasts[1 if day < 30 else 0])
    assert (weights(rows)[:, 0] > weights(rows)[:, 1]).all()


def test_bands_stay_in_order_and_their_ends_where_they_are():
    """However far the blend is, the median stays within reach of the network's quartiles."""
    rows = empty_rows(2)
    rows["regrets"], rows["squares"] = [0, 1, 0, 0], 1
    for forecast in (0.0, 3.9, 4.3, 50.0):
        z = moved(rows, 4.0, (forecast, 4.0, 4.0))
        assert (np.diff(z, axis=0) >= -1e-5).all()
        np.testing.assert_array_equal(z[[0, -1]], (4 + SPREAD[[0, -1]])[:, None, None] + 0 * z[:2])
    near = moved(rows, 4.0, (4.5, 4.0, 4.0))[QUANTILES.index(0.5)]
    share = weights(rows)[0, 1]
    np.testing.assert_allclose(near, 4 + 0.5 * share, rtol=1e-5)


def test_a_flow_beyond_all_bounds_still_has_weights():
    """Forecasts and rates are as far above the usual as a rate can be."""
    rows = empty_rows(3)
    with np.errstate(all="raise"):
        for forecast, came in ((88.0, 0.0), (0.0, 88.0), (88.0, 88.0)) * 50:
            learn(rows, forecast, (forecast / 2, 0.0, 88.0), came)
    assert np.isfinite(rows["regrets"]).all()
    np.testing.assert_allclose(weights(rows).sum(axis=1), 1, rtol=1e-5)
