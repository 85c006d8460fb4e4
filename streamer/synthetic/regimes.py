"""Regimes: hidden modes of a flow that change its level for a while."""

from __future__ import annotations

import numpy as np

from streamer.core.types import DAY_S
from streamer.synthetic.random_source import Chance, Floats


class Regimes:
    """
    The logarithm of a level that jumps between a few modes.

    The distribution of a mode's duration is specific to the flow, from nearly constant to almost
    arbitrary. For some flows the time since the last jump therefore predicts the next one.
    """

    MODES = 3

    def __init__(self, chance: Chance, step_s: int) -> None:
        self._rng = chance.rng
        self._levels = chance.noise(self.MODES) * chance.uniform(0.3, 1.5)
        self._levels[0] = 0
        self._levels *= chance.some(0.3)
        shortest, longest = 3.0, max(6.0, DAY_S / step_s)
        self._lasts = np.stack([chance.spread(shortest, longest) for _ in range(self.MODES)])
        self._even = chance.spread(
            0.6, 60
        )  # the gamma shape of durations: a large one is nearly constant
        self._in_turn = chance.some(0.6)  # True: modes in a fixed order; False: in random order
        self._modes = np.zeros(chance.flows, np.intp)
        self._left = self._lasts[0] * chance.uniform(0, 1)

    def chunk(self, steps: int) -> Floats:
        """Return the level of *steps* steps, (steps, N)."""
        level = np.empty((steps, self._left.size))
        every = np.arange(self._left.size)
        for step in range(steps):
            over = np.flatnonzero(self._left <= 0)
            if over.size:
                jump = np.where(
                    self._in_turn[over], 1, self._rng.integers(1, self.MODES, over.size)
                )
                self._modes[over] = (self._modes[over] + jump) % self.MODES
                usual, even = self._lasts[self._modes[over], over], self._even[over]
                self._left[over] += np.maximum(1.0, usual / even * self._rng.gamma(even))
            level[step] = self._levels[self._modes, every]
            self._left -= 1
        return level
