"""
Runs the daemon's engine on a file of readings in one process, and keeps its forecasts.

The readings become records exactly as the feeder makes them; only the log in between is
omitted. Forecasts and rates are stored as grids of steps and flows. The baselines are scored
during the run (`baselines.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core.engine import Engine
from streamer.core.predict.forecast import ForecastSpec
from streamer.core.types import DAY_S, PEAK_QUANTILES, Forecasts, Partition, Record, TurnResult
from streamer.core.wire.parsed import Reading
from streamer.evaluation.baselines import BaselineScorer
from streamer.evaluation.coldstart import ages, cold_start
from streamer.evaluation.metrics import Tally, tally
from streamer.evaluation.peaks import PeakScore, score

BATCH = 2_000  # readings in a record
CELLS_MAX = 50_000_000  # steps times flows: each cell takes 240 bytes
STEPS_A_READING_MAX = 100  # the grid of a file with more steps per reading is mostly empty


@dataclass(frozen=True, slots=True)
class Extent:
    """The flows and the time span of a file."""

    flows: tuple[str, ...]  # the names
    first: int  # the step of the first reading
    last: int  # the step of the last reading
    readings: int


@dataclass(frozen=True, slots=True)
class BacktestForecasts:
    """The forecasts and rates of a file."""

    extent: Extent
    step_s: int
    quantiles: tuple[float, ...]
    units: tuple[str, ...]  # the unit of each flow's rates
    rates: NDArray[np.float64]  # (steps, flows); NaN if missing
    origin: int  # the first step with kept forecasts
    forecasts: NDArray[np.float32]  # (steps - origin, flows, horizons, quantiles); NaN: none
    spans: tuple[int, ...]  # in steps, whose highest rate was forecast
    peaks: NDArray[np.float32]  # (steps - origin, flows, spans, PEAK_QUANTILES); NaN: none
    # (horizons, flows) mean absolute error of each baseline
    baselines: dict[str, NDArray[np.float64]]
    first_steps: NDArray[np.int64]  # (flows,) the first step of each; -1: none closed
    early: NDArray[np.float32]  # (ages, flows, horizons) medians of new flows

    @property
    def made_at(self) -> NDArray[np.int64]:
        """The time of each kept forecast: the end of the step just closed."""
        kept = np.arange(self.origin, len(self.rates))
        return (self.extent.first + kept + 1) * self.step_s


def survey(source: Iterable[Sequence[Reading]], step_s: int) -> Extent:
    """Read the source once to determine its extent; raises ValueError if it is empty."""
    flows: set[str] = set()
    first, last, number = float("inf"), float("-inf"), 0
    for readings in source:
        times = [reading.time for reading in readings]
        if times:
            first, last = min(first, *times), max(last, *times)
        flows.update(reading.flow for reading in readings)
        number += len(readings)
    if not number:
        raise ValueError("holds no readings")
    steps = int(last // step_s) - int(first // step_s) + 1
    if steps * len(flows) > CELLS_MAX or steps > STEPS_A_READING_MAX * number + DAY_S // step_s:
        raise ValueError(
            f"its {number:,} readings of {len(flows):,} flows span {steps:,} steps:"
            " one of its times is far from the others"
        )
    return Extent(tuple(sorted(flows)), int(first // step_s), int(last // step_s), number)


def baseline_scorer(extent: Extent, spec: ForecastSpec, share: float) -> BaselineScorer:
    """Return the scorer; its `observe` is the input hook of the engine for `run_backtest`."""
    first, end = scored_steps(extent, spec, share)
    return BaselineScorer({flow: i for i, flow in enumerate(extent.flows)}, spec, first, end)


def scored_steps(extent: Extent, spec: ForecastSpec, share: float) -> tuple[int, int]:
    """Return the range of steps with scored forecasts: the first step, and the end (exclusive)."""
    steps = extent.last - extent.first + 1
    return extent.first + int(steps * share), extent.first + steps - spec.horizons


def run_backtest(  # noqa: PLR0913 - the data, and the callbacks
    engine: Engine,
    scorer: BaselineScorer,
    source: Iterable[Sequence[Reading]],
    extent: Extent,
    share: float,
    on_progress: Callable[[int], None] = lambda _readings: None,
    on_forecasts: Callable[[Sequence[Forecasts]], None] = lambda _made: None,
    batch: int = BATCH,
    on_result: Callable[[TurnResult], None] = lambda _result: None,
) -> BacktestForecasts:
    """
    Have *engine*, which is empty, forecast all of *source*; *scorer* observes its inputs.

    Forecasts are kept after the first *share* of the steps. *on_progress* is called after each
    record with the number of readings so far, and *on_forecasts* with every forecast; the latter
    may install other weights in the engine. A record holds at most *batch* readings. *on_result*
    is called with each result of the engine.
    """
    steps, flows = extent.last - extent.first + 1, len(extent.flows)
    origin, outlook = int(steps * share), engine.outlook
    column = {flow: place for place, flow in enumerate(extent.flows)}
    rates = np.full((steps, flows), np.nan)
    shape = steps - origin, flows, outlook.horizons, len(outlook.quantiles)
    forecasts = np.full(shape, np.nan, np.float32)
    peaks = np.full((*shape[:2], len(outlook.peaks), len(PEAK_QUANTILES)), np.nan, np.float32)
    young_ages = ages(outlook.step_s)
    early = np.full((len(young_ages), *shape[1:3]), np.nan, np.float32)
    first_steps = np.full(flows, -1)
    units = [""] * flows
    middle = int(np.argmin(np.abs(np.array(outlook.quantiles) - 0.5)))

    def keep(made: Forecasts) -> None:
        at = made.made_at // outlook.step_s - 1 - extent.first
        to = np.fromiter((column[flow] for flow in made.flow), np.intp, len(made.flow))
        rates[at, to] = made.rate
        late = at >= origin
        forecasts[at[late] - origin, to[late]] = made.bands[late]
        peaks[at[late] - origin, to[late]] = made.peaks[late]
        first = first_steps[to] < 0
        first_steps[to[first]] = at[first]
        for place in np.flatnonzero(first).tolist():
            units[to[place]] = made.unit[place].decode()
        age = at - first_steps[to]
        new = (age >= young_ages.start) & (age < young_ages.stop)
        early[age[new] - young_ages.start, to[new]] = made.bands[new, :, middle]

    partition = Partition("backtest", 0)
    engine.restore(partition, {}, 0, 1)
    taken = 0
    for offset, readings in enumerate(batches(source, batch)):
        value = msgspec.json.encode(readings)
        record = Record(partition, offset, None, value, -1)
        epoch = engine.step([record])
        for made in epoch.forecasts:
            keep(made)
        on_result(epoch)
        on_forecasts(epoch.forecasts)
        taken += len(readings)
        on_progress(taken)
    return BacktestForecasts(
        extent=extent,
        step_s=outlook.step_s,
        quantiles=outlook.quantiles,
        units=tuple(units),
        rates=rates,
        origin=origin,
        forecasts=forecasts,
        spans=outlook.peaks,
        peaks=peaks,
        baselines=scorer.errors,
        first_steps=first_steps,
        early=early,
    )


def tally_forecasts(result: BacktestForecasts) -> Tally:
    """Return the inputs of the metrics; raises ValueError if no flow can be scored."""
    totals = tally(result.rates, result.forecasts, result.quantiles, result.origin, result.step_s)
    cold = cold_start(result.rates, result.early, result.first_steps, result.step_s)
    return replace(totals, baselines=result.baselines, cold=cold)


def score_peaks(result: BacktestForecasts) -> tuple[PeakScore, ...]:
    """How well spikes were forecast in each span; spans without a spike are left out."""
    found = []
    for place, span in enumerate(result.spans):
        predicted = result.peaks[:, :, place]
        with contextlib.suppress(ValueError):
            found.append(
                score(result.rates, predicted, PEAK_QUANTILES, span, result.origin, result.step_s)
            )
    return tuple(found)


def batches(source: Iterable[Sequence[Reading]], batch: int) -> Iterable[Sequence[Reading]]:
    """Yield the same readings, at most *batch* at a time."""
    for readings in source:
        for first in range(0, len(readings), batch):
            yield readings[first : first + batch]


def dump(result: BacktestForecasts, path: Path) -> None:
    """Write every kept forecast, for external scoring."""
    np.savez_compressed(
        path,
        made_at=result.made_at,
        flows=np.array(result.extent.flows),
        quantiles=np.array(result.quantiles),
        forecasts=result.forecasts,
        peak_steps=np.array(result.spans, np.int64),
        peak_quantiles=np.array(PEAK_QUANTILES),
        peaks=result.peaks,
    )
