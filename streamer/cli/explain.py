"""`streamer explain`: all about one flow, down to the gates of its last step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from streamer.cli._portrait import Found, described, find, weights_of
from streamer.cli.options import config_options, examples, settings
from streamer.text.escape import markup, visible
from streamer.text.format import moment, si, span

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from streamer.config.schema import Config
    from streamer.core.alerts.nearness import Nearness
    from streamer.core.alerts.rules import RuleConfig
    from streamer.core.columns import Rows
    from streamer.core.network.cell import Gates
    from streamer.core.network.model import Forecaster
    from streamer.core.predict.forecast import ForecastSpec
    from streamer.core.state.summary import FlowSummary

ROWS_MAX = 12  # horizons that are shown
SHARE_NONE = 0.005  # of a median: smaller shares are not shown
SHADES = "▁▂▃▄▅▆▇█"
GATES = {  # of each value: what it does, and the span that it lies in
    "f": ("what of the cell state stays", 0.0, 1.0),
    "i": ("what of the candidate enters", 0.0, 1.0),
    "o": ("what of the cell state is output", 0.0, 1.0),
    "g": ("candidate", -1.0, 1.0),
    "C": ("cell state", -2.0, 2.0),
    "h": ("output", -1.0, 1.0),
}


@click.command(
    "explain",
    epilog=examples("streamer explain edge1/xe-0/0/1/in -c /etc/streamer/streamer.yaml"),
)
@click.argument("flow")
@config_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with the gates over steps.")
@click.option(
    "--partition",
    type=click.IntRange(0),
    help="Read only this partition of the state topic: that of the flow's forecasts.",
)
def explain_command(
    flow: str,
    path: Path | None,
    overrides: tuple[str, ...],
    *,
    as_json: bool,
    partition: int | None,
) -> None:
    """
    Show all that is known of FLOW.

    Its size, last steps and standing forecast, the naive forecasts and their errors, the alert
    rules that match it and how close each is to firing, and the gates
    f, i and o, the candidate and the cell state of the LSTM at its last step, by the weights of the
    generation that stepped it. It is read from the state topic, so it is as old as the flow's page:
    `state.interval` at most, while a forecaster runs.
    """
    from rich.console import Console

    from streamer.config.schema import open_client
    from streamer.core.engine import Engine
    from streamer.core.state.summary import summarize
    from streamer.weights import open_model

    config = settings(path, overrides)
    client = open_client(config, existing=True)
    try:
        named = open_model(config.model, trained_later=config.trainer.enabled)
        engine = Engine(named, config.engine)
        found = find(client, config, engine, flow, partition)
        if found is None:
            raise click.ClickException(unknown(flow, config))
        model = weights_of(found, named, client, config)
    finally:
        client.close()
    portrait = summarize(found.row, engine.outlook)
    if as_json:
        if portrait is None:
            raise click.ClickException(f"no step of {visible(flow)} has closed yet")
        if config.model.cell != "lstm":
            model = f"model.cell is {config.model.cell}: there are no gates"
        click.echo(json.dumps(described(flow, found, portrait, engine.outlook, model)))
        return
    console = Console(highlight=False)
    where = f"{found.topic}/{found.partition}, page {found.page}, generation {found.generation}"
    console.print(f"[bold]{markup(flow)}[/]   [dim]{markup(where)}[/]")
    if portrait is None:
        console.print("No step has closed yet.")
        return
    show_past(console, portrait, engine.outlook)
    show_forecast(console, portrait, engine.outlook)
    show_baselines(console, portrait, engine.outlook)
    show_widths(console, portrait, engine.outlook)
    if config.alerts.enabled:
        show_rules(console, flow, found.row, config, portrait.unit)
    if config.model.cell == "lstm":
        show_step(console, found, model)


def unknown(flow: str, config: Config) -> str:
    """That *flow* has no saved row, and which flows have a name like it."""
    from difflib import get_close_matches

    from streamer.cli._flows import known_flows

    known = sorted(known_flows(config))
    text = f"{config.state_topic} has no flow {visible(flow)}"
    near = get_close_matches(flow, known, n=3, cutoff=0.5)
    if near:
        return f"{text}: do you mean {' or '.join(map(visible, near))}?"
    return f"{text}; it has {len(known):,} flows" + (
        f", such as {visible(known[0])}" if known else ""
    )


def show_past(console: Console, portrait: FlowSummary, outlook: ForecastSpec) -> None:
    """Its size, its age and its last steps."""
    unit = markup(portrait.unit)
    count = "" if portrait.count is None else f", at {portrait.count:,}"
    console.print(f"{portrait.kind}{count}, read at {moment(portrait.read_at)} UTC")
    known = span(portrait.steps * outlook.step_s)
    console.print(
        f"known for {known}, {portrait.missing_share:.0%} of its steps missing lately;"
        f" mean {si(portrait.mean, unit)}, peak {si(portrait.peak, unit)}"
        + (f", capacity {si(portrait.capacity, unit)}" if portrait.capacity else "")
    )
    top = max(portrait.rates[portrait.rates == portrait.rates].max(initial=0.0), 1e-9)
    strip = "".join(shade(rate, 0, top) for rate in portrait.rates.tolist())
    ago = span(len(portrait.rates) * outlook.step_s)
    console.print(f"\n[bold]last {ago}[/]   [dim]up to {si(top, unit)}[/]\n [cyan]{strip}[/]")


def show_forecast(console: Console, portrait: FlowSummary, outlook: ForecastSpec) -> None:
    """The standing forecast, horizon by horizon."""
    from rich.table import Table

    console.print(f"\n[bold]forecast[/] made at {moment(portrait.made_at)} UTC")
    table = Table(box=None, pad_edge=True)
    table.add_column("ahead", justify="right", style="dim")
    for quantile in outlook.quantiles:
        table.add_column(f"{quantile:g}", justify="right")
    every = -(-len(portrait.bands) // ROWS_MAX)
    for horizon in range(every, len(portrait.bands) + 1, every):
        band = portrait.bands[horizon - 1].tolist()
        table.add_row(
            span(horizon * outlook.step_s), *(si(rate, markup(portrait.unit)) for rate in band)
        )
    console.print(table)
    if portrait.burst_odds is not None:
        console.print(
            f"bursts of the last week return with {portrait.burst_odds:.2g} times the odds"
            " that the head of peaks gives them"
        )


def show_baselines(console: Console, portrait: FlowSummary, outlook: ForecastSpec) -> None:
    """How far the naive forecasts were off lately, the best at each horizon marked."""
    from rich.table import Table

    from streamer.core.features.baselines import TRACKED_HORIZONS

    console.print("\n[bold]naive forecasts[/] and their running errors [dim](of log rate)[/]")
    table = Table(box=None, pad_edge=True)
    table.add_column("", style="dim")
    for anchor in TRACKED_HORIZONS:
        table.add_column(span(anchor.horizon * outlook.step_s), justify="right")
    least = [min(errors) for errors in zip(*portrait.errors.values(), strict=True)]
    for name, errors in portrait.errors.items():
        cells = (
            f"[green]{error:.3f}[/]" if error == best else f"{error:.3f}"
            for error, best in zip(errors, least, strict=True)
        )
        table.add_row(name, *cells)
    table.add_section()
    table.add_row("network", *(f"{error:.3f}" if error else "" for error in portrait.error))
    console.print(table)
    if portrait.served_by:
        console.print(f"served by {portrait.served_by}")
        return
    shares = [f"{name} {share:.0%}" for name, share in portrait.blend.items() if share > SHARE_NONE]
    console.print("served by the network, as no baseline has long been better;")
    console.print(f"its median is blended of {', '.join(shares)}")


def show_widths(console: Console, portrait: FlowSummary, outlook: ForecastSpec) -> None:
    """The factors of the widths, so that bands have their nominal coverage."""
    from rich.table import Table

    from streamer.core.features.baselines import TRACKED_HORIZONS

    console.print("\n[bold]widths[/] learned from what came")
    table = Table(box=None, pad_edge=True)
    table.add_column("beyond", style="dim")
    for anchor in TRACKED_HORIZONS:
        table.add_column(span(anchor.horizon * outlook.step_s), justify="right")
    for quantile, factors in portrait.wider.items():
        table.add_row(f"{quantile:g}", *(f"x {factor:.2f}" for factor in factors))
    table.add_section()
    table.add_row("all moved by", *(f"{moved:+.2f} errors" for moved in portrait.moved))
    console.print(table)


def show_rules(console: Console, flow: str, row: Rows, config: Config, unit: str) -> None:
    """The alert rules that match the flow, and how close each is to firing."""
    from rich.table import Table

    from streamer.core.alerts.nearness import nearness
    from streamer.core.types import DAY_S

    every = [
        (rule, nearness(rule, flow, row, DAY_S / config.step)) for rule in config.alerts.in_force
    ]
    console.print("\n[bold]alert rules[/] that match, and how close each is to firing")
    table = Table(box=None, pad_edge=True)
    for rule, near in every:
        if not near.matches:
            continue
        phase = near.phase.name.lower()
        since = f" since {moment(near.since)} UTC" if near.since else ""
        style = "red" if near.since else "dim"
        distance = closeness(rule, near, unit) if near.applied else "not applied to a step yet"
        table.add_row(markup(rule.name), f"[{style}]{phase}[/]{since}", distance)
    console.print(table)
    others = [rule.name for rule, near in every if not near.matches]
    if others:
        console.print(f"[dim]not for this flow: {markup(', '.join(others))}[/]")


def closeness(rule: RuleConfig, near: Nearness, unit: str) -> str:
    """What the rule compares, in words."""
    limit = "unknown" if near.threshold is None else si(near.threshold, markup(unit))
    if rule.predicted:
        if near.threshold is None:
            return f"the threshold is not known ({near.reason.name.lower()})"
        within = "" if rule.within is None else f" within {rule.within}"
        return (
            f"chance {near.value or 0:.0%} of {near.needed:.0%} that the peak{within} passes"
            f" {limit} [dim]({near.reason.name.lower()})[/]"
        )
    if rule.kind == "silence":
        young = " [dim](not yet: it is young, small, or may have nothing to send)[/]"
        not_expected = young if near.reason.name == "YOUNG" else ""
        return f"{span(near.needed)} without a reading needed, while others go on{not_expected}"
    if rule.kind == "anomaly":
        return (
            f"{near.value or 0:.0f} of the last {rule.window} steps outside of their bands,"
            f" {near.needed:.0f} needed"
        )
    if rule.kind == "coverage":
        share = "unknown" if near.value is None else f"{near.value:.0%}"
        return f"bands hold {share} of the rates, below {near.needed:.0%} needed"
    return f"usual rate {si(near.value or 0, markup(unit))}, a step below {limit} needed"


def show_step(console: Console, found: Found, model: Forecaster | str) -> None:
    """The last step by the weights that took it, if they are available."""
    if isinstance(model, str):
        console.print(
            f"\n[yellow]The gates cannot be shown.[/] They are of generation {found.generation},"
            f" and its weights are not to be had: {markup(model)}."
        )
        return
    console.print(f"\nThe gates below are of generation {model.generation}, as the flow's page is.")
    row = found.row
    for layer, gates in enumerate(model.gates(row["inputs"], row["state_before"], row["state"])):
        show_gates(console, layer, gates)


def show_gates(console: Console, layer: int, gates: Gates) -> None:
    """The last step of a layer, a sign for each of its units."""
    title = f"last step of the LSTM, layer {layer + 1}"
    console.print(f"\n[bold]{title}[/] [dim]the mean, and a sign for each unit[/]")
    for name, (_, low, high) in GATES.items():
        values = getattr(gates, name)[0].tolist()
        mean = sum(values) / len(values)
        strip = "".join(shade(value, low, high) for value in values)
        line = f" [bold]{name}[/] {mean:+.2f}  [magenta]{strip}[/]"
        console.print(line, no_wrap=True, overflow="ellipsis")
    console.print("\n".join(f" [dim]{name}  {does}[/]" for name, (does, _, _) in GATES.items()))


def shade(value: float, low: float, high: float) -> str:
    """*value* as a column from *low* to *high*; a gap where there is none."""
    if value != value:  # noqa: PLR0124 - NaN
        return " "
    place = (value - low) / (high - low) * len(SHADES)
    return SHADES[min(max(int(place), 0), len(SHADES) - 1)]
