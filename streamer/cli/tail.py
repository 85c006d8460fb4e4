"""`streamer tail`: what is on a topic, as it comes."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any, NoReturn

import click

from streamer.cli._records import Begin, records
from streamer.cli._reports import summary
from streamer.cli.options import SINCE, config_options, examples, log_option, settings
from streamer.ops.reports import rows
from streamer.text.escape import json_plain, json_visible, visible
from streamer.text.format import moment, si, span

if TYPE_CHECKING:
    from pathlib import Path

    from streamer.core.types import Record

TEXT_MAX = 200  # characters of a value that is shown as it is
UNREADABLE = (  # what a record may raise that is not as it should be: it is shown as it is
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


@click.command(
    "tail",
    epilog=examples(
        "streamer tail traffic.forecasts --log sqlite:///traffic.db --from-start -n 5",
        "streamer tail traffic.forecasts --log kafka://localhost:9092 --json | jq .q50",
        "streamer tail traffic.metrics --since 10m",
        "streamer tail traffic.counters --from-start --until-end --flow 'edge1/*'",
    ),
)
@click.argument("topic")
@log_option
@config_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, nothing left out.")
@click.option("--from-start", is_flag=True, help="Begin with the oldest record that is kept.")
@click.option(
    "--since",
    type=SINCE,
    help="Begin with records of this time: as long ago as 90s or 2h, or 2026-01-31T12:00 (UTC).",
)
@click.option("--until-end", is_flag=True, help="Stop at the record that is newest at the start.")
@click.option("--flow", "glob", metavar="GLOB", help="Only of flows whose names match, as edge1/*.")
@click.option("-n", "most", type=click.IntRange(1), help="Stop after so many lines.")
def tail_command(
    topic: str,
    url: str | None,
    path: Path | None,
    overrides: tuple[str, ...],
    *,
    as_json: bool,
    from_start: bool,
    since: float | None,
    until_end: bool,
    glob: str | None,
    most: int | None,
) -> None:
    """
    Show what comes on a topic, readable.

    Only what is committed is shown. A record that holds many lines is shown as so many. Ends with
    Ctrl-C.
    """
    from streamer.config.schema import open_client

    client = open_client(settings(path, overrides, url), existing=True)
    try:
        begin = Begin(from_start, None if since is None else ceil(since * 1000))
        found = records(client, topic, begin, until_end=until_end)
        for line in islice(lines(found, glob, as_json=as_json), most):
            click.echo(line)
    except KeyboardInterrupt:
        pass
    finally:
        client.close()


def lines(found: Iterator[Record], glob: str | None, *, as_json: bool) -> Iterator[str]:
    """What to print of each record."""
    for record in found:
        yield from machine_lines(record, glob) if as_json else human_lines(record, glob)


def human_lines(record: Record, glob: str | None = None) -> list[str]:
    """A record as one reads it: a forecast as a sentence, the rest as it is."""
    reason = dict(record.headers).get("reason")
    if reason is not None:
        if glob is not None and not fnmatchcase(text_of(record.key), glob):
            return []
        value = visible(text_of(record.value)[:TEXT_MAX])
        return [f"{place(record)}  {visible(text_of(reason))}: {value}"]
    report = rows(record.value)
    if report and glob is None:
        try:
            return [visible(summary(report))]
        except UNREADABLE:
            pass
    elements = elements_of(record.value)
    if elements:
        return [
            human_line(record, each) for each in elements if glob is None or matches(each, glob)
        ]
    if glob is not None and not fnmatchcase(text_of(record.key), glob):
        return []
    return [f"{place(record)}  {visible(text_of(record.key))}  {shown(record.value)}"]


def human_line(record: Record, element: dict[str, Any]) -> str:
    """A forecast, an alert or a reading as a sentence; anything else as the JSON that it is."""
    try:
        if "made_at" in element:
            return visible(forecast_line(element))
        if {"rule", "state", "updated_at", "text"} <= element.keys():
            return visible(alert_line(element))
        if "flow" in element and "time" in element:
            unit = element.get("unit") or ""
            value = f"{element.get('value')} {unit}".rstrip()
            return visible(f"{moment(number(element['time']))}  {text(element['flow'])}  {value}")
    except UNREADABLE:
        pass
    try:
        return f"{place(record)}  {json_visible(element)}"
    except UNREADABLE:
        return f"{place(record)}  {shown(record.value)}"


def alert_line(alert: dict[str, Any]) -> str:
    """Its time, how severe it is and what became of it, its rule and its own sentence."""
    at, names = moment(number(alert["updated_at"])), ("severity", "state", "verdict", "rule")
    severity, state, verdict, rule = (text(alert[name]) for name in names)
    return f"{at}  {severity} {state} ({verdict})  {rule}: {text(alert['text'])}"


def forecast_line(forecast: dict[str, Any]) -> str:
    """Its time, the newest rate, and the forecasts of the next and the last step."""
    unit = text(forecast["unit"])
    quantiles = sorted(name for name in forecast if name[:1] == "q" and name[1:].isdigit())
    low, high = forecast[quantiles[0]], forecast[quantiles[-1]]
    middle = forecast["q50"] if "q50" in forecast else forecast[quantiles[len(quantiles) // 2]]
    steps = dict.fromkeys((0, len(middle) - 1))
    ahead = "   ".join(
        f"+{span((k + 1) * number(forecast['step_s']))} {si(number(middle[k]), unit)}"
        f" ({si(number(low[k]))} … {si(number(high[k]))})"
        for k in steps
    )
    now = si(None if forecast["rate"] is None else number(forecast["rate"]), unit)
    served = f"{forecast['served_by']}/{forecast['generation']}"
    made_at = moment(number(forecast["made_at"]))
    return f"{made_at}  {text(forecast['flow'])}  {now}   {ahead}   {served}"


def machine_lines(record: Record, glob: str | None = None) -> list[str]:
    """A record as JSON: its own elements, or if it has none, the record itself."""
    dumps = json_visible if sys.stdout.isatty() else json_plain
    elements = elements_of(record.value)
    if report := rows(record.value):
        elements = [{**row.tags, "time": row.time_s, **row.fields} for row in report]
    if elements and not record.headers:
        try:
            return [dumps(each) for each in elements if glob is None or matches(each, glob)]
        except UNREADABLE:  # nested too deeply, or a number that JSON does not have
            pass
    key, value = record.key, record.value
    if glob is not None and not fnmatchcase(text_of(key), glob):
        return []
    whole = {
        "topic": record.partition.topic,
        "partition": record.partition.number,
        "offset": record.offset,
        "key": None if key is None else text_of(key),
        "headers": {name: text_of(header) for name, header in record.headers},
        "value": None if value is None else base64.b64encode(value).decode(),
    }
    return [dumps(whole)]


def elements_of(value: bytes | None) -> list[dict[str, Any]]:
    """
    The objects that a record's value holds: one, an array, or lines.

    None where it is no JSON, or holds anything else beside them.
    """
    try:
        text = (value or b"").decode()
        rows = [text] if "\n" not in text else text.splitlines()
        found = [json.loads(row, parse_constant=refuse) for row in rows]
    except (ValueError, RecursionError):
        return []
    flat = [each for one in found for each in (one if isinstance(one, list) else [one])]
    return flat if all(isinstance(each, dict) for each in flat) else []


def refuse(constant: str) -> NoReturn:
    """NaN and Infinity are not JSON, although Python's decoder accepts them."""
    raise ValueError(constant)


def matches(element: dict[str, Any], glob: str) -> bool:
    """Whether it is of a flow that *glob* names."""
    flow = element.get("flow")
    return isinstance(flow, str) and fnmatchcase(flow, glob)


def number(value: object) -> float:
    """*value*, which must be a number; raises TypeError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return value


def text(value: object) -> str:
    """*value*, which must be text; raises TypeError."""
    if not isinstance(value, str):
        raise TypeError
    return value


def text_of(value: bytes | None) -> str:
    """Bytes as text, as far as they are."""
    return (value or b"").decode(errors="replace")


def shown(value: bytes | None) -> str:
    """A value that is not JSON: its beginning if it is text, else its size."""
    if value is None:
        return "deleted"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"{len(value)} bytes"
    if not text.strip() or "\0" in text:
        return f"{len(value)} bytes"
    return visible(text[:TEXT_MAX]) + ("…" if len(text) > TEXT_MAX else "")


def place(record: Record) -> str:
    """The position of a record."""
    return f"{visible(record.partition.topic)}/{record.partition.number}@{record.offset}"
