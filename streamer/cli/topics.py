"""`streamer topics`: whether the topics are there, and as they must be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from streamer.cli.options import config_options, examples, settings
from streamer.log import TopicConfig
from streamer.text.escape import markup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from streamer.config.schema import Config


@click.command(
    "topics",
    epilog=examples(
        "streamer topics -c streamer.yaml",
        "streamer topics -c streamer.yaml --create --partitions 12",
    ),
)
@config_options
@click.option(
    "--create", is_flag=True, help="Create missing topics, and add partitions to streamer's own."
)
@click.option(
    "--partitions",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Of an input topic that is created; streamer's own get as many as the input has.",
)
def topics_command(
    path: Path | None, overrides: tuple[str, ...], *, create: bool, partitions: int
) -> None:
    """
    Report topics that are missing or misconfigured.

    The topics of state, models and alerts must be compacted, or records of quiet flows would be
    deleted with time. The others must not be compacted, or readings and forecasts would be
    deleted. Exits 1 if anything is wrong.
    """
    from streamer.config.schema import open_client

    config = settings(path, overrides)
    client = open_client(config)
    try:
        findings = list(survey(config, client.topics(), partitions))
        if create:
            for finding in findings:
                if finding.found is None:
                    client.create(finding.topic, finding.wanted)
                elif finding.narrow:
                    client.widen(finding.topic, finding.wanted.partitions)
            findings = list(survey(config, client.topics(), partitions))
    finally:
        client.close()

    show(findings)
    where = f" -c {path}" if path else ""
    if any(finding.found is None for finding in findings):
        click.echo(f"\nMake what is missing: streamer topics{where} --create", err=True)
    elif any(finding.narrow for finding in findings):
        click.echo(f"\nWiden what is too narrow: streamer topics{where} --create", err=True)
    if not findings or any(finding.fault for finding in findings):
        raise SystemExit(1)


@dataclass(frozen=True, slots=True)
class Finding:
    """A topic that is needed: how it must be laid out, and how it is."""

    topic: str
    wanted: TopicConfig
    found: TopicConfig | None  # None: it does not exist
    because: str = ", as the input has"

    @property
    def narrow(self) -> bool:
        """Whether partitions could be added to it."""
        return self.found is not None and self.found.partitions < self.wanted.partitions

    @property
    def fault(self) -> str | None:
        """What is wrong with it, if anything."""
        if self.found is None:
            return "missing"
        if self.found.compact != self.wanted.compact:
            return f"cleanup.policy must be {policy(self.wanted)}"
        if self.found.partitions != self.wanted.partitions:
            return f"must have {self.wanted.partitions} partitions{self.because}"
        return None


def survey(config: Config, found: Mapping[str, TopicConfig], partitions: int) -> Iterator[Finding]:
    """
    Each topic that *config* needs, beside the one in *found*.

    An input topic may have any number of partitions (*partitions* if it does not exist yet). The
    daemon's own topics must have as many as the widest of them, except those of models, of
    scores and of metrics, whose partitions follow from the key.
    """
    pattern, rekeyed = config.input.pattern, config.input.rekeyed
    named = config.input.read
    inputs = named if pattern is None else sorted(t for t in found if re.match(pattern, t))
    widths = [found[topic].partitions if topic in found else partitions for topic in inputs]
    for topic, width in zip(inputs, widths, strict=True):
        yield Finding(topic, TopicConfig(width, compact=False), found.get(topic))
    output = every = TopicConfig(max(widths, default=partitions), compact=False)
    if rekeyed is not None:  # of any width; forecasters read it instead
        output = TopicConfig((found.get(rekeyed) or output).partitions, compact=False)
        every = TopicConfig(max(output.partitions, every.partitions), compact=False)
        yield Finding(rekeyed, output, found.get(rekeyed))
    yield Finding(config.forecasts.topic, output, found.get(config.forecasts.topic))
    scored = found.get(config.scores.topic)
    any_width = TopicConfig(scored.partitions if scored else output.partitions, compact=False)
    yield Finding(config.scores.topic, any_width, scored)
    if config.metrics.topic is not None:
        metrics = found.get(config.metrics.topic)
        any_width = TopicConfig(metrics.partitions if metrics else output.partitions, compact=False)
        yield Finding(config.metrics.topic, any_width, metrics)
    if config.alerts.enabled:
        alerts = TopicConfig(output.partitions, compact=True)
        yield Finding(config.alerts.topic, alerts, found.get(config.alerts.topic))
    yield Finding(config.rejects_topic, every, found.get(config.rejects_topic))
    state = TopicConfig(output.partitions, compact=True)
    yield Finding(config.state_topic, state, found.get(config.state_topic))
    models = TopicConfig(1, compact=True)  # one partition: its records have one order
    yield Finding(config.models_topic, models, found.get(config.models_topic), ", not more")


def policy(shape: TopicConfig) -> str:
    """Its `cleanup.policy`, in Kafka's words."""
    return "compact" if shape.compact else "delete"


def show(findings: list[Finding]) -> None:
    """A line for each topic."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("topic")
    table.add_column("partitions", justify="right")
    table.add_column("cleanup")
    table.add_column("")
    for finding in findings:
        shape = finding.found or finding.wanted
        word = f"[red]{finding.fault}" if finding.fault else "[green]ok"
        style = None if finding.found else "dim"
        table.add_row(
            markup(finding.topic), str(shape.partitions), policy(shape), word, style=style
        )
    Console().print(table)
