"""Draws a flow's past as columns and its future as bands, in terminal characters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

EIGHTHS = " ▁▂▃▄▅▆▇█"
PAST, SURPRISE = Style(color="cyan"), Style(color="bright_yellow")
OUTER, INNER, MEDIAN = (
    Style(color="magenta", dim=True),
    Style(color="magenta"),
    Style(color="bright_magenta", bold=True),
)
NOW = Style(dim=True)
USUAL = 0.96  # the share of the past that fits into the chart


@dataclass(frozen=True, slots=True)
class Outlook:
    """The forecast: quantiles, each a list by horizon."""

    q05: Sequence[float]
    q25: Sequence[float]
    q50: Sequence[float]
    q75: Sequence[float]
    q95: Sequence[float]


def draw(
    rates: Sequence[float],
    surprises: Sequence[bool],
    outlook: Outlook,
    width: int,
    height: int,
) -> list[Text]:
    """
    Return *height* lines of *width* characters: the newest rates, then the forecast.

    A missing rate (NaN) is a gap. Rates outside their forecast band are highlighted. The top of the
    chart is above nearly all of the past, and higher rates are cut: one spike would flatten the
    rest.
    """
    ahead = len(outlook.q50)
    shown = max(0, width - ahead - 1)
    rates, surprises = rates[-shown:], surprises[-shown:]
    known = sorted(rate for rate in rates if not math.isnan(rate))
    usual = known[int(len(known) * USUAL)] if known else 0.0
    top = max(usual * 1.1, *outlook.q75, 1e-9)
    lines = []
    for row in range(height - 1, -1, -1):
        line = Text(" " * (shown - len(rates)))
        for rate, surprise in zip(rates, surprises, strict=True):
            line.append(column(rate, row, top, height), SURPRISE if surprise else PAST)
        line.append("▏", NOW)
        floor, ceiling = row * top / height, (row + 1) * top / height
        for place in range(ahead):
            line.append(*band(outlook, place, floor, ceiling))
        lines.append(line)
    return lines


def column(rate: float, row: int, top: float, height: int) -> str:
    """Return the part of a rate's column that is in *row*."""
    if math.isnan(rate):
        return " "
    filled = round(rate / top * height * 8) - row * 8
    if row == 0 and rate > 0:
        filled = max(filled, 1)  # a small rate stays visible
    return EIGHTHS[min(max(filled, 0), 8)]


def band(outlook: Outlook, place: int, floor: float, ceiling: float) -> tuple[str, Style]:
    """Return the character and style of a forecast for rates from *floor* to *ceiling*."""
    if floor <= outlook.q50[place] < ceiling:
        return "━", MEDIAN
    if outlook.q25[place] < ceiling and outlook.q75[place] > floor:
        return "▒", INNER
    if outlook.q05[place] < ceiling and outlook.q95[place] > floor:
        return "░", OUTER
    return " ", NOW
