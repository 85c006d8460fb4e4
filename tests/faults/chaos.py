"""
Three forecasters in one group, as real processes under load, and what may befall them.

    python -m tests.faults.chaos --rounds 30 --seed 1 --partitions 12 --log kafka

Every round is a fault drawn from the seed, each kind as often as any other. In the
end a witness who shares no code with us reads everything: see `proof`.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal, get_args

from streamer.config.schema import load
from streamer.core.types import Record
from streamer.core.wire.contests import decode_contest
from tests.broker.broker import Broker
from tests.faults.daemons import TRAINERS, Group, until
from tests.faults.feeder import Feeder, ticks
from tests.faults.proof import Proof, prove
from tests.faults.scene import MEMBERS, Scene, logs_of
from tests.faults.teacher import Teacher
from tests.faults.witnesses import FileWitness, KafkaWitness, Witness

FLOWS = 48
PACE_S = 0.2  # between ticks, of a reading of each flow
SESSION_S, LEASE_S = 6.0, 3.0
DRAIN_S_MAX = 300.0
SETTINGS = {
    "group": "chaos",
    "gap_max": 5,
    "input": {"topics": ["counters"]},
    "forecasts": {"topic": "forecasts", "batch": 10, "horizons": 4},
    "turn": {"records_max": 300},
    "state": {"interval": "2s"},
    "telemetry": {"interval": "5s"},
    "kafka": {
        "session_timeout": f"{SESSION_S:g}s",
        "transaction_timeout": "10s",
        "request_timeout": "5s",
    },
    "sqlite": {"session_timeout": f"{LEASE_S:g}s", "busy_timeout": "5s"},
}
EAGER = {  # trainers that hold a contest every few seconds, and promote whatever is no worse
    "finetune": {"every": "24m", "steps_max": 4},
    "contest": {"confidence": 0.51, "class_loss_max": 1.0, "coverage_error_max": 1.0},
}
Learning = Literal["never", "installed", "trained"]


@dataclass
class Outcome:
    """What came of it."""

    faults: Counter[str] = field(default_factory=Counter)
    proof: Proof | None = None
    codes: Counter[str] = field(default_factory=Counter)
    wakings: Counter[str] = field(default_factory=Counter)
    feeds: int = 0  # that had to be started again
    complaints: list[str] = field(default_factory=list)
    took_s: float = 0.0
    generations: int = 0  # that came and went

    @property
    def holds(self) -> bool:
        return self.proof is not None and self.proof.holds and not self.complaints

    def table(self) -> str:
        rows = [("rounds", str(sum(self.faults.values()))), ("took", f"{self.took_s:.0f} s")]
        rows += [(f"  {kind}", str(n)) for kind, n in sorted(self.faults.items())]
        rows += [(f"ended: {how}", str(n)) for how, n in sorted(self.codes.items())]
        rows += [(f"slept and {how}", str(n)) for how, n in sorted(self.wakings.items())]
        rows += [("feeds started again", str(self.feeds))]
        rows += [("generations promoted", str(self.generations))] if self.generations else []
        rows += self.proof.table() if self.proof else []
        rows += [("complaint", each) for each in self.complaints]
        return "\n".join(f"{name:34} {what}" for name, what in rows)


@contextlib.contextmanager
def world(
    home: Path,
    broker: Broker | None,
    *,
    partitions: int,
    flows: int,
    chance: Random,
    trained: bool,
) -> Iterator[tuple[Scene, Witness]]:
    """A group at work; whatever still runs at the end is killed."""
    url = f"kafka://{broker.bootstrap}" if broker else f"sqlite:///{home / 'log.db'}"
    group = Group(home, SETTINGS | (EAGER if trained else {}) | {"log": url})
    group.executed = {MEMBERS[-1]} if broker else set()
    group.make_topics(partitions)
    name = str(SETTINGS["group"])
    witness = KafkaWitness(broker.bootstrap, name) if broker else FileWitness(home / "log.db", name)
    with contextlib.ExitStack() as undo:
        undo.callback(witness.close)
        undo.callback(group.kill)
        arguments = ["-c", str(group.config), "--topic", "counters"]
        feeder = Feeder(home, arguments, ticks(flows, chance), PACE_S)
        undo.callback(feeder.discard)
        silence_s = SESSION_S if broker else LEASE_S
        scene = Scene(group, feeder, broker, silence_s=silence_s, chance=chance)
        for instance in (*MEMBERS, *(TRAINERS if trained else ())):
            group.start(instance)
        feeder.start()
        yield scene, witness


def chaos(
    home: Path,
    broker: Broker | None,
    *,
    partitions: int,
    seed: int,
    flows: int = FLOWS,
    rounds: int | None = None,
    faults: Sequence[str] | None = None,
    learning: Learning = "never",
    report: Callable[[str], None] = lambda _line: None,
) -> Outcome:
    """
    As many *rounds* as asked for, of all kinds, or the *faults* named one after another.

    With *learning* "installed" a generation is promoted before each of them, and taken up while it
    befalls; with "trained" real trainers promote as often as they can, and are killed as well.
    """
    chance, outcome, began = Random(seed), Outcome(), time.monotonic()
    trained = learning == "trained"
    site = world(home, broker, partitions=partitions, flows=flows, chance=chance, trained=trained)
    with site as (scene, witness):
        until(lambda: witness.lag("forecasts") > 0, 120, "the first forecasts")
        teacher = Teacher(scene.group.config)
        for fault in faults or deck(scene.faults, rounds or 0, chance):
            report(f"{time.monotonic() - began:4.0f} s  {fault}")
            if learning == "installed":
                teacher.promote()
            scene.befall(fault)
            outcome.faults[fault] += 1
            scene.idle(0.5, 2)
        report(f"{time.monotonic() - began:4.0f} s  coming to rest")
        scene.come_to_rest()
        until(lambda: witness.lag("counters") == 0, DRAIN_S_MAX, "all is read")
        scene.leave()
        config = load(scene.group.config, (), {})
        contests = list(promotions(witness.read(config.models_topic)))
        served = {0, *teacher.served, *contests}
        outcome.proof = prove(witness, config, frozenset(served))
        outcome.generations = len(contests) or len(teacher.served) - 1
    outcome.codes, outcome.wakings = scene.codes, scene.wakings
    outcome.complaints, outcome.feeds = scene.complaints, scene.feeder.restarts
    outcome.took_s = time.monotonic() - began
    return outcome


def promotions(records: Iterable[Record]) -> Iterator[int]:
    """The generations that won their contests, as the models topic has it."""
    for record in records:
        if (record.key or b"").startswith(b"contest/") and record.value is not None:
            contest = decode_contest(record.value)
            if contest.verdict == "promoted":
                yield contest.generation


def deck(kinds: Sequence[str], rounds: int, chance: Random) -> Iterator[str]:
    """Every kind once, in an order by chance, then again."""
    cards: list[str] = []
    for _ in range(rounds):
        cards = cards or chance.sample(kinds, len(kinds))
        yield cards.pop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--log", choices=["kafka", "sqlite"], default="kafka")
    parser.add_argument(
        "--learning",
        choices=get_args(Learning),
        default="never",
        help="generations come and go meanwhile; trained: real trainers are killed as well",
    )
    options = parser.parse_args()
    with contextlib.ExitStack() as undo:
        broker = Broker() if options.log == "kafka" else None
        if broker:
            undo.callback(broker.discard)
            broker.start()
        home = Path(tempfile.mkdtemp(prefix="chaos-"))
        try:
            outcome = chaos(
                home,
                broker,
                partitions=options.partitions,
                seed=options.seed,
                rounds=options.rounds,
                learning=options.learning,
                report=lambda line: print(line, file=sys.stderr, flush=True),
            )
        except BaseException:
            print(logs_of(home), file=sys.stderr)
            raise
    print(f"seed {options.seed}, {options.partitions} partitions, {options.log}; logs in {home}")
    print(outcome.table())
    print("holds" if outcome.holds else "DOES NOT HOLD")
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
