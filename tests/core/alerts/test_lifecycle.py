"""The life of alerts in the rows: raised, judged, resolved; and their records."""

import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest

from streamer.config.types import Duration
from streamer.core.alerts.lifecycle import STATE, columns
from streamer.core.alerts.rules import AlertsConfig, RuleConfig
from streamer.core.engine import Engine, EngineConfig
from streamer.core.features.grid import GridConfig
from streamer.core.network.config import QUANTILES
from streamer.core.types import Partition, Record
from streamer.core.wire import InputConfig
from streamer.core.wire.alerts import encoded, messages, score_messages
from tests.simulation.fingerprint import Fingerprint

P = Partition("traffic.counters", 0)
STEP = 300
START = 1_700_000_000 // 86400 * 86400
SPIKE = RuleConfig(name="spike", kind="spike")


class Oracle(Fingerprint):
    """A network whose median is the baselines', but for steps in which it expects a spike."""

    def __init__(self):
        super().__init__()
        self.lift = 0.0

    def step(self, inputs, state):
        _, after = super().step(inputs, state)
        middle = inputs.ahead[0] + self.lift
        width = np.linspace(-0.2, 0.2, len(QUANTILES), dtype=np.float32)
        return np.maximum(middle[None] + width[:, None, None], 0).astype(np.float32), after


class Scene:
    """One flow, read by an engine with some rules."""

    def __init__(self, *rules, **capacity):
        self.model = Oracle()
        config = EngineConfig(
            input=InputConfig(kind="gauge"),
            grid=GridConfig(step=Duration(STEP)),
            alerts=AlertsConfig(enabled=bool(rules), rules=rules),
        )
        self.engine = Engine(self.model, config)
        self.engine.restore(P, {}, 0, 1)
        self.steps = 0
        self.capacity = capacity
        self.alerts, self.scores = [], []

    def rate(self, *rates):
        """The rates of the next steps; returns the alerts that they bring."""
        began = len(self.alerts)
        for value in rates:
            self.turn(value)
        return [(a.rule, a.state, a.reason, a.verdict) for a in self.alerts[began:]]

    def turn(self, *rates):
        """The rates of the next steps, all read in one turn."""
        records = []
        for value in rates:
            reading = {"flow": "edge1/in", "time": START + STEP * self.steps, "value": value}
            body = json.dumps(reading | self.capacity).encode()
            records.append(Record(P, self.steps, None, body, -1))
            self.steps += 1
        epoch = self.engine.step(records)
        self.alerts += epoch.alerts
        self.scores += epoch.rule_scores

    def count(self, name):
        return sum(getattr(score, name) for score in self.scores)


def calm(steps, seed=3):
    """A rate of about 1,000."""
    return (1000 * np.random.default_rng(seed).lognormal(0, 0.05, steps)).tolist()


def test_a_rule_costs_at_most_64_bytes_a_row():
    """And nothing where there is no rule."""
    assert STATE.itemsize <= 64
    assert columns(()) == []
    assert len(columns((SPIKE,))) == 2


def test_a_predicted_spike_makes_a_true_alert(monkeypatch):
    """Raised by its chance, true once the rate passes, resolved when it is over."""
    monkeypatch.setattr("streamer.core.alerts.conditions.skilled", lambda rows: rows["seen"] > 0)
    scene = Scene(SPIKE)
    assert scene.rate(*calm(75)) == []
    scene.model.lift = 2.0
    assert scene.rate(1000) == [("spike", "firing", "chance", "open")]
    (raised,) = scene.alerts
    assert raised.chance > 0.5
    assert raised.threshold == pytest.approx(2 * 1100, rel=0.1)
    assert raised.expected_at == raised.since
    assert raised.peaks["peak_q95"] > raised.peaks["peak_q50"] > raised.threshold
    assert scene.rate(1000, 9000) == []  # a step closes with the reading after it
    assert scene.rate(9000) == [("spike", "firing", "above", "true")]
    scene.model.lift = 0.0
    assert scene.rate(*calm(8)) == [("spike", "resolved", "quiet", "true")]
    assert {a.id for a in scene.alerts} == {raised.id}
    assert scene.alerts[-1].lead_s == 2 * STEP == scene.count("lead_s")
    assert [scene.count(n) for n in ("raised", "true", "late", "false", "missed")] == [
        *(1, 1, 0, 0, 0)
    ]


def test_a_spike_that_does_not_come_makes_a_false_alert(monkeypatch):
    """When its window is over, though it may go on."""
    monkeypatch.setattr("streamer.core.alerts.conditions.skilled", lambda rows: rows["seen"] > 0)
    scene = Scene(SPIKE)
    scene.rate(*calm(75))
    scene.model.lift = 2.0
    changes = scene.rate(*calm(20))
    assert changes == [
        ("spike", "firing", "chance", "open"),
        ("spike", "firing", "chance", "false"),
    ]
    assert scene.alerts[1].updated_at == scene.alerts[0].since + 12 * STEP
    scene.model.lift = 0.0
    assert scene.rate(*calm(8)) == [("spike", "resolved", "quiet", "false")]
    assert scene.count("false") == 1


def test_an_absurd_forecast_without_skill_raises_nothing():
    """The network is worse than the baselines, so its chance does not count."""
    scene = Scene(SPIKE)
    scene.model.lift = 2.0
    assert scene.rate(*calm(90)) == []
    assert scene.count("raised") == 0


def counts(scene):
    return tuple(scene.count(name) for name in ("raised", "true", "late", "false", "missed"))


def test_an_unpredicted_spike_is_missed_and_its_alert_late():
    """If the rule raises alerts late: such an alert fires while the rate is above."""
    scene = Scene(RuleConfig(name="spike", kind="spike", late_steps=1))
    scene.rate(*calm(75))
    assert scene.rate(9000, 1000) == [("spike", "firing", "above", "late")]
    assert scene.rate(*calm(8)) == [("spike", "resolved", "quiet", "late")]
    assert counts(scene) == (1, 0, 1, 0, 1)


def test_a_turn_counts_all_that_it_misses():
    """A backlog holds many steps of a flow, each of which adds to the ledger."""
    scene = Scene(RuleConfig(name="spike", kind="spike", late_steps=1))
    scene.rate(*calm(75))
    scene.turn(9000, *calm(12), 9000, *calm(12))
    assert counts(scene) == (2, 0, 2, 0, 2)


@pytest.mark.parametrize(("late_steps", "raised"), [(None, 0), (0, 0), (1, 1)])
def test_a_short_spike_that_nothing_predicted_raises_an_alert_only_if_asked(late_steps, raised):
    """It is missed in any case. By default a spike rule raises its alert after two steps."""
    scene = Scene(RuleConfig(name="spike", kind="spike", late_steps=late_steps))
    scene.rate(*calm(75))
    changes = scene.rate(9000, *calm(8))
    assert [each[3] for each in changes] == ["late", "late"] * raised
    assert counts(scene) == (raised, 0, raised, 0, 1)


def test_a_long_spike_that_nothing_predicted_raises_one_alert():
    """Late, after two steps above; it ends with the spike."""
    scene = Scene(SPIKE)
    scene.rate(*calm(75))
    assert scene.rate(9000, 9000) == []
    assert scene.rate(9000) == [("spike", "firing", "above", "late")]
    assert [each[1] for each in scene.rate(*calm(10))] == ["resolved"]
    assert counts(scene) == (1, 0, 1, 0, 1)


def test_a_rate_that_moves_around_the_threshold_is_one_passing(monkeypatch):
    """An alert that a forecast raises during it would be no news; after it, it is."""
    monkeypatch.setattr("streamer.core.alerts.conditions.skilled", lambda rows: rows["seen"] > 0)
    scene = Scene(RuleConfig(name="high", kind="threshold", above=5000, late_steps=0))
    scene.rate(*calm(75))
    scene.rate(9000)
    scene.model.lift = 2.5
    assert scene.rate(1000, 9000, 1000, 1000) == []
    assert counts(scene) == (0, 0, 0, 0, 1)
    assert scene.rate(1000, 1000) == [("high", "firing", "chance", "open")]
    assert [each[3] for each in scene.rate(9000, 1000)] == ["true"]
    assert counts(scene) == (1, 1, 0, 0, 1)


def test_an_alert_in_a_passing_is_late_for_a_rule_that_raises_them_at_once(monkeypatch):
    """The chance raises it in a dip of the rate, where `for_steps` had held it back."""
    monkeypatch.setattr("streamer.core.alerts.conditions.skilled", lambda rows: rows["seen"] > 0)
    scene = Scene(RuleConfig(name="high", kind="threshold", above=5000, for_steps=2))
    scene.rate(*calm(75))
    scene.rate(9000)
    scene.model.lift = 2.5
    assert scene.rate(1000) == []
    assert [each[1:] for each in scene.rate(1000)] == [("firing", "chance", "late")]


def test_a_passing_after_the_window_does_not_make_an_alert_true(monkeypatch):
    """Readings were missing until then."""
    monkeypatch.setattr("streamer.core.alerts.conditions.skilled", lambda rows: rows["seen"] > 0)
    scene = Scene(RuleConfig(name="spike", kind="spike", within=Duration(2 * STEP), late_steps=0))
    scene.rate(*calm(75))
    scene.model.lift = 2.0
    assert [each[3] for each in scene.rate(1000, 1000)] == ["open"]
    scene.steps += 4
    assert "true" not in {each[3] for each in scene.rate(9000, 9000, 9000)}
    assert (scene.count("true"), scene.count("false")) == (0, 1)


def test_a_level_shift_raises_one_alert_and_is_then_learned():
    """However the rate moves around its new level."""
    scene = Scene(SPIKE)
    scene.rate(*calm(75))
    shifted = [5 * rate for rate in calm(200, seed=4)]
    changes = scene.rate(*shifted)
    assert [each[1] for each in changes] == ["firing", "resolved"]
    assert scene.alerts[-1].updated_at - scene.alerts[0].since < 86400


def test_a_link_that_fills_up_fires_by_its_capacity():
    """From the readings, or from the rule."""
    scene = Scene(
        RuleConfig(name="full", kind="capacity", share=0.8),
        RuleConfig(name="own", kind="capacity", capacity=4000, labels={"team": "core"}),
        capacity=10_000,
    )
    assert scene.rate(*calm(50)) == []
    assert [each[:3] for each in scene.rate(8500, 8500, 1000)] == [
        ("full", "firing", "above"),
        ("own", "firing", "above"),
    ]
    full, own = scene.alerts
    assert (full.threshold, full.capacity) == (8000, 10_000)
    assert own.threshold == pytest.approx(3600)
    assert own.labels == {"team": "core"}


def test_a_rule_below_fires_while_the_rate_is_low():
    """After so many steps, and ends after so many."""
    scene = Scene(RuleConfig(name="low", kind="threshold", below=10, for_steps=2, clear_steps=2))
    scene.rate(*calm(10))
    assert scene.rate(1, 1000, 1, 1) == []
    assert scene.rate(1) == [("low", "firing", "below", None)]
    assert scene.rate(1000, 1000) == []
    assert scene.rate(1000) == [("low", "resolved", "quiet", None)]


def test_rates_outside_of_their_bands_are_an_anomaly():
    """Six of eight; one odd step is none."""
    scene = Scene(RuleConfig(name="odd", kind="anomaly"))
    scene.rate(*calm(100))
    scene.alerts.clear()
    assert scene.rate(3000, *calm(10)) == []
    wild = [1000 * 4 ** (step % 3) for step in range(20)]
    assert ("odd", "firing", "outside", None) in scene.rate(*wild)


def test_bands_with_too_little_coverage_raise_an_alert():
    """The running share of rates within their bands falls below the bound."""
    scene = Scene(RuleConfig(name="bands", kind="coverage", covered_min=0.6))
    scene.rate(*calm(100))
    wild = [1000 * 30 ** ((step * 7) % 5 / 4) for step in range(150)]
    assert ("bands", "firing", "uncovered", None) in scene.rate(*wild)


def test_a_rule_is_for_the_flows_that_it_names():
    """Others have no alert."""
    scene = Scene(RuleConfig(name="low", kind="threshold", below=1e9, flows="core*"))
    assert scene.rate(*calm(5)) == []


def test_without_rules_rows_and_forecasts_are_as_ever():
    """Rules read the rows, and write none of the columns that forecasts come from."""
    plain, ruled = Scene(), Scene(SPIKE, RuleConfig(name="odd", kind="anomaly"))
    rates = calm(60)
    plain.rate(*rates)
    ruled.rate(*rates)
    rows, others = plain.engine.table.rows, ruled.engine.table.rows
    assert not [name for name in rows.dtype.names if name.startswith("alert")]
    for name in set(rows.dtype.names) - {"spare"}:
        assert rows[name].tobytes() == others[name].tobytes(), name


def test_records_follow_their_schemas():
    """Of alerts that begin, are judged and end, and of the ledger."""
    spike = RuleConfig(name="spike", kind="spike", late_steps=1)
    scene = Scene(spike, RuleConfig(name="low", kind="threshold", below=10, labels={"a": "b"}))
    scene.rate(*calm(75), 9000, *calm(6), 0, 0, *calm(6))
    assert len(scene.alerts) == 4
    schemas = files("streamer") / "schemas"
    alert = json.loads((schemas / "alert.schema.json").read_text())
    for message in messages(scene.alerts, "traffic.alerts"):
        encoded_alert = json.loads(message.value)
        jsonschema.validate(encoded_alert, alert)
        assert message.key == f"edge1/in|{encoded_alert['rule']}".encode()
        assert message.partition == 0
        assert encoded_alert["flow"] in encoded_alert["text"]
    score = json.loads((schemas / "rule_score.schema.json").read_text())
    found = list(score_messages(scene.scores, "traffic.scores", STEP))
    assert found
    for message in found:
        jsonschema.validate(json.loads(message.value), score)


def test_the_text_has_the_flow_the_time_and_the_chance(monkeypatch):
    """For a person who is paged."""
    monkeypatch.setattr("streamer.core.alerts.conditions.skilled", lambda rows: rows["seen"] > 0)
    scene = Scene(SPIKE)
    scene.rate(*calm(75))
    scene.model.lift = 2.0
    scene.rate(1000, 1000)
    text = json.loads(encoded(scene.alerts[0]))["text"]
    assert text.startswith("edge1/in is expected above 2.")
    assert "times its usual rate) within 60 min with a chance of " in text
    assert "first at " in text


def test_a_table_of_capacities_is_in_bits():
    """The first glob that matches counts, before the readings; a rule's own table before both."""
    table = {"edge2*": 1e3, "edge*": 80_000, "*": 1e9}
    rules = (
        RuleConfig(name="full", kind="capacity"),
        RuleConfig(name="own", kind="capacity", capacities={"core*": 1e3}),
        RuleConfig(name="fixed", kind="capacity", capacity=2000),
    )
    in_force = AlertsConfig(enabled=True, rules=rules, capacities=table).in_force
    scene = Scene(*in_force, capacity=100_000, unit="B/s")
    scene.rate(*calm(30))
    assert [each[:2] for each in scene.rate(9500, 1000)] == [
        ("full", "firing"),
        ("fixed", "firing"),
    ]
    full, fixed = scene.alerts
    assert (full.threshold, full.capacity) == (9000, 10_000)
    assert (fixed.threshold, fixed.capacity) == (1800, 2000)


def test_a_table_is_not_applied_to_what_is_not_bits():
    """Packets have the capacity of their readings."""
    rule = RuleConfig(name="full", kind="capacity", capacities={"*": 80_000})
    scene = Scene(rule, capacity=20_000, unit="packets/s")
    scene.rate(*calm(30))
    assert scene.rate(9500, 1000) == []
    assert [each[1] for each in scene.rate(19_000, 1000)] == ["firing"]
