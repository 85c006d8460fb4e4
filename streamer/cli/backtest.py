"""`streamer backtest`: how well these files would have been forecast."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from streamer.cli._sources import BAD_INPUT, columns_option, from_file
from streamer.cli.options import DURATION, FILE, config_options, drawable, examples, settings
from streamer.config.types import Duration
from streamer.text.escape import markup, visible
from streamer.text.format import moment, span

if TYPE_CHECKING:
    from rich.console import Console

    from streamer.cli._rules import Trial
    from streamer.cli._sources import Source
    from streamer.config.schema import Config
    from streamer.core.types import TurnResult
    from streamer.evaluation.backtest import BacktestForecasts, Extent
    from streamer.evaluation.report import Report
    from streamer.feed.files import Kind
    from streamer.plots.bands import Strip
    from streamer.training.outcome import Outcome

QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)  # that the quantile loss is the mean of
STEPS_A_RECORD = 8  # of each flow, where the engine goes on learning
STRIPS = 6  # that a picture has room for


@click.command(
    "backtest",
    epilog=examples(
        "streamer backtest counters.csv.gz --step 10m --kind gauge",
        "streamer backtest week1.csv week2.csv --step 5m --json figures.json --plot bands.png",
        "streamer backtest counters.csv.gz --step 5m --from 0.5 --dump forecasts.npz",
        "streamer backtest counters.csv.gz --step 5m --rules rules.yaml --tune 0.2",
    ),
)
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option("--step", type=DURATION, help="How time is cut. [default: the settings' step]")
@click.option(
    "--kind",
    type=click.Choice(["counter", "delta", "gauge"]),
    help="The kind of readings that have none. [default: the settings' input.kind]",
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
@click.option(
    "--finetune/--no-finetune",
    "learning",
    default=True,
    show_default=True,
    help="Go on learning from what is past, as the daemon does.",
)
@columns_option
@click.option("--sort", is_flag=True, help="Take the readings of FILE in the order of their times.")
@click.option(
    "--rules",
    "rules_file",
    type=FILE,
    help="Try the alert rules of a YAML file, or of the word default, and show how well they do.",
)
@click.option("--alerts", "alerts_file", type=FILE, help="Write the alert records, as JSON lines.")
@click.option(
    "--tune",
    type=click.FloatRange(0),
    metavar="FALSE_A_DAY",
    help="Try other chances for each rule, and mark the best with so many false alerts a flow-day.",
)
@click.option(
    "--events",
    "events_file",
    type=FILE,
    help="CSV of flow, start and end: what rules such as anomaly should find.",
)
@click.option("--json", "reported", type=FILE, help="Write the figures to a file.")
@click.option("--dump", "dumped", type=FILE, help="Write every scored forecast, as .npz.")
@click.option("--plot", "plotted", type=FILE, help="Draw some flows in their bands, as .png.")
@click.option(
    "--flow",
    "flows",
    multiple=True,
    metavar="FLOW",
    help="With --plot: draw this one. May be given often. [default: typical ones and the worst]",
)
@config_options
def backtest_command(
    files: tuple[Path, ...],
    *,
    step: Duration | None,
    kind: Kind | None,
    horizons: int | None,
    share: float,
    learning: bool,
    columns: dict[str, str] | None,
    sort: bool,
    rules_file: Path | None,
    alerts_file: Path | None,
    tune: float | None,
    events_file: Path | None,
    reported: Path | None,
    dumped: Path | None,
    plotted: Path | None,
    flows: tuple[str, ...],
    path: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """
    Forecast each FILE as the daemon would have, and hold the forecasts against what came.

    FILE is what `feed` takes. Errors are shares of the error of forecasting what was a day
    before: below 1 is better. Beside the forecasts stand those that cost nothing: the naive
    forecasts that the network mixes, all of them mixed unlearned, the last value, and its
    exponential smoothing. The weights go on learning from what is past at each moment, as the
    daemon's do; how often they did is reported. Each FILE is forecast by itself; several are also
    summed up.

    With --rules, alerts are raised and judged as the daemon does it. Below each rule stand alarms
    that differ by their forecast alone: the last value, and the highest rate of the same window a
    day or a week before.
    """
    from rich.console import Console

    from streamer.cli import _rules, _tables
    from streamer.evaluation.backtest import dump
    from streamer.evaluation.report import summed

    refuse_together(files, dumped or alerts_file, flows, plotted)
    trial = _rules.trial(rules_file, alerts_file, tune, events_file)
    drawable(plotted)
    asked = {"step": step, "forecasts.horizons": horizons, "input.kind": kind}
    more = tuple(f"{key}={value}" for key, value in asked.items() if value is not None)
    quantiles = f"forecasts.quantiles={json.dumps(QUANTILES)}"
    config = settings(path, (quantiles, *overrides, *more, *_rules.overrides_of(rules_file)))
    console = Console(highlight=False)
    reports: list[Report] = []
    strips: list[Strip] = []
    steady: list[dict[str, Any]] = []  # files whose flows are the same each day
    console.print("[dim]error over that of the day before, geometric mean over flows[/]")
    for file in files:
        contests: list[Outcome] = []
        played = run(
            file, config, share, contests if learning else None, trial, ReadOptions(sort, columns)
        )
        if dumped is not None:
            dump(played, dumped)
            click.echo(f"{dumped}: {played.forecasts.shape[0]:,} steps of forecasts", err=True)
        found = scored_file(file, played)
        if isinstance(found, dict):
            steady.append(found)
            console.print(same_each_day(file, found))
            continue
        reports.append(found)
        show(console, played, reports[-1])
        if learning:
            console.print(learnt(contests))
        if trial is not None:
            trial.end(file, console)
        if plotted is not None:
            strips += drawn(played, reports[-1], flows, max(2, STRIPS // len(files)))
    if len(reports) > 1:
        console.print("", _tables.summary(reports, summed(reports)), sep="\n")
    if reported is not None:
        write_figures(reports, steady, trial, reported)
    if plotted is not None and (strips or reports):
        plot(strips, plotted)


def refuse_together(
    files: Sequence[Path], of_one: Path | None, flows: Sequence[str], plotted: Path | None
) -> None:
    """Raise UsageError for options that do not go together."""
    if len(files) > 1 and of_one is not None:
        raise click.UsageError("--dump and --alerts take the forecasts and alerts of one FILE")
    if flows and plotted is None:
        raise click.UsageError("--flow chooses what --plot draws")


class ReadOptions(NamedTuple):
    """How files are read."""

    sort: bool
    columns: dict[str, str] | None


def write_figures(
    reports: Sequence[Report], steady: Sequence[dict[str, Any]], trial: Trial | None, file: Path
) -> None:
    """All figures as JSON; what could not be measured is null."""
    import msgspec

    from streamer.evaluation.report import figures

    found = figures(reports) if reports else {"files": steady}
    of_rules = {} if trial is None else {"rules": trial.reported}
    text = msgspec.json.encode(found | of_rules)
    file.write_bytes(msgspec.json.format(text, indent=2) + b"\n")


def same_each_day(file: Path, found: Mapping[str, Any]) -> str:
    """A line on a file whose flows are the same each day, without an error to compare with."""
    figures = found["constant"]
    coverage = figures["coverage"]
    within = "" if coverage is None else f", the 90 % bands hold {coverage:.1%} of the rates"
    flows = f"{figures['flows']:,} flow{'' if figures['flows'] == 1 else 's'}"
    return (
        f"\n[bold]{markup(file.name)}[/]\n{flows} with the same rates each day:"
        f" the medians are off by {figures['error']:.2%} of the rate{within}"
    )


def run(
    file: Path,
    config: Config,
    share: float,
    contests: list[Outcome] | None,
    trial: Trial | None,
    options: ReadOptions,
) -> BacktestForecasts:
    """The engine over the file, with a bar; *contests* collects the contests; None: no training."""
    import msgspec
    import torch

    from streamer.core.engine import Engine
    from streamer.core.predict.forecast import ForecastSpec
    from streamer.core.registry.validation import weights_validator
    from streamer.evaluation.backtest import BATCH, baseline_scorer, run_backtest, survey
    from streamer.training.inline import InlineTrainer, begin
    from streamer.weights import open_model, open_peak_head

    torch.set_num_threads(config.threads)
    with contextlib.ExitStack() as stack:
        start = stack.enter_context(bar(file))

        def read() -> Source:
            return from_file(file, None, None, stack, **options._asdict(), config=config.input)

        try:
            source = read()
            extent = survey(source.readings, int(config.grid.step))
        except ValueError as error:
            click.echo(visible(f"{file}: {error}"), err=True)
            raise SystemExit(BAD_INPUT) from None
        if source.is_cut():
            click.echo(visible(f"{file}: too much of it cannot be read"), err=True)
            click.echo("\n".join(source.faults()), err=True)
            raise SystemExit(BAD_INPUT)
        model = open_model(config.model)
        horizons, quantiles = config.forecasts.horizons, config.forecasts.quantiles
        scorer = baseline_scorer(
            extent, ForecastSpec(int(config.grid.step), horizons, quantiles), share
        )
        admit = weights_validator(config.model)
        observe: Callable[[TurnResult], None] = ignore
        if trial is not None:
            config, alarms = trial.begin(config, extent, share)
            observe = alarms.observe
        own = msgspec.structs.replace(config.input, format="reading", sources=())
        engine = Engine(
            model,
            msgspec.structs.replace(config.engine, input=own),
            admit=admit,
            input_hook=scorer.observe,
            peak_head=open_peak_head(),
        )
        if trial is not None:
            engine.pipeline.alerts.wave_hook = alarms.wave
        source = read()
        on_progress, show_text = start(extent)
        if contests is None:
            played = run_backtest(
                engine, scorer, source.readings, extent, share, on_progress, on_result=observe
            )
        else:
            learner = begin(model, engine, config.trainer, config.finetune, config.contest)

            def on_outcome(outcome: Outcome) -> None:
                contests.append(outcome)
                show_text(learnt(contests))

            trainer = InlineTrainer(engine, learner, on_outcome)
            batch = min(BATCH, STEPS_A_RECORD * len(extent.flows))  # so that it learns in time
            played = run_backtest(
                engine, scorer, source.readings, extent, share, on_progress, trainer, batch, observe
            )
        for fault in source.faults():
            click.echo(fault, err=True)
    return played


def ignore(_result: TurnResult) -> None:
    """Without rules there is nothing to observe."""


def learnt(contests: list[Outcome]) -> str:
    """The results of the challengers so far, in a few words."""
    promoted = sum(each.weights is not None for each in contests)
    returned = sum(each.serving is not None and each.weights is None for each in contests)
    words = f"{promoted} of {len(contests) - returned} challengers promoted"
    return words + (f", {returned} taken back" if returned else "")


def scored_file(file: Path, played: BacktestForecasts) -> Report | dict[str, Any]:
    """The figures of a file; fewer for one whose flows are the same each day."""
    from streamer.evaluation.backtest import score_peaks, tally_forecasts
    from streamer.evaluation.flow_classes import classes
    from streamer.evaluation.metrics import ConstantTraffic
    from streamer.evaluation.report import report

    try:
        tally = tally_forecasts(played)
    except ConstantTraffic as constant:
        return {"file": file.name, "constant": constant.figures}
    except ValueError as error:
        raise click.ClickException(f"{file}: {error}") from None
    horizons = played.forecasts.shape[2]
    of_flows = classes(played.rates, played.origin, horizons, played.step_s)
    return report(file.name, played.step_s, tally, of_flows, score_peaks(played))


def show(console: Console, played: BacktestForecasts, report: Report) -> None:
    """All figures of a file."""
    from streamer.cli import _tables

    skill = report.skill
    first, last = (moment(played.made_at[place].item())[:-3] for place in (0, skill.origins - 1))
    flows = f"{skill.flows:,} flow{'' if skill.flows == 1 else 's'}"
    console.print(f"\n[bold]{markup(report.name)}[/]")
    steps = f"{skill.origins:,} steps of {span(report.step_s)}"
    console.print(f"{flows}, {steps}, {first} to {last} UTC\n")
    for each in _tables.tables(report):
        console.print(each)
    console.print(_tables.bands(skill))
    for peak in report.peaks:
        console.print(_tables.spikes(peak))


def drawn(
    played: BacktestForecasts, report: Report, flows: Sequence[str], most: int
) -> list[Strip]:
    """What the picture will show of a file."""
    from streamer.plots.bands import strips

    return strips(played, report, flows, most)


def plot(strips: list[Strip], plotted: Path) -> None:
    """Draw them."""
    from streamer.plots.bands import draw

    if not strips:
        raise click.ClickException("none of the flows named is in the files")
    draw(strips, plotted)
    click.echo(f"{plotted}: {len(strips)} flows", err=True)


@contextlib.contextmanager
def bar(
    file: Path,
) -> Iterator[Callable[[Extent], tuple[Callable[[int], None], Callable[[str], None]]]]:
    """
    A bar for *file*; yields a function that is called once its extent is known.

    The function returns two others: one for the number of readings so far, one for a text.
    """
    from streamer.cli import _progress

    with _progress.bar(f"{file.name}, reading its extent", None) as shown:

        def start(extent: Extent) -> tuple[Callable[[int], None], Callable[[str], None]]:
            shown.update(total=extent.readings, text=file.name)
            return shown.update, lambda text: shown.update(text=f"{file.name}, {text}")

        yield start
