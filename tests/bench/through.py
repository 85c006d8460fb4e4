"""End to end through a log: the daemon beside a loop that only reads and publishes."""

from __future__ import annotations

import contextlib
import functools
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from confluent_kafka import Producer

from streamer.config.schema import load, open_client
from streamer.core.types import Message
from streamer.log import TopicConfig
from tests.bench.apart import Apart, Spent
from tests.bench.members import daemon, loop
from tests.bench.rows import Row, median_ratio
from tests.bench.traffic import PARTITIONS, messages

FLOWS = 10_000
STEPS = 2  # of all flows, in a stretch of one reading a record
BATCH = 100
STEPS_BATCHED = 10


@dataclass
class Lane:
    """One member with topics of its own, and its input."""

    url: str
    name: str
    batch: int
    more: Sequence[str] = ()
    flows: int = FLOWS
    spent: list[Spent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = f"{self.name}.{os.getpid()}"  # apart from the topics of an earlier run
        self.overrides = [
            f"log={self.url}",
            f"group={self.name}",
            f"instance={self.name}",
            f"input.topics=[{self.topic}]",
            f"forecasts.topic={self.name}.forecasts",
            f"forecasts.batch={self.batch}",
            f"scores.topic={self.name}.scores",
            *self.more,
        ]
        client = open_client(load(None, self.overrides, {}))
        outputs = ("forecasts", "scores", "rejects")
        every = (self.topic, *(f"{self.name}.{each}" for each in outputs))
        for topic in every:
            client.create(topic, TopicConfig(PARTITIONS, compact=False))
        client.create(f"{self.name}.state", TopicConfig(PARTITIONS, compact=True))
        client.create(f"{self.name}.models", TopicConfig(1, compact=True))
        client.close()
        self.steps = count()

    @property
    def topic(self) -> str:
        """Its input."""
        return f"{self.name}.counters"

    def feed(self, steps: int) -> int:
        """So many steps of all flows; how many records that is."""
        number = 0
        for _ in range(steps):
            sent = messages(self.topic, next(self.steps), self.flows, self.batch, PARTITIONS)
            feed(self.url, sent)
            number += len(sent)
        return number

    def stretch(self, member: Apart, steps: int) -> Spent:
        """What *member* takes for so many steps that lie ready."""
        member.ready()
        spent: Spent = member.ask(self.feed(steps))
        self.spent.append(spent)
        return spent


def feed(url: str, batch: Sequence[Message]) -> None:
    """Into the log, by the fastest way there is."""
    if not url.startswith("kafka://"):
        client = open_client(url)
        client.send(batch)
        client.close()
        return
    producer = feeder(url.removeprefix("kafka://"))
    for message in batch:
        producer.produce(message.topic, message.value, partition=message.partition)
    assert producer.flush(60) == 0, "the bench could not feed its topics"


@functools.cache
def feeder(bootstrap: str) -> Producer:
    """A client of another make than the daemon's; connected once, and silent when it is not."""
    settings = {"bootstrap.servers": bootstrap, "linger.ms": 5, "enable.idempotence": True}
    return Producer(settings | {"log_level": 2})


def let_go() -> None:
    """Of all feeders, before their broker goes: they would look for it until the process ends."""
    feeder.cache_clear()


@contextlib.contextmanager
def running(*members: Apart) -> Iterator[None]:
    """Until they are not needed any more."""
    try:
        yield
    finally:
        for member in members:
            member.stop()


def kafka(bootstrap: str, repeats: int = 5) -> Iterator[Row]:
    """Both ways of a record, beside the loop."""
    url = f"kafka://{bootstrap}"
    bare, single, batched = (
        Lane(url, "bench.loop", 1),
        Lane(url, "bench.single", 1),
        Lane(url, "bench.batched", BATCH),
    )
    members = (
        Apart(loop, bare.overrides, bare.topic, FLOWS),
        Apart(daemon, single.overrides),
        Apart(daemon, batched.overrides),
    )
    with running(*members):
        for nth in range(1 + repeats):
            for lane, member in zip((bare, single, batched), members, strict=True):
                lane.stretch(member, STEPS_BATCHED if lane is batched else STEPS)
                if nth == 0:
                    lane.spent.clear()  # rows are made, code is warm
    per_record = [spent.wall_s / (STEPS * FLOWS) for spent in bare.spent]
    per_single = [spent.wall_s / (STEPS * FLOWS) for spent in single.spent]
    per_batched = [spent.wall_s / (STEPS_BATCHED * FLOWS) for spent in batched.spent]
    loop_rate = 1 / statistics.median(per_record)
    yield Row(
        "kafka_single_vs_client",
        median_ratio(per_record, per_single),
        "x",
        0.85,
        note=f"{1 / statistics.median(per_single):,.0f} readings/s, the loop {loop_rate:,.0f}",
    )
    yield Row(
        "kafka_batched_vs_client",
        median_ratio(per_record, per_batched),
        "x",
        5.0,
        note=f"{1 / statistics.median(per_batched):,.0f} readings/s, {BATCH} in a record",
    )


def sqlite(repeats: int = 5) -> Iterator[Row]:
    """The same on the SQLite log; there is no client there to be held against."""
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        single, batched = (
            Lane(f"sqlite:///{Path(home) / name}.db", f"bench.{name}", batch)
            for name, batch in (("single", 1), ("batched", BATCH))
        )
        members = Apart(daemon, single.overrides), Apart(daemon, batched.overrides)
        with running(*members):
            for nth in range(1 + repeats):
                for lane, member in zip((single, batched), members, strict=True):
                    lane.stretch(member, STEPS)
                    if nth == 0:
                        lane.spent.clear()
        for lane in (single, batched):
            kind = "single" if lane.batch == 1 else "batched"
            rate = STEPS * FLOWS / statistics.median(spent.wall_s for spent in lane.spent)
            yield Row(f"sqlite_{kind}_readings_per_s", rate, "readings/s")
