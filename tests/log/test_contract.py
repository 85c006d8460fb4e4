"""What any log must do: each claim is held against the SQLite log and against Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

import pytest
import structlog

from streamer.core.types import Message, Partition
from streamer.log import (
    Fenced,
    InstanceReplaced,
    LogError,
    PartitionMissing,
    TopicConfig,
    TopicMissing,
)
from streamer.log.kafka import consumer, settings
from streamer.log.partitioner import partition_of
from streamer.log.sqlite import log as sqlite_log
from tests.log.contract import (
    Ground,
    KafkaGround,
    SqliteGround,
    news_of,
    next_offsets,
    numbers,
    published,
    values,
)


@pytest.fixture(params=["sqlite", "kafka"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    made: Ground
    if request.param == "kafka":
        made = KafkaGround(request.getfixturevalue("bootstrap"))
    else:
        made = SqliteGround(request.getfixturevalue("tmp_path") / "log.db")
    yield made
    made.close()


def test_a_record_comes_as_it_was_sent(ground):
    """Key, value, headers and time survive, and nothing stays nothing."""
    topic = ground.topic("input")
    now_ms = round(time.time() * 1000)  # a log forgets what is old by its own time
    sent = [
        Message(topic, 0, b"key", b"value", (("a", b"1"), ("a", b"")), now_ms - 3),
        Message(topic, 0, None, b"no key", time_ms=now_ms - 4),
        Message(topic, 0, b"no value", None, time_ms=now_ms - 5),
        Message(topic, 0, None, None, (("neither", b"x"),), now_ms - 6),
        Message(topic, 0, b"", b"", time_ms=now_ms - 7),
    ]
    ground.client.send(sent)
    ground.client.flush()
    came = ground.join("a", topic).read(len(sent))
    assert [
        Message(r.partition.topic, r.partition.number, r.key, r.value, r.headers, r.time_ms)
        for r in came
    ] == sent
    assert [record.offset for record in came] == [0, 1, 2, 3, 4]


def test_a_record_without_a_time_gets_the_time_of_sending(ground):
    """To within a few seconds of this machine's clock."""
    topic = ground.topic("input")
    ground.feed(topic, [b"now"])
    [record] = ground.join("a", topic).read(1)
    assert abs(record.time_ms / 1000 - time.time()) < 30


def test_a_key_chooses_the_same_partition_on_any_log(ground):
    """The one that Kafka's other clients choose."""
    topic = ground.topic("input", 5)
    keys = [b"edge%d/xe-0/0/%d/in" % (n, n) for n in range(40)]
    ground.client.send([Message(topic, None, key, b"x") for key in keys])
    ground.client.flush()
    came = ground.join("a", topic).read(len(keys))
    assert {r.key: r.partition.number for r in came} == {key: partition_of(key, 5) for key in keys}


def test_records_come_in_the_order_of_their_partition_and_no_more_than_asked(ground):
    """Also where a poll can't take them all."""
    topic = ground.topic("input", 2)
    for number in (0, 1):
        ground.feed(topic, numbers(100), number)
    log = ground.join("a", topic)
    while len(log.unread) < 200:
        assert len(log.poll(records_max=7).records) <= 7
    for number in (0, 1):
        lane = [r for r in log.unread if r.partition.number == number]
        assert values(lane) == numbers(100)
        assert [r.offset for r in lane] == list(range(100))


def test_an_assignment_precedes_its_records(ground):
    """And of how many there are in all."""
    topic = ground.topic("input", 3)
    ground.feed(topic, [b"x"], 2)
    log = ground.join("a", topic)
    [record] = log.read(1)
    assert log.held == {Partition(topic, n): 0 for n in range(3)}
    assert record.partition == Partition(topic, 2)
    assert log.poll().partitions_total == 3


def test_what_is_published_is_taken_as_read(ground):
    """The next membership goes on behind it, whatever its name."""
    topic, output = ground.topic("input", 2), ground.topic("output")
    ground.feed(topic, numbers(10), 0)
    first = ground.join("a", topic)
    first.read(10)
    first.publish([Message(output, 0, b"k", b"result")], {Partition(topic, 0): 7})
    first.close()
    second = ground.join("b", topic)
    assert second.take_up(2) == {Partition(topic, 0): 7, Partition(topic, 1): 0}
    assert values(second.read(3)) == numbers(10)[7:]
    assert values(published(ground.client, output, 1)) == [b"result"]


def test_what_was_not_published_comes_again_after_a_crash(ground):
    """A daemon that died did not leave; its successor by name takes its place at once."""
    topic, output = ground.topic("input"), ground.topic("output")
    ground.feed(topic, numbers(10))
    died = ground.join("a", topic)
    batch = died.read(10)
    died.publish([Message(output, 0, b"k", b"result")], next_offsets(batch[:4]))
    back = ground.join("a", topic)
    assert back.take_up(1) == {Partition(topic, 0): 4}
    assert values(back.read(6)) == numbers(10)[4:]


def test_of_two_with_one_name_the_younger_fences_the_older(ground):
    """Later messages of the older one leave no trace."""
    topic, output = ground.topic("input"), ground.topic("output")
    ground.feed(topic, numbers(3))
    older = ground.join("a", topic)
    batch = older.read(3)
    younger = ground.join("a", topic)
    with pytest.raises(Fenced):
        older.publish([Message(output, 0, b"k", b"old")], next_offsets(batch))
    assert younger.take_up(1) == {Partition(topic, 0): 0}
    younger.publish([Message(output, 0, b"k", b"new")], next_offsets(younger.read(3)))
    assert values(published(ground.client, output, 1)) == [b"new"]


def test_the_older_of_two_with_one_name_is_fenced(ground):
    """Or it would join again, and fence the younger one in turn."""
    topic, output = ground.topic("input"), ground.topic("output")
    ground.feed(topic, numbers(3))
    older = ground.join("a", topic)
    batch = older.read(3)
    younger = ground.join("a", topic)
    younger.take_up(1)
    with pytest.raises(InstanceReplaced):
        older.publish([Message(output, 0, b"k", b"old")], next_offsets(batch))


def test_two_members_share_the_partitions(ground):
    """What one gives up the other takes over, from the offset that was published."""
    topic = ground.topic("input", 4)
    for number in range(4):
        ground.feed(topic, numbers(5), number)
    first = ground.join("a", topic)
    batch = first.read(20)
    first.publish([], next_offsets(batch))
    second = ground.join("b", topic)
    came = second.take_up(2, first)
    assert came == dict.fromkeys(first.revoked, 5)
    with pytest.raises(Fenced):
        first.publish([], dict.fromkeys(first.revoked, 6))


def test_a_member_too_many_waits(ground):
    """It holds nothing, receives the partition count, and takes over when another leaves."""
    topic = ground.topic("input")
    first, second = ground.join("a", topic), ground.join("b", topic)
    first.take_up(1)
    second.poll(0.5)
    assert second.held == {}
    first.close()
    assert second.take_up(1) == {Partition(topic, 0): 0}


@pytest.mark.slow
def test_a_member_given_up_for_dead_cannot_publish(ground):
    """It may not have noticed: neither its messages nor its offsets count."""
    topic, output = ground.topic("input"), ground.topic("output")
    ground.feed(topic, numbers(3))
    stale = ground.join("a", topic)
    batch = stale.read(3)
    ground.silence(stale)
    other = ground.join("b", topic)
    other.take_up(1)
    with pytest.raises(Fenced) as refusal:
        stale.publish([Message(output, 0, b"k", b"stale")], next_offsets(batch))
    assert not isinstance(refusal.value, InstanceReplaced)  # its name is free: it may come back
    other.publish([Message(output, 0, b"k", b"fresh")], next_offsets(other.read(3)))
    assert values(published(ground.client, output, 1)) == [b"fresh"]


def test_a_member_given_up_for_dead_cannot_publish_even_without_offsets(ground):
    """Pages alone would spoil what the new holder of the partition has written."""
    topic, state = ground.topic("input"), ground.topic("state", compact=True)
    stale = ground.join("a", topic)
    stale.take_up(1)
    ground.silence(stale)
    other = ground.join("b", topic)
    other.take_up(1)
    with pytest.raises(Fenced):
        stale.publish([Message(state, 0, b"page", b"stale")], {})
    assert other.read_table(state, 0) == {}


@pytest.mark.slow
def test_what_went_away_and_came_back_is_both_lost_and_gained(ground):
    """A member that was removed and joined again may have missed writes in between."""
    topic = ground.topic("input")
    ground.feed(topic, numbers(5))
    log = ground.join("a", topic)
    log.publish([], next_offsets(log.read(5)[:2]))
    ground.silence(log)
    time.sleep(ground.session_s + 1.5)
    other = ground.join("b", topic)
    other.take_up(1)
    ground.revive(log)
    log.poll_until(lambda: log.revoked == [Partition(topic, 0)], other)
    other.close()
    assert log.take_up(1) == {Partition(topic, 0): 2}
    assert values(log.read(3)) == numbers(5)[2:]


def test_a_turn_for_a_foreign_partition_leaves_no_trace(ground):
    """Nothing of it is published, neither messages nor the offsets of its own partitions."""
    topic, output = ground.topic("input"), ground.topic("output")
    ground.feed(topic, numbers(3))
    log = ground.join("a", topic)
    offsets = next_offsets(log.read(3))
    with pytest.raises(Fenced):
        log.publish([Message(output, 0, b"k", b"v")], offsets | {Partition(output, 0): 1})
    log.close()
    assert ground.join("a", topic).take_up(1) == {Partition(topic, 0): 0}
    assert published(ground.client, output, 0) == []


def test_a_turn_is_published_atomically(ground):
    """Messages of many topics and partitions, in order, and at once."""
    topic = ground.topic("input")
    outputs = [ground.topic("output", 2), ground.topic("rejects")]
    ground.feed(topic, [b"x"])
    log = ground.join("a", topic)
    offsets = next_offsets(log.read(1))
    lanes = [(outputs[0], 0), (outputs[0], 1), (outputs[1], 0)]
    turn = [Message(name, n, b"k", value) for value in numbers(500) for name, n in lanes]
    log.publish(turn, offsets)
    for name, lanes_count in zip(outputs, (2, 1), strict=True):
        found = published(ground.client, name, 500 * lanes_count)
        for number in range(lanes_count):
            assert values([r for r in found if r.partition.number == number]) == numbers(500)


def test_a_turn_that_cannot_be_encoded_is_not_published(ground):
    """Messages may be generated lazily; if that fails, none of them is published."""
    topic, output = ground.topic("input"), ground.topic("output")
    ground.feed(topic, numbers(3))
    log = ground.join("a", topic)
    offsets = next_offsets(log.read(3))

    def written():
        yield Message(output, 0, b"k", b"first")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        log.publish(written(), offsets)
    log.close()
    again = ground.join("a", topic)
    assert values(again.read(3)) == numbers(3)
    again.publish(iter([Message(output, 0, b"k", b"complete")]), offsets)
    assert values(published(ground.client, output, 1)) == [b"complete"]


def test_a_table_holds_the_last_value_of_each_key(ground):
    """Of its own partition only; what was deleted is not in it."""
    topic, state = ground.topic("input"), ground.topic("state", 2, compact=True)
    log = ground.join("a", topic)
    log.take_up(1)
    log.publish([Message(state, 0, b"a", b"1"), Message(state, 0, b"b", b"1")], {})
    log.publish([Message(state, 0, b"a", b"2"), Message(state, 1, b"c", b"3")], {})
    log.publish([Message(state, 0, b"b", None)], {})
    assert log.read_table(state, 0) == {b"a": b"2"}
    assert log.read_table(state, 1) == ground.client.read_table(state, 1) == {b"c": b"3"}


def test_a_large_page_is_written_and_read(ground):
    """Close to the megabyte that a broker allows by default."""
    topic, state = ground.topic("input"), ground.topic("state", compact=True)
    log = ground.join("a", topic)
    log.take_up(1)
    pages = {b"page/%d" % n: bytes([n]) * 900_000 for n in range(5)}
    log.publish([Message(state, 0, key, value) for key, value in pages.items()], {})
    assert log.read_table(state, 0) == pages


def test_new_records_of_a_topic_are_polled_in_order(ground):
    """From the end as it was on, each once, whatever was polled or read in between."""
    topic, models = ground.topic("input"), ground.topic("models", compact=True)
    ground.feed(models, [b"before"])
    log = ground.join("a", topic)
    log.take_up(1)
    records, at = log.poll_topic(models, None)
    assert records == ()
    assert log.read_table(models, 0) == {b"key": b"before"}
    ground.feed(models, numbers(5))
    records, at = news_of(log, models, at, 5)
    assert values(records) == numbers(5)
    log.read_table(models, 0)
    ground.feed(models, [b"large" * 150_000, b"after"])
    records, at = news_of(log, models, at, 2)
    assert values(records) == [b"large" * 150_000, b"after"]
    assert log.poll_topic(models, at)[0] in ((), [])
    records, _ = news_of(log, models, at - 1, 1)
    assert values(records) == [b"after"]


def test_news_that_were_never_committed_are_none(ground):
    """Messages of a member without the partition leave no trace here either."""
    topic, models = ground.topic("input"), ground.topic("models", compact=True)
    ground.feed(topic, numbers(1))
    log, other = ground.join("a", topic), ground.join("b", ground.topic("other"))
    log.take_up(1)
    _, at = other.poll_topic(models, None)
    with pytest.raises(Fenced):
        log.publish([Message(models, 0, b"k", b"half")], {Partition(models, 0): 1})
    ground.feed(models, [b"complete"])
    records, _ = news_of(other, models, at, 1)
    assert values(records) == [b"complete"]


@pytest.mark.parametrize(("start", "end"), [(0, 10), (3, 7), (3, 3), (9, 10)])
def test_a_replay_is_what_lies_from_start_to_before_end(ground, start, end):
    """And it moves nothing: the next poll goes on where it would have."""
    topic = ground.topic("input")
    ground.feed(topic, numbers(10))
    log = ground.join("a", topic)
    log.read(10)
    batches = log.replay(Partition(topic, 0), start, end)
    assert [r.offset for batch in batches for r in batch] == list(range(start, end))
    ground.feed(topic, [b"next"])
    assert values(log.read(1)) == [b"next"]


def test_two_replays_may_take_turns(ground):
    """Each goes on where it was, though the other has read in between."""
    topic = ground.topic("input", 2)
    for number in (0, 1):
        ground.feed(topic, numbers(10), number)
    log = ground.join("a", topic)
    log.take_up(2)
    one = log.replay(Partition(topic, 0), 0, 10)
    first = next(one)
    other = [r for batch in log.replay(Partition(topic, 1), 0, 10) for r in batch]
    rest = [r for batch in one for r in batch]
    assert values([*first, *rest]) == values(other) == numbers(10)


def test_reading_may_start_at_the_end(ground):
    """Where the group has read nothing yet."""
    topic = ground.topic("input")
    ground.feed(topic, numbers(3))
    log = ground.join("a", topic, start="latest")
    assert log.take_up(1) == {Partition(topic, 0): 3}
    ground.feed(topic, [b"new"])
    assert values(log.read(1)) == [b"new"]


def lost_of(events, topic):
    lost = [event for event in events if event["event"] == "input.offset_out_of_range"]
    assert {event["topic"] for event in lost} <= {topic}
    return [(e["partition"], e["start"], e["end"], e["records"]) for e in lost]


def test_what_is_deleted_between_two_memberships_is_logged_and_counted(ground):
    """Reading goes on with the oldest record that is kept, and what was unread is lost."""
    topic = ground.topic("input")
    ground.feed(topic, numbers(6))
    first = ground.join("a", topic)
    first.publish([], next_offsets(first.read(6)[:2]))
    first.close()
    ground.drop(topic)
    ground.feed(topic, numbers(4))
    with structlog.testing.capture_logs() as events:
        log = ground.join("a", topic)
        assert log.take_up(1) == {Partition(topic, 0): 6}
        assert values(log.read(4)) == numbers(4)
    assert lost_of(events, topic) == [(0, 2, 6, 4)]
    assert log.missed == 4


def test_what_is_deleted_under_a_reader_is_logged_and_counted(ground):
    """As where retention is faster than a member that lags."""
    topic = ground.topic("input")
    ground.feed(topic, numbers(6))
    log = ground.join("a", topic)
    log.read(6)
    ground.drop(topic)
    ground.feed(topic, numbers(4))
    ground.rewind(log, topic)
    with structlog.testing.capture_logs() as events:
        assert values(log.read(4)) == numbers(4)
        log.poll()
    assert lost_of(events, topic) == [(0, 0, 6, 6)]
    assert log.missed == 6


def test_a_log_that_lost_nothing_reports_nothing(ground):
    """Neither of a new topic, nor of records that were read before they were deleted."""
    topic = ground.topic("input")
    with structlog.testing.capture_logs() as events:
        ground.feed(topic, numbers(6))
        log = ground.join("a", topic)
        log.publish([], next_offsets(log.read(6)))
        ground.drop(topic)
        ground.feed(topic, numbers(4))
        assert values(log.read(4)) == numbers(4)
        log.close()
    assert lost_of(events, topic) == []
    assert log.missed == 0


def test_a_pattern_takes_in_all_topics_that_match_from_their_beginning(ground):
    """The list of topics counts for nothing then."""
    chosen, left_out = ground.topic("traffic.a", 2), ground.topic("other")
    log = ground.join("a", left_out, pattern=rf"traffic\..*-{ground.suffix}")
    assert log.take_up(2) == {Partition(chosen, 0): 0, Partition(chosen, 1): 0}


def test_a_follower_from_the_end_sees_what_comes_later(ground):
    """And an empty batch when nothing came for a while."""
    topic = ground.topic("output")
    ground.feed(topic, [b"before"])
    batches = ground.client.follow([topic], from_start=False, wait_s=0.2)
    assert list(next(batches)) == []
    ground.feed(topic, [b"after"])
    assert values([r for batch in (next(batches), next(batches)) for r in batch]) == [b"after"]
    batches.close()


def test_a_follower_since_a_time_begins_there(ground):
    """With the first record that is not older, in each partition; at the end where all are."""
    topic = ground.topic("output", 2)
    first_ms = round(time.time() * 1000) - 60_000  # older ones would be deleted at any time
    ground.client.send(
        [
            Message(topic, number, b"k", b"%d" % n, time_ms=first_ms + 1000 * n)
            for number, count in ((0, 3), (1, 6))
            for n in range(count)
        ]
    )
    ground.client.flush()
    batches = ground.client.follow([topic], from_start=False, wait_s=0.3, since_ms=first_ms + 3500)
    found = [record for batch in islice(batches, 4) for record in batch]
    batches.close()
    assert values(found) == [b"4", b"5"]


@pytest.mark.slow
def test_a_follower_begins_with_the_newest_records(ground):
    """So many of each partition, or all where there are fewer, and then those that come."""
    topic = ground.topic("output", 2)
    ground.feed(topic, numbers(2), 0)
    ground.feed(topic, numbers(9), 1)
    batches = ground.client.follow([topic], from_start=True, wait_s=0.3, newest=3)
    found = [record for batch in islice(batches, 4) for record in batch]
    assert sorted(values(found)) == sorted([*numbers(2), *numbers(9)[-3:]])
    ground.feed(topic, [b"after"])
    found = [record for batch in islice(batches, 3) for record in batch]
    assert values(found) == [b"after"]
    batches.close()


def test_a_topics_ends_are_past_what_can_be_read(ground):
    """Of each partition, whether it holds anything or not."""
    topic = ground.topic("input", 2)
    ground.feed(topic, numbers(7), 1)
    assert ground.client.ends([topic]) == {Partition(topic, 0): 0, Partition(topic, 1): 7}


def test_topics_are_made_as_asked_and_left_as_they_are(ground):
    """A topic that exists keeps its shape, whatever is asked for."""
    kept = f"kept-{ground.suffix}"
    ground.client.create(kept, TopicConfig(3, compact=False, retention_s=3600))
    ground.client.create(kept, TopicConfig(1, compact=True))
    table = ground.topic("table", 2, compact=True)
    found = ground.client.topics()
    assert found[kept] == TopicConfig(3, compact=False, retention_s=3600)
    assert (found[table].partitions, found[table].compact) == (2, True)


def test_a_topic_that_is_missing_is_named(ground):
    """For any operation, and no operation creates it."""
    topic, missing = ground.topic("input"), f"missing-{ground.suffix}"
    log = ground.join("a", topic)
    log.take_up(1)
    with pytest.raises(TopicMissing, match=missing):
        ground.join("b", missing).read(1)
    wants = [
        lambda: log.publish([Message(missing, 0, b"k", b"v")], {}),
        lambda: log.read_table(missing, 0),
        lambda: log.poll_topic(missing, None),
        lambda: ground.client.read_table(missing, 0),
        lambda: next(ground.client.follow([missing], from_start=True)),
        lambda: (ground.client.send([Message(missing, 0, b"k", b"v")]), ground.client.flush()),
    ]
    for want in wants:
        with pytest.raises(TopicMissing) as caught:
            want()
        assert caught.value.topics == (missing,)
    assert missing not in ground.client.topics()


def test_a_partition_that_is_missing_is_refused(ground):
    """It is a LogError, and not a missing topic, which could be created."""
    topic = ground.topic("input", 2)
    log = ground.join("a", topic)
    log.take_up(2)
    with pytest.raises(LogError):
        log.read_table(topic, 2)
    with pytest.raises(LogError):
        log.publish([Message(topic, 2, b"k", b"v")], {})


def test_to_close_is_quick_and_may_be_repeated(ground):
    """Also after the log has refused."""
    topic, foreign = ground.topic("input"), ground.topic("foreign")
    log = ground.join("a", topic)
    log.take_up(1)
    with pytest.raises(Fenced):
        log.publish([], {Partition(foreign, 0): 1})
    began = time.monotonic()
    log.close()
    log.close()
    assert time.monotonic() - began < 3


def test_partitions_that_are_added_come_from_their_first_record(ground, monkeypatch):
    """Those that were there go on, and the new ones are read from the beginning."""
    monkeypatch.setattr(settings, "METADATA_AGE_MAX_MS", 500)
    monkeypatch.setattr(sqlite_log, "LOOK_S", 0.1)
    topic = ground.topic("input")
    log = ground.join("a", topic)
    assert log.take_up(1) == {Partition(topic, 0): 0}
    ground.feed(topic, [b"before"])
    assert values(log.read(1)) == [b"before"]
    ground.client.widen(topic, 3)
    assert ground.client.topics()[topic].partitions == 3
    ground.feed(topic, [b"new"], 2)
    ground.feed(topic, [b"old"], 0)
    log.take_up(3)
    assert log.held[Partition(topic, 2)] == 0
    assert sorted(values(log.read(2))) == [b"new", b"old"]
    assert log.poll().partitions_total == 3


def test_a_follower_reads_partitions_that_are_added(ground, monkeypatch):
    """From their first record, while it goes on with those that were there."""
    monkeypatch.setattr(settings, "METADATA_AGE_MAX_MS", 500)
    monkeypatch.setattr(sqlite_log, "LOOK_S", 0.1)
    monkeypatch.setattr(consumer, "LOOK_S", 0.1)
    topic = ground.topic("input")
    ground.feed(topic, [b"before"])
    batches = ground.client.follow([topic], from_start=False, wait_s=0.2)
    next(batches)
    ground.client.widen(topic, 3)
    ground.feed(topic, [b"new"], 2)
    ground.feed(topic, [b"old"], 0)
    came: list[bytes | None] = []
    for batch in islice(batches, 100):
        came += values(batch)
        if len(came) >= 2:
            break
    assert sorted(came) == [b"new", b"old"]


def test_a_topic_is_widened_and_never_narrowed(ground):
    """What is in it stays; a partition that is not there is named."""
    topic, state = ground.topic("input"), ground.topic("state", compact=True)
    log = ground.join("a", topic)
    log.take_up(1)
    log.publish([Message(state, 0, b"k", b"v")], {})
    with pytest.raises(PartitionMissing, match="1 partitions, so no number 2"):
        log.read_table(state, 2)
    assert dict(log.log.widen([state], 3)) == {state: 3}
    assert dict(log.log.widen([state], 2)) == {state: 3}
    assert log.read_table(state, 0) == {b"k": b"v"}
    assert log.read_table(state, 2) == {}
