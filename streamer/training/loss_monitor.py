"""
Tracks the loss of published forecasts over time, as input of drift detection.

Each flow's loss is divided by its own running mean, so 1 is the usual value for every flow; the
output is the mean over flows and over an hour.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from streamer.core.network.pinball import pinball_loss
from streamer.core.types import DAY_S, HOUR_S, Forecasts
from streamer.training.history import NEVER, Lanes

HORIZONS_MAX = 12
USUAL_MIN = 24  # losses of a flow before it is included
SURPRISE_MAX = 5.0  # upper limit of one relative loss


class LossMonitor:
    """The latest forecasts of F flows, until the steps that they forecast have closed."""

    def __init__(
        self, flows: int, horizons: int, quantiles: tuple[float, ...], step_s: int
    ) -> None:
        self._step_s, self._horizons = step_s, min(horizons, HORIZONS_MAX)
        self._levels = np.array(quantiles, np.float32)
        shape = flows, self._horizons
        self._forecasts = np.zeros((*shape, self._horizons, len(quantiles)), np.float32)
        self._made_after = np.full(shape, NEVER, np.int64)
        self._usual = np.zeros(flows)  # each flow's running mean of its losses
        self._losses = np.zeros(flows, np.int64)  # number of losses in that mean
        self._hour_s = max(HOUR_S, step_s)
        self._hours: dict[int, tuple[float, int]] = {}  # sums and numbers of relative losses

    def settle(self, lanes: Lanes, places: NDArray[np.intp], made: Forecasts) -> None:
        """Score stored forecasts against the closed steps, then store the new forecasts."""
        steps = made.made_at[places] // self._step_s - 1
        rates = made.rate[places]
        ago = np.arange(1, self._horizons + 1)
        at = (steps[:, None] - ago) % self._horizons
        known = self._made_after[lanes[:, None], at] == steps[:, None] - ago
        known &= ~np.isnan(rates)[:, None]
        forecasts = self._forecasts[lanes[:, None], at, ago - 1]  # (n, horizons, quantiles)
        short = np.nan_to_num(rates)[:, None, None] - forecasts
        lost = pinball_loss(short, self._levels).mean(2) * known
        number = known.sum(1)
        losses = lost.sum(1) / np.maximum(number, 1)
        self._add(lanes[number > 0], steps[number > 0], losses[number > 0])
        self._forecasts[lanes, steps % self._horizons] = made.bands[places][:, : self._horizons]
        self._made_after[lanes, steps % self._horizons] = steps

    def hours(self) -> Iterator[float]:
        """Yield the mean relative loss of each completed hour, once."""
        newest = max(self._hours, default=0)
        for hour in sorted(self._hours):
            if hour < newest - 1:
                total, number = self._hours.pop(hour)
                yield total / number

    def _add(self, lanes: Lanes, steps: NDArray[np.int64], losses: NDArray[np.float64]) -> None:
        usual, number = self._usual[lanes], self._losses[lanes]
        counts = (number >= USUAL_MIN) & (usual > 0)
        surprise = np.minimum(losses[counts] / usual[counts], SURPRISE_MAX)
        hours = steps[counts] * self._step_s // self._hour_s
        for hour in np.unique(hours).tolist():
            here = hours == hour
            total, many = self._hours.get(hour, (0.0, 0))
            self._hours[hour] = total + float(surprise[here].sum()), many + int(here.sum())
        gain = np.maximum(self._step_s / DAY_S, 1 / (number + 1))
        self._usual[lanes] = usual + gain * (losses - usual)
        self._losses[lanes] = number + 1
