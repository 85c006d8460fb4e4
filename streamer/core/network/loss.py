"""The training loss: the pinball loss in torch; `pinball.py` has it in numpy."""

from __future__ import annotations

import torch
from torch import Tensor


def pinball_loss(short: Tensor, levels: Tensor) -> Tensor:
    """
    The pinball (quantile) loss, element by element; *levels* broadcasts against *short*.

    *short* is the actual value minus the quantile of that level. The mean loss is least when each
    quantile is exceeded as often as its level demands (Koenker and Bassett, "Regression
    quantiles", Econometrica 46, 1978).
    """
    return torch.maximum(levels * short, (levels - 1) * short)


def mean_pinball_loss(bands: Tensor, truth: Tensor, quantiles: tuple[float, ...]) -> Tensor:
    """
    The mean loss over the quantiles *bands* (quantiles, R, H) against *truth* (R, H), (R, H).

    Zero where *truth* is NaN.
    """
    known = ~torch.isnan(truth)
    short = torch.where(known, truth, 0) - bands
    levels = torch.tensor(quantiles, device=bands.device)[:, None, None]
    return pinball_loss(short, levels).mean(0) * known
