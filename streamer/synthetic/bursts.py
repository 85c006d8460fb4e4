"""Additions to the usual rate: random transfers, spikes, and scheduled bursts."""

from __future__ import annotations

import numpy as np

from streamer.core.types import DAY_S, HOUR_S
from streamer.synthetic.random_source import Bools, Chance, Clock, Floats

CROWDED = 0.5  # the maximum probability that a step begins a burst


class Bursts:
    """
    Random transfers with Pareto-distributed lengths.

    For some flows each transfer makes others more likely for a while, as in a Hawkes process
    (1971).
    """

    def __init__(self, chance: Chance, step_s: int) -> None:
        self._chance = chance
        often = np.where(chance.some(0.55), chance.spread(0.1, 30), 0)  # bursts per day
        self._often = often * step_s / DAY_S
        # scale of the length, in steps
        self._length = chance.spread(step_s / HOUR_S / 2, 4) * HOUR_S / step_s
        self._tail = chance.uniform(1.1, 2.5)
        self._height, self._varies = chance.spread(0.3, 30), chance.uniform(0.1, 1.2)
        self._fades = np.where(chance.some(0.3), np.exp(-1 / np.maximum(self._length, 0.3)), 1)
        self._rough = chance.uniform(0, 0.5)
        self._by_level = np.where(chance.some(0.5), chance.uniform(0, 1), 0)
        # how strongly one burst triggers others
        self._again = np.where(chance.some(0.3), chance.spread(0.5, 30), 0)
        self._calms = np.exp(-1 / (chance.spread(1, 20) * np.maximum(self._length, 1)))
        self._left, self._now, self._unrest = np.zeros((3, chance.flows))

    def chunk(self, clock: Clock, rhythm: Floats) -> Floats:
        """Return the rates of T steps, (T, N)."""
        bursts = np.empty_like(rhythm)
        rng = self._chance.rng
        for step in range(len(bursts)):
            chance = np.minimum(self._often * (1 + self._again * self._unrest), CROWDED)
            begins = (rng.random(self._now.size) < chance) & (self._left <= 0)
            self._unrest = self._unrest * self._calms + begins
            if begins.any():
                length = self._length * (rng.pareto(self._tail) + 0.3)
                height = self._height * np.exp(self._varies * self._chance.noise())
                self._left = np.where(begins, np.minimum(length, 2 * clock.day_steps), self._left)
                self._now = np.where(begins, height, self._now)
            bursts[step] = self._now * np.clip(self._left, 0, 1)
            self._now = self._now * self._fades
            self._left = self._left - 1
        bursts *= np.exp(self._rough * self._chance.noise(len(bursts)))
        bursts *= np.exp(self._by_level * np.clip(rhythm, -2, 2))
        return bursts


class Spikes:
    """Single steps far above the rest."""

    def __init__(self, chance: Chance) -> None:
        self._rng = chance.rng
        self._often = np.where(chance.some(0.4), chance.spread(0.0005, 0.08), 0)
        self._tail, self._height = chance.uniform(1.1, 3), chance.spread(0.3, 5)

    def chunk(self, clock: Clock) -> Floats:
        """Return the rates of T steps, (T, N)."""
        shape = len(clock.second), self._often.size
        heights = (1 + self._rng.pareto(self._tail, shape)) * self._height
        return np.where(self._rng.random(shape) < self._often, np.minimum(heights, 60), 0)


class Plan:
    """Scheduled bursts: backups, reports, polls."""

    HOURS: tuple[float, ...] = (0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 24, 24, 24, 24, 168)
    TURNS = 257  # random occurrences that are drawn in advance, and reused cyclically

    def __init__(self, chance: Chance, step_s: int, share: float) -> None:
        self._chance = chance
        self._has = chance.some(share)
        self._every = chance.pick(self.HOURS) * HOUR_S
        aligned = np.where(chance.some(0.7), chance.pick((300, 900, 1800, 3600)), step_s)
        begins = np.floor(chance.uniform(0, 1) * self._every / aligned) * aligned
        self._offset = begins + np.where(chance.some(0.5), chance.uniform(0, 60), 0)
        lasts = chance.spread(0.3 * min(step_s, 300), 4 * HOUR_S)
        self._lasts = np.minimum(lasts, 0.5 * self._every)
        self._height, self._varies = chance.spread(0.3, 60), chance.uniform(0.02, 0.6)
        self._rough = np.full(chance.flows, 0.1)  # noise within a burst
        self._skips = np.where(chance.some(0.5), 0, chance.uniform(0, 0.35))
        self._jitter = np.where(chance.some(0.6), 0, chance.spread(10, 1200))
        self._longer = np.where(chance.some(0.5), 0.03, chance.uniform(0, 0.5))
        self._workdays = chance.some(0.25)
        moves = np.where(chance.some(0.3), chance.spread(3, 60), np.inf) * DAY_S
        self._moves = moves / self._every  # occurrences between two changes of the schedule
        self._moved = np.where(chance.some(0.5), aligned, chance.uniform(0, 0.5) * self._every)
        self._drawn = chance.noise(3, self.TURNS)  # random deviations of the occurrences
        self._went = chance.rng.random((self.TURNS, chance.flows)) >= self._skips

    def chunk(self, clock: Clock, weekend: Bools) -> Floats:
        """Return the rates of T steps, (T, N)."""
        turn = np.floor((clock.second - self._offset) / self._every).astype(np.int64)
        total = np.zeros(turn.shape)
        for back in (0, 1):  # a late or long burst extends into the next period
            at = (turn - back) % self.TURNS, np.arange(turn.shape[1])
            tall, late, long = (draw[at] for draw in self._drawn)
            moved = np.floor((turn - back) / self._moves) * self._moved % (0.5 * self._every)
            begin = (turn - back) * self._every + self._offset + moved + self._jitter * late
            end = begin + self._lasts * np.exp(self._longer * long)
            end = np.minimum(end, clock.second + clock.step_s)
            share = np.clip(end - np.maximum(begin, clock.second), 0, None) / clock.step_s
            total += share * self._height * np.exp(self._varies * tall) * self._went[at]
        rough = np.exp(self._rough * self._chance.noise(len(total)))
        return total * rough * self._has * ~(self._workdays & weekend)
