"""The pinball loss: figures that can be checked by hand, the same in numpy and in torch."""

import numpy as np
import pytest
import torch

from streamer.core.network import loss
from streamer.core.network.config import QUANTILES
from streamer.core.network.pinball import pinball_loss

LEVELS = np.array(QUANTILES, np.float32)


@pytest.mark.parametrize(("short", "lost"), [(10.0, 9.0), (-10.0, 1.0), (0.0, 0.0)])
def test_a_rate_above_an_upper_quantile_costs_more_than_one_below(short, lost):
    """At level 0.9 nine times as much."""
    assert pinball_loss(np.array([short]), 0.9) == pytest.approx([lost])
    found = loss.pinball_loss(torch.tensor([short]), torch.tensor([0.9]))
    assert found.tolist() == pytest.approx([lost])


def test_numpy_and_torch_agree_to_the_bit():
    """Both are one product and one maximum of float32."""
    short = np.random.default_rng(0).normal(size=(200, len(LEVELS))).astype(np.float32)
    found = loss.pinball_loss(torch.from_numpy(short), torch.from_numpy(LEVELS))
    np.testing.assert_array_equal(pinball_loss(short, LEVELS), found.numpy())


@pytest.mark.parametrize("level", [0.05, 0.5, 0.95])
def test_the_loss_is_least_at_the_quantile(level):
    """Of 1,000 values, no forecast has a smaller mean loss than their own quantile."""
    values = np.random.default_rng(1).normal(size=1000)
    forecasts = np.linspace(-3, 3, 601)
    losses = pinball_loss(values[:, None] - forecasts, level).mean(axis=0)
    assert forecasts[losses.argmin()] == pytest.approx(np.quantile(values, level), abs=0.02)


def test_the_mean_over_quantiles_is_zero_where_the_truth_is_missing():
    """And the mean of the elementwise losses elsewhere."""
    bands = torch.from_numpy(np.random.default_rng(2).normal(size=(len(LEVELS), 3, 2)))
    truth = torch.tensor([[1.0, torch.nan], [0.0, 2.0], [torch.nan, -1.0]], dtype=torch.float64)
    found = loss.mean_pinball_loss(bands, truth, QUANTILES).numpy()
    known = ~np.isnan(truth.numpy())
    wanted = pinball_loss(truth.numpy() - bands.numpy(), np.array(QUANTILES)[:, None, None]).mean(0)
    np.testing.assert_allclose(found[known], wanted[known], rtol=1e-6)
    assert (found[~known] == 0).all()
