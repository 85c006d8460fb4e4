"""The SQLite log's file: a full disk, kills during a commit, and files of other programs."""

import os
import resource
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest

from streamer.config.schema import load
from tests.faults.daemons import Group, until
from tests.faults.proof import prove
from tests.faults.witnesses import FileWitness
from tests.processes import DEVNULL, Process, run

MISCONFIGURED, UNAVAILABLE = 78, 69
SETTINGS = {
    "group": "g",
    "gap_max": 5,
    "input": {"topics": ["counters"]},
    "forecasts": {"topic": "forecasts", "batch": 50, "horizons": 2},
    "turn": {"records_max": 500},
    "state": {"interval": "1s"},
    "sqlite": {"session_timeout": "2s", "busy_timeout": "2s"},
}
ROOM_BYTES = 1 << 20


def counters(flows, steps):
    """CSV of counters that are read each half minute."""
    return "timestamp,flow,value\n" + "".join(
        f"{1_700_000_000 + 30 * at},f{flow},{1000 * at * (flow + 1)}\n"
        for at in range(steps)
        for flow in range(flows)
    )


@pytest.fixture
def group(tmp_path):
    made = Group(tmp_path, SETTINGS | {"log": f"sqlite:///{tmp_path / 'log.db'}"})
    made.make_topics(3)
    yield made
    made.kill()


def feed(group, text, *, limit=None):
    """A feed of *text*; files of its own may grow to *limit* bytes."""
    arguments = ["feed", "-", "-c", group.config, "--topic", "counters"]
    return run(*arguments, text=text, file_bytes_max=limit)


def one_line(ended, code, *words):
    """It ended with *code*, and its last word is a single line that holds *words*."""
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("streamer: ")
    assert all(word in last for word in words), last


def holds(group):
    proof = prove(FileWitness(group.home / "log.db", "g"), load(group.config, (), {}))
    assert proof.holds, proof.table()
    return proof


def test_a_forecaster_whose_disk_is_full_waits_and_goes_on(group):
    """Nothing is published twice or lost; the wait is logged once, with its reason, and its end."""
    witness = FileWitness(group.home / "log.db", "g")
    daemon = group.start("a")
    assert feed(group, counters(20, 10)).returncode == 0
    until(lambda: witness.lag("counters") == 0, 60, "the first readings")
    size = (group.home / "log.db-wal").stat().st_size
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
    assert feed(group, counters(20, 200)).returncode == 0
    until(lambda: "log.failed" in daemon.log_text(0), 30, "it is refused")
    assert daemon.lives
    time.sleep(2)
    resource.prlimit(
        daemon.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )
    until(lambda: witness.lag("counters") == 0, 60, "the rest")
    assert "log.recovered" in daemon.log_text(0)
    assert group.stop() == [0]
    assert "Traceback" not in daemon.log_text(0)
    assert holds(group).forecasts > 20 * 90


def test_a_feed_whose_disk_is_full_reports_it(group):
    """69: an operator has to free space; what was written before is whole."""
    one_line(feed(group, counters(200, 200), limit=ROOM_BYTES), UNAVAILABLE, "log.db", "write")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_without_any_room_left_is_no_damage(tmp_path):
    """The file is whole, and goes on when something else was deleted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode:
        pytest.skip("this container may not mount")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(2 << 20))
        group = Group(tmp_path, SETTINGS | {"log": f"sqlite:///{disk / 'log.db'}"})
        group.make_topics(3)
        one_line(feed(group, counters(200, 200)), UNAVAILABLE, "no room left")
        ballast.unlink()
        ended = feed(group, counters(20, 20))
        assert ended.returncode == 0, ended.stderr
        with closing(sqlite3.connect(disk / "log.db")) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_feed_killed_as_it_commits_leaves_nothing_torn(group):
    """The write-ahead log was just extended: the commit is under way, or was over a moment ago."""
    path, wal = group.home / "log.db", group.home / "log.db-wal"
    lines = group.home / "lines.csv"
    lines.write_text(counters(100, 100))
    arguments = ["feed", lines, "-c", group.config, "--topic", "counters"]
    for _ in range(4):
        before = wal.stat().st_size if wal.exists() else 0
        feeder = Process(*arguments, stdout=DEVNULL, stderr=DEVNULL)
        while feeder.poll() is None and (wal.stat().st_size if wal.exists() else 0) <= before:
            pass
        feeder.kill()
        feeder.wait()
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            [(counted,)] = file.execute("SELECT count(*) FROM records").fetchall()
            [(promised,)] = file.execute("SELECT sum(next) FROM lanes").fetchall()
            assert counted == promised


@pytest.mark.parametrize("command", ["run", "feed"])
def test_a_file_of_another_program_is_refused(tmp_path, command):
    """77, one line, and its bytes as they were."""
    path = tmp_path / "other.db"
    path.write_text("somebody's notes, longer than the head of a SQLite file is " * 20)
    before = path.read_bytes()
    given = {
        "run": ["run", "--role", "forecaster"],
        "feed": ["feed", "-", "--topic", "counters"],
    }[command]
    ended = run(*given, "--set", f"log=sqlite:///{path}")
    one_line(ended, MISCONFIGURED, str(path), "no SQLite file")
    assert path.read_bytes() == before
