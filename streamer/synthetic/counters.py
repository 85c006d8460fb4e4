"""Generated traffic as counters of a collector: they grow, wrap and reset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.types import DAY_S
from streamer.synthetic.daily import DailyJobs
from streamer.synthetic.flows import Traffic
from streamer.synthetic.random_source import Floats, Rates

RATE_MAX = 1e10  # bytes a second: the maximum rate of these flows
SHORT_SHARE = 0.2  # share of flows with 32 bits, if 32 bits suffice for a step and a half
LATE_S = 1.0  # each device is read up to this long after the step's end


class Poll(NamedTuple):
    """M readings of one step, ordered by time."""

    time: Floats  # epoch seconds
    flow: NDArray[np.intp]  # index of the name
    value: NDArray[np.uint64]


class Counters:
    """
    Byte counters of *flows* interfaces, read once a step from *start_s* on, endlessly.

    *resets* is the probability per day that a device restarts from zero; *duplicates* is the share
    of readings that are sent twice; *daily_jobs* is the share of flows with a burst at the same
    time each day.
    """

    def __init__(  # noqa: PLR0913 - each is a fault that can be set separately
        self,
        rng: np.random.Generator,
        flows: int,
        step_s: int,
        start_s: int,
        *,
        resets: float = 0.02,
        duplicates: float = 0.0,
        daily_jobs: float = 0.0,
    ) -> None:
        self._rng, self._step_s, self._step = rng, step_s, start_s // step_s
        self._resets, self._duplicates = resets * step_s / DAY_S, duplicates
        self._traffic = Traffic(rng, flows, step_s, self._step)
        self._jobs = DailyJobs(rng, flows, daily_jobs, step_s) if daily_jobs else None
        self._steps = max(DAY_S // step_s, 1)
        self._chunk = self._rates(self._step)
        fits = 1.5 * step_s * np.nanmax(self._chunk, axis=0, initial=1) < 2**32
        short = fits & (rng.random(flows) < SHORT_SHARE)
        self.names = [name(number) for number in range(flows)]
        self.bits = np.where(short, 32, 64).astype(np.uint8)
        self._mask = np.where(short, 2**32 - 1, 2**64 - 1).astype(np.uint64)
        self._value = rng.integers(0, 2**64 - 1, flows, np.uint64) & self._mask
        self._delay = rng.uniform(0, min(LATE_S, step_s / 4), flows)
        self._order = np.argsort(self._delay)

    def __iter__(self) -> Iterator[Poll]:
        """Yield one step after another; the next reading includes the bytes of a missing one."""
        while True:
            for rates in self._chunk:
                self._step += 1
                yield self._read(rates)
            self._chunk = self._rates(self._step)

    def _rates(self, first: int) -> Rates:
        """The rates of the next day of steps, whose first one is *first*."""
        rates = self._traffic.chunk(self._steps)
        if self._jobs is not None:
            rates = self._jobs.add(rates, first)
        return np.minimum(rates, RATE_MAX)

    def _read(self, rates: Floats) -> Poll:
        missing = np.isnan(rates)
        growth = np.rint(np.where(missing, 0, rates) * self._step_s).astype(np.uint64)
        reset = self._rng.random(rates.size) < self._resets
        self._value = np.where(reset, growth, self._value + growth) & self._mask
        times = np.where(missing, 0, 1)
        times[self._rng.random(rates.size) < self._duplicates] *= 2
        flow = np.repeat(self._order, times[self._order])
        return Poll(self._step * self._step_s + self._delay[flow], flow, self._value[flow])


def name(number: int) -> str:
    """Return the interface name of a number, such as `edge3/xe-0/0/7/out`."""
    port, side = divmod(number, 2)
    router, place = divmod(port, 24)
    return f"edge{router + 1}/xe-0/0/{place}/{'out' if side else 'in'}"
