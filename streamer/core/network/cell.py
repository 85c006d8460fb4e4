"""
The recurrent cells, in the notation of the equations.

With [h, x] the concatenation of the last output and the input:

    f = σ(Wf·[h,x] + bf)    forget gate: the part of the cell state that stays
    i = σ(Wi·[h,x] + bi)    input gate: the part of the candidate that is added
    g = tanh(Wc·[h,x] + bc) candidate
    C' = f∘C + i∘g          cell state
    o = σ(Wo·[h,x] + bo)    output gate
    h' = o∘tanh(C')         output to the next layer and to the next step

The four products are computed as one: W is Wf, Wi, Wo and Wc, stacked in this order.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Gates(NamedTuple):
    """One step of an LSTM layer for R rows, (R, hidden) each."""

    f: Tensor
    i: Tensor
    o: Tensor
    g: Tensor
    C: Tensor  # the cell state after the step
    h: Tensor


def tanh(x: Tensor) -> Tensor:
    """The same as torch's tanh, from a sigmoid: six times as fast on a CPU."""
    return 2 * torch.sigmoid(2 * x) - 1


class LSTM(nn.Module):
    """Layers of the cell of Hochreiter and Schmidhuber with the forget gate of Gers et al."""

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.W = nn.ParameterList(_weights(inputs, hidden, layers, 4 * hidden))
        self.b = nn.ParameterList(torch.zeros(4 * hidden) for _ in range(layers))
        for b in self.b:
            nn.init.ones_(b[:hidden])  # forget gates begin open, so the cell state is kept

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """From x (R, inputs) and state (R, layers, 2, hidden), h and C, to h (R, hidden), state."""
        after = []
        for layer in range(len(self.W)):
            gates = self.gates(layer, x, state[:, layer, 0], state[:, layer, 1])
            after.append(torch.stack((gates.h, gates.C), dim=1))
            x = gates.h
        return x, torch.stack(after, dim=1)

    def gates(self, layer: int, x: Tensor, h: Tensor, C: Tensor) -> Gates:  # noqa: N803 - as in the equations
        """One step of one layer, with the values of all gates."""
        z = torch.addmm(self.b[layer], torch.cat((h, x), dim=-1), self.W[layer].t())
        hidden = h.shape[-1]
        f, i, o = torch.sigmoid(z[:, : 3 * hidden]).chunk(3, dim=-1)
        g = tanh(z[:, 3 * hidden :])
        C = f * C + i * g  # noqa: N806 - as in the equations
        return Gates(f, i, o, g, C, o * tanh(C))


class RNN(nn.Module):
    """Layers of the simple recurrent cell: h' = tanh(W·[h,x] + b)."""

    def __init__(self, inputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.W = nn.ParameterList(_weights(inputs, hidden, layers, hidden))
        self.b = nn.ParameterList(torch.zeros(hidden) for _ in range(layers))

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """From x (R, inputs) and state (R, layers, 1, hidden), h, to h (R, hidden), state."""
        after = []
        for W, b, h in zip(self.W, self.b, state[:, :, 0].unbind(1), strict=True):  # noqa: N806
            x = tanh(torch.addmm(b, torch.cat((h, x), dim=-1), W.t()))
            after.append(x.unsqueeze(1))
        return x, torch.stack(after, dim=1)


class NoCell(nn.Module):
    """The absence of a cell: there is no memory, and the head reads only the current step."""

    def __init__(self, _inputs: int, _hidden: int, _layers: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """From x (R, inputs) to h (R, 0); the state is empty and is returned unchanged."""
        return x[:, :0], state


def _weights(inputs: int, hidden: int, layers: int, outputs: int) -> list[Tensor]:
    widths = [hidden + inputs] + [2 * hidden] * (layers - 1)
    return [torch.empty(outputs, width).uniform_(-1, 1) / hidden**0.5 for width in widths]
