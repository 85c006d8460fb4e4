"""Effects of link and collector on the traffic: limits, outages, losses."""

from __future__ import annotations

import numpy as np

from streamer.core.types import DAY_S, HOUR_S
from streamer.synthetic.random_source import Bools, Chance, Floats, Rates


class Faults:
    """Effects of link and collector on the traffic."""

    def __init__(self, chance: Chance, step_s: int) -> None:
        self._chance = chance
        self._capped, self._head_room = chance.some(0.1), chance.uniform(0.8, 1.5)
        down = np.where(chance.some(0.25), chance.spread(0.02, 0.5), 0)
        self._outages = Holes(chance, down * step_s / DAY_S, 300 / step_s, 6 * HOUR_S / step_s)
        # share of the rate that remains during an outage
        self._trickle = np.where(chance.some(0.7), 0, 0.05)
        self._least = np.where(chance.some(0.12), chance.spread(0.05, 2), 0)
        # packets in a usual step
        self._packets = np.where(chance.some(0.2), chance.spread(3, 300), 0)
        self._lost = np.where(chance.some(0.25), chance.spread(0.002, 0.15), 0)
        gaps = np.where(chance.some(0.2), 0.1, 0)
        self._gaps = Holes(chance, gaps * step_s / DAY_S, 300 / step_s, DAY_S / step_s)
        self._usual: tuple[Floats, Floats] | None = None

    def chunk(self, rate: Rates) -> Rates:
        """Return *rate* as it would be measured."""
        if self._usual is None:
            high, middle = np.quantile(rate, (0.9, 0.5), axis=0)
            self._usual = np.where(self._capped, high * self._head_room, np.inf), middle + 1e-9
        capacity, usual = self._usual
        steps = len(rate)
        rate = np.minimum(rate, capacity * (1 + 0.02 * self._chance.noise(steps)))
        rate = np.where(self._outages.chunk(steps), rate * self._trickle, rate)
        rate = np.where(rate < self._least * usual, 0, rate)
        packet = usual / np.maximum(self._packets, 1)
        counted = self._chance.rng.poisson(np.clip(rate / packet, 0, 1e7)) * packet
        rate = np.where(self._packets > 0, counted, rate)
        lost = self._chance.rng.random(rate.shape) < self._lost
        return np.where(lost | self._gaps.chunk(steps), np.nan, rate)


class Holes:
    """Gaps of *shortest* to *longest* steps; each step begins one with probability *often*."""

    def __init__(self, chance: Chance, often: Floats, shortest: float, longest: float) -> None:
        self._chance, self._often = chance, often
        self._lengths = shortest, longest
        self._left = np.zeros(chance.flows)

    def chunk(self, steps: int) -> Bools:
        """Return which of T steps are in a gap, (T, N)."""
        holes = np.empty((steps, self._left.size), bool)
        for step in range(steps):
            begins = (self._chance.rng.random(self._left.size) < self._often) & (self._left <= 0)
            self._left = self._left - 1
            if begins.any():
                self._left = np.where(begins, self._chance.spread(*self._lengths), self._left)
            holes[step] = self._left > 0
        return holes
