"""
Pretrains the shipped weights, on generated traffic only, with a fixed seed.

A *world* is some hundreds of generated flows on one grid, with rows just as the daemon keeps
them. Each iteration steps one world's next chunk through the production code (`forecast.look`),
and the network through the chunk, with the state carried over from the chunk before. So the
network is trained as it will serve, on a stream that never repeats. Gradients flow back to the
chunk's beginning (truncated backpropagation through time).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from streamer.core.network.config import ModelConfig, state_shape
from streamer.core.network.model import Network
from streamer.core.predict import forecast
from streamer.core.types import DAY_S
from streamer.synthetic import Traffic
from streamer.training.batch import Batch, chunk, make_batch, training_loss

# horizons used in training; those in between are interpolated
HORIZONS = (1, 2, 3, 4, 6, 8, 10, 12, 24, 48)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All settings that determine the weights."""

    model: ModelConfig = field(default_factory=ModelConfig)
    seed: int = 0
    passes: int = 3600
    steps_s: tuple[int, ...] = (300, 600, 60, 300, 600, 3600, 300, 600)  # step length of each world
    flows: int = 256  # flows of each world
    chunk: int = 64  # steps per iteration
    scored_steps: int = 16  # steps of them at which forecasts are made and scored
    days: int = 63  # length of a world, before another replaces it
    age_max: int = 3000  # maximum age of a world, in steps, before its first chunk
    cold: float = 0.06  # probability of a reset per chunk, for every second flow
    rate: float = 3e-3  # the peak learning rate

    def __post_init__(self) -> None:
        if self.scored_steps > self.chunk:
            raise ValueError("scored_steps: must be at most a chunk")
        if self.passes < 20:
            raise ValueError("passes: must be at least 20, for the rate to rise and fall")


class Progress(NamedTuple):
    """The state of a pretraining after an iteration."""

    passes: int
    loss: float


class World:
    """Generated flows with the rows and the state that a daemon would keep of them."""

    _ahead: NDArray[np.float64]  # generated rates that were not yet used, (steps, flows)

    def __init__(self, rng: np.random.Generator, step_s: int, plan: Plan) -> None:
        self._rng, self._step_s, self._plan = rng, step_s, plan
        self._begin()
        self._skip(int(rng.integers(0, plan.age_max)))  # makes worlds differ in age

    def next_batch(self) -> Batch:
        """Return the next chunk."""
        plan = self._plan
        if self._step - self._first > plan.days * DAY_S // self._step_s:
            self._begin()
        self._forget_some()
        rates = self._rates(plan.chunk + HORIZONS[-1])
        forecast_steps = np.sort(self._rng.choice(plan.chunk, plan.scored_steps, replace=False))
        steps = np.full(plan.flows, self._step)
        made = chunk(self._rows, rates[: plan.chunk], steps, self._step_s, forecast_steps, HORIZONS)
        self._step += plan.chunk
        self._ahead = self._ahead[plan.chunk :]
        came = rates[forecast_steps[:, None] + np.array(HORIZONS)].swapaxes(1, 2)  # (K, flows, H)
        return make_batch(made, came)

    def _begin(self) -> None:
        plan, step_s = self._plan, self._step_s
        self._first = self._step = int(self._rng.integers(0, 20000)) * DAY_S // step_s
        self._traffic = Traffic(self._rng, plan.flows, step_s, self._first)
        self._ahead = np.empty((0, plan.flows))
        columns = forecast.columns(plan.model, forecast.ForecastSpec(step_s))
        self._rows = np.zeros(plan.flows, np.dtype(columns))
        self.state = torch.zeros(plan.flows, *state_shape(plan.model))

    def _skip(self, steps: int) -> None:
        for rates in self._rates(steps):
            at = np.full(len(rates), self._step)
            forecast.make_inputs(self._rows, rates, at, self._step_s, HORIZONS)
            self._step += 1
        self._ahead = self._ahead[steps:]

    def _rates(self, steps: int) -> NDArray[np.float64]:
        """Return the next *steps* steps, (steps, flows), without removing them."""
        while len(self._ahead) < steps:
            day = self._traffic.chunk(max(DAY_S // self._step_s, 64))
            self._ahead = np.concatenate((self._ahead, day))
        rates: NDArray[np.float64] = self._ahead[:steps]
        return rates

    def _forget_some(self) -> None:
        """Reset some flows: the network must also be trained on a flow's first hours."""
        reset = np.flatnonzero(self._rng.random(self._plan.flows) < self._plan.cold)
        reset = reset[reset % 2 == 0]
        self._rows[reset] = np.zeros((), self._rows.dtype)
        self.state[torch.from_numpy(reset)] = 0


def pretrain(plan: Plan, network: Network) -> Iterator[Progress]:
    """Train *network* by *plan*, yielding progress; reproducible on the same machine."""
    rng = np.random.default_rng(plan.seed)
    worlds = [World(rng.spawn(1)[0], step_s, plan) for step_s in plan.steps_s]
    optimizer = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.rate, total_steps=plan.passes, pct_start=0.1
    )
    network.train()
    for number in range(plan.passes):
        world = worlds[number % len(worlds)]
        loss, world.state = training_loss(network, world.next_batch(), world.state)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield Progress(number + 1, loss.item())


def made(plan: Plan, loss: float) -> dict[str, str]:
    """Return the metadata of the weights file."""
    settings = {k: str(v) for k, v in asdict(plan).items() if k != "model"}
    return {
        **settings,
        "loss": f"{loss:.5f}",
        "made_by": "streamer pretrain",
        "from": "generated traffic",
    }
