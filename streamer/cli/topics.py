"""`streamer topics`: whether the topics are there, and as they must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamer.cli._topics import PARTITIONS, policy, survey
from streamer.cli.options import config_options, examples, settings
from streamer.text.escape import markup

if TYPE_CHECKING:
    from pathlib import Path

    from streamer.cli._topics import Finding


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
    default=PARTITIONS,
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
