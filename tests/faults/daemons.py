"""Real `streamer run` processes that a test may kill, and an independent look at what they told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
from confluent_kafka import Consumer, TopicPartition
from numpy.typing import NDArray

STOP_S_MAX = 60.0


@dataclass
class Daemon:
    """One instance, and the file that it logs to."""

    instance: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """As the kernel does it when memory runs out: no last word."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """As an operator does it; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S_MAX)


class Group:
    """Forecasters of one group, all with the same settings."""

    def __init__(self, home: Path, settings: Mapping[str, object]) -> None:
        self.home = home
        self.config = home / "streamer.json"
        self.config.write_text(json.dumps(settings))  # JSON is YAML
        self.running: dict[str, Daemon] = {}

    def call(self, *arguments: str) -> None:
        """A command of ours that must end well."""
        subprocess.run([*STREAMER, *arguments], check=True, stdout=subprocess.DEVNULL)

    def start(self, instance: str) -> Daemon:
        log = self.home / f"{instance}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*STREAMER, "run", "-c", str(self.config), "--set", f"instance={instance}"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONFAULTHANDLER": "1"},
            )
        self.running[instance] = Daemon(instance, process, log)
        return self.running[instance]

    def stop(self) -> list[int]:
        """Stop all; their exit codes."""
        codes = [daemon.stop() for daemon in self.running.values()]
        self.running.clear()
        return codes

    def kill(self) -> None:
        for daemon in self.running.values():
            daemon.kill()


STREAMER = (sys.executable, "-m", "streamer")


def until(done: Callable[[], bool], patience_s: float, what: str) -> None:
    """Wait for something that the daemons bring about."""
    ends = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < ends, f"not within {patience_s:.0f} s: {what}"
        time.sleep(0.2)


class Verifier:
    """librdkafka's view of a topic, read_committed: another client than the one that wrote."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
            }
        )

    def lag(self, topic: str) -> int:
        """Records of *topic* that the group has not committed."""
        places = self._places(topic)
        committed = {c.partition: c.offset for c in self.consumer.committed(places, timeout=10)}
        return sum(
            self.consumer.get_watermark_offsets(place, timeout=10)[1]
            - max(0, committed[place.partition])
            for place in places
        )

    def read(self, topic: str) -> Iterator[tuple[int, bytes]]:
        """Every committed record: partition and value."""
        places = self._places(topic)
        self.consumer.assign([TopicPartition(topic, p.partition, 0) for p in places])
        ended: set[int] = set()
        while len(ended) < len(places):
            for message in self.consumer.consume(5000, timeout=1):
                if message.error():
                    ended.add(message.partition())
                else:
                    yield message.partition(), message.value()
        self.consumer.unassign()

    def close(self) -> None:
        self.consumer.close()

    def _places(self, topic: str) -> list[TopicPartition]:
        described = self.consumer.list_topics(topic, timeout=10).topics[topic]
        return [TopicPartition(topic, number) for number in described.partitions]


class Told(NamedTuple):
    """One forecast, its numbers kept small: there may be a million of them."""

    rate: float | None
    bands: NDArray[np.float32]  # (quantiles, horizons)
    rest: tuple[object, ...]  # all that is said beside numbers, but for the id


World = dict[tuple[str, int], Told]


def forecasts(values: Iterable[bytes]) -> World:
    """Forecasts by flow and instant; one that is told twice is a failure."""
    found: World = {}
    common: dict[tuple[object, ...], tuple[object, ...]] = {}
    for value in values:
        for line in value.split(b"\n"):
            told = orjson.loads(line)
            key = sys.intern(told.pop("flow")), told.pop("made_at")
            assert key not in found, f"forecast twice: {key}"
            assert told.pop("id") == f"{key[0]}@{key[1]}.{told['generation']}"
            rate = told.pop("rate")
            names = [name for name in told if name.startswith("q")]
            bands = np.array([told.pop(name) for name in names], np.float32)
            rest = (*names, *told.items())
            found[key] = Told(rate, bands, common.setdefault(rest, rest))
    return found


def worst_difference(one: World, other: World) -> float:
    """The largest difference between two worlds' forecasts, in units of each flow's mean rate."""
    assert one.keys() == other.keys(), (
        f"{len(one.keys() - other.keys())} only in the first,"
        f" {len(other.keys() - one.keys())} only in the second"
    )
    sums: dict[str, list[float]] = {}
    for (flow, _), told in one.items():
        sums.setdefault(flow, []).append(told.rate or 0.0)
    scale = {flow: max(sum(rates) / len(rates), 1e-9) for flow, rates in sums.items()}
    worst = 0.0
    for key, told in one.items():
        assert (told.rate, told.rest) == (other[key].rate, other[key].rest), key
        worst = max(worst, float(np.abs(told.bands - other[key].bands).max()) / scale[key[0]])
    return worst
