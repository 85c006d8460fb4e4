"""Runs the demo, from starting its processes to printing the summary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from threading import Event

from rich.console import Console

from streamer.config.sources import render
from streamer.core.types import Record
from streamer.demo.live_alerts import AlertTally
from streamer.demo.live_scores import Tally
from streamer.demo.processes import Processes
from streamer.demo.show import Lines, Pace, Scene, Screen
from streamer.demo.view import predicted
from streamer.log import Client, TopicConfig
from streamer.log.sqlite.log import SqliteClient, SqliteSettings
from streamer.text.format import moment, span

COUNTERS, FORECASTS, SCORES = "traffic.counters", "traffic.forecasts", "traffic.scores"
ALERTS, METRICS = "traffic.alerts", "traffic.metrics"
GROUP = "demo"
PARTITIONS = 2
HORIZONS = 24
DAILY_JOBS = 0.5  # share of the flows with a burst at the same time each day: what can be foreseen
ALERT_STEPS = 12  # how far ahead spikes are looked for
SHOWN_MAX = 3  # alerts that the summary names
BATCH = 100  # readings, and forecasts, in a record
SINCE = "26w"  # the age of the beginning of the generated history: longer than any demo runs
KEPT_S = 300.0  # retention of the log in real time, to limit its size
WAIT_S = 0.1
SHOWN_S_MIN = 5.0  # minimum time with forecasts, before a bounded run ends
LOADING_S_MAX = 120.0  # limit of the extra time that a bounded run waits for them
NEVER_S = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """The settings of a demo."""

    folder: Path
    flows: int
    speed: float  # seconds of history per second
    step_s: int
    seconds: float | None  # None: until stopped
    port: int | None = None  # of the console; None: there is none
    seed: int = 0  # of the generated traffic

    @property
    def database(self) -> Path:
        """The SQLite log's file."""
        return self.folder / "demo.db"

    @property
    def address(self) -> str:
        """The console's URL; empty if there is none."""
        return "" if self.port is None else f"http://127.0.0.1:{self.port}/"

    @property
    def url(self) -> str:
        """The log's URL."""
        return f"sqlite:///{self.database}"


def play(plan: Play, console: Console, stop: Event) -> None:
    """Run it until *stop*, or until its time is over; raises Lost if a process fails."""
    began_s = time.monotonic()
    began_to_show_s = NEVER_S
    tally = Tally((1, HORIZONS))
    pace = Pace()
    with ExitStack() as undo:
        client = SqliteClient(plan.database, SqliteSettings())
        undo.callback(client.close)
        crew = set_up(plan, client)
        undo.callback(crew.close)
        batches = client.follow([FORECASTS, ALERTS, SCORES], from_start=True, wait_s=WAIT_S)
        with Screen(console) if console.is_terminal else Lines(console) as show:
            for records in batches:
                read(records, tally)
                took_s = time.monotonic() - began_s
                began_to_show_s = min(began_to_show_s, took_s if tally.forecasts else NEVER_S)
                if show.due(took_s):
                    crew.muster()
                    crew.listen()
                    pace.mark(took_s, tally.forecasts)
                    show.update(tally, scene(plan, crew, pace, took_s))
                if stop.is_set() or over(plan, took_s, took_s - began_to_show_s):
                    break
        crew.end()
        for records in takewhile(bool, batches):
            read(records, tally)
        crew.listen()
    for line in summary(plan, crew, tally, time.monotonic() - began_s):
        console.print(line, soft_wrap=not console.is_terminal)


def read(records: Sequence[Record], tally: Tally) -> None:
    """Take records of all topics that are followed."""
    of_topic: dict[str, list[Record]] = {FORECASTS: [], ALERTS: [], SCORES: []}
    for record in records:
        of_topic[record.partition.topic].append(record)
    tally.read(of_topic[FORECASTS])
    tally.alerts.read_alerts(of_topic[ALERTS])
    tally.alerts.read_scores(of_topic[SCORES])


def over(plan: Play, took_s: float, shown_s: float) -> bool:
    """Return whether the run ends; *shown_s* excludes loading, which may be slow."""
    if plan.seconds is None or took_s < plan.seconds:
        return False
    return shown_s >= min(SHOWN_S_MIN, plan.seconds) or took_s >= plan.seconds + LOADING_S_MAX


def set_up(plan: Play, client: Client) -> Processes:
    """Create topics and settings, and start the processes."""
    client.create(COUNTERS, TopicConfig(PARTITIONS, compact=False, retention_s=KEPT_S))
    client.create(FORECASTS, TopicConfig(PARTITIONS, compact=False, retention_s=KEPT_S))
    client.create(SCORES, TopicConfig(PARTITIONS, compact=False, retention_s=KEPT_S))
    client.create(METRICS, TopicConfig(PARTITIONS, compact=False, retention_s=KEPT_S))
    client.create(ALERTS, TopicConfig(PARTITIONS, compact=True))
    client.create(f"{GROUP}.rejects", TopicConfig(PARTITIONS, compact=False))
    client.create(f"{GROUP}.state", TopicConfig(PARTITIONS, compact=True))
    client.create(f"{GROUP}.models", TopicConfig(1, compact=True))
    settings = plan.folder / "demo.yaml"
    settings.write_text(
        render(
            {
                "log": plan.url,
                "group": GROUP,
                "instance": "demo",
                "step": f"{plan.step_s}s",
                "forecasts": {"batch": BATCH, "horizons": HORIZONS, "peaks": [ALERT_STEPS]},
                "alerts": {
                    "enabled": True,
                    "rules": [
                        {
                            "name": "spike",
                            "kind": "spike",
                            "within": f"{ALERT_STEPS * plan.step_s}s",
                            "min_rate": 1000,
                        }
                    ],
                },
                "state": {"interval": "10s"},
                "telemetry": {"interval": "1s"},
                "metrics": {"every": "2s"},
                "trainer": {"enabled": False},
                "console": {"bind": f"127.0.0.1:{plan.port or 8080}"},
                # some 1 000 readings: short turns make a smooth display
                "turn": {"records_max": 10},
            }
        )
    )
    return Processes(
        plan.folder,
        run=["-c", str(settings)],
        console=plan.port is not None,
        feed=[
            *("--generate", "--log", plan.url, "--topic", COUNTERS, "--batch", str(BATCH)),
            *("--flows", str(plan.flows), "--every", f"{plan.step_s}s"),
            *("--speed", str(plan.speed), "--since", SINCE),
            *("--daily-jobs", str(DAILY_JOBS), "--seed", str(plan.seed)),
        ],
    )


def scene(plan: Play, crew: Processes, pace: Pace, took_s: float) -> Scene:
    """Return what is shown besides the tally."""
    return Scene(
        speed=plan.speed,
        step_s=plan.step_s,
        seconds=took_s,
        readings=crew.counts["readings"],
        readings_per_s=crew.readings_per_s,
        forecasts_per_s=pace.per_s,
        lag=crew.lag,
        console=plan.address,
        counters={name: n for name, n in crew.counts.items() if name != "readings" and n},
    )


def summary(plan: Play, crew: Processes, tally: Tally, took_s: float) -> Sequence[str]:
    """Return lines on the readings, the forecasts, their speed and their errors."""
    if not tally.forecasts:
        return [f"{took_s:.0f} s, and no forecast yet: give it --seconds 20 or more."]
    read, flows, forecasts = crew.counts["readings"], len(tally.traces), tally.forecasts
    lines = [
        f"{took_s:.0f} s: {read:,} readings of {flows:,} flows, {forecasts:,} forecasts.",
        f"{moment(tally.first_at)} to {moment(tally.made_at)} UTC, steps of {span(plan.step_s)}.",
    ]
    if crew.busy_s:
        speed = f"{read / crew.busy_s:,.0f} readings a second, transactions and all"
        lines.append(f"The forecaster was busy for {crew.busy_s:.1f} s of it: {speed}.")
    for horizon in tally.horizons:
        error, smooth = tally.error(horizon, "streamer"), tally.error(horizon, "smoothing")
        held = tally.coverage(horizon)
        if error is None or smooth is None or held is None:
            continue
        lines.append(
            f"{span(horizon * plan.step_s)} ahead: the median's error is {error:.2f} of the last"
            f" value's (smoothing: {smooth:.2f}); {held:.1%} came within the band of 90 %."
        )
    return [*lines, *alert_lines(tally.alerts)]


def alert_lines(alerts: AlertTally) -> Sequence[str]:
    """Return the ledger as a line, and lines on alerts that fired before their spike."""
    ledger = alerts.ledger
    line = (
        f"Alerts of spikes: {ledger['raised']} raised, {ledger['true']} before their spike,"
        f" {ledger['late']} late, {ledger['false']} false; {ledger['missed']} spikes missed"
    )
    if alerts.precision is not None and alerts.recall is not None:
        line += f" (precision {alerts.precision:.2f}, recall {alerts.recall:.2f})"
    if alerts.lead_s is not None:
        line += f"; {span(round(alerts.lead_s))} ahead on average"
    return [f"{line}.", *(f"  {predicted(each)}" for each in list(alerts.predicted)[-SHOWN_MAX:])]
