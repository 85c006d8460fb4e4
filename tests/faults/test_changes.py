"""Real daemons over a change that an operator makes: another step, more partitions, long names."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest
from kafka import KafkaAdminClient

from streamer.core.types import Message
from streamer.log.kafka.client import KafkaClient
from streamer.log.kafka.settings import KafkaSettings
from tests.faults.daemons import Group, until
from tests.log.contract import published

BEGIN = 1_700_000_400
PATIENCE_S = 90.0


class Site:
    """Topics of a test's own on a real broker, one daemon, and who feeds it."""

    def __init__(self, home, bootstrap, **settings):
        self.bootstrap = bootstrap
        self.suffix = uuid.uuid4().hex[:8]
        self.input, self.output = f"in-{self.suffix}", f"out-{self.suffix}"
        self.settings = {
            "log": f"kafka://{bootstrap}",
            "group": f"g-{self.suffix}",
            "input": {"topics": [self.input]},
            "forecasts": {"topic": self.output},
            "rejects": {"topic": f"rejects-{self.suffix}"},
            "scores": {"topic": f"scores-{self.suffix}"},
            "state": {"interval": "1s"},
            "trainer": {"enabled": False},
            "kafka": {"session_timeout": "45s"},
            **settings,
        }
        self.client = KafkaClient(bootstrap, KafkaSettings())
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        self.group = Group(home, self.settings)
        self.group.constants = {"streamer.log.kafka.settings.METADATA_AGE_MAX_MS": 1000}

    def feed(self, first, last, *, spacing=60, flow="f", partition=0):
        readings = [
            {"flow": flow, "time": BEGIN + spacing * n, "value": 1000 * spacing * n}
            for n in range(first, last)
        ]
        values = [json.dumps(each).encode() for each in readings]
        client = KafkaClient(self.bootstrap, KafkaSettings())  # partitions may be new
        client.send([Message(self.input, partition, b"k", value) for value in values])
        client.flush()
        client.close()

    def forecasts(self, flow="f"):
        """When each forecast of a flow was made."""
        client = KafkaClient(self.bootstrap, KafkaSettings())  # partitions may be new
        lines = [json.loads(record.value) for record in published(client, self.output, 0)]
        client.close()
        return [line["made_at"] for line in lines if line["flow"] == flow]

    def await_forecasts(self, number, flow="f"):
        until(lambda: len(self.forecasts(flow)) >= number, PATIENCE_S, f"{number} forecasts")

    def pages(self):
        """The saved pages; a turn saves them if the interval has passed."""
        table = self.client.read_table(f"{self.settings['group']}.state", 0)
        return {key: value for key, value in table.items() if b"/page/" in key}

    def await_saved(self, before):
        until(lambda: self.pages() != before, PATIENCE_S, "the state is saved")

    def restart(self, **settings):
        """Stop it, change its settings, and start it again."""
        assert self.group.stop() == [0]
        self.group.config.write_text(json.dumps(self.settings | settings))
        return self.group.start("a")

    def close(self):
        self.group.kill()
        self.client.close()
        self.admin.close()


@pytest.fixture
def site(tmp_path, bootstrap) -> Iterator[Site]:
    made = Site(tmp_path, bootstrap)
    made.group.make_topics(1)
    yield made
    made.close()


def test_a_changed_step_goes_on_at_once_there_and_back(site):
    """Finer, coarser and as it was: forecasts follow the input, and it stops on a signal."""
    daemon = site.group.start("a")
    site.feed(0, 20)
    site.await_forecasts(19)
    site.await_saved({})
    for step, first in (("5s", 20), ("5m", 60), ("60s", 100)):
        pages = site.pages()
        daemon = site.restart(step=step)
        before = len(site.forecasts())  # the former process may have published until it ended
        site.feed(first, first + 40)
        site.await_forecasts(before + 6)
        assert "state.rebuilt" in daemon.log_text(daemon.since)
        site.await_saved(pages)
    assert daemon.stop() == 0
    site.group.running.clear()
    made_at = site.forecasts()
    assert len(set(made_at)) == len(made_at)


def test_added_partitions_are_read_and_the_old_one_continues(site):
    """Our own topics are widened with the input, whether the daemon runs or not."""
    daemon = site.group.start("a")
    site.feed(0, 5)
    site.await_forecasts(4)
    site.admin.create_partitions({site.input: 3})
    site.feed(5, 10)
    site.feed(0, 10, flow="moved", partition=2)
    site.await_forecasts(9)
    site.await_forecasts(9, "moved")
    assert daemon.lives
    assert "topic.widened" in daemon.log_text(daemon.since)
    assert site.group.stop() == [0]
    site.admin.create_partitions({site.input: 4})
    site.feed(0, 5, flow="later", partition=3)
    site.group.start("a")  # within its session: the broker gives it what it had, and no more
    site.await_forecasts(4, "later")
    assert site.group.stop() == [0]
    assert len(site.forecasts()) == 9


def test_many_long_names_that_make_room_are_no_large_message(tmp_path, bootstrap):
    """Fifteen thousand newcomers of one record, where as many have to go."""
    site = Site(tmp_path, bootstrap, flows_max=20_000)
    site.group.make_topics(1)
    daemon = site.group.start("a")
    for turn in range(3):
        names = [f"{turn}-{n:05}-" + "x" * 200 for n in range(15_000)]
        for first in range(0, len(names), 3000):
            some = names[first : first + 3000]
            reading = {"time": BEGIN + 60 * turn, "value": 1}
            record = json.dumps([{"flow": name, **reading} for name in some]).encode()
            site.client.send([Message(site.input, 0, b"k", record)])
        site.client.flush()
    site.feed(5, 8)
    site.await_forecasts(2)
    assert daemon.lives
    assert "log.failed" not in daemon.log_text(daemon.since)
    daemon = site.restart()
    site.feed(8, 11)
    site.await_forecasts(5)
    site.close()
