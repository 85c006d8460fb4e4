"""The memory of a flow: the slope of a process's memory over its number of flows."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from tests.bench.apart import Apart
from tests.bench.core import Core
from tests.bench.rows import Row

FEW, MANY = 10_000, 200_000
BYTES_MAX = 3072 + 400  # of a row and its name; 400 of them remember bursts


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def knowing(pipe: Connection, flows: int) -> None:
    """Process so many flows, a few steps each, and report the resident memory."""
    torch.set_num_threads(1)
    core = Core(flows, 100)
    del core.input
    gc.collect()
    pipe.send(resident())
    pipe.recv()
    assert len(core.engine.table) == flows


def rows() -> Iterator[Row]:
    """Each number of flows in a process of its own."""
    sizes = []
    for flows in (FEW, MANY):
        member = Apart(knowing, flows)
        sizes.append(member.answer())
        member.stop()
    slope = (sizes[1] - sizes[0]) / (MANY - FEW)
    note = f"{sizes[0] / 2**20:,.0f} MiB with {FEW:,} flows, {sizes[1] / 2**20:,.0f} with {MANY:,}"
    yield Row("bytes_per_flow", slope, "B", BYTES_MAX, at_most=True, note=note)
