"""
The recent steps of each flow: its rates, and what was predicted for them.

A row is a ring of steps, at their number modulo its length, of 8 bytes a step: the rate and three
quantiles that were forecast for it `ahead` steps before. So a ring reaches `ahead` steps into the
future. All rings have the same length: it is as long as wanted while flows are few, and shorter
when they are many, so that all of them fit in `bytes_max`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.console.codes import MISSING, Codes

Slots = NDArray[np.intp]
Steps = NDArray[np.int64]

STEP_BYTES = 8
RING_MIN = 32  # steps beyond `ahead`
ROWS_FIRST = 256
GROWTH = 4  # times as many rows when there are too few
MOVED_AT_ONCE = 4096  # rows, when rings change their length


class Scored(NamedTuple):
    """What was known of a step before it came, as codes: quantiles, and the rate *ahead* before."""

    forecast: Codes  # (n, 3)
    last: Codes  # (n,)


class History:
    """The rings of all flows; rows are slots of the caller's table."""

    def __init__(self, bytes_max: int, steps_wanted: int, ahead: int, rows_max: int) -> None:
        self.ahead = ahead
        self._bytes_max, self._wanted, self._rows_max = bytes_max, steps_wanted, rows_max
        rows = min(ROWS_FIRST, rows_max)
        self.length = self._length(rows)
        self.newest: Steps = np.full(rows, -1, np.int64)  # of each row: its newest step
        self._oldest = 1 << 62  # the first step that was ever added
        self._rate: Codes = np.zeros((rows, self.length), np.uint16)
        self._forecast: Codes = np.zeros((rows, self.length, 3), np.uint16)

    @property
    def nbytes(self) -> int:
        """Bytes of all rings."""
        return self._rate.nbytes + self._forecast.nbytes

    def reserve(self, rows: int) -> None:
        """Make room for so many rows; rings may become shorter."""
        if rows <= len(self.newest):
            return
        room = min(self._rows_max, max(rows, GROWTH * len(self.newest)))
        self._move(room, self._length(room))

    def clear(self, slots: Slots) -> None:
        """Forget the rows at *slots*."""
        self.newest[slots] = -1
        self._rate[slots] = MISSING
        self._forecast[slots] = MISSING

    def add(self, slots: Slots, steps: Steps, rates: Codes, forecasts: Codes) -> Scored:
        """
        Add a step to each of *slots*, which occur once; returns what was known of these steps.

        *steps* must be above the rows' newest ones; steps between them are missing. *forecasts*,
        (n, 3), are of the step `ahead` steps later.
        """
        newest, length = self.newest[slots], self.length
        self._oldest = min(self._oldest, int(steps.min()))
        gaps = np.flatnonzero((newest >= 0) & (steps - newest > 1))
        for row in gaps.tolist():
            self._skip(int(slots[row]), int(newest[row]) + 1, int(steps[row]))
        at = steps % length
        scored = Scored(self._forecast[slots, at], self._rate[slots, (steps - self.ahead) % length])
        self._rate[slots, at] = rates
        self._forecast[slots, (steps + self.ahead) % length] = forecasts
        self.newest[slots] = steps
        return scored

    def rates(self, slots: Slots, count: int) -> Codes:
        """The newest *count* steps of each of *slots*, oldest first, (n, count)."""
        back = np.arange(count - 1, -1, -1)
        found = self._rate[slots[:, None], (self.newest[slots][:, None] - back) % self.length]
        return np.where(back < self._kept, found, MISSING).astype(np.uint16)

    def whole(self, slot: int) -> tuple[Steps, Codes, Codes]:
        """All of a row: steps, rates and forecasts, oldest first; the last `ahead` are to come."""
        newest = int(self.newest[slot])
        steps = np.arange(newest - self._kept + 1, newest + self.ahead + 1)
        at = steps % self.length
        rates = np.where(steps <= newest, self._rate[slot, at], MISSING).astype(np.uint16)
        return steps, rates, self._forecast[slot, at]

    @property
    def _kept(self) -> int:
        return self.length - self.ahead

    def _skip(self, slot: int, first: int, after: int) -> None:
        """Mark the steps from *first* to before *after* as missing, and forecasts made in them."""
        count = min(after - first, self.length)
        missing = np.arange(after - count, after)
        self._rate[slot, missing % self.length] = MISSING
        self._forecast[slot, (missing + self.ahead) % self.length] = MISSING

    def _length(self, rows: int) -> int:
        afforded = self._bytes_max // (STEP_BYTES * rows)
        return int(min(self._wanted, max(afforded, RING_MIN))) + self.ahead

    def _move(self, rows: int, length: int) -> None:
        """Copy what fits to rings of another number and length."""
        kept = min(length, self.length)
        kept = min(kept, max(1, int(self.newest.max()) - self._oldest + 1 + self.ahead))
        rate = np.zeros((rows, length), np.uint16)
        forecast = np.zeros((rows, length, 3), np.uint16)
        back = np.arange(self.ahead - kept + 1, self.ahead + 1)
        for first in range(0, len(self.newest), MOVED_AT_ONCE):
            part = slice(first, first + MOVED_AT_ONCE)
            newest = self.newest[part]
            row = np.arange(len(newest))[:, None]
            steps = newest[:, None] + back
            rate[part][row, steps % length] = self._rate[part][row, steps % self.length]
            forecast[part][row, steps % length] = self._forecast[part][row, steps % self.length]
        empty = np.full(rows - len(self.newest), -1, np.int64)
        self.newest = np.concatenate((self.newest, empty))
        self._rate, self._forecast, self.length = rate, forecast, length
