"""
A storm of alerts: what a turn costs in which a thousand flows begin to fire, or end.

The engine has the default rules and one with a threshold, which all flows pass at once. A turn is
computed and encoded, with its forecasts, alerts and entries of the state topic.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from streamer.core.alerts.rules import DEFAULT_RULES, AlertsConfig, RuleConfig
from streamer.core.engine import Engine, EngineConfig
from streamer.core.network.config import ModelConfig
from streamer.core.types import Message, Partition, Record, TurnResult
from streamer.core.wire import InputConfig
from streamer.core.wire.alerts import messages
from streamer.core.wire.forecasts import Encoder, ForecastsConfig
from streamer.weights import open_model, open_peak_head
from tests.bench.core import collector_at_ease
from tests.bench.rows import Row, timed
from tests.bench.traffic import START_S, STEP_S

P = Partition("bench.counters", 0)
ABOVE = 1e6  # of usual rates of a thousand
SURE = 0.99  # a chance that few forecasts of these rates reach: most alerts begin with the storm
RULE = RuleConfig(
    name="high", kind="threshold", above=ABOVE, clear_steps=1, chance=SURE, chance_clear=SURE
)
CYCLE = 4  # steps from storm to storm
WARM_STEPS = 40
RATIO_MAX = 3.0  # of the turn that is longer than 99 of 100 of them


class Storms(NamedTuple):
    """What turns took, and what they published."""

    calm_s: list[float]
    storm_s: list[float]  # of turns in which all flows begin to fire, or end
    alerts: list[dict]  # the records, in their order
    lost: list[int]  # flows of each storm whose alert does not fire when it has passed


class Scene:
    """An engine whose flows are all read once a turn."""

    def __init__(self, flows: int) -> None:
        config = EngineConfig(
            flows_max=flows,
            input=InputConfig(kind="gauge"),
            forecasts=ForecastsConfig(batch=100),
            alerts=AlertsConfig(enabled=True, rules=(*DEFAULT_RULES, RULE)),
        )
        self.engine = Engine(open_model(ModelConfig()), config, peak_head=open_peak_head())
        self.engine.restore(P, {}, 0, 1)
        self.encoder = Encoder(config.forecasts, STEP_S)
        self.flows, self.steps = flows, 0
        self._rng = np.random.default_rng(0)

    def turn(self, *, high: bool) -> tuple[float, list[Message]]:
        """The next step of all flows; the alerts are those of the step that it closes."""
        rates = 1e3 * np.exp(0.1 * self._rng.normal(size=self.flows)) * (5e3 if high else 1)
        at = START_S + self.steps * STEP_S
        readings = [
            {"flow": f"edge{f // 48}/port{f % 48}", "time": at, "value": rate}
            for f, rate in enumerate(rates.tolist())
        ]
        record = Record(P, self.steps, None, json.dumps(readings).encode(), -1)
        self.steps += 1
        made: list[Message] = []
        took_s = timed(lambda: made.extend(self._published(self.engine.step([record], 0.01))))
        return took_s, made

    def _published(self, result: TurnResult) -> Iterator[Message]:
        yield from messages(result.alerts, "alerts")
        yield from self.encoder.messages(result.forecasts)


def storms(flows: int, number: int) -> Storms:
    """All *flows* begin to fire in one turn and end in the next one, *number* times."""
    scene = Scene(flows)
    found, firing = Storms([], [], [], []), set()
    with collector_at_ease():
        for nth in range(WARM_STEPS + CYCLE * number):
            place = (nth - WARM_STEPS) % CYCLE if nth >= WARM_STEPS else -1
            took_s, made = scene.turn(high=place == 0)
            of_rule = [
                record
                for record in (json.loads(each.value) for each in made if each.topic == "alerts")
                if record["rule"] == RULE.name
            ]
            found.alerts.extend(of_rule)
            for each in of_rule:
                (firing.add if each["state"] == "firing" else firing.discard)(each["flow"])
            if place == 1:  # the step of the storm closes with the reading after it
                found.lost.append(flows - len(firing))
            if place >= 0:
                (found.storm_s if of_rule else found.calm_s).append(took_s)
    return found


def rows(flows: int = 1_000, number: int = 50) -> Iterator[Row]:
    """The turn of a storm over the usual one."""
    torch.set_num_threads(1)
    found = storms(flows, number)
    usual = statistics.median(found.calm_s)
    note = f"{flows:,} flows begin to fire or end in a turn; the usual one takes {usual:.3f} s"
    yield Row(
        "alert_storm_p99_vs_usual_turn",
        float(np.quantile(found.storm_s, 0.99)) / usual,
        "x",
        RATIO_MAX,
        at_most=True,
        note=note,
    )
    note = f"of {flows * number:,}; an alert may be raised by a forecast before its storm"
    yield Row("alerts_lost_in_storms", sum(found.lost), "alerts", 0, at_most=True, note=note)
