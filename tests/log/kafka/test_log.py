"""What Kafka alone can do to us: open transactions, compaction, retention, static members."""

from __future__ import annotations

import contextlib
import gc
import os
import time
import uuid
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import confluent_kafka
import pytest
import structlog
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.errors import TopicAlreadyExistsError

from streamer.config.types import Duration
from streamer.core.types import Message, Partition
from streamer.log import Fenced, InstanceReplaced, LogError, TooLarge, Unavailable
from streamer.log.kafka import consumer, settings
from streamer.log.kafka.client import KafkaClient
from streamer.log.kafka.log import KafkaLog, KafkaSettings
from tests.log.contract import (
    PATIENCE_S,
    KafkaGround,
    Member,
    next_offsets,
    numbers,
    published,
    values,
)


@pytest.fixture
def ground(bootstrap) -> Iterator[KafkaGround]:
    made = KafkaGround(bootstrap)
    yield made
    made.close()


@pytest.fixture
def admin(bootstrap) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=bootstrap)
    yield client
    client.close()


@pytest.fixture
def stranger(bootstrap) -> Iterator[KafkaProducer]:
    """A transaction of another producer, started and not ended."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=uuid.uuid4().hex)
    producer.init_transactions()
    producer.begin_transaction()
    yield producer
    producer.close(timeout=1)


def make(admin: KafkaAdminClient, topic: str, **configs: object) -> str:
    """A topic with settings that `TopicConfig` doesn't know; underscores stand for dots."""
    named = {key.replace("_", "."): str(value) for key, value in configs.items()}
    admin.create_topics({topic: {"num_partitions": 1, "configs": named}}, wait_for_metadata=True)
    return topic


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_table_waits_for_a_transaction_that_was_open(ground, stranger, ends_well):
    """It holds what was committed, nothing that was aborted, and all that lay behind it."""
    state = ground.topic("state", compact=True)
    stranger.send(state, b"open", b"k").get(timeout=10)
    ground.feed(state, [b"behind"])
    with ThreadPoolExecutor(1) as pool:
        table = pool.submit(ground.client.read_table, state, 0)
        time.sleep(1)
        assert not table.done()
        stranger.commit_transaction() if ends_well else stranger.abort_transaction()
        expected = {b"key": b"behind"} | ({b"k": b"open"} if ends_well else {})
        assert table.result(timeout=10) == expected


def test_a_table_does_not_wait_for_what_began_after_the_question(ground, stranger):
    """Its end is that of the moment when it was asked for."""
    state = ground.topic("state", compact=True)
    ground.feed(state, [b"before"])
    stranger.send(state, b"open", b"k").get(timeout=10)
    with pytest.MonkeyPatch.context() as patch:
        end = ground.client._topics.end
        patch.setattr(ground.client._topics, "end", lambda place: end(place) - 1)
        assert ground.client.read_table(state, 0) == {b"key": b"before"}


def test_a_table_behind_a_transaction_that_never_ends_is_unavailable(bootstrap, ground, stranger):
    """After the transaction timeout, and a little more."""
    state = ground.topic("state", compact=True)
    stranger.send(state, b"open", b"k").get(timeout=10)
    client = KafkaClient(bootstrap, KafkaSettings(transaction_timeout=Duration(1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consumer, "MARGIN_S", 1.0)
        with pytest.raises(Unavailable, match="stays open"):
            client.read_table(state, 0)
    client.close()


def test_what_a_dead_daemon_left_open_is_aborted_by_the_next_of_its_name(ground):
    """Soon, and not when its time has run out."""
    topic, state = ground.topic("input"), ground.topic("state", compact=True)
    dead = ground.join("a", topic)
    dead.take_up(1)
    producer = dead.log._transactions._producer
    producer.begin_transaction()
    producer.send(state, b"half", b"page").get(timeout=10)
    began = time.monotonic()
    back = ground.join("a", topic)
    back.take_up(1)
    assert back.read_table(state, 0) == {}
    assert time.monotonic() - began < 5


def test_a_table_that_was_compacted_is_read_to_the_end(ground, admin):
    """Positions jump over the holes."""
    state = make(
        admin,
        f"state-{ground.suffix}",
        cleanup_policy="compact",
        segment_ms=100,
        min_cleanable_dirty_ratio=0.01,
        delete_retention_ms=0,
    )
    pages = [Message(state, 0, b"page/%d" % n, b"x" * 1000) for n in range(50)]
    for _ in range(6):
        ground.client.send([*pages, Message(state, 0, b"deleted", b"x")])
        ground.client.send([Message(state, 0, b"deleted", None)])
        ground.client.flush()
        time.sleep(0.5)
    assert len(published(ground.client, state, 0)) < 6 * 52
    assert ground.client.read_table(state, 0) == {message.key: message.value for message in pages}


class Compacted:
    """A client to which all is answered in order, and whose last offsets hold nothing any more."""

    def __init__(self, stable: int) -> None:
        self.stable = stable
        self.polls_after = 0

    def beginning_offsets(self, places, timeout_ms):
        return dict.fromkeys(places, 0)

    def end_offsets(self, places, timeout_ms):
        return dict.fromkeys(places, self.stable)

    def assignment(self):
        return {TopicPartition("t", 0)}

    def position(self, place):
        return 7

    def seek(self, place, offset):
        assert offset == 0

    def poll(self, timeout_ms, max_records):
        self.polls_after += self.stable >= 10
        self.stable += 1
        return {}


def test_a_table_whose_end_was_compacted_away_ends(monkeypatch):
    """Once what was asked after the last open transaction has been answered with nothing."""
    reader = consumer.Reader("nowhere:1", KafkaSettings(), "test", topics=None)
    reader._opened = Compacted(stable=8)
    assert list(reader._between(Partition("t", 0), 0, 10)) == []
    assert reader._opened.polls_after == 2


def test_a_restart_within_the_session_moves_no_partition(ground):
    """A static member that returns has its partitions again, without a rebalance of others."""
    topic = ground.topic("input", 4)
    other, first = ground.join("b", topic), ground.join("a", topic)
    first.take_up(2, other)
    for _ in range(5):
        other.poll()
        first.poll()
    before = first.log._member.generation_id
    other.revoked.clear()
    first.close()
    again = ground.join("a", topic)
    assert again.take_up(2, other).keys() == first.held.keys()
    assert again.log._member.generation_id == before
    assert other.revoked == []


def test_what_a_turn_had_in_hand_goes_when_it_is_over(ground):
    """However its waits have ended; the collector of cycles comes by much later."""
    topic = ground.topic("input")
    member = ground.join("a", topic)
    member.take_up(1)
    _, start = member.poll_topic(topic, None)

    def turn() -> weakref.ref[set[int]]:
        in_hand: set[int] = set()
        member.poll(0.0)
        member.poll_topic(topic, start)
        return weakref.ref(in_hand)

    gc.collect()
    gc.disable()
    try:
        assert [turn()() for _ in range(5)] == [None] * 5
    finally:
        gc.enable()


def test_of_two_members_that_join_at_once_under_one_name_one_is_replaced(ground):
    """Neither has been known by it before: each takes it from the other once at the most."""
    topic, output = ground.topic("input"), ground.topic("output")
    replaced: list[Member] = []

    def turn(member: Member) -> None:
        """As a daemon does, until the other was replaced and this one has published."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                member.poll()
                if member.held:
                    member.publish([Message(output, 0, b"key", b"turn")], {})
                    if replaced:
                        return
            except InstanceReplaced:
                replaced.append(member)
                return
            except Fenced:
                member.close()
                member = ground.join("a", topic)
        raise AssertionError("neither was replaced, or the other cannot publish")

    both = [ground.join("a", topic) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(turn, member) for member in both]:
            done.result()
    assert len(replaced) == 1


def test_an_idle_member_also_detects_that_its_instance_id_was_taken(ground, monkeypatch):
    """The group reports it to a client that does not raise it."""
    monkeypatch.setattr(consumer, "SILENCE_MAX_S", 0.5)
    topic = ground.topic("input")
    older = ground.join("a", topic)
    older.take_up(1)
    ground.join("a", topic).take_up(1)
    with pytest.raises(InstanceReplaced):
        older.poll_until(lambda: False)


def test_a_member_that_is_not_static_leaves_the_group(bootstrap, ground):
    """Its partitions are taken over at once, and not when its session has run out."""
    topic = ground.topic("input")
    settings = KafkaSettings(static_membership=False, session_timeout=Duration(30))
    logs = [
        KafkaLog(bootstrap, settings, group=ground.group, instance=name, topics=[topic])
        for name in ("a", "b")
    ]
    first, second = Member(logs[0]), Member(logs[1])
    first.take_up(1)
    first.close()
    began = time.monotonic()
    second.take_up(1)
    assert time.monotonic() - began < 8
    second.close()


def test_a_record_of_twenty_megabytes_comes_in(bootstrap, ground, admin):
    """However little a fetch is to bring, it is never stuck behind a large record."""
    topic = make(admin, f"input-{ground.suffix}", max_message_bytes=25 << 20)
    feeder = KafkaClient(bootstrap, KafkaSettings(message_bytes_max=25 << 20, compression="none"))
    feeder.send([Message(topic, 0, b"k", bytes(20_000_000)), Message(topic, 0, b"k", b"next")])
    feeder.flush()
    feeder.close()
    settings = KafkaSettings(fetch_bytes=65536, fetch_bytes_max=65536)
    log = Member(KafkaLog(bootstrap, settings, group=ground.group, instance="a", topics=[topic]))
    assert [len(record.value) for record in log.read(2)] == [20_000_000, 4]
    log.close()


def test_a_turn_with_one_refused_record_is_not_published(ground, admin):
    """The client itself would commit what is left of it, and the offsets with it."""
    topic = ground.topic("input")
    output = make(admin, f"output-{ground.suffix}", max_message_bytes=2000)
    ground.feed(topic, numbers(3))
    log = ground.join("a", topic)
    offsets = next_offsets(log.read(3))
    turn = [Message(output, 0, b"k", b"small"), Message(output, 0, b"k", os.urandom(8000))]
    with pytest.raises(TooLarge):
        log.publish(turn, offsets)
    assert published(ground.client, output, 0) == []
    assert ground.join("a", topic).take_up(1) == {Partition(topic, 0): 0}


def test_a_turn_whose_record_is_larger_than_we_may_send_is_refused(ground):
    """The error has its size, and nothing is published."""
    topic, output = ground.topic("input"), ground.topic("output")
    log = ground.join("a", topic)
    log.take_up(1)
    with pytest.raises(TooLarge, match="2000"):
        log.publish(
            [Message(output, 0, b"k", b"v"), Message(output, 0, b"k", bytes(2_000_000))], {}
        )
    assert published(ground.client, output, 0) == []


def test_another_client_reads_what_we_wrote(bootstrap, ground):
    """librdkafka, which reads committed records only, sees each once."""
    topic, output = ground.topic("input"), ground.topic("output", 3)
    log = ground.join("a", topic)
    log.take_up(1)
    sent = {(n % 3, b"k%d" % n, b"v%d" % n, (("h", b"%d" % n),)) for n in range(300)}
    log.publish([Message(output, *each) for each in sorted(sent)], {})
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"check-{ground.suffix}",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([output])
    found = []
    while len(found) < 300:
        [message] = consumer.consume(1, timeout=20)
        headers = tuple(message.headers())
        found.append((message.partition(), message.key(), message.value(), headers))
    consumer.close()
    assert len(found) == 300
    assert set(found) == sent


def test_a_follower_that_retention_overtakes_goes_on_and_logs_it(ground, admin):
    """The oldest record that the log keeps comes next."""
    topic = ground.topic("output")
    ground.feed(topic, [b"%d" % n for n in range(5)])
    batches = ground.client.follow([topic], from_start=True, wait_s=0.2)
    place = TopicPartition(topic, 0)
    admin.delete_records({place: 3})
    with structlog.testing.capture_logs() as events:
        found = [record for batch in islice(batches, 8) for record in batch]
    batches.close()
    assert [record.value for record in found] == [b"3", b"4"]
    assert [(e["event"], e["start"], e["end"], e["records"]) for e in events] == [
        ("input.offset_out_of_range", 0, 3, 3)
    ]


OTHER_ID = "f" * 32


def test_an_input_that_was_recreated_is_read_from_its_start(ground):
    """Though it has more records than the offset that was committed of the old one."""
    topic = ground.topic("input")
    ground.feed(topic, numbers(3))
    log = ground.join("a", topic)
    offsets = next_offsets(log.read(3))
    log.log._share._ids[Partition(topic, 0)] = OTHER_ID  # it was another topic of that name
    log.publish([], offsets)
    ground.feed(topic, numbers(4))
    with pytest.raises(Unavailable, match="created again"):
        log.poll()
    log.close()
    with structlog.testing.capture_logs() as events:
        again = ground.join("a", topic)
        assert again.take_up(1) == {Partition(topic, 0): 0}
    (event,) = [event for event in events if event["event"] == "input.recreated"]
    assert (event["committed"], event["start"]) == (3, 0)
    again.publish([], next_offsets(again.read(7)))
    again.close()
    assert ground.join("a", topic).take_up(1) == {Partition(topic, 0): 7}


def test_an_input_that_is_recreated_under_a_member_is_noticed(ground, admin, monkeypatch):
    """By its id, as the new one may have more records than were read of the old one."""
    monkeypatch.setattr(settings, "METADATA_AGE_MAX_MS", 500)
    topic = ground.topic("input")
    ground.feed(topic, numbers(3))
    log = ground.join("a", topic)
    log.publish([], next_offsets(log.read(3)))
    admin.delete_topics([topic])
    time.sleep(1)
    with contextlib.suppress(TopicAlreadyExistsError):  # a broker may create it by itself
        make(admin, topic)
    ground.client.close()
    ground.feed(topic, numbers(8))
    with pytest.raises(LogError):
        log.poll_until(lambda: False)
    log.close()
    again = ground.join("a", topic)
    assert values(again.read(8)) == numbers(8)
