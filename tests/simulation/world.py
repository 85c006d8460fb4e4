"""
A world in one thread: a log that lasts, forecasters that die, one seed.

Traffic, faults and rebalances are drawn from the seed, afresh in kind for each, so a
failure is replayed by its seed alone. Time is a number that the world moves on.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from streamer.core.engine import Engine, EngineConfig
from streamer.core.facts import Message, Partition, Record
from streamer.core.grid import GridConfig
from streamer.core.settings import Duration
from streamer.core.wire import InputConfig
from streamer.core.wire.forecasts import ForecastsConfig
from streamer.forecaster import Forecaster, StateConfig, TurnConfig
from streamer.log import Delivery, Fenced, LogError, Unavailable
from tests.simulation.fingerprint import Fingerprint

TOPIC, STATE, REJECTS, FORECASTS = "counters", "state", "rejects", "forecasts"


@dataclass(frozen=True)
class Faults:
    """How often what goes wrong goes wrong; chances of each occasion."""

    crash_before_publish: float = 0.0
    crash_after_publish: float = 0.0  # heard, but the answer was lost
    crash_in_restore: float = 0.0
    rebalance: float = 0.0  # between turns
    rebalance_mid_turn: float = 0.0
    records_max: int = 7

    @classmethod
    def swarm(cls, chance: Random) -> Faults:
        """Some kinds often, some never: worlds that differ in kind find more than mixed ones."""
        often = lambda most: chance.choice([0.0, most / 10, most])  # noqa: E731 - a draw
        return cls(
            crash_before_publish=often(0.1),
            crash_after_publish=often(0.1),
            crash_in_restore=often(0.2),
            rebalance=often(0.2),
            rebalance_mid_turn=often(0.1),
            records_max=chance.choice([3, 20, 90]),
        )


@dataclass
class MemoryLog:
    """The one thing that lasts: input, the group's offsets, and all that was published."""

    chance: Random
    faults: Faults
    partitions: int
    input: dict[Partition, list[Record]] = field(default_factory=dict)
    offsets: dict[Partition, int] = field(default_factory=dict)
    tables: dict[tuple[str, int], dict[bytes, bytes]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    told: dict[str, list[Message]] = field(default_factory=lambda: defaultdict(list))
    owners: dict[Partition, Member] = field(default_factory=dict)
    tenures: dict[Partition, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self.input = {Partition(TOPIC, n): [] for n in range(self.partitions)}

    def append(self, number: int, key: bytes, value: bytes | None, time_ms: int) -> None:
        lane = self.input[Partition(TOPIC, number)]
        lane.append(Record(Partition(TOPIC, number), len(lane), key, value, time_ms))

    def rebalance(self, members: Sequence[Member]) -> None:
        """Each partition to a member drawn by chance; a change of hands begins a tenure."""
        for partition in self.input:
            owner = self.chance.choice(members)
            if owner is not self.owners.get(partition):
                self.owners[partition] = owner
                self.tenures[partition] += 1

    @property
    def drained(self) -> bool:
        return all(self.offsets.get(p, 0) == len(lane) for p, lane in self.input.items())


@dataclass(eq=False)
class Member:
    """One forecaster's hold on the log: a Log."""

    log: MemoryLog
    tenures: dict[Partition, int] = field(default_factory=dict)  # of the partitions we hold
    positions: dict[Partition, int] = field(default_factory=dict)

    def poll(self, _wait_s: float, _records_max: int) -> Delivery:
        log = self.log
        ours = {p: log.tenures[p] for p, owner in log.owners.items() if owner is self}
        lost = {p for p, tenure in self.tenures.items() if ours.get(p) != tenure}
        gained = {p: log.offsets.get(p, 0) for p, t in ours.items() if self.tenures.get(p) != t}
        self.tenures = ours
        self.positions.update(gained)
        records: list[Record] = []
        for p in sorted(ours):
            number = log.chance.randint(0, log.faults.records_max)
            batch = log.input[p][self.positions[p] : self.positions[p] + number]
            self.positions[p] += len(batch)
            records += batch
        return Delivery(frozenset(lost), gained, records, log.partitions)

    def table(self, topic: str, number: int) -> Mapping[bytes, bytes]:
        if self.log.chance.random() < self.log.faults.crash_in_restore:
            raise Unavailable("died while reading pages")
        return dict(self.log.tables[topic, number])

    def replay(self, partition: Partition, start: int, end: int) -> Iterator[Sequence[Record]]:
        at = start
        while at < end:
            if self.log.chance.random() < self.log.faults.crash_in_restore:
                raise Unavailable("died while reading again")
            size = self.log.chance.randint(1, 20)
            yield self.log.input[partition][at : min(at + size, end)]
            at += size

    def publish(self, messages: Sequence[Message], offsets: Mapping[Partition, int]) -> None:
        log = self.log
        if log.chance.random() < log.faults.rebalance_mid_turn:
            log.rebalance(list({id(m): m for m in log.owners.values()}.values()))
        if log.chance.random() < log.faults.crash_before_publish:
            raise Unavailable("never heard")
        if any(log.owners[p] is not self or log.tenures[p] != self.tenures[p] for p in offsets):
            raise Fenced("the partition moved on")
        for message in messages:
            log.told[message.topic].append(message)
            if message.topic == STATE:
                table = log.tables[STATE, message.partition]
                if message.value is None:
                    table.pop(message.key, None)
                else:
                    table[message.key] = message.value
        log.offsets.update(offsets)
        if log.chance.random() < log.faults.crash_after_publish:
            raise Unavailable("heard, but the answer was lost")

    def close(self) -> None:
        pass


class Silence:
    """An observer that looks away."""

    def moved(self, phase) -> None: ...

    def turned(self, turn) -> None: ...

    def restored(self, back) -> None: ...

    def refused(self, error, pause_s) -> None: ...


@dataclass(frozen=True)
class Shape:
    """What kind of world a seed draws."""

    flows: int
    partitions: int
    forecasters: int
    flows_max: int
    batched: bool  # several readings a record, several forecasts a record
    page_rows: int = 64

    @classmethod
    def draw(cls, chance: Random) -> Shape:
        flows = chance.choice([3, 7, 40])
        return cls(
            flows=flows,
            partitions=chance.choice([1, 3, 4]),
            forecasters=chance.choice([1, 2, 4]),
            flows_max=chance.choice([500, max(4, flows // 2)]),
            batched=chance.random() < 0.5,
            page_rows=chance.choice([2, 5, 64]),
        )


class World:
    """Input drawn from *traffic_seed*; faults and turns from *seed*."""

    def __init__(self, shape: Shape, *, seed: int, faults: Faults) -> None:
        self.shape = shape
        self.chance = Random(seed)
        self.now = 0.0
        self.crashes = 0
        self.log = MemoryLog(self.chance, faults, shape.partitions)
        self.forecasters = [self.boot() for _ in range(shape.forecasters)]
        self.log.rebalance([f.log for f in self.forecasters])

    def boot(self) -> Forecaster:
        config = EngineConfig(
            flows_max=self.shape.flows_max,
            input=InputConfig(topics=(TOPIC,)),
            grid=GridConfig(step=Duration(60), gap_max=5),
            forecasts=ForecastsConfig(
                topic=FORECASTS, batch=50 if self.shape.batched else 1, horizons=2
            ),
        )
        forecaster = Forecaster(
            join=lambda: Member(self.log),
            engine=lambda: Engine(Fingerprint(), config, self.shape.page_rows),
            turn=TurnConfig(),
            state=StateConfig(interval=Duration(60)),
            state_topic=STATE,
            rejects_topic=REJECTS,
            observer=Silence(),
            clock=lambda: self.now,
            pause=lambda _: None,
        )
        forecaster.start()
        return forecaster

    def run(self, turns_max: int = 20_000) -> None:
        """Until the input is drained: each turn is one forecaster's, each death a new one."""
        for _ in range(turns_max):
            if self.log.drained:
                return
            self.now += self.chance.random() * 20
            members = [f.log for f in self.forecasters]
            if self.chance.random() < self.log.faults.rebalance:
                self.log.rebalance(members)
            i = self.chance.randrange(len(self.forecasters))
            try:
                self.forecasters[i].turn()
            except LogError:
                self.crashes += 1
                self.forecasters[i] = self.boot()
                self.log.rebalance([f.log for f in self.forecasters])
        raise AssertionError("no progress")

    def settle(self) -> None:
        """Have every partition held, so that rows can be compared; nobody dies any more."""
        self.log.faults = Faults()
        for forecaster in self.forecasters:
            forecaster.turn()

    def forecasts(self) -> dict[tuple[str, int], dict]:
        """Every forecast by flow and instant; two of one are a failure at once."""
        found: dict[tuple[str, int], dict] = {}
        for message in self.log.told[FORECASTS]:
            for line in message.value.split(b"\n"):
                told = json.loads(line)
                key = told["flow"], told["made_at"]
                assert key not in found, f"forecast twice: {key}"
                found[key] = told
        return found

    def rows(self) -> dict[tuple[Partition, str], bytes]:
        """Every row that anybody holds."""
        return {
            (partition, flow): forecaster.engine.arena.rows[slot].tobytes()
            for forecaster in self.forecasters
            for partition, holding in forecaster.engine.arena._holdings.items()
            for flow, slot in holding.slots.items()
        }


def traffic(log: MemoryLog, shape: Shape, seed: int, minutes: int = 12) -> None:
    """Counters that are polled unevenly, told twice, late, lost, wrapped, reset, or are junk."""
    chance = Random(seed)
    counts = {
        f"flow{i}": chance.choice([0, 2**32 - 10**6, 2**64 - 10**6]) for i in range(shape.flows)
    }
    home = {flow: i % shape.partitions for i, flow in enumerate(counts)}
    resets, batched = chance.choice([0.0, 0.02]), shape.batched
    for tick in range(minutes * shape.flows):
        flow = chance.choice(list(counts))
        now = 600_000 + 60 * tick / shape.flows
        if chance.random() < resets:
            counts[flow] = 0
        bits = 32 if counts[flow] < 2**32 else 64
        told = []
        for _ in range(chance.randint(1, 3) if batched else 1):
            counts[flow] = (counts[flow] + chance.randint(0, 90_000)) % 2**bits
            now += chance.random()
            told.append({"flow": flow, "time": round(now, 3), "value": counts[flow]})
        body = json.dumps(told if batched else told[0]).encode()
        key = flow.encode()
        if chance.random() < 0.03:
            continue  # lost on the way
        log.append(home[flow], key, body, -1)
        if chance.random() < 0.1:
            log.append(home[flow], key, body, -1)  # told twice
        if chance.random() < 0.05:
            late = json.dumps({"flow": flow, "time": now - 90, "value": 5}).encode()
            log.append(home[flow], key, late, -1)
        if chance.random() < 0.02:
            log.append(home[flow], key, chance.choice([None, b"\xff junk", b"{}"]), -1)
