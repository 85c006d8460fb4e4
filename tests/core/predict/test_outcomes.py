"""Forecasts are scored by the rates that followed, and the predictor is the one with less error."""

import numpy as np
import pytest

from streamer.core.features import baselines
from streamer.core.features.inputs import Inputs
from streamer.core.network.config import ModelConfig
from streamer.core.predict import forecast, outcomes, selection
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.state.table import row_type

START = 2_800_000
OUTLOOK = ForecastSpec(600, 12, (0.05, 0.5, 0.95))
DAY = 144
SPREAD = np.array([-1.2, -0.8, -0.6, -0.3, 0, 0.3, 0.6, 0.8, 1.2], np.float32)


def empty_rows(number, outlook=OUTLOOK):
    return np.zeros(number, row_type(forecast.columns(ModelConfig(hidden=4), outlook)))


def network(inputs: Inputs, bias=0.0, spread=SPREAD):
    """The last value plus *bias*, and a band around it; compressed."""
    last = inputs.ahead[baselines.NAMES.index("last")] + np.float32(bias)
    return last + np.asarray(spread)[:, None, None]


def play(rows, rates, bias=0.0, outlook=OUTLOOK, first=START, spread=SPREAD):
    """The bands after each of *rates* (steps, B): (steps, B, horizons, quantiles)."""
    bands = []
    for step, each in enumerate(np.asarray(rates, float), first):
        steps = np.full(len(rows), step)
        inputs = forecast.prepare(rows, each, steps, outlook)
        outputs = network(inputs, bias, spread)
        bands.append(forecast.postprocess(rows, outputs, inputs, steps, outlook))
    return np.array(bands)


def test_every_forecast_of_an_anchor_is_settled_when_its_step_closes():
    """Count, coverage, error and width are those of the published bands, in the flow's unit."""
    rng = np.random.default_rng(0)
    rates = 1e6 * np.exp(0.7 * rng.normal(size=(120, 9)))
    rows = empty_rows(9)
    bands = play(rows, rates)
    for place, anchor in enumerate(baselines.TRACKED_HORIZONS):
        made = np.arange(120 - anchor.horizon)
        made = made[(START + made) % anchor.stride == 0]
        came, band = rates[made + anchor.horizon], bands[made, :, anchor.horizon - 1]
        assert (rows["n_scored"][:, place] == len(made)).all()
        held = ((band[..., 0] <= came) & (came <= band[..., 2])).sum(0)
        np.testing.assert_allclose(rows["n_covered"][:, place], held, atol=1)
        error, loss, width = rows["loss_sums"][:, place].T
        np.testing.assert_allclose(error, np.abs(came - band[..., 1]).sum(0), rtol=0.01)
        np.testing.assert_allclose(width, (band[..., 2] - band[..., 0]).sum(0), rtol=0.01)
        assert ((loss > 0.2 * error) & (loss < error)).all()


def test_a_missing_step_settles_nothing():
    """Neither a score nor a width changes, and what is pending for later steps stays."""
    rows = empty_rows(4)
    play(rows, np.exp(np.random.default_rng(0).normal(size=(50, 4))))
    before = rows.copy()
    steps = np.full(4, START + 50)
    inputs = forecast.prepare(rows, np.full(4, np.nan), steps, OUTLOOK)
    learned = (
        "log_width_factor",
        "moved",
        "network_error",
        "predictor",
        "switch_count",
        "cum_excess_loss",
    )
    for name in (*learned, "n_scored", "n_covered", "loss_sums"):
        np.testing.assert_array_equal(rows[name], before[name], err_msg=name)
    forecast.postprocess(rows, network(inputs), inputs, steps, OUTLOOK)
    play(rows, np.ones((1, 4)), first=START + 51)
    assert (rows["n_scored"][:, 0] == before["n_scored"][:, 0] + 1).all()


@pytest.mark.parametrize("horizons", [1, 3, 5, 12, 30])
def test_only_horizons_that_are_forecast_are_settled(horizons):
    """However far forecasts look, bands are in order and scores are of anchors they reach."""
    outlook = ForecastSpec(600, horizons, (0.05, 0.5, 0.95))
    rows = empty_rows(3, outlook)
    bands = play(rows, np.exp(np.random.default_rng(1).normal(size=(60, 3))), outlook=outlook)
    assert bands.shape[2] == horizons
    assert (np.diff(bands, axis=-1) >= 0).all()
    reached = [anchor.horizon <= horizons for anchor in baselines.TRACKED_HORIZONS]
    assert (rows["n_scored"] > 0).all(axis=0).tolist() == reached


def test_a_silent_flow_keeps_its_widths():
    """A rate of zero that was forecast is within the band, and does not change its width."""
    rows = empty_rows(2)
    play(rows, np.ones((40, 2)))
    play(rows, np.zeros((40, 2)), first=START + 40, bias=-9.0)
    before = rows.copy()
    play(rows, np.zeros((40, 2)), first=START + 80, bias=-9.0)
    np.testing.assert_array_equal(rows["log_width_factor"], before["log_width_factor"])
    gained = rows["n_covered"].astype(int) - before["n_covered"]
    np.testing.assert_array_equal(gained, rows["n_scored"] - before["n_scored"])
    assert (gained > 0).all()


def test_a_flow_that_exceeds_its_scale_is_scored_by_its_published_forecast():
    """A forecast is held against a rate as a rate, however far the scale has moved since."""
    rows = empty_rows(1)
    bands = play(rows, [[1.0]] * 20 + [[25.0]])  # just no outlier
    came, band = 25.0, bands[-2, 0, 0]
    error = rows["loss_sums"][0, 0, 0]
    play(rows, [[25.0]], first=START + 21)
    np.testing.assert_allclose(error, abs(came - band[1]), rtol=0.02)


def test_a_network_that_is_long_worse_gives_way_to_the_best_baseline_and_comes_back():
    """After a day and not before; the median is the baseline's; and the same way back."""
    outlook, day, rng = ForecastSpec(3600, 12, (0.05, 0.5, 0.95)), 24, np.random.default_rng(3)
    rates = 100 * np.exp(0.2 * rng.normal(size=(8 * day, 5)))
    rows = empty_rows(5, outlook)
    play(rows, rates[:day], bias=1.0, outlook=outlook)
    assert not rows["predictor"].any()
    play(rows, rates[day : 3 * day], bias=1.0, outlook=outlook, first=START + day)
    assert rows["predictor"].all()
    assert selection.names(rows, "lstm")[0] in baselines.NAMES
    for step in range(3 * day, 7 * day):  # from now on the network forecasts the true rates
        steps = np.full(5, START + step)
        inputs = forecast.prepare(rows, rates[step], steps, outlook)
        coming = np.log1p(4 * rates[step + 1 : step + 13].T / inputs.scale[:, None])
        outputs = (coming + SPREAD[:, None, None]).astype(np.float32)
        bands = forecast.postprocess(rows, outputs, inputs, steps, outlook)
        if step == 3 * day:
            by = inputs.ahead[selection.best_baseline(rows), np.arange(5)]
            median = np.log1p(4 * bands[..., 1] / inputs.scale[:, None])
            np.testing.assert_allclose(median, by, rtol=1e-4)
    assert selection.names(rows, "lstm") == ["lstm"] * 5


def test_a_baseline_that_is_better_between_bursts_alone_does_not_serve():
    """What it gains in all the time between, one burst costs."""
    outlook, day = ForecastSpec(3600, 12, (0.05, 0.5, 0.95)), 24
    bursts = np.random.default_rng(2).random((9 * day, 5)) < 0.04
    rates = np.where(bursts, 1e4, 1e-2)
    rows = empty_rows(5, outlook)
    for step in range(len(rates) - 12):
        steps = np.full(5, START + step)
        inputs = forecast.prepare(rows, rates[step], steps, outlook)
        coming = np.log1p(4 * rates[step + 1 : step + 13].T / inputs.scale[:, None])
        outputs = (np.maximum(coming, 0.7) + SPREAD[:, None, None]).astype(np.float32)
        forecast.postprocess(rows, outputs, inputs, steps, outlook)
    least = np.log(rows["errors"]).mean(axis=1).min(axis=-1)
    better = least < np.log(rows["network_error"]).mean(axis=1) - selection.MARGIN
    assert better.any()
    assert not rows["predictor"].any()


def test_where_a_baseline_serves_the_band_stays_about_its_median():
    """Quantiles far out stay where the network has them, as long as the median is within."""
    rows = empty_rows(1)
    play(rows, 7 * np.exp(0.1 * np.random.default_rng(0).normal(size=(DAY, 1))), bias=0.3)
    steps = np.full(1, START + DAY)
    inputs = forecast.prepare(rows, np.array([7.0]), steps, OUTLOOK)
    rows["best_baseline"] = baselines.NAMES.index("ewma_14")
    asked = {}
    for server in (0, rows["best_baseline"][0] + 1):
        rows["predictor"] = server
        for bias in (0.3, 9.0):
            asked[bool(server), bias] = forecast.postprocess(
                rows.copy(), network(inputs, bias), inputs, steps, OUTLOOK
            )[0]
    baseline = inputs.ahead[selection.best_baseline(rows)[0], 0]
    for bias in (0.3, 9.0):
        median = np.log1p(4 * asked[True, bias][:, 1] / inputs.scale)
        np.testing.assert_allclose(median, baseline, rtol=1e-4)
        assert (np.diff(asked[True, bias]) >= 0).all()
    np.testing.assert_allclose(asked[True, 0.3][:, ::2], asked[False, 0.3][:, ::2])
    assert (asked[True, 9.0][:, 0] == asked[True, 9.0][:, 1]).all()  # the median is below them


def test_a_new_predictor_is_not_scored_by_the_forecasts_of_the_old_one():
    """Nothing is pending after a change; errors of the network go on being learned."""
    rows = empty_rows(1)
    play(rows, np.full((DAY, 1), 7.0), bias=2.0)
    rows["switch_count"], before = DAY - 1, rows["n_scored"].copy()
    play(rows, [[7.0]], first=START + DAY, bias=2.0)
    assert rows["predictor"].all()
    assert (rows["pending_floor"] != 0).sum() <= 3  # one for each anchor, just made
    play(rows, [[7.0], [7.0]], first=START + DAY + 1, bias=2.0)
    assert rows["n_scored"][0, 0] == before[0, 0] + 3
    assert rows["network_error"][0, 0] > 0.5


def test_restarting_forgets_what_is_pending():
    """After a hole that hides too much there is nothing to hold against what comes."""
    rows = empty_rows(2)
    play(rows, np.ones((30, 2)))
    before = rows.copy()
    outcomes.restart(rows, np.array([True, False]))
    assert not rows["pending_floor"][0].any()
    assert rows[1] == before[1]
    np.testing.assert_array_equal(rows["loss_sums"], before["loss_sums"])
