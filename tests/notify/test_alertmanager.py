"""What is posted to a member of Alertmanager, and when."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from streamer.core.alerts.quiet import QuietConfig
from streamer.core.alerts.rules import RuleConfig
from streamer.notify.alertmanager import AlertmanagerMember, alert, labels
from streamer.notify.connection import Answer, Outcome
from streamer.notify.gate import Gate
from streamer.notify.settings import NotifyConfig
from streamer.notify.table import AlertTable
from tests.notify.conftest import record

NOW = 2_000_000_000.0
TAKEN = Answer(Outcome.TAKEN, 200, "")


class Posts:
    """A connection that keeps what is posted, and refuses alerts of flows in *bad*."""

    def __init__(self):
        self.bodies, self.bad, self.away = [], set(), False

    def post(self, body, content_type):
        assert content_type == "application/json"
        if self.away:
            return Answer(Outcome.RETRY, None, "away")
        alerts = json.loads(body)
        self.bodies.append(alerts)
        if self.bad & {each["labels"]["flow"] for each in alerts}:
            return Answer(Outcome.REFUSED, 400, "bad")
        return TAKEN


class Scene:
    """A table and a member with a clock of their own."""

    def __init__(self, *rules, **config):
        self.now = NOW
        self.rules = rules
        self.config = NotifyConfig(**config)
        self.table = AlertTable(lambda: self.now, self.config.resolved_for, 1000)
        self.posts = Posts()
        self.counts = Counter()
        self.gate = Gate(self.rules, self.counts)
        notes = {rule.name: rule.annotations for rule in self.rules}
        self.member = AlertmanagerMember(self.config, self.posts, self.gate, notes)
        self.offset = 0

    def take(self, **fields):
        self.table.take([record(self.offset, **fields)], lambda _: False)
        self.offset += 1

    def flows(self):
        """Those of the alerts that are due; they are sent."""
        found = self.member.due(self.table, self.now)
        list(self.member.send(found, self.now))
        return sorted(each.key[0] for each in found)


def test_labels_are_what_never_changes():
    """Text that is not empty; the rule's own labels, with which it may take another alertname."""
    scene = Scene(labels={"cluster": "east", "flow": "mine"})
    scene.take(flow="a", labels={"team": "core", "empty": ""}, chance=0.7)
    (held,) = scene.table.firing()
    assert labels(held, scene.config.labels) == {
        "alertname": "spike",
        "cluster": "east",
        "team": "core",
        "flow": "a",
        "rule": "spike",
        "severity": "warning",
    }
    scene.take(flow="b", labels={"alertname": "Spike"})
    assert labels(scene.table.firing()[1], {})["alertname"] == "Spike"


def test_numbers_are_annotations_and_times_have_a_zone():
    """`endsAt` lies some intervals ahead while the alert fires, and is its end afterwards."""
    scene = Scene(generator_url="http://board/d/1", labels={})
    scene.take(flow="a", since=1_700_000_000, expected_at=1_700_000_600)
    (held,) = scene.table.firing()
    encoded = alert(held, scene.config, NOW + 240, {})
    assert encoded["startsAt"] == "2023-11-14T22:13:20.000+00:00"
    assert encoded["endsAt"] == "2033-05-18T03:37:20.000+00:00"
    assert encoded["generatorURL"] == "http://board/d/1"
    notes = encoded["annotations"]
    assert notes["expected_at"] == "2023-11-14T22:23:20.000+00:00"
    assert (notes["chance"], notes["threshold"], notes["peak_q50"]) == (
        "0.62",
        "2500000.0",
        "2700000.0",
    )
    assert "expected above" in notes["summary"]
    assert all(isinstance(value, str) for value in notes.values())
    scene.take(flow="a", since=1_700_000_000, state="resolved")
    (over,) = scene.table.ended()
    assert alert(over, scene.config, NOW + 240, {})["endsAt"] == "2033-05-18T03:33:20.000+00:00"


def test_an_alert_is_sent_again_while_it_fires():
    """Every interval, and at once when it changes; nothing in between."""
    scene = Scene(resend=60)
    scene.take(flow="a")
    assert scene.flows() == ["a"]
    assert scene.member.next_at(scene.now) == NOW + 60
    scene.now += 30
    assert scene.flows() == []
    scene.take(flow="a", verdict="true")
    scene.take(flow="b")
    assert scene.flows() == ["a", "b"]
    scene.now += 60
    assert scene.flows() == ["a", "b"]
    starts = {each["startsAt"] for body in scene.posts.bodies for each in body}
    assert len(starts) == 1


def test_an_end_is_repeated_for_a_while():
    scene = Scene(resend=60, resolved_for=150)
    scene.take(flow="a")
    scene.flows()
    scene.take(flow="a", state="resolved")
    sent = []
    for _ in range(6):
        sent.append(scene.flows())
        scene.now += 60
    assert sent == [["a"], ["a"], ["a"], [], [], []]
    ends = {body[0]["endsAt"] for body in scene.posts.bodies[1:]}
    assert ends == {"2033-05-18T03:33:20.000+00:00"}


def test_an_end_does_not_end_the_next_alert_with_the_same_labels():
    """Alertmanager sees one alert where we have two."""
    scene = Scene(resend=60)
    scene.take(flow="a", since=1000)
    scene.flows()
    scene.take(flow="a", since=1000, state="resolved")
    scene.take(flow="a", since=2000)
    scene.flows()
    last = scene.posts.bodies[-1]
    assert [each["startsAt"] for each in last] == ["1970-01-01T00:33:20.000+00:00"]


def test_a_member_that_was_away_gets_the_current_state():
    """No history: what began and ended meanwhile is left out, and so are old ends."""
    scene = Scene(resend=60, resolved_for=300)
    scene.take(flow="a", since=1000)
    scene.take(flow="b", since=1000)
    scene.flows()
    scene.posts.away = True
    scene.take(flow="a", since=1000, state="resolved")
    scene.take(flow="c", since=2000)
    scene.flows()
    scene.now += 3600
    scene.take(flow="c", since=2000, state="resolved")
    scene.take(flow="d", since=5000)
    scene.table.prune(lambda _: False)
    scene.posts.away = False
    assert scene.flows() == ["b", "c", "d"]
    state = {each["labels"]["flow"]: each["endsAt"] for each in scene.posts.bodies[-1]}
    assert state["b"] == state["d"] > state["c"]


def test_one_bad_alert_is_found_and_left_out():
    """The others are taken; the bad one is not sent again until it changes."""
    scene = Scene(resend=60)
    for n in range(20):
        scene.take(flow=f"f{n:02}")
    scene.posts.bad = {"f13"}
    found = scene.member.due(scene.table, NOW)
    answers = list(scene.member.send(found, NOW))
    assert sum(n for answer, n in answers if answer.outcome is Outcome.TAKEN) == 19
    assert [n for answer, n in answers if answer.outcome is Outcome.REFUSED] == [1]
    scene.now += 60
    assert "f13" not in scene.flows()
    assert scene.flows() == []
    scene.posts.bad = set()
    scene.take(flow="f13", verdict="true")
    assert scene.flows() == ["f13"]


@pytest.mark.parametrize("number", [1, 199, 200, 201, 450])
def test_many_alerts_take_several_posts(number):
    scene = Scene()
    for n in range(number):
        scene.take(flow=f"f{n}")
    assert len(scene.flows()) == number
    assert sum(map(len, scene.posts.bodies)) == number
    assert max(map(len, scene.posts.bodies)) <= 200


def test_a_queue_has_a_limit():
    scene = Scene(queue_max=50)
    for n in range(80):
        scene.take(flow=f"f{n}")
    assert [len(scene.flows()) for _ in range(3)] == [50, 30, 0]


def test_a_rule_has_annotations_of_its_own():
    """With fields of the record; what the record lacks stays as it is."""
    rule = RuleConfig(
        name="spike", kind="spike", annotations={"runbook": "http://wiki/{flow}?c={chance}&{no}"}
    )
    scene = Scene(rule)
    scene.take(flow="a")
    scene.flows()
    (body,) = scene.posts.bodies
    assert body[0]["annotations"]["runbook"] == "http://wiki/a?c=0.62&{no}"


def test_quiet_hours_hold_back_what_begins_in_them():
    """An alert that began before is sent on, and ended; one that still fires later is sent then."""
    begin = int(NOW) // 86400 * 86400
    rule = RuleConfig(name="spike", kind="spike", quiet=(QuietConfig(start="02:00", end="05:00"),))
    scene = Scene(rule, resend=60)
    scene.now = begin + 3600
    scene.take(flow="a", since=begin + 3600)
    assert scene.flows() == ["a"]
    scene.now = begin + 7201
    for flow in ("b", "c"):
        scene.take(flow=flow, since=begin + 7201)
    assert scene.flows() == ["a"]
    assert scene.counts["alerts_withheld.spike"] == 2
    scene.take(flow="a", since=begin + 3600, state="resolved")
    scene.take(flow="b", since=begin + 7201, state="resolved")
    scene.now += 60
    assert "c" not in scene.flows()
    scene.now = begin + 5 * 3600
    assert scene.flows() == ["c"]
    assert scene.counts["alerts_withheld.spike"] == 2


def test_a_rule_has_a_limit_a_minute():
    """The others wait for the next minute; those that were sent are sent again as ever."""
    scene = Scene(RuleConfig(name="spike", kind="spike", alerts_per_minute=2), resend=3600)
    for n in range(5):
        scene.take(flow=f"f{n}")
    scene.take(flow="other", rule="free")
    sent = [scene.flows()]
    for _ in range(3):
        scene.now += 60
        sent.append(scene.flows())
    assert sent == [["f0", "f1", "other"], ["f2", "f3"], ["f4"], []]
    assert scene.counts["alerts_withheld.spike"] == 3
