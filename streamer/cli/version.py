"""`streamer version`: what is installed."""

from __future__ import annotations

from importlib.metadata import version

import click

from streamer.cli.options import examples


@click.command("version", hidden=True, epilog=examples("streamer version"))
def version_command() -> None:
    """Say which streamer this is."""
    click.echo(f"streamer {version('streamer')}")
