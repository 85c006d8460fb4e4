"""
How good forecasts were: against what came, and against who would have said it for nothing.

Figures are made per flow and then put together as a geometric mean, so that no
flow counts more for being large or noisy. A step without a rate is not scored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rates = NDArray[np.float64]  # (steps, flows); NaN where missing
Bands = NDArray[np.float32]  # (origins, flows, horizons, quantiles); NaN where none

DAY_S = 86400
SMOOTHING = 0.3


@dataclass(frozen=True, slots=True)
class Errors:
    """Mean absolute errors over those of the same step a day before; below 1 is better."""

    median: float  # of the forecasts
    last: float  # of the last value
    smoothed: float  # of exponential smoothing of raw rates


@dataclass(frozen=True, slots=True)
class Skill:
    """What forecasts were worth."""

    flows: int  # that were scored: those with traffic, and days that differ
    origins: int  # steps after which a forecast was due
    every: Errors  # over all horizons
    horizons: list[Errors]  # 1, 2, … steps ahead
    quantile_loss: float  # twice its mean over the quantiles told, over the mean rate
    coverage: float | None  # share of rates in the band from q05 to q95; None if it is not told


def score(
    rates: Rates, forecasts: Bands, quantiles: tuple[float, ...], first: int, step_s: int
) -> Skill:
    """
    Hold *forecasts* against *rates*, the grid of all steps.

    ``forecasts[t]`` was made after step ``first + t``; *first* is a day or more
    after the grid's begin. Raises ValueError where there is nothing to score.
    """
    day, ahead = DAY_S // step_s, forecasts.shape[2]
    origins = min(len(forecasts), len(rates) - ahead - first)
    if origins <= 0 or first < day:
        raise ValueError("nothing to score: the file must span more than a day before the share")
    steps = first + np.arange(origins)
    median = forecasts[..., int(np.argmin(np.abs(np.array(quantiles) - 0.5)))]
    last = filled(rates)
    naive = last[steps], smoothed(last)[steps]

    errors = np.empty((4, ahead, rates.shape[1]))  # of naive day, median, last, smoothed
    for k in range(ahead):
        came = rates[steps + k + 1]
        said = rates[steps + k + 1 - day], median[:origins, :, k], *naive
        errors[:, k] = [mean(np.abs(each - came)) for each in said]
    level = mean(np.abs(rates[first + 1 : first + origins + ahead]))
    with np.errstate(invalid="ignore"):
        scored = (mean(errors[0]) > 0) & (level > 0) & ~np.isnan(errors).any((0, 1))
    if not scored.any():
        raise ValueError("nothing to score: no flow has traffic that differs from day to day")
    errors = errors[:, :, scored]
    return Skill(
        flows=int(scored.sum()),
        origins=origins,
        every=relative(errors.mean(1)),
        horizons=[relative(errors[:, k]) for k in range(ahead)],
        quantile_loss=quantile_loss(rates, forecasts[:origins], quantiles, steps, scored),
        coverage=coverage(rates, forecasts[:origins], quantiles, steps, scored),
    )


def relative(errors: NDArray[np.float64]) -> Errors:
    """Geometric means over flows of (4, flows) errors over the first of them."""
    tiny = 1e-9  # a flow that is foretold without any error does not make all others perfect
    shares = errors[1:] / np.where(errors[0] > 0, errors[0], np.nan)
    return Errors(*(float(np.exp(mean(np.log(share + tiny)))) for share in shares))


def quantile_loss(
    rates: Rates,
    forecasts: Bands,
    quantiles: tuple[float, ...],
    steps: NDArray[np.int64],
    scored: NDArray[np.bool_],
) -> float:
    """Twice the mean quantile loss over the mean rate, of all scored flows together."""
    lost = total = 0.0
    for k in range(forecasts.shape[2]):
        came = rates[steps + k + 1][:, scored]
        for place, quantile in enumerate(quantiles):
            short = came - forecasts[:, scored, k, place]
            lost += float(np.nansum(np.maximum(quantile * short, (quantile - 1) * short)))
        total += float(np.nansum(np.abs(came)))
    return 2 * lost / len(quantiles) / total


def coverage(
    rates: Rates,
    forecasts: Bands,
    quantiles: tuple[float, ...],
    steps: NDArray[np.int64],
    scored: NDArray[np.bool_],
) -> float | None:
    """The share of rates within q05 and q95; it should be 0.9."""
    if 0.05 not in quantiles or 0.95 not in quantiles:
        return None
    low, high = quantiles.index(0.05), quantiles.index(0.95)
    inside = judged = 0
    for k in range(forecasts.shape[2]):
        came, band = rates[steps + k + 1][:, scored], forecasts[:, scored, k]
        known = ~np.isnan(came) & ~np.isnan(band[..., low])
        inside += int(np.sum((came >= band[..., low]) & (came <= band[..., high]) & known))
        judged += int(known.sum())
    return inside / judged


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
