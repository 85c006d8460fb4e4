"""
The loss of the head of peaks: of its quantiles, and of the chances that are read off them.

The quantile loss alone leaves a quantile between the usual rate and a burst where it is unsure
which of the two will come, so chances near a burst depend little on how likely the burst is. The
second term is the log loss of the chance that the peak passes a threshold, a proper score
(Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", 2007). Its
thresholds are those that alerts have: somewhere above the usual rate, or a little under a burst.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from streamer.core.alerts.peak import SLOPE_BELOW, TAIL_LEAST
from streamer.core.network.config import QUANTILES
from streamer.core.network.loss import pinball_loss
from streamer.core.network.peak_head import HIGHS
from streamer.core.types import PEAK_QUANTILES

WEIGHT = 0.3  # of the log loss, relative to the quantile loss
ABOVE = 0.2, 4.0  # compressed: range of the thresholds above the highest median
NEAR_BURST = 0.5  # share of the thresholds that are under a high of the burst memory …
UNDER = 0.7  # … by at most this share of its height above the median …
UNDER_MAX = 1.05  # … and at most so much, compressed
HIGH_LEAST = 0.4  # compressed: lower highs are no bursts
CHANCE_LEAST = 1e-4  # bound of a chance and of its complement in the log loss
Z_LEAST = 1e-3  # compressed rates below it are equivalent
CENTRE, UPPER = QUANTILES.index(0.5), QUANTILES.index(0.95)
LEVELS = torch.tensor(PEAK_QUANTILES)
SURVIVAL = torch.log1p(-LEVELS)


def loss(predicted: Tensor, peak: Tensor, highest: Tensor, highs: Tensor) -> Tensor:
    """
    The mean loss of *predicted* (n, PEAK_QUANTILES) where the peaks (n,) came, all compressed.

    *highest* (n, QUANTILES) is the highest of each step quantile within the span, *highs*
    (n, HIGHS) the highs of the burst memory above the highest median.
    """
    at = thresholds(highest[:, CENTRE], highs)
    passed = chance(predicted, at).clamp(CHANCE_LEAST, 1 - CHANCE_LEAST)
    came = (peak > at).float()
    of_chance = nn.functional.binary_cross_entropy(passed, came)
    return quantile_loss(predicted, peak, highest) + WEIGHT * of_chance


def quantile_loss(predicted: Tensor, peak: Tensor, highest: Tensor) -> Tensor:
    """
    The mean quantile loss, in units of the usual upper width.

    Each level is divided by the standard deviation of its indicator, so that the far ones count.
    """
    each = pinball_loss(peak[:, None] - predicted, LEVELS)
    unit = (highest[:, UPPER] - highest[:, CENTRE]).clamp(0.05, 3)[:, None] + 0.1
    return (each / torch.sqrt(LEVELS * (1 - LEVELS)) / unit).mean()


def thresholds(median: Tensor, highs: Tensor) -> Tensor:
    """A threshold for each *median* (n,), drawn by chance; *highs* as in `loss`."""
    count = len(median)
    low, high = (float(np.log(each)) for each in ABOVE)
    above = torch.exp(torch.empty(count).uniform_(low, high))
    burst = highs[torch.arange(count), torch.randint(0, HIGHS, (count,))]
    under = burst - torch.rand(count) * (UNDER * burst).clamp(0, UNDER_MAX)
    near = (torch.rand(count) < NEAR_BURST) & (burst > HIGH_LEAST)
    return median + torch.where(near, under, above)


def chance(quantiles: Tensor, threshold: Tensor) -> Tensor:
    """
    The chance that a peak with the *quantiles* (n, PEAK_QUANTILES) passes *threshold* (n,).

    This is `alerts.peak.chance` for compressed rates, with a gradient.
    """
    at, x = _log_rate(quantiles), _log_rate(threshold)
    passed = (at <= x[:, None]).sum(1)
    last = at.shape[1] - 1
    low, high = (passed - 1).clamp(0, last), passed.clamp(0, last)
    below, above = (at.gather(1, each[:, None])[:, 0] for each in (low, high))
    share = (x - below) / torch.where(above > below, above - below, 1.0)
    inner = torch.exp(SURVIVAL[low] + share * (SURVIVAL[high] - SURVIVAL[low]))
    tail = (at[:, -1] - at[:, -2]).clamp(min=TAIL_LEAST)
    steep = (SURVIVAL[-1] - SURVIVAL[-2]) / tail
    beyond = torch.exp(SURVIVAL[-1] + steep * (x - at[:, -1]).clamp(min=0))
    least = 1 - LEVELS[0] * torch.exp(SLOPE_BELOW * (x - at[:, 0]).clamp(max=0))
    return torch.where(passed > last, beyond, torch.where(passed == 0, least, inner))


def _log_rate(z: Tensor) -> Tensor:
    """The logarithm of a compressed rate, up to a constant of the scale."""
    return torch.log(torch.expm1(z.clamp(min=Z_LEAST)))
