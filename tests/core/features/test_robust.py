"""One absurd value changes nothing that a flow has learned for longer than it lasted."""

import numpy as np
import pytest

from streamer.core.features import grid
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
    return np.array(found)


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


def test_a_level_that_rises_a_hundredfold_is_followed_within_an_hour():
    """It is not a spike: the next steps agree."""
    given = rates(3)
    given[2 * DAY :] *= 100
    found = medians(given)
    late = slice(2 * DAY + 12, 2 * DAY + 36)
    errors = np.abs(found[late, :, 0] / given[2 * DAY + 13 : 2 * DAY + 37] - 1)
    assert errors.mean() < 0.2


@pytest.mark.parametrize("power", [-60, -40, 40])
def test_forecasts_do_not_depend_on_the_size_of_a_flow(power):
    """From 1e-12 to 1e18: a flow of another size is forecast like itself."""
    given = rates(1)
    one, other = medians(given), medians(given * 2.0**power)
    assert other[20:] / 2.0**power == pytest.approx(one[20:], rel=0.02)
