"""
A log in memory: the one thing of a world that lasts, and what may go wrong with it.

It keeps a group's offsets, fences those whose partitions have moved on, and takes a
turn completely or not at all. Of the state topic it keeps the records, and compacts
them as Kafka may: at any time, some of what is superseded, a tombstone last.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from streamer.core.types import Message, Partition, Record
from streamer.log import Fenced, PollResult, Unavailable

TOPIC, STATE, REJECTS, MODELS = "counters", "state", "rejects", "models"
FORECASTS, SCORES, ALERTS = "forecasts", "scores", "alerts"


class Ordered(frozenset[Partition]):
    """A set that is iterated in the same order in every process, as a replay requires."""

    def __iter__(self) -> Iterator[Partition]:
        return iter(sorted(super().__iter__()))


@dataclass(frozen=True)
class Faults:
    """How often what goes wrong goes wrong; chances of each occasion."""

    crash_before_publish: float = 0.0
    crash_after_publish: float = 0.0  # committed, but the answer was lost
    crash_in_restore: float = 0.0
    rebalance: float = 0.0  # between turns
    rebalance_mid_turn: float = 0.0
    rebalance_in_restore: float = 0.0
    sleep: float = 0.0  # in the middle of a turn, while other members take over
    upgrade: float = 0.0  # the restarted forecaster is of another version
    quiet: float = 0.0  # a poll that brings nothing
    records_max: int = 7  # that a poll brings of one partition

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
            rebalance_in_restore=often(0.1),
            sleep=often(0.1),
            upgrade=chance.choice([0.0, 0.9]),
            quiet=chance.choice([0.0, 0.3]),
            records_max=chance.choice([2, 7, 40]),
        )


@dataclass
class MemoryLog:
    """See the module. *asleep* is called while a member sleeps in the middle of its turn."""

    chance: Random
    faults: Faults
    partitions: int
    input: dict[Partition, list[Record]] = field(default_factory=dict)
    offsets: dict[Partition, int] = field(default_factory=dict)
    state: dict[int, list[tuple[bytes, bytes | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    upgrades: int = 0
    models: list[Record] = field(default_factory=list)
    published: dict[str, list[Message]] = field(default_factory=lambda: defaultdict(list))
    owners: dict[Partition, Member] = field(default_factory=dict)
    tenures: dict[Partition, int] = field(default_factory=lambda: defaultdict(int))
    asleep: Callable[[Member], None] = lambda _member: None

    def __post_init__(self) -> None:
        self.input = {Partition(TOPIC, n): [] for n in range(self.partitions)}

    def append(self, number: int, key: bytes, value: bytes | None, time_ms: int) -> None:
        lane = self.input[Partition(TOPIC, number)]
        lane.append(Record(Partition(TOPIC, number), len(lane), key, value, time_ms))

    def publish_model(self, key: bytes, value: bytes | None) -> None:
        """Append a record to the models topic."""
        self.models.append(Record(Partition(MODELS, 0), len(self.models), key, value, -1))

    def rebalance(self, members: Sequence[Member]) -> None:
        """Each partition to a member drawn by chance; a change of hands begins a tenure."""
        for partition in self.input:
            owner = self.chance.choice(members)
            if owner is not self.owners.get(partition):
                self.owners[partition] = owner
                self.tenures[partition] += 1

    def succeed(self, old: Member, new: Member) -> None:
        """What *old* held is held by *new*, as a static member comes back to what it had."""
        for partition, owner in self.owners.items():
            if owner is old:
                self.owners[partition] = new
                self.tenures[partition] += 1

    def reshuffle(self, chance_of_it: float) -> None:
        """Perhaps a rebalance among the members with partitions."""
        if self.chance.random() < chance_of_it:
            self.rebalance(list({id(m): m for m in self.owners.values()}.values()))

    def take(self, messages: Sequence[Message], offsets: Mapping[Partition, int]) -> None:
        """Commit a turn."""
        for message in messages:
            self.published[message.topic].append(message)
            if message.topic == STATE:
                assert message.partition is not None
                assert message.key is not None
                self.state[message.partition].append((message.key, message.value))
        self.offsets.update(offsets)
        if self.state and self.chance.random() < 0.1:
            number = self.chance.choice(sorted(self.state))
            self.state[number] = compacted(self.state[number], self.chance)

    def left(self, partition: Partition) -> int:
        """How many records the group has not taken as read."""
        return len(self.input[partition]) - self.offsets.get(partition, 0)

    @property
    def drained(self) -> bool:
        return not any(map(self.left, self.input))


def latest(lane: Iterable[tuple[bytes | None, bytes | None]]) -> dict[bytes, bytes]:
    """The last value of each key."""
    table: dict[bytes, bytes] = {}
    for key, value in lane:
        assert key is not None
        table.pop(key, None)
        if value is not None:
            table[key] = value
    return table


def compacted(
    lane: list[tuple[bytes, bytes | None]], chance: Random
) -> list[tuple[bytes, bytes | None]]:
    """A legal state of *lane*: a tombstone goes only when nothing is left that it deletes."""
    last = {key: i for i, (key, _) in enumerate(lane)}
    kept = [each for i, each in enumerate(lane) if last[each[0]] == i or chance.random() < 0.3]
    number = Counter(key for key, _ in kept)
    return [
        (key, value)
        for key, value in kept
        if value is not None or number[key] > 1 or chance.random() < 0.5
    ]


@dataclass(eq=False)
class Member:
    """One forecaster's hold on the log: a Log."""

    log: MemoryLog
    tenures: dict[Partition, int] = field(default_factory=dict)  # of the partitions we hold
    positions: dict[Partition, int] = field(default_factory=dict)

    def poll(self, _wait_s: float, records_max: int) -> PollResult:
        log = self.log
        owned = {p: log.tenures[p] for p, owner in log.owners.items() if owner is self}
        lost = {p for p, tenure in self.tenures.items() if owned.get(p) != tenure}
        gained = {p: log.offsets.get(p, 0) for p, t in owned.items() if self.tenures.get(p) != t}
        self.tenures = owned
        self.positions.update(gained)
        records: list[Record] = []
        quiet = log.chance.random() < log.faults.quiet
        for p in sorted(owned) if not quiet else ():
            number = min(records_max, log.chance.randint(0, log.faults.records_max))
            batch = log.input[p][self.positions[p] : self.positions[p] + number]
            self.positions[p] += len(batch)
            records += batch
        return PollResult(Ordered(lost), gained, records, log.partitions)

    def read_table(self, topic: str, number: int) -> Mapping[bytes, bytes]:
        if topic == MODELS:
            return latest((record.key, record.value) for record in self.log.models)
        assert topic == STATE
        self._restoring("reading pages")
        return latest(self.log.state[number])

    def widen(self, topics: Sequence[str], partitions: int) -> Mapping[str, int]:
        """All are as wide as the input."""
        return dict.fromkeys(topics, self.log.partitions)

    def poll_topic(self, topic: str, start: int | None) -> tuple[Sequence[Record], int]:
        assert topic == MODELS
        if start is None:
            return (), len(self.log.models)
        news = self.log.models[start:]
        if news:
            news = news[: self.log.chance.randint(0, len(news))]
        return news, start + len(news)

    def replay(self, partition: Partition, start: int, end: int) -> Iterator[Sequence[Record]]:
        at = start
        while at < end:
            self._restoring("reading again")
            size = self.log.chance.randint(1, 20)
            yield self.log.input[partition][at : min(at + size, end)]
            at += size

    def publish(self, messages: Sequence[Message], offsets: Mapping[Partition, int]) -> None:
        log = self.log
        if log.chance.random() < log.faults.sleep:
            log.asleep(self)
        log.reshuffle(log.faults.rebalance_mid_turn)
        if log.chance.random() < log.faults.crash_before_publish:
            raise Unavailable("never received")
        if any(log.owners[p] is not self or log.tenures[p] != self.tenures[p] for p in offsets):
            raise Fenced("the partition moved on")
        log.take(messages, offsets)
        if log.chance.random() < log.faults.crash_after_publish:
            raise Unavailable("committed, but the answer was lost")

    def close(self) -> None:
        pass

    def _restoring(self, what: str) -> None:
        self.log.reshuffle(self.log.faults.rebalance_in_restore)
        if self.log.chance.random() < self.log.faults.crash_in_restore:
            raise Unavailable(f"died while {what}")
