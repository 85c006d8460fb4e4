"""The naive forecasts: each follows its rule, and its error is its distance from the rate."""

import numpy as np
import pytest

from streamer.core.features import baselines
from streamer.core.network.config import ModelConfig
from streamer.core.predict import forecast
from streamer.core.predict.forecast import ForecastSpec

DAY_S = 86400
MONDAY_S = 1_699_833_600  # a Monday's midnight


def rows_for(step_s, number=1):
    columns = forecast.columns(ModelConfig(hidden=4), ForecastSpec(step_s))
    return np.zeros(number, np.dtype(columns))


def play(rows, rates, step_s, horizons=(1, 4, 12), first_s=MONDAY_S):
    """Take in *rates* (steps, B); the last predictions, (BASELINES, B, H) as rates."""
    for step, rate in enumerate(rates, first_s // step_s):
        steps = np.full(len(rows), step)
        inputs = forecast.make_inputs(rows, np.asarray(rate, float), steps, step_s, horizons)
    return np.expm1(inputs.ahead.astype(float)) * inputs.scale[:, None] / 4


def forecast_of(forecasts, name):
    return forecasts[baselines.NAMES.index(name)]


def test_the_last_value_is_the_last_value():
    """`last` forecasts at every horizon the current rate, or the last one before a gap."""
    forecasts = play(rows_for(60), [[5.0], [7.0], [np.nan]], 60)
    np.testing.assert_allclose(forecast_of(forecasts, "last"), 7.0, rtol=1e-3)


def test_every_baseline_forecasts_a_constant():
    """On a constant flow all baselines forecast the same, and their errors shrink."""
    rows = rows_for(600)
    forecasts = play(rows, np.full((400, 1), 42.0), 600)
    np.testing.assert_allclose(forecasts, 42.0, rtol=0.01)
    assert (rows["errors"] < 0.05).all()


@pytest.mark.parametrize(("step_s", "within"), [(300, 0.1), (600, 0.1), (3600, 0.2)])
def test_the_day_repeats_itself(step_s, within):
    """`daily` foretells a daily wave from what the days before were like."""
    steps = 2 * DAY_S // step_s + 100_000 // step_s
    seconds = MONDAY_S + np.arange(steps + 12) * step_s
    wave = 100 * np.exp(np.sin(2 * np.pi * seconds / DAY_S))
    forecasts = play(rows_for(step_s), wave[:steps, None], step_s)
    coming = wave[steps - 1 + np.array([1, 4, 12])]
    np.testing.assert_allclose(forecast_of(forecasts, "daily")[0], coming, rtol=within)
    np.testing.assert_allclose(forecast_of(forecasts, "daily_rest")[0], coming, rtol=0.2)


def test_the_weekly_profile_forecasts_the_weekend():
    """`weekly` foretells a quiet Saturday where `daily` expects another Friday."""
    step_s = 3600
    steps = 26 * DAY_S // step_s  # to the end of a Friday
    seconds = MONDAY_S + np.arange(steps + 12) * step_s
    weekend = (seconds - MONDAY_S) // DAY_S % 7 >= 5
    rates = np.where(weekend, 10.0, 100.0)
    forecasts = play(rows_for(step_s), rates[:steps, None], step_s)
    assert forecast_of(forecasts, "weekly")[0, 2] < 20
    assert forecast_of(forecasts, "daily")[0, 2] > 60


def test_the_hourly_profile_forecasts_the_minute():
    """`hourly` foretells a burst that comes ten minutes past every hour."""
    step_s = 300
    steps = 30 * 12
    rates = np.where(np.arange(steps + 12) % 12 == 2, 500.0, 5.0)
    forecasts = play(rows_for(step_s), rates[:steps, None], step_s, horizons=tuple(range(1, 13)))
    np.testing.assert_allclose(forecast_of(forecasts, "hourly")[0], rates[steps:], atol=6)


def test_an_error_is_the_distance_of_forecast_and_rate():
    """On steps that alternate `last` is always wrong at odd horizons and right at even ones."""
    rows = rows_for(1800)
    rates = np.where(np.arange(500) % 2 == 0, 1.0, 2.0)[:, None]
    play(rows, rates, 1800)
    errors = rows["errors"][0, :, baselines.NAMES.index("last")]
    apart = np.log1p(4 * 2 / 1.5) - np.log1p(4 * 1 / 1.5)
    np.testing.assert_allclose(errors, [apart, 0, 0], atol=0.02)


def test_a_missing_step_changes_nothing():
    """After a hole the smoothed values and the errors are what they were before it."""
    rows = rows_for(60)
    rng = np.random.default_rng(0)
    play(rows, np.exp(rng.normal(size=(300, 1))), 60)
    before = rows.copy()
    forecast.make_inputs(rows, np.array([np.nan]), np.array([MONDAY_S // 60 + 300]), 60, (1,))
    for name in (
        "ewma_3",
        "ewma_14",
        "rest",
        "errors",
        "daily",
        "weekly",
        "rank_shares",
        "mean",
        "level",
    ):
        np.testing.assert_array_equal(rows[name], before[name], err_msg=name)


def test_ranks_are_quantiles_of_late():
    """The running quantiles settle near those of what was seen."""
    rows, rng = rows_for(1800), np.random.default_rng(0)
    rates = np.exp(0.8 * rng.normal(size=(600, 1)))
    play(rows, rates, 1800)
    level = np.log(rates + rows["mean"] / 4) - rows["log_offset"]
    share = (level < rows["rank_shares"]).mean(0)
    np.testing.assert_allclose(share, baselines.QUANTILE_LEVELS, atol=0.15)


def test_levels_survive_a_flow_that_outgrows_itself():
    """A flow that grows a hundred million times keeps its profiles, on the new measure."""
    rows, step_s = rows_for(3600), 3600
    play(rows, np.full((48, 1), 1.0), step_s)
    rows_now = rows.copy()
    play(rows_now, np.full((3, 1), 1e8), step_s, first_s=MONDAY_S + 48 * step_s)
    kept = rows_now["daily"] + rows_now["log_offset"][:, None]
    was = rows["daily"] + rows["log_offset"][:, None]
    untouched = np.arange(24) >= 3
    np.testing.assert_allclose(kept[0, untouched], was[0, untouched], atol=0.05)


FLOWS = 16  # of each kind of rhythm
STEP_S = 1200
DAY = DAY_S // STEP_S
KINDS = ["noise", "weekend", "silent, then a burst", 6, 12]  # a number: the day moves by such hours


def rhythmic(days, change):
    """A daily wave in noise, (steps, FLOWS), whose phase moves by *change* hours after 10 days."""
    rng = np.random.default_rng(0)
    hours = np.arange(days * DAY)[:, None] * STEP_S / 3600
    hours = hours + np.where(hours >= 240, change, 0) + rng.uniform(0, 24, FLOWS)
    noise = 0.25 * rng.normal(size=(days * DAY, FLOWS))
    return 1e6 * np.exp(np.sin(2 * np.pi * hours / 24) + noise)


@pytest.fixture(scope="module")
def weeks():
    """
    Flows of each of KINDS for 21 days, played at once.

    By kind: the rates, (steps, FLOWS), and the rows by the day, after each quarter of one.
    """
    rng, days = np.random.default_rng(0), 21
    steps = np.arange(days * DAY)[:, None]
    rates = {
        "noise": 1e6 * np.exp(rng.normal(size=(len(steps), FLOWS))),
        "weekend": rhythmic(days, 0) * np.where(steps // DAY % 7 >= 5, 0.3, 1),
        "silent, then a burst": np.where(rng.random((len(steps), FLOWS)) < 0.003, 1e6, 10.0),
        6: rhythmic(days, 6),
        12: rhythmic(days, 12),
    }
    every = np.concatenate([rates[kind] for kind in KINDS], axis=1)
    rows, after = rows_for(STEP_S, every.shape[1]), {}
    for first in range(0, len(every), DAY // 4):
        part = every[first : first + DAY // 4]
        play(rows, part, STEP_S, first_s=MONDAY_S + first * STEP_S)
        after[(first + DAY // 4) / DAY] = rows.copy()
    by_kind = {
        kind: {day: each[n * FLOWS : (n + 1) * FLOWS] for day, each in after.items()}
        for n, kind in enumerate(KINDS)
    }
    return rates, by_kind


def test_the_first_visits_count_alike():
    """After nine hours a minute of the hour is known as well as nine visits let it be."""
    rng, step_s = np.random.default_rng(0), 300
    rows = rows_for(step_s, 200)
    play(rows, 1e6 * np.exp(0.3 * rng.normal(size=(9 * 12, 200))), step_s)
    found = rows["hourly"].astype(float).std(axis=1).mean()
    assert found == pytest.approx(0.3 / np.sqrt(9) * 0.8, rel=0.1)  # of levels, which are flatter


def test_a_step_may_be_longer_than_a_cycle():
    """With steps of two hours an hour has one slot, which each step visits."""
    forecasts = play(rows_for(7200), np.full((48, 1), 42.0), 7200)
    np.testing.assert_allclose(forecasts, 42.0, rtol=0.01)


@pytest.mark.parametrize("change", [6, 12])
def test_a_shifted_day_is_relearned(weeks, change):
    """Two days after the change the day's profile is that of the new day, and no mean of both."""
    rates, after = weeks[0][change], weeks[1][change]
    assert not after[10]["anew"].any()
    rows = after[12]
    assert rows["anew"].all()
    forecasts = rows["daily"] + rows["log_offset"][:, None]
    come = np.log(rates[12 * DAY : 13 * DAY].T + rows["mean"][:, None] / 4)
    assert np.abs(forecasts - come).mean() < 0.35


@pytest.mark.parametrize("kind", ["noise", "weekend", "silent, then a burst"])
def test_a_change_that_is_no_new_rhythm_is_not_relearned(weeks, kind):
    """Noise, weekends and bursts leave profiles their pace."""
    late = [rows["anew"] for day, rows in weeks[1][kind].items() if day > 14]
    assert len(late) == 7 * 4
    assert not np.any(late)
