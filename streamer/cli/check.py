"""`streamer check`: whether a file is all right, and what it amounts to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamer.cli.options import SETTINGS, examples, settings

if TYPE_CHECKING:
    from pathlib import Path

    from streamer.config.schema import Config


@click.command("check", epilog=examples("streamer check /etc/streamer/streamer.yaml"))
@click.argument("file", type=SETTINGS)
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override one key.")
def check_command(file: Path, overrides: tuple[str, ...]) -> None:
    """
    Validate a file and print what is in force.

    The environment and --set lie over the file, as they do for `run`. Secrets are
    not printed. Exits 78 where a key is wrong, and says which.

    If alerts are enabled and the log can be reached, standard error gets the number of known flows
    that each rule matches.
    """
    from streamer.config.schema import effective

    config = settings(file, overrides)
    click.echo(effective(config), nl=False)
    if config.alerts.in_force:
        show_matches(config)


def show_matches(config: Config) -> None:
    """How many of the flows in the state topic each rule matches; a line if they are unknown."""
    from streamer.cli._flows import known_flows
    from streamer.log import LogError

    try:
        flows = known_flows(config)
    except LogError as error:
        click.echo(f"flows are not known: {error}", err=True)
        return
    for rule in config.alerts.in_force:
        number = sum(map(rule.matches, flows))
        click.echo(f"rule {rule.name}: matches {number:,} of {len(flows):,} known flows", err=True)
        if flows and not number:
            click.echo(f"rule {rule.name}: look at its flows and pattern", err=True)
