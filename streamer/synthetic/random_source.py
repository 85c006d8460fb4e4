"""Random draws for many flows at once, and their common time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.types import DAY_S

Rates = NDArray[np.float64]  # (steps, flows), per second; NaN without a reading
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

HOUR_S = 3600


class Chance:
    """Random draws for *flows* flows at once."""

    def __init__(self, rng: np.random.Generator, flows: int) -> None:
        self.rng = rng
        self.flows = flows

    def uniform(self, low: float, high: float, *more: int) -> Floats:
        """Draw uniformly between *low* and *high*."""
        return self.rng.uniform(low, high, (self.flows, *more))

    def spread(self, low: float, high: float) -> Floats:
        """Draw log-uniformly between *low* and *high*."""
        return np.exp(self.rng.uniform(np.log(low), np.log(high), self.flows))

    def some(self, share: float) -> Bools:
        """Return True for a random *share* of the flows."""
        return self.rng.random(self.flows) < share

    def noise(self, *shape: int) -> Floats:
        """Draw from the standard normal distribution, (*shape, flows)."""
        return self.rng.normal(size=(*shape, self.flows))

    def pick(self, choices: tuple[float, ...]) -> Floats:
        """Draw one of *choices* for each flow."""
        return self.rng.choice(choices, self.flows)


class Clock(NamedTuple):
    """The times of a chunk of T steps."""

    second: NDArray[np.int64]  # (T, 1) the beginning of each
    step_s: int

    @property
    def day_steps(self) -> float:
        """The number of steps in a day."""
        return DAY_S / self.step_s

    @property
    def day(self) -> NDArray[np.int64]:
        """(T, 1) days since 1970."""
        return self.second // DAY_S

    @property
    def hour(self) -> Floats:
        """(T, 1) hour of the day, 0 to 24."""
        return self.second % DAY_S / HOUR_S
