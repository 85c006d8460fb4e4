"""The rows of the bench's table: a figure each, with its bound if there is one."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure; *floor* is the least that it may be, or the most where *at_most*."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the promise is kept; what promises nothing always holds."""
        if self.floor is None:
            return True
        return self.value <= self.floor if self.at_most else self.value >= self.floor


def interleaved(
    works: Sequence[Callable[[], float]], repeats: int, *, warm: int = 1
) -> list[list[float]]:
    """
    What each of *works* took, in turns: a neighbour that makes noise troubles all alike.

    A work returns how long it took, by whatever clock it is measured.
    """
    took: list[list[float]] = [[] for _ in works]
    for nth in range(warm + repeats):
        for place, work in enumerate(works):
            spent = work()
            if nth >= warm:
                took[place].append(spent)
    return took


def timed(work: Callable[[], object]) -> float:
    """Seconds of this thread's own time that *work* takes, however busy the machine is."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of neighbours in time."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def machine() -> str:
    """The machine in a line."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    lines = [line for line in cpuinfo.splitlines() if line.startswith(("model name", "cpu MHz"))]
    named = [line.partition(":")[2].strip() for line in lines[:2]]
    cores = cpuinfo.count("processor\t") or 1
    load = Path("/proc/loadavg").read_text().split()[0] if cpuinfo else "?"
    name = " at ".join(named) or platform.machine()
    return f"{name} MHz, {cores} cores, load {load}; Python {platform.python_version()}"
