"""`streamer demo`: see it work, on generated traffic, in a minute."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamer.cli.options import DURATION, examples

if TYPE_CHECKING:
    from streamer.config.types import Duration


@click.command(
    "demo",
    epilog=examples("streamer demo", "streamer demo --seconds 30 --flows 1000 --step 5m"),
)
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    help="Stop after so long, of which five at least show forecasts. [default: Ctrl-C]",
)
@click.option("--flows", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option(
    "--speed",
    type=click.FloatRange(1),
    default=21_600,
    show_default=True,
    help="Seconds of history that go by in one second.",
)
@click.option("--step", type=DURATION, default="15m", show_default=True, help="Length of a step.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Other numbers make other traffic.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep log, settings and lines here. [default: a temporary one]",
)
def demo_command(
    seconds: float | None, flows: int, speed: float, step: Duration, seed: int, folder: Path | None
) -> None:
    """
    Forecast generated traffic, and watch how well that goes.

    A feeder writes counters of some hundred interfaces into a SQLite log, at many times real
    speed; the forecaster reads them, and publishes forecasts and alerts; this screen follows those,
    as any consumer could, and holds them against what came true. Half of the interfaces have a
    burst at the same time each day, which alerts come before from the second day on; other bursts
    are random. Web pages show the same, if the extra `console` is installed. Ends with Ctrl-C.
    """
    from rich.console import Console

    from streamer.cli._console import free_port, lacking
    from streamer.cli._signals import stop_signals
    from streamer.demo.play import Play, play
    from streamer.demo.processes import Lost

    place = folder or Path(tempfile.mkdtemp(prefix="streamer-demo-"))
    place.mkdir(parents=True, exist_ok=True)
    plan = Play(
        folder=place,
        flows=flows,
        speed=speed,
        step_s=int(step),
        seconds=seconds,
        seed=seed,
        port=None if lacking() else free_port(),
    )
    try:
        with stop_signals() as stop:
            play(plan, Console(), stop)
    except Lost as error:
        raise click.ClickException(str(error)) from error
    finally:
        if folder is None:
            shutil.rmtree(place)
