"""`streamer alerts`: the alerts that fire, and how often each rule was right."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from streamer.cli._records import Begin, records
from streamer.cli.options import DURATION, config_options, examples, settings
from streamer.config.types import Duration
from streamer.core.alerts.ledger import precision, recall
from streamer.log import TopicMissing
from streamer.text.escape import json_plain, markup, visible
from streamer.text.format import moment, span

if TYPE_CHECKING:
    from pathlib import Path

    from streamer.config.schema import Config
    from streamer.core.types import Record
    from streamer.log import Client

COUNTS = ("raised", "true", "late", "false", "missed", "lead_s")
MARKS = ("useful", "useless")
SEVERITIES = ("critical", "warning", "info")  # in the order of the list
STYLES = {"critical": "red", "warning": "yellow", "info": ""}

PIPE_WIDTH = 1000  # of lines for another program, which looks for words in them


@click.command(
    "alerts",
    epilog=examples(
        "streamer alerts -c streamer.yaml",
        "streamer alerts -c streamer.yaml --flow 'edge1/*' --json | jq -r .text",
        "streamer alerts -c streamer.yaml --ledger --since 7d --rule spike",
        "streamer alerts -c streamer.yaml --feedback 'edge1/in/spike@1700000100' useful",
    ),
)
@config_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, nothing left out.")
@click.option("--flow", "glob", metavar="GLOB", help="Only of flows whose names match, as edge1/*.")
@click.option("--rule", metavar="NAME", help="Only of this rule.")
@click.option("--ledger", is_flag=True, help="Show how often the alerts of each rule were right.")
@click.option("--since", type=DURATION, help="With --ledger: only the newest periods, as in 7d.")
@click.option(
    "--feedback",
    nargs=2,
    type=(str, click.Choice(MARKS)),
    metavar="ID useful|useless",
    help="Mark the alert with this id; --ledger counts the marks of each rule.",
)
def alerts_command(
    path: Path | None,
    overrides: tuple[str, ...],
    *,
    as_json: bool,
    glob: str | None,
    rule: str | None,
    ledger: bool,
    since: Duration | None,
    feedback: tuple[str, str] | None,
) -> None:
    """
    Show the alerts that fire now, or with --ledger how well each rule does.

    --json shows the ids of alerts, which --feedback takes. A prediction is true if its flow passed
    the threshold within the window after the alert, late if it had passed it before, false if it
    did not. A passing without an alert is missed.
    """
    from streamer.config.schema import open_client

    if since is not None and not ledger:
        raise click.UsageError("--since chooses periods of --ledger")
    if glob is not None and ledger:
        raise click.UsageError("--ledger has no flows: its counts are of whole rules")
    if feedback is not None and (ledger or as_json or glob or rule):
        raise click.UsageError("--feedback goes with no other option")
    config = settings(path, overrides)
    client = open_client(config, existing=True)
    try:
        if feedback is not None:
            mark(config, client, *feedback)
            return
        found = (
            list(totals(config, client, since)) if ledger else firing(read(config, client), glob)
        )
    finally:
        client.close()
    found = [each for each in found if rule in (None, each["rule"])]
    if as_json:
        for each in found:
            click.echo(json_plain(each))
    elif not found:
        click.echo(nothing(config, glob, rule, ledger=ledger), err=True)
    elif ledger:
        show_ledger(found)
    else:
        show(found)


def nothing(config: Config, glob: str | None, rule: str | None, *, ledger: bool) -> str:
    """Why there is nothing to show, in words."""
    if rule is not None and rule not in {each.name for each in config.alerts.in_force}:
        return f"there is no rule {visible(rule)}"
    of = "".join(
        f" of {what} {visible(name)}" for what, name in (("rule", rule), ("flows", glob)) if name
    )
    return f"no alert{of} was raised yet" if ledger else f"no alert{of} is firing"


def read(config: Config, client: Client) -> Iterator[dict[str, Any]]:
    """The newest record of each flow and rule."""
    topic = config.alerts.topic
    shape = client.topics().get(topic)
    if shape is None:
        raise TopicMissing([topic])
    for number in range(shape.partitions):
        for value in client.read_table(topic, number).values():
            record = parsed(value)
            if record is not None:
                yield record


def parsed(value: bytes | None) -> dict[str, Any] | None:
    """The JSON object in a record's *value*; None if there is none."""
    try:
        found = json.loads(value or b"")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def firing(found: Iterable[dict[str, Any]], glob: str | None) -> list[dict[str, Any]]:
    """Those of *found* that fire, the most severe and then the newest first."""
    kept = [
        each
        for each in found
        if each.get("state") == "firing"
        and {"flow", "rule", "severity", "since", "text"} <= each.keys()
        and (glob is None or fnmatchcase(each["flow"], glob))
    ]
    rank = {severity: place for place, severity in enumerate(SEVERITIES)}
    return sorted(
        kept,
        key=lambda each: (rank.get(each["severity"], 9), -each["since"], each["flow"]),
    )


def mark(config: Config, client: Client, name: str, verdict: str) -> None:
    """Publish an operator's verdict on the alert with the id *name*, beside its records."""
    import time

    from streamer.core.wire.alerts import feedback_message

    key, _, since = name.rpartition("@")
    for record in every_record(client, config.alerts.topic):
        alert = parsed(record.value)
        if alert is None or not {"id", "flow", "rule"} <= alert.keys() or not since.isdecimal():
            continue
        newest = str(alert["id"]).rpartition("@")
        # The topic keeps the newest of each key; receivers have the ids of earlier ones too.
        if newest[0] == key and newest[2].isdecimal() and int(since) <= int(newest[2]):
            alert |= {"id": name, "since": int(since)}
            client.send([feedback_message(record.partition, alert, verdict, round(time.time()))])
            client.flush()
            click.echo(f"{visible(name)}: {verdict}", err=True)
            return
    raise click.ClickException(f"{visible(name)}: {config.alerts.topic} has no such alert")


def every_record(client: Client, topic: str) -> Iterator[Record]:
    """The records of *topic*, up to its end."""
    return records(client, topic, Begin(from_start=True, since_ms=None), until_end=True)


def marks(config: Config, client: Client, begin: float) -> dict[str, Counter[str]]:
    """How many alerts of each rule that began after *begin* operators have marked, by the mark."""
    if config.alerts.topic not in client.topics():
        return {}
    newest: dict[str, dict[str, Any]] = {}  # by the alert's id: the last mark counts
    for record in every_record(client, config.alerts.topic):
        feedback = parsed(record.value)
        if (
            feedback is not None
            and feedback.get("feedback") in MARKS
            and {"id", "rule"} <= feedback.keys()
        ):
            newest[str(feedback["id"])] = feedback
    found: dict[str, Counter[str]] = {}
    for feedback in newest.values():
        if feedback.get("since", 0) > begin:
            found.setdefault(str(feedback["rule"]), Counter())[feedback["feedback"]] += 1
    return found


def totals(config: Config, client: Client, since: Duration | None) -> Iterator[dict[str, Any]]:
    """The ledger of each rule, added up over the newest periods, with its ratios."""
    every = [
        score
        for record in every_record(client, config.scores.topic)
        if (score := parsed(record.value)) is not None
        and str(score.get("class", "")).startswith("rule/")
    ]
    newest = max((each["ends_at"] for each in every), default=0)
    begin = newest - since if since is not None else 0
    sums: dict[str, dict[str, int]] = {}
    for each in every:
        if each["ends_at"] > begin:
            of_rule = sums.setdefault(each["class"].removeprefix("rule/"), dict.fromkeys(COUNTS, 0))
            for name in COUNTS:
                of_rule[name] += each[name]
    marked = marks(config, client, begin)
    for rule in marked:
        sums.setdefault(rule, dict.fromkeys(COUNTS, 0))
    for rule, totals in sorted(sums.items()):
        true = totals["true"]
        yield {
            "rule": rule,
            "until": newest,
            **totals,
            "precision": precision(true, totals["late"], totals["false"]),
            "recall": recall(true, totals["missed"]),
            "lead_mean_s": totals["lead_s"] / true if true else None,
            **{name: marked.get(rule, Counter())[name] for name in MARKS},
        }


def show(found: list[dict[str, Any]]) -> None:
    """A line for each alert."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("severity", "since (UTC)", "rule", ""):
        table.add_column(name)
    for each in found:
        style = STYLES.get(each["severity"], "")
        table.add_row(
            markup(str(each["severity"])),
            moment(each["since"]),
            markup(str(each["rule"])),
            markup(str(each["text"])),
            style=style,
        )
    console = Console(highlight=False)
    console.print(table, width=None if console.is_terminal else PIPE_WIDTH, crop=False)


def show_ledger(found: list[dict[str, Any]]) -> None:
    """A line for each rule."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, collapse_padding=True)
    table.add_column("rule", overflow="fold")
    for name in (*COUNTS[:-1], "prec.", "recall", "mean lead", *MARKS):
        table.add_column(name, justify="right")
    for each in found:
        shares = ["-" if each[n] is None else f"{each[n]:.2f}" for n in ("precision", "recall")]
        lead = "-" if each["lead_mean_s"] is None else span(each["lead_mean_s"])
        counts = (f"{each[name]:,}" for name in COUNTS[:-1])
        given = (str(each[name]) for name in MARKS)
        table.add_row(markup(each["rule"]), *counts, *shares, lead, *given)
    Console(highlight=False).print(table)
