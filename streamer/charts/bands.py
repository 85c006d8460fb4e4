"""
What came, in the bands that awaited it: a handful of flows over two days each.

Which ones is no matter of taste: of each kind of flow the one whose error is in the
middle of its kind, and the flow of the largest error of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from streamer.backtest import Played
from streamer.charts.paper import FORECAST, INNER, OUTER, OUTSIDE, TRUTH, save, sheet
from streamer.commands.words import PREFIXES, span
from streamer.report import Report

DAY_S, HOUR_S = 86400, 3600
DAYS = 2  # that are drawn of each flow
HEADROOM = 1.12  # above all that is drawn
ABREAST = 4  # flows from which on two stand abreast


@dataclass(frozen=True, slots=True)
class Strip:
    """A stretch of one flow's rates, N steps, and what had been said of them."""

    title: str
    unit: str
    begins_s: NDArray[np.int64]  # (N,) of each step
    came: NDArray[np.float64]  # (N,)
    bands: NDArray[np.float32]  # (N, 5): q05, q25, q50, q75, q95


def strips(played: Played, report: Report, flows: Sequence[str], most: int) -> list[Strip]:
    """Those of *flows*, or if none is named of *most* chosen ones; the worst one is the last."""
    chosen = [(flow, "") for flow in flows if flow in played.extent.flows]
    return [strip(played, *each) for each in chosen or choose(played, report, most)]


def choose(played: Played, report: Report, most: int) -> list[tuple[str, str]]:
    """Names of flows, and why each was chosen."""
    tally = report.tally
    shares = tally.errors["median"].mean(0) / np.where(tally.scored, tally.naive.mean(0), np.nan)
    order = np.argsort(shares)  # those that are not scored come last
    order = order[: int(tally.scored.sum())]
    worst = int(order[-1])
    found: dict[int, str] = {}
    share = 0.5
    while len(found) < min(most, len(order)) - 1:
        for kind in report.classes:
            of = [flow for flow in order.tolist() if report.kinds[flow] == kind]
            left = [flow for flow in of if flow != worst and flow not in found]
            if left and len(found) < most - 1:
                found[left[int(share * (len(left) - 1))]] = f"typical, {kind}"
        share = 0.5 if share != 0.5 else 0.75
    found[worst] = "largest error"
    return [(played.extent.flows[flow], why) for flow, why in found.items()]


def strip(played: Played, flow: str, why: str) -> Strip:
    """The last days of *flow*, as they had been foretold some steps before."""
    at = played.extent.flows.index(flow)
    ahead = min(played.forecasts.shape[2], max(1, HOUR_S // played.step_s))
    steps = np.arange(len(played.rates) - DAYS * DAY_S // played.step_s, len(played.rates))
    steps = steps[steps - ahead >= played.origin]
    said = played.forecasts[steps - ahead - played.origin, at, ahead - 1]
    wanted = [played.quantiles.index(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
    reasons = ", ".join(filter(None, (f"{span(ahead * played.step_s)} ahead", why)))
    return Strip(
        title=f"{flow}  ({reasons})",
        unit=played.units[at],
        begins_s=(played.extent.first + steps) * played.step_s,
        came=played.rates[steps, at],
        bands=said[:, wanted],
    )


def draw(shown: Sequence[Strip], path: Path) -> None:
    """All *shown*, one above the other, two abreast where there are many."""
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
    size, prefix = _scale(top)
    days = shown.begins_s / DAY_S
    q05, q25, q50, q75, q95 = shown.bands.T / size
    came = shown.came / size
    axis.fill_between(days, q05, q95, color=OUTER, lw=0, label="90 % band")
    axis.fill_between(days, q25, q75, color=INNER, lw=0, label="50 % band")
    axis.plot(days, q50, color=FORECAST, label="median")
    axis.plot(days, came, color=TRUTH, lw=0.8, label="what came")
    out = (came < q05) | (came > q95)
    axis.plot(days[out], came[out], ".", color=OUTSIDE, ms=4, label="outside", clip_on=False)
    axis.set_title(shown.title)
    axis.set_ylabel(f"{prefix}{shown.unit}")
    axis.set_ylim(0, top / size)
    axis.set_xlim(days[0], days[-1])
    halves = np.arange(np.ceil(days[0] * 2), np.floor(days[-1] * 2) + 1) / 2
    axis.set_xticks(halves, [_clock(day * DAY_S) for day in halves.tolist()])


def _clock(second: float) -> str:
    """The date at midnight, else the time of day."""
    time = datetime.fromtimestamp(second, UTC)
    return f"{time:%H:%M}" if time.hour else f"{time.day} {time:%b %Y}"


def _top(shown: Strip) -> float:
    """Where the axis ends: above all that came, and above nearly all of the bands."""
    highest = np.nanpercentile(np.nan_to_num(shown.bands[:, -1]), 98)
    return float(max(np.nan_to_num(shown.came).max(), highest, 1e-9) * HEADROOM)


def _scale(top: float) -> tuple[float, str]:
    """What to divide rates by, and the prefix that stands for it."""
    nth = int(np.clip(np.floor(np.log10(top) / 3), 0, len(PREFIXES) - 1))
    return 1000.0**nth, PREFIXES[nth]
