"""`streamer backtest`: how well this file would have been forecast."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamer.commands.feed import from_file
from streamer.commands.options import DURATION, FILE, config_options, examples, settings
from streamer.core.settings import Duration

if TYPE_CHECKING:
    from rich.table import Table

    from streamer.backtest import Extent, Played
    from streamer.config import Config
    from streamer.feeding.files import Kind
    from streamer.skill import Skill

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)  # that the quantile loss is the mean of


@click.command(
    "backtest",
    epilog=examples(
        "streamer backtest counters.csv.gz --step 10m --kind gauge",
        "streamer backtest counters.csv.gz --step 5m --from 0.5 --dump forecasts.npz",
    ),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--step", type=DURATION, help="How time is cut. [default: the settings' step]")
@click.option(
    "--kind",
    type=click.Choice(["counter", "delta", "gauge"]),
    help="What readings are that don't say it. [default: the settings' input.kind]",
)
@click.option("--horizons", type=click.IntRange(1), help="Steps ahead. [default: the settings']")
@click.option(
    "--from",
    "share",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.7,
    show_default=True,
    help="The share of the time after which forecasts are scored.",
)
@click.option("--json", "report", type=FILE, help="Write the figures to a file.")
@click.option("--dump", "dumped", type=FILE, help="Write every scored forecast, as .npz.")
@config_options
def backtest_command(
    file: Path,
    *,
    step: Duration | None,
    kind: Kind | None,
    horizons: int | None,
    share: float,
    report: Path | None,
    dumped: Path | None,
    path: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """
    Forecast FILE as the daemon would have, and hold the forecasts against what came.

    FILE is what `feed` takes. Errors are told as shares of the error of saying what was a
    day before: below 1 is better. The last and the smoothed value stand beside.
    """
    from rich.console import Console

    from streamer.backtest import dump
    from streamer.skill import score

    asked = {"step": step, "forecasts.horizons": horizons, "input.kind": kind}
    more = tuple(f"{key}={value}" for key, value in asked.items() if value is not None)
    told = f"forecasts.quantiles={json.dumps(QUANTILES)}"
    config = settings(path, (told, *overrides, *more))
    played = run(file, config, share)
    if dumped is not None:
        dump(played, dumped)
        click.echo(f"{dumped}: {played.forecasts.shape[0]:,} steps of forecasts", err=True)
    try:
        skill = score(
            played.rates, played.forecasts, played.quantiles, played.origin, played.step_s
        )
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    Console().print("error, over that of the day before; geometric mean over flows", table(skill))
    click.echo(summary(skill))
    if report is not None:
        figures = {"file": file.name, "step_s": played.step_s, **asdict(skill)}
        report.write_text(json.dumps(figures, indent=2) + "\n")


def run(file: Path, config: Config, share: float) -> Played:
    """The engine over the file, with a bar."""
    import torch

    from streamer.backtest import play, survey
    from streamer.core.engine import Engine
    from streamer.weights import open_model

    torch.set_num_threads(config.threads)
    with contextlib.ExitStack() as stack:
        try:
            extent = survey(from_file(file, None, None, stack).readings, int(config.grid.step))
        except ValueError as error:
            raise click.ClickException(f"{file}: {error}") from None
        engine = Engine(open_model(config.model), config.engine)
        source = from_file(file, None, None, stack)
        with bar(extent) as told:
            played = play(engine, source.readings, extent, share, told)
        for fault in source.faults():
            click.echo(fault, err=True)
    return played


def table(skill: Skill) -> Table:
    """The errors by horizon."""
    from rich.table import Table

    told = Table("steps ahead")
    for name in ("forecast", "last value", "smoothed"):
        told.add_column(name, justify="right")
    rows = [(str(k), errors) for k, errors in enumerate(skill.horizons, 1)]
    for name, errors in rows:
        told.add_row(name, *(f"{each:.3f}" for each in asdict(errors).values()))
    told.add_section()
    told.add_row("all", *(f"{each:.3f}" for each in asdict(skill.every).values()), style="bold")
    return told


def summary(skill: Skill) -> str:
    """What was scored, and how good the bands are."""
    covered = "" if skill.coverage is None else f"; the 90 % band held {skill.coverage:.1%}"
    return (
        f"{skill.flows:,} flows, {skill.origins:,} steps\n"
        f"quantile loss {skill.quantile_loss:.4f} of the mean rate{covered}"
    )


@contextlib.contextmanager
def bar(extent: Extent) -> Iterator[Callable[[int], None]]:
    """A bar of readings, with the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    columns = BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as rows:
        task = rows.add_task("", total=extent.readings)
        yield lambda taken: rows.update(task, completed=taken)
