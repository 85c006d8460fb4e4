"""The rekeyer: each reading of the raw topics once, keyed by flow, in the order of its flow."""

from __future__ import annotations

import json
import time
from random import Random

import pytest

from streamer.config.schema import load
from streamer.core.types import PART, Kind, Message, Partition, Record
from streamer.core.wire import InputConfig, decode
from streamer.core.wire.settings import SourceConfig
from streamer.daemon.rekeyer import Rekeyer
from streamer.daemon.settings import TurnConfig
from streamer.log import Fenced
from streamer.log.partitioner import partition_of
from tests.log.contract import SqliteGround, published
from tests.simulation.memory import TOPIC, Faults, Member, MemoryLog

AT = 1_767_225_600
READINGS, REJECTS = "readings", "rejects"


class Lagging(Member):
    """A member that returns how much is left to read, as both logs do."""

    def poll(self, wait_s, records_max):
        found = super().poll(wait_s, records_max)
        lanes = self.log.input
        lag = {p: len(lanes[p]) - self.positions[p] for p in self.tenures}
        return found.__class__(
            found.revoked, found.assigned, found.records, found.partitions_total, lag
        )


class Watch:
    """Looks on."""

    def __init__(self):
        self.turns = []
        self.refusals = []

    def alive(self): ...

    def turned(self, turn):
        self.turns.append(turn)

    def unplaced(self, partitions, widths): ...

    def refused(self, error, pause_s):
        self.refusals.append(error)


def rekeyer(join, **settings):
    now = [0.0]

    def clock():
        now[0] += 0.01
        return now[0]

    return Rekeyer(
        join=join,
        config=settings.pop("config", InputConfig()),
        turn=settings.pop("turn", TurnConfig(records_max=50)),
        topic=settings.pop("topic", READINGS),
        rejects_topic=settings.pop("rejects", REJECTS),
        observer=settings.pop("watch", Watch()),
        clock=clock,
        pause=lambda _s: None,
    )


def reading(flow, n):
    return json.dumps({"flow": flow, "time": AT + n, "value": n}).encode()


def scattered(log, chance, number=300, flows=5):
    """Readings of flows in any partition, as a collector without a key writes them."""
    for n in range(number):
        lane = chance.randrange(log.partitions)
        log.append(lane, b"", reading(f"f{n % flows}", n), (AT + n) * 1000)
        if chance.random() < 0.05:
            log.append(lane, b"", b"no reading", (AT + n) * 1000)


def values_by_flow(messages):
    found: dict[str, list[int]] = {}
    for message in messages:
        each = json.loads(message.value)
        assert message.key == each["flow"].encode()
        found.setdefault(each["flow"], []).append(each["value"])
    return found


EXPECTED = {f"f{i}": list(range(i, 300, 5)) for i in range(5)}


@pytest.mark.parametrize("seed", range(20))
def test_each_reading_is_written_once_and_in_order(seed):
    """While the log fails, answers get lost and partitions are taken away and given back."""
    chance = Random(seed)
    faults = Faults(
        crash_before_publish=0.1, crash_after_publish=0.1, rebalance_mid_turn=0.05, quiet=0.2
    )
    log = MemoryLog(chance, faults, partitions=3)
    scattered(log, chance)
    members = []

    def join():
        member = Lagging(log)
        if members:
            log.succeed(members[-1], member)
        members.append(member)
        log.rebalance([member])
        return member

    watch = Watch()
    subject = rekeyer(join, watch=watch)
    turns = iter(range(5000))
    subject.run(lambda: log.drained or next(turns) == 4999)
    assert log.drained
    assert values_by_flow(log.published[READINGS]) == EXPECTED
    rejects = [message.value for message in log.published[REJECTS]]
    lanes = [r for lane in log.input.values() for r in lane if r.value == b"no reading"]
    assert len(rejects) == len(lanes)
    places = {(m.key, m.partition) for m in log.published[READINGS]}
    assert places == {(f.encode(), partition_of(f.encode(), 3)) for f in EXPECTED}


def test_two_rekeyers_share_the_partitions_and_write_each_reading_once():
    """Whatever the order between them."""
    chance = Random(5)
    log = MemoryLog(chance, Faults(rebalance_mid_turn=0.2, quiet=0.3), partitions=4)
    scattered(log, chance)
    members = [Lagging(log), Lagging(log)]
    log.rebalance(members)
    subjects = [rekeyer(lambda member=member: member) for member in members]
    for subject in subjects:
        subject.start()
    for n in range(3000):
        try:
            subjects[n % 2].turn()
        except Fenced:  # it joins again
            subjects[n % 2].forget()
            subjects[n % 2].start()
            members[n % 2].tenures.clear()
        log.reshuffle(0.02)
        if log.drained:
            break
    assert log.drained
    found = values_by_flow(log.published[READINGS])
    assert {flow: sorted(values) for flow, values in found.items()} == EXPECTED


def test_a_silent_partition_holds_the_others_back_for_a_limited_time():
    """It is behind, and its leader is away."""
    log = MemoryLog(Random(0), Faults(records_max=40), partitions=2)
    log.append(0, b"", reading("a", 0), AT * 1000)
    log.append(1, b"", reading("a", 1), AT * 1000 + 1)

    class Deaf(Lagging):
        def poll(self, wait_s, records_max):
            found = super().poll(wait_s, records_max)
            kept = [r for r in found.records if r.partition.number == 0]
            lag = {Partition(TOPIC, 0): 0, Partition(TOPIC, 1): 1}
            return found.__class__(found.revoked, found.assigned, kept, 2, lag)

    member = Deaf(log)
    log.rebalance([member])
    subject = rekeyer(lambda: member)
    subject.start()
    for _ in range(200):
        subject.turn()
    assert not log.published[READINGS]
    for _ in range(2000):
        subject.turn()
    assert values_by_flow(log.published[READINGS]) == {"a": [0]}


def test_a_reading_keeps_all_of_its_fields():
    """Kind, unit, bits, capacity, and that it is a part; the record's time; every bit of it."""
    log = MemoryLog(Random(0), Faults(), partitions=1)
    metric = {"name": "interface", "timestamp": AT, "tags": {"agent_host": "r", "ifName": "e"}}
    metric["fields"] = {"ifHCInOctets": 2**64 - 1, "ifHighSpeed": 10}
    record = {"type": "IPFIX", "sampler_address": "192.0.2.1", "bytes": 10, "in_if": 2}
    record |= {"time_received_ns": AT * 10**9, "sampling_rate": 7}
    gauge = {"flow": "g", "time": AT, "value": 1.5, "kind": "gauge", "unit": "B/s"}
    for each in (metric, record, gauge):
        log.append(0, b"", json.dumps(each).encode(), AT * 1000 + 5)
    member = Lagging(log)
    log.rebalance([member])
    subject = rekeyer(lambda: member)
    subject.start()
    for _ in range(100):
        subject.turn()
    sent = log.published[READINGS]
    assert {message.time_ms for message in sent} == {AT * 1000 + 5}
    config = InputConfig(format="reading", kind="delta", unit="x", counter_bits=32)
    again = [Record(Partition("r", 0), n, m.key, m.value, m.time_ms) for n, m in enumerate(sent)]
    first = decode(log.input[Partition(TOPIC, 0)], InputConfig()).readings
    second = decode(again, config).readings
    assert second.flow == first.flow == ["r/e/in", "192.0.2.1/2/in", "g"]
    assert second.bits.tolist()[:2] == first.bits.tolist()[:2] == [64, PART]
    for name in ("time", "value", "count", "kind", "capacity", "unit"):
        assert getattr(second, name).tolist() == getattr(first, name).tolist(), name
    assert first.kind.tolist() == [Kind.COUNTER, Kind.DELTA, Kind.GAUGE]


@pytest.mark.slow
def test_on_the_sqlite_log_sources_of_several_formats_become_one_topic(tmp_path):
    """Each source has its own settings; the offsets are the group's."""
    ground = SqliteGround(tmp_path / "log.db")
    raw, flat = ground.topic("raw", 2), ground.topic("flat")
    topic, rejects = ground.topic("readings", 3), ground.topic("rejects", 2)
    config = InputConfig(
        sources=(
            SourceConfig(topics=(raw,), kind="delta"),
            SourceConfig(topics=(flat,), format="graphite", collectd="rates"),
        )
    )
    for n in range(6):
        ground.feed(raw, [reading("f", n)], n % 2)
        time.sleep(0.002)  # of records of one millisecond, the partition decides
    ground.feed(flat, [b"edge1.interface-wan0.if_octets.rx 5 1795715945"])
    members = []

    def join():
        members.append(ground.member("a", config.read))
        return members[-1]

    watch = Watch()
    options = {"topic": topic, "rejects": rejects, "config": config, "watch": watch}
    subject = rekeyer(join, **options)
    subject.run(lambda: sum(turn.counts["readings"] for turn in watch.turns) >= 7)
    found = [json.loads(record.value) for record in published(ground.client, topic, 7)]
    assert {(each["flow"], each["kind"]) for each in found} == {
        ("f", "delta"),
        ("edge1/wan0/in", "gauge"),
    }
    assert [each["value"] for each in found if each["flow"] == "f"] == list(range(6))
    again = ground.join("b", *config.read)
    assert set(again.take_up(3).values()) == {3, 1}
    ground.close()


def test_forecasters_read_the_topic_of_the_rekeyer():
    """As readings, whatever the raw topics are; a rekeyer needs the topic's name."""
    more = ["input.rekeyed=keyed", "input.format=influx", "input.topics=[raw]"]
    config = load(None, more)
    assert config.readings_input.read == ("keyed",)
    assert config.engine.input.format == "reading"
    assert config.input.read == ("raw",)
    assert load().readings_input == load().input


def test_a_message_has_the_flow_as_its_key_even_with_half_a_surrogate():
    from streamer.core.wire.parsed import Reading  # noqa: PLC0415 - for this test alone
    from streamer.core.wire.rekeyed import encoded  # noqa: PLC0415 - likewise

    assert json.loads(encoded(Reading("a\ud800", 1.0, 5)))["flow"] == "a?"


def test_messages_of_feeders_are_unchanged():
    """One reading a record; the time is that of the record, or none."""
    found = decode([Record(Partition("t", 0), 0, None, reading("f", 3), -1)], InputConfig())
    from streamer.core.wire.rekeyed import messages  # noqa: PLC0415 - for this test alone

    [message] = messages(found, [-1], "k", lambda _flow: 4)
    assert message[:3] == ("k", 4, b"f")
    assert message.time_ms is None
    assert isinstance(message, Message)
