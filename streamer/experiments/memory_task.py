"""
Measures how far back a cell remembers, with a task whose answer lies k steps back.

The network sees a number once, then k - 1 steps of noise, and then has to output the number. To
train it, the gradient of the final error must reach back k steps. A simple recurrent cell fails
at that: at each step the gradient is multiplied by W and by the slope of tanh, so it vanishes
or explodes exponentially (Bengio, Simard and Frasconi, "Learning long-term dependencies with
gradient descent is difficult", 1994). An LSTM's cell state is multiplied by its forget gate
alone, which may stay at one (Hochreiter and Schmidhuber, "Long short-term memory", 1997; the
gate itself is from Gers, Schmidhuber and Cummins, "Learning to forget", 2000).

Both are trained in the same way: the same cells as in production, from a short lag to ever
longer ones, each of which is approached step by step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from streamer.core.network.cell import LSTM, RNN

INPUTS = 3  # a number, whether to keep it, whether to output the kept one
TRIED = 1000  # new sequences for measuring an error
GROWING = 0.7  # share of a lag's iterations that grow from the previous lag to it
TRACED = 64  # sequences over which a gradient's norm is averaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All settings that determine the result."""

    cell: Literal["lstm", "rnn"]
    lags: tuple[int, ...] = (5, 10, 20, 50, 100, 200)  # trained in this order
    hidden: int = 16
    passes: int = 200  # iterations for each lag
    rows: int = 64  # sequences in a batch
    rate: float = 1e-2  # the learning rate
    seed: int = 0


class Iteration(NamedTuple):
    """One iteration."""

    lag: int  # the lag to be reached
    steps: int  # the lag of this iteration
    is_last: bool  # whether it is the last one of this lag


class Progress(NamedTuple):
    """The iteration done, and after a lag's last one the error."""

    iteration: Iteration
    error: float | None  # mean absolute, relative to forecasting the mean: 1 means no memory


class MemoryResult(NamedTuple):
    """The result of a cell."""

    errors: dict[int, float]  # errors by lag, as in `Progress`
    untrained: list[float]  # `gradients` of the untrained cell
    trained: list[float]  # `gradients` of the trained cell


class MemoryNetwork(nn.Module):
    """A cell, and a linear output of one number."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.hidden = plan.hidden
        self.kept = 2 if plan.cell == "lstm" else 1
        self.cell = (LSTM if plan.cell == "lstm" else RNN)(INPUTS, plan.hidden, 1)
        self.output = nn.Linear(plan.hidden, 1)

    def forward(self, x: Tensor, states: list[Tensor] | None = None) -> Tensor:
        """Map x (steps, R, INPUTS) to the last output, (R,); appends all states to *states*."""
        state = torch.zeros(x.shape[1], 1, self.kept, self.hidden)
        h = state[:, 0, 0]
        for step in x:
            h, state = self.cell(step, state)
            if states is not None:
                states.append(state)
        output: Tensor = self.output(h).squeeze(-1)
        return output


def train(plan: Plan, network: MemoryNetwork) -> Iterator[Progress]:
    """Train *network* lag after lag, yielding progress; reproducible on the same machine."""
    chance = torch.Generator().manual_seed(plan.seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=plan.rate)
    for iteration in iterations(plan):
        x, targets = sequences(iteration.steps, plan.rows, chance)
        loss = nn.functional.mse_loss(network(x), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        yield Progress(
            iteration, mean_error(network, iteration.lag, chance) if iteration.is_last else None
        )


def iterations(plan: Plan) -> list[Iteration]:
    """Return all iterations of a plan in order: each lag is approached from the previous one."""
    found = []
    for before, lag in itertools.pairwise((1, *plan.lags)):
        for number in range(1, plan.passes + 1):
            way = min(1.0, number / (GROWING * plan.passes))
            steps = round(before + way * (lag - before))
            found.append(Iteration(lag, steps, number == plan.passes))
    return found


@torch.no_grad()
def mean_error(network: MemoryNetwork, lag: int, chance: torch.Generator) -> float:
    """Return the error on new sequences."""
    x, targets = sequences(lag, TRIED, chance)
    return float((network(x) - targets).abs().mean() / targets.abs().mean())


def gradients(network: MemoryNetwork, distance: int, seed: int) -> list[float]:
    """
    Return how much of the gradient reaches the state 1, 2, … *distance* steps before the output.

    The values are norms of the output's gradient with respect to the state before a step, averaged
    over sequences, and divided by that of the nearest step, so the first is 1.
    """
    x, _ = sequences(distance, TRACED, torch.Generator().manual_seed(seed))
    states: list[Tensor] = []
    output = network(x, states)
    found = torch.autograd.grad(output.sum(), states[:-1])
    norms = [float(each.flatten(1).norm(dim=1).mean()) for each in reversed(found)]
    return [norm / norms[0] for norm in norms]


def sequences(lag: int, rows: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return sequences (lag + 1, rows, INPUTS), and their targets, (rows,)."""
    x = torch.zeros(lag + 1, rows, INPUTS)
    x[..., 0] = torch.rand(lag + 1, rows, generator=chance) * 2 - 1
    x[0, :, 1] = x[-1, :, 2] = 1
    return x, x[0, :, 0].clone()
