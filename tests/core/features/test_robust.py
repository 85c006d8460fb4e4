"""Absurd values change nothing that a flow has learned for longer than they lasted."""

import numpy as np
import pytest

from streamer.core.features import grid, scale
from streamer.core.network.config import ModelConfig, state_shape
from streamer.core.predict import forecast
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.state import table
from streamer.weights import open_model

DAY = 288


def rates(days, seed=0, flows=4, size=1e6):
    """A smooth day with little noise."""
    chance = np.random.default_rng(seed)
    step = np.arange(days * DAY)[:, None]
    smooth = np.exp(0.6 * np.sin(2 * np.pi * step / DAY))
    return size * smooth * np.exp(0.03 * chance.normal(size=(days * DAY, flows)))


def medians(given):
    """What is forecast after each step, 1 and 12 steps ahead: (steps, flows, 2)."""
    return played(given)[0]


def played(given):
    """The same, and the rows at the end."""
    outlook, model = ForecastSpec(300), open_model(ModelConfig())
    rows = np.zeros(
        given.shape[1], table.row_type(grid.COLUMNS + forecast.columns(model.config, outlook))
    )
    assert rows["state"].shape[1:] == state_shape(model.config)
    found = []
    for nth, now in enumerate(given):
        steps = np.full(len(rows), 20_000 * DAY + nth)
        inputs = forecast.prepare(rows, now, steps, outlook)
        outputs, rows["state"] = model.step(inputs, rows["state"])
        bands = forecast.postprocess(rows, outputs, inputs, steps, outlook)
        found.append(bands[:, [0, 11], 2])
    return np.array(found), rows


def scales(given):
    """The rows after the scale has taken all rates."""
    rows = np.zeros(given.shape[1], table.row_type(scale.COLUMNS))
    for nth, now in enumerate(given):
        steps = np.full(len(rows), 20_000 * DAY + nth)
        scale.measure(rows, *scale.robust(rows, now, steps, DAY), DAY)
    return rows


@pytest.mark.parametrize("factor", [1e2, 1e4, 1e6])
def test_one_absurd_value_is_forgotten_at_once(factor):
    """A day later, and an hour later, forecasts are as good as without it."""
    given = rates(4)
    spoilt = given.copy()
    spoilt[2 * DAY + 100] *= factor
    clean, after = medians(given), medians(spoilt)
    for first, last in ((2 * DAY + 112, 3 * DAY), (3 * DAY, 4 * DAY - 12)):
        wanted = np.abs(clean[first:last, :, 0] / given[first + 1 : last + 1] - 1).mean()
        found = np.abs(after[first:last, :, 0] / given[first + 1 : last + 1] - 1).mean()
        assert found < 1.2 * wanted + 0.002


@pytest.mark.parametrize("factor", [1e2, 1e3, 1e6])
@pytest.mark.parametrize("absurd", [1, 3, 10])
def test_absurd_values_in_a_row_leave_nothing_behind(factor, absurd):
    """Scale, peak and forecasts are what they are without them, from an hour later on."""
    given = rates(4, flows=1).repeat(2, axis=1)
    given[2 * DAY + 100 : 2 * DAY + 100 + absurd, 1] *= factor
    found, rows = played(given)
    for name in ("mean", "peak"):
        assert rows[name][1] == pytest.approx(rows[name][0], rel=0.05)
    for first, last in ((2 * DAY + 124, 2 * DAY + 148), (3 * DAY + 50, 4 * DAY - 12)):
        errors = np.abs(found[first:last, :, 0] / given[first + 1 : last + 1] - 1).mean(axis=0)
        assert errors[1] < 1.25 * errors[0] + 0.005


def test_absurd_values_that_alternate_with_sound_ones_are_one_burst():
    """As of two counters with one name: within an hour they are not taken for recurring bursts."""
    given = rates(3, flows=1)
    given[2 * DAY + 100 : 2 * DAY + 110 : 2] *= 1e4
    assert scales(given)["peak"] < 10 * np.median(given)


def test_a_burst_that_comes_back_each_night_is_learned():
    """A thousand times the peak for one step, or for six: doubted twice, then part of the scale."""
    given = rates(10, flows=1).repeat(2, axis=1)
    given[2 * DAY + 100 :: DAY, 0] *= 1000
    for step in range(6):
        given[2 * DAY + 100 + step :: DAY, 1] *= 1000
    assert (scales(given)["peak"] > 100 * np.median(given)).all()
    assert (scales(given[: 4 * DAY])["peak"] < 10 * np.median(given)).all()


def test_bursts_of_four_hours_in_a_hundred_are_learned():
    """At any time of the day, a thousand times the usual rate."""
    given = rates(14, flows=1)
    hours = np.random.default_rng(5).random(14 * 24) < 0.04
    given[np.repeat(hours, DAY // 24)] *= 1000
    rows = scales(given)
    assert rows["peak"] > 100 * np.median(given)
    assert rows["mean"] == pytest.approx(given[-2 * DAY :].mean(), rel=0.9)


def test_bursts_are_forgotten():
    """One absurd rate a month is never believed, however long that goes on."""
    given = rates(120, flows=1)
    given[100 :: 30 * DAY] *= 1e6
    assert scales(given)["peak"] < 10 * np.median(given)


def test_a_flow_that_has_just_begun_is_not_doubted_long():
    """A trickle before the first traffic is no history to doubt it by."""
    given = rates(1, flows=1)[:14]
    given[:10] /= 1e6
    assert scales(given)["peak"] > 0.9 * given[10:].max()


def test_a_level_that_rises_a_hundredfold_is_followed_within_an_hour():
    """It is not a spike: the next steps agree."""
    given = rates(4)
    given[2 * DAY :] *= 100
    found, rows = played(given)
    late = slice(2 * DAY + 12, 2 * DAY + 36)
    errors = np.abs(found[late, :, 0] / given[2 * DAY + 13 : 2 * DAY + 37] - 1)
    assert errors.mean() < 0.2
    day = slice(3 * DAY, 4 * DAY - 12)
    errors = np.abs(found[day, :, 0] / given[3 * DAY + 1 : 4 * DAY - 11] - 1)
    assert errors.mean() < 0.05
    assert rows["peak"] == pytest.approx(given[-2 * DAY :].max(axis=0), rel=0.3)
    assert (rows["mean"] > 0.5 * given[-DAY:].mean(axis=0)).all()


def test_forecasts_follow_a_rise_while_it_is_doubted():
    """The second rate of a rise is learned for the forecast, though not yet for the scale."""
    given = rates(3)
    given[2 * DAY :] *= 100
    found = medians(given[: 2 * DAY + 6])
    assert np.abs(found[-1, :, 0] / given[2 * DAY + 5] - 1).mean() < 0.3


@pytest.mark.parametrize("power", [-60, -40, 40])
def test_forecasts_do_not_depend_on_the_size_of_a_flow(power):
    """From 1e-12 to 1e18: a flow of another size is forecast like itself."""
    given = rates(1)
    one, other = medians(given), medians(given * 2.0**power)
    assert other[20:] / 2.0**power == pytest.approx(one[20:], rel=0.02)
