"""Real processes: a rekeyer that is killed, and a daemon that reads five formats at once."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections import defaultdict
from pathlib import Path

import pytest

from streamer.core.types import Message
from streamer.feed.messages import captured
from streamer.log import TopicConfig
from streamer.log.kafka.client import KafkaClient
from streamer.log.kafka.settings import KafkaSettings
from tests.faults.daemons import until
from tests.log.contract import published
from tests.processes import Process, run

CAPTURED = Path(__file__).parents[3] / "shared" / "formats" / "captured"
AT = 1_780_012_800
PATIENCE_S = 150.0
FLOWS = 20


class Site:
    """Topics of a test's own, and processes over them."""

    def __init__(self, home, bootstrap, **settings):
        self.suffix = uuid.uuid4().hex[:8]
        self.home, self.bootstrap = home, bootstrap
        self.readings = f"readings-{self.suffix}"
        self.forecasts = f"forecasts-{self.suffix}"
        self.client = KafkaClient(bootstrap, KafkaSettings())
        self.config = home / "streamer.json"
        own = {
            "log": f"kafka://{bootstrap}",
            "group": f"g-{self.suffix}",
            "forecasts": {"topic": self.forecasts},
            "scores": {"topic": f"scores-{self.suffix}"},
            "metrics": {"topic": None},
            "http": {"bind": None},
            "trainer": {"enabled": False},
            "kafka": {"session_timeout": "6s"},
        }
        self.config.write_text(json.dumps(own | settings))
        self.running = []

    def topic(self, stem, partitions=1):
        name = f"{stem}-{self.suffix}"
        self.client.create(name, TopicConfig(partitions, compact=False))
        return name

    def make_topics(self):
        run("topics", "-c", self.config, "--create")

    def start(self, role):
        with (self.home / f"{role}.log").open("ab") as out:
            settings = ["-c", self.config, "--role", role]
            self.running.append(Process("run", *settings, stdout=out, stderr=out))
        return self.running[-1]

    def log_text(self, role):
        return (self.home / f"{role}.log").read_text()

    def close(self):
        for process in self.running:
            process.kill()
            process.wait()
        self.client.close()


@pytest.fixture
def site(tmp_path, bootstrap):
    with contextlib.ExitStack() as stack:

        def make(**settings):
            made = Site(tmp_path, bootstrap, **settings)
            stack.callback(made.close)
            return made

        yield make


def test_a_rekeyer_that_is_killed_writes_each_reading_once_and_in_order(site):
    """Readings of each flow come in three partitions; it is killed in the middle, twice."""
    suffix = uuid.uuid4().hex[:8]
    raw = f"raw-{suffix}"
    here = site(
        input={"topics": [raw], "rekeyed": f"keyed-{suffix}"},
        turn={"records_max": 50},
    )
    here.client.create(raw, TopicConfig(3, compact=False))
    here.make_topics()
    enough = threading.Event()
    steps: list[int] = []
    feeder = threading.Thread(
        target=send_readings, args=(here.bootstrap, raw, enough, steps), daemon=True
    )
    feeder.start()
    for _ in range(2):
        before = len(found(here, suffix))
        process = here.start("rekeyer")
        until(lambda n=before: len(found(here, suffix)) > n + FLOWS, PATIENCE_S, "some readings")
        process.kill()  # a SIGKILL, in whatever it was about
        process.wait()
    since = len(here.log_text("rekeyer"))
    process = here.start("rekeyer")
    enough.set()
    feeder.join()
    until(lambda: len(found(here, suffix)) >= FLOWS * len(steps), PATIENCE_S, "all readings")
    until(lambda: "rekeyer.started" in here.log_text("rekeyer")[since:], PATIENCE_S, "the third")
    process.terminate()
    assert process.wait(60) == 0
    by = defaultdict(list)
    places = defaultdict(set)
    for record in found(here, suffix):
        reading = json.loads(record.value)
        assert record.key == reading["flow"].encode()
        by[reading["flow"]].append(reading["value"])
        places[reading["flow"]].add(record.partition.number)
    assert by == {f"f{n}": steps for n in range(FLOWS)}
    assert {len(each) for each in places.values()} == {1}
    assert "Traceback" not in here.log_text("rekeyer")


def send_readings(bootstrap, raw, enough, steps):
    """Each flow's readings in turn in each partition, without a key, until it is enough."""
    client = KafkaClient(bootstrap, KafkaSettings())
    while not enough.wait(0.25):
        step = len(steps)
        for n in range(FLOWS):
            value = json.dumps({"flow": f"f{n}", "time": AT + 60 * step, "value": step}).encode()
            client.send([Message(raw, (n + step) % 3, None, value)])
        client.flush()
        steps.append(step)
    client.close()


def found(here, suffix):
    return published(here.client, f"keyed-{suffix}", 0)


FIVE = (  # a capture, and the settings of its source
    ("telegraf-snmp-json", {}),
    ("gnmic-event-split", {"format": "gnmic_event"}),
    ("goflow2-ipfix-json", {"flow_key": "addresses"}),
    ("prometheus-kafka-adapter", {"format": "prometheus_kafka_adapter"}),
    ("otelcol-hostmetrics-json", {"device": "collector"}),
)


@pytest.mark.skipif(not CAPTURED.exists(), reason="the captured messages are not here")
def test_a_daemon_reads_five_topics_of_five_formats_at_once(site):
    """Beside it a rekeyer gathers them in one topic; each flow is forecast at its true rate."""
    suffix = uuid.uuid4().hex[:8]
    topics = {name: f"{name}-{suffix}" for name, _ in FIVE}
    sources = [{"topics": [topics[name]], **settings} for name, settings in FIVE]
    here = site(
        step="10s",
        lateness="10s",
        input={"sources": sources, "rekeyed": f"keyed-{suffix}"},
    )
    for topic in topics.values():
        here.client.create(topic, TopicConfig(2, compact=False))
    here.make_topics()
    for name, topic in topics.items():
        records = list(captured(CAPTURED / f"{name}.jsonl"))
        shift_ms = round(time.time() * 1000) - records[-1].time_ms  # or the broker forgets them
        here.client.send(
            [
                Message(topic, n % 2, None, r.value, time_ms=r.time_ms + shift_ms)
                for n, r in enumerate(records)
            ]
        )
    here.client.flush()
    expected = {}
    for name, _ in FIVE:
        true = json.loads((CAPTURED / f"{name}.expect.json").read_text())["flows"]
        prefix = "collector/" if name.startswith("otelcol") else ""
        expected |= {prefix + flow: each["rate_Bps"] for flow, each in true.items()}
    process = here.start("all")

    def rates():
        by = defaultdict(list)
        for record in published(here.client, here.forecasts, 0):
            each = json.loads(record.value)
            if each["rate"] is not None:
                by[each["flow"]].append(each["rate"])
        return by

    until(lambda: expected.keys() <= rates().keys(), PATIENCE_S, "forecasts of every flow")
    for flow, values in rates().items():
        if flow in expected:
            assert sum(values) / len(values) == pytest.approx(expected[flow], rel=0.25), flow
    process.terminate()
    assert process.wait(60) == 0
    assert "flows.in_two_partitions" not in here.log_text("all")


def test_a_flow_in_two_partitions_is_named_in_one_warning(site):
    """By the forecaster, where no rekeyer is set."""
    suffix = uuid.uuid4().hex[:8]
    raw = f"raw-{suffix}"
    here = site(input={"topics": [raw]})
    here.client.create(raw, TopicConfig(2, compact=False))
    here.make_topics()
    process = here.start("forecaster")
    steps = iter(range(10_000))

    def is_named():
        step = next(steps)
        value = json.dumps({"flow": "lost", "time": AT + 60 * step, "value": step}).encode()
        here.client.send([Message(raw, step % 2, None, value)])
        here.client.flush()
        return "flows.in_two_partitions" in here.log_text("forecaster")

    until(is_named, PATIENCE_S, "a warning")
    process.terminate()
    assert process.wait(60) == 0
    assert here.log_text("forecaster").count("flows.in_two_partitions") == 1
    assert "flow=lost" in here.log_text("forecaster")
    assert "input.rekeyed" in here.log_text("forecaster")
