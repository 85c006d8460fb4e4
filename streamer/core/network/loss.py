"""The training loss: the distance of the network's quantiles from the rates that followed."""

from __future__ import annotations

import torch
from torch import Tensor


def pinball(bands: Tensor, truth: Tensor, quantiles: tuple[float, ...]) -> Tensor:
    """
    The quantile loss of *bands* (quantiles, R, H) against *truth* (R, H), (R, H).

    It is least when each quantile is exceeded as often as its level demands (Koenker and
    Bassett, 1978). Zero where *truth* is NaN.
    """
    known = ~torch.isnan(truth)
    short = torch.where(known, truth, 0) - bands
    levels = torch.tensor(quantiles, device=bands.device)[:, None, None]
    return torch.maximum(levels * short, (levels - 1) * short).mean(0) * known
