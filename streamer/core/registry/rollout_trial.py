"""
The effect of a rollout on the error, measured on a sample of flows.

For STEPS steps after the rollout three forecasts are made of each sampled flow: one with
the old weights and their continued state; one with the new weights on the old state,
as if only the weights were replaced; and the one that is served, with the new weights on the
rebuilt state. Only the last is published.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.columns import Rows, Slots
from streamer.core.features.inputs import Inputs, select
from streamer.core.features.scale import Floats, Steps
from streamer.core.network.config import QUANTILES, Model
from streamer.core.types import RolloutReport

STEPS = 50
ROWS_MAX = 128  # batch size of the network
ENOUGH = 0.9  # share of the steps of all flows after which the measurement ends
PATIENCE = 3 * STEPS  # it also ends after so many steps of the fastest flow
HORIZONS_MAX = 12
MEDIAN = QUANTILES.index(0.5)
BEFORE, RAW, REPRIMED = range(3)


class RolloutComparison:
    """The sampled flows, identified by their slots, and the errors of their forecasts."""

    def __init__(self, before: Model, after: Model, slots: Slots, rows: Rows) -> None:
        """*rows* are those of *slots*, with the state that *before* has left."""
        self.models = (before, after)
        self.slots = slots[:ROWS_MAX]
        self._states = [rows["state"][:ROWS_MAX].copy() for _ in self.models]
        self._forecasts: NDArray[np.float32] | None = None  # forecast rates, once H is known
        self._steps = np.zeros(len(self.slots), np.int64)  # closed since the rollout
        self._age = rows["age"][:ROWS_MAX].astype(np.int64)
        self._last = rows["open"][:ROWS_MAX] - 1  # the newest closed step
        self._missed = np.zeros(3)  # the sums of errors of the three variants
        self._judged = 0  # the number of forecasts in each sum

    @property
    def over(self) -> bool:
        """Whether the measurement is complete."""
        if not len(self.slots):
            return True
        enough = np.minimum(self._steps, STEPS).sum() >= ENOUGH * STEPS * len(self._steps)
        return bool(enough or self._steps.max(initial=0) >= PATIENCE)

    def drop(self, slots: Slots) -> None:
        """Remove the flows at *slots*, which were evicted or revoked."""
        kept = ~np.isin(self.slots, slots)
        self.slots, self._steps = self.slots[kept], self._steps[kept]
        self._age, self._last = self._age[kept], self._last[kept]
        self._states = [state[kept] for state in self._states]
        self._forecasts = None if self._forecasts is None else self._forecasts[:, :, :, kept]

    def observe(  # noqa: PLR0913 - a closed step with all its data in the engine
        self,
        slots: Slots,
        rows: Rows,
        inputs: Inputs,
        served: Floats,
        rates: NDArray[np.float64],
        steps: Steps,
    ) -> None:
        """Score and forecast the closed *steps* of *rows* at *slots*; *served* is outputs, as z."""
        _, here, there = np.intersect1d(self.slots, slots, return_indices=True)
        others = rows["age"][there] != self._age[here] + 1  # the slot holds another flow now
        if others.any():
            self.drop(slots[there[others]])
            _, here, there = np.intersect1d(self.slots, slots, return_indices=True)
        if not len(here):
            return
        mine = select(inputs, there)
        horizons = min(HORIZONS_MAX, len(inputs.horizons))
        if self._forecasts is None:
            shape = 3, HORIZONS_MAX, horizons, len(self.slots)
            self._forecasts = np.full(shape, np.nan, np.float32)
        after_hole = here[steps[there] != self._last[here] + 1]
        self._forecasts[:, :, :, after_hole] = np.nan
        self._age[here], self._last[here] = rows["age"][there], steps[there]
        place = steps[there] % HORIZONS_MAX
        self._judge(here, place, rates[there], mine.scale)
        self._forecasts[:, place, :, here] = np.nan
        for variant, model in enumerate(self.models):
            outputs, state = model.step(mine, self._states[variant][here])
            self._states[variant][here] = state
            self._keep(variant, here, steps[there], outputs, mine)
        self._keep(REPRIMED, here, steps[there], served[:, there], mine)
        self._steps[here] += 1

    def outcome(self, pages: int, rows: int) -> RolloutReport:
        """The mean errors; None if no forecast was scored."""
        mean = self._missed / self._judged if self._judged else [None] * 3
        return RolloutReport(
            generation=self.models[1].generation,
            previous=self.models[0].generation,
            pages=pages,
            rows=rows,
            sampled=len(self.slots),
            judged=self._judged,
            error_before=mean[BEFORE],
            error_raw=mean[RAW],
            error_reprimed=mean[REPRIMED],
        )

    def _judge(self, here: Slots, place: Steps, rates: NDArray[np.float64], size: Floats) -> None:
        """Compare the forecasts for this step with its rates, on the flows' own scales."""
        assert self._forecasts is not None
        forecast = self._forecasts[:, place, :, here]  # (B, 3, horizons)
        found = np.log1p(4 * rates / size)[:, None, None]
        missed = np.abs(np.log1p(4 * forecast / size[:, None, None]) - found)
        early = self._steps[here] < STEPS
        sound = np.isfinite(missed).all(axis=1) & early[:, None]  # for all three, (B, horizons)
        self._missed += np.where(sound[:, None], missed, 0).sum(axis=(0, 2), dtype=np.float64)
        self._judged += int(sound.sum())

    def _keep(self, variant: int, here: Slots, steps: Steps, outputs: Floats, mine: Inputs) -> None:
        assert self._forecasts is not None
        rates = (np.exp(outputs[MEDIAN]) - 1) * mine.scale[:, None] / 4
        for nth in range(self._forecasts.shape[2]):
            place = (steps + mine.horizons[nth]) % HORIZONS_MAX
            self._forecasts[variant, place, nth, here] = np.maximum(rates[:, nth], 0)
