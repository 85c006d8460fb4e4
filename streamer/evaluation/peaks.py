"""
How well peaks were forecast: spikes that came, against the chance that was forecast before.

A spike at an origin is a step, SPIKE_FIRST to K steps ahead, whose rate exceeds FACTOR times the
flow's own high, the 0.99 quantile of its last three days. Origins at which the flow is above it
already do not count, nor does the first step, which an alert could hardly precede. A spike is
recurrent if the flow was above the same threshold around the same time a day or a week before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from streamer.core.alerts.peak import chance

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

DAY_S = 86400
HIGH_DAYS = 3
HIGH_QUANTILE = 0.99
HIGH_EVERY = 6  # steps after which a flow's high is computed again
FACTOR = 2.0
SPIKE_FIRST = 2  # steps ahead
CHANCES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # edges of the classes of forecast chances


@dataclass(frozen=True, slots=True)
class PeakScore:
    """How well the chance of a spike was forecast."""

    span: int  # steps
    origins: int
    base_rate: float  # share of the origins with a spike
    average_precision: float
    best_f1: float
    best_chance: float  # the least chance of an alert at the best F1
    recurrent: float  # average precision where recent days had such a spike; NaN: no such origins
    new: float  # … and where they had none
    calibration: list[tuple[float, float, int]]  # mean chance, share of spikes, origins of a class


def highs(rates: Doubles, step_s: int, origin: int) -> Doubles:
    """Each flow's high at the steps of *rates* (T, F) from *origin* on; NaN: it is not known."""
    window = HIGH_DAYS * DAY_S // step_s
    found = np.full((len(rates) - origin, rates.shape[1]), np.nan)
    for at in range(0, len(found), HIGH_EVERY):
        recent = rates[max(0, origin + at - window + 1) : origin + at + 1]
        known = (~np.isnan(recent)).sum(axis=0) > window // 2
        if known.any():
            found[at : at + HIGH_EVERY, known] = np.nanquantile(
                recent[:, known], HIGH_QUANTILE, axis=0
            )
    return found


def ahead(rates: Doubles, first: int, last: int) -> Doubles:
    """The highest rate *first* to *last* steps after each step, (T, F); NaN: none is known."""
    found = np.full(rates.shape, np.nan)
    for step in range(first, last + 1):
        if 0 < step < len(rates):
            np.fmax(found[:-step], rates[step:], out=found[:-step])
        elif step <= 0:
            np.fmax(found[-step:], rates[: len(rates) + step], out=found[-step:])
    return found


def score(  # noqa: PLR0913 - rates, the forecasts of their peaks, and where these begin
    rates: Doubles,
    peaks: NDArray[np.float32],
    levels: Sequence[float],
    span: int,
    origin: int,
    step_s: int,
) -> PeakScore:
    """
    The score of *peaks* (T - origin, F, levels), made at the steps of *rates* (T, F) from *origin*.

    Raises ValueError if no spike came.
    """
    threshold = FACTOR * highs(rates, step_s, origin)
    now, came = rates[origin:], ahead(rates, SPIKE_FIRST, span)[origin:]
    counted = (threshold > 0) & (now <= threshold) & ~np.isnan(came)
    counted &= ~np.isnan(peaks).any(axis=2)
    counted[-span:] = False
    chances = chance(levels, peaks[counted], threshold[counted])
    spike = (came > threshold)[counted]
    if not spike.any():
        raise ValueError("no spike came")
    before = np.full(now.shape, np.nan)
    for days in (1, 7):
        back = days * DAY_S // step_s
        np.fmax(before, ahead(rates, -back, span - back)[origin:], out=before)
    again = (before > threshold)[counted]
    f1, best = best_f1(spike, chances)
    return PeakScore(
        span=span,
        origins=len(spike),
        base_rate=float(spike.mean()),
        average_precision=average_precision(spike, chances),
        best_f1=f1,
        best_chance=best,
        recurrent=average_precision(spike[again], chances[again]),
        new=average_precision(spike[~again], chances[~again]),
        calibration=[
            (float(chances[here].mean()), float(spike[here].mean()), int(here.sum()))
            for low, high in pairwise(CHANCES)
            if (here := (chances >= low) & (chances < high)).any()
        ],
    )


def average_precision(spike: Bools, chances: Doubles) -> float:
    """The mean precision over the spikes, in the order of falling chance; NaN without a spike."""
    precision, found, _ = _curve(spike, chances)
    if not spike.any():
        return float("nan")
    return float((precision * np.diff(found, prepend=0.0)).sum())


def best_f1(spike: Bools, chances: Doubles) -> tuple[float, float]:
    """The highest F1 of alerts at a least chance, and that chance."""
    precision, recall, at = _curve(spike, chances)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1.argmax())
    return float(f1[best]), float(at[best])


def _curve(spike: Bools, chances: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Precision and recall of alerts at each forecast chance, from the highest one down."""
    order = np.argsort(-chances, kind="stable")
    true = np.cumsum(spike[order])
    last = np.flatnonzero(np.diff(chances[order], append=-1.0))  # of those with an equal chance
    return true[last] / (last + 1), true[last] / max(1, true[-1:].sum()), chances[order][last]
