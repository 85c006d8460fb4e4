"""What a group publishes, made by its own encoders, and a log to put it in."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import Counter

import msgspec
import numpy as np

from streamer.config.schema import Config, load, open_client
from streamer.console.web.server import Console
from streamer.core.features import baselines
from streamer.core.types import (
    PEAK_QUANTILES,
    Alert,
    Forecasts,
    Message,
    Partition,
    Reason,
    Record,
    Reject,
    RuleScore,
    Score,
)
from streamer.core.wire import alerts, contests, forecasts, generations, rejects, scores
from streamer.log import TopicConfig
from streamer.ops.metrics_topic import Point, encoded

STEP_S = 60
AT = 1_700_000_040 - 1_700_000_040 % STEP_S
SCRIPT = "<script>alert(1)</script>/in"
ANSI = "edge1/\x1b[31mred\x1b[0m/in"
RTL = "\u202egnp.1egde/العربية/in"


def rates_at(flows: int, step: int) -> np.ndarray:
    """A day's rhythm, each flow at its own height; whole numbers, so that codes are compared."""
    height = 1e6 * 1.37 ** (np.arange(flows) % 24)
    wave = 1 + 0.5 * math.sin(step / 40) + 0.08 * np.sin(step * 1.7 + np.arange(flows))
    return height * wave


def forecast(flows: list[str], step: int, horizons: int = 12, generation: int = 1) -> Forecasts:
    """The forecasts of *flows* after the step with this number."""
    count = len(flows)
    rate = rates_at(count, step)
    ahead = np.stack([rates_at(count, step + k + 1) for k in range(horizons)], axis=1)
    spread = np.array([0.8, 0.93, 1.0, 1.08, 1.25])
    bands = (ahead[:, :, None] * spread).astype(np.float32)
    levels = np.array(PEAK_QUANTILES)
    peaks = ahead.max(axis=1)[:, None, None] * (0.8 + 0.5 * levels)[None, None]
    return Forecasts(
        partition=[Partition("traffic.counters", n % 2) for n in range(count)],
        flow=flows,
        unit=np.array([b"B/s"] * count),
        made_at=np.full(count, AT + step * STEP_S, np.int64),
        rate=rate,
        bands=bands,
        peaks=np.repeat(peaks, 2, axis=1).astype(np.float32),
        served_by=["lstm" if n % 5 else "daily" for n in range(count)],
        generation=generation,
    )


def forecast_messages(flows: list[str], steps: range, config: Config) -> list[Message]:
    """The records of the forecasts topic."""
    encoder = forecasts.Encoder(config.forecasts, int(config.step))
    return [
        message
        for step in steps
        for message in encoder.messages([forecast(flows, step, config.forecasts.horizons)])
    ]


def records(messages: list[Message], time_ms: int | None = None) -> list[Record]:
    """Messages as a log hands them over."""
    offsets: Counter[Partition] = Counter()
    found = []
    for message in messages:
        at = Partition(message.topic, message.partition or 0)
        found.append(
            Record(
                at,
                offsets[at],
                message.key,
                message.value,
                message.time_ms or time_ms or round(time.time() * 1000),
                message.headers,
            )
        )
        offsets[at] += 1
    return found


def alert(flow: str, rule: str = "spike", **changes) -> Alert:
    """An alert that fires."""
    values = {
        "partition": Partition("traffic.counters", 0),
        "flow": flow,
        "rule": rule,
        "kind": "spike",
        "severity": "warning",
        "state": "firing",
        "reason": "chance",
        "verdict": "open",
        "since": AT,
        "updated_at": AT,
        "lead_s": None,
        "step_s": STEP_S,
        "within_s": 720,
        "chance": 0.62,
        "threshold": 2.5e6,
        "unit": "B/s",
        "rate": 1.2e6,
        "usual": 1.0e6,
        "peaks": {"peak_q50": 2.7e6},
        "expected_at": AT + 300,
        "capacity": 1.25e8,
        "generation": 1,
        "served_by": "lstm",
        "labels": {},
    }
    return Alert(**(values | changes))


def score(horizon: int, period: int, *, generation: int = 1, of: str = "all") -> Score:
    """A period's scores."""
    return Score(
        ends_at=AT + 3600 * period,
        period_s=3600,
        generation=generation,
        of=of,
        horizon=horizon,
        flows=10,
        forecasts=6000,
        covered=5400 - 10 * (period % 5),
        rate=1e9,
        error_rate=1e8,
        error=700.0 + 20 * (period % 7),
        quantile_loss=300.0,
        width=2000.0,
        missed=10.0,
        missed_by={name: 14.0 + n for n, name in enumerate(baselines.NAMES)},
    )


def report(instance: str, role: str = "forecaster", at_s: float | None = None, **more) -> bytes:
    """A record of the metrics topic."""
    tags = {"group": "streamer", "instance": instance, "role": role}
    level = {
        "flows": 12.0,
        "lag_messages": 40.0,
        "generation": 1.0,
        "rollout_pages_left": 0.0,
        "readings_total": 72_000.0,
        "forecasts_total": 36_000.0,
        "messages_total": 36_000.0,
        "elements_skipped_total": 12.0,
        "process_resident_memory_bytes": 3.1e8,
        "start_time_seconds": 1.7e9,
    }
    rows = [
        Point(tags, level | more),
        Point({**tags, "version": "0.1.0"}, {"build_info": 1.0}),
        Point({**tags, "phase": "running"}, {"phase": 1.0}),
        Point({**tags, "verdict": "rated"}, {"verdicts_total": 71_000.0}),
        Point({**tags, "verdict": "wrapped"}, {"verdicts_total": 900.0}),
        Point({**tags, "reason": "not_json"}, {"messages_invalid_total": 7.0}),
        *(
            Point(
                {**tags, "topic": "traffic.counters", "partition": str(n)},
                {"consumer_lag_messages": 20.0, "consumer_lag_seconds": 2.0 * n},
            )
            for n in range(2)
        ),
    ]
    return encoded(rows, "influx", time.time() if at_s is None else at_s)


def contest(generation: int, verdict: str) -> contests.Contest:
    """A contest of a challenger."""
    return contests.Contest(
        generation=generation,
        incumbent=generation - 1,
        verdict=verdict,
        reason="better" if verdict == "promoted" else "uncertain",
        gain=0.021,
        gain_low=0.004,
        gain_high=0.038,
        loss_challenger=0.27,
        loss_incumbent=0.276,
        coverage_challenger=0.9,
        coverage_incumbent=0.89,
        flows=312,
        class_worst="bursts/many",
        class_gain=-0.004,
        flows_worst=["edge1/xe-0/0/1/in"],
        trained_from=AT - 86400.0,
        trained_until=AT - 7200.0,
        judged_from=AT - 7200.0,
        judged_until=float(AT),
        steps=60,
        drifted=False,
        digest="ab",
        parent="cd",
        seconds=41.5,
    )


def settings(url: str, **overrides) -> Config:
    """Settings of a console on a free port."""
    settings = [f"log={url}", "console.bind=127.0.0.1:0", "alerts.enabled=true"]
    return load(None, [*settings, *(f"{k.replace('__', '.')}={v}" for k, v in overrides.items())])


def create_topics(config: Config) -> None:
    """The topics that a console reads."""
    client = open_client(config)
    for topic, compact in (
        (config.forecasts.topic, False),
        (config.alerts.topic, True),
        (config.scores.topic, False),
        (config.metrics.topic, False),
        (config.models_topic, True),
        (config.rejects_topic, False),
    ):
        partitions = 1 if topic == config.models_topic else 2
        client.create(topic, TopicConfig(partitions, compact=compact))
    client.close()


def publish(config: Config, flows: list[str], steps: range) -> None:
    """All that a group would have published."""
    client = open_client(config)
    client.send(forecast_messages(flows, steps, config))
    alerted = [
        alert(flows[0], severity="critical", kind="capacity", rule="capacity"),
        alert(flows[1 % len(flows)]),
        alert(flows[0], rule="anomaly", severity="info", verdict=None, chance=None),
        alert(flows[2 % len(flows)], state="resolved", verdict="true", lead_s=420, reason="past"),
    ]
    client.send(list(alerts.messages(alerted, config.alerts.topic)))
    saved = [
        score(horizon, period, generation=1 + period // 6)
        for period in range(1, 13)
        for horizon in (1, 4, 12)
    ]
    client.send(scores.messages(saved, config.scores.topic, STEP_S))
    ledger = RuleScore(AT + 3600, 3600, "spike", raised=9, true=6, late=1, false=2, missed=2)
    client.send(list(alerts.score_messages([ledger], config.scores.topic, STEP_S)))
    now = time.time()
    for nth in range(20):
        for name in ("edge-a", "edge-b"):
            metrics = {"readings_total": 72_000.0 + 500 * nth, "lag_messages": 40.0 + nth % 7}
            value = report(name, at_s=now - 30 * (20 - nth), **metrics)
            client.send([Message(config.metrics.topic, 0, name.encode(), value)])
    models = [
        (generations.weights_key(2), b"x" * 90_000),
        (
            generations.contest_key(2),
            contests.encode(contest(2, "promoted")),
        ),
        (
            generations.INCUMBENT,
            generations.encode(generations.Incumbent(2, 1, float(AT), "promoted")),
        ),
        (generations.contest_key(3), contests.encode(contest(3, "refused"))),
    ]
    client.send([Message(config.models_topic, 0, key, value) for key, value in models])
    bad = Record(Partition("traffic.counters", 1), 17, b"edge9", b'{"flow": 3}<b>', 0)
    rejected = [
        Reject(bad, Reason.WRONG_TYPE, detail="flow: expected `str`, got `int`"),
        Reject(bad._replace(value=b"\xff\xfe\x00", offset=18), Reason.NOT_JSON),
    ]
    client.send([rejects.message(each, config.rejects_topic) for each in rejected])
    client.close()


class Told:
    """Log lines."""

    def __init__(self):
        self.lines = []

    def info(self, event, **fields):
        self.lines.append((event, fields))

    warning = info


@contextlib.contextmanager
def console(config: Config, options: tuple[str, ...] = ()):
    """A console that serves, and its address; it has caught up."""
    lines, stop = Told(), threading.Event()
    shown = Console(config, "0.1.0", list(options), lines)
    thread = threading.Thread(target=shown.run, args=(stop.wait, lambda: None), daemon=True)
    thread.start()
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            found = [
                fields["address"] for event, fields in lines.lines if event == "http.listening"
            ]
            settled = {"following", "missing", "unavailable"}
            if found and all(each.state in settled for each in shown.store.topics.values()):
                break
            time.sleep(0.05)
        else:
            raise AssertionError(f"the console did not catch up: {lines.lines}")
        yield shown, f"http://{found[0]}", lines
    finally:
        stop.set()
        thread.join(15)
        assert not thread.is_alive()


def decoded(body: bytes) -> dict:
    """JSON."""
    return msgspec.json.decode(body)
