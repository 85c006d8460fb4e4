"""The results of a backtest, as tables that fit a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from streamer.evaluation.metrics import BacktestResult, Metrics
    from streamer.evaluation.peaks import PeakScore
    from streamer.evaluation.report import Report

COLUMNS_MAX = 12  # horizons that are shown
DESCRIPTIONS = {  # of each class of `evaluation.flow_classes`
    "mostly zero": "silent in more than half of the steps",
    "bursts": "a twentieth of the steps carries more than half",
    "rhythm": "the day's profile forecasts better than the last value does",
    "level": "none of these: it stays where it is, or wanders",
}
LEGEND = """\
 naive  the best naive forecast      last  last value
 loss   quantile loss                band  share that the 90 % band held
 new    on a flow's first day, over smoothing's error"""
UNWANTED = 1.02  # of its best baseline's error: what no kind of flow should exceed


def tables(report: Report) -> Iterable[RenderableType]:
    """The tables of one file: by horizon, by class of flow, and of new flows."""
    skill = report.skill
    shown = ahead(len(skill.horizons))
    by_horizon = {str(k): skill.horizons[k - 1] for k in shown}
    yield table("steps ahead", {**by_horizon, "all": skill.every})
    yield ""
    yield by_kind(report)
    if skill.cold is not None:
        yield ""
        yield (
            f"first day of a flow: {share(skill.cold.smoothed)} of smoothing's error,"
            f" {share(skill.cold.last)} of the last value's"
        )


def by_kind(report: Report) -> RenderableType:
    """The figures of each kind of flow, and what the kinds are."""
    columns = {**report.classes, "all": report.skill}
    every = {name: skill.every for name, skill in columns.items()}
    lines: dict[str, Callable[[BacktestResult], str]] = {
        "flows": lambda skill: f"{skill.flows:,}",
        "over the best naive one": over_best,
    }
    result = table("kind of flow", every)
    if report.skill.best_baseline is None:
        lines.popitem()
    for name, cell in lines.items():
        result.add_row(name, *(cell(skill) for skill in columns.values()))
    descriptions = [f"{kind:<12} {DESCRIPTIONS[kind]}" for kind in report.classes]
    return Group(result, Text("\n".join(f" {line}" for line in descriptions), "dim"))


def over_best(skill: BacktestResult) -> str:
    """By how much the median's error is above or below that of the best baseline."""
    if skill.over_best_baseline is None:
        return "-"
    text = percent(skill.over_best_baseline - 1, "+")
    return f"[red]{text}[/]" if skill.over_best_baseline > UNWANTED else text


def table(title: str, columns: dict[str, Metrics]) -> Table:
    """A line for each that forecasts, a column for each set of *columns*; the best marked."""
    result = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    result.add_column(Text(title, "dim"), no_wrap=True)
    for name in columns:
        last = name == "all"
        result.add_column(name, justify="right", style="bold" if last else "", no_wrap=True)
    figures = list(columns.values())
    contenders: list[tuple[str, list[float]]] = [("streamer", [each.median for each in figures])]
    contenders += [
        (name, [each.baselines[name] for each in figures])
        for name in figures[0].baselines
        if name != "last"  # which is the last value, and has its line below
    ]
    if all(each.untrained is not None for each in figures):
        contenders.append(("all mixed", [each.untrained or 0.0 for each in figures]))
    contenders.append(("last value", [each.last for each in figures]))
    contenders.append(("smoothed", [each.smoothed for each in figures]))
    least = [min(errors) for errors in zip(*(errors for _, errors in contenders), strict=True)]
    for name, errors in contenders:
        cells = (
            Text(share(error), "green" if error == best else "")
            for error, best in zip(errors, least, strict=True)
        )
        result.add_row(name, *cells, style="bold" if name == "streamer" else "")
    result.add_row()
    result.add_row("quantile loss", *(share(each.quantile_loss) for each in figures))
    if all(each.coverage is not None for each in figures):
        held = (f"{100 * (each.coverage or 0.0):.1f}" for each in figures)
        result.add_row("band held, %", *held)
    return result


def bands(skill: BacktestResult) -> str:
    """How good the bands are, in a line."""
    held = "" if skill.coverage is None else f"; the 90 % band held {percent(skill.coverage)}"
    return f"quantile loss {skill.quantile_loss:.4f} of the mean rate{held}"


def spikes(score: PeakScore) -> str:
    """How well spikes within a span were forecast, in a line."""
    return (
        f"spikes within {score.span} steps: average precision {score.average_precision:.3f}, "
        f"best F1 {score.best_f1:.3f} at a chance of {score.best_chance:.2f}; "
        f"{percent(score.base_rate)} of {score.origins:,} origins precede one"
    )


def summary(reports: Sequence[Report], all_of_them: Report) -> RenderableType:
    """A line for each file, and one for all of them."""
    result = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), collapse_padding=True)
    result.add_column(Text("file", "dim"), overflow="ellipsis", no_wrap=True, max_width=27)
    headings = "flows", "streamer", "naive", "last", "smoothed", "loss", "band", "new"
    for name in headings:
        result.add_column(name, justify="right", no_wrap=True)
    for each in (*reports, all_of_them):
        if each is all_of_them:
            result.add_row()
        skill, every = each.skill, each.skill.every
        result.add_row(
            each.name,
            f"{skill.flows:,}",
            share(every.median),
            share(min(every.baselines.values(), default=None)),
            share(every.last),
            share(every.smoothed),
            share(every.quantile_loss),
            "-" if skill.coverage is None else percent(skill.coverage),
            share(None if skill.cold is None else skill.cold.smoothed),
            style="bold" if each is all_of_them else "",
        )
    return Group(result, Text(LEGEND, "dim"))


def ahead(horizons: int) -> list[int]:
    """Which of 1, 2, … *horizons* are shown: all, or as many as there is room for."""
    if horizons <= COLUMNS_MAX:
        return list(range(1, horizons + 1))
    return sorted({1, *(round(n * horizons / COLUMNS_MAX) for n in range(1, COLUMNS_MAX + 1))})


def percent(value: float, sign: str = "") -> str:
    """As `89.9 %`; with "+" as *sign*, `+3.1 %`."""
    return f"{100 * value:{sign}.1f} %"


def share(value: float | None) -> str:
    """A figure in four characters at most while it is below 1000: `.597`, `1.02`, `10.2`."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return "-"
    if value < 0.9995:
        return f"{value:.3f}"[1:]
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"
