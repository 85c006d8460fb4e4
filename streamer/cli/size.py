"""`streamer size`: what so many flows would take, measured on this machine."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from streamer.cli.options import config_options, examples, settings
from streamer.core.types import Partition, Record
from streamer.text.escape import markup
from streamer.text.format import si, span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamer.config.schema import Config

SAMPLE_MAX = 4_096  # flows that are tried; more cost the same each
WARM_STEPS = 3
MEASURED_S = 3.0
START = 1_700_000_000
PARTITION = Partition("size", 0)
NAME_BYTES = 250  # of memory for a flow's name, and its index by name
READING_BYTES = 2_400  # of memory for each reading of a turn, until the turn is published


@dataclass(frozen=True, slots=True)
class Size:
    """What was measured on a sample of flows."""

    flows: int  # of the sample
    row_bytes: int
    page_bytes: int  # of all pages of the sample
    readings_per_s: float  # each closes a step, is forecast and encoded
    restored_per_s: float  # flows read back from pages
    process_bytes: int  # what the process took at the most, with this sample


@click.command("size", epilog=examples("streamer size --flows 50000 -c streamer.yaml"))
@click.option("--flows", type=click.IntRange(1), required=True, help="How many there would be.")
@config_options
def size_command(flows: int, path: Path | None, overrides: tuple[str, ...]) -> None:
    """
    Estimate the resources for a number of flows.

    Prints memory, time to restore, and readings a second. The daemon's engine runs for some
    seconds, on one thread, with these settings, but without a log: the Kafka client's work for
    each record is not included.
    """
    from rich.console import Console
    from rich.table import Table

    config = settings(path, overrides)
    size = measure(config, min(flows, SAMPLE_MAX))
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value, note in figures(config, flows, size):
        table.add_row(name, f"[bold]{markup(value)}[/]", f"[dim]{markup(note)}[/]")
    Console(highlight=False).print(table)


def figures(config: Config, flows: int, size: Size) -> Iterator[tuple[str, str, str]]:
    """Yield the figures for *flows*: a name, a value, and a note."""
    step_s, interval_s = float(config.step), float(config.state.interval)
    rows = flows * size.row_bytes
    saved = flows * size.page_bytes / size.flows
    needed = flows / step_s
    replayed = flows * interval_s / step_s
    cell = config.model.cell
    yield "flows", f"{flows:,}", f"steps of {span(step_s)}, {cell} of {config.model.hidden}"
    yield "a row", si(size.row_bytes, "B"), "all that is known of a flow"
    in_hand = min(flows, config.turn.readings_max) * READING_BYTES
    memory = size.process_bytes + rows + flows * NAME_BYTES + in_hand
    yield "memory", si(memory, "B"), "and the pages of a partition while it comes back"
    yield "state topic", si(saved, "B"), f"written once in {span(interval_s)}"
    yield "state written", si(saved / interval_s, "B/s"), "at most"
    yield "readings", f"{size.readings_per_s:,.0f} a second", "each forecast, without the log"
    yield (
        "needed",
        f"{needed:,.0f} a second",
        f"one a step: {needed / size.readings_per_s:.1%} of a core",
    )
    pages_s, replay_s = flows / size.restored_per_s, replayed / size.readings_per_s
    yield (
        "restore",
        f"{pages_s + replay_s:.1f} s",
        f"{pages_s:.1f} s for pages, at most {replay_s:.1f} s for input",
    )


def measure(config: Config, flows: int) -> Size:
    """Run an engine of *flows* flows for a while, save it, and restore another one from that."""
    import resource

    import msgspec
    import torch

    from streamer.core.engine import Engine
    from streamer.core.wire import InputConfig
    from streamer.core.wire.forecasts import Encoder
    from streamer.weights import open_model

    torch.set_num_threads(config.threads)
    model = open_model(config.model)
    settings = msgspec.structs.replace(config.engine, flows_max=flows, input=InputConfig())
    engine = Engine(model, settings)
    engine.restore(PARTITION, {}, 0, 1)
    encoder = Encoder(config.forecasts, int(config.step))

    spent_s, readings = 0.0, 0
    for step, records in enumerate(records_of_steps(flows, int(config.step))):
        began_s = time.perf_counter()
        list(encoder.messages(engine.step(records).forecasts))
        if step >= WARM_STEPS:
            spent_s += time.perf_counter() - began_s
            readings += flows
        if spent_s > MEASURED_S:
            break

    saved = engine.step([], share=1.0)
    table = {entry.key: entry.value for entry in saved.entries if entry.value is not None}
    other = Engine(model, settings)
    began_s = time.perf_counter()
    other.restore(PARTITION, table, saved.offsets[PARTITION], 1)
    restored_s = time.perf_counter() - began_s
    assert len(other.table) == flows
    return Size(
        flows=flows,
        row_bytes=engine.table.rows.dtype.itemsize,
        page_bytes=sum(map(len, table.values())),
        readings_per_s=readings / spent_s,
        restored_per_s=flows / restored_s,
        process_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def records_of_steps(flows: int, step_s: int) -> Iterator[list[Record]]:
    """Yield, for each step, a record of one reading for each flow; any values cost the same."""
    start_s = START // step_s * step_s
    for step in itertools.count():
        time_s = start_s + step * step_s
        yield [
            Record(
                PARTITION,
                step * flows + flow,
                None,
                b'{"flow":"edge%d/in","time":%d,"value":%d}' % (flow, time_s, step * (flow + 1)),
                time_s * 1000,
            )
            for flow in range(flows)
        ]
