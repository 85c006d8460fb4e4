"""Draws for many flows at once, and the time that they share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.types import DAY_S

Rates = NDArray[np.float64]  # (steps, flows), per second; NaN where no reading came
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

HOUR_S = 3600


class Chance:
    """Draws for *flows* flows at once."""

    def __init__(self, rng: np.random.Generator, flows: int) -> None:
        self.rng = rng
        self.flows = flows

    def uniform(self, low: float, high: float, *more: int) -> Floats:
        """Evenly between *low* and *high*."""
        return self.rng.uniform(low, high, (self.flows, *more))

    def spread(self, low: float, high: float) -> Floats:
        """Between *low* and *high*, every factor alike: log-uniform."""
        return np.exp(self.rng.uniform(np.log(low), np.log(high), self.flows))

    def some(self, share: float) -> Bools:
        """True for a *share* of the flows."""
        return self.rng.random(self.flows) < share

    def noise(self, *shape: int) -> Floats:
        """Standard normal, (*shape, flows)."""
        return self.rng.normal(size=(*shape, self.flows))

    def pick(self, choices: tuple[float, ...]) -> Floats:
        """One of *choices* each."""
        return self.rng.choice(choices, self.flows)


class Clock(NamedTuple):
    """A chunk of T steps."""

    second: NDArray[np.int64]  # (T, 1) when each begins
    step_s: int

    @property
    def day_steps(self) -> float:
        """How many steps a day has."""
        return DAY_S / self.step_s

    @property
    def day(self) -> NDArray[np.int64]:
        """(T, 1) days since 1970."""
        return self.second // DAY_S

    @property
    def hour(self) -> Floats:
        """(T, 1) of the day, 0 to 24."""
        return self.second % DAY_S / HOUR_S
