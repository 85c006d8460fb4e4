"""Absurd values change nothing that a flow has learned for longer than they lasted."""

import itertools

import numpy as np
import pytest

from streamer.core.features import grid, scale
from streamer.core.network.config import ModelConfig, state_shape
from streamer.core.predict import forecast
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.state import table
from streamer.weights import open_model

DAY = 288


def rates(days, flows=4, day=DAY):
    """A smooth day with little noise, in *day* steps."""
    chance = np.random.default_rng(0)
    step = np.arange(days * day)[:, None]
    smooth = np.exp(0.6 * np.sin(2 * np.pi * step / day))
    return 1e6 * smooth * np.exp(0.03 * chance.normal(size=(days * day, flows)))


def played(given):
    """What is forecast after each step, 1 and 12 steps ahead, (steps, flows, 2), and the rows."""
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


def scenes():
    """The rates of four days by scene: each test looks at one, and one run plays them all."""
    given = {"clean": rates(4)}
    for factor in (1e2, 1e4, 1e6):
        spoilt = rates(4)
        spoilt[2 * DAY + 100] *= factor
        given[f"one times {factor:g}"] = spoilt
    for absurd, factor in itertools.product((1, 3, 10), (1e2, 1e3, 1e6)):
        spoilt = rates(4)[:, :1]
        spoilt[2 * DAY + 100 : 2 * DAY + 100 + absurd] *= factor
        given[f"{absurd} times {factor:g}"] = spoilt
    given["rise"] = rates(4)
    given["rise"][2 * DAY :] *= 100
    for power in (-60, -40, 40):
        given[f"size {power}"] = rates(4) * 2.0**power
    return given


@pytest.fixture(scope="module")
def scene():
    """By scene: its rates, what was forecast (both with the steps first), and its rows."""
    given = scenes()
    found, rows = played(np.concatenate(list(given.values()), axis=1))
    first, by_name = 0, {}
    for name, each in given.items():
        flows = slice(first, first + each.shape[1])
        by_name[name] = each, found[:, flows], rows[flows]
        first = flows.stop
    return by_name


def misses(given, found, first, last):
    """The mean relative error of the forecasts one step ahead of *first* to *last*, by flow."""
    return np.abs(found[first:last, :, 0] / given[first + 1 : last + 1] - 1).mean(axis=0)


def scales(given, day=DAY):
    """The rows after the scale has taken all rates."""
    rows = np.zeros(given.shape[1], table.row_type(scale.COLUMNS))
    for nth, now in enumerate(given):
        steps = np.full(len(rows), 20_000 * day + nth)
        scale.measure(rows, *scale.robust(rows, now, steps, day), day)
    return rows


@pytest.mark.parametrize("factor", [1e2, 1e4, 1e6])
def test_one_absurd_value_is_forgotten_at_once(scene, factor):
    """A day later, and an hour later, forecasts are as good as without it."""
    given, clean, _ = scene["clean"]
    _, after, _ = scene[f"one times {factor:g}"]
    for first, last in ((2 * DAY + 112, 3 * DAY), (3 * DAY, 4 * DAY - 12)):
        wanted = misses(given, clean, first, last).mean()
        assert misses(given, after, first, last).mean() < 1.2 * wanted + 0.002


@pytest.mark.parametrize("factor", [1e2, 1e3, 1e6])
@pytest.mark.parametrize("absurd", [1, 3, 10])
def test_absurd_values_in_a_row_leave_nothing_behind(scene, factor, absurd):
    """Scale, peak and forecasts are what they are without them, from an hour later on."""
    given, clean, rows = scene["clean"]
    _, found, spoilt = scene[f"{absurd} times {factor:g}"]
    for name in ("mean", "peak"):
        assert spoilt[name][0] == pytest.approx(rows[name][0], rel=0.05), name
    for first, last in ((2 * DAY + 124, 2 * DAY + 148), (3 * DAY + 50, 4 * DAY - 12)):
        wanted = misses(given[:, :1], clean[:, :1], first, last)
        assert misses(given[:, :1], found, first, last) < 1.25 * wanted + 0.005


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
    day = 48  # half-hour steps
    given = rates(120, flows=1, day=day)
    given[day // 3 :: 30 * day] *= 1e6
    assert scales(given, day)["peak"] < 10 * np.median(given)


def test_a_flow_that_has_just_begun_is_not_doubted_long():
    """A trickle before the first traffic is no history to doubt it by."""
    given = rates(1, flows=1)[:14]
    given[:10] /= 1e6
    assert scales(given)["peak"] > 0.9 * given[10:].max()


def test_a_level_that_rises_a_hundredfold_is_followed_within_an_hour(scene):
    """It is not a spike: the next steps agree."""
    given, found, rows = scene["rise"]
    assert misses(given, found, 2 * DAY + 12, 2 * DAY + 36).mean() < 0.2
    assert misses(given, found, 3 * DAY, 4 * DAY - 12).mean() < 0.05
    assert rows["peak"] == pytest.approx(given[-2 * DAY :].max(axis=0), rel=0.3)
    assert (rows["mean"] > 0.5 * given[-DAY:].mean(axis=0)).all()


def test_forecasts_follow_a_rise_while_it_is_doubted(scene):
    """The second rate of a rise is learned for the forecast, though not yet for the scale."""
    given, found, _ = scene["rise"]
    assert np.abs(found[2 * DAY + 5, :, 0] / given[2 * DAY + 5] - 1).mean() < 0.3


@pytest.mark.parametrize("power", [-60, -40, 40])
def test_forecasts_do_not_depend_on_the_size_of_a_flow(scene, power):
    """From 1e-12 to 1e18: a flow of another size is forecast like itself."""
    one, other = scene["clean"][1], scene[f"size {power}"][1]
    assert other[20:DAY] / 2.0**power == pytest.approx(one[20:DAY], rel=0.02)
