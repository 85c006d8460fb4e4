"""
Alerts on a real Kafka: two forecasters, one killed while alerts fire, a notifier, Alertmanager.

What is published must be what one engine concludes from the same readings: each begin, verdict and
end once, whoever was killed. At the end nothing fires, on the topic or in Debian's Alertmanager.
"""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections import Counter
from pathlib import Path

import pytest

from streamer.config.schema import load
from streamer.core.engine import Engine
from streamer.core.types import Message, Partition, Record
from streamer.log import TopicConfig
from streamer.log.kafka.client import KafkaClient
from streamer.log.kafka.settings import KafkaSettings
from streamer.log.partitioner import partition_of
from streamer.weights import open_model, open_peak_head
from tests.faults.daemons import until
from tests.log.contract import published
from tests.notify.test_delivery import Alertmanager
from tests.processes import Process, run

AT = 1_780_012_800
STEP_S = 60
FLOWS, PARTITIONS = 40, 4
LOW, HIGH = 1e3, 5e6
CHANGES = 0.2  # the chance that a flow becomes high or low with a step: no forecast can be sure
KILLS = 3
END_STEPS = 12  # without any high flow, so that all alerts end
PATIENCE_S = 240.0
PACE_S = 0.4  # from step to step
RULE = {
    "name": "high",
    "kind": "threshold",
    "above": 1e6,
    "within": f"{STEP_S}s",
    "clear_steps": 2,
    "chance": 0.99,
    "chance_clear": 0.99,
}


class Scene:
    """Topics of its own, processes over them, and a feeder that goes on until it is enough."""

    def __init__(self, home: Path, bootstrap: str, receiver: str) -> None:
        suffix = uuid.uuid4().hex[:8]
        self.home, self.bootstrap = home, bootstrap
        self.input, self.alerts = f"counters-{suffix}", f"alerts-{suffix}"
        self.forecasts = f"forecasts-{suffix}"
        self.path = home / "streamer.json"
        settings = {
            "log": f"kafka://{bootstrap}",
            "group": f"g-{suffix}",
            "step": f"{STEP_S}s",
            "input": {"topics": [self.input], "kind": "gauge"},
            "forecasts": {"topic": self.forecasts},
            "scores": {"topic": f"scores-{suffix}"},
            "alerts": {"enabled": True, "topic": self.alerts, "rules": [RULE]},
            "notify": {
                "alertmanagers": [{"url": receiver}],
                "resend": "2s",
                "resolved_for": "60s",
                "retry_max": "2s",
            },
            "turn": {"records_max": 200},
            "state": {"interval": "1s"},
            "metrics": {"topic": None},
            "http": {"bind": None},
            "trainer": {"enabled": False},
            "kafka": {"session_timeout": "6s"},
        }
        self.path.write_text(json.dumps(settings))
        self.client = KafkaClient(bootstrap, KafkaSettings())
        self.client.create(self.input, TopicConfig(PARTITIONS, compact=False))
        run("topics", "-c", self.path, "--create", check=True)
        self.running: list[Process] = []
        self.sent: list[tuple[int, bytes]] = []  # partition and value, in their order
        self.enough = threading.Event()

    def start(self, role: str, instance: str) -> Process:
        settings = ["-c", self.path, "--role", role, "--set", f"instance={instance}"]
        with (self.home / f"{instance}.log").open("ab") as out:
            process = Process("run", *settings, stdout=out, stderr=out)
        self.running.append(process)
        return process

    def feed(self) -> None:
        """A step of all flows at a time; in the end all of them are low."""
        client = KafkaClient(self.bootstrap, KafkaSettings())
        step, left = 0, END_STEPS
        chance, is_high = random.Random(5), [False] * FLOWS
        while left:
            left -= self.enough.wait(PACE_S)
            for n in range(FLOWS):
                is_high[n] ^= chance.random() < CHANGES
                high = is_high[n] and not self.enough.is_set()
                reading = {"flow": f"f{n}", "time": AT + STEP_S * step}
                value = json.dumps(reading | {"value": HIGH if high else LOW}).encode()
                place = partition_of(f"f{n}".encode(), PARTITIONS)
                client.send([Message(self.input, place, None, value)])
                self.sent.append((place, value))
            client.flush()
            step += 1
        client.close()

    def records(self) -> list[dict]:
        """All records of alerts that are committed."""
        found = published(self.client, self.alerts, 0)
        return [json.loads(each.value) for each in found if each.value]

    def expected(self) -> Counter[tuple[str, str, str]]:
        """What one engine concludes from what was sent."""
        config = load(self.path)
        engine = Engine(open_model(config.model), config.engine, peak_head=open_peak_head())
        offsets = [0] * PARTITIONS
        for number in range(PARTITIONS):
            engine.restore(Partition(self.input, number), {}, 0, PARTITIONS)
        found: Counter[tuple[str, str, str]] = Counter()
        for first in range(0, len(self.sent), FLOWS):
            turn = []
            for place, value in self.sent[first : first + FLOWS]:
                turn.append(Record(Partition(self.input, place), offsets[place], None, value, -1))
                offsets[place] += 1
            found.update((a.id, a.state, a.verdict) for a in engine.step(turn).alerts)
        return found

    def close(self) -> None:
        self.enough.set()
        for process in self.running:
            process.kill()
            process.wait()
        self.client.close()


@pytest.fixture
def member(tmp_path):
    found = Alertmanager(tmp_path / "alertmanager")
    yield found
    found.stop()


@pytest.fixture
def scene(tmp_path, bootstrap, member):
    found = Scene(tmp_path, bootstrap, member.url)
    yield found
    found.close()


def test_alerts_are_published_once_when_forecasters_are_killed(scene, member):
    """And each of them ends, for those who read the topic and in Alertmanager."""
    scene.start("notifier", "notifier")
    forecasters = {name: scene.start("forecaster", name) for name in ("one", "two")}
    feeder = threading.Thread(target=scene.feed, daemon=True)
    feeder.start()
    until(lambda: bool(member.alerts()), PATIENCE_S, "an alert in Alertmanager")
    for nth in range(KILLS):
        name = ("one", "two")[nth % 2]
        before = len(scene.records())
        until(lambda n=before: len(scene.records()) > n + FLOWS, PATIENCE_S, "more alerts")
        forecasters[name].kill()  # a SIGKILL, in whatever it was about
        forecasters[name].wait()
        until(lambda n=before: len(scene.records()) > n + 3 * FLOWS, PATIENCE_S, "the other's")
        forecasters[name] = scene.start("forecaster", name)
    scene.enough.set()
    feeder.join(PATIENCE_S)
    expected = scene.expected()
    until(lambda: len(scene.records()) >= expected.total(), PATIENCE_S, "all alerts")

    records = scene.records()
    found = Counter((each["id"], each["state"], each["verdict"]) for each in records)
    newest = {(each["flow"], each["rule"]): each["state"] for each in records}
    began = sum(each["state"] == "firing" and each["verdict"] != "true" for each in records)
    print(
        f"{KILLS} kills: {len(records)} records of {began} alerts, {expected.total()} expected,"
        f" {sum(n > 1 for n in found.values())} twice, {len(expected - found)} lost,"
        f" {sum(each == 'firing' for each in newest.values())} still firing"
    )
    assert found == expected
    assert set(found.values()) == {1}
    assert set(newest.values()) == {"resolved"}
    until(lambda: not member.alerts(), PATIENCE_S, "no alert fires in Alertmanager")
