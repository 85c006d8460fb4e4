"""`streamer check`: whether a file is all right, and what it amounts to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamer.cli.options import SETTINGS, examples, settings
from streamer.config.sources import ConfigError

if TYPE_CHECKING:
    from streamer.config.schema import Config

SECRETS = (  # settings that name the file of a secret
    ("http", "token_file"),
    ("kafka", "sasl_password_file"),
    ("kafka", "sasl_token_file"),
    ("kafka", "ssl_keyfile_password_file"),
)
CERTIFICATES = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile")  # of `kafka`
RECEIVER_FILES = ("ca_file", "cert_file", "key_file")


@click.command("check", epilog=examples("streamer check /etc/streamer/streamer.yaml"))
@click.argument("file", type=SETTINGS)
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override one key.")
def check_command(file: Path, overrides: tuple[str, ...]) -> None:
    """
    Validate a file and print what is in force.

    The environment and --set lie over the file, as they do for `run`. The files that it names are
    opened: weights, certificates and secrets. Secrets are not printed. Exits 78 where a key is
    wrong, and reports which.

    If alerts are enabled and the log can be reached, standard error gets the number of known flows
    that each rule matches.
    """
    from streamer.config.schema import effective

    config = settings(file, overrides)
    check_files(config)
    click.echo(effective(config), nl=False)
    if config.alerts.in_force:
        show_matches(config)
    elif config.notify.alertmanagers or config.notify.webhooks:
        click.echo("notify has receivers, but alerts.enabled is false: none is sent", err=True)


def check_files(config: Config) -> None:
    """Raise ConfigError or Misconfigured, with the key, if a file cannot be used as `run` would."""
    from streamer.core.network.config import ModelConfig
    from streamer.ops.secrets import located, secret

    for section, name in SECRETS:
        named = getattr(getattr(config, section), name)
        if named is not None:
            secret(f"{section}.{name}", named, "")
    for name in CERTIFICATES:
        named = getattr(config.kafka, name)
        check_file(f"kafka.{name}", None if named is None else Path(named))
    for kind in ("alertmanagers", "webhooks"):
        for nth, receiver in enumerate(getattr(config.notify, kind)):
            key = f"notify.{kind}.{nth}"
            secret(f"{key}.authorization_file", receiver.authorization_file, "")
            for name in RECEIVER_FILES:
                named = getattr(receiver, name)
                check_file(f"{key}.{name}", None if named is None else located(named))
    if config.model != ModelConfig():  # torch takes seconds to import
        from streamer.weights import open_model

        open_model(config.model, trained_later=config.trainer.enabled)


def check_file(key: str, file: Path | None) -> None:
    """Raise ConfigError if the *file* that *key* names cannot be read."""
    try:
        if file is not None:
            file.open("rb").close()
    except OSError as error:
        raise ConfigError(f"{key}: cannot read {file}: {error.strerror}") from None


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
