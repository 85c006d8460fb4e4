"""
How far back a cell remembers: a task whose answer lies k steps back.

A number is shown once, k - 1 steps of noise follow, then the cell is asked for the number. To
learn what to keep, it has to be told at the end of an error that began k steps before: this
is where a simple recurrent cell fails, since what goes back through it is multiplied, step by
step, by W and by the slope of tanh, and so dies out or blows up exponentially (Bengio, Simard
and Frasconi, "Learning long-term dependencies with gradient descent is difficult", 1994). An
LSTM's cell state is multiplied by its forget gate alone, which may stay at one (Hochreiter and
Schmidhuber, "Long short-term memory", 1997; the gate itself is of Gers, Schmidhuber and Cummins,
"Learning to forget", 2000).

Both are taught alike: the very cells that forecast, from a short lag on to ever longer ones, each
reached step by step.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from streamer.core.network.cell import LSTM, RNN

INPUTS = 3  # a number, whether to keep it, whether to tell the one that was kept
TRIED = 1000  # fresh sequences on which an error is measured
GROWING = 0.7  # of a lag's passes lead up to it from the one before
TRACED = 64  # sequences over which a gradient's norm is the mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that decides what is found."""

    cell: Literal["lstm", "rnn"]
    lags: tuple[int, ...] = (5, 10, 20, 50, 100, 200)  # taught one after another
    hidden: int = 16
    passes: int = 200  # for each lag
    rows: int = 64  # sequences a pass
    rate: float = 1e-2  # of learning
    seed: int = 0


class Lesson(NamedTuple):
    """One pass."""

    lag: int  # that it leads to
    steps: int  # that it looks back
    is_last: bool  # for this lag


class Progress(NamedTuple):
    """What was taught, and after a lag's last lesson what was learned."""

    lesson: Lesson
    error: float | None  # mean absolute, over that of always saying the mean: 1 knows nothing


class Remembered(NamedTuple):
    """What a cell was found to remember."""

    errors: dict[int, float]  # by lag, as `Progress` has them
    untaught: list[float]  # `gradients` of the cell as it is made
    taught: list[float]  # … and after its last lesson


class MemoryNetwork(nn.Module):
    """A cell, and one number read from its output."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.hidden = plan.hidden
        self.kept = 2 if plan.cell == "lstm" else 1
        self.cell = (LSTM if plan.cell == "lstm" else RNN)(INPUTS, plan.hidden, 1)
        self.told = nn.Linear(plan.hidden, 1)

    def forward(self, x: Tensor, states: list[Tensor] | None = None) -> Tensor:
        """From x (steps, R, INPUTS) to what is said last, (R,); *states* takes them all in."""
        state = torch.zeros(x.shape[1], 1, self.kept, self.hidden)
        h = state[:, 0, 0]
        for step in x:
            h, state = self.cell(step, state)
            if states is not None:
                states.append(state)
        said: Tensor = self.told(h).squeeze(-1)
        return said


def teach(plan: Plan, pupil: MemoryNetwork) -> Iterator[Progress]:
    """Teach *pupil* lag after lag, telling of each pass; the same on the same machine."""
    chance = torch.Generator().manual_seed(plan.seed)
    optimizer = torch.optim.Adam(pupil.parameters(), lr=plan.rate)
    for lesson in lessons(plan):
        x, asked = sequences(lesson.steps, plan.rows, chance)
        loss = nn.functional.mse_loss(pupil(x), asked)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
        optimizer.step()
        yield Progress(lesson, measured(pupil, lesson.lag, chance) if lesson.is_last else None)


def lessons(plan: Plan) -> list[Lesson]:
    """All passes of a plan in their order: each lag is walked up to from the one before."""
    found = []
    for before, lag in itertools.pairwise((1, *plan.lags)):
        for number in range(1, plan.passes + 1):
            way = min(1.0, number / (GROWING * plan.passes))
            steps = round(before + way * (lag - before))
            found.append(Lesson(lag, steps, number == plan.passes))
    return found


@torch.no_grad()
def measured(pupil: MemoryNetwork, lag: int, chance: torch.Generator) -> float:
    """Its error on sequences that it has not seen."""
    x, asked = sequences(lag, TRIED, chance)
    return float((pupil(x) - asked).abs().mean() / asked.abs().mean())


def gradients(pupil: MemoryNetwork, distance: int, seed: int) -> list[float]:
    """
    How much of an error reaches the state 1, 2, … *distance* steps before it.

    Norms of the gradient of what is said by the state before a step, in the mean over sequences,
    and over that of the nearest, so that the first is 1.
    """
    x, _ = sequences(distance, TRACED, torch.Generator().manual_seed(seed))
    states: list[Tensor] = []
    said = pupil(x, states)
    found = torch.autograd.grad(said.sum(), states[:-1])
    norms = [float(each.flatten(1).norm(dim=1).mean()) for each in reversed(found)]
    return [norm / norms[0] for norm in norms]


def sequences(lag: int, rows: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences (lag + 1, rows, INPUTS), and the numbers to be told after them, (rows,)."""
    x = torch.zeros(lag + 1, rows, INPUTS)
    x[..., 0] = torch.rand(lag + 1, rows, generator=chance) * 2 - 1
    x[0, :, 1] = x[-1, :, 2] = 1
    return x, x[0, :, 0].clone()
