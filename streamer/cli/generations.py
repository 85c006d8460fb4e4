"""`streamer generations`: the contests, the incumbent, and its choice by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from streamer.cli.options import config_options, examples, settings
from streamer.core.types import Message
from streamer.core.wire import contests, generations
from streamer.core.wire.generations import INCUMBENT, Incumbent
from streamer.log import TopicMissing
from streamer.text.escape import json_plain, markup, visible
from streamer.text.format import moment

if TYPE_CHECKING:
    from pathlib import Path

    from streamer.config.schema import Config
    from streamer.log import Client

SHIPPED = Incumbent(generation=0, previous=0, since=0.0, reason="shipped")
DIGEST = 12  # letters of it that are shown


@click.command(
    "generations",
    epilog=examples(
        "streamer generations -c streamer.yaml",
        "streamer generations -c streamer.yaml --json | jq 'select(.verdict == \"promoted\")'",
        "streamer generations -c streamer.yaml --rollback",
    ),
)
@config_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, nothing left out.")
@click.option("--promote", type=click.IntRange(0), metavar="N", help="Let generation N serve.")
@click.option("--rollback", is_flag=True, help="Let the one serve that served before.")
def generations_command(
    path: Path | None,
    overrides: tuple[str, ...],
    *,
    as_json: bool,
    promote: int | None,
    rollback: bool,
) -> None:
    """
    Show the trainer's contests, and the incumbent generation of weights.

    Each challenger has a number. One that won is a generation; each forecast carries the number of
    its generation. Generation 0 is the weights in the settings. A generation that is chosen by
    hand serves until the next contest is won.
    """
    from streamer.config.schema import open_client

    if promote is not None and rollback:
        raise click.UsageError("either --promote or --rollback")
    config = settings(path, overrides)
    client = open_client(config, existing=True)
    try:
        table = read(config, client)
        serves = incumbent(table)
        if promote is not None or rollback:
            wanted = serves.previous if promote is None else promote
            news = decide(config, client, table, wanted)
            word = "serves from now on" if news else "serves already"
            click.echo(f"generation {wanted} {word}", err=True)
            table = read(config, client)
            serves = incumbent(table)
    finally:
        client.close()
    held = list(results(table, serves))
    if as_json:
        for each in held:
            click.echo(json_plain(each))
    else:
        show(held, serves)


def read(config: Config, client: Client) -> Mapping[bytes, bytes]:
    """Return the table of the models topic; raises TopicMissing."""
    if config.models_topic not in client.topics():
        raise TopicMissing([config.models_topic])
    return client.read_table(config.models_topic, 0)


def incumbent(table: Mapping[bytes, bytes]) -> Incumbent:
    """Return the incumbent; without a readable record, the weights in the settings."""
    try:
        return generations.decode(table[INCUMBENT]) if INCUMBENT in table else SHIPPED
    except ValueError:
        return SHIPPED


def decide(config: Config, client: Client, table: Mapping[bytes, bytes], wanted: int) -> bool:
    """
    Make *wanted* the incumbent; False if it already is, so that its predecessor stays recorded.

    Raises ClickException if forecasters would reject it.
    """
    if wanted:
        judge(config, table, wanted)
    before = incumbent(table)
    unreadable = before is SHIPPED and INCUMBENT in table
    if before.generation == wanted and not unreadable:
        return False
    named = Incumbent(
        generation=wanted, previous=before.generation, since=before.since, reason="by_hand"
    )
    client.send([Message(config.models_topic, 0, INCUMBENT, generations.encode(named))])
    client.flush()
    return True


def judge(config: Config, table: Mapping[bytes, bytes], wanted: int) -> None:
    """Validate *wanted* as forecasters do; raises ClickException if they would reject it."""
    from streamer.core.registry.models import WeightsRejected
    from streamer.core.registry.validation import weights_validator

    packed = table.get(generations.weights_key(wanted))
    if packed is None:
        raise click.ClickException(f"generation {wanted}: its weights are not kept")
    try:
        weights_validator(config.model)(wanted, packed)
    except WeightsRejected as unfit:
        raise click.ClickException(f"generation {wanted}: {visible(unfit.detail)}") from None


def results(table: Mapping[bytes, bytes], serves: Incumbent) -> Iterator[dict[str, Any]]:
    """Yield contests and rollbacks as they are printed, in the order of their numbers."""
    import msgspec

    found = [(generations.numbered(key), value) for key, value in table.items()]
    records = [(of[1], of[0], value) for of, value in found if of and of[0] != "weights"]
    for generation, kind, value in sorted(records):
        decoder = contests.decode_contest if kind == "contest" else contests.decode_rollback
        try:
            fields = msgspec.to_builtins(decoder(value))
        except ValueError as error:
            fields = {"generation": generation, "unreadable": str(error)}
        kept = generations.weights_key(generation) in table
        yield {
            "kind": kind,
            **fields,
            "serves": kind == "contest" and generation == serves.generation,
            "weights_kept": kept,
        }


def show(held: list[dict[str, Any]], serves: Incumbent) -> None:
    """A line for each."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for name in ("", "against", "outcome", "gain", "between", "flows", "band held"):
        table.add_column(name, justify="left" if name == "outcome" else "right")
    for name in ("judged until", "weights"):
        table.add_column(name, no_wrap=True)
    for each in held:
        table.add_row(*map(markup, row(each)), style=None if each["serves"] else "dim")
    if held:
        console.print(table)
        console.print()
    why = {
        "promoted": "it won its contest",
        "rolled_back": "the one after it did worse",
        "by_hand": "by hand",
        "shipped": "no challenger has won yet",
    }
    console.print(
        f"generation {serves.generation} serves: {why.get(serves.reason, markup(serves.reason))}"
    )


def row(each: dict[str, Any]) -> list[str]:
    """The cells of a line."""
    number = str(each["generation"])
    if "unreadable" in each:
        return [number, "", f"unreadable: {each['unreadable']}"]
    contest = each["kind"] == "contest"
    outcome = f"{each['verdict']}: {each['reason']}" if contest else "taken back"
    return [
        f"→ {number}" if each["serves"] else number,
        str(each["incumbent"] if contest else each["restored"]),
        outcome + (", after a drift" if contest and each["drifted"] else ""),
        f"{each['gain']:+.2%}",
        f"{each['gain_low']:+.2%} … {each['gain_high']:+.2%}",
        f"{each['flows']:,}",
        f"{each['coverage_challenger' if contest else 'coverage']:.1%}",
        moment(each["judged_until"]),
        each["digest"][:DIGEST] if contest else "",
    ]
