"""`streamer pretrain`: weights out of generated traffic."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from streamer.cli.options import FILE, examples

if TYPE_CHECKING:
    from streamer.core.network.model import Network

RECENT = 200  # passes whose mean loss is shown
LINE_EVERY = 100  # passes, where no terminal shows the bar


@click.command(
    "pretrain",
    epilog=examples(
        "streamer pretrain weights.safetensors",
        "streamer pretrain rnn.safetensors --cell rnn --log loss.csv",
        "streamer pretrain peaks.safetensors --peaks",
        "streamer pretrain more.safetensors --start weights.safetensors --rate 0.001 --seed 1",
    ),
)
@click.argument("file", type=FILE)
@click.option(
    "--cell",
    type=click.Choice(["lstm", "rnn", "none"]),
    default="lstm",
    show_default=True,
    help="What remembers.",
)
@click.option("--hidden", type=click.IntRange(1), default=64, show_default=True)
@click.option("--layers", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--passes",
    type=click.IntRange(20),
    default=3600,
    show_default=True,
    help="More take longer and give a lower loss: about two a second.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=3e-3,
    show_default=True,
    help="Of learning, at its highest.",
)
@click.option(
    "--peaks",
    is_flag=True,
    help="Fit the head of peaks instead, beside the shipped LSTM. Takes --seed alone.",
)
@click.option("--start", type=FILE, help="Go on from the weights in a file, and their shape.")
@click.option("--log", "log", type=FILE, help="Write the loss of each pass, as CSV.")
def pretrain_command(
    file: Path,
    *,
    cell: Literal["lstm", "rnn", "none"],
    hidden: int,
    layers: int,
    seed: int,
    passes: int,
    rate: float,
    peaks: bool,
    start: Path | None,
    log: Path | None,
) -> None:
    """
    Train a network on generated traffic and write its weights to FILE.

    The weights in the package were made in this way. The same seed gives the same weights on the
    same machine. `model.weights` sets the file that the daemon uses.
    """
    if peaks:
        fit_peaks(file, seed)
        return
    import torch
    from rich.console import Console

    from streamer.cli._progress import bar
    from streamer.core.network.config import ModelConfig
    from streamer.core.network.model import Network, pack
    from streamer.training.pretrain import Plan, made, pretrain

    torch.set_num_threads(1)  # small sums: a second thread would only wait
    torch.manual_seed(seed)
    network = open_start(start) or Network(ModelConfig(cell=cell, hidden=hidden, layers=layers))
    plan = Plan(model=network.config, seed=seed, passes=passes, rate=rate)
    losses: list[float] = []
    recent: deque[float] = deque(maxlen=RECENT)
    at_terminal = Console(stderr=True).is_terminal
    with bar("generating traffic", passes) as shown:
        for progress in pretrain(plan, network):
            losses.append(progress.loss)
            recent.append(progress.loss)
            mean = sum(recent) / len(recent)
            shown.update(progress.passes, text=f"loss {mean:.4f}")
            if not at_terminal and progress.passes % LINE_EVERY == 0:
                click.echo(f"{progress.passes:,} of {passes:,} passes, loss {mean:.4f}", err=True)
    file.write_bytes(pack(network, made(plan, mean)))
    if log is not None:
        lines = [f"{number},{loss:.6f}" for number, loss in enumerate(losses, 1)]
        log.write_text("\n".join(("pass,loss", *lines)) + "\n")
    click.echo(f"{file}: {passes:,} passes, loss {mean:.4f} over the last {len(recent)}")


def fit_peaks(file: Path, seed: int) -> None:
    """Fit a head of peaks to generated traffic and write it to *file*."""
    import torch

    from streamer.core.network import peak_head
    from streamer.core.network.config import ModelConfig
    from streamer.training.peaks import PeakPlan, examples, made, train
    from streamer.weights import open_model

    torch.set_num_threads(1)
    plan, every = PeakPlan(seed=seed), []
    for each in examples(plan, open_model(ModelConfig())):
        every.append(each)
        click.echo(f"{len(every)} of {len(plan.worlds)} worlds lived", err=True)
    head, loss = train(plan, every)
    file.write_bytes(peak_head.pack(head, made(plan, loss)))
    click.echo(f"{file}: {sum(len(each.peak) for each in every):,} peaks, loss {loss:.4f}")


def open_start(start: Path | None) -> Network | None:
    """Return the network in the file *start*, whose training is continued."""
    from streamer.core.network.model import unpack

    if start is None:
        return None
    try:
        network, _ = unpack(start.read_bytes())
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{start}: {error}", param_hint="--start") from None
    return network
