"""What lies in the SQLite log: how it is read, and how it goes again."""

import contextlib
import sqlite3
import threading
import time

import pytest
import structlog

from streamer.config.types import Duration
from streamer.core.types import Message, Partition
from streamer.log import PartitionMissing, PermanentError, TopicConfig, TopicMissing
from streamer.log.sqlite.database import APPLICATION, LAYOUT
from streamer.log.sqlite.log import SqliteClient, SqliteLog, SqliteSettings
from streamer.log.sqlite.tables import TABLES
from streamer.log.sqlite.topics import SPARE

HOUR_S = 3600.0


class Box:
    """A file, a client, and a clock that is set by hand."""

    def __init__(self, folder, **settings):
        self.path = folder / "box.db"
        self.settings = SqliteSettings(**settings)
        self.now_s = 1_000_000.0
        self.client = SqliteClient(self.path, self.settings, clock=lambda: self.now_s)

    def topic(self, name, partitions=1, *, compact=False, retention_s=None):
        self.client.create(name, TopicConfig(partitions, compact, retention_s))

    def send(self, topic, *pairs, partition=0):
        self.client.send([Message(topic, partition, key, value) for key, value in pairs])
        self.client.flush()

    def join(self, **more):
        more = {"group": "g", "instance": "a", "topics": ["in"]} | more
        log = SqliteLog(self.path, self.settings, clock=lambda: self.now_s, **more)
        return contextlib.closing(log)

    def offsets(self, topic):
        found = []
        for batch in self.client.follow([topic], from_start=True, wait_s=0):
            if not batch:
                return found
            found += [record.offset for record in batch]
        raise AssertionError("a follower never ends by itself")

    def bytes_kept(self):
        return self.client._file.query("SELECT sum(bytes) FROM lanes")[0][0]


@pytest.fixture
def box(tmp_path):
    box = Box(tmp_path)
    yield box
    box.client.close()


def pairs(count, size=1):
    return [(b"key-%d" % number, b"v" * size) for number in range(count)]


def test_every_partition_gets_its_share_of_a_small_delivery(box):
    """One that is far behind does not keep the others waiting."""
    box.topic("in", 3)
    box.send("in", *pairs(1000), partition=0)
    box.send("in", *pairs(2), partition=1)
    box.send("in", *pairs(50), partition=2)
    with box.join() as log:
        delivery = log.poll(0, 60)
    counts = [sum(r.partition.number == number for r in delivery.records) for number in range(3)]
    assert sum(counts) == 60
    assert counts[1] == 2
    assert counts[2] >= 20
    assert delivery.lag == {Partition("in", n): (1000, 2, 50)[n] - counts[n] for n in range(3)}


def test_deliveries_go_through_all_there_is_in_order(box):
    """However small the polls, no record of any partition is skipped."""
    box.topic("in", 3)
    for number in range(3):
        box.send("in", *pairs(20), partition=number)
    seen = {number: [] for number in range(3)}
    with box.join() as log:
        while records := log.poll(0, 7).records:
            assert len(records) <= 7
            for record in records:
                seen[record.partition.number].append(record.offset)
    assert seen == {number: list(range(20)) for number in range(3)}


def test_a_delivery_ends_when_it_has_bytes_enough(tmp_path):
    """Ten thousand big records at once would be too much for a small machine."""
    box = Box(tmp_path, read_bytes_max=10_000)
    box.topic("in", 2)
    box.send("in", *pairs(10, 3000), partition=0)
    box.send("in", *pairs(10, 3000), partition=1)
    with box.join() as log:
        sizes = []
        while records := log.poll(0, 1000).records:
            sizes.append(len(records))
    assert sizes == [4] * 5
    box.client.close()


def test_a_record_that_is_bigger_than_a_delivery_is_delivered(tmp_path):
    """Else it would stop its partition for good."""
    box = Box(tmp_path, read_bytes_max=10)
    box.topic("in")
    box.send("in", *pairs(2, 20_000_000))
    with box.join() as log:
        assert [[len(r.value) for r in log.poll(0, 10).records] for _ in range(2)] == [
            [20_000_000],
            [20_000_000],
        ]
    box.client.close()


def test_waiting_ends_with_the_first_record(box):
    """It comes from another connection, as from another process."""
    box.topic("in")
    with box.join() as log:
        log.poll(0, 10)
        later = threading.Timer(0.1, box.send, ["in", (b"k", b"v")])
        later.start()
        began = time.monotonic()
        records = log.poll(20, 10).records
        later.join()
    assert [record.value for record in records] == [b"v"]
    assert time.monotonic() - began < 10


def test_waiting_takes_next_to_no_time_of_the_processor(box):
    """An idle daemon is to be forgotten by its machine."""
    box.topic("in")
    with box.join() as log:
        log.poll(0, 10)
        began = time.process_time()
        log.poll(1, 10)
    assert time.process_time() - began < 0.2


def test_what_came_before_a_late_start_is_not_read(box):
    """`start: latest` counts where the group has no offset yet, and only there."""
    box.topic("in", 2)
    box.send("in", *pairs(3), partition=0)
    box.send("in", *pairs(3), partition=1)
    with box.join() as log:
        log.poll(0, 10)
        log.publish([], {Partition("in", 1): 1})
    with box.join(start="latest") as log:
        assert dict(log.poll(0, 10).assigned) == {Partition("in", 0): 3, Partition("in", 1): 1}


def test_topics_of_a_pattern_are_taken_in_when_they_appear(box):
    """And no others; that there is none yet is no error."""
    with box.join(topics=[], pattern=r"net\.") as log:
        assert log.poll(0, 10).partitions_total == 0
        box.topic("net.east", 2)
        box.topic("internet.west")
        delivery = log.poll(0, 10)
        assert set(delivery.assigned) == {Partition("net.east", 0), Partition("net.east", 1)}
        assert delivery.partitions_total == 2


def test_all_topics_that_are_missing_are_named(box):
    """So that they can be made in one go."""
    box.topic("b")
    with box.join(topics=["a", "b", "c"]) as log, pytest.raises(TopicMissing) as missing:
        log.poll(0, 10)
    assert missing.value.topics == ("a", "c")


def test_a_partition_that_does_not_exist_is_refused(box):
    """Its message is dropped, or else nothing could be sent any more."""
    box.topic("in", 2)
    box.client.send([Message("in", 2, b"k", b"v")])
    with pytest.raises(PartitionMissing, match="2 partitions, so no number 2"):
        box.client.flush()
    box.send("in", (b"k", b"v"))
    assert box.offsets("in") == [0]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "x" * 250])
def test_a_name_that_kafka_would_not_take_is_refused(box, name):
    """So that an installation on the SQLite log can move to Kafka."""
    with pytest.raises(PermanentError, match="cannot be named"):
        box.topic(name)


def test_messages_without_a_key_go_round(box):
    """No partition is left idle."""
    box.topic("in", 4)
    box.client.send([Message("in", None, None, b"v")] * 40)
    box.client.flush()
    ends = box.client._topics.ends(Partition("in", number) for number in range(4))
    assert set(ends.values()) == {10}


def test_old_records_go_and_offsets_stay(tmp_path):
    """A member that was away for too long goes on with the oldest that is kept."""
    box = Box(tmp_path, unread_retention=Duration(HOUR_S))
    box.topic("in", retention_s=HOUR_S)
    box.send("in", *pairs(10))
    with box.join() as log:
        log.poll(0, 10)
        log.publish([], {Partition("in", 0): 3})
    box.now_s += HOUR_S + 1
    box.send("in", *pairs(5))
    assert box.offsets("in") == [10, 11, 12, 13, 14]
    with box.join() as log:
        delivery = log.poll(0, 100)
        assert dict(delivery.assigned) == {Partition("in", 0): 10}
        assert [record.offset for record in delivery.records] == [10, 11, 12, 13, 14]
        [replayed] = log.replay(Partition("in", 0), 0, 12)
        assert [record.offset for record in replayed] == [10, 11]
    box.client.close()


def test_what_a_group_has_not_read_outlasts_retention(tmp_path):
    """A daemon that was stopped over a long holiday goes on where it was."""
    box = Box(tmp_path, unread_retention=Duration(10 * HOUR_S))
    box.topic("in", retention_s=HOUR_S)
    box.send("in", *pairs(10))
    with box.join() as log:
        log.poll(0, 10)
        log.publish([], {Partition("in", 0): 3})
    box.now_s += 9 * HOUR_S
    box.send("in", *pairs(5))
    assert box.offsets("in") == list(range(3, 15))
    box.now_s += 2 * HOUR_S
    box.send("in", *pairs(1))
    assert box.offsets("in") == list(range(10, 16))
    box.client.close()


@pytest.mark.parametrize("commits", [True, False], ids=["behind", "new"])
def test_a_feeder_that_is_faster_than_its_reader_loses_nothing(tmp_path, commits):
    """Every record is read though the topic holds far more than it may, and room is free then."""
    box = Box(tmp_path, topic_bytes_max=100_000)
    box.topic("in")
    read = []
    with box.join() as log, structlog.testing.capture_logs() as events:
        log.poll(0, 10)
        for _ in range(50):
            box.send("in", *pairs(100, 100))
            records = log.poll(0, 10).records
            read += [record.offset for record in records]
            if commits:
                log.publish([], {Partition("in", 0): read[-1] + 1})
        while records := log.poll(0, 1000).records:
            read += [record.offset for record in records]
            log.publish([], {Partition("in", 0): read[-1] + 1})
        assert box.bytes_kept() > 300_000
        for _ in range(100):
            box.send("in", *pairs(10, 100))
            log.publish([], {Partition("in", 0): log.poll(0, 10).records[-1].offset + 1})
    assert read == list(range(5000))
    assert box.bytes_kept() <= 100_000
    assert not events
    box.client.close()


def test_what_is_unread_has_a_bound_too(tmp_path):
    """A full disk would stop everything else; the offsets of deleted records are logged."""
    box = Box(tmp_path, topic_bytes_max=50_000, unread_bytes_max=200_000)
    box.topic("in")
    with box.join() as log, structlog.testing.capture_logs() as events:
        log.poll(0, 10)
        for _ in range(60):
            box.send("in", *pairs(100, 100))
        assert 190_000 < box.bytes_kept() <= 200_000
        missed, offsets = 0, []
        while len(offsets) == 0 or offsets[-1] < 5999:
            delivery = log.poll(0, 1000)
            missed += delivery.missed
            offsets += [record.offset for record in delivery.records]
    assert missed == offsets[0] > 0
    assert offsets == list(range(offsets[0], 6000))
    assert [(e["event"], e["start"], e["end"]) for e in events] == [
        ("input.offset_out_of_range", 0, offsets[0])
    ]
    box.client.close()


def test_a_topic_that_no_group_reads_is_cut_as_ever(tmp_path):
    """Forecasts have readers without a group, so they have no known offset."""
    box = Box(tmp_path, topic_bytes_max=50_000)
    box.topic("in")
    box.topic("out")
    with box.join() as log:
        log.poll(0, 10)
        for _ in range(20):
            box.send("out", *pairs(100, 100))
    assert box.bytes_kept() <= 50_000
    box.client.close()


def test_a_follower_that_retention_overtakes_logs_it(tmp_path):
    """The trainer reads the counters as a follower does: what it never saw it cannot learn."""
    box = Box(tmp_path, topic_bytes_max=50_000)
    box.topic("in")
    box.send("in", *pairs(10, 100))
    batches = box.client.follow(["in"], from_start=True, wait_s=0)
    assert len(next(batches)) == 10
    for _ in range(20):
        box.send("in", *pairs(100, 100))
    with structlog.testing.capture_logs() as events:
        first = next(batches)[0].offset
    assert [(e["event"], e["start"], e["end"]) for e in events] == [
        ("input.offset_out_of_range", 10, first)
    ]
    box.client.close()


def test_the_file_shrinks_after_retention(tmp_path):
    """The space of a burst that was read and deleted is freed as fast as the file can shrink."""
    box = Box(tmp_path)
    box.topic("in", retention_s=HOUR_S)
    with box.join() as log:
        log.poll(0, 10)
        for _ in range(20):
            box.send("in", *pairs(100, 30_000))
        while records := log.poll(0, 10_000).records:
            log.publish([], {Partition("in", 0): records[-1].offset + 1})
        largest = box.path.stat().st_size
        assert largest > 60_000_000
        box.now_s += HOUR_S + 1
        for _ in range(200):  # an idle member: every other round gives back a bounded piece
            box.now_s += 6
            log.poll(0.001, 10)
        assert box.path.stat().st_size < largest / 4
    assert box.offsets("in") == []
    box.client.close()


def test_the_file_shrinks_under_load(tmp_path):
    """A member that always has something to read never comes to expire up: writers do it too."""
    box = Box(tmp_path)
    box.topic("in", retention_s=HOUR_S)
    for _ in range(20):
        box.send("in", *pairs(100, 30_000))
    largest = box.path.stat().st_size
    box.now_s += HOUR_S + 1
    for _ in range(120):
        box.send("in", *pairs(10, 1000))
    assert box.path.stat().st_size < largest / 4
    box.client.close()


def test_a_file_that_cannot_shrink_is_logged_once(tmp_path):
    """One that an older version made; it is used as it is."""
    with contextlib.closing(sqlite3.connect(tmp_path / "box.db")) as old:
        old.execute("PRAGMA page_size = 16384")
        old.execute("PRAGMA auto_vacuum = 0")
        old.execute("PRAGMA journal_mode = WAL")
        for statement in TABLES.split(";")[:-1]:
            old.execute(statement)
        old.execute(f"PRAGMA application_id = {APPLICATION}")
        old.execute(f"PRAGMA user_version = {LAYOUT}")
        old.commit()
    box = Box(tmp_path)
    box.topic("in", retention_s=HOUR_S)
    box.send("in", *pairs(500, 30_000))
    box.now_s += HOUR_S + 1
    with structlog.testing.capture_logs() as events:
        for _ in range(10):
            box.send("in", *pairs(100))
    assert [event["event"] for event in events] == ["file.not_shrinking"]
    assert events[0]["free_bytes"] > 4_000_000
    box.client.close()


def test_a_topic_that_is_empty_again_goes_on_counting(box):
    """Offsets are never used twice, nor does reading begin before them."""
    box.topic("in", retention_s=HOUR_S)
    box.send("in", *pairs(10))
    box.now_s += HOUR_S + 1
    with box.client._file.transaction():
        box.client._topics.expire(1000, round(box.now_s * 1000))
    assert box.offsets("in") == []
    with box.join() as log:
        assert dict(log.poll(0, 10).assigned) == {Partition("in", 0): 10}
    assert box.bytes_kept() == 0


def test_the_age_of_a_record_is_counted_from_its_publishing(box):
    """A record's own time may be years ago: history is published, too."""
    box.topic("in", retention_s=HOUR_S)
    box.client.send([Message("in", 0, b"k", b"v", time_ms=1000)])
    box.send("in", *pairs(1))
    box.send("in", *pairs(1))
    assert box.offsets("in") == [0, 1, 2]
    [first, *_] = next(box.client.follow(["in"], from_start=True))
    assert first.time_ms == 1000


def test_a_topic_takes_no_more_room_than_it_may(tmp_path):
    """The oldest go first, in each partition by itself."""
    box = Box(tmp_path, topic_bytes_max=200_000)
    box.topic("in", 2)
    for _ in range(50):
        box.send("in", *pairs(20, 1000), partition=0)
    box.send("in", *pairs(20, 1000), partition=1)
    assert 90_000 < box.bytes_kept() - 20 * 1030 <= 100_000
    assert box.offsets("in")[-20:] == list(range(20))  # of the second partition: all are there
    box.client.close()


def test_no_append_pays_for_the_whole_past(box):
    """Old records go a few at a time, twice as fast as new ones come."""
    box.topic("in", retention_s=HOUR_S)
    box.send("in", *pairs(5000))
    box.now_s += HOUR_S + 1
    left = []
    for _ in range(3):
        box.send("in", *pairs(100))
        left.append(len(box.offsets("in")))
    bite = 200 + SPARE - 100
    assert left == [5000 - bite, 5000 - 2 * bite, 5000 - 3 * bite]


def test_topics_without_writers_are_trimmed_by_their_readers(box):
    """A member that waits for news has the time for it."""
    box.topic("in", retention_s=HOUR_S)
    box.topic("idle", retention_s=HOUR_S)
    box.send("idle", *pairs(10))
    with box.join() as log:
        log.poll(0, 10)
        box.now_s += HOUR_S + 1
        log.poll(0.01, 10)
    assert box.offsets("idle") == []


def test_a_compacted_topic_keeps_the_last_of_each_key_for_ever(box):
    """However old it is, and whatever it has become in between."""
    box.topic("state", compact=True)
    for round_ in range(10):
        box.send("state", *((b"key-%d" % key, b"%d" % round_) for key in range(20)))
        box.now_s += HOUR_S
    box.now_s += 10_000 * HOUR_S
    box.send("state", (b"key-0", b"new"))
    table = box.client.read_table("state", 0)
    assert table == {b"key-%d" % key: b"9" for key in range(1, 20)} | {b"key-0": b"new"}
    assert len(box.offsets("state")) == 21  # the one that was superseded just now included


def test_what_was_superseded_can_be_followed_for_a_while(tmp_path):
    """One that reads along sees every value, if it isn't far behind."""
    box = Box(tmp_path, min_compaction_lag=Duration(60))
    box.topic("state", compact=True)
    box.send("state", (b"k", b"0"), (b"k", b"1"))
    box.now_s += 59
    box.send("state", (b"k", b"2"))
    assert box.offsets("state") == [0, 1, 2]
    box.now_s += 2
    box.send("state", (b"other", b""))
    assert box.offsets("state") == [1, 2, 3]
    box.client.close()


def test_a_deleted_key_goes_at_once_and_its_tombstone_later(tmp_path):
    """Followers must read the tombstone; in the end nothing is left."""
    box = Box(tmp_path, min_compaction_lag=Duration(60), delete_retention=Duration(600))
    box.topic("state", compact=True)
    box.send("state", (b"k", b"v"), (b"k", None), (b"back", None))
    box.send("state", (b"back", b"v"))
    assert box.client.read_table("state", 0) == {b"back": b"v"}
    box.now_s += 61
    box.send("state", (b"x", b""))
    assert box.offsets("state") == [1, 3, 4]
    box.now_s += 600
    box.send("state", (b"x", b""))
    assert box.client.read_table("state", 0) == {b"back": b"v", b"x": b""}
    box.now_s += 61
    box.send("state", (b"y", b""))
    assert box.offsets("state") == [3, 5, 6]
    assert box.bytes_kept() == sum(
        24 + len(key) + len(value) for key, value in [(b"back", b"v"), (b"x", b""), (b"y", b"")]
    )
    assert box.client._file.query("SELECT count(*) FROM newest")[0][0] == 3
    assert box.client._file.query("SELECT count(*) FROM doomed")[0][0] == 0
    box.client.close()


def test_a_compacted_topic_with_a_retention_forgets_old_keys(box):
    """As alerts do: the last word on each, as long as it is news."""
    box.topic("alerts", compact=True, retention_s=HOUR_S)
    box.send("alerts", (b"a", b"1"), (b"b", b"1"))
    box.now_s += HOUR_S + 1
    box.send("alerts", (b"b", b"2"))
    assert box.client.read_table("alerts", 0) == {b"b": b"2"}
    assert box.offsets("alerts") == [2]


def test_a_topic_that_is_not_compacted_is_no_table(box):
    """An empty answer would be taken for an empty state."""
    box.topic("in")
    with pytest.raises(PermanentError, match="not compacted"):
        box.client.read_table("in", 0)


def test_a_file_whose_state_is_rewritten_stops_growing(tmp_path):
    """Room that was freed is used again."""
    box = Box(tmp_path, min_compaction_lag=Duration(1))
    box.topic("state", compact=True)
    sizes = []
    for _ in range(4):
        for _ in range(10):
            box.send("state", *pairs(10, 50_000))
            box.now_s += 1
        sizes.append(box.path.stat().st_size)
    assert sizes[3] == sizes[1] < 40_000_000
    box.client.close()


def test_small_sends_are_written_together_and_not_kept_for_long(box):
    """A commit for each record would wear the disk; a record that lies about would be late."""
    box.topic("in")
    box.client.send([Message("in", 0, None, b"0")])
    box.client.send([Message("in", 0, None, b"1")])
    with box.join() as log:
        assert not log.poll(0, 10).records
        time.sleep(0.15)
        box.client.send([Message("in", 0, None, b"2")])
        assert len(log.poll(0, 10).records) == 3


def test_closing_writes_what_was_sent(box):
    """Closing flushes, so that no records are lost."""
    box.topic("in")
    box.client.send([Message("in", 0, None, b"v")])
    box.client.close()
    with box.join() as log:
        assert len(log.poll(0, 10).records) == 1
