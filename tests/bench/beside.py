"""What it costs the forecaster that a trainer works beside it, on its own core and on the same."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.bench.apart import Apart
from tests.bench.members import daemon, training
from tests.bench.rows import Row, interleaved, median_ratio
from tests.bench.state import LOAD, paced
from tests.bench.through import FLOWS, STEPS, Lane, running

ROOM_B = 12e9  # some minutes' readings and forecasts at full speed


def rows(bootstrap: str) -> Iterator[Row]:
    """One reading a record; the trainer is asleep in every second stretch."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=memory()) as home:
        yield slowest_turns(f"sqlite:///{Path(home) / 'log.db'}")
    yield one_core(f"kafka://{bootstrap}")


def slowest_turns(url: str, repeats: int = 4) -> Row:
    """
    The turns' 99th percentile, with the trainer on a core that the forecaster never takes.

    On the SQLite log: a broker beside them would want a third core. The log lies in memory
    where it can: a disk's own slowest answers, which the trainer has no part in, make this
    percentile half as long again from one stretch to the next. The feeder is on the
    trainer's core, whether that sleeps or not: what the feeder costs is not the trainer's.
    """
    lane = Lane(url, "bench.beside", 1)
    member, trainer = Apart(daemon, lane.overrides), Apart(training)
    with running(member, trainer):
        trainer.ready()
        cores = sorted(os.sched_getaffinity(0))
        pin(member.process.pid, cores[:1])
        for each in (trainer.process.pid, os.getpid()):
            pin(each, cores[-1:])
        rate = LOAD * lasting(lane, member, trainer)

        def slowest() -> float:
            """While readings trickle."""
            return float(np.percentile(paced(lane, member, rate).turns_s, 99))

        without(trainer, slowest)  # so that no first stretch is among those compared
        alone, beside = interleaved([lambda: without(trainer, slowest), slowest], repeats, warm=0)
        pin(os.getpid(), cores)
    return Row(
        "turn_p99_while_training",
        median_ratio(beside, alone),
        "x",
        1.1,
        at_most=True,
        note=f"{1000 * statistics.median(alone):,.0f} ms without, at {rate:,.0f} readings/s;"
        f" {len(cores)} cores",
    )


def one_core(url: str, repeats: int = 4) -> Row:
    """How fast it goes through what lies ready, with the trainer on the very same core."""
    lane = Lane(url, "bench.one_core", 1)
    member, trainer = Apart(daemon, lane.overrides), Apart(training)
    with running(member, trainer):
        trainer.ready()
        lasting(lane, member, trainer)
        for each in (member, trainer):
            pin(each.process.pid, sorted(os.sched_getaffinity(0))[:1])

        def took() -> float:
            return lane.stretch(member, STEPS).wall_s

        alone, beside = interleaved([lambda: without(trainer, took), took], repeats)
    return Row(
        "rate_on_one_core_while_training",
        median_ratio(alone, beside),
        "x",
        0.7,
        note=f"{STEPS * FLOWS / statistics.median(alone):,.0f} readings/s without",
    )


def lasting(lane: Lane, member: Apart, trainer: Apart) -> float:
    """Readings a second that it keeps up: the first stretch, which makes rows, is no measure."""
    spent = [without(trainer, lambda: lane.stretch(member, STEPS).wall_s) for _ in range(4)]
    return STEPS * FLOWS / statistics.median(spent[1:])


def without(trainer: Apart, work: Callable[[], float]) -> float:
    """What *work* takes while *trainer* sleeps."""
    assert trainer.process.pid is not None
    os.kill(trainer.process.pid, signal.SIGSTOP)
    try:
        return work()
    finally:
        os.kill(trainer.process.pid, signal.SIGCONT)


def memory() -> Path | None:
    """A folder in memory, if the system has one with room."""
    folder = Path("/dev/shm")
    roomy = folder.is_dir() and shutil.disk_usage(folder).free > ROOM_B
    return folder if roomy else None


def pin(pid: int | None, cores: Sequence[int]) -> None:
    """Have all threads of a process share these cores."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)
