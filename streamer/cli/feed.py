"""`streamer feed`: readings from a file, a pipe or this machine into a topic."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamer.cli._signals import stop_signals
from streamer.cli._sources import (
    BAD_INPUT,
    Source,
    columns_option,
    from_file,
    from_generator,
    from_host,
)
from streamer.cli.options import DURATION, config_options, examples, log_option, settings
from streamer.config.types import Duration
from streamer.log import TopicConfig, TopicMissing
from streamer.text.escape import visible

if TYPE_CHECKING:
    from streamer.core.wire.parsed import Reading
    from streamer.feed import FeedProgress
    from streamer.feed.files import Kind
    from streamer.log import Client

REPORT_S = 5.0  # between two lines of progress without a terminal


class Speed(click.ParamType[float]):
    """`max`, or how many times faster than the readings' own time."""

    name = "speed"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Infinity for `max`."""
        try:
            speed = math.inf if value == "max" else float(str(value))
        except ValueError:
            speed = math.nan
        if not speed > 0:
            self.fail(f"must be max or a number above 0, is {value}", param, ctx)
        return speed


@click.command(
    "feed",
    epilog=examples(
        "streamer feed counters.csv.gz --log kafka://localhost:9092 --batch 500",
        "streamer feed --generate --log sqlite:///traffic.db --speed 600",
        "streamer feed --host --every 10s --log sqlite:///traffic.db",
        "collect | streamer feed - --log kafka://localhost:9092 --kind gauge --unit B/s",
    ),
)
@click.argument(
    "file",
    metavar="[FILE|-]",
    required=False,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
)
@click.option("--host", is_flag=True, help="This machine's own interface counters.")
@click.option("--generate", is_flag=True, help="Traffic out of thin air, with all its habits.")
@log_option
@click.option("--topic", help="Where to. [default: the first of input.topics]")
@click.option(
    "--kind",
    type=click.Choice(["counter", "delta", "gauge"]),
    help="The kind of readings that have none. [default: left to the forecaster's settings]",
)
@click.option("--unit", help="The unit of readings that have none; likewise.")
@click.option(
    "--speed",
    type=Speed(),
    default="max",
    show_default=True,
    help="How many times faster than the readings' own time: 1, 60, 3600, or max.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Readings a record. A few hundred are many times faster than one.",
)
@click.option("--create", is_flag=True, help="Make the topic if it is missing, on Kafka too.")
@click.option(
    "--partitions",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Of a topic that is made.",
)
@columns_option
@click.option("--sort", is_flag=True, help="Read all of FILE, and send it in the order of times.")
@click.option("-n", "most", type=click.IntRange(1), help="Stop after so many readings.")
@click.option(
    "--every",
    type=DURATION,
    help="With --host: how often to read [default: 10s]; with --generate: the step [default: 60s].",
)
@click.option(
    "--flows",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="With --generate: how many.",
)
@click.option(
    "--since",
    type=DURATION,
    default="7d",
    show_default=True,
    help="With --generate: how long ago it begins. Once up with the clock it goes on live.",
)
@click.option(
    "--daily-jobs",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="With --generate: the share of flows with a burst at the same time each day.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="With --generate: other numbers make other traffic.",
)
@config_options
def feed_command(
    file: Path | None,
    *,
    host: bool,
    generate: bool,
    url: str | None,
    topic: str | None,
    kind: Kind | None,
    unit: str | None,
    speed: float,
    batch: int,
    create: bool,
    partitions: int,
    columns: dict[str, str] | None,
    sort: bool,
    most: int | None,
    every: Duration | None,
    flows: int,
    since: Duration,
    daily_jobs: float,
    seed: int,
    path: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """
    Send readings to a topic, each flow in one partition.

    FILE is CSV, Parquet, JSON lines of readings, messages of a collector, or what rrdtool, Cacti,
    Prometheus and VictoriaMetrics export; packed by gzip or not; - is standard input. The first
    line of a CSV names its columns: timestamp, flow and value; or timestamp, device, interface,
    in_octets and out_octets; or timestamp and a column for each flow. Times are epoch seconds,
    milliseconds, microseconds or nanoseconds, or ISO 8601. Lines that are no readings are left out,
    counted and reported at the end; exits 65 if they are more than a tenth. A missing topic is
    created in a SQLite file, and on Kafka with --create. Ctrl-C sends what was read, and ends.
    """
    if (file is not None) + host + generate != 1:
        raise click.UsageError("give one of FILE, -, --host and --generate")
    if every is not None and not every:
        raise click.BadParameter("must be more than 0s", param_hint="--every")
    with stop_signals() as stop, contextlib.ExitStack() as stack:
        from streamer.config.schema import open_client
        from streamer.feed import Pace, feed
        from streamer.feed.columns import NotReadable

        config = settings(path, overrides, url)
        topic = topic or next(iter(config.input.read), None)
        if topic is None:
            raise click.UsageError("give --topic: the settings name none")
        if file is not None:
            source = from_file(
                file, kind, unit, stack, sort=sort, columns=columns, config=config.input
            )
        elif host:
            source = from_host(every or Duration(10))
        else:
            source = from_generator(flows, every or Duration(60), since, seed, daily_jobs)
        client = open_client(config)
        stack.callback(client.close)
        shape = TopicConfig(partitions, compact=False)
        in_file = config.log.startswith("sqlite:")  # a file has no operator who would create it
        make_topic(client, topic, shape, allowed=create or in_file)
        try:
            result = feed(
                client,
                source.readings if most is None else first(source.readings, most),
                topic=topic,
                batch=batch,
                pace=Pace(speed, never_early=generate),
                on_progress=stack.enter_context(progress(source)),
                stopping=stop.is_set,
            )
        except NotReadable as error:
            click.echo(visible(f"{file}: {error}"), err=True)
            raise SystemExit(BAD_INPUT) from None
    click.echo(summary(result, topic))
    if faults := source.faults():
        click.echo("\n".join(faults), err=True)
        if not result.readings or source.is_cut():
            raise SystemExit(BAD_INPUT)


def first(source: Iterable[Sequence[Reading]], most: int) -> Iterator[Sequence[Reading]]:
    """The first *most* readings of *source*."""
    for readings in source:
        yield readings[:most]
        most -= len(readings)
        if most <= 0:
            return


def make_topic(client: Client, topic: str, shape: TopicConfig, *, allowed: bool) -> None:
    """Make *topic* if it is missing and that is *allowed*; raises TopicMissing if it isn't."""
    if topic in client.topics():
        return
    if not allowed:
        click.echo("Make it with --create, or all of them: streamer topics --create", err=True)
        raise TopicMissing([topic])
    client.create(topic, shape)
    click.echo(f"made the topic {topic} with {shape.partitions} partitions", err=True)


def summary(result: FeedProgress, topic: str) -> str:
    """The last line: how much, how fast, where to."""
    rate = result.readings / max(result.took_s, 1e-3)
    return (
        f"{topic}: {result.readings:,} readings of {result.flows:,} flows"
        f" in {result.records:,} records,"
        f" {result.took_s:.1f} s, {rate:,.0f} readings/s"
    )


@contextlib.contextmanager
def progress(source: Source) -> Iterator[Callable[[FeedProgress], None]]:
    """Show the progress: a bar at a terminal, else a line now and then."""
    from rich.console import Console

    if Console(stderr=True).is_terminal:
        with bar(source) as on_progress:
            yield on_progress
    else:
        yield lines(source)


@contextlib.contextmanager
def bar(source: Source) -> Iterator[Callable[[FeedProgress], None]]:
    """A bar of the file's bytes, with readings and readings a second."""
    from streamer.cli import _progress
    from streamer.text.format import moment

    total = source.bytes_total
    with _progress.bar("", total, spinner=total is None) as shown:

        def on_progress(result: FeedProgress) -> None:
            rate = result.readings / max(result.took_s, 1e-3)
            text = f"{result.readings:,} readings  {rate:,.0f}/s"
            if result.readings:
                text += f"  up to {moment(result.time_s)}"
            shown.update(source.bytes_read(), text=text)

        yield on_progress


def lines(source: Source) -> Callable[[FeedProgress], None]:
    """A line each `REPORT_S`."""
    due_s = REPORT_S

    def on_progress(result: FeedProgress) -> None:
        nonlocal due_s
        if result.took_s >= due_s:
            due_s = result.took_s + REPORT_S
            share = (
                f" ({source.bytes_read() / source.bytes_total:.0%})" if source.bytes_total else ""
            )
            rate = result.readings / result.took_s
            click.echo(f"{result.readings:,} readings{share}, {rate:,.0f}/s", err=True)

    return on_progress
