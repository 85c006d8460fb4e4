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


def test_the_loss_prefers_the_chance_of_the_burst():
    """Bursts that come in half of the cases: quantiles that say so lose least."""
    torch.manual_seed(1)
    came = torch.rand(4000) < 0.5
    peak = torch.where(came, 4.0, 1.0)
    highest = torch.ones(4000, len(QUANTILES))
    highs = torch.full((4000, HIGHS), 3.0)
    levels = torch.tensor(PEAK_QUANTILES)

    def lost(share):
        """The loss if a burst is forecast with the chance *share*."""
        predicted = torch.where(levels > 1 - share, 4.0, 1.0).expand(4000, -1)
        return peak_loss.loss(predicted, peak, highest, highs).item()

    assert lost(0.55) < min(lost(0.02), lost(0.98))
