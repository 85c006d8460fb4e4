"""`streamer check`: whether a file is all right, and what it amounts to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamer.cli.options import SETTINGS, examples, settings

if TYPE_CHECKING:
    from pathlib import Path


@click.command("check", epilog=examples("streamer check /etc/streamer/streamer.yaml"))
@click.argument("file", type=SETTINGS)
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override one key.")
def check_command(file: Path, overrides: tuple[str, ...]) -> None:
    """
    Validate a file and print what is in force.

    The environment and --set lie over the file, as they do for `run`. Secrets are
    not printed. Exits 78 where a key is wrong, and says which.
    """
    from streamer.config.schema import effective

    click.echo(effective(settings(file, overrides)), nl=False)
