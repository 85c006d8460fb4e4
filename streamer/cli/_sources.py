"""Where `streamer feed` and `streamer backtest` read from: a file, this machine, the generator."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from streamer.config.types import Duration

if TYPE_CHECKING:
    from streamer.core.wire.parsed import Reading
    from streamer.feed.files import Kind

BAD_INPUT = 65  # of sysexits.h: the input has lines, and none of them is a reading


class Source(NamedTuple):
    """Where readings come from, and what can be said of it underway and at the end."""

    readings: Iterable[Sequence[Reading]]
    bytes_total: int | None = None
    bytes_read: Callable[[], int] = lambda: 0
    faults: Callable[[], list[str]] = list  # what was left out, in words
    is_cut: Callable[[], bool] = lambda: False  # whether it ended before its end


def from_file(
    file: Path,
    kind: Kind | None,
    unit: str | None,
    stack: contextlib.ExitStack,
    *,
    sort: bool = False,
) -> Source:
    """Readings in *file*, which *stack* closes; `-` is standard input."""
    from streamer.feed.files import FileReadings
    from streamer.feed.lines import Lines

    is_stdin = str(file) == "-"
    lines = Lines(sys.stdin.buffer if is_stdin else stack.enter_context(file.open("rb")))
    readings = FileReadings(lines, kind, unit, sort=sort)

    def faults() -> list[str]:
        """Lines that are no readings, and a file that ends too early."""
        told = [f"{file}: {lines.broken}"] if lines.broken is not None else []
        return told + readings.faults()

    return Source(
        readings,
        lines.bytes_total,
        lambda: lines.bytes_read,
        faults,
        lambda: lines.broken is not None,
    )


def from_host(every: Duration) -> Source:
    """The counters of this machine."""
    from streamer.feed.host import COUNTERS, HostReadings

    if not COUNTERS.exists():
        raise click.UsageError(f"--host reads {COUNTERS}, and there is none on this system")
    return Source(HostReadings(every))


def from_generator(flows: int, every: Duration, since: Duration) -> Source:
    """Generated traffic that began some time ago."""
    import numpy as np

    from streamer.feed.generated import generated
    from streamer.synthetic import Counters

    step_s = max(1, round(every))
    counters = Counters(np.random.default_rng(0), flows, step_s, int(time.time() - since))
    return Source(generated(counters))
