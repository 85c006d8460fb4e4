"""
Adam, as published: Kingma and Ba, Adam: A Method for Stochastic Optimization, 2015.

Thirty lines of our own, since torch's Adam imports its compiler, which costs seconds and 100
MB.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

BETAS = 0.9, 0.999
TINY = 1e-8


class Adam:
    """The Adam optimizer, with a step size for each of *parameters*."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self._means = [torch.zeros_like(each) for each in self.parameters]
        self._squares = [torch.zeros_like(each) for each in self.parameters]
        self._steps = 0

    def clear(self) -> None:
        """Reset the gradients."""
        for each in self.parameters:
            each.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Make one step with learning rate *rate*."""
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
