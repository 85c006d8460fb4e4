"""The demo's view of alerts is that of a consumer of their topics."""

from __future__ import annotations

from streamer.core.types import Partition, Record, RuleScore
from streamer.core.wire.alerts import encoded, score_messages
from streamer.demo.live_alerts import AlertTally
from streamer.demo.live_scores import Tally
from streamer.demo.play import alert_lines
from streamer.demo.view import alerts
from tests.cli.test_alerts import AT, alert

P = Partition("traffic.alerts", 0)


def tally(*alerts, scores=()):
    found = AlertTally()
    found.read_alerts([Record(P, n, b"k", encoded(each), -1) for n, each in enumerate(alerts)])
    found.read_scores(
        [Record(P, n, each.key, each.value, -1)
         for n, each in enumerate(score_messages(scores, "traffic.scores", 900))]
    )  # fmt: skip
    return found


SCORES = (
    RuleScore(AT, 3600, "spike", raised=3, true=2, late=1, lead_s=5400),
    RuleScore(AT, 3600, "spike", raised=1, false=1, missed=2),
)


def test_an_alert_that_came_before_its_spike_is_named_once():
    """Its record comes again when it ends; one without lead, and one that was false, is not."""
    found = tally(
        alert(flow="a"),
        alert(flow="a", verdict="true", lead_s=2700),
        alert(flow="a", verdict="true", lead_s=2700, state="resolved"),
        alert(flow="b", verdict="true", lead_s=0),
        alert(flow="c", verdict="false", state="resolved"),
        alert(flow="d"),
    )
    assert [each.flow for each in found.predicted] == ["a"]
    assert sorted(each.flow for each in found.firing.values()) == ["b", "d"]


def test_an_alert_has_the_chance_that_raised_it():
    """Later records have the chance of their own time."""
    found = tally(
        alert(flow="a", chance=0.6),
        alert(flow="a", chance=0.1, verdict="true", lead_s=2700),
        alert(flow="a", chance=0.0, verdict="true", lead_s=2700, state="resolved"),
    )
    assert [each.chance for each in found.predicted] == [0.6]


def test_the_ledger_adds_up():
    found = tally(scores=SCORES)
    assert (found.precision, found.recall, found.lead_s) == (0.5, 0.5, 2700)
    empty = tally()
    assert (empty.precision, empty.recall, empty.lead_s) == (None, None, None)


def test_other_records_are_passed_over():
    found = AlertTally()
    junk = [Record(P, n, b"rule/x", value, -1) for n, value in enumerate((b"", b"{}", None))]
    found.read_alerts(junk)
    found.read_scores([*junk, Record(P, 9, b"all/1", b'{"class": "all"}', -1)])
    assert not found.firing
    assert found.ledger["raised"] == 0


def test_the_screen_and_the_summary_tell_it():
    found = tally(alert(flow="edge1", verdict="true", lead_s=2700), scores=SCORES)
    text = "\n".join(line.plain for line in alerts(found, 9))
    assert "4 alerts of spikes   2 before their spike, 45 min ahead" in text
    assert "edge1 above 2.50 MB/s was expected, with a chance of 62%; it came 45 min later" in text
    assert alerts(found, 0) == alerts(AlertTally(), 9) == []
    assert len(alerts(found, 1)) == 1
    ledger, named = alert_lines(found)
    assert "4 raised, 2 before their spike, 1 late, 1 false; 2 spikes missed" in ledger
    assert "precision 0.50, recall 0.50" in ledger
    assert "edge1" in named
    assert isinstance(Tally((1,)).alerts, AlertTally)
