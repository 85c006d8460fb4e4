"""What kind of flow each one is: one made of each."""

import numpy as np
import pytest

from streamer.evaluation.flow_classes import classes

HOUR_S, DAYS = 3600, 8


def flow(kind, rng):
    hours = np.arange(DAYS * 24)
    if kind == "rhythm":
        return 100 * np.exp(np.sin(hours / 24 * 2 * np.pi) + 0.3 * rng.normal(size=len(hours)))
    if kind == "level":
        return 100 * np.exp(0.1 * rng.normal(size=len(hours)).cumsum())
    if kind == "bursts":
        return np.where(hours % 29 == 3, 5000.0, 20 * np.exp(rng.normal(size=len(hours))))
    return np.where(rng.random(len(hours)) < 0.3, 100.0, 0.0)


@pytest.mark.parametrize("kind", ["mostly zero", "bursts", "rhythm", "level"])
def test_a_flow_is_of_the_kind_that_it_was_made_of(kind):
    """Whatever its size, and with some steps missing."""
    rng = np.random.default_rng(1)
    rates = np.stack([size * flow(kind, rng) for size in (1e-3, 1, 1e9)], axis=1)
    rates[rng.random(rates.shape) < 0.02] = np.nan
    assert classes(rates, 5 * 24, 3, HOUR_S).tolist() == [kind] * 3


def test_a_flow_that_never_spoke_is_mostly_zero():
    """Silent or missing throughout."""
    rates = np.zeros((DAYS * 24, 2))
    rates[:, 1] = np.nan
    assert classes(rates, 5 * 24, 3, HOUR_S).tolist() == ["mostly zero"] * 2


def test_noise_has_no_rhythm():
    """The mean of other days is better than the last value, and no better than any mean."""
    rates = np.exp(np.random.default_rng(0).normal(size=(DAYS * 24, 20)))
    assert (classes(rates, 5 * 24, 3, HOUR_S) == "level").mean() > 0.9


def test_a_day_alone_shows_no_rhythm():
    """There is no other day to compare with."""
    rates = flow("rhythm", np.random.default_rng(0))[:24, None]
    assert classes(rates, 12, 3, HOUR_S).tolist() == ["level"]


@pytest.mark.parametrize("minutes", [1, 5])
def test_a_smooth_link_has_its_rhythm(minutes):
    """Its last value is close, and closer still if it moves as the other days did."""
    rng, day = np.random.default_rng(2), 1440 // minutes
    step = np.arange(DAYS * day)
    wander = rng.normal(size=(DAYS * day, 4)).cumsum(0) * 0.3 / np.sqrt(day)
    wander -= wander.mean(0)
    rates = 100 * np.exp(np.sin(step / day * 2 * np.pi)[:, None] + wander)
    assert classes(rates, 5 * day, 12, 60 * minutes).tolist() == ["rhythm"] * 4
    level = 100 * np.exp(wander)
    assert classes(level, 5 * day, 12, 60 * minutes).tolist() == ["level"] * 4
