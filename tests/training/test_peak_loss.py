"""The loss that the head of peaks is fitted by."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.alerts import peak as served
from streamer.core.network.config import QUANTILES
from streamer.core.network.peak_head import HIGHS
from streamer.core.types import PEAK_QUANTILES
from streamer.training import peak_loss


@given(st.integers(0, 2**32 - 1))
def test_the_chance_is_the_one_that_is_served(seed):
    """The same function as `alerts.peak.chance`, of compressed rates."""
    rng = np.random.default_rng(seed)
    z = np.sort(rng.uniform(0.1, 8, (20, len(PEAK_QUANTILES))), axis=1)
    at = rng.uniform(0.1, 10, 20)
    expected = served.chance(PEAK_QUANTILES, np.expm1(z), np.expm1(at))
    fitted = peak_loss.chance(*(torch.from_numpy(each).float() for each in (z, at)))
    np.testing.assert_allclose(fitted.numpy(), expected, atol=2e-3)


def test_a_chance_has_a_gradient():
    """A quantile that rises makes the peak's passing more likely."""
    z = torch.linspace(1, 3, len(PEAK_QUANTILES))[None].requires_grad_()
    peak_loss.chance(z, torch.tensor([2.1])).sum().backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert (z.grad >= 0).all()
    assert (z.grad > 0).any()


def test_thresholds_lie_above_the_median_and_under_bursts():
    """Half of those with a burst are near it."""
    torch.manual_seed(1)
    highs = torch.full((4000, HIGHS), 3.0)
    above = peak_loss.thresholds(torch.full((4000,), 1.0), highs) - 1
    assert above.min() >= 0.2
    assert above.max() <= 4
    assert ((above > 1.9) & (above < 3)).float().mean() > 0.5
    none = peak_loss.thresholds(torch.zeros(4000), torch.zeros(4000, HIGHS))
    assert none.log().mean() == pytest.approx(np.log(0.2 * 4) / 2, abs=0.1)


def test_the_loss_tells_how_likely_a_burst_is():
    """Of two forecasts that the quantile loss takes for equal, the one with the right chance."""
    torch.manual_seed(1)
    levels, count, share = torch.tensor(PEAK_QUANTILES), 20_000, 0.3
    peak = torch.where(torch.rand(count) < share, 4.0, 1.0)
    highest = torch.ones(count, len(QUANTILES))
    highs = torch.full((count, HIGHS), 3.0)
    sure = torch.where(levels > 1 - share, 4.0, 1.0)
    halfway = torch.where(levels == 0.75, 2.5, sure)  # a burst is less likely than 0.25, it says
    near = torch.where(levels == 0.75, 3.99, sure)

    def lost(of, quantiles):
        return of(quantiles.expand(count, -1), peak, highest, *([highs] if of is whole else []))

    whole, alone = peak_loss.loss, peak_loss.quantile_loss
    by_quantiles = lost(alone, halfway) - lost(alone, near)
    assert lost(whole, halfway) - lost(whole, near) > by_quantiles + 0.01
