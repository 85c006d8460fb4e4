"""`streamer tail`: what is on a topic, as it comes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from streamer.commands.options import config_options, examples, log_option, settings
from streamer.commands.words import moment, si, span
from streamer.log import TopicMissing

if TYPE_CHECKING:
    from pathlib import Path

    from streamer.core.facts import Record
    from streamer.log import Client


@click.command(
    "tail",
    epilog=examples(
        "streamer tail traffic.forecasts --log sqlite:///traffic.db --from-start -n 5",
        "streamer tail traffic.forecasts --log kafka://localhost:9092 --json | jq .q50",
    ),
)
@click.argument("topic")
@log_option
@config_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, nothing left out.")
@click.option("--from-start", is_flag=True, help="Begin with the oldest record that is kept.")
@click.option("-n", "most", type=click.IntRange(1), help="Stop after so many lines.")
def tail_command(
    topic: str,
    url: str | None,
    path: Path | None,
    overrides: tuple[str, ...],
    *,
    as_json: bool,
    from_start: bool,
    most: int | None,
) -> None:
    """
    Show what comes on a topic, readable.

    Only what is committed is shown. A record that holds many lines is shown as so many. Ends with
    Ctrl-C.
    """
    from streamer.config import open_client

    client = open_client(settings(path, overrides, url))
    try:
        for line in islice(lines(client, topic, as_json=as_json, from_start=from_start), most):
            click.echo(line)
    except KeyboardInterrupt:
        pass
    finally:
        client.close()


def lines(client: Client, topic: str, *, as_json: bool, from_start: bool) -> Iterator[str]:
    """What to print of each record of *topic*, without end."""
    if topic not in client.topics():
        raise TopicMissing([topic])
    tell = machine_lines if as_json else human_lines
    for batch in client.follow([topic], from_start=from_start):
        for record in batch:
            yield from tell(record)


def human_lines(record: Record) -> Iterator[str]:
    """A record as one reads it: a forecast as a sentence, the rest as it is."""
    reason = dict(record.headers).get("reason")
    if reason is not None:
        value = (record.value or b"").decode(errors="replace")
        yield f"{place(record)}  {reason.decode(errors='replace')}: {value[:200]}"
        return
    elements = list(elements_of(record.value))
    if record.value is None or not elements:
        key = (record.key or b"").decode(errors="replace")
        size = "gone" if record.value is None else f"{len(record.value)} bytes"
        yield f"{place(record)}  {key}  {size}"
    for element in elements:
        if "made_at" in element:
            yield forecast_line(element)
        elif "flow" in element and "time" in element:
            unit = element.get("unit") or ""
            value = f"{element.get('value')} {unit}".rstrip()
            yield f"{moment(element['time'])}  {element['flow']}  {value}"
        else:
            yield f"{place(record)}  {json.dumps(element, ensure_ascii=False)}"


def forecast_line(forecast: dict[str, Any]) -> str:
    """When it was made, what was, and what the next and the last step of it will bring."""
    unit = forecast["unit"]
    quantiles = sorted(name for name in forecast if name[0] == "q" and name[1:].isdigit())
    low, high = forecast[quantiles[0]], forecast[quantiles[-1]]
    middle = forecast["q50"] if "q50" in forecast else forecast[quantiles[len(quantiles) // 2]]
    steps = dict.fromkeys((0, len(middle) - 1))
    ahead = "   ".join(
        f"+{span((k + 1) * forecast['step_s'])} {si(middle[k], unit)}"
        f" ({si(low[k])} … {si(high[k])})"
        for k in steps
    )
    now = si(forecast["rate"], unit)
    served = f"{forecast['served_by']}/{forecast['generation']}"
    return f"{moment(forecast['made_at'])}  {forecast['flow']}  {now}   {ahead}   {served}"


def machine_lines(record: Record) -> Iterator[str]:
    """A record as JSON: its own elements, or where it has none, what can be said of it."""
    elements = list(elements_of(record.value))
    if elements and not record.headers:
        yield from (json.dumps(element, ensure_ascii=False) for element in elements)
        return
    value = record.value
    yield json.dumps(
        {
            "topic": record.partition.topic,
            "partition": record.partition.number,
            "offset": record.offset,
            "key": None if record.key is None else record.key.decode(errors="replace"),
            "headers": {name: text.decode(errors="replace") for name, text in record.headers},
            "value": None if value is None else base64.b64encode(value).decode(),
        },
        ensure_ascii=False,
    )


def elements_of(value: bytes | None) -> Iterator[dict[str, Any]]:
    """The objects that a record's value holds: one, an array, or lines. None where it's no JSON."""
    try:
        text = (value or b"").decode()
        found = [json.loads(text)] if "\n" not in text else list(map(json.loads, text.splitlines()))
    except ValueError:
        return
    for element in found:
        for each in element if isinstance(element, list) else [element]:
            if isinstance(each, dict):
                yield each


def place(record: Record) -> str:
    """Where a record lies."""
    return f"{record.partition.topic}/{record.partition.number}@{record.offset}"
