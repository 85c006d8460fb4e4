"""
How the shipped weights are made: from generated traffic alone, seeded.

A *world* is some hundreds of generated flows on one grid, with rows just as the
daemon keeps them. Each pass takes the next chunk of steps of one world through
the very stages that serve (`forecast.look`), and the network through the chunk,
its state carried on from the chunk before; so it learns as it will serve, from a
stream that never repeats. Errors are traced back to the chunk's beginning
(truncated backpropagation through time).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamer.core import forecast
from streamer.core.inputs import Inputs
from streamer.core.loss import pinball
from streamer.core.model import Network, Sight, reach
from streamer.core.shape import QUANTILES, ModelConfig, state_shape
from streamer.traffic import Traffic

DAY_S = 86400
HORIZONS = (1, 2, 3, 4, 6, 8, 10, 12, 24, 48)  # taught; those between follow
FAR = 12  # horizons beyond it count half
TYPICAL = HORIZONS.index(6)  # where the error is taken that a flow's loss is divided by


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that decides what the weights become."""

    model: ModelConfig = field(default_factory=ModelConfig)
    seed: int = 0
    passes: int = 3600
    steps_s: tuple[int, ...] = (300, 600, 60, 300, 600, 3600, 300, 600)  # of each world
    flows: int = 256  # of each world
    chunk: int = 64  # steps a pass
    told: int = 16  # of them, for which forecasts are made and judged
    days: int = 42  # that a world lasts, before another takes its place
    grown: int = 3000  # steps that it may have lived through before its first lesson
    cold: float = 0.03  # of every second flow: its chance to be forgotten, a chunk
    rate: float = 3e-3  # of learning, at its highest

    def __post_init__(self) -> None:
        if self.told > self.chunk:
            raise ValueError("told: must be at most a chunk")
        if self.passes < 20:
            raise ValueError("passes: must be at least 20, for the rate to rise and fall")


class Progress(NamedTuple):
    """Where a pretraining stands after a pass."""

    passes: int
    loss: float


class Lesson(NamedTuple):
    """A chunk of L steps of N flows; R rows, those of the told steps, are judged."""

    features: Tensor  # (L, N, FEATURES)
    told: NDArray[np.intp]  # which of the L
    sight: Sight  # of R rows
    truth: Tensor  # (R, H) compressed, NaN where missing


class World:
    """Generated flows with the rows and the state that a daemon would keep of them."""

    _ahead: NDArray[np.float64]  # rates drawn and not yet taken, (steps, flows)

    def __init__(self, rng: np.random.Generator, step_s: int, plan: Plan) -> None:
        self._rng, self._step_s, self._plan = rng, step_s, plan
        self._begin()
        self._skip(int(rng.integers(0, plan.grown)))  # so that worlds differ in age

    def lesson(self) -> Lesson:
        """The next chunk."""
        plan = self._plan
        if self._step - self._first > plan.days * DAY_S // self._step_s:
            self._begin()
        self._forget_some()
        rates = self._rates(plan.chunk + HORIZONS[-1])
        told = np.sort(self._rng.choice(plan.chunk, plan.told, replace=False))
        features, judged, truths = [], [], []
        for step in range(plan.chunk):
            inputs = self._look(rates[step])
            features.append(inputs.features)
            if step in told:
                coming = rates[step + np.array(HORIZONS)].T  # (N, H)
                judged.append(inputs)
                truths.append(np.log1p(4 * coming / inputs.scale[:, None]))
        self._ahead = self._ahead[plan.chunk :]
        sight = Sight(
            _joined([each.features for each in judged], 0),
            _joined([each.ahead for each in judged], 1),
            _joined([each.errors for each in judged], 1),
            _joined([each.spread for each in judged], 0),
            *reach(np.array(HORIZONS)),
        )
        truth = _joined([truth.astype(np.float32) for truth in truths], 0)
        return Lesson(torch.from_numpy(np.stack(features)), told, sight, truth)

    def _begin(self) -> None:
        plan, step_s = self._plan, self._step_s
        self._first = self._step = int(self._rng.integers(0, 20000)) * DAY_S // step_s
        self._traffic = Traffic(self._rng, plan.flows, step_s, self._first)
        self._ahead = np.empty((0, plan.flows))
        columns = forecast.columns(plan.model, forecast.Outlook(step_s))
        self._rows = np.zeros(plan.flows, np.dtype(columns))
        self.state = torch.zeros(plan.flows, *state_shape(plan.model))

    def _skip(self, steps: int) -> None:
        for rates in self._rates(steps):
            self._look(rates)
        self._ahead = self._ahead[steps:]

    def _look(self, rates: NDArray[np.float64]) -> Inputs:
        steps = np.full(len(rates), self._step)
        self._step += 1
        return forecast.look(self._rows, rates, steps, self._step_s, HORIZONS)

    def _rates(self, steps: int) -> NDArray[np.float64]:
        """The next *steps* steps, (steps, flows); they stay ahead until they are cut off."""
        while len(self._ahead) < steps:
            day = self._traffic.chunk(max(DAY_S // self._step_s, 64))
            self._ahead = np.concatenate((self._ahead, day))
        rates: NDArray[np.float64] = self._ahead[:steps]
        return rates

    def _forget_some(self) -> None:
        """Let some flows be new ones: a flow's first hours are as much of a lesson as the rest."""
        gone = np.flatnonzero(self._rng.random(self._plan.flows) < self._plan.cold)
        gone = gone[gone % 2 == 0]
        self._rows[gone] = np.zeros((), self._rows.dtype)
        self.state[torch.from_numpy(gone)] = 0


def pretrain(plan: Plan, network: Network) -> Iterator[Progress]:
    """Teach *network* by *plan*, telling of each pass; the same on the same machine."""
    rng = np.random.default_rng(plan.seed)
    worlds = [World(rng.spawn(1)[0], step_s, plan) for step_s in plan.steps_s]
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.rate, total_steps=plan.passes, pct_start=0.1
    )
    network.train()
    for number in range(plan.passes):
        world = worlds[number % len(worlds)]
        loss, world.state = judge(network, world.lesson(), world.state)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield Progress(number + 1, loss.item())


def judge(network: Network, lesson: Lesson, state: Tensor) -> tuple[Tensor, Tensor]:
    """The loss over a lesson, and the state after it, cut from what led to it."""
    hidden = []
    for x in lesson.features:
        h, state = network.cell(x, state)
        hidden.append(h)
    sight = lesson.sight
    bands = network.head(torch.cat([hidden[step] for step in lesson.told]), sight)
    error = torch.matmul(sight.errors, sight.shares[:, TYPICAL]).amin(0).exp()[:, None]  # (R, 1)
    far = torch.where(torch.tensor(HORIZONS) > FAR, 0.5, 1.0)
    weight = far / (error + 0.1) * ~torch.isnan(lesson.truth)
    loss = (pinball(bands, lesson.truth, QUANTILES) * weight).sum() / weight.sum().clamp(min=1)
    return loss, state.detach()


def made(plan: Plan, loss: float) -> dict[str, str]:
    """What the weights' file says of its making."""
    told = {k: str(v) for k, v in asdict(plan).items() if k != "model"}
    return {
        **told,
        "loss": f"{loss:.5f}",
        "made_by": "streamer pretrain",
        "from": "generated traffic",
    }


def _joined(parts: list[NDArray[np.float32]], axis: int) -> Tensor:
    return torch.from_numpy(np.concatenate(parts, axis=axis))
