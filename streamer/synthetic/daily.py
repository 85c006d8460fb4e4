"""Daily jobs: a short burst at the same time each day, as of backups and reports."""

from __future__ import annotations

import numpy as np

from streamer.core.types import DAY_S
from streamer.synthetic.random_source import Chance, Floats, Rates


class DailyJobs:
    """
    Bursts that are added to the rates of a *share* of the flows, one a day and flow.

    A burst is many times the flow's usual rate, lasts some minutes and begins at the flow's own
    time of the day, up to a minute early or late. Some days are skipped.
    """

    SLOT_S = 900  # jobs begin a little after a quarter of an hour …
    BEGIN_S = 180.0
    LASTS_S = (240.0, 540.0)  # … and end before the next one
    JITTER_S = 30.0  # standard deviation of the beginning
    SKIPS = 0.03  # share of days without the job
    TIMES = (30.0, 120.0)  # of the usual rate, as a mean over the slot
    VARIES = 0.15  # standard deviation of the logarithm of the height

    def __init__(self, rng: np.random.Generator, flows: int, share: float, step_s: int) -> None:
        chance = Chance(rng, flows)
        self._chance, self._step_s = chance, step_s
        self._has = chance.some(share)
        slots = rng.integers(0, DAY_S // self.SLOT_S, flows)
        self._begin = slots * self.SLOT_S + self.BEGIN_S
        self._lasts = chance.uniform(*self.LASTS_S)
        self._height = chance.spread(*self.TIMES) * self.SLOT_S / self._lasts
        self._usual: Floats | None = None
        self._today: dict[int, tuple[Floats, Floats]] = {}

    def add(self, rates: Rates, first: int) -> Rates:
        """Return *rates*, (steps, flows) from step *first* on, with the jobs of these steps."""
        if self._usual is None:  # the first chunk shows the usual rates
            self._usual = np.nan_to_num(np.nanmedian(rates, axis=0), nan=0.0)
        second = (first + np.arange(len(rates)))[:, None] * self._step_s
        bursts = np.zeros(rates.shape)
        for day in range(int(second[0, 0]) // DAY_S - 1, int(second[-1, 0]) // DAY_S + 1):
            late, height = self._drawn(day)
            begin = day * DAY_S + self._begin + late
            end = np.minimum(begin + self._lasts, second + self._step_s)
            covered = np.clip(end - np.maximum(begin, second), 0, None) / self._step_s
            bursts += covered * height
        return rates + bursts * self._usual

    def _drawn(self, day: int) -> tuple[Floats, Floats]:
        """How late the jobs of *day* are, in seconds, and their height; 0: skipped."""
        if day not in self._today:
            went = self._has & ~self._chance.some(self.SKIPS)
            height = self._height * np.exp(self.VARIES * self._chance.noise()) * went
            self._today[day] = self.JITTER_S * self._chance.noise(), height
            for other in [each for each in self._today if each < day - 1]:
                del self._today[other]
        return self._today[day]
