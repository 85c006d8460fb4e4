"""`streamer run`: the daemon, wired to its log, its lines and the service that watches it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from streamer.cli._forecasting import Watch, forecast
from streamer.cli._signals import stop_signals
from streamer.cli._topics import make_missing
from streamer.cli.options import config_options, examples, settings

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.stdlib import BoundLogger

    from streamer.config.schema import Config
    from streamer.ops.logs import LogFormat

ROLES = ("all", "forecaster", "trainer", "notifier", "rekeyer", "console")


@click.command(
    "run",
    epilog=examples(
        "streamer run -c /etc/streamer/streamer.yaml",
        "streamer run --set log=sqlite:///traffic.db --set step=5m",
    ),
)
@config_options
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="all",
    show_default=True,
    help="What this process does; all: it forecasts, and starts the others that the settings name.",
)
@click.option(
    "--log-format",
    "look",
    type=click.Choice(["auto", "logfmt", "json", "pretty"]),
    default="auto",
    show_default=True,
    help="How log lines on standard error look; auto is pretty at a terminal, else logfmt.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log more: each phase, and what libraries log.")
def run_command(
    path: Path | None, overrides: tuple[str, ...], role: str, look: LogFormat, *, verbose: bool
) -> None:
    """
    Run the daemon until it is stopped.

    It reads counters and publishes forecasts. Beside it, in a process of its own, a trainer goes
    on training the network, unless `trainer.enabled` is off. If `notify` names a receiver, a
    notifier delivers alerts. If `input.rekeyed` names a topic, a rekeyer writes the input's
    readings to it, keyed by flow, and forecasts are made from there. With `console.enabled` a
    console serves web pages. In a SQLite file it creates the topics that are missing; `streamer
    topics --create` creates those of a broker. SIGTERM and Ctrl-C let it finish its turn and leave
    the group; it exits 0. A wrong setting exits 78 and names it. A log that is away is waited
    for.
    """
    with stop_signals() as stop:
        config = settings(path, overrides)

        import structlog

        from streamer.ops import logs
        from streamer.ops.coverage_slo import CoverageSLO
        from streamer.ops.supervised import SupervisedProcess
        from streamer.ops.systemd import Systemd
        from streamer.ops.telemetry import Telemetry

        logs.begin(look, "debug" if verbose else "info")
        lines: BoundLogger = structlog.get_logger()
        systemd = Systemd(os.environ)
        who = "forecaster" if role == "all" else role
        if who == "notifier":
            wanted_by(config)
        if "console" in (role, *children(config, role)):
            from streamer.cli._console import require_packages

            require_packages()
        options = [] if path is None else ["-c", str(path)]
        options += [each for override in overrides for each in ("--set", override)]
        lines.info(
            f"{who}.started", log=config.log, group=config.group, instance=config.instance_name
        )
        if who == "trainer":
            from streamer.cli._training import learn

            learn(config, path, lines, stop, lambda word: getattr(systemd, word)())
        elif who == "notifier":
            from streamer.cli._delivery import deliver

            deliver(config, path, lines, stop, lambda word: getattr(systemd, word)())
        elif who == "rekeyer":
            from streamer.cli._rekeying import rekey

            rekey(config, path, lines, stop, lambda word: getattr(systemd, word)())
        elif who == "console":
            from streamer.cli._console import show

            show(config, options, lines, stop, lambda word: getattr(systemd, word)())
        else:
            telemetry = Telemetry(config.telemetry, lines)
            objective = CoverageSLO(config.objective, lines)
            beside = {
                name: SupervisedProcess(["run", "--role", name, "--log-format", look, *options])
                for name in children(config, role)
            }
            watch = Watch(lines, telemetry, objective, systemd, path, beside)
            from streamer.cli._service import ForecasterMetrics, Service

            service = Service(config, "forecaster", telemetry.totals, telemetry.levels, lines)
            watch.serve(service, ForecasterMetrics(service.metrics, objective))
            try:
                make_missing(config, lines)
                forecast(config, watch, stop)
            finally:
                service.close()
                for each in beside.values():
                    each.end()
            telemetry.flush()
        lines.info(f"{who}.stopped")


def children(config: Config, role: str) -> list[str]:
    """The roles of processes that a forecaster in *role* starts beside itself."""
    wanted = {
        "trainer": config.trainer.enabled,
        "notifier": config.alerts.enabled and bool(config.notify.receivers),
        "rekeyer": config.input.rekeyed is not None,
        "console": config.console.enabled,
    }
    return [name for name, is_wanted in wanted.items() if is_wanted and role == "all"]


def wanted_by(config: Config) -> None:
    """Raise ConfigError if a notifier would have no receiver."""
    from streamer.config.sources import ConfigError

    if not config.notify.receivers:
        raise ConfigError("notify.alertmanagers: must name a receiver, or notify.webhooks must")
