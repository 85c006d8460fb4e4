"""
Readings and rows to forecasts: the stages, in their order.

The pipeline has no partitions and saves nothing. `Pipeline.run` changes the rows that it is
given, and yields the forecasts of each step that the readings close.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts import lifecycle
from streamer.core.alerts.lifecycle import AlertStage
from streamer.core.alerts.peak import Outlook
from streamer.core.alerts.records import Context
from streamer.core.alerts.rules import RuleConfig
from streamer.core.columns import Columns, Rows
from streamer.core.features import grid, units, verdicts
from streamer.core.features.grid import GridConfig
from streamer.core.features.inputs import Inputs
from streamer.core.features.scale import Bools, Floats, Steps
from streamer.core.features.verdicts import Verdict
from streamer.core.network.config import Model, ModelConfig, PeakModel
from streamer.core.predict import forecast, peaks, selection
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.predict.score_totals import ScoreTotals
from streamer.core.types import PEAK_QUANTILES, Alert, Forecasts, Notice, Readings, RuleScore, Score

# Called with the flows, steps, rates and network inputs of each closed step.
InputHook = Callable[[Sequence[str], NDArray[np.int64], NDArray[np.float64], Inputs], None]
# Called with the index of the rows in their wave, the rows, inputs, outputs, rates and steps.
OutputHook = Callable[[NDArray[np.intp], Rows, Inputs, Floats, NDArray[np.float64], Steps], None]

STAGES = (  # what a wave of readings passes through, in order; printed by the architecture page
    units.convert,  # another unit of the same kind becomes the flow's own
    verdicts.resolve_held,  # the new reading decides about the one that waits
    grid.match,  # a verdict on each reading, and its share of the steps that it touches
    grid.close,  # for each closed step, in order: its rate
    forecast.prepare,  # the row learns from the step; the network's inputs
    Model.step,  # the network: quantiles, and the next state
    forecast.postprocess,  # conformal widths, ensemble, selection: bands
    peaks.predict,  # quantiles of the highest rate in each span
    ScoreTotals.take,  # the scores of periods that ended
    AlertStage.take,  # each rule in force moves its alert
    grid.store_open,  # what belongs to the step that stays open
)


class Pipeline:
    """One engine's stages, and what they report beside forecasts."""

    def __init__(  # noqa: PLR0913 - each is a part, or a hook
        self,
        config: GridConfig,
        spec: ForecastSpec,
        scores_every_s: int,
        input_hook: InputHook | None = None,
        rules: Sequence[RuleConfig] = (),
        peak_head: PeakModel | None = None,
    ) -> None:
        """
        *rules* are those of alerts in force; without any, rows have no columns for them.

        *input_hook* observes what the network reads, for a backtest of baselines. *peak_head*
        forecasts the highest rate in each span; without it, its quantiles are those of the bands.
        """
        self._peak_head = peak_head
        self._config = config
        self._spec = spec
        self._scores_every_s = scores_every_s
        self._input_hook = input_hook
        self.alerts = AlertStage(rules, spec.horizons, spec.step_s, scores_every_s)
        self.begin()

    def columns(self, model: ModelConfig) -> Columns:
        """The columns that the stages keep in a row."""
        rules = lifecycle.columns(self.alerts.rules)
        return grid.COLUMNS + forecast.columns(model, self._spec) + rules

    def begin(self) -> None:
        """Drop the scores, alerts and notices that were not drained."""
        self.alerts.begin()
        self._totals = ScoreTotals(self._spec.step_s, self._scores_every_s)
        self._notices: list[Notice] = []

    def drain(self) -> tuple[list[Score], list[Notice]]:
        """
        The scores of periods that ended since `begin`, and the notices; both start again.

        Alerts are drained before, with `drain_alerts`.
        """
        scores, notices = self._totals.scores(), self._notices
        self.begin()
        return list(scores), notices

    def drain_alerts(self) -> tuple[list[Alert], list[RuleScore], bool]:
        """Alerts since `begin`, the counts of their ledger, and whether a row was reset."""
        stage = self.alerts
        drained = stage.alerts, stage.ledger.scores(), stage.wiped
        stage.begin()
        return drained

    def run(
        self,
        rows: Rows,
        wave: Readings,
        model: Model,
        counts: Counter[str],
        observe: OutputHook | None = None,
    ) -> Iterator[Forecasts]:
        """
        Take *wave* into *rows*, (B,), one reading a row; all rows are of *model*'s generation.

        *counts* is updated with the verdicts. The rows are complete when the iterator ends.
        """
        everything = np.arange(len(rows))
        units.convert(rows, wave, counts)
        taken, odd = verdicts.resolve_held(rows, wave, self._config.rate_max)
        if taken.any():  # held readings are older than the ones that agree with them
            index = np.flatnonzero(taken)
            older, newer = rows[index], wave.take(index)
            held = verdicts.held_wave(older, newer)
            older["held"] = verdicts.Held.NOTHING
            yield from self._advance(older, held, model, counts, index, observe, trusted=True)
            rows[index] = older
        if odd.any():
            counts["verdict.odd"] += int(odd.sum())
            alternating = verdicts.leave_out(rows, odd)
            self._notices += [Notice("two_sources", wave.flow[i]) for i in alternating.tolist()]
        yield from self._advance(rows, wave, model, counts, everything, observe, trusted=False)
        rows["offset"] = wave.offset + 1

    def _advance(  # noqa: PLR0913 - a wave, and who observes it
        self,
        rows: Rows,
        wave: Readings,
        model: Model,
        counts: Counter[str],
        index: NDArray[np.intp],
        observe: OutputHook | None,
        *,
        trusted: bool,
    ) -> Iterator[Forecasts]:
        """Forecast after each step that *wave* closes; *index* are its rows in the full one."""
        config = self._config
        updates = grid.match(rows, wave, config, trusted=trusted)
        for nth in range(int(updates.steps.max(initial=0))):
            due = np.flatnonzero(updates.steps > nth)
            every = len(due) == len(rows)  # the usual case needs no copy
            closing = rows if every else rows[due]
            rates, steps = grid.close(closing, grid.take(updates, due), nth, config)
            now = (wave, index) if every else (wave.take(due), index[due])
            made = self._forecast(closing, rates, steps, *now, model, observe)
            if not every:
                rows[due] = closing
            yield made
        other = (updates.verdicts == Verdict.FIRST) & (rows["kind"] != 0)
        self.alerts.wiped |= bool(other.any())
        rows[other] = np.zeros((), rows.dtype)  # a reading of another kind begins another flow
        forecast.restart(rows, updates.verdicts == Verdict.GAP)
        grid.store_open(rows, wave, updates, config, trusted=trusted)
        for verdict, number in enumerate(np.bincount(updates.verdicts).tolist()):
            if number:
                counts[f"verdict.{Verdict(verdict).name.lower()}"] += number

    def _forecast(  # noqa: PLR0913 - closed steps, and who observes them
        self,
        rows: Rows,
        rates: NDArray[np.float64],
        steps: NDArray[np.int64],
        wave: Readings,
        index: NDArray[np.intp],
        model: Model,
        observe: OutputHook | None,
    ) -> Forecasts:
        """The forecasts of rows whose *steps* have just closed with *rates*."""
        awaited = self.alerts.before(rows, rates) if self.alerts.rules else None
        inputs = forecast.prepare(rows, rates, steps, self._spec)
        if self._input_hook is not None:
            self._input_hook(wave.flow, steps, rates, inputs)
        outputs, rows["state"] = model.step(inputs, rows["state"])
        if observe is not None:
            observe(index, rows, inputs, outputs, rates, steps)
        bands = forecast.postprocess(rows, outputs, inputs, steps, self._spec)
        highest = peaks.predict(rows, outputs, inputs, bands, steps, self._spec, self._peak_head)
        self._totals.take(rows, steps, model.served_by, model.generation)
        unit, served_by = grid.unit_of_rate(rows), selection.names(rows, model.served_by)
        before = grid.forecast_before(rows, steps)
        if awaited is not None:
            context = Context(
                wave.partition, wave.flow, unit, served_by, model.generation, wave.labels
            )
            spec = self._spec
            outlook = Outlook(bands, spec.quantiles, highest, spec.peaks, PEAK_QUANTILES)
            self._move_alerts(rows, rates, steps, outlook, awaited, context, ~before)
        made = Forecasts(
            partition=wave.partition,
            flow=wave.flow,
            unit=unit,
            made_at=(steps + 1) * self._spec.step_s,
            rate=rates,
            bands=bands,
            peaks=highest,
            served_by=served_by,
            generation=model.generation,
            labels=wave.labels,
        )
        return made if not before.any() else made.take(np.flatnonzero(~before))

    def _move_alerts(  # noqa: PLR0913 - as `AlertStage.take`
        self,
        rows: Rows,
        rates: NDArray[np.float64],
        steps: NDArray[np.int64],
        outlook: Outlook,
        awaited: tuple[Floats, Bools],
        context: Context,
        due: Bools,
    ) -> None:
        """Move the alerts of the rows that are *due*: a step that was forecast before is not."""
        if due.all():  # nearly always
            self.alerts.take(rows, rates, steps, outlook, awaited, context)
            return
        index = np.flatnonzero(due)
        some, band = rows[index], (awaited[0][index], awaited[1][index])
        made, of = outlook.take(index), context.take(index)
        self.alerts.take(some, rates[index], steps[index], made, band, of)
        rows[index] = some
