"""What forecasts are worth: figures that can be checked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from streamer.evaluation.metrics import combine, filled, score, skill, smoothed, tally

HOUR_S = 3600
DAY = 24
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def rates_of(days=4, flows=3, seed=0):
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(size=(days * DAY, flows)))


def forecast(rates, first, horizons=2, offsets=(0, 0, 0, 0, 0)):
    """Forecasts of the future rates, each quantile off by its offset."""
    origins = len(rates) - horizons - first
    ahead = [rates[first + k : first + k + origins] for k in range(1, horizons + 1)]
    return (np.stack(ahead, -1)[..., None] + np.array(offsets)).astype(np.float32)


def test_perfect_forecasts_have_no_error():
    """Forecasts equal to the future rates have error 0 and loss 0."""
    rates = rates_of()
    skill = score(rates, forecast(rates, 48), QUANTILES, 48, HOUR_S)
    assert skill.every.median < 1e-6
    assert skill.quantile_loss < 1e-6
    assert (skill.flows, skill.origins) == (3, 46)


def test_forecasting_the_day_before_has_an_error_of_one():
    """The forecast that all are measured by has error 1 at each horizon, however large a flow."""
    rates = rates_of() * [1, 1e3, 1e9]
    forecasts = forecast(np.roll(rates, DAY, axis=0), 48)
    skill = score(rates, forecasts, QUANTILES, 48, HOUR_S)
    assert skill.every.median == pytest.approx(1, rel=1e-5)
    assert [each.median for each in skill.horizons] == pytest.approx([1, 1], rel=1e-5)


def test_the_error_is_a_geometric_mean_of_shares():
    """A flow at half the naive error and one at twice it make 1."""
    rates = rates_of(flows=2)
    naive = np.abs(rates[49:95] - rates[25:71]), np.abs(rates[50:96] - rates[26:72])
    forecasts = forecast(rates, 48) + np.stack(naive, -1)[..., None] * np.array(
        [[[[0.5]], [[2.0]]]]
    )
    skill = score(rates, forecasts.astype(np.float32), QUANTILES, 48, HOUR_S)
    assert skill.every.median == pytest.approx(1, rel=1e-5)


def test_coverage_is_the_share_inside_the_band():
    """A band around the truth holds it all, one above it nothing."""
    rates = rates_of()
    inside = forecast(rates, 48, offsets=(-1, 0, 0, 0, 1))
    above = forecast(rates, 48, offsets=(0.1, 0.2, 0.3, 0.4, 0.5))
    assert score(rates, inside, QUANTILES, 48, HOUR_S).coverage == 1
    assert score(rates, above, QUANTILES, 48, HOUR_S).coverage == 0
    assert score(rates, inside[..., 1:4], QUANTILES[1:4], 48, HOUR_S).coverage is None


def test_missing_steps_are_not_scored():
    """Missing rates and missing forecasts do not count."""
    rates = rates_of(days=6)
    forecasts = forecast(rates, 48, offsets=(0.1,) * 5)
    rates[60:70, 1] = np.nan
    forecasts[30:40, 2] = np.nan
    skill = score(rates, forecasts, QUANTILES, 48, HOUR_S)
    assert np.isfinite(skill.every.median)
    assert np.isfinite(skill.quantile_loss)


def test_flows_that_cannot_be_measured_are_left_out():
    """A silent flow and a constant one have no error of the day before to be held against."""
    rates = rates_of(flows=3)
    rates[:, 1], rates[:, 2] = 0, 5
    assert score(rates, forecast(rates, 48), QUANTILES, 48, HOUR_S).flows == 1


def test_metrics_of_some_flows_ignore_the_others():
    """A class has the figures that a file of nothing but its flows would have."""
    rates = rates_of(flows=5)
    forecasts = forecast(rates, 48, offsets=(-2, -1, 0.3, 1, 2))
    among = np.array([True, False, True, False, False])
    part = skill(tally(rates, forecasts, QUANTILES, 48, HOUR_S), among)
    alone = score(rates[:, among], forecasts[:, among], QUANTILES, 48, HOUR_S)
    assert part.flows == 2
    assert part.every.median == pytest.approx(alone.every.median)
    assert part.horizons[1].quantile_loss == pytest.approx(alone.horizons[1].quantile_loss)
    assert part.horizons[0].coverage == pytest.approx(alone.horizons[0].coverage)


def test_all_horizons_together_are_the_mean_of_each():
    """Coverage and quantile loss over all horizons lie among those of each."""
    rates = rates_of(days=6)
    forecasts = forecast(rates, 48, horizons=4, offsets=(-1, -0.5, 0, 0.5, 1)) + np.arange(4)[
        None, None, :, None
    ].astype(np.float32)
    found = score(rates, forecasts, QUANTILES, 48, HOUR_S)
    losses = [each.quantile_loss for each in found.horizons]
    held = [each.coverage for each in found.horizons]
    assert losses == sorted(losses)
    assert found.quantile_loss == pytest.approx(np.mean(losses), rel=0.05)
    assert found.coverage == pytest.approx(np.mean(held), abs=0.01)


def test_the_best_baseline_is_the_one_that_is_least_off():
    """And the forecasts are held against it, not against all of them mixed."""
    rates = rates_of()
    found = tally(rates, forecast(rates, 48, offsets=(0.2,) * 5), QUANTILES, 48, HOUR_S)
    baselines = {"good": np.full((2, 3), 0.1), "bad": np.full((2, 3), 0.8)}
    judged = skill(replace(found, baselines={**baselines, "untrained": np.full((2, 3), 0.01)}))
    assert judged.best_baseline == "good"
    assert judged.over_best_baseline == pytest.approx(2, rel=1e-5)
    assert judged.every.untrained < judged.every.baselines["good"]


def test_several_files_count_by_their_flows_whatever_their_units():
    """The same file in other units makes no other figures, and errors are means over all flows."""
    rates = rates_of(flows=4)
    forecasts = forecast(rates, 48, offsets=(-1, -0.5, 0.2, 0.5, 1))
    one = tally(rates, forecasts, QUANTILES, 48, HOUR_S)
    large = tally(1e6 * rates, 1e6 * forecasts, QUANTILES, 48, HOUR_S)
    both, alone = skill(combine([one, large])), skill(one)
    assert both.flows == 2 * alone.flows
    assert both.every.median == pytest.approx(alone.every.median, rel=1e-6)
    assert both.quantile_loss == pytest.approx(alone.quantile_loss, rel=1e-6)
    assert both.coverage == alone.coverage


@pytest.mark.parametrize("first", [3, 94])
def test_too_few_steps_raise_value_error(first):
    """Less than a day before, or nothing after: there is nothing to score."""
    rates = rates_of()
    forecasts = np.zeros((len(rates) - first, 3, 2, 5), np.float32)
    with pytest.raises(ValueError, match="nothing to score"):
        score(rates, forecasts, QUANTILES, first, HOUR_S)


def test_a_hole_is_filled_with_what_was_before():
    """The last value goes on through a hole; before the first there is nothing."""
    rates = np.array([[np.nan], [3.0], [np.nan], [np.nan], [5.0]])
    assert filled(rates)[:, 0].tolist() == [0, 3, 3, 3, 5]


def test_smoothing_is_exponential():
    """Each step moves three tenths of the way."""
    assert smoothed(np.array([[0.0], [10.0], [10.0]]))[:, 0] == pytest.approx([0, 3, 5.1])
