"""Alerts, scores, instances, models and rejects: what is kept, and that junk is not."""

from __future__ import annotations

import os
import time

import pytest

from streamer.console import alerts as alert_book
from streamer.console.alerts import AlertBook
from streamer.console.instances import InstanceBook
from streamer.console.models import ModelBook
from streamer.console.rejects import SAMPLE, RejectBook
from streamer.console.scores import KEYS_MAX, ScoreBook, ratios
from streamer.core.types import Message, Partition, Reason, Record, Reject, RuleScore
from streamer.core.wire import alerts, contests, generations, rejects, scores
from tests.console.scene import AT, STEP_S, alert, contest, records, report, score

JUNK = (
    b"",
    None,
    b"nonsense",
    b"{}",
    b"[]",
    b"7",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"class": "all", "ends_at": "soon"}',
    b'{"class": ["all"], "ends_at": 1e999}',
    b'{"metrics": [{"name": "streamer", "tags": {}, "fields": {}, "timestamp": 1}]}',
    b"streamer,instance=a flows=x 1",
    b'{"schema": 1, "id": 3}',
)
BOOKS = {
    "alerts": AlertBook,
    "scores": lambda: ScoreBook(86400),
    "metrics": InstanceBook,
    "models": ModelBook,
    "rejects": RejectBook,
}


def record(value, key=b"key", headers=()):
    return Record(Partition("topic", 0), 0, key, value, 1_000, headers)


@pytest.mark.parametrize("book", BOOKS)
@pytest.mark.parametrize("value", JUNK, ids=lambda value: str(value)[:24])
def test_junk_is_counted_and_skipped(book, value):
    """Whatever is on a topic; an alert without a value is a tombstone."""
    made = BOOKS[book]()
    made.read([record(value), record(value, key=None), record(value, key=os.urandom(8))])
    tombstones = 3 if book == "alerts" and value is None else 0
    assert sum(made.junk.values()) + tombstones == 3


def test_an_alert_ends():
    """The newest record of a flow and rule counts, and a tombstone deletes it."""
    book = AlertBook()
    raised = [alert("a"), alert("b", severity="critical"), alert("a", rule="capacity")]
    book.read(records(list(alerts.messages(raised, "alerts"))))
    assert [each.flow for each in book.firing()] == ["b", "a", "a"]
    ended = alert("b", state="resolved", verdict="false", updated_at=AT + 60)
    book.read(records(list(alerts.messages([ended], "alerts"))))
    assert [each.flow for each in book.firing()] == ["a", "a"]
    assert [each.verdict for each in book.of_flow("b")] == ["false"]
    book.read([record(None, b"a|capacity")])
    assert [each.rule for each in book.firing()] == ["spike"]


def test_alerts_are_bounded(monkeypatch):
    """Those that have ended go first."""
    monkeypatch.setattr(alert_book, "ALERTS_MAX", 10)
    book = AlertBook()
    raised = [alert(f"f{n}", state="resolved" if n % 2 else "firing") for n in range(16)]
    book.read(records(list(alerts.messages(raised, "alerts"))))
    assert len(book.current) == 10
    assert len(book.firing()) == 8


def test_scores_of_instances_add_up():
    """As do those of the ledger."""
    book = ScoreBook(86400)
    saved = [score(1, 1), score(1, 1), score(4, 1), score(1, 2, generation=2)]
    book.read(records(scores.messages(saved, "scores", STEP_S)))
    periods = book.periods("all", 1)
    assert [(key[1], sums["forecasts"]) for key, sums in periods.items()] == [(1, 12000), (2, 6000)]
    found = ratios(book.horizons("all")[4])
    assert found["coverage"] == pytest.approx(5390 / 6000)
    assert found["skill_last"] == pytest.approx(1 - 10 / 14)
    assert found["skill"] == pytest.approx(1 - 10 / 14)
    ledger = [RuleScore(AT, 3600, "spike", raised=2, true=1), RuleScore(AT, 3600, "spike", true=2)]
    book.read(records(list(alerts.score_messages(ledger, "scores", STEP_S))))
    assert book.ledger()["spike"]["true"] == 3
    assert ratios({})["coverage"] is None


def test_scores_of_old_periods_are_dropped():
    book = ScoreBook(7200)
    saved = [score(1, period) for period in range(1, 10)]
    book.read(records(scores.messages(saved, "scores", STEP_S)))
    assert len(book.periods("all")) == 2


@pytest.mark.slow
def test_scores_are_bounded():
    """Classes without number fill no memory."""
    book = ScoreBook(1e12)
    saved = [score(1, 1, of=f"class{n}") for n in range(KEYS_MAX + 100)]
    book.read(records(scores.messages(saved, "scores", STEP_S)))
    assert len(book.sums) == KEYS_MAX


def test_an_instance_is_what_it_reported_last():
    """Growth is of two reports of the same process."""
    book, now = InstanceBook(), time.time()
    for at_s, total in ((now - 20, 1000.0), (now - 10, 1600.0)):
        book.read([record(report("edge-a", at_s=at_s, readings_total=total))])
    [found] = book.known.values()
    assert (found.name, found.role, found.version, found.phase) == (
        "edge-a",
        "forecaster",
        "0.1.0",
        "running",
    )
    assert found.partitions == {"traffic.counters/0": 20.0, "traffic.counters/1": 20.0}
    assert found.rates["readings_total"] == pytest.approx(60, rel=1e-3)
    assert found.table("verdicts_total", "verdict") == {"rated": 71000.0, "wrapped": 900.0}
    book.read([record(report("edge-a", at_s=now, readings_total=5.0, start_time_seconds=now))])
    assert "readings_total" not in found.rates


def test_instances_are_bounded():
    book = InstanceBook()
    for n in range(1100):
        book.read([record(report(f"edge-{n}", at_s=1000.0 + n))])
    assert len(book.known) == 1000
    assert ("edge-1099", "forecaster") in book.known


def test_the_models_topic_is_read_without_its_weights():
    """Of weights only their size is kept."""
    book = ModelBook()
    serving = generations.Incumbent(2, 1, 1.0, "promoted")
    for key, value in (
        (generations.weights_key(2), b"x" * 1000),
        (generations.contest_key(2), contests.encode(contest(2, "promoted"))),
        (generations.INCUMBENT, generations.encode(serving)),
    ):
        book.read([record(value, key)])
    assert book.weights == {2: 1000}
    assert book.contests[2].verdict == "promoted"
    assert book.incumbent == serving
    book.read([record(None, generations.weights_key(2))])
    assert book.weights == {}


def test_rejects_are_counted_and_sampled():
    """The newest of each reason is kept, however many others follow."""
    bad = Record(Partition("in", 3), 7, b"k", b"\xffraw", 0)
    messages = [rejects.message(Reject(bad, Reason.NOT_JSON, detail="odd"), "rejects")]
    messages += [rejects.message(Reject(bad, Reason.UNIT), "rejects")] * (SAMPLE + 5)
    book = RejectBook()
    book.read(records(messages))
    assert book.counts == {"not_json": 1, "unit": SAMPLE + 5}
    assert len(book.sample) == SAMPLE
    kept = book.by_reason["not_json"]
    assert (kept.place, kept.value, kept.detail) == ("in/3@7", "\\xffraw", "odd")


def test_a_message_has_a_record():
    """The scene's records are those of its messages."""
    [found] = records([Message("t", None, b"k", b"v")], 5)
    assert (found.key, found.value, found.time_ms) == (b"k", b"v", 5)
