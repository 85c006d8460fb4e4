"""`streamer bench`: measures parts of the network on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from streamer.cli.options import FILE, drawable, examples

if TYPE_CHECKING:
    from rich.table import Table

    from streamer.experiments.memory_task import MemoryResult

Cell = Literal["lstm", "rnn"]
CELLS: tuple[Cell, ...] = ("lstm", "rnn")
SHOWN = 1, 5, 10, 20, 50, 100, 200, 500, 1000  # distances whose gradients the table has


class Lags(click.ParamType[tuple[int, ...]]):
    """Numbers of steps, growing: 5,20,100."""

    name = "lags"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Convert *value*; fails with a usage error if it is not a list of lags."""
        if isinstance(value, tuple):
            return value
        try:
            lags = tuple(int(lag) for lag in str(value).split(","))
        except ValueError:
            lags = ()
        if not lags or lags[0] < 1 or list(lags) != sorted(set(lags)):
            self.fail(f"must be growing numbers of steps, as in 5,20,100, is {value}", param, ctx)
        return lags


@click.group("bench", epilog=examples("streamer bench memory --plot memory.png"))
def bench_command() -> None:
    """Measure what a part of the network is good for."""


@bench_command.command(
    "memory",
    epilog=examples(
        "streamer bench memory --plot memory.png",
        "streamer bench memory --lags 5,20 --passes 60",
    ),
)
@click.option(
    "--lags",
    type=Lags(),
    default="5,10,20,50,100,200",
    show_default=True,
    help="How many steps back the answer lies; trained in this order.",
)
@click.option(
    "--passes", type=click.IntRange(1), default=150, show_default=True, help="For each lag."
)
@click.option("--hidden", type=click.IntRange(1), default=16, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--plot", "plotted", type=FILE, help="Draw both, as .png.")
def memory_command(
    *, lags: tuple[int, ...], passes: int, hidden: int, seed: int, plotted: Path | None
) -> None:
    """
    Compare how far back the LSTM and the simple cell remember.

    A number is an input once; after some steps of noise it must be the output. Both cells are
    trained in the same way, from the shortest lag to the longest. The output is the error at each
    lag, over that of always forecasting the mean (1: no memory), and how much of the gradient
    reaches back through how many steps. The same seed gives the same figures on the same machine.
    """
    from rich.console import Console

    drawable(plotted)
    found: dict[str, MemoryResult] = {
        cell: measure_memory(cell, lags, passes, hidden, seed) for cell in CELLS
    }
    console = Console(highlight=False)
    console.print("[dim]error when the answer lies so many steps back; 1: no memory[/]")
    console.print(errors(found), "")
    console.print("[dim]norm of the gradient so many steps back, over that one step back[/]")
    console.print(gradients(found))
    if plotted is not None:
        from streamer.plots.memory import draw

        draw(found, plotted)
        click.echo(f"{plotted}: error and gradient by distance", err=True)


def measure_memory(
    cell: Cell, lags: tuple[int, ...], passes: int, hidden: int, seed: int
) -> MemoryResult:
    """Train a cell, with a progress bar."""
    import torch

    from streamer.cli._progress import bar
    from streamer.experiments.memory_task import (
        MemoryNetwork,
        MemoryResult,
        Plan,
        gradients,
        iterations,
        train,
    )

    torch.set_num_threads(1)  # small sums: a second thread would only wait
    torch.manual_seed(seed)
    plan = Plan(cell=cell, lags=lags, passes=passes, hidden=hidden, seed=seed)
    network = MemoryNetwork(plan)
    fresh = gradients(network, lags[-1], seed)
    errors: dict[int, float] = {}
    with bar(cell, sum(iteration.steps for iteration in iterations(plan))) as progress:
        for iteration, error in train(plan, network):
            if error is not None:
                errors[iteration.lag] = error
            progress.update(advance=iteration.steps, text=f"{cell}, {iteration.lag} steps back")
    return MemoryResult(errors, fresh, gradients(network, lags[-1], seed))


def errors(found: dict[str, MemoryResult]) -> Table:
    """A line for each lag, a column for each cell."""
    from rich.table import Table

    table = Table("steps back", box=None, pad_edge=False)
    for cell in found:
        table.add_column(cell, justify="right")
    for lag in next(iter(found.values())).errors:
        table.add_row(f"{lag:>10}", *(f"{each.errors[lag]:.3f}" for each in found.values()))
    return table


def gradients(found: dict[str, MemoryResult]) -> Table:
    """A line for some distances; of each cell untrained and trained."""
    from rich.table import Table

    table = Table("steps back", box=None, pad_edge=False)
    for cell in found:
        table.add_column(f"{cell}, untrained", justify="right")
        table.add_column(f"{cell}, trained", justify="right")
    longest = len(next(iter(found.values())).trained)
    for distance in (distance for distance in SHOWN if distance <= longest):
        norms = [norm for each in found.values() for norm in (each.untrained, each.trained)]
        table.add_row(f"{distance:>10}", *(f"{norm[distance - 1]:.1e}" for norm in norms))
    return table
