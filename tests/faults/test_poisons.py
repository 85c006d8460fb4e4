"""
Whatever stands in a sound flow's partition, its forecasts are all there, once, and to the bit.

Each run is held against one of the same settings and the same sound readings without the poison.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer

from streamer.config.schema import load, open_client
from streamer.core.types import Message
from tests.faults import poisons
from tests.faults.daemons import Daemon, Group, until
from tests.faults.poisons import SOUND, STEP_S, STEPS, Poison, Sent, script
from tests.faults.witnesses import FileWitness, KafkaWitness, Witness

EXIT_S_MAX = 10.0
PATIENCE_S = 300.0
FIRST_S = int(time.time()) // 3600 * 3600 - 2 * 3600  # brokers forget what is old by its own time
FLOWS_MAX = 20_000
BROKERS_AHEAD_S_MAX = 1800.0  # brokers refuse stamps that are further ahead than an hour

Forecasts = dict[tuple[str, int], dict[str, object]]


class Run:
    """One group on one topic of one partition."""

    def __init__(self, home: Path, log: str, name: str) -> None:
        home.mkdir(exist_ok=True)
        self.settings: dict[str, object] = {
            "log": log,
            "group": f"group-{name}",
            "step": f"{STEP_S}s",
            "flows_max": FLOWS_MAX,
            "input": {"topics": [f"counters-{name}"]},
            "forecasts": {"topic": f"forecasts-{name}"},
            "scores": {"topic": f"scores-{name}"},
            "rejects": {"topic": f"rejects-{name}"},
            "state": {"interval": "1s"},
            "trainer": {"enabled": False},
            "sqlite": {"session_timeout": "2s"},
            "turn": {"records_max": 200},
        }
        self.topic = f"counters-{name}"
        self.group = Group(home, self.settings)
        self.group.make_topics(1)
        self.config = load(self.group.config, (), {})
        self.witness: Witness
        if log.startswith("sqlite"):
            self.witness = FileWitness(home / "log.db", f"group-{name}")
        else:
            self.witness = KafkaWitness(log.removeprefix("kafka://"), f"group-{name}")

    def change(self, **settings: object) -> None:
        """The settings of daemons that are started from now on."""
        self.settings |= settings
        self.group.config.write_text(json.dumps(self.settings))

    def feed(self, bad: Sequence[Poison], steps: range = range(STEPS)) -> None:
        sent = list(script(FIRST_S, bad, steps))
        if isinstance(self.witness, KafkaWitness):
            produce(self.config.log.removeprefix("kafka://"), self.topic, sent)
            return
        client = open_client(self.config)
        for each in sent:
            stamp_ms = round(each.time_s * 1000)
            client.send([Message(self.topic, 0, each.key, each.value, (), stamp_ms)])
        client.flush()
        client.close()

    def start(self) -> Daemon:
        return self.group.start("a")

    def read_all(self) -> None:
        """Return when the group has taken all as read, with the daemon alive all the while."""
        daemon = self.group.running["a"]

        def done() -> bool:
            code = daemon.process.poll()
            assert code is None, f"it ended with {code}:\n{daemon.log_text(0)[-3000:]}"
            return self.witness.lag(self.topic) == 0

        until(done, PATIENCE_S, f"all is read\n{daemon.log_text(0)[-2000:]}")

    def stop(self) -> None:
        """It ends in order and at once."""
        daemon = self.group.running.pop("a")
        began = time.monotonic()
        code = daemon.stop()
        assert code == 0, daemon.log_text(0)[-3000:]
        assert time.monotonic() - began < EXIT_S_MAX
        assert "Traceback" not in daemon.log_text(0), daemon.log_text(0)[-3000:]

    def forecasts(self) -> Forecasts:
        """Every forecast of the sound flows, each once."""
        found: Forecasts = {}
        for record in self.witness.read(str(self.config.forecasts.topic)):
            for line in record.value.split(b"\n"):
                each = orjson.loads(line)
                if each["flow"] in SOUND:
                    key = each["flow"], each["made_at"]
                    assert key not in found, f"{key} is published twice"
                    found[key] = each
        return found

    def close(self) -> None:
        self.group.kill()
        self.witness.close()


def produce(bootstrap: str, topic: str, sent: Sequence[Sent]) -> None:
    """By a client that takes records of any size as long as they are small when compressed."""
    options = {"compression.type": "lz4", "message.max.bytes": 64 << 20, "linger.ms": 20}
    failures: list[object] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "on_delivery": lambda error, _: error and failures.append(error),
            **options,
        }
    )
    latest_ms = round((time.time() + BROKERS_AHEAD_S_MAX) * 1000)
    for each in sent:
        stamp_ms = min(round(each.time_s * 1000), latest_ms)
        producer.produce(topic, each.value, each.key, 0, timestamp=stamp_ms)
        producer.poll(0)
    assert producer.flush(30) == 0
    assert not failures, failures[0]


@pytest.fixture(params=["kafka", "sqlite"])
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[object]:
    """Makes runs on one log."""
    made: list[Run] = []
    bootstrap = request.getfixturevalue("bootstrap") if request.param == "kafka" else None

    def run(name: str) -> Run:
        home = tmp_path / name
        log = f"kafka://{bootstrap}" if bootstrap else f"sqlite:///{home / 'log.db'}"
        made.append(Run(home, log, f"{name}-{tmp_path.name}"))
        return made[-1]

    yield run
    for each in made:
        each.close()


def same(
    poisoned: Forecasts, clean: Forecasts, *, steps: int = STEPS - 5, step_s: int | None = None
) -> None:
    """All there, and equal; where *step_s* is given, those of that step are."""
    assert len(clean) > len(SOUND) * steps
    missing = sorted(clean.keys() - poisoned.keys())
    assert not missing, f"{len(missing)} are missing: {missing[:5]}"
    extra = sorted(poisoned.keys() - clean.keys())
    assert not extra, f"{len(extra)} not called for: {extra[:5]}"
    held = [key for key in sorted(clean) if step_s in {None, clean[key]["step_s"]}]
    assert held
    wrong = [key for key in held if poisoned[key] != clean[key]]
    assert not wrong, f"{len(wrong)} differ: {poisoned[wrong[0]]} instead of {clean[wrong[0]]}"


def clean_run(runs) -> Forecasts:
    clean = runs("clean")
    clean.feed(())
    clean.start()
    clean.read_all()
    clean.stop()
    return clean.forecasts()


def test_all_poisons_beside_a_sound_flow_change_none_of_its_forecasts(runs):
    """Killed twice in the midst of it, and stopped in order at the end."""
    bad = runs("bad")
    bad.feed(poisons.POISONS)
    total = bad.witness.lag(bad.topic)
    bad.start()
    for share in (0.7, 0.3):
        until(lambda share=share: bad.witness.lag(bad.topic) < share * total, PATIENCE_S, "a part")
        bad.group.running["a"].kill()
        bad.start()
    bad.read_all()
    bad.stop()
    same(bad.forecasts(), clean_run(runs))


def test_another_step_over_saved_state_is_as_harmless_with_poison_as_without(runs):
    """
    From a minute to five seconds, then to five minutes: each start goes on with what it can.

    Every forecast is there once. How much of the input a rebuilt row has read again depends on when
    pages were saved, so only those before the first change are equal to the bit.
    """
    forecasts = []
    for name, bad in (("bad", poisons.POISONS), ("clean", ())):
        run = runs(name)
        for step, steps in (("60s", range(25)), ("5s", range(25, 35)), ("300s", range(35, 60))):
            run.change(step=step)
            run.feed(bad, steps)
            run.start()
            run.read_all()
            run.stop()
        forecasts.append(run.forecasts())
    same(*forecasts, steps=25, step_s=60)
