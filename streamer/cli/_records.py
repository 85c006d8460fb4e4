"""The records of a topic, for commands that read one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from streamer.log import TopicMissing

if TYPE_CHECKING:
    from streamer.core.types import Record
    from streamer.log import Client

SILENT_MAX = 6  # polls that bring nothing, of half a second, before a topic is read to its end


class Begin(NamedTuple):
    """Which record is the first: the oldest, or the first since a time; else the next to come."""

    from_start: bool
    since_ms: int | None


def records(client: Client, topic: str, begin: Begin, *, until_end: bool) -> Iterator[Record]:
    """Those of *topic*: without end, or up to those that are the newest now."""
    if topic not in client.topics():
        raise TopicMissing([topic])
    since_ms = begin.since_ms
    if not until_end:
        for batch in client.follow([topic], from_start=begin.from_start, since_ms=since_ms):
            yield from (
                record for record in batch if since_ms is None or record.time_ms >= since_ms
            )
    ends = {partition: end for partition, end in client.ends([topic]).items() if end}
    if not ends or (not begin.from_start and since_ms is None):
        return
    silent = 0
    for batch in client.follow([topic], from_start=True, since_ms=since_ms):
        for record in batch:
            end = ends.get(record.partition, 0)
            if record.offset + 1 >= end:
                ends.pop(record.partition, None)
            if record.offset < end and (since_ms is None or record.time_ms >= since_ms):
                yield record
        silent = 0 if batch else silent + 1
        # The last offsets of a Kafka topic may be transactions' markers, which never come.
        if not ends or silent == SILENT_MAX:
            return
