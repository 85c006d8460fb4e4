"""
Generates traffic, for pretraining the shipped weights and for the demo.

Each flow draws its own character once (a rhythm, noise, bursts, faults) and then generates
rates endlessly, a chunk of steps at a time, each chunk continuing the last. No data of real
networks are used; the ranges are wide enough to include real flows. The generator passed in is
the only source of randomness.

A rate is composed in the order of its causes:

    exp(rhythm + noise + level)         activity of people and machines, in one mode or another
      + bursts + spikes + schedule      additions, random or scheduled
      cut by capacity, faults, gaps     effects of link and collector
"""

from __future__ import annotations

import numpy as np

from streamer.synthetic.bursts import Bursts, Plan, Spikes
from streamer.synthetic.faults import Faults
from streamer.synthetic.random_source import Chance, Clock, Rates
from streamer.synthetic.regimes import Regimes
from streamer.synthetic.typical import Level, Noise, Rhythm


class Traffic:
    """Rates of *flows* flows on a grid of *step_s* seconds, from step *first* on."""

    def __init__(self, rng: np.random.Generator, flows: int, step_s: int, first: int = 0) -> None:
        chance = Chance(rng, flows)
        self._chance, self._step_s, self._next = chance, step_s, first
        self.flows = flows
        self._rhythm = Rhythm(chance)
        self._noise = Noise(chance, step_s)
        self._level = Level(chance)
        self._regimes = Regimes(chance, step_s)
        self._floor = np.where(chance.some(0.4), chance.spread(0.01, 0.6), 0)
        self._quiet = chance.some(0.3)
        self._base = np.where(self._quiet, chance.spread(0.002, 0.3), 1)
        self._bursts = Bursts(chance, step_s)
        self._plans = [Plan(chance, step_s, share) for share in (0.45, 0.25, 0.25, 0.25)]
        self._spikes = Spikes(chance)
        self._faults = Faults(chance, step_s)
        self._size = chance.spread(1, 1e6)

    def chunk(self, steps: int) -> Rates:
        """Return the next *steps* steps; the first chunk should span a day, to show usual rates."""
        seconds = (self._next + np.arange(steps)) * self._step_s
        clock = Clock(seconds[:, None], self._step_s)
        self._next += steps
        rhythm = self._rhythm.chunk(clock)
        noise = self._noise.chunk(rhythm)
        level = self._level.chunk(clock) + self._regimes.chunk(steps)
        rate = np.exp(np.clip(rhythm + noise + level, -9, 7))
        waver = np.clip(1 + 0.1 * self._chance.noise(steps), 0.3, None)
        rate = np.where(self._floor > 0, 0.5 * rate + self._floor * waver, rate) * self._base
        rate += self._bursts.chunk(clock, rhythm) * np.where(self._quiet, 1, 0.7)
        rate += self._spikes.chunk(clock) * np.where(self._quiet, 0.5, 1)
        for plan in self._plans:
            rate += plan.chunk(clock, self._rhythm.weekend(clock)) * np.where(self._quiet, 1, 0.8)
        return self._faults.chunk(rate) * self._size
