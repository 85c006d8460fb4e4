"""The demo's screen: progress, errors, a few flows, surprises."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Group
from rich.style import Style
from rich.text import Text

from streamer.demo.chart import MEDIAN, OUTER, PAST, SURPRISE, Outlook, draw
from streamer.demo.live_alerts import AlertRecord, AlertTally
from streamer.demo.live_scores import NAMES, Surprise, Tally, Trace
from streamer.text.escape import visible
from streamer.text.format import si, span

DIM, BOLD = Style(dim=True), Style(bold=True)
GOOD, POOR = Style(color="green", bold=True), Style(color="red", bold=True)
CHART_ROWS = 5
SURPRISES_MAX = 5
PREDICTED_MAX = 3  # alerts that are shown
KNOWN_MIN = 30  # steps before a flow is shown
RATE_MIN = 1e3  # a smaller rate looks unrealistic for an interface
BAR = 14
INTRODUCTION = """
 A feeder writes byte counters of some hundred interfaces into a log, at many
 times real speed, as collectors write them into Kafka.

 A forecaster reads them. For each interface it keeps the state of an LSTM,
 steps it on with each closed step, and forecasts the next steps:
 the median, and a band for nine in ten. Each turn is one transaction.

 This screen follows the forecasts, as any consumer could, and holds each
 against what came true, beside two guesses that cost nothing.
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """What the view shows besides the tally."""

    speed: float  # seconds of history per second
    step_s: int
    seconds: float  # since the demo began
    readings: int
    readings_per_s: float
    forecasts_per_s: float
    lag: int | None  # unread records; None: not known yet
    counters: Mapping[str, int]  # readings by verdict
    console: str = ""  # the address of the same as web pages; empty: there are none


def screen(tally: Tally, scene: Scene, traces: Sequence[Trace], width: int, height: int) -> Group:
    """Return the screen, *width* columns wide and at most *height* rows high."""
    width = min(width, 140)
    lines = head(tally, scene, width)
    if not tally.forecasts:
        lines += [Text(line) for line in INTRODUCTION.splitlines()]
        return Group(*lines)
    lines += errors(tally, scene)
    charts = max(1, min(3, (height - len(lines) - 4) // (CHART_ROWS + 2)))
    for trace in traces[:charts]:
        lines += [Text(), *flow(trace, width)]
    lines += [Text(), legend()]
    lines += alerts(tally.alerts, height - len(lines) - 1)
    lines += surprises(tally, scene, height - len(lines))
    for line in lines:
        line.truncate(width)
    return Group(*lines[:height])


def head(tally: Tally, scene: Scene, width: int) -> list[Text]:
    """Return the header: the time in the history, and the totals."""
    if tally.made_at:
        at = datetime.fromtimestamp(tally.made_at, UTC)
        day = (tally.made_at - tally.first_at) // 86400 + 1
        when = f"{at:%a %d %b %Y  %H:%M}   day {day}   {span(scene.speed)} a second"
    else:
        when = f"loading the network, {scene.seconds:.0f} s"
    title = Text.assemble((" streamer", BOLD), (" demo", DIM))
    title.append(f"{when} ".rjust(width - len(title)), DIM)
    lag = "" if scene.lag is None else f"   {scene.lag:,} waiting"
    numbers = Text.assemble(
        (f" {len(tally.traces):,}", BOLD),
        " flows   ",
        (f"{scene.readings:,}", BOLD),
        f" readings, {scene.readings_per_s:,.0f} a second   ",
        (f"{tally.forecasts:,}", BOLD),
        f" forecasts, {scene.forecasts_per_s:,.0f} a second",
    )
    if len(numbers) + len(lag) <= width:
        numbers.append(lag, DIM)
    shown = Text.assemble((" on web pages: ", DIM), scene.console) if scene.console else Text()
    return [title, Text("─" * width, DIM), numbers, shown, *([Text()] if scene.console else [])]


def errors(tally: Tally, scene: Scene) -> list[Text]:
    """Return the median's error beside those of the baselines, at two horizons."""
    title = Text(" error of the median".ljust(24), DIM)
    for horizon in tally.horizons:
        title.append(f"{span(horizon * scene.step_s)} ahead".ljust(BAR + 8), DIM)
    lines = [title]
    for name in NAMES:
        line = Text(f" {name}".ljust(24), BOLD if name == NAMES[0] else DIM)
        for horizon in tally.horizons:
            line.append_text(bar(tally.error(horizon, name), own=name == NAMES[0]))
        lines.append(line)
    held = Text(" band of 90 % held".ljust(24), DIM)
    for horizon in tally.horizons:
        share = tally.coverage(horizon)
        held.append(("" if share is None else f"{share:.1%}").ljust(BAR + 8))
    return [*lines, held]


def bar(error: float | None, *, own: bool) -> Text:
    """Return an error as a bar, whose full length is the last value's error."""
    if error is None:
        return Text(" " * (BAR + 8))
    style = DIM if not own else GOOD if error < 1 else POOR
    filled = min(round(error * BAR), BAR + 1)
    return Text.assemble(
        (("━" * filled).ljust(BAR + 2), style), (f"{error:.2f}".ljust(6), style if own else DIM)
    )


def chosen(tally: Tally) -> list[Trace]:
    """
    Return the flows that show forecasts best: large ones with a time-dependent rate.

    The flows come first whose median gains most over the last value.
    """
    return sorted(filter(lively, tally.traces.values()), key=gain, reverse=True)


def lively(trace: Trace) -> bool:
    """Return whether its rates vary much, and smoothly: noise and spikes are unsuitable."""
    known = [rate for rate in trace.rates if not math.isnan(rate)]
    if len(known) < KNOWN_MIN or statistics.fmean(known) < RATE_MIN:
        return False
    ceiling = sorted(known)[int(len(known) * 0.95)]
    cut = [min(rate, ceiling) for rate in known]
    mean = statistics.fmean(cut)
    if statistics.median(cut) < 0.5 * mean or statistics.pstdev(cut) < 0.3 * mean:
        return False
    return statistics.correlation(cut[1:], cut[:-1]) > 0.85


def gain(trace: Trace) -> float:
    """Return by what factor the median beats the last value at the longest horizon."""
    median, last, _ = trace.scores[max(trace.scores)].sums
    return last / median if median else 0.0


def flow(trace: Trace, width: int) -> list[Text]:
    """Return the display of one flow: its name and numbers, and its chart."""
    forecast = trace.forecast
    assert forecast is not None
    unit = visible(forecast.unit)
    furthest = span(len(forecast.q50) * forecast.step_s)
    title = Text.assemble(
        (f" {visible(trace.flow)}", BOLD),
        f"   {si(forecast.rate, unit)}",
        (f"   in {furthest}: ", DIM),
        (si(forecast.q50[-1], unit), MEDIAN),
        (f"  ({si(forecast.q05[-1])} to {si(forecast.q95[-1])})", DIM),
    )
    outlook = Outlook(forecast.q05, forecast.q25, forecast.q50, forecast.q75, forecast.q95)
    rates, surprised = list(trace.rates), list(trace.surprises)
    chart = draw(rates, surprised, outlook, width - 2, CHART_ROWS)
    return [title, *(Text(" ").append_text(line) for line in chart)]


def legend() -> Text:
    """Return the explanation of the colours."""
    return Text.assemble(
        (" ▇", PAST),
        (" rate ", DIM),
        (" ▇", SURPRISE),
        (" outside its band ", DIM),
        (" ━", MEDIAN),
        (" median ", DIM),
        (" ░", OUTER),
        (" band of 90 %", DIM),
    )


def alerts(tally: AlertTally, most: int) -> list[Text]:
    """Return the ledger of alerts, and the newest that fired before their spike."""
    sums = tally.ledger
    if most < 1 or not sums["raised"]:
        return []
    lead = "" if tally.lead_s is None else f", {span(round(tally.lead_s))} ahead"
    ledger = Text.assemble(
        (f" {sums['raised']:,}", BOLD),
        " alerts of spikes   ",
        (f"{sums['true']:,}", GOOD),
        f" before their spike{lead}   ",
        (
            f"{sums['late']:,} late   {sums['false']:,} false   {sums['missed']:,} missed",
            DIM,
        ),
    )
    newest = list(tally.predicted)[::-1][: max(0, min(most - 1, PREDICTED_MAX))]
    return [ledger, *(Text(f" {predicted(each)}", DIM) for each in newest)]


def predicted(alert: AlertRecord) -> str:
    """Return an alert that came true as text."""
    at = f"{datetime.fromtimestamp(alert.since, UTC):%a %H:%M}"
    likely = "" if alert.chance is None else f", with a chance of {alert.chance:.0%}"
    above = "" if alert.threshold is None else f" above {si(alert.threshold, visible(alert.unit))}"
    came = f"it came {span(alert.lead_s or 0)} later"
    return f"{at}  {visible(alert.flow)}{above} was expected{likely}; {came}"


def surprises(tally: Tally, scene: Scene, most: int) -> list[Text]:
    """Return the newest rates far outside their band, and the totals by verdict."""
    counted = ", ".join(f"{number:,} {verdict}" for verdict, number in scene.counters.items())
    last = [Text(f" counters: {counted}", DIM)] if counted else []
    newest = list(tally.surprises)[::-1][: max(0, min(most - len(last), SURPRISES_MAX))]
    return [*map(surprise, newest), *last]


def surprise(each: Surprise) -> Text:
    """Return one of them as text."""
    return Text.assemble(
        (f" {datetime.fromtimestamp(each.made_at, UTC):%H:%M}  ", DIM),
        f"{visible(each.flow)}  ",
        (si(each.rate, visible(each.unit)), SURPRISE),
        (f"  awaited {si(each.low)} to {si(each.high, visible(each.unit))}", DIM),
    )
