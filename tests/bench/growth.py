"""
How the cost of a reading, memory and the way back grow with the number of flows.

The core alone, on one thread, as one instance has it: no log stands between, so what bends
a curve is the core's. Each number of flows is measured in a process of its own.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch

from streamer.core.engine import Engine
from tests.bench.apart import Apart
from tests.bench.core import TURN_READINGS, Core, P
from tests.bench.memory import resident
from tests.bench.rows import Row, timed

FLOWS = (1_000, 3_000, 10_000, 30_000, 100_000, 200_000)
BATCH = 100  # readings a record
READINGS_MIN = 100_000  # that a rate is measured over


class Size(NamedTuple):
    """What an instance of so many flows takes."""

    flows: int
    readings_per_s: float
    bytes_resident: int  # beyond what the process took before it had any
    pages_s: float  # to restore the rows that were saved …
    replay_s: float  # … and to read one more reading of each


def rows(plotted: Path | None = None, numbers: tuple[int, ...] = FLOWS) -> Iterator[Row]:
    """Three figures for each number of flows, and a picture of them where one is asked for."""
    sizes = []
    for flows in numbers:
        member = Apart(measured, flows)
        sizes.append(Size(*member.answer()))
        member.stop()
        size = sizes[-1]
        restore_s = size.pages_s + size.replay_s
        yield Row(f"growth_{flows}_readings_per_s", size.readings_per_s, "readings/s")
        yield Row(f"growth_{flows}_resident", size.bytes_resident / 2**20, "MiB")
        note = f"{size.pages_s:.2f} s for pages, {size.replay_s:.2f} s for readings"
        yield Row(f"growth_{flows}_restore_s", restore_s, "s", note=note)
    if plotted is not None:
        draw(sizes, plotted)


def measured(pipe: Connection, flows: int, readings: int = READINGS_MIN) -> None:
    """Take in so many flows, go on for a while, and come back from what was saved."""
    torch.set_num_threads(1)
    Core(256, BATCH)  # what any engine takes, however few its flows
    gc.collect()
    before = resident()
    core = Core(flows, BATCH)
    gc.collect()
    taken = resident() - before

    engine, piece = core.engine, max(1, TURN_READINGS // BATCH)
    spent = []
    for _ in range(max(1, readings // flows)):
        batch = next(core.input)
        turns = [batch[first : first + piece] for first in range(0, len(batch), piece)]
        took = [timed(lambda turn=turn: core.turn(turn)) / (BATCH * len(turn)) for turn in turns]
        spent += took

    engine.table.dirty[:] = True
    saved = [*engine.step([], 1.0).entries, *engine.step([], 1.0).entries]  # two rounds at most
    table = {entry.key: entry.value for entry in saved if entry.value is not None}
    batch = next(core.input)
    again = Engine(engine.model, engine.config)
    pages_s = timed(lambda: again.restore(P, table, batch[-1].offset + 1, 1))
    assert len(again.table) == flows
    replay_s = timed(
        lambda: [again.replay(batch[at : at + piece]) for at in range(0, len(batch), piece)]
    )
    pipe.send((flows, 1 / statistics.median(spent), taken, pages_s, replay_s))
    pipe.recv()


def draw(sizes: list[Size], path: Path) -> None:
    """Side by side: readings a second, memory, and the way back."""
    from streamer.plots.paper import FORECAST, MUTED, OUTSIDE, save, sheet  # noqa: PLC0415

    flows = [size.flows for size in sizes]
    with sheet((8.4, 2.8), 1, 3) as (figure, (rate, memory, restore)):
        rate.plot(flows, [size.readings_per_s / 1000 for size in sizes], "o-", color=FORECAST)
        rate.set_title("thousand readings a second")
        rate.set_xscale("log")
        memory.plot(flows, [size.bytes_resident / 2**20 for size in sizes], "o-", color=FORECAST)
        memory.set_title("MiB of memory")
        restored = [size.pages_s + size.replay_s for size in sizes]
        restore.plot(flows, restored, "o-", color=FORECAST, label="and a reading of each replayed")
        restore.plot(flows, [size.pages_s for size in sizes], "o-", color=OUTSIDE, label="pages")
        restore.set_title("seconds to come back")
        restore.legend(loc="upper left")
        for axes in (rate, memory, restore):
            axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # room for a legend
            axes.set_xlabel("flows", color=MUTED)
        for axes in (memory, restore):
            axes.set_xlim(left=0)
            axes.set_xticks([0, 100_000, 200_000], ["0", "100 000", "200 000"])
        save(figure, path)
