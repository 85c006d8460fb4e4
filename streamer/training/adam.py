"""
Adam, as published: Kingma and Ba, Adam: A Method for Stochastic Optimization, 2015.

Thirty lines, since torch's own imports its compiler: seconds and a hundred megabytes for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

BETAS = 0.9, 0.999
TINY = 1e-8


class Adam:
    """Moves *parameters* down their gradients, each by its own measure."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self._means = [torch.zeros_like(each) for each in self.parameters]
        self._squares = [torch.zeros_like(each) for each in self.parameters]
        self._steps = 0

    def clear(self) -> None:
        """Forget the gradients."""
        for each in self.parameters:
            each.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step at *rate*."""
        self._steps += 1
        fresh = [1 - beta**self._steps for beta in BETAS]
        moved = zip(self.parameters, self._means, self._squares, strict=True)
        for each, mean, square in moved:
            if each.grad is None:
                continue
            mean.lerp_(each.grad, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(each.grad, each.grad, value=1 - BETAS[1])
            spread = (square / fresh[1]).sqrt_().add_(TINY)
            each.addcdiv_(mean, spread, value=-rate / fresh[0])
