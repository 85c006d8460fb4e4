"""Flows that fall silent: found by the records of the others, and only then."""

import json
from random import Random

import msgspec
import numpy as np
import pytest

from streamer.config.types import Duration
from streamer.core.alerts.rules import AlertsConfig, RuleConfig
from streamer.core.alerts.silence import SEEN, expected
from streamer.core.engine import Engine, EngineConfig
from streamer.core.features.grid import GridConfig
from streamer.core.state.partition_clock import Clock
from streamer.core.types import Kind, Partition, Record
from tests.simulation.fingerprint import Fingerprint

P = Partition("t", 0)
BEGIN = 1_700_000_000 // 3600 * 3600
FLOWS = 20
RULE = RuleConfig(name="gone", kind="silence")


def engine(*rules, flows_max=200):
    config = EngineConfig(
        flows_max=flows_max,
        grid=GridConfig(step=Duration(60)),
        alerts=AlertsConfig(enabled=True, rules=rules or (RULE,)),
    )
    made = Engine(Fingerprint(), config, page_rows=8)
    made.restore(P, {}, 0, 1)
    return made


def minute(n, flows, *, begin=BEGIN):
    """The readings of minute *n*, one a record; counters of a thousand a second."""
    return [{"flow": f"f{flow}", "time": begin + 60 * n, "value": 60_000 * n} for flow in flows]


def records(readings, first=0):
    return [Record(P, first + i, None, json.dumps(r).encode(), -1) for i, r in enumerate(readings)]


def run(made, lane, size=1000):
    """The alerts of *lane*, in turns of *size* records: flow, state, reason and time of each."""
    found = []
    for first in range(0, len(lane), size):
        found += made.step(lane[first : first + size], share=0.1).alerts
    return [(each.flow, each.state, each.reason, (each.updated_at - BEGIN) // 60) for each in found]


def everyone_but(*silent, minutes=range(40), since=20, back=1000):
    """Readings of all flows, without those of *silent* flows between two minutes."""
    return [
        each
        for n in minutes
        for each in minute(n, [f for f in range(FLOWS) if f not in silent or not since <= n < back])
    ]


def test_a_flow_that_stops_is_reported_after_five_steps_and_ends_when_it_is_back():
    lane = records(everyone_but(3, back=35))
    assert run(engine(), lane) == [("f3", "firing", "silent", 24), ("f3", "resolved", "quiet", 34)]


@pytest.mark.slow
def test_the_size_of_turns_changes_nothing():
    chance = Random(5)
    readings = [
        each
        for n in range(45)
        for each in minute(n, [f for f in range(FLOWS) if chance.random() < 0.85])
        if not (each["flow"] in {"f3", "f7"} and 20 <= n < 35)
    ]
    lane = records(readings)
    whole = run(engine(), lane, size=10_000)
    assert {each[:2] for each in whole} >= {("f3", "firing"), ("f7", "firing"), ("f7", "resolved")}
    assert run(engine(), lane, size=3) == run(engine(), lane, size=50) == whole


def test_a_hole_in_the_whole_input_makes_nobody_silent():
    """Three hours without any record, and then all go on."""
    readings = everyone_but(minutes=[*range(30), *range(210, 240)])
    assert run(engine(), records(readings)) == []


@pytest.mark.parametrize("ahead_s", [-7200, 7200, 40 * 86400])
def test_devices_with_wrong_clocks_make_nobody_silent_and_stay_unreported(ahead_s):
    """Three of twenty flows, set right after twenty minutes: they are fewer than a fifth."""
    readings = []
    for n in range(60):
        wrong = ahead_s if 10 <= n < 30 else 0
        readings += minute(n, range(3, FLOWS)) + minute(n, range(3), begin=BEGIN + wrong)
    assert run(engine(), records(readings)) == []


def test_the_clock_goes_on_after_most_flows_were_set_back():
    """All clocks were a month ahead; a flow that stops afterwards is still found."""
    month = 30 * 86400
    readings = [each for n in range(20) for each in minute(n, range(FLOWS), begin=BEGIN + month)]
    readings += everyone_but(3, minutes=range(20, 90), since=60)
    found = run(engine(), records(readings))
    assert [each[:3] for each in found] == [("f3", "firing", "silent")]
    assert 62 <= found[0][3] <= 70


def test_no_flow_is_silent_by_itself():
    """The only flow of a partition, and one that has hardly begun."""
    alone = records(minute(0, [0]) + minute(1, [0]) + minute(300, [0]))
    assert run(engine(), alone) == []
    young = everyone_but(3, since=5)
    assert run(engine(), records(young)) == []


@pytest.mark.slow
def test_a_slow_flow_may_take_three_times_as_long_as_it_does():
    """One that is read each ten minutes is not silent after five."""
    slow = [
        each
        for n in range(200)
        for each in minute(n, [f for f in range(FLOWS) if f != 3 or (n % 10 == 0 and n < 150)])
    ]
    found = run(engine(), records(slow))
    assert [each[:3] for each in found] == [("f3", "firing", "silent")]
    assert 168 <= found[0][3] <= 175


def test_growth_that_may_be_nothing_is_not_expected():
    """A flow of flow records without traffic sends none; a counter is read all the same."""
    now = np.zeros(4, SEEN)
    now["seen"], now["spacing"], now["mean"] = 100, 60, 1000
    now["kind"] = [Kind.DELTA, Kind.DELTA, Kind.COUNTER, Kind.GAUGE]
    now["lowest"] = [0.0, 1.2, 0.0, 0.0]
    assert expected(RULE, now).tolist() == [False, True, True, True]


def test_a_flow_that_is_gone_for_good_is_forgotten():
    rule = RuleConfig(name="gone", kind="silence", after=Duration(600), expires=Duration(3600))
    found = run(engine(rule), records(everyone_but(3, minutes=range(150))))
    assert found == [("f3", "firing", "silent", 29), ("f3", "resolved", "expired", 90)]


def test_only_chosen_flows_are_watched_and_small_ones_are_not():
    rules = (
        RuleConfig(name="chosen", kind="silence", flows="f[0-4]"),
        RuleConfig(name="large", kind="silence", min_rate=2000),
    )
    lane = records(everyone_but(3, 9))
    made = engine(*rules)
    alerts = [each for epoch in [made.step(lane)] for each in epoch.alerts]
    assert [(each.rule, each.flow) for each in alerts] == [("chosen", "f3")]


def test_a_flow_that_is_silent_twice_in_a_turn_has_two_alerts():
    """The second one still fires after the turn, and ends with the flow's next reading."""
    made = engine()
    back = range(25, 26)
    twice = [
        each
        for n in range(40)
        for each in minute(n, [f for f in range(FLOWS) if f != 3 or n < 20 or n in back])
    ]
    lane = records(twice)
    assert [each[:3] for each in run(made, lane)] == [
        ("f3", "firing", "silent"),
        ("f3", "resolved", "quiet"),
        ("f3", "firing", "silent"),
    ]
    assert len(list(made.silent.firing)) == 1
    after = made.step(records(minute(40, [3]), len(lane))).alerts
    assert [(each.flow, each.state) for each in after] == [("f3", "resolved")]


@pytest.mark.parametrize("share", [0.1, 0.0])
@pytest.mark.parametrize("at", [0.5, 0.62, 0.7, 0.9])
def test_a_restart_loses_and_repeats_nothing(at, share):
    """The clock and the alerts come back from the state topic; the replay does not move them."""
    lane = records(everyone_but(3, 5, back=35))
    whole = run(engine(), lane, size=30)
    cut = int(len(lane) * at) // 30 * 30
    made, table, found = engine(), {}, []
    for first in range(0, cut, 30):
        epoch = made.step(lane[first : first + 30], share=share)
        found += epoch.alerts
        for entry in epoch.entries:
            table.pop(entry.key, None)
            if entry.value is not None:
                table[entry.key] = entry.value
    again = Engine(Fingerprint(), made.config, page_rows=8)
    start, _ = again.restore(P, table, cut, 1)
    again.replay(lane[start:cut])
    for first in range(cut, len(lane), 30):
        found += again.step(lane[first : first + 30], share=0.1).alerts
    assert [
        (each.flow, each.state, each.reason, (each.updated_at - BEGIN) // 60) for each in found
    ] == whole
    assert len(whole) == 4


def test_a_clock_of_another_step_or_input_is_not_continued():
    clock = Clock(60, 28_333_333, 2, [5, 9])
    entry = msgspec.json.encode(clock)
    assert Clock.decode(entry, 10, 60) == clock
    assert Clock.decode(entry, 10, 300) is None
    assert Clock.decode(entry, 9, 60) is None
    assert Clock.decode(b"junk", 10, 60) is None
    assert Clock.decode(None, 10, 60) is None


def test_the_ledger_counts_what_was_raised():
    made = engine()
    epoch = made.step(records(everyone_but(3, 5)))
    assert sum(score.raised for score in epoch.rule_scores if score.rule == "gone") == 2


def test_a_removed_rule_and_an_evicted_flow_end_their_alerts():
    lane = records(everyone_but(3))
    made = engine()
    table = {e.key: e.value for e in made.step(lane, share=1.0).entries if e.value is not None}
    for rule, reason in (
        (RuleConfig(name="other", kind="silence"), "rule_removed"),
        (RuleConfig(name="gone", kind="silence", flows="x*"), "unmatched"),
        (RuleConfig(name="gone", kind="coverage"), "rule_removed"),
    ):
        again = engine(rule)
        again.release([P])
        start, _ = again.restore(P, table, len(lane), 1)
        again.replay(lane[start:])
        after = again.step(records(minute(40, [0, 1]), len(lane)))
        assert [(each.flow, each.reason) for each in after.alerts] == [("f3", reason)]
    full = engine(flows_max=FLOWS)
    newcomers = minute(40, range(100, 100 + FLOWS))
    found = run(full, lane + records(newcomers, len(lane)))
    assert found[0][:3] == ("f3", "firing", "silent")
    assert ("f3", "resolved", "evicted", 24) in found
    assert not list(full.silent.firing)
