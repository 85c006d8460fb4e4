"""The records of a topic, for commands that read one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from streamer.log import TopicMissing

if TYPE_CHECKING:
    from streamer.core.types import Record
    from streamer.log import Client

SILENT_MAX = 6  # polls that bring nothing, of half a second, before a topic is read to its end


def records(client: Client, topic: str, *, from_start: bool, until_end: bool) -> Iterator[Record]:
    """Those of *topic*: without end, or up to those that are the newest now."""
    if topic not in client.topics():
        raise TopicMissing([topic])
    if not until_end:
        for batch in client.follow([topic], from_start=from_start):
            yield from batch
    ends = {partition: end for partition, end in client.ends([topic]).items() if end}
    if not ends or not from_start:
        return
    silent = 0
    for batch in client.follow([topic], from_start=True):
        for record in batch:
            end = ends.get(record.partition, 0)
            if record.offset + 1 >= end:
                ends.pop(record.partition, None)
            if record.offset < end:
                yield record
        silent = 0 if batch else silent + 1
        # The last offsets of a Kafka topic may be transactions' markers, which never come.
        if not ends or silent == SILENT_MAX:
            return
