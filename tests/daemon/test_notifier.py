"""The notifier's loop on a log: tables from their beginning, offsets, restarts, hand-overs."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from streamer.config.schema import load, open_client, open_notifiers
from streamer.core.types import Message
from streamer.core.wire.alerts import messages
from streamer.daemon.notifier_factory import wire_notifier
from streamer.log import TopicConfig
from tests.cli.test_alerts import ALERT, alert
from tests.notify.receiver import Receiver, status


class Observed:
    """An observer that counts."""

    def __init__(self):
        self.restored_partitions, self.errors, self.status = [], [], None

    def alive(self): ...

    def restored(self, partition, firing, unreadable):
        self.restored_partitions.append(partition.number)

    def turned(self, status):
        self.status = status

    def refused(self, error, pause_s):
        self.errors.append(error.code)

    def failed(self, receiver, answer, pause_s): ...

    def recovered(self, receiver): ...

    def rejected(self, receiver, answer): ...


class Running:
    """A notifier in a thread, until `stop`."""

    def __init__(self, config):
        self.observer, self.counts, self._stop = Observed(), Counter(), threading.Event()
        self.notifier, self.senders = wire_notifier(
            config,
            self.observer,
            self.observer,
            self.counts,
            pause=lambda s: self._stop.wait(min(s, 0.05)),
        )
        self._thread = threading.Thread(target=self.notifier.run, args=(self._stop.is_set,))
        self._thread.start()

    def stop(self):
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


class Scene:
    """A log with two partitions of alerts, and a webhook."""

    def __init__(self, path, receiver, **notify):
        self.path, self.receiver = path, receiver
        self.started = []
        self.config = self.settings("a")
        self.client = open_client(self.config)
        self.client.create("traffic.alerts", TopicConfig(2, compact=True))

    def settings(self, instance, **more):
        settings = {
            "log": f"sqlite:///{self.path / 'log.db'}",
            "instance": instance,
            "alerts.enabled": "true",
            "notify.webhooks": f"[{{url: '{self.receiver.url}'}}]",
            "sqlite.session_timeout": "2s",
        } | more
        return load(None, [f"{key}={value}" for key, value in settings.items()])

    def start(self, instance="a", **more):
        running = Running(self.settings(instance, **more))
        self.started.append(running)
        return running

    def send(self, flow, **fields):
        partition = ALERT.partition._replace(number=fields.pop("number", 0))
        alerts = [alert(flow=flow, partition=partition, **fields)]
        self.client.send(list(messages(alerts, "traffic.alerts")))
        self.client.flush()

    def states(self):
        return [(r.content["subject"], r.content["data"]["state"]) for r in self.receiver.requests]

    def committed(self, number=0):
        """The group's offset, as a later member would get it."""
        log = open_notifiers(self.settings("z"))
        try:
            for _ in range(50):
                for partition, offset in log.poll(0.1, 0).assigned.items():
                    if partition.number == number:
                        return offset
            return None
        finally:
            log.close()


@pytest.fixture
def scene(tmp_path):
    receiver = Receiver()
    found = Scene(tmp_path, receiver)
    yield found
    for running in found.started:
        running.stop()
    found.client.close()
    receiver.close()


def until(holds, limit_s=15.0):
    ends = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_alerts_of_the_log_reach_a_receiver(scene):
    """Those that fired before it started, and later ones."""
    scene.send("a")
    running = scene.start()
    scene.receiver.wait(1)
    scene.send("b")
    scene.client.send([Message("traffic.alerts", 0, b"k", b"junk")])
    scene.client.flush()
    scene.receiver.wait(2)
    scene.send("a", state="resolved")
    scene.receiver.wait(3)
    assert scene.states() == [("a", "firing"), ("b", "firing"), ("a", "resolved")]
    until(lambda: running.observer.status.firing == 1)
    assert running.observer.errors == []
    assert sorted(running.observer.restored_partitions) == [0, 1]


def test_a_topic_that_is_missing_is_waited_for(tmp_path):
    receiver = Receiver()
    scene = Scene(tmp_path, receiver)
    running = scene.start(**{"alerts.topic": "later.alerts"})
    until(lambda: running.observer.errors)
    scene.client.create("later.alerts", TopicConfig(1, compact=True))
    until(lambda: running.observer.status is not None)
    running.stop()
    scene.client.close()
    receiver.close()


def test_a_restart_sends_the_current_state(scene):
    """What fires is sent again with its id; an end that came meanwhile is sent once."""
    running = scene.start()
    scene.send("a", since=ALERT.since)
    scene.send("b", since=ALERT.since)
    scene.receiver.wait(2)
    running.stop()
    scene.send("a", since=ALERT.since, state="resolved")
    scene.start()
    scene.receiver.wait(4)
    assert sorted(scene.states()[2:]) == [("a", "resolved"), ("b", "firing")]
    ids = [request.content["id"] for request in scene.receiver.requests]
    assert len(set(ids)) == 3


def test_undelivered_alerts_are_delivered_after_a_restart(scene):
    """The committed offset stays before them, although the loop has read further."""
    scene.receiver.default = status(500)
    running = scene.start()
    until(lambda: running.observer.status is not None)
    for flow in ("a", "b", "c"):
        scene.send(flow)
    until(lambda: running.observer.status.firing == 3)
    time.sleep(0.2)
    running.stop()
    assert scene.committed() == 0
    before = len(scene.receiver.requests)
    scene.receiver.default = status(200)
    scene.send("a", state="resolved")
    scene.start()
    until(lambda: len(scene.states()[before:]) >= 3)
    assert set(scene.states()[before:]) >= {("b", "firing"), ("c", "firing"), ("a", "resolved")}


def test_offsets_of_delivered_alerts_are_committed(scene):
    running = scene.start()
    for flow in ("a", "b", "c"):
        scene.send(flow)
    scene.receiver.wait(3)
    running.stop()
    assert scene.committed() == 3


@pytest.mark.slow
def test_a_receiver_that_hangs_delays_no_other(scene):
    """Each has a thread of its own."""
    other = Receiver()
    scene.receiver.default = lambda connection: time.sleep(3)
    running = scene.start(
        **{"notify.webhooks": f"[{{url: '{scene.receiver.url}'}}, {{url: '{other.url}'}}]"}
    )
    until(lambda: running.observer.status is not None)
    started = time.monotonic()
    scene.send("a")
    other.wait(1)
    assert time.monotonic() - started < 2
    other.close()


def test_two_notifiers_share_the_partitions(scene):
    """When one ends, the other goes on with its alerts."""
    first = scene.start("a")
    until(lambda: first.observer.status is not None)
    second = scene.start("b")
    until(lambda: second.observer.status is not None and second.observer.status.partitions == 1)
    scene.send("x")
    scene.send("y", number=1)
    scene.receiver.wait(2)
    assert sorted(scene.states()) == [("x", "firing"), ("y", "firing")]
    first.stop()
    scene.send("x", state="resolved")
    scene.send("y", number=1, state="resolved")
    until(lambda: {("x", "resolved"), ("y", "resolved")} <= set(scene.states()))
    assert second.observer.status.partitions == 2
