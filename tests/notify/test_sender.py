"""Webhooks get each change once, in spite of what they do, and the current state after it."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from streamer.notify.connection import Connection
from streamer.notify.gate import Gate
from streamer.notify.sender import Sender
from streamer.notify.settings import NotifyConfig, ReceiverConfig
from streamer.notify.table import AlertTable
from streamer.notify.webhook import Webhook
from tests.notify.conftest import record
from tests.notify.receiver import hang, raw, status

TIMEOUT_S = 0.3


class Observed(list):
    """An observer that keeps the events."""

    def failed(self, receiver, answer, pause_s):
        self.append(("failed", receiver, answer.status, round(pause_s)))

    def recovered(self, receiver):
        self.append(("recovered", receiver))

    def rejected(self, receiver, answer):
        self.append(("rejected", receiver, answer.status))


class Scene:
    """A table, and a webhook with its thread."""

    def __init__(self, receiver, **more):
        self.config = NotifyConfig(retry_max=0.1, **more)
        self.table = AlertTable(time.time, 300, 1000)
        self.observed, self.counts = Observed(), Counter()
        to = Connection(ReceiverConfig(url=receiver.url), "", TIMEOUT_S)
        self.webhook = Webhook(self.config, to, Gate((), self.counts), "/streamer/test")
        self.sender = Sender(
            "hook", self.webhook, self.table, self.observed, self.counts, config=self.config
        )
        self.offset = 0

    def take(self, *, replayed=False, **fields):
        self.table.take([record(self.offset, **fields)], lambda _: replayed)
        self.offset += 1

    def settle(self):
        """Wait until nothing is due."""
        ends = time.monotonic() + 10
        while self.webhook.due(self.table, 0.0):
            assert time.monotonic() < ends
            time.sleep(0.01)


@pytest.fixture
def scene(receiver):
    found = Scene(receiver)
    found.sender.start()
    yield found
    found.sender.close(10)
    assert found.sender.error is None


def states(receiver):
    return [(each.content["subject"], each.content["data"]["state"]) for each in receiver.requests]


def test_a_change_is_an_event(scene, receiver):
    """In CloudEvents' structured JSON, with the record of the topic as its data."""
    scene.take(flow="edge1/in", since=1000, updated_at=1000)
    scene.settle()
    scene.take(flow="edge1/in", since=1000, updated_at=1600, state="resolved", verdict="true")
    first, last = receiver.wait(2)
    assert first.headers["content-type"] == "application/cloudevents+json; charset=UTF-8"
    content = first.content
    assert content["specversion"] == "1.0"
    assert content["id"] == "edge1/in/spike@1000/firing/1000"
    assert content["source"] == "/streamer/test"
    assert content["type"] == "streamer.alert.firing.v1"
    assert content["time"] == "1970-01-01T00:16:40.000+00:00"
    assert content["data"]["threshold"] == 2.5e6
    assert last.content["type"] == "streamer.alert.resolved.v1"
    assert last.content["id"] != content["id"]


@pytest.mark.parametrize(
    "behaviours",
    [
        [status(500)],
        [status(503), status(502)],
        [status(429, "Retry-After: 0")],
        [hang],
        [raw(b"garbage\r\n\r\n")],
        [raw(b"")],
        [status(401), status(404), status(301, "Location: http://elsewhere/")],
    ],
)
def test_an_event_is_sent_again_until_it_is_taken(scene, receiver, behaviours):
    """With the same id; failures of a kind are reported once, and so is their end."""
    receiver.behaviours = list(behaviours)
    scene.take(flow="a")
    scene.settle()
    assert len({each.content["id"] for each in receiver.requests}) == 1
    assert len(receiver.requests) == len(behaviours) + 1
    assert scene.observed[-1] == ("recovered", "hook")
    assert scene.counts["alerts_sent.hook"] == 1
    assert scene.counts["deliveries_failed.hook"] == len(behaviours)


def test_a_malformed_success_counts_as_success(scene, receiver):
    """A response of 200 followed by garbage: the event is not sent again."""
    receiver.behaviours = [raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\xff")]
    scene.take(flow="a")
    scene.settle()
    scene.take(flow="b")
    scene.settle()
    assert states(receiver) == [("a", "firing"), ("b", "firing")]


def test_an_event_that_is_refused_is_dropped(scene, receiver):
    """It is counted and reported, and the next one is sent."""
    receiver.behaviours = [status(400)]
    scene.take(flow="a")
    scene.settle()
    scene.take(flow="b")
    scene.settle()
    assert states(receiver) == [("a", "firing"), ("b", "firing")]
    assert scene.counts == {
        "alerts_sent.hook": 1,
        "alerts_refused.hook": 1,
        "deliveries_failed.hook": 0,
    }
    assert scene.observed == [("rejected", "hook", 400)]


def test_a_pause_that_the_receiver_asks_for_is_kept(scene, receiver):
    receiver.behaviours = [status(429, "Retry-After: 1")]
    scene.take(flow="a")
    first, second = receiver.wait(2)
    assert second.at - first.at >= 0.95


def test_a_receiver_that_was_away_gets_the_current_state(scene, receiver):
    """
    What began and ended meanwhile is not sent.

    The end of what it was sent before is, and so is what fires now, in its newest state.
    """
    scene.take(flow="a", since=1000)
    scene.settle()
    receiver.default = status(500)
    scene.take(flow="b", since=1300)
    receiver.wait(3)
    scene.take(flow="b", since=1300, state="resolved")
    scene.take(flow="a", since=1000, state="resolved")
    scene.take(flow="c", since=1600, verdict="open")
    scene.take(flow="c", since=1600, verdict="true")
    time.sleep(0.3)
    before = len(receiver.requests)
    receiver.default = status(200)
    scene.settle()
    after = states(receiver)[before:]
    assert {("a", "resolved"), ("c", "firing")} <= set(after)
    assert [flow for flow, _ in after].count("b") <= 1
    assert receiver.requests[-1].content["data"]["verdict"] == "true"


def test_an_end_is_sent_where_an_earlier_process_may_have_sent_the_beginning(scene, receiver):
    scene.take(flow="a", since=1000, state="resolved")
    scene.settle()
    assert receiver.requests == []
    scene.take(flow="b", since=1000, state="resolved", replayed=True)
    scene.settle()
    assert states(receiver) == [("b", "resolved")]


def test_a_thread_that_fails_is_noticed(receiver):
    """It keeps its error for the loop, which ends the process."""
    scene = Scene(receiver)
    scene.webhook.due = None
    scene.sender.start()
    scene.sender.close(10)
    assert isinstance(scene.sender.error, TypeError)


def test_the_queue_is_shown(receiver):
    """How much is due, and for how long."""
    scene = Scene(receiver)
    receiver.default = status(500)
    for n in range(5):
        scene.take(flow=f"f{n}")
    assert scene.sender.up is None
    assert scene.sender.round() > 0
    assert (scene.sender.queue, scene.sender.up) == (5, False)
    assert scene.sender.waits_since is not None
    receiver.default = status(200)
    time.sleep(0.15)
    scene.sender.round()
    assert (scene.sender.queue, scene.sender.up, scene.sender.waits_since) == (0, True, None)
    scene.webhook.connection.close()


def test_a_pause_has_a_limit(receiver):
    """Also the one that the receiver asks for; the next success ends it."""
    scene = Scene(receiver)
    receiver.behaviours = [status(429, "Retry-After: 99999")]
    scene.take(flow="a")
    assert scene.sender.round() == 600
    scene.webhook.connection.close()
