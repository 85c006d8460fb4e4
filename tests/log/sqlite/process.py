"""
A process of its own on a SQLite log, for tests that kill it.

`python -m tests.log.sqlite.process FILE feed NAME COUNT SOME` sends COUNT
records `NAME-0`, `NAME-1` … to the topic `in`, SOME at a time, and reports on
standard output how many are durable. `… copy NAME` is a member of a group that copies
`in` to `out`, one turn after another, until it is killed. `… hog` takes up the
pen again the moment it has put it down, and counts how often.
"""

import sys
import time
from pathlib import Path

from streamer.config.types import Duration
from streamer.core.types import Message
from streamer.log import Fenced
from streamer.log.sqlite.database import File
from streamer.log.sqlite.log import SqliteClient, SqliteLog, SqliteSettings

SETTINGS = SqliteSettings(session_timeout=Duration(0.5))


def feed(path, name, count, some):
    client = SqliteClient(path, SETTINGS)
    for first in range(0, count, some):
        numbers = range(first, min(first + some, count))
        values = [f"{name}-{number}".encode() for number in numbers]
        client.send([Message("in", None, value, value) for value in values])
        client.flush()
        print(first + len(values), flush=True)


def copy(path, name):
    while True:
        log = SqliteLog(path, SETTINGS, group="copiers", instance=name, topics=["in"])
        try:
            while True:
                records = log.poll(0.1, 50).records
                log.publish(
                    [Message("out", None, record.key, record.value) for record in records],
                    {record.partition: record.offset + 1 for record in records},
                )
                print(len(records), flush=True)
        except Fenced:
            log.close()


def hog(path):
    file = File(path, 10)
    while True:
        with file.transaction():
            file.write("UPDATE lanes SET next = next + 1")
            time.sleep(0.005)
        print(flush=True)


if __name__ == "__main__":
    file, role, *rest = sys.argv[1:]
    if role == "feed":
        feed(Path(file), rest[0], int(rest[1]), int(rest[2]))
    elif role == "hog":
        hog(Path(file))
    else:
        copy(Path(file), *rest)
