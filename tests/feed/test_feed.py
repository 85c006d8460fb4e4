"""Readings into a log: from lines of any kind, to the right partition, at a pace."""

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from streamer.cli.feed import feed_command
from streamer.core.wire.parsed import Reading
from streamer.feed import Pace, feed
from streamer.feed.columns import NotReadable
from streamer.feed.files import FileReadings
from streamer.feed.generated import generated
from streamer.feed.host import HostReadings
from streamer.feed.lines import CHUNK_BYTES, LINE_BYTES_MAX, Lines
from streamer.log import TopicConfig, TopicMissing
from streamer.log.partitioner import partition_of
from streamer.log.sqlite.log import SqliteClient, SqliteSettings
from streamer.synthetic import Counters


@pytest.fixture
def client(tmp_path):
    client = SqliteClient(tmp_path / "log.db", SqliteSettings())
    client.create("in", TopicConfig(4, compact=False))
    yield client
    client.close()


def records(client, topic="in"):
    """All records of the topic."""
    found = []
    for batch in client.follow([topic], from_start=True, wait_s=0):
        if not batch:
            return found
        found += batch
    raise AssertionError("a follower never ends by itself")


def readings_of(record):
    return [json.loads(line) for line in record.value.split(b"\n")]


def parsed(*lines, **more):
    """The readings of one batch of *lines*, and the lines that are none."""
    source = FileReadings([list(lines)], **more)
    return [reading for batch in source for reading in batch], source.bad


def lines_of(path):
    with path.open("rb") as file:
        lines = Lines(file)
        return [line for batch in lines for line in batch if line], lines


def some(count, flows=5):
    return [Reading(f"r{n % flows}/in", float(n // flows), n) for n in range(count)]


# From lines to readings


@pytest.mark.parametrize(
    "head", [b"timestamp,flow,value", b"Time, Flow, Value\r", b"\xef\xbb\xbftime,flow,value"]
)
def test_a_head_line_is_optional(head):
    """Neither its case nor its blanks nor a mark before it matter."""
    row, reading = b"60,edge1/in,18446744073709551615", Reading("edge1/in", 60.0, 2**64 - 1)
    assert parsed(head, row)[0] == parsed(row)[0] == [reading]


def test_a_head_line_orders_the_columns_and_may_name_more():
    """An empty field counts as missing."""
    found, bad = parsed(
        b"value,unit,flow,time,capacity,kind",
        b"5,b,x,60,1e9,gauge",
        b"6,,y,60,,",
        b"7,,z,60,,speed",
        kind="delta",
    )
    assert found == [
        Reading("x", 60.0, 5, "gauge", "b", 1e9),
        Reading("y", 60.0, 6, "delta"),
    ]
    assert bad.count == 1


def test_a_flow_may_be_quoted():
    """Its name can have a comma."""
    assert parsed(b'1,"a,b",5')[0] == [Reading("a,b", 1.0, 5)]


@pytest.mark.parametrize(
    "line",
    [
        b"some text",
        b"1,a",
        b"x,a,5",
        b"1,a,x",
        b"1,,5",
        b"nan,a,5",
        b"1,a,inf",
        b"1,\xff,5",
        b'1,"a,5',
        b"1,a\x00\x00",
        b"{}",
        b"," * 200_000,
    ],
)
def test_an_invalid_line_does_not_end_the_feed(line):
    """It is counted, and its number reported; the other lines are read."""
    found, bad = parsed(b"1,a,5", line, b"2,a,6")
    assert [reading.value for reading in found] == [5, 6]
    assert bad.count == 1
    assert bad.first[0].startswith("line 2: ")
    assert len(bad.first[0]) < 200


@pytest.mark.parametrize(
    "line", [b"{", b"[1]", b'{"flow": "a"}', b'{"flow":"a","time":"x","value":1}']
)
def test_invalid_json_does_not_end_the_feed(line):
    """As in CSV."""
    good = b'{"flow":"a","time":1,"value":5}'
    found, bad = parsed(good, line, good)
    assert found == [Reading("a", 1.0, 5)] * 2
    assert bad.count == 1


def test_json_lines_hold_readings_or_arrays_of_them():
    """Their own fields take precedence over the defaults."""
    found, bad = parsed(
        b'{"flow":"a","time":1,"value":"5","kind":"gauge","bits":32}',
        b'[{"flow":"b","time":1,"value":6},{"flow":"c","time":1,"value":7}]',
        kind="delta",
        unit="b",
    )
    assert found == [
        Reading("a", 1.0, "5", "gauge", "b", bits=32),
        Reading("b", 1.0, 6, "delta", "b"),
        Reading("c", 1.0, 7, "delta", "b"),
    ]
    assert not bad.count


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(content):
    """Each line is a reading or counted, an array many; or the file is refused as a whole."""
    lines = content.split(b"\n")
    try:
        found, bad = parsed(*lines)
    except NotReadable:
        return
    assert len(found) + bad.count <= len(lines) + content.count(b"{")


# From files to lines


@given(st.lists(st.binary(max_size=50).filter(lambda line: b"\n" not in line)), st.booleans())
def test_lines_are_those_of_the_file_packed_or_not(lines, packed):
    """With an end to the last line, or without."""
    content = b"\n".join(lines)
    if not packed and content.startswith(b"\x1f\x8b"):
        return  # then the two cannot be distinguished
    read, write = os.pipe()
    with os.fdopen(read, "rb") as file, os.fdopen(write, "wb") as writer:
        writer.write(gzip.compress(content) if packed else content)
        writer.close()
        assert [line for batch in Lines(file) for line in batch if line] == [
            line for line in lines if line
        ]


def test_lines_go_across_chunks_and_gzip_files_may_be_strung_together(tmp_path):
    """As `cat a.gz b.gz` makes them."""
    wanted = [b"%d," % number + os.urandom(40).hex().encode() for number in range(20_000)]
    half = b"\n".join(wanted[:9_999])
    rest = b"\n" + b"\n".join(wanted[9_999:])
    path = tmp_path / "two.gz"
    path.write_bytes(gzip.compress(half) + gzip.compress(rest) + bytes(100))
    assert path.stat().st_size > 2 * CHUNK_BYTES
    found, lines = lines_of(path)
    assert found == wanted
    assert lines.broken is None
    assert lines.bytes_read == lines.bytes_total == path.stat().st_size


def test_a_truncated_packed_file_yields_whole_lines_and_is_reported(tmp_path):
    """Half a line could be a reading with half a number."""
    wanted = [b"1,a,%d" % (7**19 * n % 10**15) for n in range(200_000)]
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(b"\n".join(wanted))[:-9])
    found, lines = lines_of(path)
    assert len(found) > 190_000
    assert found == wanted[: len(found)]
    assert "in the middle" in lines.broken


def test_a_damaged_packed_file_is_reported(tmp_path):
    """What was unpacked before the error is found is returned all the same."""
    wanted = [b"1,a,%d" % (7**19 * n % 10**15) for n in range(200_000)]
    path = tmp_path / "damaged.gz"
    path.write_bytes(gzip.compress(b"\n".join(wanted))[:-9] + b"\xff" * 99)
    found, lines = lines_of(path)
    assert found[:190_000] == wanted[:190_000]
    assert lines.broken is not None


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path):
    """It comes in pieces, which are no readings."""
    path = tmp_path / "long"
    path.write_bytes(b"x" * (5 * LINE_BYTES_MAX))
    found, _ = lines_of(path)
    assert sum(map(len, found)) == 5 * LINE_BYTES_MAX
    assert max(map(len, found)) <= LINE_BYTES_MAX + CHUNK_BYTES


def test_a_silent_pipe_yields_what_arrived():
    """Then an empty batch, so that it can be sent."""
    read, write = os.pipe()
    with os.fdopen(read, "rb") as file, os.fdopen(write, "wb", buffering=0) as writer:
        batches = iter(Lines(file))
        assert next(batches) == []
        writer.write(b"1\n2")
        assert next(batches) == [b"1"]
        assert next(batches) == []
        writer.write(b"3\n")
        assert next(batches) == [b"23"]


# From readings to records


def test_readings_go_where_kafka_would_put_their_flow(client):
    """In order, and with the flow as key."""
    result = feed(client, [some(100), some(7)], topic="in")
    found = records(client)
    assert (result.readings, result.records, result.flows) == (107, 107, 5)
    for record in found:
        [reading] = readings_of(record)
        assert record.key == reading["flow"].encode()
        assert record.partition.number == partition_of(record.key, 4)
    for flow in {record.key for record in found}:
        values = [readings_of(record)[0]["value"] for record in found if record.key == flow]
        assert values == [r.value for r in some(100) + some(7) if r.flow.encode() == flow]


def test_a_batch_holds_readings_of_one_partition(client):
    """The same partition, and in the same order, as without."""
    result = feed(client, [some(103, flows=20)], topic="in", batch=10)
    values = {}
    for record in records(client):
        assert record.key is None
        assert len(readings_of(record)) <= 10
        for reading in readings_of(record):
            flow = reading["flow"]
            assert partition_of(flow.encode(), 4) == record.partition.number
            values.setdefault(flow, []).append(reading["value"])
    assert sum(map(len, values.values())) == result.readings == 103
    assert all(each == sorted(each) for each in values.values())
    assert result.records < 15


def test_a_silent_source_leaves_nothing_unsent(client):
    """An empty batch sends what there is, be it half a record."""

    def source():
        yield some(3)
        yield ()
        assert sum(len(readings_of(record)) for record in records(client)) == 3
        yield some(2)

    assert feed(client, source(), topic="in", batch=100).readings == 5


def test_a_topic_that_is_missing_is_named(client):
    """Before anything was read."""
    with pytest.raises(TopicMissing, match="elsewhere"):
        feed(client, iter([]), topic="elsewhere")


def test_a_feed_that_is_stopped_has_sent_what_it_read(client):
    """And returns how much that was."""
    result = feed(
        client,
        ([reading] for reading in some(100)),
        topic="in",
        batch=7,
        stopping=iter([False] * 9 + [True]).__next__,
    )
    assert result.readings == 10
    assert sum(len(readings_of(record)) for record in records(client)) == 10


class Wall:
    """A clock that advances only during sleeps."""

    def __init__(self, now_s=1_000_000.0):
        self.now_s = now_s

    def clock(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


def test_a_pace_follows_the_readings_own_time(client):
    """Two minutes of readings at sixty times their speed take two seconds."""
    wall = Wall()
    sent = []
    pace = Pace(60, clock=wall.clock, sleep=wall.sleep)
    source = [[Reading("a", 500.0 + n, n) for n in range(121)]]
    feed(
        client,
        source,
        topic="in",
        pace=pace,
        on_progress=lambda result: sent.append((wall.now_s - 1_000_000, result.readings)),
    )
    assert wall.now_s - 1_000_000 == pytest.approx(2, abs=0.1)
    for at_s, readings in sent:
        assert readings == pytest.approx(1 + 60 * at_s, abs=4)


def test_what_was_due_is_durable_before_the_feed_sleeps(client):
    """A reader must not wait for the next reading to see the last one."""
    wall = Wall()
    seen = []

    def sleep(seconds):
        seen.append(len(records(client)))
        wall.sleep(seconds)

    source = [[Reading("a", float(60 * n), n) for n in range(3)]]
    feed(client, source, topic="in", batch=100, pace=Pace(600, clock=wall.clock, sleep=sleep))
    assert seen == [1, 2]


def test_a_history_that_reaches_the_present_goes_on_at_its_pace(client):
    """However fast it was: no reading goes out before its time has come."""
    wall = Wall(1000.0)
    pace = Pace(float("inf"), never_early=True, clock=wall.clock, sleep=wall.sleep)
    source = [[Reading("a", float(time_s), 0) for time_s in range(1011)]]
    result = feed(client, source, topic="in", pace=pace)
    assert result.readings == 1011
    assert wall.now_s == pytest.approx(1010, abs=0.1)


def test_readings_that_step_back_in_time_do_not_wait(client):
    """Late ones are sent as they arrive."""
    wall = Wall()
    source = [[Reading("a", t, 0) for t in (100.0, 101.0, 50.0, 101.0)]]
    feed(client, source, topic="in", pace=Pace(1, clock=wall.clock, sleep=wall.sleep))
    assert wall.now_s - 1_000_000 == pytest.approx(1, abs=0.1)


# Sources without a file


def test_the_counters_of_the_host_are_read_on_the_grid(tmp_path):
    """The loopback is left out; a link that has a speed has a capacity."""
    counters = tmp_path / "dev"
    counters.write_text(
        "Inter-|   Receive                            |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n"
        "    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n"
        "  eth0:1234 1 0 0 0 0 0 0 18446744073709551615 1 0 0 0 0 0 0\n"
        " wlan0: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n"
    )
    (tmp_path / "eth0").mkdir()
    (tmp_path / "eth0" / "speed").write_text("1000\n")
    wall = Wall(1003.0)
    source = HostReadings(
        10, counters=counters, interfaces=tmp_path, clock=wall.clock, sleep=wall.sleep
    )
    batches = [batch for batch in islice(source, 40) if batch]
    assert [batch[0].time for batch in batches] == [1003.0, 1010.0, 1020.0]
    host = batches[0][0].flow.split("/")[0]
    assert batches[0] == [
        Reading(f"{host}/eth0/in", 1003.0, 1234, "counter", "B", 1.25e8),
        Reading(f"{host}/eth0/out", 1003.0, 2**64 - 1, "counter", "B", 1.25e8),
        Reading(f"{host}/wlan0/in", 1003.0, 5, "counter", "B"),
        Reading(f"{host}/wlan0/out", 1003.0, 6, "counter", "B"),
    ]


@pytest.mark.skipif(not Path("/proc/net/dev").exists(), reason="no Linux")
def test_the_host_that_we_run_on_has_counters():
    """The real file is read as well as the one above; a machine may have no interface."""
    assert all(reading.value >= 0 for reading in HostReadings(10).read())


def test_generated_readings_are_counters_as_collectors_send_them():
    """A step after another, in the order of their time, with the width of each counter."""
    counters = Counters(np.random.default_rng(1), 50, 60, 6000)
    batches = list(islice(generated(counters), 200))
    every = [reading for batch in batches for reading in batch]
    assert len({reading.flow for reading in every}) == 50
    assert {reading.kind for reading in every} == {"counter"}
    assert {reading.bits for reading in every} == {32, 64}
    assert all(reading.value < 2**reading.bits for reading in every)
    assert [reading.time for reading in every] == sorted(reading.time for reading in every)


# The command


def run(*arguments, **more):
    return CliRunner().invoke(feed_command, [str(each) for each in arguments], **more)


def test_the_command_feeds_a_file_and_reports_what_it_left_out(tmp_path):
    """The topic is created in a SQLite log; a bad line is reported, and not an error."""
    (tmp_path / "a.csv").write_text("timestamp,flow,value\n1,a,5\nnonsense\n2,a,6\n")
    url = f"sqlite:///{tmp_path}/log.db"
    ended = run(
        tmp_path / "a.csv", "--log", url, "--topic", "t", "--partitions", 3, "--kind", "delta"
    )
    assert ended.exit_code == 0
    assert "t: 2 readings of 1 flows in 2 records" in ended.stdout
    assert "made the topic t with 3 partitions" in ended.stderr
    assert "1 lines are no readings" in ended.stderr
    assert "line 3: " in ended.stderr
    with contextlib.closing(SqliteClient(tmp_path / "log.db", SqliteSettings())) as client:
        assert client.topics()["t"].partitions == 3
        assert [readings_of(record)[0]["kind"] for record in records(client, "t")] == ["delta"] * 2


def test_the_command_fails_where_no_line_was_a_reading(tmp_path):
    """It was the wrong file."""
    (tmp_path / "a.txt").write_text("Dear all,\nplease find enclosed\n")
    ended = run(tmp_path / "a.txt", "--log", f"sqlite:///{tmp_path}/log.db")
    assert ended.exit_code == 65


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "give one of"),
        (["--host", "--generate"], "give one of"),
        (["--generate", "--speed", "0"], "must be max or a number above 0"),
        (["--generate", "--speed", "fast"], "must be max or a number above 0"),
        (["--host", "--every", "0s"], "more than 0s"),
        (["/does/not/exist"], "does not exist"),
    ],
)
def test_the_command_refuses_contradictory_options(arguments, why):
    """With a sentence, before it opens the log."""
    ended = run(*arguments)
    assert ended.exit_code == 2
    assert why in ended.stderr


def test_generated_readings_can_be_bounded(tmp_path):
    """To the reading."""
    url = f"sqlite:///{tmp_path}/log.db"
    ended = run("--generate", "--flows", 7, "-n", 1000, "--batch", 100, "--log", url)
    assert ended.exit_code == 0
    assert "1,000 readings of 7 flows" in ended.stdout


def test_an_interrupt_sends_what_was_read_and_ends_well(tmp_path):
    """A pipe that is still open is no reason to lose what came through it."""
    command = [sys.executable, "-m", "streamer", "feed", "-", "--batch", "100", "--topic", "t"]
    command += ["--log", f"sqlite:///{tmp_path}/log.db"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as feeding:
        guard = threading.Timer(60, feeding.kill)
        guard.start()
        feeding.stdin.write("1,a,5\n2,a,6\n")
        feeding.stdin.flush()
        assert "made the topic" in feeding.stderr.readline()
        with contextlib.closing(SqliteClient(tmp_path / "log.db", SqliteSettings())) as client:
            while not records(client, "t") and guard.is_alive():
                time.sleep(0.05)
            feeding.send_signal(signal.SIGINT)
            assert feeding.wait() == 0
            guard.cancel()
            assert "2 readings" in feeding.stdout.read()
            assert len(records(client, "t")) == 1
