"""
Plots actual rates with their forecast bands: some flows, two days each.

The selection is automatic: of each class the flow with the median error of its class, on days
with its median error; and the flows with the largest errors, on their worst days.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from streamer.core.types import DAY_S, HOUR_S
from streamer.evaluation.backtest import BacktestForecasts
from streamer.evaluation.metrics import Tally, mean
from streamer.evaluation.report import Report
from streamer.plots.paper import FORECAST, INNER, OUTER, OUTSIDE, TRUTH, save, sheet
from streamer.text.format import PREFIXES, span

DAYS = 2  # days drawn of each flow
HEADROOM = 1.12  # space above the highest drawn value, as a factor
BESIDE = 4  # a band above this multiple of the highest rate is cut
PEAKED = 50  # ratio of peak to median from which a flow's axis is logarithmic above the median
ABREAST = 4  # number of flows from which two plots are side by side


@dataclass(frozen=True, slots=True)
class Strip:
    """N steps of one flow's rates, with their forecasts."""

    title: str
    unit: str
    begins_s: NDArray[np.int64]  # (N,) of each step
    came: NDArray[np.float64]  # (N,)
    bands: NDArray[np.float32]  # (N, 5): q05, q25, q50, q75, q95


def strips(
    result: BacktestForecasts, report: Report, flows: Sequence[str], most: int
) -> list[Strip]:
    """Return plots of *flows*, or if none is given of *most* selected ones, the worst last."""
    if flows:
        named = [result.extent.flows.index(f) for f in flows if f in result.extent.flows]
        return [strip(result, flow, "", 0.5) for flow in named]
    worst = outliers(report.tally, 1 if most < ABREAST else 2)
    usual = typical(report, most - len(worst), worst)
    return [
        *(strip(result, flow, f"typical, {report.flow_classes[flow]}", 0.5) for flow in usual),
        *(strip(result, flow, why, 1.0) for flow, why in worst.items()),
    ]


def outliers(tally: Tally, most: int) -> dict[int, str]:
    """Return the flows with the largest errors, each with the measure concerned."""
    of = np.where(tally.scored, 1.0, np.nan)
    measures = {
        "largest loss": of * over(tally.lost, tally.came),
        "largest error": of * over(tally.errors["median"], tally.naive),
    }
    found = {int(np.nanargmax(each)): why for why, each in measures.items()}
    return dict(list(found.items())[-most:])


def over(errors: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return *errors* over those *of* another, summed over horizons; 0 if the latter is 0."""
    total = of.sum(0)
    return np.where(total > 0, errors.sum(0) / np.where(total > 0, total, 1), 0)


def typical(report: Report, most: int, but: Container[int]) -> list[int]:
    """Return flows with the median error of their class, the most frequent classes first."""
    tally = report.tally
    shares = over(tally.errors["median"], tally.naive)
    kinds = sorted(report.classes, key=lambda kind: -report.classes[kind].flows)
    found: list[int] = []
    for rank in (0.5, 0.25, 0.75, 0.1, 0.9):
        for kind in kinds:
            of = np.flatnonzero(tally.scored & (report.flow_classes == kind))
            left = [f for f in of[np.argsort(shares[of])].tolist() if f not in but]
            if left and (flow := left[int(rank * (len(left) - 1))]) not in found:
                found.append(flow)
    return found[:most]


def strip(result: BacktestForecasts, flow: int, why: str, rank: float) -> Strip:
    """
    Return some days of *flow*, as forecast some steps before.

    The days are those with the quantile *rank*, from 0 to 1, of the errors of all days.
    """
    day = DAY_S // result.step_s
    ahead = max(1, min(result.forecasts.shape[2], HOUR_S // result.step_s))
    came = result.rates[result.origin + ahead :, flow]
    forecasts = result.forecasts[: len(came), flow, ahead - 1]
    wanted = [result.quantiles.index(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
    length = min(DAYS * day, len(came))
    begins = np.arange(len(came) - length, -1, -day)[::-1]
    missed = np.abs(forecasts[:, wanted[2]] - came)
    errors = np.array([mean(missed[b : b + length, None])[0] for b in begins.tolist()])
    scored = max(1, int((~np.isnan(errors)).sum()))  # periods without rates sort last
    begin = int(begins[np.argsort(errors)[int(rank * (scored - 1))]])
    steps = slice(begin, begin + length)
    first = result.extent.first + result.origin + ahead + begin
    reasons = ", ".join(filter(None, (f"{span(ahead * result.step_s)} ahead", why)))
    return Strip(
        title=f"{result.extent.flows[flow]}  ({reasons})",
        unit=result.units[flow],
        begins_s=(first + np.arange(length)) * result.step_s,
        came=came[steps],
        bands=forecasts[steps][:, wanted],
    )


def draw(shown: Sequence[Strip], path: Path) -> None:
    """Draw all *shown* below each other, or in two columns if there are many."""
    columns = 1 if len(shown) < ABREAST else 2
    rows = -(-len(shown) // columns)
    size = (5.6 * columns if columns > 1 else 8.0), 0.5 + 1.9 * rows
    with sheet(size, rows, columns) as (figure, axes):
        for each, axis in zip(shown, axes, strict=False):
            _draw(axis, each)
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=len(labels))
        for axis in axes[max(0, len(shown) - columns) : len(shown)]:
            axis.set_xlabel("time, UTC")
        save(figure, path)


def _draw(axis: Axes, shown: Strip) -> None:
    top = _top(shown)
    usual = float(np.nanmedian(shown.came)) if np.isfinite(shown.came).any() else 0.0
    peaked = top > PEAKED * usual > 0
    size, prefix = (1.0, "") if peaked else _scale(top)
    days = shown.begins_s / DAY_S
    q05, q25, q50, q75, q95 = shown.bands.T / size
    came = shown.came / size
    axis.fill_between(days, q05, q95, color=OUTER, lw=0, label="90 % band")
    axis.fill_between(days, q25, q75, color=INNER, lw=0, label="50 % band")
    axis.plot(days, q50, color=FORECAST, label="median")
    axis.plot(days, came, color=TRUTH, lw=0.8, label="what came")
    out = (came < q05) | (came > q95)
    axis.plot(days[out], came[out], ".", color=OUTSIDE, ms=4, label="outside")
    axis.set_title(shown.title)
    axis.set_ylabel(f"{prefix}{shown.unit}")
    if peaked:
        axis.set_yscale("symlog", linthresh=usual, linscale=0.4)
        axis.set_ylabel(f"{shown.unit}, log")
        decades = range(int(np.ceil(np.log10(usual))), int(np.floor(np.log10(top))) + 1)
        axis.set_yticks([0.0, *(10.0**n for n in decades)], ["0", *map(_decade, decades)])
    axis.set_ylim(0, top / size)
    axis.set_xlim(days[0], days[-1])
    halves = np.arange(np.ceil(days[0] * 2), np.floor(days[-1] * 2) + 1) / 2
    axis.set_xticks(halves, [_clock(day * DAY_S) for day in halves.tolist()])


def _decade(power: int) -> str:
    """Format ten to this power briefly: `10 M`."""
    if not 0 <= power < 3 * len(PREFIXES):
        return f"1e{power}"
    return f"{10 ** (power % 3)} {PREFIXES[power // 3]}".strip()


def _clock(second: float) -> str:
    """Format the date at midnight, otherwise the time of day."""
    time = datetime.fromtimestamp(second, UTC)
    return f"{time:%H:%M}" if time.hour else f"{time.day} {time:%b %Y}"


def _top(shown: Strip) -> float:
    """Return the axis limit: above all rates, and above bands that are not much higher."""
    came = float(np.nan_to_num(shown.came).max())
    bands = float(np.percentile(np.nan_to_num(shown.bands[:, -1]), 98))
    return (max(came, min(bands, BESIDE * came)) or bands or 1.0) * HEADROOM


def _scale(top: float) -> tuple[float, str]:
    """Return the divisor of the rates, and its unit prefix."""
    nth = int(np.clip(np.floor(np.log10(top) / 3), 0, len(PREFIXES) - 1))
    return 1000.0**nth, PREFIXES[nth]
