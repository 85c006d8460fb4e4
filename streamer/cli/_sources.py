"""Where `feed`, `backtest` and `inspect` read from: a file, this machine, the generator."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from streamer.config.types import Duration

if TYPE_CHECKING:
    from streamer.core.wire import InputConfig
    from streamer.core.wire.parsed import Reading
    from streamer.feed.files import Kind

PARQUET = b"PAR1"  # how such a file begins
BAD_INPUT = 65  # of sysexits.h: the input has lines, and none of them is a reading


class Source(NamedTuple):
    """A source of readings, with its progress and its faults."""

    readings: Iterable[Sequence[Reading]]
    bytes_total: int | None = None
    bytes_read: Callable[[], int] = lambda: 0
    faults: Callable[[], list[str]] = list  # what was left out, in words
    is_cut: Callable[[], bool] = lambda: False  # whether it ended early, or lacks many lines
    form: Callable[[], str] = lambda: ""  # what kind of file it is, once it is read


class Columns(click.ParamType[dict[str, str]]):
    """`time=when,flow=host+port,value=rx`: which column holds what."""

    name = "columns"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, str]:
        """The names of columns by what they hold."""
        from streamer.feed.columns import GIVEN

        if isinstance(value, dict):
            return value
        found = {}
        for each in str(value).split(","):
            what, equals, name = each.partition("=")
            if not equals or not name.strip() or what.strip() not in GIVEN:
                self.fail(
                    f"must be of {', '.join(GIVEN)}, as in time=when,flow=host+port", param, ctx
                )
            found[what.strip()] = name.strip()
        return found


columns_option = click.option(
    "--columns",
    type=Columns(),
    metavar="WHAT=NAME,…",
    help="Which column of a table holds what, if its name does not show it.",
)


def from_file(
    file: Path,
    kind: Kind | None,
    unit: str | None,
    stack: contextlib.ExitStack,
    *,
    sort: bool = False,
    columns: Mapping[str, str] | None = None,
    config: InputConfig | None = None,
) -> Source:
    """
    Readings in *file*, which *stack* closes; `-` is standard input.

    Messages are decoded by *config*.
    """
    from streamer.feed.files import FileReadings
    from streamer.feed.lines import Lines

    is_stdin = str(file) == "-"
    if not is_stdin and begins(file) == PARQUET:
        return from_parquet(file, kind, unit, sort=sort, columns=columns)
    lines = Lines(sys.stdin.buffer if is_stdin else stack.enter_context(file.open("rb")))
    prefix = "" if is_stdin else file.name.partition(".")[0]
    readings = FileReadings(
        lines, kind, unit, sort=sort, columns=columns, config=config, prefix=prefix
    )

    def faults() -> list[str]:
        """Lines that are no readings, and a file that ends too early."""
        faults = [f"{file}: {lines.broken}"] if lines.broken is not None else []
        return faults + readings.faults()

    return Source(
        readings,
        lines.bytes_total,
        lambda: lines.bytes_read,
        faults,
        lambda: lines.broken is not None or readings.mostly_bad,
        lambda: readings.form,
    )


def begins(file: Path) -> bytes:
    """The first bytes of a file; none if it is not a regular file."""
    if not file.is_file():
        return b""
    with file.open("rb") as opened:
        return opened.read(len(PARQUET))


def from_parquet(
    file: Path,
    kind: Kind | None,
    unit: str | None,
    *,
    sort: bool,
    columns: Mapping[str, str] | None,
) -> Source:
    """Readings in a Parquet file; a usage error if pyarrow is missing."""
    try:
        from streamer.feed.parquet import ParquetReadings
    except ImportError:
        hint = "pip install 'streamer[parquet]'"
        raise click.ClickException(f"{file}: Parquet needs pyarrow: {hint}") from None
    readings = ParquetReadings(file, kind, unit, sort=sort, columns=columns)
    return Source(
        readings,
        faults=readings.faults,
        is_cut=lambda: readings.mostly_bad,
        form=lambda: readings.form,
    )


def from_host(every: Duration) -> Source:
    """The counters of this machine."""
    from streamer.feed.host import COUNTERS, HostReadings

    if not COUNTERS.exists():
        raise click.UsageError(f"--host reads {COUNTERS}, and there is none on this system")
    return Source(HostReadings(every))


def from_generator(
    flows: int, every: Duration, since: Duration, seed: int = 0, daily_jobs: float = 0.0
) -> Source:
    """Generated traffic that began some time ago."""
    import numpy as np

    from streamer.feed.generated import generated
    from streamer.synthetic import Counters

    step_s = max(1, round(every))
    rng = np.random.default_rng(seed)
    begin_s = int(time.time() - since)
    counters = Counters(rng, flows, step_s, begin_s, daily_jobs=daily_jobs)
    return Source(generated(counters))
