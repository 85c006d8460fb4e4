"""`streamer inspect`: what the decoders make of messages, flow by flow."""

from __future__ import annotations

import contextlib
import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from streamer.cli._sources import BAD_INPUT, PARQUET, columns_option, from_file
from streamer.cli.options import config_options, examples, log_option, settings
from streamer.text.escape import json_plain, visible
from streamer.text.format import moment, si

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streamer.config.schema import Config
    from streamer.core.types import Record
    from streamer.core.wire.mappings import Field
    from streamer.feed.inspection import Inspection

HEAD_BYTES = 65_536  # of a file, which determine what it holds
GZIPPED = (b"\x1f\x8b",)
SHOWN_MAX = 20  # of the names that were skipped
PART_MAX = 100  # bytes of a reject
NAME_MAX = 60  # characters of a flow's name
SILENT_MAX = 6  # polls without records, of half a second, before a topic counts as read


@click.command(
    "inspect",
    epilog=examples(
        "streamer inspect messages.jsonl",
        "streamer inspect captured.jsonl --records --json",
        "streamer inspect telegraf --log kafka://localhost:9092 -n 1000",
        "streamer inspect unknown.jsonl --suggest > streamer.yaml",
        "streamer inspect --mappings",
    ),
)
@click.argument("source", metavar="FILE|TOPIC", required=False)
@log_option
@config_options
@columns_option
@click.option("--records", "captured", is_flag=True, help="FILE has a captured record a line.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a flow, then a summary.")
@click.option("-n", "most", type=click.IntRange(1), help="Read so many messages at most.")
@click.option("--mappings", is_flag=True, help="Show the table of fields that become flows.")
@click.option("--suggest", is_flag=True, help="Write the settings for what was found.")
def inspect_command(
    source: str | None,
    url: str | None,
    path: Path | None,
    overrides: tuple[str, ...],
    *,
    columns: dict[str, str] | None,
    captured: bool,
    as_json: bool,
    most: int | None,
    mappings: bool,
    suggest: bool,
) -> None:
    """
    Show what the decoders make of the messages of a file or a topic.

    For each flow: its format, kind, unit, number of readings and mean rate; then what was skipped,
    by name, and rejected, by reason. A file has a message a line; a binary file or one JSON
    document is one message; tables and exports are read as `feed` reads them. A topic is read from
    its oldest record to its newest. Exits 65 if there are messages and no reading in them.
    """
    from streamer.feed.inspection import Inspection
    from streamer.feed.suggestion import suggested

    config = settings(path, overrides, url)
    if mappings:
        for row in table(config, as_json=as_json):
            click.echo(row)
        return
    if source is None:
        raise click.UsageError("a FILE or a TOPIC is missing")
    found = Inspection(config.input)
    is_file = captured or Path(source).is_file()
    asked = Asked(captured, columns, most)
    faults = gather(found, source, config, asked, is_file=is_file)
    if suggest:
        click.echo(suggested(found, None if is_file else source))
    else:
        for line in machine_lines(found) if as_json else human_lines(found):
            click.echo(line)
    for fault in faults:
        click.echo(fault, err=True)
    if (found.records or faults) and not found.readings and not suggest:
        raise SystemExit(BAD_INPUT)


class Asked(NamedTuple):
    """How a source is read."""

    captured: bool
    columns: dict[str, str] | None
    most: int | None


def gather(
    found: Inspection, source: str, config: Config, asked: Asked, *, is_file: bool
) -> list[str]:
    """Add what a source holds; what was left out of a file, in words."""
    from streamer.feed.columns import NotReadable
    from streamer.feed.messages import NotARecord

    try:
        if is_file and not asked.captured and not holds_messages(Path(source)):
            return take_file(found, Path(source), config, asked)
        found.take(islice(records_of(source, config, captured=asked.captured), asked.most))
    except NotReadable as error:
        click.echo(visible(f"{source}: {error}"), err=True)
        raise SystemExit(BAD_INPUT) from None
    except (NotARecord, OSError) as error:
        raise click.ClickException(f"{source}: {error}") from None
    return []


def holds_messages(file: Path) -> bool:
    """Whether a file holds messages: not a table, Parquet, or what rrdtool or Cacti write."""
    from streamer.feed.messages import has_messages

    with file.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
    xport = b"RRDtool" in head and b"legend" in head
    return not (xport or head.startswith((*GZIPPED, PARQUET))) and has_messages(head)


def take_file(found: Inspection, file: Path, config: Config, asked: Asked) -> list[str]:
    """Add the readings of a table or an export; what was left out of it, in words."""
    columns = asked.columns
    with contextlib.ExitStack() as stack:
        read = from_file(file, None, None, stack, sort=True, columns=columns, config=config.input)
        found.take_readings(read.readings, asked.most)
        found.call_format(read.form())
    return read.faults()


def records_of(source: str, config: Config, *, captured: bool) -> Iterable[Record]:
    """The messages of a file, or of a topic if there is no such file."""
    from streamer.feed import messages

    file = Path(source)
    if captured:
        return messages.captured(file)
    return messages.plain(file) if file.is_file() else topic_records(source, config)


def topic_records(topic: str, config: Config) -> Iterator[Record]:
    """The records of a topic from the oldest to those that are the newest now."""
    from streamer.config.schema import open_client
    from streamer.log import TopicMissing

    client = open_client(config, existing=True)
    try:
        if topic not in client.topics():
            raise TopicMissing([topic])
        ends = {partition: end for partition, end in client.ends([topic]).items() if end}
        silent = 0
        for batch in client.follow([topic], from_start=True) if ends else ():
            for record in batch:
                end = ends.get(record.partition, 0)
                if record.offset + 1 >= end:
                    ends.pop(record.partition, None)
                if record.offset < end:
                    yield record
            silent = 0 if batch else silent + 1
            if not ends or silent == SILENT_MAX:
                return
    finally:
        client.close()


def machine_lines(found: Inspection) -> Iterator[str]:
    """One JSON object a flow, then the summary."""
    for flow in found.sorted():
        yield json_plain(flow.as_json())
    yield json_plain(found.summary())


def human_lines(found: Inspection) -> Iterator[str]:
    """The flows as a table, then what was skipped and rejected."""
    flows = found.sorted()
    if flows:
        wide = min(NAME_MAX, max(4, *(len(visible(each.flow)) for each in flows)))
        yield f"{'flow':{wide}}  {'format':24}  {'kind':7}  {'readings':>8}  {'rate':>10}  capacity"
    for each in flows:
        per_s = each.unit if each.kind.name == "GAUGE" else f"{each.unit}/s"
        link = si(each.capacity, per_s) if each.capacity else ""
        yield (
            f"{visible(each.flow):{wide}}  {each.format:24}  {each.kind.name.lower():7}"
            f"  {each.readings:>8,}  {si(each.rate, per_s):>10}  {link}"
        ).rstrip()
    if flows:
        first, last = min(each.first for each in flows), max(each.last for each in flows)
        yield f"\n{len(flows):,} flows from {moment(first)} to {moment(last)} UTC"
    formats = ", ".join(f"{name} {n:,}" for name, n in found.formats.most_common())
    yield f"{found.records:,} messages ({formats}): {found.readings:,} readings"
    for title, names in (("skipped", found.skipped), ("rejected", found.rejects)):
        if names:
            yield f"{title}:"
            yield from (f"  {n:>8,}  {visible(name)}" for name, n in names.most_common(SHOWN_MAX))
            if len(names) > SHOWN_MAX:
                yield f"            and {len(names) - SHOWN_MAX:,} other names"
    if found.rejects["not_integral"]:
        yield "  a counter has whole numbers only: rates need --set input.kind=gauge"
    for reject in found.examples:
        shown = visible(
            (reject.element or reject.record.value or b"")[:100].decode(errors="replace")
        )
        about = f" ({visible(reject.detail)})" if reject.detail else ""
        yield f"  {reject.reason}{about}: {shown}"


def table(config: Config, *, as_json: bool) -> Iterator[str]:
    """The fields that become flows under the settings, and those that are switched off."""
    from streamer.core.wire.mappings import DEFAULTS

    rows: tuple[Field, ...] = (*config.input.fields, *DEFAULTS)
    wanted = set(config.input.groups)
    if as_json:
        yield from (json.dumps(field_json(row, on=row.group in wanted)) for row in rows)
        return
    yield f"{'source':12} {'field':42} {'kind':12} {'unit':8} {'flow ends in':14} on"
    for row in rows:
        kind = row.kind or "by message"
        on = "yes" if row.group in wanted else f"input.groups: {row.group}"
        yield f"{row.source:12} {row.field:42} {kind:12} {row.unit:8} {row.suffix:14} {on}"


def field_json(row: Field, *, on: bool) -> dict[str, Any]:
    """A row of the table as JSON."""
    return {
        "source": row.source,
        "measurement": row.measurement,
        "field": row.field,
        "kind": row.kind,
        "unit": row.unit,
        "bits": row.bits,
        "suffix": row.suffix,
        "group": row.group,
        "on": on,
    }
