"""
How good forecasts were: against what came, and against who would have said it for nothing.

Errors are made per flow and then put together as a geometric mean, so that no
flow counts more for being large or noisy. A step without a rate is not scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streamer.core.types import DAY_S

Floats = NDArray[np.float64]
Rates = NDArray[np.float64]  # (steps, flows); NaN where missing
Number = TypeVar("Number", np.float64, np.int64)
Bands = NDArray[np.float32]  # (origins, flows, horizons, quantiles); NaN where none

SMOOTHING = 0.3
UNTRAINED = "untrained"  # among a tally's baselines: all of them mixed
TINY = 1e-9  # a flow foretold without any error does not make all others perfect
BAND = 0.05, 0.95  # what coverage is of


@dataclass(frozen=True, slots=True)
class Metrics:
    """Errors are over those of the same step a day before; below 1 is better."""

    median: float  # of the forecasts
    last: float  # of the last value
    smoothed: float  # of exponential smoothing of raw rates
    untrained: float | None  # of all baselines mixed by their running errors; None: not told
    baselines: dict[str, float]  # of each naive forecast beside the network; empty: not told
    quantile_loss: float  # twice its mean over the quantiles told, over the mean rate
    coverage: float | None  # share of rates in the band from q05 to q95; None if it is not told


@dataclass(frozen=True, slots=True)
class ColdStartMetrics:
    """What forecasts of new flows were worth: the error of their median over another's."""

    flows: int  # for which it could be told
    smoothed: float  # over that of smoothing
    last: float  # over that of the last value


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """What forecasts were worth."""

    flows: int  # that were scored: those with traffic, and days that differ
    origins: int  # steps after which a forecast was due
    every: Metrics  # over all horizons
    horizons: list[Metrics]  # 1, 2, … steps ahead
    quantile_loss: float  # `every`'s
    coverage: float | None  # likewise
    best_baseline: str | None  # the one with the least error over all horizons; None: not told
    over_best_baseline: float | None  # the median's error over that one's
    cold: ColdStartMetrics | None  # from an hour to a day after a flow's first step; None: not told


@dataclass(frozen=True, slots=True)
class Tally:
    """What figures are made of, for F flows and H horizons, each flow by itself."""

    origins: int
    quantiles: int
    scored: NDArray[np.bool_]  # (F,) there is traffic, and something to hold it against
    naive: Floats  # (H, F) mean absolute error of saying what was a day before
    errors: Mapping[str, Floats]  # (H, F) likewise of `median`, `last` and `smoothed`
    lost: Floats  # (H, F) sums of the quantile loss
    came: Floats  # (H, F) sums of the rates
    inside: NDArray[np.int64] | None  # (H, F) rates within the band; None: no band is told
    judged: NDArray[np.int64]  # (H, F) rates for which there was a forecast
    baselines: Mapping[str, Floats] = field(default_factory=dict)  # (H, F) likewise of more rivals
    cold: Mapping[str, Floats] = field(default_factory=dict)  # (F,) as `coldstart` has it


def score(
    rates: Rates, forecasts: Bands, quantiles: tuple[float, ...], first: int, step_s: int
) -> BacktestResult:
    """
    Hold *forecasts* against *rates*, the grid of all steps.

    ``forecasts[t]`` was made after step ``first + t``; *first* is a day or more
    after the grid's begin. Raises ValueError where there is nothing to score.
    """
    return skill(tally(rates, forecasts, quantiles, first, step_s))


def tally(
    rates: Rates,
    forecasts: Bands,
    quantiles: tuple[float, ...],
    first: int,
    step_s: int,
) -> Tally:
    """As `score`, flow by flow."""
    day, ahead = DAY_S // step_s, forecasts.shape[2]
    origins = min(len(forecasts), len(rates) - ahead - first)
    if origins <= 0 or first < day:
        raise ValueError("nothing to score: the file must span more than a day before the share")
    steps = first + np.arange(origins)
    middle = int(np.argmin(np.abs(np.array(quantiles) - 0.5)))
    last = filled(rates)
    rivals = {"last": last[steps], "smoothed": smoothed(last)[steps]}

    shape = ahead, rates.shape[1]
    naive, lost, came = (np.empty(shape) for _ in range(3))
    errors = {name: np.empty(shape) for name in ("median", *rivals)}
    inside, judged = (np.empty(shape, np.int64) for _ in range(2))
    band = [quantiles.index(quantile) for quantile in BAND if quantile in quantiles]
    for k in range(ahead):
        rate = rates[steps + k + 1]
        said = np.ascontiguousarray(np.moveaxis(forecasts[:origins, :, k], -1, 0))
        naive[k] = mean(np.abs(rates[steps + k + 1 - day] - rate))
        for name, rival in (("median", said[middle]), *rivals.items()):
            errors[name][k] = mean(np.abs(rival - rate))
        short = rate - said
        lost[k] = sum(pinball(each, q) for each, q in zip(short, quantiles, strict=True))
        came[k] = np.nansum(np.abs(rate), axis=0)
        judged[k] = (~np.isnan(short[0])).sum(0)
        if len(band) == len(BAND):
            inside[k] = ((short[band[0]] >= 0) & (short[band[1]] <= 0)).sum(0)
    level = mean(np.abs(rates[first + 1 : first + origins + ahead]))
    with np.errstate(invalid="ignore"):
        known = ~np.isnan(naive).any(0) & ~np.isnan([*errors.values()]).any((0, 1))
        scored = (naive.mean(0) > 0) & (level > 0) & known
    if not scored.any():
        raise ValueError("nothing to score: no flow has traffic that differs from day to day")
    return Tally(
        origins=origins,
        quantiles=len(quantiles),
        scored=scored,
        naive=naive,
        errors=errors,
        lost=lost,
        came=came,
        inside=inside if len(band) == len(BAND) else None,
        judged=judged,
    )


def skill(told: Tally, among: NDArray[np.bool_] | None = None) -> BacktestResult:
    """The figures of all scored flows of a tally, or of those *among* them; there must be some."""
    of = told.scored if among is None else told.scored & among
    ahead = len(told.naive)
    every = figures(told, of, slice(None))
    best = min(every.baselines, key=every.baselines.__getitem__, default=None)
    return BacktestResult(
        flows=int(of.sum()),
        origins=told.origins,
        every=every,
        horizons=[figures(told, of, slice(k, k + 1)) for k in range(ahead)],
        quantile_loss=every.quantile_loss,
        coverage=every.coverage,
        best_baseline=best,
        over_best_baseline=None if best is None else every.median / every.baselines[best],
        cold=cold(told, among),
    )


def cold(told: Tally, among: NDArray[np.bool_] | None) -> ColdStartMetrics | None:
    """How flows were foretold on their first day, all or those *among* them."""
    if not told.cold:
        return None
    known = ~np.isnan(list(told.cold.values())).any(0)
    of = known if among is None else known & among
    if not of.any():
        return None
    return ColdStartMetrics(
        int(of.sum()), **{name: gmean(each[of]) for name, each in told.cold.items()}
    )


def figures(told: Tally, of: NDArray[np.bool_], horizons: slice) -> Metrics:
    """The figures of the flows *of* a tally at these horizons together."""

    def relative(errors: Floats) -> float:
        """The geometric mean over flows of errors over those of the day before."""
        day_before = told.naive[horizons, of].mean(0)
        shares = errors[horizons, of].mean(0) / np.where(day_before > 0, day_before, np.nan)
        return gmean(shares + TINY)

    baselines = {name: relative(each) for name, each in told.baselines.items()}
    inside = None if told.inside is None else told.inside[horizons, of].sum()
    lost = float(told.lost[horizons, of].sum())
    came, judged = (float(each[horizons, of].sum()) or np.nan for each in (told.came, told.judged))
    return Metrics(
        **{name: relative(each) for name, each in told.errors.items()},
        untrained=baselines.pop(UNTRAINED, None),
        baselines=baselines,
        quantile_loss=2 * lost / told.quantiles / came,
        coverage=None if inside is None else float(inside) / judged,
    )


def together(tallies: Sequence[Tally]) -> Tally:
    """
    The tally of several files: errors, flow by flow; losses, each in its file's mean rate.

    So a file counts by its flows and steps, whatever its unit.
    """
    units = [each.came.sum() / max(each.judged.sum(), 1) or 1.0 for each in tallies]
    inside = [each.inside for each in tallies if each.inside is not None]
    return Tally(
        origins=sum(each.origins for each in tallies),
        quantiles=tallies[0].quantiles,
        scored=np.concatenate([each.scored for each in tallies]),
        naive=_beside([each.naive for each in tallies]),
        errors=_each_beside([each.errors for each in tallies]),
        baselines=_each_beside([each.baselines for each in tallies]),
        lost=_beside([each.lost / unit for each, unit in zip(tallies, units, strict=True)]),
        came=_beside([each.came / unit for each, unit in zip(tallies, units, strict=True)]),
        inside=_beside(inside) if len(inside) == len(tallies) else None,
        judged=_beside([each.judged for each in tallies]),
        cold={
            name: np.concatenate([each.cold[name] for each in tallies]) for name in tallies[0].cold
        },
    )


def pinball(short: Floats, quantile: float) -> Floats:
    """The quantile loss of forecasts that were too low by *short*, summed over the first axis."""
    lost: Floats = np.nansum(np.maximum(quantile * short, (quantile - 1) * short), axis=0)
    return lost


def filled(rates: Rates) -> Rates:
    """*rates* with each missing step as the one before it; 0 before the first."""
    steps = np.arange(len(rates))[:, None]
    latest = np.maximum.accumulate(np.where(np.isnan(rates), 0, steps), axis=0)
    return np.nan_to_num(np.take_along_axis(rates, latest, axis=0))


def smoothed(rates: Rates) -> Rates:
    """Exponential smoothing of raw rates."""
    smooth = rates.copy()
    for step in range(1, len(rates)):
        smooth[step] += (1 - SMOOTHING) * (smooth[step - 1] - rates[step])
    return smooth


def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the first axis, of what is there; NaN where nothing is."""
    known = ~np.isnan(values)
    number = known.sum(0)
    total: NDArray[np.float64] = np.where(known, values, 0).sum(0) / np.maximum(number, 1)
    return np.where(number > 0, total, np.nan)


def gmean(shares: Floats) -> float:
    """The geometric mean of what is there; NaN where nothing is."""
    return float(np.exp(mean(np.log(shares))))


def _beside(parts: list[NDArray[Number]]) -> NDArray[Number]:
    return np.concatenate(parts, axis=1)


def _each_beside(parts: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    return {name: _beside([each[name] for each in parts]) for name in parts[0]}
