"""The file under the SQLite log: shared, with killed writers, or of another program."""

import contextlib
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from streamer.config.types import Duration
from streamer.core.types import Message, Partition
from streamer.log import PermanentError, TopicConfig, Unavailable
from streamer.log.sqlite.database import LAYOUT, File
from streamer.log.sqlite.log import SqliteClient, SqliteLog, SqliteSettings, path_of

SETTINGS = SqliteSettings(busy_timeout=Duration(0.2))
NOBODY = 65_534
SOME = 7  # records that are sent at once


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


@contextlib.contextmanager
def client_of(path):
    with contextlib.closing(SqliteClient(path, SETTINGS)) as client:
        yield client


@contextlib.contextmanager
def process(path, *arguments):
    """`process` at work; killed at the end if it still is."""
    command = [sys.executable, "-m", "tests.log.sqlite.process", str(path), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def values(client, topic):
    """All that is in the topic now."""
    found = []
    for batch in client.follow([topic], from_start=True, wait_s=0):
        if not batch:
            return found
        found += [record.value for record in batch]
    raise AssertionError("a follower never ends by itself")


def test_an_address_names_a_file():
    """Three slashes, then the path: absolute if it begins with a fourth."""
    assert path_of("sqlite:///here/log.db") == Path("here/log.db")
    assert path_of("sqlite:////var/lib/log.db") == Path("/var/lib/log.db")


@pytest.mark.parametrize("url", ["sqlite:log.db", "sqlite://log.db", "sqlite:///", "kafka://h"])
def test_an_address_that_names_no_file_is_refused(url):
    """With the form that would do."""
    with pytest.raises(PermanentError, match="sqlite:///relative/path"):
        path_of(url)


def test_what_was_flushed_survives_a_kill_and_no_send_is_torn(path):
    """Killed in the middle of commits, five times over; the file goes on as it was."""
    with client_of(path) as client:
        client.create("in", TopicConfig(3, compact=False))
    for kill in range(5):
        with process(path, "feed", f"life{kill}", "1000000", str(SOME)) as writer:
            for _ in range(20 * kill + 1):
                durable = int(writer.stdout.readline())
            writer.kill()
            rest = writer.stdout.read().split()
            durable = int(rest[-1]) if rest else durable
        with client_of(path) as client:
            found = [v for v in values(client, "in") if v.startswith(b"life%d-" % kill)]
        numbers = {int(value.split(b"-")[1]) for value in found}
        assert numbers == set(range(len(found)))
        assert len(found) % SOME == 0
        assert durable <= len(found) <= durable + SOME


def test_processes_share_the_file_and_each_record_is_copied_once(path):
    """Two feeders, three members of a group; one is killed, and one joins later."""
    with client_of(path) as client, contextlib.ExitStack() as stack:
        client.create("in", TopicConfig(4, compact=False))
        client.create("out", TopicConfig(4, compact=False))
        feeders = [
            stack.enter_context(process(path, "feed", name, "3000", str(SOME))) for name in "xy"
        ]
        copiers = [stack.enter_context(process(path, "copy", name)) for name in "ab"]
        copiers[0].stdout.readline()
        copiers[0].kill()
        stack.enter_context(process(path, "copy", "c"))
        for feeder in feeders:
            feeder.communicate()
        sent = {f"{name}-{number}".encode() for name in "xy" for number in range(3000)}
        deadline = time.monotonic() + 30
        while len(copied := values(client, "out")) < len(sent) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert Counter(copied) == dict.fromkeys(sent, 1)


def test_a_writer_in_full_flight_lets_others_write_too(path):
    """While one waits for the pen, the other can put it down, but not take it up again."""
    with client_of(path) as client, contextlib.closing(File(path, 10)) as file:
        client.create("in", TopicConfig(1, compact=False))
        strokes = "SELECT next FROM lanes"
        with process(path, "hog") as hog:
            hog.stdout.readline()
            overtaken = []
            for _ in range(30):
                time.sleep(0.01)  # by now the hog is back
                [(before,)] = file.query(strokes)
                with file.transaction():
                    [(after,)] = file.query(strokes)
                overtaken.append(after - before)
    assert statistics.median(overtaken) <= 2


def test_processes_may_open_a_new_file_at_once(path):
    """One of them lays it out, the others wait for it."""
    with contextlib.ExitStack() as stack:
        script = (
            "import sys; from pathlib import Path\n"
            "from streamer.log.sqlite.log import SqliteClient, SqliteSettings\n"
            "from streamer.log import TopicConfig\n"
            "sys.stdin.readline()\n"
            "client = SqliteClient(Path(sys.argv[1]), SqliteSettings())\n"
            "client.create(sys.argv[2], TopicConfig(1, False)); client.close()\n"
        )
        opening = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", script, path, name], stdin=subprocess.PIPE)
            )
            for name in "abcd"
        ]
        for each in opening:  # they have been started, and await the word
            each.stdin.write(b"\n")
            each.stdin.flush()
        assert [each.wait(30) for each in opening] == [0] * 4
    with client_of(path) as client:
        assert set(client.topics()) == set("abcd")


def test_a_turn_that_never_committed_leaves_nothing(path):
    """Records, their offsets' counter and the group's offset roll back together."""
    with client_of(path) as client:
        client.create("in", TopicConfig(1, compact=False))
        client.create("state", TopicConfig(1, compact=True))
        log = SqliteLog(path, SETTINGS, group="g", instance="a", topics=["in"])
        log.poll(0, 10)
        bad = Message("state", 0, None, b"no key")  # refused when the others are already written
        with pytest.raises(PermanentError, match="must have keys"):
            log.publish([Message("in", 0, b"k", b"v"), bad], {Partition("in", 0): 5})
        log.publish([Message("in", 0, b"k", b"good")], {})
        log.close()
        assert values(client, "in") == [b"good"]
        [[record]] = [next(client.follow(["in"], from_start=True))]
        assert record.offset == 0


def test_a_file_that_is_no_database_is_refused_and_left_alone(path):
    """Its bytes belong to another program."""
    path.write_text("my notes, which are much longer than SQLite's head " * 10)
    before = path.read_bytes()
    with pytest.raises(PermanentError, match="it is no SQLite file"):
        SqliteClient(path, SETTINGS)
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_refused_and_not_changed(path):
    """Not even its journal's mode is changed."""
    with contextlib.closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE notes (text)")
    before = path.read_bytes()
    with pytest.raises(PermanentError, match="not one of streamer's"):
        SqliteClient(path, SETTINGS)
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*-wal"))


def test_a_file_of_a_newer_streamer_is_refused(path):
    """An older one cannot know what it would break."""
    SqliteClient(path, SETTINGS).close()
    with contextlib.closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {LAYOUT + 1}")
    with pytest.raises(PermanentError, match="newer streamer"):
        SqliteClient(path, SETTINGS)


def test_a_damaged_file_is_refused(path):
    """The error message names the reason, for any operation."""
    with client_of(path) as client:
        client.create("in", TopicConfig(1, compact=False))
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(path.stat().st_size - 100))
    with pytest.raises(PermanentError, match="damaged"):
        SqliteClient(path, SETTINGS).topics()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    """With the reason of the system."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PermanentError, match="folder cannot be made: "):
        SqliteClient(tmp_path / "file" / "log.db", SETTINGS)


@pytest.mark.skipif(os.name != "posix", reason="file permissions work differently there")
def test_a_file_that_we_may_not_write_is_refused():
    """The message names the file, unlike SQLite's 'attempt to write a readonly database'."""
    folder = Path(tempfile.mkdtemp())  # not pytest's: nobody else may enter those
    try:
        path = folder / "log.db"
        with client_of(path) as client:
            client.create("in", TopicConfig(1, compact=False))
        folder.chmod(0o755)
        path.chmod(0o444)
        script = (
            "import os, sys; from pathlib import Path\n"
            "from streamer.log.sqlite.log import SqliteLog, SqliteSettings\n"
            f"if os.geteuid() == 0: os.setuid({NOBODY})\n"  # root may write anything
            "SqliteLog(Path(sys.argv[1]), SqliteSettings(), group='g', instance='a',"
            " topics=['in'])\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", script, path], capture_output=True, text=True, check=False
        )
        assert "streamer.log.PermanentError" in ended.stderr
        assert f"{path}: we may not write to it" in ended.stderr
    finally:
        shutil.rmtree(folder)


def test_a_file_that_is_held_for_too_long_is_unavailable(path):
    """Another process may be stuck with the pen in its hand: try again later."""
    with (
        client_of(path) as client,
        contextlib.closing(File(path, 1)) as other,
        other.transaction(),
        pytest.raises(Unavailable, match="another process has held it for too long"),
    ):
        client.create("in", TopicConfig(1, compact=False))


def test_a_full_disk_is_unavailable_and_goes_on_when_there_is_room(path):
    """What did not fit is kept by the client and written by the next flush."""
    with client_of(path) as client:
        client.create("in", TopicConfig(1, compact=False))
        room = client._file.query("PRAGMA max_page_count")[0][0]
        client._file.query("PRAGMA max_page_count = 20")
        client.send([Message("in", 0, None, os.urandom(1_000_000))])
        with pytest.raises(Unavailable, match="no room left"):
            client.flush()
        client._file.query(f"PRAGMA max_page_count = {room}")
        client.flush()
        assert [len(value) for value in values(client, "in")] == [1_000_000]
