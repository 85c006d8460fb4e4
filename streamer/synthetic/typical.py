"""The usual behaviour of a flow: rhythm, noise, slow changes."""

from __future__ import annotations

import numpy as np

from streamer.core.types import DAY_S, HOUR_S
from streamer.synthetic.random_source import Bools, Chance, Clock, Floats


class Rhythm:
    """The logarithm of a flow's typical rate at this hour of this day."""

    WAVES = 6

    def __init__(self, chance: Chance) -> None:
        self._rng = chance.rng
        flows, order = chance.flows, np.arange(1, self.WAVES + 1)
        decay = order ** -chance.uniform(0.4, 1.8)[:, None]
        self._strength = chance.rng.normal(size=(flows, self.WAVES)) * decay
        self._strength[:, 0] = np.where(chance.some(0.7), 1, 0.4)
        self._turn = chance.uniform(0, 2 * np.pi, self.WAVES)
        self._turn[:, 0] = 0
        self._begin = chance.uniform(0, 24)  # the hour at which the flow's day begins
        # the hour at which the working day begins
        self._rise = self._begin + chance.uniform(5, 11) + 2
        self._length = chance.uniform(6, 14)
        self._edges = chance.spread(0.15, 1.5), chance.spread(0.15, 2.5)
        self._lunch = np.where(chance.some(0.3), chance.uniform(0, 0.4), 0)
        blend = np.where(chance.some(0.5), 0, chance.uniform(0, 1))
        self._blend = np.where(chance.some(0.4), 1, blend)  # 1: waves, 0: working day
        flat = chance.some(0.2)
        self._depth = np.where(flat, chance.uniform(0, 0.1), chance.uniform(0.1, 1.3))
        # weekday of 1970-01-01: any day may be a Saturday
        self._weekday = chance.rng.integers(0, 7, flows)
        drop = np.where(chance.some(0.55), chance.uniform(-2.2, 0.1), 0)
        self._weekend_drop = drop * np.minimum(1, self._depth + 0.2)
        calmer = self._weekend_drop < -0.3
        self._weekend_depth = np.where(calmer, chance.uniform(0, 1), 1)
        self._holidays = np.where(chance.some(0.3), 0.02, 0)
        self._restless = chance.uniform(0, 0.25)  # how much the depth differs from day to day
        # schedule changes per day
        self._moves = np.where(chance.some(0.15), chance.spread(0.01, 0.15), 0)
        self._moved = np.zeros(flows)  # total shift of the day's beginning, in hours
        self._today: tuple[int, Floats, Bools, Floats] | None = None
        hours = np.arange(0, 24, 0.25)[:, None]
        shapes = self._waves(hours), self._work(hours)
        self._usual = [(shape.mean(0), shape.std(0) + 1e-9) for shape in shapes]

    def weekend(self, clock: Clock) -> Bools:
        """Return whether it is the flow's weekend, (T, N)."""
        return (clock.day + self._weekday) % 7 >= 5

    def chunk(self, clock: Clock) -> Floats:
        """Return the rhythm of T steps, (T, N)."""
        depth, holiday, moved = self._days(clock)
        hour = clock.hour - moved
        parts = [self._waves(hour), self._work(hour)]
        waves, work = ((p - mean) / sd for p, (mean, sd) in zip(parts, self._usual, strict=True))
        shape = self._depth * (self._blend * waves + (1 - self._blend) * work)
        weekend = self.weekend(clock)
        shape = shape * depth * np.where(weekend, self._weekend_depth, 1)
        shape = shape + self._weekend_drop * weekend
        rhythm: Floats = np.where(holiday, 0.3 * shape + self._weekend_drop, shape)
        return rhythm

    def _days(self, clock: Clock) -> tuple[Floats, Bools, Floats]:
        """Return the daily variations: the depth, whether it is a holiday, and the beginning."""
        days = []
        for day in np.unique(clock.day).tolist():
            if self._today is None or self._today[0] != day:
                depth = np.exp(self._rng.normal(size=self._depth.size) * self._restless)
                holiday = self._rng.random(self._depth.size) < self._holidays
                moves = self._rng.random(self._depth.size) < self._moves
                self._moved = self._moved + moves * self._rng.normal(0, 6, self._depth.size)
                self._today = day, depth, holiday, self._moved
            days.append(self._today[1:])
        which = (clock.day - clock.day[0])[:, 0]
        depths, holidays, moved = (np.array(each)[which] for each in zip(*days, strict=True))
        return depths, holidays, moved

    def _waves(self, hour: Floats) -> Floats:
        angle = 2 * np.pi * (hour - self._begin) / 24
        waves = range(self.WAVES)
        return sum(
            (self._strength[:, k] * np.cos((k + 1) * angle + self._turn[:, k]) for k in waves),
            np.zeros_like(angle),
        )

    def _work(self, hour: Floats) -> Floats:
        since = (hour - self._rise + 2) % 24 - 2
        rise, fall = self._edges
        work = logistic(since / rise) * logistic((self._length - since) / fall)
        lunch = np.exp(-0.5 * ((since - 0.45 * self._length) / 0.7) ** 2)
        load: Floats = work * (1 - self._lunch * lunch)
        return load


class Noise:
    """Sums of noises with different correlation times, from none to four days."""

    MEMORIES_S = np.array([0, 900, HOUR_S, 4 * HOUR_S, DAY_S, 4 * DAY_S])

    def __init__(self, chance: Chance, step_s: int) -> None:
        self._chance = chance
        memory = self.MEMORIES_S / step_s
        keeps = np.where(memory > 0, np.exp(-1 / np.maximum(memory, 0.2)), 0)
        self._keeps = np.where((memory > 0) & (memory < 0.7), 0.2, keeps)[:, None]
        shares = chance.rng.dirichlet(np.full(memory.size, 0.7), chance.flows).T
        shares[-2:] *= 0.6
        self._shares = np.sqrt(shares / shares.sum(0))
        self._size = np.where(chance.some(0.2), chance.spread(0.02, 0.15), chance.spread(0.1, 1.1))
        self._tails = chance.pick((3.0, 3.0, 6.0, 50.0))  # degrees of freedom
        self._tailed = 0.5 * chance.some(0.6)
        self._by_level = np.where(chance.some(0.6), chance.uniform(-0.6, 0.3), 0)
        self._volatile = np.where(chance.some(0.5), chance.uniform(0, 0.4), 0)
        self._calm = float(np.exp(-4 * step_s / DAY_S))
        self._now = chance.noise(memory.size)
        self._unrest = chance.noise()

    def chunk(self, rhythm: Floats) -> Floats:
        """Return the noise, (T, N), scaled with the *rhythm* and with the volatility."""
        steps, flows = rhythm.shape
        noise, unrest = np.empty((2, steps, flows))
        fresh = np.sqrt(1 - self._keeps**2), np.sqrt(1 - self._calm**2)
        for step in range(steps):
            drawn = self._chance.noise(len(self._keeps) + 1)
            self._now = self._keeps * self._now + fresh[0] * drawn[:-1]
            self._unrest = self._calm * self._unrest + fresh[1] * drawn[-1]
            noise[step] = (self._shares * self._now).sum(0)
            unrest[step] = self._unrest
        tails = self._chance.rng.standard_t(self._tails, (steps, flows))
        tails /= np.sqrt(self._tails / (self._tails - 2))
        noise += tails * self._shares[0] * self._tailed
        noise *= np.exp(self._by_level * np.clip(rhythm, -2, 2) + self._volatile * unrest)
        return self._size * noise


class Level:
    """The logarithm of persistent changes: growth, and sudden shifts."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        trended = np.where(chance.some(0.4), chance.spread(0.02, 0.6), 0)
        self._trend = chance.noise() * trended / 30  # growth per day
        self._often = np.where(chance.some(0.4), chance.spread(0.02, 0.4), 0)  # shifts per day
        self._shift = 0.7 * chance.uniform(0.2, 1.2)
        self._now = np.zeros(chance.flows)

    def chunk(self, clock: Clock) -> Floats:
        """Return the level of T steps, (T, N); it is bounded."""
        steps = len(clock.second)
        often, trend = self._often / clock.day_steps, self._trend / clock.day_steps
        shifts = (self._chance.rng.random((steps, often.size)) < often) * self._shift
        moves = shifts * self._chance.noise(steps) + trend
        level = self._now + np.cumsum(moves, 0)
        self._now = np.clip(level[-1], -2.5, 2.5)
        return np.clip(level, -2.5, 2.5)


def logistic(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))
