"""
Metrics of forecasts, against the actual rates and against baselines.

Errors are computed per flow and combined by the geometric mean, so that large or noisy flows
have no extra weight. A step without a rate is not scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streamer.core.network.pinball import pinball_loss
from streamer.core.types import DAY_S

Floats = NDArray[np.float64]
Rates = NDArray[np.float64]  # (steps, flows); NaN if missing
Number = TypeVar("Number", np.float64, np.int64)
Bands = NDArray[np.float32]  # (origins, flows, horizons, quantiles); NaN if none

SMOOTHING = 0.3
UNTRAINED = "untrained"  # a tally's name for the untrained mixture of all baselines
TINY = 1e-9  # keeps a flow with zero error from making the geometric mean zero
BAND = 0.05, 0.95  # the quantiles of the band whose coverage is measured


@dataclass(frozen=True, slots=True)
class Metrics:
    """Errors are divided by the error of the same step a day before; below 1 is better."""

    median: float  # error of the forecasts
    last: float  # error of the last value
    smoothed: float  # error of exponential smoothing of raw rates
    # error of the baselines weighted by their running errors; None: not scored
    untrained: float | None
    baselines: dict[str, float]  # error of each baseline; empty: not scored
    quantile_loss: float  # twice the mean over the quantiles, divided by the mean rate
    coverage: float | None  # share of rates in the band from q05 to q95; None without this band


@dataclass(frozen=True, slots=True)
class ColdStartMetrics:
    """Metrics of new flows: the error of the median over that of another forecast."""

    flows: int  # number of new flows that could be scored
    smoothed: float  # error relative to smoothing
    last: float  # error relative to the last value


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """All metrics of a backtest."""

    flows: int  # scored flows: those with traffic, and with days that differ
    origins: int  # steps after which a forecast was due
    every: Metrics  # metrics over all horizons
    horizons: list[Metrics]  # metrics 1, 2, … steps ahead
    quantile_loss: float  # the loss in `every`
    coverage: float | None  # the coverage in `every`
    best_baseline: str | None  # the one with the least error over all horizons; None: not scored
    over_best_baseline: float | None  # the median's error over that one's
    # metrics from an hour to a day after a flow's first step; None: not scored
    cold: ColdStartMetrics | None


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums from which metrics are computed, for F flows and H horizons, per flow."""

    origins: int
    quantiles: int
    scored: NDArray[np.bool_]  # (F,) whether the flow has traffic, and a reference error
    naive: Floats  # (H, F) mean absolute error of the rate of the day before
    errors: Mapping[str, Floats]  # (H, F) mean absolute error of `median`, `last` and `smoothed`
    lost: Floats  # (H, F) sums of the quantile loss
    came: Floats  # (H, F) sums of the rates
    inside: NDArray[np.int64] | None  # (H, F) rates within the band; None: without a band
    judged: NDArray[np.int64]  # (H, F) rates for which there was a forecast
    # (H, F) mean absolute error of each baseline
    baselines: Mapping[str, Floats] = field(default_factory=dict)
    cold: Mapping[str, Floats] = field(default_factory=dict)  # (F,) as in `coldstart`


class ConstantTraffic(ValueError):
    """
    No flow differs from the day before, so there is no error to compare with.

    `figures` has the number of such flows, the mean error of the medians as a share of their rates,
    and the share of rates within the band, None without one.
    """

    def __init__(self, figures: Mapping[str, float | None]) -> None:
        super().__init__("no flow has traffic that differs from day to day")
        self.figures = figures


def score(
    rates: Rates, forecasts: Bands, quantiles: tuple[float, ...], first: int, step_s: int
) -> BacktestResult:
    """
    Score *forecasts* against *rates*, the grid of all steps.

    ``forecasts[t]`` was made after step ``first + t``; *first* is a day or more after the beginning
    of the grid. Raises ValueError if no flow can be scored.
    """
    return skill(tally(rates, forecasts, quantiles, first, step_s))


def tally(
    rates: Rates,
    forecasts: Bands,
    quantiles: tuple[float, ...],
    first: int,
    step_s: int,
) -> Tally:
    """As `score`, per flow."""
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
        predicted = np.ascontiguousarray(np.moveaxis(forecasts[:origins, :, k], -1, 0))
        naive[k] = mean(np.abs(rates[steps + k + 1 - day] - rate))
        for name, rival in (("median", predicted[middle]), *rivals.items()):
            errors[name][k] = mean(np.abs(rival - rate))
        short = rate - predicted
        lost[k] = sum(summed_loss(each, q) for each, q in zip(short, quantiles, strict=True))
        came[k] = np.nansum(np.abs(rate), axis=0)
        judged[k] = (~np.isnan(short[0])).sum(0)
        if len(band) == len(BAND):
            inside[k] = ((short[band[0]] >= 0) & (short[band[1]] <= 0)).sum(0)
    level = mean(np.abs(rates[first + 1 : first + origins + ahead]))
    with np.errstate(invalid="ignore"):
        known = ~np.isnan(naive).any(0) & ~np.isnan([*errors.values()]).any((0, 1))
        scored = (naive.mean(0) > 0) & (level > 0) & known
        constant = (naive.mean(0) == 0) & (level > 0) & known
    if not scored.any() and constant.any():
        banded = len(band) == len(BAND)
        judged_in_all = max(1, judged[:, constant].sum())
        covered = float(inside[:, constant].sum() / judged_in_all) if banded else None
        off = (errors["median"][:, constant].mean(0) / level[constant]).mean()
        figures = {"flows": int(constant.sum()), "error": float(off), "coverage": covered}
        raise ConstantTraffic(figures)
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


def skill(totals: Tally, among: NDArray[np.bool_] | None = None) -> BacktestResult:
    """Return the metrics of all scored flows, or of those *among* them, which must not be empty."""
    of = totals.scored if among is None else totals.scored & among
    ahead = len(totals.naive)
    every = figures(totals, of, slice(None))
    best = min(every.baselines, key=every.baselines.__getitem__, default=None)
    return BacktestResult(
        flows=int(of.sum()),
        origins=totals.origins,
        every=every,
        horizons=[figures(totals, of, slice(k, k + 1)) for k in range(ahead)],
        quantile_loss=every.quantile_loss,
        coverage=every.coverage,
        best_baseline=best,
        over_best_baseline=None if best is None else every.median / every.baselines[best],
        cold=cold(totals, among),
    )


def cold(totals: Tally, among: NDArray[np.bool_] | None) -> ColdStartMetrics | None:
    """Return the metrics of new flows, of all or of those *among* them."""
    if not totals.cold:
        return None
    known = ~np.isnan(list(totals.cold.values())).any(0)
    of = known if among is None else known & among
    if not of.any():
        return None
    return ColdStartMetrics(
        int(of.sum()), **{name: geometric_mean(each[of]) for name, each in totals.cold.items()}
    )


def figures(totals: Tally, of: NDArray[np.bool_], horizons: slice) -> Metrics:
    """Return the metrics of the flows *of* a tally, over these horizons."""

    def relative(errors: Floats) -> float:
        """Return the geometric mean over flows of errors relative to those of the day before."""
        day_before = totals.naive[horizons, of].mean(0)
        shares = errors[horizons, of].mean(0) / np.where(day_before > 0, day_before, np.nan)
        return geometric_mean(shares + TINY)

    baselines = {name: relative(each) for name, each in totals.baselines.items()}
    inside = None if totals.inside is None else totals.inside[horizons, of].sum()
    lost = float(totals.lost[horizons, of].sum())
    came, judged = (
        float(each[horizons, of].sum()) or np.nan for each in (totals.came, totals.judged)
    )
    return Metrics(
        **{name: relative(each) for name, each in totals.errors.items()},
        untrained=baselines.pop(UNTRAINED, None),
        baselines=baselines,
        quantile_loss=2 * lost / totals.quantiles / came,
        coverage=None if inside is None else float(inside) / judged,
    )


def combine(tallies: Sequence[Tally]) -> Tally:
    """
    Combine the tallies of several files: errors per flow, losses divided by the file's mean rate.

    So a file's weight depends on its number of flows and steps, and not on its unit.
    """
    units = [each.came.sum() / max(each.judged.sum(), 1) or 1.0 for each in tallies]
    inside = [each.inside for each in tallies if each.inside is not None]
    return Tally(
        origins=sum(each.origins for each in tallies),
        quantiles=tallies[0].quantiles,
        scored=np.concatenate([each.scored for each in tallies]),
        naive=_concatenate([each.naive for each in tallies]),
        errors=_concatenate_each([each.errors for each in tallies]),
        baselines=_concatenate_each([each.baselines for each in tallies]),
        lost=_concatenate([each.lost / unit for each, unit in zip(tallies, units, strict=True)]),
        came=_concatenate([each.came / unit for each, unit in zip(tallies, units, strict=True)]),
        inside=_concatenate(inside) if len(inside) == len(tallies) else None,
        judged=_concatenate([each.judged for each in tallies]),
        cold={
            name: np.concatenate([each.cold[name] for each in tallies]) for name in tallies[0].cold
        },
    )


def summed_loss(short: Floats, quantile: float) -> Floats:
    """Return the pinball loss, summed over the first axis; *short* is rate minus forecast."""
    lost: Floats = np.nansum(pinball_loss(short, quantile), axis=0)
    return lost


def filled(rates: Rates) -> Rates:
    """Return *rates* with each missing step filled from the one before; 0 before the first."""
    steps = np.arange(len(rates))[:, None]
    latest = np.maximum.accumulate(np.where(np.isnan(rates), 0, steps), axis=0)
    return np.nan_to_num(np.take_along_axis(rates, latest, axis=0))


def smoothed(rates: Rates) -> Rates:
    """Return the exponential smoothing of raw rates."""
    smooth = rates.copy()
    for step in range(1, len(rates)):
        smooth[step] += (1 - SMOOTHING) * (smooth[step - 1] - rates[step])
    return smooth


def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the first axis, ignoring NaN; NaN if all values are missing."""
    known = ~np.isnan(values)
    number = known.sum(0)
    total: NDArray[np.float64] = np.where(known, values, 0).sum(0) / np.maximum(number, 1)
    return np.where(number > 0, total, np.nan)


def geometric_mean(shares: Floats) -> float:
    """Return the geometric mean, ignoring NaN; NaN if all values are missing."""
    return float(np.exp(mean(np.log(shares))))


def _concatenate(parts: list[NDArray[Number]]) -> NDArray[Number]:
    return np.concatenate(parts, axis=1)


def _concatenate_each(parts: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    return {name: _concatenate([each[name] for each in parts]) for name in parts[0]}
