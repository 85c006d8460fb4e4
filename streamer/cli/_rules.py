"""The rules that `streamer backtest` tries: read from a file, and how they did as a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamer.config.sources import ConfigError
from streamer.text.escape import markup
from streamer.text.format import span

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from streamer.config.schema import Config
    from streamer.core.alerts.rules import RuleConfig
    from streamer.evaluation.alarms import AlarmScorer, Event, RuleFigures
    from streamer.evaluation.backtest import Extent

DEFAULT = "default"  # instead of a file: the rules that need no configuration
WIDTH_LEAST = 100  # of the table, which large numbers make wider than a narrow terminal
NAMES = {
    "rule": "",
    "last value": "last value",
    "same time": "same time",
    "chance": "chance",
}


def trial(
    rules: Path | None, alerts: Path | None, tune: float | None, events: Path | None
) -> Trial | None:
    """The trial that the options ask for, if any; raises click.UsageError."""
    if rules is not None:
        return Trial(alerts, tune, events_of(events))
    if any(each is not None for each in (alerts, tune, events)):
        raise click.UsageError("--alerts, --tune and --events need --rules")
    return None


class Trial:
    """The alert rules of the settings, tried over one file after another."""

    def __init__(self, alerts: Path | None, tune: float | None, events: Sequence[Event]) -> None:
        self._alerts, self._tune, self._events = alerts, tune, events
        self._scorer: AlarmScorer | None = None
        self.reported: dict[str, Any] = {}  # for JSON, by file

    def begin(self, config: Config, extent: Extent, share: float) -> tuple[Config, AlarmScorer]:
        """The settings with all rules that are tried, and what observes them."""
        from streamer.evaluation.alarms import AlarmScorer, variants

        tune = self._tune is not None
        config, rules = with_variants(config, tune=tune)
        step_s = int(config.grid.step)
        scored = extent.first + int((extent.last - extent.first + 1) * share)
        self._scorer = AlarmScorer(
            variants=variants(rules, tune=tune),
            flows=extent.flows,
            first=extent.first,
            last=extent.last,
            step_s=step_s,
            horizons=config.forecasts.horizons,
            begin=scored * step_s,
            events=self._events,
        )
        return config, self._scorer

    def end(self, file: Path, console: Console) -> None:
        """Show the figures, and write the records of alerts if that is asked for."""
        from streamer.evaluation.alarms import tuned

        assert self._scorer is not None
        found = self._scorer.figures()
        best = [] if self._tune is None else list(tuned(found, self._tune))
        width = max(console.width, WIDTH_LEAST)
        console.print("", table(found, best), sep="\n", width=width, crop=False)
        self.reported[file.name] = figures(found)
        if self._alerts is not None:
            number = write_alerts(self._scorer, self._alerts)
            click.echo(f"{self._alerts}: {number:,} records of alerts", err=True)


def overrides_of(file: Path | None) -> tuple[str, ...]:
    """
    The settings that put the rules of *file* in force; none without one.

    The file is a settings file, of which only the rules and the capacities of links are taken, or
    has `rules` at its top. Raises ConfigError if it has none.
    """
    if file is None:
        return ()
    if str(file) == DEFAULT:
        return ("alerts.enabled=true",)
    from streamer.config import sources

    tree = sources.read(file)
    alerts: Any = tree.get("alerts", tree)
    rules = alerts.get("rules") if isinstance(alerts, dict) else None
    if not isinstance(rules, list):
        raise ConfigError(f"{file}: must have rules, or alerts.rules, a list")
    found = {"rules": rules, "capacities": alerts.get("capacities") or {}}
    settings = (f"alerts.{key}={json.dumps(value, default=str)}" for key, value in found.items())
    return "alerts.enabled=true", *settings


def events_of(file: Path | None) -> list[Event]:
    """The events of a CSV file with the columns flow (a glob), start and end, in epoch seconds."""
    from streamer.evaluation.alarms import Event

    if file is None:
        return []
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            return [
                Event(row["flow"], int(float(row["start"])), int(float(row["end"])))
                for row in csv.DictReader(lines)
            ]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{file}: needs the columns flow, start and end: {error}") from None


def with_variants(config: Config, *, tune: bool) -> tuple[Config, tuple[RuleConfig, ...]]:
    """The settings with the rules that are run beside those in force, and the latter."""
    import msgspec

    from streamer.evaluation.alarms import variants

    rules = config.alerts.in_force
    every = tuple(each.rule for each in variants(rules, tune=tune))
    alerts = msgspec.structs.replace(config.alerts, rules=every)
    return msgspec.structs.replace(config, alerts=alerts), rules


def write_alerts(scorer: AlarmScorer, file: Path) -> int:
    """The alert records as they would be on the topic, one a line; returns their number."""
    from streamer.core.wire.alerts import encoded

    with file.open("wb") as out:
        for alert in scorer.alerts:
            out.write(encoded(alert) + b"\n")
    return len(scorer.alerts)


def figures(found: Sequence[RuleFigures]) -> list[dict[str, Any]]:
    """For JSON."""
    from dataclasses import asdict

    ratios = ("precision", "recall", "f1", "alerts_a_flow_day", "false_a_flow_day")
    return [{**asdict(each), **{name: getattr(each, name) for name in ratios}} for each in found]


def table(found: Sequence[RuleFigures], best: Sequence[RuleFigures]) -> Table:
    """A line for each rule and for each alarm beside it; the *best* of those tuned are marked."""
    from rich.table import Table

    rows = Table(box=None, pad_edge=False, collapse_padding=True)
    # Only the first column is folded, to what the lines below a rule need.
    rows.add_column("rule", overflow="fold", min_width=len(" chance 0.25 best"))
    columns = ("raised", "true", "late", "false", "missed", "prec.", "rec.", "F1", "lead")
    for name in (*columns, "false\na day"):
        rows.add_column(name, justify="right", no_wrap=True)
    for each in found:
        beside = NAMES[each.kind]
        name = f" [dim]{beside}[/]" if beside else f"[bold]{markup(each.rule)}[/]"
        if each.kind == "chance":
            name = f" [dim]chance {each.chance:g}[/]" + " [green]best[/]" * (each in best)
        known = each.judged or bool(each.events)
        counts = [f"{getattr(each, column):,}" for column in columns[1:5]]
        rows.add_row(
            name,
            f"{each.raised:,}",
            *(counts if known else "-" * 4),
            *(
                "-" if ratio is None else f"{ratio:.2f}"
                for ratio in (each.precision, each.recall, each.f1)
            ),
            "-" if each.lead_s is None else span(each.lead_s),
            f"{each.false_a_flow_day:.3f}" if known else f"({each.alerts_a_flow_day:.3f})",
        )
    return rows
