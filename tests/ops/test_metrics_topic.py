"""Reports of metrics on the log: complete, bounded, and never the end of a process."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from math import inf, nan

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from streamer.log import Unavailable
from streamer.ops.metrics_topic import DROPPED, MetricsConfig, MetricsTopic, encoded, points
from streamer.text import influx

TAGS = {"group": "g", "instance": "a b", "role": "forecaster"}


class Logger:
    def __init__(self):
        self.lines = []

    def warning(self, event, **fields):
        self.lines.append((event, fields))


class Broker:
    """A client that takes messages, or refuses them."""

    def __init__(self):
        self.taken, self.refuses, self.opened, self.closed = [], None, 0, 0

    def __call__(self):
        self.opened += 1
        return self

    def send(self, messages):
        if self.refuses is not None:
            raise self.refuses
        self.taken += messages

    def flush(self):
        pass

    def close(self):
        self.closed += 1


def families():
    rejects = CounterMetricFamily("streamer_rejects", "help", labels=["reason"])
    rejects.add_metric(["not_json"], 3)
    rejects.add_metric(["unit"], 0)
    odd = GaugeMetricFamily("streamer_odd", "help", labels=["horizon"])
    odd.add_metric(["1"], nan)
    odd.add_metric(["2"], inf)
    return [GaugeMetricFamily("streamer_flows", "help", value=7), rejects, odd]


def topic(broker, logger=None, counts=None, **config):
    counts = Counter() if counts is None else counts
    return MetricsTopic(
        MetricsConfig(**config), families, TAGS, broker, counts, logger or Logger(), lambda: 1.5
    )


def test_influx_lines_have_all_metrics():
    """One line for each set of labels, without what is no number."""
    lines = encoded(points(families(), TAGS), "influx", 1.5).decode().split("\n")
    parsed = [influx.parse(line) for line in lines]
    assert parsed == [
        ("streamer", TAGS, {"flows": 7.0}, 1_500_000_000),
        ("streamer", {**TAGS, "reason": "not_json"}, {"rejects_total": 3.0}, 1_500_000_000),
        ("streamer", {**TAGS, "reason": "unit"}, {"rejects_total": 0.0}, 1_500_000_000),
    ]


def test_telegraf_json_is_its_batch_form():
    document = json.loads(encoded(points(families(), TAGS), "telegraf_json", 1.5))
    assert document["metrics"][0] == {
        "name": "streamer",
        "tags": TAGS,
        "fields": {"flows": 7.0},
        "timestamp": 2,
    }
    assert len(document["metrics"]) == 3


def test_a_report_is_one_record_under_the_instance():
    broker = Broker()
    topic(broker).report()
    (message,) = broker.taken
    assert (message.topic, message.partition, message.key) == ("traffic.metrics", None, b"a b")


def test_a_report_that_is_not_taken_is_dropped_and_counted():
    """Logged once for its kind; the next one goes over a new connection."""
    broker, logger, counts = Broker(), Logger(), Counter()
    reports = topic(broker, logger, counts)
    broker.refuses = Unavailable("away")
    for _ in range(3):
        reports.report()
    broker.refuses = ValueError("odd")
    reports.report()
    broker.refuses = None
    reports.report()
    assert counts[DROPPED] == 4
    assert [fields["kind"] for _, fields in logger.lines] == ["unavailable", "ValueError"]
    assert len(broker.taken) == 1
    assert broker.opened == broker.closed + 1


@pytest.mark.slow
def test_it_ends_though_a_report_is_stuck(monkeypatch):
    """A process that stops does not wait for a log that is away."""
    monkeypatch.setattr("streamer.ops.metrics_topic.LEAVE_S", 0.2)
    entered, never = threading.Event(), threading.Event()

    class Stuck(Broker):
        def send(self, messages):
            entered.set()
            never.wait()

    reports = topic(Stuck(), every=1.0)
    reports.start()
    assert entered.wait(10)
    began = time.monotonic()
    reports.close()
    assert time.monotonic() - began < 5
    never.set()
    reports._thread.join(10)


def test_without_a_topic_there_is_no_thread():
    reports = topic(Broker(), topic=None)
    reports.start()
    assert not reports._thread.is_alive()
    reports.close()


@pytest.mark.parametrize("name", ["a b", "a,b", "a=b", "\\", "é漢", "a\nb", "x\\ y"])
def test_a_tag_is_escaped(name):
    """What cannot be written as it is becomes something else, and never another tag."""
    line = influx.line("m", {"t": name}, {"f": 1.5}, 7)
    assert "\n" not in line
    measurement, tags, fields, time_ns = influx.parse(line)
    assert (measurement, fields, time_ns) == ("m", {"f": 1.5}, 7)
    assert list(tags) == ["t"]
    assert tags["t"] == name.replace("\\", "/").replace("\n", " ")


@pytest.mark.parametrize("text", ["", "m", "m f 1", "m f=x 1", "m f=1", "m,t f=1 1", "m f=1 x"])
def test_what_is_no_line_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the message is Python's
        influx.parse(text)
