"""Rules over a file: the figures are those of the ledger, and simple alarms have the same life."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from streamer.__main__ import cli
from streamer.cli._rules import overrides_of
from streamer.config.schema import load
from streamer.core.alerts.rules import RuleConfig
from streamer.evaluation.alarms import AlarmScorer, Event, RuleFigures, _met, tuned, variants
from tests.cli.test_alerts import alert

STEP_S = 1800
START_S = 1_699_999_200 // 86400 * 86400
DAY = 86400 // STEP_S
RULES = """\
rules:
  - {name: burst, kind: threshold, above: 1e6, within: 3h}
  - {name: odd, kind: anomaly, outside: 3, window: 6}
"""


def written(tmp_path, rates: np.ndarray):
    """A file of flows with *rates*, (steps, flows)."""
    lines = ["timestamp,flow,value"]
    for step, each in enumerate(rates):
        lines += [f"{START_S + step * STEP_S},port{f},{rate:g}" for f, rate in enumerate(each)]
    file = tmp_path / "readings.csv"
    file.write_text("\n".join(lines) + "\n")
    (tmp_path / "rules.yaml").write_text(RULES)
    return file


def backtest(*arguments):
    done = CliRunner().invoke(cli, ["backtest", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def bursts(days=6, flows=3):
    """A level with noise, and a burst at the same time every day."""
    rng = np.random.default_rng(0)
    rates = 1e5 * np.exp(0.1 * rng.normal(size=(days * DAY, flows)))
    for day in range(days):
        begin = day * DAY + 20
        rates[begin : begin + 2] *= 20
    return rates


def by_kind(found, rule):
    return {each["kind"]: each for each in found if each["rule"] == rule}


def test_rules_are_judged_beside_simple_alarms(tmp_path):
    """
    Bursts of every day: yesterday's alarm finds them all, the last value none.

    The records are those of the topic, the whole file's, and of the rules alone.
    """
    file, report, alerts = written(tmp_path, bursts()), tmp_path / "r.json", tmp_path / "a.jsonl"
    output = backtest(
        file, "--step", "30m", "--kind", "gauge", "--no-finetune", "--from", 0.5, "--json", report,
        "--rules", tmp_path / "rules.yaml", "--alerts", alerts, "--tune", 0.2,
    )  # fmt: skip
    found = json.loads(report.read_text())["rules"]["readings.csv"]
    burst = by_kind(found, "burst")
    same, last = burst["same time"], burst["last value"]
    assert (same["missed"], same["late"]) == (0, 0)
    assert same["true"] == 9
    assert same["recall"] == 1.0
    assert same["lead_s"] > 0
    assert (last["true"], last["missed"], last["late"]) == (0, 9, 9)
    assert last["f1"] == 0.0
    assert burst["rule"]["flow_days"] == pytest.approx(9, rel=0.04)
    assert sum(each["kind"] == "chance" for each in found) == 9
    assert set(by_kind(found, "odd")) == {"rule"}
    assert "burst" in output
    assert "same time" in output
    assert "best" in output
    records = [json.loads(line) for line in alerts.read_text().splitlines()]
    assert {each["rule"] for each in records} <= {"burst", "odd"}
    raised = {each["id"] for each in records if each["rule"] == "burst"}
    scored = {each["id"] for each in records
              if each["rule"] == "burst" and each["since"] >= START_S + 3 * 86400}  # fmt: skip
    assert len(scored) == burst["rule"]["raised"]
    assert len(raised) >= len(scored)


def test_a_level_shift_is_one_alert(tmp_path):
    """It is raised once and then learned; the flow is not above its high for ever."""
    rng = np.random.default_rng(1)
    rates = 1e5 * np.exp(0.05 * rng.normal(size=(6 * DAY, 1)))
    rates[4 * DAY :] *= 5
    file, alerts = written(tmp_path, rates), tmp_path / "a.jsonl"
    (tmp_path / "rules.yaml").write_text("alerts: {rules: [{name: burst, kind: spike}]}")
    backtest(
        file, "--step", "30m", "--kind", "gauge", "--no-finetune",
        "--rules", tmp_path / "rules.yaml", "--alerts", alerts,
    )  # fmt: skip
    records = [json.loads(line) for line in alerts.read_text().splitlines()]
    spikes = {each["id"]: each for each in records if each["rule"] == "burst"}
    assert len(spikes) == 1
    (last,) = spikes.values()
    assert last["state"] == "resolved"


def test_events_tell_how_well_observations_do(tmp_path):
    rates = bursts()
    rates[4 * DAY : 4 * DAY + 12 : 2, 1] *= 30
    file, events, report = written(tmp_path, rates), tmp_path / "e.csv", tmp_path / "r.json"
    begin = START_S + 4 * 86400
    events.write_text(
        f"flow,start,end\nport1,{begin},{begin + 21600}\nport2,0,1\nother,{begin},{begin + 9}\n"
    )
    backtest(
        file, "--step", "30m", "--kind", "gauge", "--no-finetune", "--from", 0.5, "--json", report,
        "--rules", tmp_path / "rules.yaml", "--events", events,
    )  # fmt: skip
    odd = by_kind(json.loads(report.read_text())["rules"]["readings.csv"], "odd")["rule"]
    assert (odd["events"], odd["found"], odd["recall"]) == (1, 1, 1.0)
    assert odd["raised"] == odd["true"] + odd["false"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--tune", "0.2"), 2, "need --rules"),
        (("--alerts", "x"), 2, "need --rules"),
        (("--rules", "nowhere.yaml"), 78, "nowhere.yaml"),
        (("--rules", "bad.yaml"), 78, "alerts.rules.0.factor"),
        (("--rules", "empty.yaml"), 78, "must have rules"),
        (("--rules", "default", "--events", "bad.csv"), 78, "needs the columns"),
    ],
)
def test_wrong_options_are_reported_before_any_work(tmp_path, monkeypatch, arguments, code, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("rules: [{name: a, kind: spike, factor: 0}]")
    (tmp_path / "empty.yaml").write_text("log: sqlite:///x")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "f.csv").write_text("timestamp,flow,value\n1,a,1\n")
    done = CliRunner().invoke(cli, ["backtest", "f.csv", *arguments])
    assert done.exit_code == code, done.output
    assert text in done.output


def test_variants_differ_by_their_forecast_alone():
    """An observation stands alone; a chance that is tried keeps its ratio to the lower bound."""
    rules = [RuleConfig(name="a", kind="spike"), RuleConfig(name="b", kind="anomaly")]
    plain = variants(rules, tune=False)
    assert [(each.of, each.kind) for each in plain] == [
        ("a", "rule"), ("b", "rule"), ("a", "last value"), ("a", "same time"),
    ]  # fmt: skip
    tried = variants(rules, tune=True)
    assert len({each.rule.name for each in tried}) == len(tried) == len(plain) + 9
    last = tried[-1].rule
    assert (last.chance, last.chance_clear) == (0.9, 0.45)


def figures(chance, true, false, missed):
    return RuleFigures("a", "chance", chance, true + false, true, 0, false, missed, None, 10.0)


def test_the_best_chance_keeps_to_the_limit():
    """The best F1 among those with few enough false alerts; none where all have too many."""
    found = [figures(0.1, 9, 9, 1), figures(0.3, 8, 2, 2), figures(0.5, 4, 0, 6)]
    assert [each.chance for each in tuned(found, 0.2)] == [0.3]
    assert [each.chance for each in tuned(found, 0.1)] == [0.5]
    assert list(tuned(found[:1], 0.1)) == []


def test_an_alert_meets_an_event_that_it_begins_in():
    events = [Event("edge*", 1000, 2000), Event("other", 1000, 2000)]
    raised = [alert(flow="edge1", since=since) for since in (999, 1000, 1500, 3799, 3800)]
    assert _met(raised, events, 1800) == (3, 1)


def test_the_same_time_looks_into_the_window_of_earlier_days():
    """The steps after the same time a day and a week ago; what is not known is no spike."""
    scorer = AlarmScorer([], ["a"], 0, 2 * DAY, STEP_S, 12, 0)
    scorer._rates[10] = 7.0
    steps, columns = np.array([DAY + 5, DAY + 9, DAY + 10, 3]), np.zeros(4, np.intp)
    assert scorer._same_time(steps, columns, 6).tolist()[:2] == [7.0, 7.0]
    assert np.isnan(scorer._same_time(steps, columns, 6)[2:]).all()


def test_the_capacities_of_a_settings_file_are_taken_with_its_rules(tmp_path):
    """A rule of capacity without them would raise nothing."""
    file = tmp_path / "rules.yaml"
    file.write_text("alerts: {capacities: {'edge*': 1e9}, rules: [{name: full, kind: capacity}]}\n")
    (rule,) = load(None, overrides_of(file), {}).alerts.in_force
    assert rule.capacities == {"edge*": 1e9}
