"""
Scores the baselines: each by itself, and their untrained mixture.

The forecasts of ten baselines would take more space than those of the network. So each is kept
only until its target steps have closed, and then reduced to the error per flow and horizon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.core.features import baselines, scale
from streamer.core.features.inputs import Inputs
from streamer.core.features.scale import Floats
from streamer.core.network.model import PRIOR, encode_horizons
from streamer.core.predict.forecast import ForecastSpec
from streamer.evaluation.metrics import UNTRAINED

# the last is the mixture of all that the untrained network computes
NAMES = (*baselines.NAMES, UNTRAINED)


class BaselineScorer:
    """
    Observes what an engine passes to its network, and scores every baseline.

    *columns* maps each flow to its column. Forecasts made after the steps from *first* up to, not
    including, *end* are scored; a step without a rate is not.
    """

    def __init__(
        self, columns: Mapping[str, int], outlook: ForecastSpec, first: int, end: int
    ) -> None:
        self._columns, self._first, self._end = columns, first, end
        horizons = np.arange(1, outlook.horizons + 1)
        self._shares = encode_horizons(horizons)[0].numpy()  # (anchors, H)
        self._ahead = np.arange(1, outlook.horizons + 1)
        ring = outlook.horizons, len(columns)
        # the step in each place of the ring of H steps
        self._made_after = np.full(ring, -1, np.int64)
        self._predicted = np.zeros((*ring, outlook.horizons, len(NAMES)), np.float32)
        self._missed = np.zeros((len(columns), outlook.horizons, len(NAMES)))
        self._judged = np.zeros((len(columns), outlook.horizons), np.int64)

    def observe(
        self,
        flow: Sequence[str],
        steps: NDArray[np.int64],
        rates: NDArray[np.float64],
        inputs: Inputs,
    ) -> None:
        """Process the network's inputs after *steps* closed with *rates*."""
        to = np.fromiter((self._columns[each] for each in flow), np.intp, len(flow))
        self._settle(to, steps, rates)
        due = np.flatnonzero((steps >= self._first) & (steps < self._end))
        if due.size:
            every = due.size == len(steps)
            predicted = baseline_predictions(inputs, self._shares)
            at = steps[due] % len(self._ahead), to[due]
            self._predicted[at] = predicted if every else predicted[due]
            self._made_after[at] = steps[due]

    @property
    def errors(self) -> dict[str, NDArray[np.float64]]:
        """Return each baseline's mean absolute error, (horizons, flows); NaN if none was scored."""
        with np.errstate(invalid="ignore"):
            errors = self._missed / np.where(self._judged > 0, self._judged, np.nan)[..., None]
        return {name: errors[..., place].T for place, name in enumerate(NAMES)}

    def _settle(
        self, to: NDArray[np.intp], steps: NDArray[np.int64], rates: NDArray[np.float64]
    ) -> None:
        """Score the forecasts of these steps against *rates*, at each horizon."""
        made_after = steps[:, None] - self._ahead
        at = made_after % len(self._ahead), to[:, None]
        judged = (self._made_after[at] == made_after) & ~np.isnan(rates)[:, None]
        if judged.any():
            predicted = self._predicted[(*at, self._ahead - 1)]  # (B, H, NAMES)
            missed = np.abs(predicted - rates[:, None, None])
            self._missed[to] += np.where(judged[..., None], missed, 0)
            self._judged[to] += judged


def baseline_predictions(inputs: Inputs, shares: Floats) -> Floats:
    """Return each baseline's forecasts of the coming steps, as rates: (B, H, NAMES)."""
    errors = inputs.errors @ shares  # (BASELINES, B, H)
    weights = np.exp(-PRIOR * (errors - errors.min(0)))
    mixed = (weights * inputs.ahead).sum(0) / weights.sum(0)
    z = np.concatenate((inputs.ahead, mixed[None])).transpose(1, 2, 0)
    return scale.rates(z, inputs.scale[:, None, None])
