"""What a network is taught by: how far its quantiles are from what came."""

from __future__ import annotations

import torch
from torch import Tensor


def pinball(bands: Tensor, truth: Tensor, quantiles: tuple[float, ...]) -> Tensor:
    """
    The quantile loss of *bands* (quantiles, R, H) against *truth* (R, H), (R, H).

    Least when each quantile is exceeded as often as it promises (Koenker and
    Bassett, 1978). Zero where *truth* is NaN.
    """
    known = ~torch.isnan(truth)
    short = torch.where(known, truth, 0) - bands
    levels = torch.tensor(quantiles, device=bands.device)[:, None, None]
    return torch.maximum(levels * short, (levels - 1) * short).mean(0) * known
