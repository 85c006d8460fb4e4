"""
A process of its own on an embedded log, for tests that kill it.

`python -m tests.edge.embedded_process FILE feed NAME COUNT` sends COUNT records
`NAME-0`, `NAME-1` … to the topic `in`, some at a time, and tells on standard
output how many are durable. `… copy NAME` is a member of a group that copies
`in` to `out`, one turn after another, until it is killed.
"""

import sys
from pathlib import Path

from streamer.core.facts import Message
from streamer.core.settings import Duration
from streamer.edge.embedded import EmbeddedClient, EmbeddedLog, EmbeddedSettings
from streamer.log import Fenced

SETTINGS = EmbeddedSettings(lease=Duration(0.5))
SENT_AT_ONCE = 7


def feed(path, name, count):
    client = EmbeddedClient(path, SETTINGS)
    for first in range(0, count, SENT_AT_ONCE):
        numbers = range(first, min(first + SENT_AT_ONCE, count))
        values = [f"{name}-{number}".encode() for number in numbers]
        client.send([Message("in", None, value, value) for value in values])
        client.flush()
        print(first + len(values), flush=True)  # noqa: T201 - read by the test


def copy(path, name):
    while True:
        log = EmbeddedLog(path, SETTINGS, group="copiers", instance=name, topics=["in"])
        try:
            while True:
                records = log.poll(0.1, 50).records
                log.publish(
                    [Message("out", None, record.key, record.value) for record in records],
                    {record.partition: record.offset + 1 for record in records},
                )
                print(len(records), flush=True)  # noqa: T201 - read by the test
        except Fenced:
            log.close()


if __name__ == "__main__":
    file, role, *rest = sys.argv[1:]
    if role == "feed":
        feed(Path(file), rest[0], int(rest[1]))
    else:
        copy(Path(file), *rest)
